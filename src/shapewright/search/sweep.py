"""The best plan of every shape, by trying all of them.

Decisions: shapes of one depth share the plans whose pipeline fits it, so the grid of (shape, plan) pairs is
dense and every array operation does useful work. Plans with equal stages come first; stages that differ by a layer must then
beat them, and most cannot by their least time alone. Each pair is rejected under the first rule it breaks, or its memory is
computed; of those that fit, only the pairs are timed that can still be their shape's fastest plan by a least time that no
plan can beat (``bound``). Nothing is pruned by guess, and the answer is that of timing every pair.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from shapewright.architecture.operator import Size
from shapewright.plan.pairs import LocalCosts, Pairs, Workload, price_local
from shapewright.plan.parallel import Plan
from shapewright.plan.rules import attention_heads, valid_for
from shapewright.plan.stages import can_stage
from shapewright.plan.training import StepTable
from shapewright.search.bound import Bound, floor_of
from shapewright.search.lattice import Candidates

Array = NDArray[Any]

CHUNK_PAIRS = 60_000
"""Pairs per array operation: the two dozen temporaries of a chunk then stay near the caches."""
WIDE_PAIRS = 480_000
"""Pairs whose least time is computed at once, of which a bound may leave few."""
PROMISING = (4,)
"""Plans of each shape that are timed first, the most promising by the bound, so that most others need not be."""
BOUNDED = "cannot tie with the choice even at the least step time (bound)"
UNEVEN = "uneven stages that cannot beat equal ones even at the least step time (bound)"
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
    """Pairs whose memory was computed and whose step was either, or cannot be their shape's shortest."""
    num_pairs: int
    rejected: dict[str, int]
    """Pairs by the first rule they break."""

    def take(self, rows: Array) -> Sweep:
        """That of some of the shapes; the counts stay those of all."""
        columns = ("best", "step_time", "model_flops", "memory", "leanest")
        return replace(self, **{name: getattr(self, name)[rows] for name in columns})


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
    cannot be fast enough to matter are left out and counted.
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
    most = np.full(num_shapes, np.inf) if bound is None else bound.most
    floor = (
        floor_of(candidates, plans, local, workload, global_batch=global_batch)
        if bound is None
        else bound.floor
    )
    bound = Bound(floor=floor, most=most)
    width = candidates.column(candidates.layers.hidden_size)
    heads = [(candidates.column(h), candidates.column(kv)) for h, kv in attention_heads(candidates.layers)]
    stages = np.broadcast_to(np.asarray(plans.pp) * plans.vpp, num_plans)
    found = _Found.nothing(num_shapes)
    priced = 0

    def pairs(shapes: Array, columns: Array, depth: Size) -> Pairs:
        return Pairs(
            local=local, plans=plans, workload=workload, layer=candidates.layer[shapes], plan=columns, depth=depth,
            global_batch=global_batch,
        )  # fmt: skip

    def allowed_by_rules(rows: Array, columns: Array, depth: Size, allowed: Array) -> Array:
        """``allowed`` without the pairs that break a rule, which are counted."""
        rules = valid_for(
            plans.take(columns), heads=[(h[rows], kv[rows]) for h, kv in heads], depth=depth, hidden_size=width[rows]
        )  # fmt: skip
        for rule, holds in rules.items():
            broken = allowed & ~np.broadcast_to(holds, allowed.shape)
            rejected[f"broken: {rule}"] += int(np.count_nonzero(broken))
            allowed &= ~broken
        return allowed

    def fitting(memory: Array, allowed: Array) -> Array:
        fits = allowed & (memory <= memory_limit)
        rejected["memory of the fullest device"] += int(np.count_nonzero(allowed) - np.count_nonzero(fits))
        return fits

    unequal: list[tuple[Array, Array, Array]] = []
    for depth in np.unique(candidates.depth):
        shapes = np.flatnonzero(candidates.depth == depth)
        even = depth % stages == 0
        dealt = even | can_stage(depth, plans.pp, plans.vpp)
        rejected["stages would differ by more than a layer"] += int((~dealt[kept]).sum()) * shapes.size
        columns = kept[even[kept]]
        for part, these, least, allowed in _blocks(bound, shapes, columns, plans, local, depth, global_batch):
            rejected[BOUNDED] += part.size * columns.size - int(np.count_nonzero(allowed))
            if not these.size:
                continue
            allowed = allowed_by_rules(part[:, None], these, depth, allowed)
            priced += int(np.count_nonzero(allowed))
            memory = pairs(part[:, None], these, depth).memory()
            need = np.where(allowed, memory, np.inf)
            lean = np.argmin(need, axis=1)
            found.keep_leanest(need[np.arange(part.size), lean], part, these[lean])
            least[~fitting(memory, allowed)] = np.inf
            for row, column in _promising(least, lambda part=part: found.step_time[part]):
                found.keep_fastest(pairs(part[row], these[column], depth).steps(), part[row], these[column])
        columns = kept[(dealt & ~even)[kept]]
        rejected[UNEVEN] += shapes.size * columns.size
        tighter = replace(bound, most=np.minimum(most, found.step_time))
        columns = columns[
            tighter.within(
                shapes,
                plans.take(columns),
                local.split_of_plan[columns],
                depth=depth,
                global_batch=global_batch,
            )
        ]
        for part, these, least, allowed in _blocks(
            tighter, shapes, columns, plans, local, depth, global_batch
        ):
            row, column = np.nonzero(allowed)
            unequal.append((part[row], these[column], least[row, column]))
    for rows, columns, least in _pieces(unequal):
        rejected[UNEVEN] -= rows.size
        depth = candidates.depth[rows]
        allowed = allowed_by_rules(rows, columns, depth, np.ones(rows.size, bool))
        priced += int(np.count_nonzero(allowed))
        memory = pairs(rows, columns, depth).memory()
        lean = _first_of_rows(rows, np.where(allowed, memory, np.inf), columns)
        found.keep_leanest(np.where(allowed, memory, np.inf)[lean], rows[lean], columns[lean])
        fits = np.flatnonzero(fitting(memory, allowed))
        rows, columns, least = rows[fits], columns[fits], least[fits]
        # The most promising of each shape first, so that most others need not be timed.
        for some in (_first_of_rows(rows, least, columns), np.arange(rows.size)):
            some = some[least[some] < found.step_time[rows[some]]]
            if some.size:
                steps = pairs(rows[some], columns[some], candidates.depth[rows[some]]).steps()
                found.keep_fastest(steps, rows[some], columns[some])
    # A shape that fits nowhere shows what its leanest plan would take.
    lost = np.flatnonzero((found.best < 0) & (found.leanest >= 0))
    for depth in np.unique(candidates.depth[lost]):
        rows = lost[candidates.depth[lost] == depth]
        found.flops[rows] = pairs(rows, found.leanest[rows], depth).steps().model_flops
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


def _blocks(
    bound: Bound,
    shapes: Array,
    columns: Array,
    plans: Plan,
    local: LocalCosts,
    depth: int,
    global_batch: int,
) -> Iterator[tuple[Array, Array, Array, Array]]:
    """(shapes, plans, least times, pairs that may matter) of blocks small enough for the caches."""
    if not columns.size:
        return
    table, splits = plans.take(columns), local.split_of_plan[columns]
    for wide in np.array_split(shapes, max(shapes.size * columns.size // WIDE_PAIRS, 1)):
        if not wide.size:
            continue
        least = bound.least_of(wide, table, splits, depth=depth, global_batch=global_batch)
        allowed = least < bound.most[wide, None]
        useful = allowed.any(axis=0)
        for part in np.array_split(
            np.arange(wide.size), max(wide.size * int(useful.sum()) // CHUNK_PAIRS, 1)
        ):
            if part.size:
                yield wide[part], columns[useful], least[part][:, useful], allowed[part][:, useful]


def _pieces(found: list[tuple[Array, Array, Array]]) -> Iterator[tuple[Array, Array, Array]]:
    """All pairs in pieces small enough for the caches."""
    if found:
        rows, columns, least = (np.concatenate(parts) for parts in zip(*found, strict=True))
        for piece in np.array_split(np.arange(rows.size), -(-rows.size // CHUNK_PAIRS) or 1):
            if piece.size:
                yield rows[piece], columns[piece], least[piece]


def _first_of_rows(rows: Array, values: Array, columns: Array) -> Array:
    """Where each row has its least value; of equal ones its first column."""
    order = np.lexsort((columns, values, rows))
    return order[np.flatnonzero(np.diff(rows[order], prepend=-1))]


def _promising(least: Array, fastest: Callable[[], Array]) -> Iterator[tuple[Array, Array]]:
    """(rows, columns) of a block to time, the most promising first; inf in ``least`` where there is nothing to time.

    ``fastest`` tells the shortest step of each row so far. A column is left out once it cannot be shorter; where it may
    be as short it is timed, so that of equal plans the first of the table wins.
    """
    every = np.arange(least.shape[0])
    for count in PROMISING:
        count = min(count, least.shape[1])
        columns = np.argpartition(least, count - 1, axis=1)[:, :count]
        rows = np.repeat(every, count)
        best = np.take_along_axis(least, columns, axis=1).ravel()
        columns = columns.ravel()
        open_ = np.isfinite(best) & (best <= fastest()[rows])
        if open_.any():
            yield rows[open_], columns[open_]
            least[rows[open_], columns[open_]] = np.inf
    rows, columns = np.nonzero(np.isfinite(least) & (least <= fastest()[:, None]))
    for piece in np.array_split(np.arange(rows.size), -(-rows.size // CHUNK_PAIRS) or 1):
        if piece.size:
            yield rows[piece], columns[piece]


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

    def keep_leanest(self, least: Array, part: Array, columns: Array) -> None:
        """Take what the leanest plan of some shapes improves in memory; inf in ``least`` where no rule allows one."""
        leaner = least < self.need[part]
        self.need[part] = np.where(leaner, least, self.need[part])
        self.leanest[part] = np.where(leaner, columns, self.leanest[part])
        unplaced = leaner & (self.best[part] < 0)
        self.memory[part] = np.where(unplaced, least, self.memory[part])

    def keep_fastest(self, steps: StepTable, rows: Array, columns: Array) -> None:
        """Take what pairs that fit improve in time; of equal steps the first plan of the table."""
        # The last of a row in this order is its shortest step, and of equal ones the first plan.
        order = np.lexsort((-columns, -steps.step_time, rows))
        last = order[np.flatnonzero(np.diff(rows[order], append=-1))]
        row, column, time = rows[last], columns[last], steps.step_time[last]
        faster = (time < self.step_time[row]) | ((time == self.step_time[row]) & (column < self.best[row]))
        row, last = row[faster], last[faster]
        self.best[row], self.step_time[row] = column[faster], time[faster]
        self.flops[row], self.memory[row] = steps.model_flops[last], steps.memory[last]
