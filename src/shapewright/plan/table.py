"""The table of all plans that use every device of a cluster."""

from __future__ import annotations

import numpy as np

from shapewright.hardware.cluster import Cluster
from shapewright.plan.parallel import LAID_OUT, MODES, Plan


def divisors(n: int) -> list[int]:
    return [d for d in range(1, n + 1) if n % d == 0]


def enumerate_plans(
    cluster: Cluster,
    *,
    seq_len: int,
    experts: int = 0,
    micro_batches: tuple[int, ...] = (1, 2, 4, 8, 16, 32),
    fixed: dict[str, int] | None = None,
) -> Plan:
    """Every plan that fits the device count, as a table; rules that depend on a shape are checked later.

    Tensor parallelism stays inside the innermost tier (its traffic is on the critical path of every layer)
    and within powers of two; context parallelism splits sequences into at least 1,024 tokens; pipeline
    stages are any divisor up to 64 with 1, 2, 4 or 8 virtual chunks; experts are split over any divisor of
    their number. ``fixed`` pins fields of the plan, also beyond these ranges.
    """
    fixed = fixed or {}
    devices = cluster.num_devices
    inner = cluster.tiers[0].size if cluster.tiers else 1
    powers = [2**i for i in range(40)]

    def choices(name: str, default: list[int]) -> list[int]:
        return [fixed[name]] if name in fixed else default

    rows: list[tuple[int, ...]] = []
    for tp in choices("tp", [t for t in powers if t <= min(inner, devices, 64) and devices % t == 0]):
        for cp in choices(
            "cp", [c for c in powers if c <= max(seq_len // 1024, 1) and c <= 64 and devices % (tp * c) == 0]
        ):
            for pp in choices(
                "pp", [p for p in divisors(devices) if p <= 64 and devices % (tp * cp * p) == 0]
            ):
                model_parallel = tp * cp * pp
                if devices % model_parallel:
                    continue
                dp = devices // model_parallel
                eps = (
                    [e for e in divisors(experts) if e <= dp * cp * tp and (dp * cp * tp) % e == 0]
                    if experts
                    else [1]
                )
                for vpp in choices("vpp", [1, 2, 4, 8] if pp > 1 else [1]):
                    for ep in choices("ep", eps):
                        for shard, replicate, sharding in _data_parallel(
                            dp, inner // min(tp * cp, inner), fixed, pp
                        ):
                            rows.append(
                                (tp, pp, vpp, cp, ep, fixed.get("etp", 1), shard, replicate, sharding)
                            )
    # Micro-batches and recompute go with every split.
    inner_choices = np.array(
        [
            (micro_batch, recompute)
            for micro_batch in choices("micro_batch", list(micro_batches))
            for recompute in choices("recompute", [0, 1, 2])
        ],
        dtype=np.int64,
    )
    outer = np.repeat(np.array(rows, dtype=np.int64).reshape(-1, 9), len(inner_choices), axis=0).T
    micro, level = np.tile(inner_choices, (len(rows), 1)).T
    table = (*outer[:8], micro, level, outer[8])
    return Plan(
        **dict(zip(LAID_OUT, table, strict=True)), **{name: fixed[name] for name in MODES if name in fixed}
    )


def _data_parallel(dp: int, node: int, fixed: dict[str, int], pp: int) -> list[tuple[int, int, int]]:
    """(dp_shard, dp_replicate, sharding) for dp copies: ZeRO-1 over all, FSDP over all or inside a node."""
    if dp == 1:
        shards = [(1, 1, 0)]
    else:
        shards = [(1, dp, 0), (dp, 1, 1)]
        if pp == 1:
            shards.append((dp, 1, 3))
            if 1 < node < dp and dp % node == 0:
                shards.append((node, dp // node, 3))
    if "dp_shard" in fixed or "dp_replicate" in fixed or "sharding" in fixed:
        shard = fixed.get("dp_shard", dp // fixed.get("dp_replicate", 1))
        if shard < 1 or dp % shard:
            return []
        wanted = [fixed["sharding"]] if "sharding" in fixed else ([0] if shard == 1 else [1, 3])
        shards = [(shard, dp // shard, sharding) for sharding in wanted]
    return shards
