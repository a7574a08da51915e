"""The best plan of every shape, by trying all of them.

Decisions: shapes of one depth share the plans whose pipeline fits it, so the grid of (shape, plan) pairs is
dense and every array operation does useful work; a pair is counted as priced when its step was computed and
as rejected under the first rule it breaks. Nothing is pruned by guess: a bound, where one is given, is a least time that
no plan can beat.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from shapewright.plan.pairs import LocalCosts, Workload, price_local, steps_of_pairs
from shapewright.plan.parallel import Plan
from shapewright.plan.rules import attention_heads, valid_for
from shapewright.plan.training import StepTable
from shapewright.search.bound import Bound
from shapewright.search.lattice import Candidates

Array = NDArray[Any]

CHUNK_PAIRS = 60_000
"""Pairs per array operation: the two dozen temporaries of a chunk then stay near the caches."""
BOUNDED_SHAPES, BOUNDED_PAIRS = 32, 16_000
"""Shapes and pairs per operation where a bound prunes: small, so that the first block spares most of the others."""
BOUNDED = "cannot tie with the choice even at the least step time (bound)"
"""Why a pair was left out that no rule forbids."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Sweep:
    """For each candidate shape: its fastest plan that fits, and what that costs."""

    plans: Plan
    """The table of plans tried."""
    best: Array
    """(S,) index of the fastest plan that fits; -1 where none does."""
    step_time: Array
    """(S,) its step [s]; inf where none fits."""
    model_flops: Array
    """(S,) model FLOP of a step."""
    memory: Array
    """(S,) bytes of the fullest device under the best plan, or under the leanest where none fits."""
    leanest: Array
    """(S,) index of the plan that needs the least memory."""
    num_priced: int
    num_pairs: int
    rejected: dict[str, int]
    """Pairs by the first rule they break."""


def sweep_plans(
    candidates: Candidates,
    plans: Plan,
    workload: Workload,
    *,
    global_batch: int,
    memory_limit: float,
    local: LocalCosts | None = None,
    bound: Bound | None = None,
) -> Sweep:
    """Price every (shape, plan) pair at one global batch and keep each shape's fastest plan that fits.

    ``local`` are the costs of the same layers and plans, where they are known already. With ``bound``, pairs that
    cannot be their shape's fastest plan, or fast enough to matter, are left out and counted.
    """
    rejected: Counter[str] = Counter()
    num_shapes, num_plans = candidates.layer.size, len(plans)
    per_step = np.asarray(plans.dp) * plans.micro_batch
    fits_batch = np.broadcast_to((global_batch % per_step == 0) & (per_step <= global_batch), num_plans)
    # Interleaving needs as many micro-batches as stages, or it falls back to idle slots.
    enough = np.broadcast_to((np.asarray(plans.vpp) == 1) | (global_batch // per_step >= plans.pp), num_plans)
    rejected["the global batch is not a multiple of dp * micro_batch"] = int((~fits_batch).sum()) * num_shapes
    rejected["interleaving needs a micro-batch per stage"] = int((fits_batch & ~enough).sum()) * num_shapes
    kept = np.flatnonzero(fits_batch & enough)
    local = local or price_local(candidates.layers, plans, workload)
    width = candidates.column(candidates.layers.hidden_size)
    heads = [(candidates.column(h), candidates.column(kv)) for h, kv in attention_heads(candidates.layers)]
    stages = np.broadcast_to(np.asarray(plans.pp) * plans.vpp, num_plans)
    found = _Found.nothing(num_shapes)
    priced = 0
    for depth in np.unique(candidates.depth):
        shapes = np.flatnonzero(candidates.depth == depth)
        columns = kept[depth % stages[kept] == 0]
        rejected["pp * vpp does not divide the layers"] += (kept.size - columns.size) * shapes.size
        for part, these in _pieces(shapes, columns, plans, local, bound, global_batch):
            if bound is not None:
                useful = bound.useful(
                    part,
                    plans.take(these),
                    local.split_of_plan[these],
                    found.step_time,
                    global_batch=global_batch,
                )
                rejected[BOUNDED] += int((~useful).sum()) * part.size
                these = these[useful]
            if not these.size:
                continue
            allowed = np.ones((part.size, these.size), bool)
            rules = valid_for(
                plans.take(these),
                heads=[(h[part, None], kv[part, None]) for h, kv in heads],
                depth=depth,
                hidden_size=width[part, None],
            )
            for rule, holds in rules.items():
                broken = allowed & ~np.broadcast_to(holds, allowed.shape)
                rejected[f"broken: {rule}"] += int(broken.sum())
                allowed &= ~broken
            steps = steps_of_pairs(
                local,
                plans,
                workload,
                layer=candidates.layer[part, None],
                plan=these,
                depth=depth,
                global_batch=global_batch,
            )
            priced += int(allowed.sum())
            fits = allowed & (steps.memory <= memory_limit)
            rejected["memory of the fullest device"] += int(allowed.sum() - fits.sum())
            found.keep_best(steps, allowed, fits, part, these)
    return Sweep(
        plans=plans,
        best=found.best,
        step_time=found.step_time,
        model_flops=found.flops,
        memory=found.memory,
        leanest=found.leanest,
        num_priced=priced,
        num_pairs=num_shapes * num_plans,
        rejected={rule: count for rule, count in rejected.items() if count},
    )


def _pieces(
    shapes: Array, columns: Array, plans: Plan, local: LocalCosts, bound: Bound | None, global_batch: int
) -> Iterator[tuple[Array, Array]]:
    """Blocks of pairs small enough for the caches; with a bound, the most promising plans first."""
    if not columns.size:
        return
    if bound is None:
        for part in np.array_split(shapes, max(shapes.size * columns.size // CHUNK_PAIRS, 1)):
            if part.size:
                yield part, columns
        return
    for part in np.array_split(shapes, max(shapes.size // BOUNDED_SHAPES, 1)):
        middle = part[part.size // 2 : part.size // 2 + 1]
        typical = bound.least_of(
            middle, plans.take(columns), local.split_of_plan[columns], global_batch=global_batch
        )
        ordered = columns[np.argsort(typical[0], kind="stable")]
        for these in np.array_split(ordered, max(part.size * columns.size // BOUNDED_PAIRS, 1)):
            yield part, these


@dataclass(frozen=True, kw_only=True, slots=True)
class _Found:
    """The best plan of every shape so far; updated in place."""

    best: Array
    leanest: Array
    step_time: Array
    flops: Array
    memory: Array
    need: Array
    """Bytes under the leanest plan; inf where none is valid."""

    @classmethod
    def nothing(cls, count: int) -> _Found:
        """Before any plan was priced."""
        return cls(
            best=np.full(count, -1), leanest=np.full(count, -1), step_time=np.full(count, np.inf),
            flops=np.full(count, np.inf), memory=np.full(count, np.inf), need=np.full(count, np.inf),
        )  # fmt: skip

    def keep_best(self, steps: StepTable, allowed: Array, fits: Array, part: Array, columns: Array) -> None:
        """Take what a block of pairs improves."""
        rows = np.arange(part.size)
        need = np.where(allowed, steps.memory, np.inf)
        lean = np.argmin(need, axis=1)
        leaner = need[rows, lean] < self.need[part]
        self.need[part] = np.where(leaner, need[rows, lean], self.need[part])
        self.leanest[part] = np.where(leaner, columns[lean], self.leanest[part])
        time = np.where(fits, steps.step_time, np.inf)
        fastest = np.argmin(time, axis=1)
        faster = time[rows, fastest] < self.step_time[part]
        unplaced = ~faster & (self.best[part] < 0)
        self.best[part] = np.where(faster, columns[fastest], self.best[part])
        self.step_time[part] = np.where(faster, time[rows, fastest], self.step_time[part])
        pick = np.where(faster, fastest, lean)
        changed = faster | (unplaced & leaner)
        self.flops[part] = np.where(changed, steps.model_flops[rows, pick], self.flops[part])
        self.memory[part] = np.where(changed, steps.memory[rows, pick], self.memory[part])
