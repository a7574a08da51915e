"""Every way to serve a model on given hardware: layouts times concurrency, the Pareto front and named picks.

Decisions: devices that one replica leaves over hold copies, which may share the work (some prefill, the others decode)
under constant concurrency and under open arrivals. Nothing is cut silently: what does not fit is counted by reason. The
front is of tokens per second and user against tokens per second and device; the picks are the fastest for a user, the
cheapest within the goals, and the cheapest whatever the goals. Goals that the hardware cannot reach are refused with the
floor and what sets it.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from shapewright.architecture.shape import Shape
from shapewright.cost.price import CostModel, cost_model
from shapewright.errors import InfeasibleError, UnknownFigureError
from shapewright.hardware.cluster import Cluster
from shapewright.plan.deployment import BINDS, Deployment, ServingGoal, ServingPlan
from shapewright.plan.engine import Engine
from shapewright.plan.serving import Served, disaggregated
from shapewright.plan.serving_formats import ServingFormats
from shapewright.plan.serving_layouts import layouts_for, one_layout
from shapewright.plan.serving_memory import sequence_bytes
from shapewright.plan.serving_refusals import check_floors, does_not_fit, light_seconds, misses
from shapewright.plan.serving_step import Layout
from shapewright.plan.serving_table import StepTable, by_cause, step_table

Array = NDArray[Any]


def plan_serving(
    shape: Shape, *, cluster: Cluster, model: CostModel, engine: Engine, formats: ServingFormats, goal: ServingGoal,
    drafted: int = 0, apart: bool = True,
) -> ServingPlan:  # fmt: skip
    """Lay out every deployment and choose.

    Raises:
        InfeasibleError: it fits on no split, no deployment meets the goals, or arrivals are faster than service.
        UnknownFigureError: the device's memory is unknown.
        NotCoveredError: a kernel is not calibrated.
    """
    if cluster.accelerator.memory_capacity is None:
        raise UnknownFigureError(
            "memory", cluster.accelerator.name, "a model must fit it", "memory_capacity=80GB"
        )
    layouts, rejected = layouts_for(shape, cluster)
    table = _table(shape, layouts, cluster, model, engine, formats, goal, drafted)
    fits = table.capacity(np.arange(len(table)), goal.isl + goal.osl) >= 1
    rejected["the weights and one request do not fit"] = int((~fits).sum())
    if not fits.any():
        raise does_not_fit(shape, cluster, table, goal, rejected)
    light = light_seconds(shape, cluster, formats)
    floor_tpot, floor_ttft = _floors(table, np.flatnonzero(fits), cluster, goal, apart)
    check_floors(goal, floor_tpot, floor_ttft, light, cluster, formats)
    found = _together(table, np.flatnonzero(fits), cluster, goal)
    largest = None
    if goal.rate is not None:
        found, largest = _arriving(table, np.flatnonzero(fits), cluster, goal)
    elif apart:
        found += _apart(table, np.flatnonzero(fits), cluster, goal)
    good = [d for d in found if d.meets]
    counts = (
        ("laid out", len(found) + sum(rejected.values())),
        *rejected.items(),
        ("meet the goals", len(good)),
    )
    if not good:
        raise misses(goal, found, counts)
    front = _front(found)
    fastest = min(good, key=lambda d: (d.tpot, -d.per_device))
    cheapest = max(good, key=lambda d: d.per_device)
    most = max(found, key=lambda d: d.per_device)
    picks = [
        ("cheapest within the goals", cheapest),
        ("fastest for a user", fastest),
        ("most throughput", most),
    ]
    return ServingPlan(goal=goal, front=front, picks=tuple(picks), counts=counts, floor_tpot=floor_tpot,
                       light_tpot=light, floor_ttft=floor_ttft, largest_rate=largest)  # fmt: skip


def _table(
    shape: Shape, layouts: list[Layout], cluster: Cluster, model: CostModel, engine: Engine, formats: ServingFormats,
    goal: ServingGoal, drafted: int,
) -> StepTable:  # fmt: skip
    rows = Layout(**{n: np.array([float(getattr(x, n)) for x in layouts]) for n in ("tp", "pp", "ep", "adp")})
    return step_table(shape, rows, engine=engine, formats=formats, model=model, cluster=cluster,
                      longest=max(goal.isl + goal.osl, 512.0), largest=4096.0, drafted=drafted)  # fmt: skip


CONCURRENCY = np.unique(np.round(2.0 ** np.arange(0.0, 12.01, 0.25)))
"""Requests in flight per replica that are looked at."""


def _together(table: StepTable, fits: NDArray[Any], cluster: Cluster, goal: ServingGoal) -> list[Deployment]:
    index, load = (x.ravel() for x in np.meshgrid(fits, CONCURRENCY, indexing="ij"))
    capacity = table.capacity(index, goal.isl + goal.osl)
    index, load = index[load <= capacity], load[load <= capacity]
    replicas = _replicas(table, index, cluster)
    served = table.closed(index, concurrency=load, isl=goal.isl, osl=goal.osl, cached=goal.cached, replicas=replicas,
                          burst=0.0)  # fmt: skip
    return _deployments(table, index, load, replicas, np.zeros(index.size), served, cluster, goal)


def _floors(
    table: StepTable, fits: NDArray[Any], cluster: Cluster, goal: ServingGoal, apart: bool
) -> tuple[float, float]:
    """Seconds per token and to the first of one request alone, each on the split that is best for it."""
    lone = table.closed(fits, concurrency=1.0, isl=goal.isl, osl=goal.osl, cached=goal.cached)
    split = _apart(table, fits, cluster, goal, CONCURRENCY[:1]) if apart else []
    return (
        min([float(lone.tpot.min()), *(d.tpot for d in split)]),
        min([float(lone.ttft.min()), *(d.ttft for d in split)]),
    )


def _apart(
    table: StepTable, fits: NDArray[Any], cluster: Cluster, goal: ServingGoal, loads: Array = CONCURRENCY
) -> list[Deployment]:
    """Prefill and decode on replicas of the same layout: every split of the replicas between them."""
    found: list[Deployment] = []
    for layout in fits.tolist():
        total = int(_replicas(table, np.array([layout]), cluster)[0])
        if total < 2:
            continue
        first, load = (x.ravel() for x in np.meshgrid(np.arange(1, total), loads, indexing="ij"))
        index = np.full(first.size, layout)
        capacity = table.capacity(index, goal.isl + goal.osl)
        keep = load <= capacity
        first, load, index, capacity = first[keep], load[keep], index[keep], capacity[keep]
        if not load.size:
            continue
        decode = total - first
        isl = np.full(load.size, goal.isl)
        served = disaggregated(
            table.engine, step=lambda b, i=index: table.step_alone(i, b, goal.isl + goal.osl / 2),
            prefill=table.prompt(index, isl, goal.cached), crowd=table.crowd(index, isl, goal.cached),
            groups=np.asarray(table.layouts.adp)[index], prefill_workers=first, decode_workers=decode,
            concurrency=load * decode, capacity=capacity, osl=goal.osl, burst=0.0,
            transfer=transfer_seconds(table, layout, cluster, goal),
        )  # fmt: skip
        found += _deployments(table, index, load, np.full(load.size, total), first, served, cluster, goal)
    return found


def transfer_seconds(table: StepTable, layout: int, cluster: Cluster, goal: ServingGoal) -> float:
    """Seconds in which the cache of one prompt moves to another replica, over one device's link each [s]."""
    one = one_layout(table.layouts, layout)
    size = float(sequence_bytes(table.shape, one, table.formats, goal.isl)) * float(one.tp)
    return size / cluster.tiers[-1].bandwidth.value if cluster.tiers else 0.0


def _arriving(
    table: StepTable, fits: NDArray[Any], cluster: Cluster, goal: ServingGoal
) -> tuple[list[Deployment], float]:
    """Every replica does both, or some prefill for the others, under the stated arrivals; no more replicas than help.

    Deployments that arrivals fill beyond ``FILLED`` are named only where there are no others.
    """
    assert goal.rate is not None
    found: list[Deployment] = []
    full: list[Deployment] = []
    largest = 0.0
    lengths = dict(isl=goal.isl, osl=goal.osl, cached=goal.cached, spread=goal.spread, gaps=goal.gaps)
    for layout in fits.tolist():
        total = int(_replicas(table, np.array([layout]), cluster)[0])
        most = table.opened(layout, rate=0.0, **lengths)[1]
        largest = max(largest, most * total)
        for replicas in _counts(total):
            if goal.rate >= most * replicas:
                continue
            one, _ = table.opened(layout, rate=goal.rate / replicas, **lengths)
            served = Served(
                **{n: np.atleast_1d(np.asarray(getattr(one, n), float)) for n in Served.__slots__}
            )
            served = replace(served, rate=served.rate * replicas)
            into = found if goal.rate <= FILLED * most * replicas else full
            into += _deployments(table, np.array([layout]), served.batch, np.array([replicas]), np.zeros(1), served,
                                 cluster, goal)  # fmt: skip
        if total < 2:
            continue
        first, rest = (x.ravel() for x in np.meshgrid(_counts(total), _counts(total), indexing="ij"))
        first, rest = first[first + rest <= total], rest[first + rest <= total]
        apart, limits = table.opened_apart(layout, first, rest, rate=goal.rate, **lengths,
                                           transfer=transfer_seconds(table, layout, cluster, goal))  # fmt: skip
        largest = max(largest, float(limits.max()))
        for into, keep in ((found, goal.rate <= FILLED * limits), (full, goal.rate > FILLED * limits)):
            keep = keep & np.isfinite(apart.tpot)
            kept = Served(**{n: getattr(apart, n)[keep] for n in Served.__slots__})
            index = np.full(int(keep.sum()), layout)
            into += _deployments(
                table, index, kept.batch, (first + rest)[keep], first[keep], kept, cluster, goal
            )
    found = found or full
    if not found:
        raise InfeasibleError(
            f"--rate (={goal.rate:g} requests/s) is faster than {cluster.name} can serve",
            f"the best layout keeps up with {largest:.3g} requests/s; beyond it the queue grows without end",
            f"try: --rate {0.8 * largest:.3g}, or more devices",
            reasons={"slower than the arrivals": len(fits)},
        )
    return found, largest


FILLED = 0.9
"""Share of its largest stable rate up to which a deployment is offered: the closed forms were held against their twin up
to .8, and beyond it every burst is felt."""


def _counts(total: int) -> Array:
    """Numbers of replicas that are looked at: all of few, and four to an octave of many."""
    return np.unique(np.round(np.append(2.0 ** np.arange(0.0, np.log2(total), 0.25), total)))


def _replicas(table: StepTable, index: NDArray[Any], cluster: Cluster) -> Array:
    return np.floor(cluster.num_devices / np.asarray(table.layouts.num_devices)[index])


def _deployments(
    table: StepTable, index: NDArray[Any], load: Array, replicas: Array, first: Array, served: Served,
    cluster: Cluster, goal: ServingGoal,
) -> list[Deployment]:  # fmt: skip
    devices = np.asarray(table.layouts.num_devices)[index] * replicas
    meets = np.ones(index.size, bool)
    if goal.ttft is not None:
        meets &= served.ttft <= goal.ttft
    if goal.tpot is not None:
        meets &= served.tpot <= goal.tpot
    context = goal.isl + goal.osl / 2
    apart = np.asarray(first) > 0
    step = np.where(
        apart, table.step_alone(index, served.batch, context), table.step(index, served.batch, context)
    )
    parts = by_cause(table, index, served.batch, context)
    # Causes as the engine runs them add up to the step; what is left of a token's time is others' prefills.
    scale = step / np.maximum(sum(parts.values()), 1e-12)
    parts = {cause: seconds * scale for cause, seconds in parts.items()}
    parts["prefill"] = np.maximum(served.tpot - sum(parts.values()), 0.0)
    chosen = Layout(**{n: np.asarray(getattr(table.layouts, n))[index] for n in ("tp", "pp", "ep", "adp")})
    held = served.batch / chosen.adp * sequence_bytes(table.shape, chosen, table.formats, context)
    capacity = table.capacity(index, goal.isl + goal.osl)
    per_device = served.rate * goal.osl / devices
    layouts = {i: one_layout(table.layouts, i) for i in np.unique(index).tolist()}
    found = []
    for i in range(index.size):
        mine = {
            cause: float(seconds[i])
            for cause, seconds in parts.items()
            if seconds[i] > 0 or cause == "prefill"
        }
        found.append(
            Deployment(
                layout=layouts[int(index[i])], replicas=int(replicas[i]), prefill_replicas=int(first[i]),
                concurrency=float(load[i]), ttft=float(served.ttft[i]), tpot=float(served.tpot[i]),
                per_user=1.0 / float(served.tpot[i]), per_device=float(per_device[i]), rate=float(served.rate[i]),
                weights=float(table.weights[int(index[i])]), cache=float(held[i]), capacity=float(capacity[i]),
                binds=BINDS[max(mine, key=lambda k: mine[k])], meets=bool(meets[i]),
                parts=tuple(sorted(mine.items(), key=lambda item: -item[1])),
            )
        )  # fmt: skip
    return found


def serving_rate(
    shape: Shape, *, cluster: Cluster, engine: Engine, formats: ServingFormats, goal: ServingGoal
) -> tuple[float, str] | None:
    """Output tokens per second and device at the best split and concurrency within the goals, and how; None without any.

    For many shapes: only replicas inside the scale-up domain that prefill and decode together are looked at.
    """
    layouts = [layout for layout in layouts_for(shape, cluster)[0] if int(layout.pp) == 1]
    if not layouts:
        return None
    table = _table(shape, layouts, cluster, cost_model(cluster.accelerator), engine, formats, goal, 0)
    index, load = (x.ravel() for x in np.meshgrid(np.arange(len(table)), CONCURRENCY, indexing="ij"))
    keep = load <= table.capacity(index, goal.isl + goal.osl)
    index, load = index[keep], load[keep]
    served = table.closed(index, concurrency=load, isl=goal.isl, osl=goal.osl, burst=0.0)
    rates = served.rate * goal.osl / np.asarray(table.layouts.num_devices, float)[index.astype(int)]
    good = np.ones(load.size, bool)
    for limit, value in ((goal.tpot, served.tpot), (goal.ttft, served.ttft)):
        good &= value <= limit if limit is not None else True
    if not good.any():
        return None
    best = int(np.argmax(np.where(good, rates, 0.0)))
    layout = one_layout(table.layouts, int(index[best]))
    return float(
        rates[best]
    ), f"tp {layout.tp}, {load[best]:.0f} requests at a time, {served.tpot[best] * 1e3:.3g} ms a token"


def _front(found: list[Deployment]) -> tuple[Deployment, ...]:
    front: list[Deployment] = []
    for candidate in sorted(found, key=lambda d: (-d.per_user, -d.per_device)):
        if not front or candidate.per_device > front[-1].per_device:
            front.append(candidate)
    return tuple(front)
