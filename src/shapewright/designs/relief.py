"""What would make a plan fit: the changes that cost the least time.

Every change of one axis, and every pair of them where no single one suffices, is checked by the rules, priced whole and
kept where it fits. Decisions: devices and global batch stay; what data parallelism gives up, tensor, pipeline or context
parallelism takes.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from itertools import product

from shapewright.architecture.shape import Shape
from shapewright.designs.breakdown import price_plan
from shapewright.errors import UsageError
from shapewright.plan.pairs import Workload
from shapewright.plan.parallel import OFFLOAD, RECOMPUTE, SHARDING, Plan
from shapewright.plan.rules import check_batch, check_plan

SHOWN = 3


@dataclass(frozen=True, kw_only=True, slots=True)
class Relief:
    """One change that makes a plan fit."""

    change: str
    """As options of the command line."""
    plan: Plan
    step_time: float
    """[s]"""
    slowdown: float
    """Step time over that of the plan that does not fit, less one [1]."""
    memory: float
    """[B]"""


def reliefs(
    shape: Shape, plan: Plan, workload: Workload, *, global_batch: int, memory_limit: float
) -> tuple[Relief, ...]:
    """The changes that make ``plan`` fit, cheapest first; empty where none of one or two axes does."""
    before = price_plan(shape, plan, workload, global_batch=global_batch).step_time
    singles = list(_changes(plan))
    found = _priced(singles, shape, workload, global_batch, memory_limit, before)
    if len(found) < SHOWN:
        pairs = [
            (f"{first} {second}", changed)
            for (first, once) in singles
            for (second, changed) in _changes(once)
            if second.split()[0] != first.split()[0]
        ]
        known = {relief.plan for relief in found}
        more = _priced(pairs, shape, workload, global_batch, memory_limit, before)
        found += [relief for relief in more if relief.plan not in known]
    chosen: dict[Plan, Relief] = {}
    for relief in sorted(found, key=lambda r: r.step_time):
        chosen.setdefault(relief.plan, relief)
    return tuple(list(chosen.values())[:SHOWN])


def _priced(
    changes: list[tuple[str, Plan]],
    shape: Shape,
    workload: Workload,
    global_batch: int,
    limit: float,
    before: float,
) -> list[Relief]:
    found = []
    for change, plan in changes:
        try:
            check_plan(plan, shape, workload.cluster)
            check_batch(plan, global_batch)
        except UsageError:
            continue
        priced = price_plan(shape, plan, workload, global_batch=global_batch)
        if priced.memory <= limit:
            found.append(
                Relief(
                    change=change,
                    plan=plan,
                    step_time=priced.step_time,
                    slowdown=priced.step_time / before - 1.0,
                    memory=priced.memory,
                )
            )
    return found


def _changes(plan: Plan) -> Iterator[tuple[str, Plan]]:
    """(option, plan) of every change of one axis that can save memory."""
    for level in ("selective", "alternate", "full"):
        if RECOMPUTE[int(plan.recompute)] not in (level, "full"):
            changed = replace(plan, recompute=RECOMPUTE.index(level), recompute_layers=0)
            yield f"--recompute {level}", changed
    for state in range(int(plan.sharding) + 1, len(SHARDING)):
        # Under a pipeline gradients stay whole until the end, and weights too.
        if plan.dp > 1 and (SHARDING[state] == "optimizer" or plan.pp == 1):
            whole = replace(plan, sharding=state, dp_shard=int(plan.dp), dp_replicate=1)
            yield f"--sharding {SHARDING[state]} --dp-shard {int(plan.dp)}", whole
    if plan.dp_replicate > 1 and plan.sharding > 0:
        yield f"--dp-shard {int(plan.dp)}", replace(plan, dp_shard=int(plan.dp), dp_replicate=1)
    for smaller in (int(plan.micro_batch) // 2, 1):
        if 1 <= smaller < plan.micro_batch:
            yield f"--micro-batch {smaller}", replace(plan, micro_batch=smaller)
    for axis, factor in product(("tp", "pp", "cp"), (2, 4)):
        if plan.dp_shard % factor == 0:
            value = int(getattr(plan, axis)) * factor
            shard = int(plan.dp_shard) // factor
            yield f"--{axis} {value} --dp-shard {shard}", replace(plan, dp_shard=shard, **{axis: value})
    for what in OFFLOAD[1:]:
        if plan.offload == 0 and (what != "optimizer" or plan.sharding > 0 or plan.dp == 1):
            yield f"--offload {what}", replace(plan, offload=OFFLOAD.index(what))
    if plan.tp > 1 and not plan.sequence_parallel:
        yield "--sequence-parallel", replace(plan, sequence_parallel=1)
