"""Every valid plan of one shape on one cluster: time, memory and energy of each, and which of them nothing beats.

Decisions: the table of all plans is priced whole, with the functions that a sweep over shapes uses; a plan is counted as
priced, or as rejected under the first rule it breaks. A plan is on the front where no other that fits is at least as good
in time, memory and energy and better in one. Energy is that of devices, hosts and site, as everywhere; where no power was
fitted, the front is of time and memory.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from shapewright.architecture.shape import ExpertsFFN, Shape
from shapewright.errors import InfeasibleError, NotCoveredError
from shapewright.plan.joules import step_joules
from shapewright.plan.pairs import Pairs, Workload, price_local
from shapewright.plan.parallel import Plan
from shapewright.plan.power import with_site
from shapewright.plan.rules import attention_heads, valid_for
from shapewright.plan.table import divisors, enumerate_plans
from shapewright.search.lattice import single

Array = NDArray[Any]

CHUNK = 60_000
"""Plans per array operation."""


@dataclass(frozen=True, kw_only=True, slots=True)
class PlanSearch:
    """All plans that can split the shape, priced."""

    plans: Plan
    """The table of the plans that were priced."""
    step_time: Array
    """[s]"""
    memory: Array
    """Of the fullest device [B]."""
    joules: Array | None
    """Of the whole cluster with hosts and site, one step [J]; None where no power is known."""
    fits: Array
    """Whether the memory suffices."""
    front: Array
    """Indices of the plans on the front, fastest first."""
    rejected: dict[str, int]
    """Plans by the first rule they break."""
    num_plans: int
    num_layers: int
    """Of the shape."""
    memory_limit: float

    @property
    def fastest(self) -> int:
        """Index of the fastest plan that fits."""
        return int(self.front[0])

    @property
    def unlimited(self) -> int:
        """Index of the fastest plan if memory were no matter."""
        return int(np.argmin(self.step_time))


def search_plans(
    shape: Shape,
    workload: Workload,
    *,
    global_batch: int,
    memory_limit: float,
    fixed: dict[str, int] | None = None,
) -> PlanSearch:
    """Price every plan of a shape and keep those that nothing beats.

    Raises:
        InfeasibleError: no plan can split the shape, or none fits; with counts by reason.
    """
    channels = [block.channel for block in shape.blocks]
    experts = max((int(c.experts) for c in channels if isinstance(c, ExpertsFFN)), default=0)
    table = enumerate_plans(
        workload.cluster, seq_len=workload.seq_len, experts=experts, fixed=dict(fixed or {})
    )
    if not len(table):
        said = ", ".join(f"{name} = {value}" for name, value in (fixed or {}).items())
        raise InfeasibleError(
            f"no plan of {workload.cluster.num_devices} devices satisfies {said}",
            "the product of the axes must equal the number of devices",
            f"try: axes of {', '.join(map(str, divisors(workload.cluster.num_devices)[:8]))}",
        )
    kept, rejected = _valid(table, shape, global_batch)
    if not kept.size:
        raise InfeasibleError(
            f"none of {len(table):,} plans can split {shape.name} over {workload.cluster.num_devices} devices",
            "; ".join(
                f"{count:,} {rule}" for rule, count in sorted(rejected.items(), key=lambda x: -x[1]) if count
            ),
            "free an axis, or change --batch",
            rejected,
        )
    plans = table.take(kept)
    time, memory, joules = _price(shape, plans, workload, global_batch)
    fits = memory <= memory_limit
    if not fits.any():
        lean = int(np.argmin(memory))
        rejected["memory of the fullest device"] = int(kept.size)
        raise InfeasibleError(
            f"no plan of {shape.name} fits {workload.cluster.name}",
            f"the leanest, {plans.row(lean).describe()}, needs {memory[lean] / 1e9:.1f} GB of the "
            f"{memory_limit / 1e9:.1f} GB that may be used",
            "try: more devices, --precision fp8-weights, or --offload optimizer",
            rejected,
        )
    rejected["memory of the fullest device"] = int((~fits).sum())
    columns = [time, memory] if joules is None else [time, memory, joules]
    candidates = np.flatnonzero(fits)
    front = candidates[_undominated(np.stack([c[candidates] for c in columns], axis=1))]
    return PlanSearch(
        plans=plans,
        step_time=time,
        memory=memory,
        joules=joules,
        fits=fits,
        front=front[np.argsort(time[front], kind="stable")],
        rejected={rule: count for rule, count in rejected.items() if count},
        num_plans=len(table),
        num_layers=int(shape.num_layers),
        memory_limit=memory_limit,
    )


def _valid(table: Plan, shape: Shape, global_batch: int) -> tuple[Array, dict[str, int]]:
    size = len(table)
    unit = np.broadcast_to(np.asarray(table.dp) * table.micro_batch, size)
    rules: dict[str, Any] = {
        "the global batch is not a multiple of dp * micro_batch": (global_batch % unit == 0)
        & (unit <= global_batch),
        "interleaving needs a micro-batch per stage": (np.asarray(table.vpp) == 1)
        | (global_batch // unit >= table.pp),
        **valid_for(
            table, heads=attention_heads(shape), depth=shape.num_layers, hidden_size=shape.hidden_size
        ),
    }
    left, rejected = np.ones(size, bool), Counter[str]()
    for rule, holds in rules.items():
        broken = left & ~np.broadcast_to(holds, size)
        rejected[rule] += int(broken.sum())
        left &= ~broken
    return np.flatnonzero(left), dict(rejected)


def _price(
    shape: Shape, plans: Plan, workload: Workload, global_batch: int
) -> tuple[Array, Array, Array | None]:
    one = single(shape)
    local = price_local(one.layers, plans, workload)
    size = len(plans)
    time, memory, joules = np.empty(size), np.empty(size), np.empty(size)
    powered = True
    for part in np.array_split(np.arange(size), max(size // CHUNK, 1)):
        steps = Pairs(
            local=local,
            plans=plans,
            workload=workload,
            layer=one.layer[:, None],
            plan=part,
            depth=one.depth[:, None],
            global_batch=global_batch,
        ).steps()
        time[part], memory[part] = steps.step_time[0], steps.memory[0]
        if powered:
            chosen = plans.take(part)
            try:
                joules[part] = step_joules(
                    local.costs,
                    one.layer[:, None],
                    local.split_of_plan[part],
                    steps,
                    int(shape.num_layers) / np.asarray(chosen.pp),
                    workload.model,
                    workload.precision,
                )[0]
            except NotCoveredError:
                powered = False
    return time, memory, with_site(workload.cluster, joules, time) if powered else None


def _undominated(values: Array) -> Array:
    """Indices of the rows that no other row beats in every column; equal rows keep the first."""
    order = np.lexsort(values.T[::-1])
    front: list[int] = []
    kept = np.empty((0, values.shape[1]))
    for index in order:
        row = values[index]
        if kept.size and np.any(np.all(kept <= row, axis=1)):
            continue
        front.append(int(index))
        kept = np.concatenate([kept, row[None]])
    return np.array(front)
