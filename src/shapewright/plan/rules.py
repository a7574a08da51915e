"""Which plans can split which shapes over which clusters.

Every refusal says the axis, its value, the rule and the valid values nearest to it. Decisions: stages differ by one
layer at most (``plan.stages``); key-value heads may be fewer than tp (they are then copied), as
long as one divides the other.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any

import numpy as np

from shapewright.architecture.operator import Size
from shapewright.architecture.shape import ExpertsFFN, Shape
from shapewright.errors import UsageError
from shapewright.hardware.cluster import Cluster
from shapewright.plan.parallel import SCHEDULES, Plan
from shapewright.plan.stages import can_stage
from shapewright.plan.table import divisors

NEAREST = 4
"""Valid values that a refusal names."""


def attention_heads(shape: Shape) -> tuple[tuple[Size, Size], ...]:
    """(heads, kv_heads) of each block whose mixer tensor parallelism splits by heads."""
    return tuple((b.mixer.heads, b.mixer.kv_heads) for b in shape.blocks)


def valid_for(
    plan: Plan, *, heads: Sequence[tuple[Size, Size]], depth: Size, hidden_size: Size
) -> dict[str, Any]:
    """Which (shape, plan) pairs can be split, as one boolean array per rule (broadcast over both)."""
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
        "stages of pp * vpp chunks differ by one layer at most": can_stage(depth, plan.pp, plan.vpp),
    }


def check_plan(plan: Plan, shape: Shape, cluster: Cluster) -> None:
    """Refuse a plan that cannot split this shape over this cluster.

    Raises:
        UsageError: names the axis, its value, the rule and the nearest values that would do.
    """
    for name in (
        "tp",
        "pp",
        "vpp",
        "cp",
        "ep",
        "etp",
        "dp_shard",
        "dp_replicate",
        "micro_batch",
        "sync_every",
    ):
        if getattr(plan, name) < 1:
            raise UsageError(
                f"plan.{name} (={getattr(plan, name)}) must be at least 1",
                "it counts devices, sequences or steps",
                f"try: --{name.replace('_', '-')} 1",
            )
    _check_devices(plan, cluster)
    for h, kv in attention_heads(shape):
        _check_divides("tp", plan.tp, "heads", h)
        if kv % plan.tp and plan.tp % kv:
            good = [t for t in divisors(int(h)) if kv % t == 0 or t % kv == 0]
            raise UsageError(
                f"plan.tp (={plan.tp}) and architecture.kv_heads (={kv}) must divide one another",
                "tensor parallelism splits or copies whole key-value heads",
                _nearest("tp", int(plan.tp), good),
            )
    _check_divides("tp", plan.tp, "hidden_size", shape.hidden_size)
    _check_stages(plan, int(shape.num_layers))
    for block in shape.blocks:
        if isinstance(block.channel, ExpertsFFN):
            _check_divides("ep", plan.ep, "experts", block.channel.experts)
            _check_divides("etp", plan.etp, "ffn_size of an expert", block.channel.ffn_size)
    copies = int(plan.tp * plan.cp * plan.dp)
    if copies % (plan.ep * plan.etp):
        raise UsageError(
            f"plan.ep * plan.etp (={plan.ep} * {plan.etp}) must divide tp * cp * dp (={copies})",
            "experts are spread over the devices of one pipeline stage",
            _nearest("ep", int(plan.ep), [e for e in divisors(copies) if copies % (e * int(plan.etp)) == 0]),
        )
    if not _has_experts(shape) and plan.ep * plan.etp > 1:
        axis = "ep" if plan.ep > 1 else "etp"
        raise UsageError(
            f"plan.{axis} (={getattr(plan, axis)}) needs experts",
            f"{shape.name} has none",
            f"try: --{axis} 1",
        )
    _check_modes(plan, int(shape.num_layers))


def _has_experts(shape: Shape) -> bool:
    return any(isinstance(block.channel, ExpertsFFN) for block in shape.blocks)


def _check_devices(plan: Plan, cluster: Cluster) -> None:
    if plan.num_devices == cluster.num_devices:
        return
    used = int(plan.tp * plan.pp * plan.cp)
    copies = int(plan.dp_replicate)
    if cluster.num_devices % used == 0 and cluster.num_devices // used % copies == 0:
        fix = f"try: --dp-shard {cluster.num_devices // used // copies}"
    else:
        rest = cluster.num_devices
        axis = max(("tp", "pp", "cp", "dp_replicate"), key=lambda name: getattr(plan, name))
        others = used * copies // int(getattr(plan, axis))
        good = [d for d in divisors(rest) if rest % (d * others) == 0] or divisors(rest)
        fix = _nearest(axis, int(getattr(plan, axis)), good)
    raise UsageError(
        f"plan needs {plan.num_devices} devices (tp {plan.tp} * pp {plan.pp} * cp {plan.cp} * dp {plan.dp}), "
        f"cluster has {cluster.num_devices}",
        "the product of the axes must equal the number of devices",
        fix,
    )


def _check_stages(plan: Plan, layers: int) -> None:
    if can_stage(layers, plan.pp, plan.vpp):
        return
    axis, held = ("vpp", int(plan.pp)) if can_stage(layers, plan.pp, 1) else ("pp", int(plan.vpp))
    pairs = {"vpp": lambda n: (held, n), "pp": lambda n: (n, held)}
    raise UsageError(
        f"plan.pp * plan.vpp (={plan.pp} * {plan.vpp}) cannot share out architecture.layers (={layers})",
        "every stage needs a layer, and interleaved chunks are equal but for the first and the last, one layer less",
        _nearest(
            axis,
            int(getattr(plan, axis)),
            [n for n in range(1, layers + 1) if can_stage(layers, *pairs[axis](n))],
        ),
    )


def _check_modes(plan: Plan, layers: int) -> None:
    """Modes that need an axis, or exclude one another."""
    schedule = SCHEDULES[int(plan.schedule)]
    stage = -(-layers // int(plan.pp))
    rules: tuple[tuple[Any, str, str, str], ...] = (
        (
            plan.vpp > 1 and plan.pp == 1,
            f"plan.vpp (={plan.vpp}) needs a pipeline",
            "chunks are interleaved over its stages",
            "try: --vpp 1, or --pp 2",
        ),
        (
            plan.vpp > 1 and plan.schedule != 0,
            f"plan.vpp (={plan.vpp}) does not go with plan.schedule (={schedule})",
            "only 1F1B is interleaved",
            "try: --vpp 1, or --schedule 1F1B",
        ),
        (
            plan.schedule != 0 and plan.pp == 1,
            f"plan.schedule (={schedule}) needs a pipeline",
            "it orders the passes of its stages",
            "try: --pp 2, or --schedule 1F1B",
        ),
        (
            schedule == "DualPipe" and plan.pp % 2 == 1,
            f"plan.pp (={plan.pp}) must be even for DualPipe",
            "its two directions meet in the middle",
            f"try: --pp {int(plan.pp) - 1} or {int(plan.pp) + 1}",
        ),
        (
            bool(plan.async_tp) and plan.tp == 1,
            f"plan.async_tp (={plan.async_tp}) needs tensor parallelism",
            "it hides the collectives of tp",
            "try: --tp 2, or leave --async-tp out",
        ),
        (
            plan.sync_every > 1 and plan.dp_replicate == 1,
            f"plan.sync_every (={plan.sync_every}) needs copies",
            "copies drift apart between exchanges; sharded state cannot",
            "try: --dp-replicate 2, or --sync-every 1",
        ),
        (
            plan.recompute_layers > stage,
            f"plan.recompute_layers (={plan.recompute_layers}) must be at most {stage}",
            "a stage has no more layers",
            f"try: --recompute-layers {stage}, or 0 for all",
        ),
        (
            plan.recompute_layers > 0 and plan.recompute == 0,
            f"plan.recompute_layers (={plan.recompute_layers}) needs a level",
            "nothing is recomputed",
            "try: --recompute full",
        ),
        (
            plan.offload > 0 and plan.sharding == 0 and plan.dp_shard > 1,
            "plan.offload needs state of its own per device",
            "copies that hold the whole state would send it to the host once each",
            "try: --sharding optimizer",
        ),
    )
    for broken, what, why, fix in rules:
        if broken:
            raise UsageError(what, why, fix)


def check_batch(plan: Plan, global_batch: int) -> None:
    """Refuse a batch that the plan cannot deal out.

    Raises:
        UsageError: names the batch, the unit and the nearest batch, or the schedule and the micro-batches it needs.
    """
    unit = int(plan.dp) * int(plan.micro_batch)
    if global_batch % unit:
        below, above = global_batch // unit * unit, -(-global_batch // unit) * unit
        raise UsageError(
            f"global batch (={global_batch}) must be a multiple of dp * micro_batch (={unit})",
            "every data-parallel copy runs the same number of micro-batches",
            "try: --batch " + " or ".join(str(b) for b in dict.fromkeys((below, above)) if b),
        )
    count, least = global_batch // unit, 1
    what = ""
    if plan.pp > 1 and SCHEDULES[int(plan.schedule)] == "DualPipe":
        least, what = 2 * int(plan.pp), "DualPipe fills its two directions with two micro-batches per stage"
        if count >= least and count % 2:
            least = count + 1
    elif plan.vpp > 1:
        least, what = int(plan.pp), "interleaving needs a micro-batch per stage"
    if count < least:
        raise UsageError(
            f"{count} micro-batches are too few for {plan.pipeline} on plan.pp (={plan.pp}) stages",
            what,
            f"try: --batch {least * unit}",
        )


def _check_divides(axis: str, value: Size, what: str, size: Size) -> None:
    if int(size) % int(value):
        raise UsageError(
            f"plan.{axis} (={value}) must divide architecture.{what} (={size})",
            "a remainder would leave devices with unequal work",
            _nearest(axis, int(value), divisors(int(size))),
        )


def _nearest(axis: str, value: int, good: Iterable[int]) -> str:
    """The valid values nearest to ``value``, as a fix."""
    ratio: Callable[[int], float] = lambda v: abs(np.log(v / value))  # noqa: E731
    chosen = sorted(sorted(set(good), key=ratio)[:NEAREST])
    return f"try: --{axis.replace('_', '-')} {', '.join(map(str, chosen))}"
