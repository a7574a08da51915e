"""How one model is split over devices: the plan, its rules, and the table of all valid plans.

The names are the field's: ``tp`` tensor, ``pp`` pipeline, ``vpp`` virtual pipeline chunks per stage, ``cp``
context, ``ep`` expert, ``etp`` tensor parallelism inside an expert, ``dp_shard`` and ``dp_replicate`` data
parallelism with and without sharded state. ``tp * cp * pp * dp_shard * dp_replicate`` devices in all;
experts live on the ``tp * cp * dp`` devices of a pipeline stage, ``ep * etp`` of them per copy.

Decisions: numbers of a plan may be arrays, then one Plan is a table; the categorical choices are small
integers in a table and words in text, joined by the tuples below.
"""

from __future__ import annotations

from dataclasses import dataclass, fields, replace
from typing import Any

import numpy as np

from shapewright.architecture.operator import Size

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


def default_plan(**numbers: int) -> Plan:
    """A plan from the given numbers, with ZeRO-1 where state can be sharded and nothing else is said."""
    plan = Plan(**numbers)
    if plan.dp_shard > 1 and "sharding" not in numbers:
        plan = replace(plan, sharding=1)
    return plan


def plan_options(plan: Plan) -> str:
    """The options of the command line that give this plan."""
    usual, words = Plan(), []
    for f in fields(Plan):
        value = int(getattr(plan, f.name))
        option = f.name.replace("_", "-")
        if value == getattr(usual, f.name) and f.name not in ("dp_shard", "sharding"):
            continue
        if f.name == "sequence_parallel":
            words.append("--no-sequence-parallel")
        elif f.name == "async_tp":
            words.append("--async-tp")
        else:
            names = WORDS.get(f.name)
            words.append(f"--{option} {names[value] if names else value}")
    return " ".join(words)
