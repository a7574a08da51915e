"""How one model is split over devices: the plan, its rules, and the table of all valid plans.

The names are the field's: ``tp`` tensor, ``pp`` pipeline, ``vpp`` virtual pipeline chunks per stage, ``cp``
context, ``ep`` expert, ``etp`` tensor parallelism inside an expert, ``dp_shard`` and ``dp_replicate`` data
parallelism with and without sharded state. ``tp * cp * pp * dp_shard * dp_replicate`` devices in all;
experts live on the ``tp * cp * dp`` devices of a pipeline stage, ``ep * etp`` of them per copy.

Decisions: numbers of a plan may be arrays, then one Plan is a table; the categorical choices are small
integers in a table and words in text, joined by the tuples below.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from typing import Any

import numpy as np

from shapewright.architecture.operator import Size
from shapewright.architecture.shape import ExpertsFFN, Shape
from shapewright.errors import UsageError
from shapewright.hardware.cluster import Cluster

RECOMPUTE = ("none", "selective", "full", "alternate")
"""What the backward pass computes again: nothing; the pointwise operators; each whole layer; all but the layer's input, the
attention's output and every second product (torchtitan's selective recompute per operator)."""
SHARDING = ("none", "optimizer", "gradients", "parameters")
"""State split over dp_shard: nothing, ZeRO-1, ZeRO-2, ZeRO-3 (FSDP; with dp_replicate HSDP)."""
SCHEDULES = ("1F1B", "GPipe", "zero-bubble", "DualPipe")
"""Order of the passes of a pipeline; 1F1B with chunks is interleaved (see ``plan.schedules``)."""
CONTEXT = ("zigzag", "ring", "all-gather")
"""How context parallelism splits causal attention: a ring over two mirrored pieces per rank, which balances the
triangle; a ring over contiguous pieces, where the last rank meets every key; keys gathered before the attention."""
OFFLOAD = ("none", "optimizer", "activations")
"""What lives in the host's memory: nothing; optimizer state, stepped by the host; what the backward pass keeps."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Plan:
    """One plan, or a table of plans when its numbers are arrays of equal length."""

    tp: Size = 1
    pp: Size = 1
    vpp: Size = 1
    cp: Size = 1
    ep: Size = 1
    etp: Size = 1
    dp_shard: Size = 1
    dp_replicate: Size = 1
    micro_batch: Size = 1
    """Sequences per device group and forward pass."""
    recompute: Size = 0
    """Index into RECOMPUTE."""
    sharding: Size = 0
    """Index into SHARDING."""
    schedule: Size = 0
    """Index into SCHEDULES."""
    sequence_parallel: Size = 1
    """1 where tensor parallelism also cuts norms and residuals by tokens; 0 where every rank repeats them."""
    async_tp: Size = 0
    """1 where the collectives of tensor parallelism run in pieces behind the product they serve."""
    context: Size = 0
    """Index into CONTEXT."""
    recompute_layers: Size = 0
    """Layers of each stage that ``recompute`` applies to; 0 for all."""
    offload: Size = 0
    """Index into OFFLOAD."""
    sync_every: Size = 1
    """Steps between exchanges of the dp_replicate copies; above 1 they drift apart in between (DiLoCo)."""

    @property
    def dp(self) -> Size:
        """Data-parallel copies in all."""
        return self.dp_shard * self.dp_replicate

    @property
    def num_devices(self) -> Size:
        """Devices that the plan needs."""
        return self.tp * self.pp * self.cp * self.dp

    @property
    def pipeline(self) -> str:
        """The name of the pipeline's schedule (one plan only)."""
        if self.pp == 1:
            return "none"
        return "interleaved 1F1B" if self.vpp > 1 else SCHEDULES[int(self.schedule)]

    def __len__(self) -> int:
        return int(np.broadcast(*(getattr(self, f.name) for f in fields(self))).size)

    def row(self, index: int) -> Plan:
        """One plan of a table."""
        return Plan(
            **{f.name: int(np.broadcast_to(getattr(self, f.name), len(self))[index]) for f in fields(self)}
        )

    def take(self, index: Any) -> Plan:
        """The plans of a table at ``index`` (an integer or boolean array)."""
        size = len(self)
        return Plan(**{f.name: np.broadcast_to(getattr(self, f.name), size)[index] for f in fields(self)})

    def describe(self) -> str:
        """One line: only what differs from doing nothing."""
        parts = [
            f"dp_shard {self.dp_shard}" if self.dp_shard > 1 else "",
            f"dp_replicate {self.dp_replicate}" if self.dp_replicate > 1 else "",
            *(
                f"{name} {getattr(self, name)}"
                for name in ("tp", "pp", "vpp", "cp", "ep", "etp")
                if getattr(self, name) > 1
            ),
            f"micro-batch {self.micro_batch}",
            f"recompute {RECOMPUTE[int(self.recompute)]}"
            + (f" in {self.recompute_layers} layers per stage" if self.recompute_layers else ""),
            f"sharding {SHARDING[int(self.sharding)]}" if self.dp > 1 else "",
            f"schedule {SCHEDULES[int(self.schedule)]}" if self.schedule else "",
            "no sequence parallelism" if self.tp > 1 and not self.sequence_parallel else "",
            "asynchronous tp" if self.async_tp else "",
            f"context {CONTEXT[int(self.context)]}" if self.context else "",
            f"offload {OFFLOAD[int(self.offload)]}" if self.offload else "",
            f"copies exchange every {self.sync_every} steps" if self.sync_every > 1 else "",
        ]
        return " · ".join(part for part in parts if part)


LAID_OUT = (
    "tp", "pp", "vpp", "cp", "ep", "etp", "dp_shard", "dp_replicate", "micro_batch", "recompute", "sharding",
)  # fmt: skip
"""The axes that the table of all plans lays out."""
MODES = tuple(f.name for f in fields(Plan) if f.name not in LAID_OUT)
"""The others: fixed, or at their default in every plan of the table."""
WORDS = {
    "recompute": RECOMPUTE,
    "sharding": SHARDING,
    "schedule": SCHEDULES,
    "context": CONTEXT,
    "offload": OFFLOAD,
}
"""The words that each categorical choice indexes."""


def _divisors(n: int) -> list[int]:
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
                "pp", [p for p in _divisors(devices) if p <= 64 and devices % (tp * cp * p) == 0]
            ):
                model_parallel = tp * cp * pp
                if devices % model_parallel:
                    continue
                dp = devices // model_parallel
                eps = (
                    [e for e in _divisors(experts) if e <= dp * cp * tp and (dp * cp * tp) % e == 0]
                    if experts
                    else [1]
                )
                for vpp in choices("vpp", [1, 2, 4, 8] if pp > 1 else [1]):
                    for ep in choices("ep", eps):
                        for shard, replicate, sharding in _data_parallel(
                            dp, inner // min(tp * cp, inner), fixed, pp
                        ):
                            for micro_batch in choices("micro_batch", list(micro_batches)):
                                for recompute in choices("recompute", [0, 1, 2]):
                                    rows.append(
                                        (
                                            tp,
                                            pp,
                                            vpp,
                                            cp,
                                            ep,
                                            fixed.get("etp", 1),
                                            shard,
                                            replicate,
                                            micro_batch,
                                            recompute,
                                            sharding,
                                        )
                                    )
    table = np.array(rows, dtype=np.int64).reshape(-1, len(LAID_OUT)).T
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


def attention_heads(shape: Shape) -> tuple[tuple[Size, Size], ...]:
    """(heads, kv_heads) of each block whose mixer tensor parallelism splits by heads."""
    return tuple((b.mixer.heads, b.mixer.kv_heads) for b in shape.blocks)


def valid_for(
    plan: Plan, *, heads: Sequence[tuple[Size, Size]], depth: Size, hidden_size: Size
) -> dict[str, Any]:
    """Which (shape, plan) pairs can be split, as one boolean array per rule (broadcast over both).

    Key-value heads may be fewer than tp (they are then copied), as long as one divides the other.
    """
    tp = np.asarray(plan.tp)
    whole = kv_whole = np.asarray(True)
    for h, kv in heads:
        kv = np.asarray(kv)
        whole = whole & (np.asarray(h) % tp == 0)
        kv_whole = kv_whole & ((kv % tp == 0) | (tp % kv == 0))
    return {
        "tp divides the heads": whole,
        "tp and kv_heads divide one another": kv_whole,
        "tp divides the width": np.asarray(hidden_size) % tp == 0,
        "pp * vpp divides the layers": np.asarray(depth) % (np.asarray(plan.pp) * plan.vpp) == 0,
    }


def check_plan(plan: Plan, shape: Shape, cluster: Cluster) -> None:
    """Refuse a plan that cannot split this shape over this cluster.

    Raises:
        UsageError: names the axis, its value, the rule and the values that would do.
    """
    for name in ("tp", "pp", "vpp", "cp", "ep", "etp", "dp_shard", "dp_replicate", "micro_batch"):
        if getattr(plan, name) < 1:
            raise UsageError(
                f"plan.{name} (={getattr(plan, name)}) must be at least 1", "it counts devices or sequences"
            )
    if plan.num_devices != cluster.num_devices:
        raise UsageError(
            f"plan needs {plan.num_devices} devices (tp {plan.tp} * pp {plan.pp} * cp {plan.cp} * dp {plan.dp}), "
            f"cluster has {cluster.num_devices}",
            "the product of the axes must equal the number of devices",
            f"try: --dp-shard {max(cluster.num_devices // int(plan.tp * plan.pp * plan.cp), 1)}",
        )
    for h, kv in attention_heads(shape):
        _check_divides("tp", plan.tp, "heads", h)
        if kv % plan.tp and plan.tp % kv:
            good = [t for t in _divisors(int(h)) if kv % t == 0 or t % kv == 0]
            raise UsageError(
                f"plan.tp (={plan.tp}) and architecture.kv_heads (={kv}) must divide one another",
                "tensor parallelism splits or copies whole key-value heads",
                _try("tp", good),
            )
    _check_divides("tp", plan.tp, "hidden_size", shape.hidden_size)
    layers = int(shape.num_layers)
    if layers % (plan.pp * plan.vpp):
        good = [d for d in _divisors(layers) if d % int(plan.vpp) == 0]
        raise UsageError(
            f"plan.pp * plan.vpp (={plan.pp} * {plan.vpp}) must divide architecture.layers (={layers})",
            "each stage holds the same number of layers",
            _try("pp", [d // int(plan.vpp) for d in good]),
        )
    for block in shape.blocks:
        if isinstance(block.channel, ExpertsFFN):
            _check_divides("ep", plan.ep, "experts", block.channel.experts)
    copies = int(plan.tp * plan.cp * plan.dp)
    if copies % (plan.ep * plan.etp):
        raise UsageError(
            f"plan.ep * plan.etp (={plan.ep} * {plan.etp}) must divide tp * cp * dp (={copies})",
            "experts are spread over the devices of one pipeline stage",
            _try("ep", _divisors(copies)),
        )


def _check_divides(axis: str, value: Size, what: str, size: Size) -> None:
    if int(size) % int(value):
        raise UsageError(
            f"plan.{axis} (={value}) must divide architecture.{what} (={size})",
            "a remainder would leave devices with unequal work",
            _try(axis, _divisors(int(size))),
        )


def _try(axis: str, values: list[int]) -> str:
    values = sorted(v for v in set(values) if v <= 1024)
    return f"try: --{axis} {', '.join(map(str, values[:10]))}"


def default_plan(**numbers: int) -> Plan:
    """A plan from the given numbers, with ZeRO-1 where state can be sharded and nothing else is said."""
    plan = Plan(**numbers)
    if plan.dp_shard > 1 and "sharding" not in numbers:
        plan = replace(plan, sharding=1)
    return plan
