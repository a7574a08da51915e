"""The plan of a published training run: what its source states, and what it leaves to its framework's recipes."""

from __future__ import annotations

import numpy as np

from shapewright.architecture.graph import num_params
from shapewright.architecture.shape import Shape
from shapewright.hardware.cluster import Cluster
from shapewright.plan.parallel import RECOMPUTE, Plan

ALTERNATING = ("pytorch/torchtitan",)
"""Sources whose selective recompute keeps every second product; unstated, it is what their configurations default to."""
UNINTERLEAVED = ("NVIDIA/dgxc-benchmarking@741c886",)
"""Sources whose tables say one chunk per stage throughout, where their next revision gives the same recipes more
(nemotron4-340b 12, as fast): a 1 is taken as unstated there."""
STATE_SHARE = 0.6
"""Share of the memory that weights, gradients and optimizer state take at most under an unstated plan; frozen weights
may take the rest too, less a seventh."""


class UnaskedError(Exception):
    """A row that states too little, or something that the model does not cover."""


def integer(record: dict[str, str], key: str, default: int | None = None) -> int:
    """A whole number of the row.

    Raises:
        UnaskedError: it is not stated, and there is no default.
    """
    text = record.get(key, "")
    if not text:
        if default is None:
            raise UnaskedError(f"{key} is not stated")
        return default
    return int(float(text))


def plan_of(
    record: dict[str, str],
    shape: Shape,
    cluster: Cluster,
    generation: str | None,
    batch: int,
    trainable: float,
) -> Plan:
    """The stated plan; what is not stated follows the framework's published recipes (see the helpers)."""
    devices, layers = cluster.num_devices, int(shape.num_layers)
    tp, pp, cp = (integer(record, key, 1) for key in ("tp", "pp", "cp"))
    unstated = not any(record[key] for key in ("tp", "pp", "experts", "dp_sharding"))
    if unstated and generation in ("megatron-core", "megatron-core-26.06", "primus"):
        tp, pp, cp = _least_split(shape, cluster, batch, trainable)
    stated = "" if record["source"].startswith(UNINTERLEAVED) and record["vpp"] == "1" else record["vpp"]
    vpp = int(float(stated or 1))
    if not stated and pp > 1 and layers % pp == 0 and generation == "megatron-core":
        # NeMo's recipes interleave single layers.
        vpp = layers // pp
    if devices % (tp * pp * cp):
        raise UnaskedError(f"tp * pp * cp (={tp * pp * cp}) does not divide {devices} devices")
    dp = devices // (tp * pp * cp)
    micro = integer(record, "micro_batch", 1)
    if batch % (dp * micro):
        raise UnaskedError(f"the global batch {batch} is not a multiple of dp * micro_batch (={dp * micro})")
    shard, sharding = _sharding(record["dp_sharding"], dp)
    if generation == "maxtext" and not record["dp_sharding"] and not record["experts"] and dp > 1:
        # MaxText and Levanter shard the parameters of dense models over all devices unless told otherwise.
        shard, sharding = dp, 3
    recompute = {"full": 2, "none": 0, "": 0}.get(record["recompute"], 1)
    if record["source"].startswith(ALTERNATING) and record["recompute"] in ("", "selective"):
        recompute = RECOMPUTE.index("alternate")
    return Plan(
        tp=tp,
        pp=pp,
        vpp=vpp,
        cp=cp,
        ep=integer(record, "ep", 1),
        dp_shard=shard,
        dp_replicate=dp // shard,
        micro_batch=micro,
        recompute=recompute,
        sharding=sharding,
    )


def _least_split(shape: Shape, cluster: Cluster, batch: int, trainable: float) -> tuple[int, int, int]:
    """(tp, pp, cp): the least tensor parallelism up to 4, then the least pipeline, whose weights, gradients and
    state fit their share of the memory, and the least context parallelism that gives every rank a sequence."""
    capacity = cluster.accelerator.memory_capacity
    inner = cluster.tiers[0].size if cluster.tiers else 1
    devices, layers, params = cluster.num_devices, int(shape.num_layers), float(num_params(shape))
    limit = (STATE_SHARE if trainable == 1.0 else 0.85) * (capacity.value if capacity else np.inf)

    def fits(split: int) -> bool:
        return params / split * (2 + trainable * (4 + 12 * split / devices)) <= limit

    tp, pp, cp = 1, 1, 1
    while not fits(tp) and tp < min(inner, 4) and devices % (2 * tp) == 0:
        tp *= 2
    while not fits(tp * pp) and devices % (2 * tp * pp) == 0 and layers % (2 * pp) == 0:
        pp *= 2
    while devices // (tp * pp * cp) > batch and devices % (2 * tp * pp * cp) == 0:
        cp *= 2
    return tp, pp, cp


def _sharding(text: str, dp: int) -> tuple[int, int]:
    """(dp_shard, sharding) of the stated words; an unstated one is Megatron's distributed optimizer."""
    if text in ("none", "ddp") or dp == 1:
        return 1, 0
    digits = [
        int(word)
        for word in text.replace("(", " ").replace(")", " ").replace("=", " ").split()
        if word.lstrip("-").isdigit()
    ]
    group = next((d for d in digits if 1 < d <= dp and dp % d == 0), dp)
    if "zero2" in text:
        return group, 2
    if "fsdp" in text or "zero3" in text:
        return group, 3
    return group, 1
