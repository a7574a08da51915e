"""Every way to serve a model on given hardware: layouts times concurrency, the Pareto front and named picks.

Decisions: a replica takes a power of two of devices inside the scale-up domain (and whole domains beyond it by pipeline
stages); the rest of the devices hold copies. Attention groups and expert parallelism are offered to mixtures only.
Nothing is cut silently: what does not fit is counted by reason. The front is of tokens per second and user against
tokens per second and device; the picks are the fastest for a user, the cheapest within the goals, and the cheapest
whatever the goals. Goals that the hardware cannot reach are refused with the floor and what sets it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from shapewright.architecture.graph import num_active_params
from shapewright.architecture.shape import ExpertsFFN, NoFFN, Shape
from shapewright.cost.price import CostModel, cost_model
from shapewright.errors import InfeasibleError, NotCoveredError
from shapewright.hardware.cluster import Cluster
from shapewright.plan.engine import Engine
from shapewright.plan.rules import attention_heads
from shapewright.plan.serving import Served, disaggregated
from shapewright.plan.serving_formats import ServingFormats
from shapewright.plan.serving_memory import sequence_bytes
from shapewright.plan.serving_step import Layout
from shapewright.plan.serving_table import StepTable, by_cause, step_table

Array = NDArray[Any]


@dataclass(frozen=True, kw_only=True, slots=True)
class ServingGoal:
    """What is asked of a deployment."""

    isl: float
    """Tokens of a prompt."""
    osl: float
    """Tokens of an answer."""
    ttft: float | None = None
    """Longest mean time to first token [s]; None for no goal."""
    tpot: float | None = None
    """Longest mean time per output token [s]."""
    rate: float | None = None
    """Requests per second that arrive at the whole deployment (Poisson); None for constant concurrency."""
    cached: float = 0.0
    """Share of a prompt found in the prefix cache [1]."""
    spread: float = 0.0
    """Squared coefficient of variation of the prompts' lengths [1]."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Deployment:
    """One way to serve, with what it gives."""

    layout: Layout
    replicas: int
    prefill_replicas: int
    """Of them, those that only prefill; 0 where every replica does both."""
    concurrency: float
    """Requests in flight per (decoding) replica."""
    ttft: float
    tpot: float
    per_user: float
    """Output tokens per second and user [1/s]."""
    per_device: float
    """Output tokens per second and device of the deployment [1/s]."""
    rate: float
    """Requests per second of the whole deployment [1/s]."""
    weights: float
    """Bytes per device."""
    cache: float
    """Bytes per device that the running requests occupy."""
    capacity: float
    """Requests that one replica's cache holds."""
    binds: str
    """What most of the time per token goes to."""
    parts: tuple[tuple[str, float], ...]
    """Seconds per output token by cause."""
    meets: bool
    """Whether it meets the goals."""


@dataclass(frozen=True, kw_only=True, slots=True)
class ServingPlan:
    """All that was found."""

    goal: ServingGoal
    front: tuple[Deployment, ...]
    """No other is better for users and for devices; from the fastest for a user to the cheapest."""
    picks: tuple[tuple[str, Deployment], ...]
    counts: tuple[tuple[str, int], ...]
    """Configurations looked at, by what became of them."""
    floor_tpot: float
    """Least time per output token of any layout, one request at a time [s]."""
    light_tpot: float
    """Time in which all devices read the active weights once at their peak bandwidth [s]."""
    floor_ttft: float
    """Least time to first token of any layout [s]."""
    largest_rate: float | None
    """Requests per second that the best layout keeps up with, where arrivals are stated [1/s]."""


BINDS = {
    "products": "reading weights and multiplying (products)", "attention": "attention over the cache",
    "experts": "reading and multiplying experts", "state": "recurrent states",
    "memory": "norms and activations", "reduce": "all-reduces of tensor parallelism",
    "exchange": "exchange of tokens between experts", "host": "the engine's host time",
    "prefill": "prompts of other requests",
}  # fmt: skip


def layouts_for(shape: Shape, cluster: Cluster) -> tuple[list[Layout], dict[str, int]]:
    """Layouts of one replica that the shape can be split over, and counts of those it cannot, by reason."""
    devices = cluster.num_devices
    inner = cluster.tiers[0].size if cluster.tiers else 1
    sparse = any(isinstance(block.channel, ExpertsFFN) for block in shape.blocks)
    found: list[Layout] = []
    rejected: dict[str, int] = {}
    for stages in (1, 2, 4):
        for world in (2**i for i in range(11)):
            if world > inner or world * stages > devices:
                continue
            for adp in (1, world) if sparse and world > 1 else (1,):
                for ep in (1, world) if sparse and world > 1 else (1,):
                    layout = Layout(tp=world // adp, pp=stages, ep=ep, adp=adp)
                    reason = _indivisible(shape, layout)
                    if reason:
                        rejected[reason] = rejected.get(reason, 0) + 1
                    else:
                        found.append(layout)
    return found, rejected


def _indivisible(shape: Shape, layout: Layout) -> str | None:
    tp = int(layout.tp)
    if any(int(heads) % tp or (int(kv) % tp and tp % int(kv)) for heads, kv in attention_heads(shape)):
        return "tp does not divide the heads"
    if int(shape.num_layers) < int(layout.pp):
        return "more stages than layers"
    for block in shape.blocks:
        if isinstance(block.channel, ExpertsFFN) and int(block.channel.experts) % int(layout.ep):
            return "ep does not divide the experts"
        if (
            not isinstance(block.channel, ExpertsFFN | NoFFN)
            and int(getattr(block.channel, "ffn_size", tp)) % tp
        ):
            return "tp does not divide the feed-forward width"
    return None


def plan_serving(
    shape: Shape, *, cluster: Cluster, model: CostModel, engine: Engine, formats: ServingFormats, goal: ServingGoal,
    drafted: int = 0, apart: bool = True,
) -> ServingPlan:  # fmt: skip
    """Lay out every deployment and choose.

    Raises:
        InfeasibleError: it fits on no split, no deployment meets the goals, or arrivals are faster than service.
        NotCoveredError: the device's memory is unknown, or a kernel is not calibrated.
    """
    if cluster.accelerator.memory_capacity is None:
        raise NotCoveredError(
            f"{cluster.accelerator.name} has no published memory capacity", "what fits is unknown",
            "state it: --set memory_capacity=80GB",
        )  # fmt: skip
    layouts, rejected = layouts_for(shape, cluster)
    table = _table(shape, layouts, cluster, model, engine, formats, goal, drafted)
    fits = table.capacity(np.arange(len(table)), goal.isl + goal.osl) >= 1
    rejected["the weights and one request do not fit"] = int((~fits).sum())
    if not fits.any():
        raise _does_not_fit(shape, cluster, table, goal, rejected)
    light = _light(shape, cluster, formats)
    lone = table.closed(np.flatnonzero(fits), concurrency=1.0, isl=goal.isl, osl=goal.osl, cached=goal.cached)
    floor_tpot, floor_ttft = float(lone.tpot.min()), float(lone.ttft.min())
    _check_floors(goal, floor_tpot, floor_ttft, light, cluster, formats)
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
        raise _misses(goal, found, counts)
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


def _apart(table: StepTable, fits: NDArray[Any], cluster: Cluster, goal: ServingGoal) -> list[Deployment]:
    """Prefill and decode on replicas of the same layout: every split of the replicas between them."""
    found: list[Deployment] = []
    for layout in fits.tolist():
        total = int(_replicas(table, np.array([layout]), cluster)[0])
        if total < 2:
            continue
        first, load = (x.ravel() for x in np.meshgrid(np.arange(1, total), CONCURRENCY, indexing="ij"))
        index = np.full(first.size, layout)
        capacity = table.capacity(index, goal.isl + goal.osl)
        keep = load <= capacity
        first, load, index, capacity = first[keep], load[keep], index[keep], capacity[keep]
        if not load.size:
            continue
        decode = total - first
        size = sequence_bytes(table.shape, _one(table, layout), table.formats, goal.isl) * float(
            _one(table, layout).tp
        )
        tier = cluster.tiers[-1].bandwidth.value
        served = disaggregated(
            table.engine, step=lambda b, i=index: table.step(i, b, goal.isl + goal.osl / 2),
            prefill=table.prompt(index, np.full(load.size, goal.isl), goal.cached),
            groups=np.asarray(table.layouts.adp)[index], prefill_workers=first, decode_workers=decode,
            concurrency=load * decode, capacity=capacity, osl=goal.osl, transfer=float(size) / tier,
        )  # fmt: skip
        found += _deployments(table, index, load, np.full(load.size, total), first, served, cluster, goal)
    return found


def _arriving(
    table: StepTable, fits: NDArray[Any], cluster: Cluster, goal: ServingGoal
) -> tuple[list[Deployment], float]:
    assert goal.rate is not None
    found: list[Deployment] = []
    largest = 0.0
    for layout in fits.tolist():
        replicas = _replicas(table, np.array([layout]), cluster)
        try:
            served, most = table.opened(layout, rate=goal.rate / float(replicas[0]), isl=goal.isl, osl=goal.osl,
                                        cached=goal.cached, spread=goal.spread)  # fmt: skip
        except InfeasibleError:
            _, most = table.opened(layout, rate=0.0, isl=goal.isl, osl=goal.osl, cached=goal.cached)
            largest = max(largest, most * float(replicas[0]))
            continue
        largest = max(largest, most * float(replicas[0]))
        one = Served(**{n: np.atleast_1d(np.asarray(getattr(served, n), float)) for n in Served.__slots__})
        whole = Served(ttft=one.ttft, tpot=one.tpot, rate=one.rate * replicas, batch=one.batch, waiting=one.waiting,
                       prefill_share=one.prefill_share)  # fmt: skip
        found += _deployments(
            table, np.array([layout]), one.batch, replicas, np.zeros(1), whole, cluster, goal
        )
    if not found:
        raise InfeasibleError(
            f"--rate (={goal.rate:g} requests/s) is faster than {cluster.name} can serve",
            f"the best layout keeps up with {largest:.3g} requests/s; beyond it the queue grows without end",
            f"try: --rate {0.8 * largest:.3g}, or more devices",
            reasons={"slower than the arrivals": len(fits)},
        )
    return found, largest


def _replicas(table: StepTable, index: NDArray[Any], cluster: Cluster) -> Array:
    return np.floor(cluster.num_devices / np.asarray(table.layouts.num_devices)[index])


def _one(table: StepTable, layout: int) -> Layout:
    return Layout(
        **{n: int(np.asarray(getattr(table.layouts, n))[layout]) for n in ("tp", "pp", "ep", "adp")}
    )


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
    step = table.step(index, served.batch, context)
    parts = by_cause(table, index, served.batch, context)
    # Causes as the engine runs them add up to the step; what is left of a token's time is others' prefills.
    scale = step / np.maximum(sum(parts.values()), 1e-12)
    parts = {cause: seconds * scale for cause, seconds in parts.items()}
    parts["prefill"] = np.maximum(served.tpot - sum(parts.values()), 0.0)
    chosen = Layout(**{n: np.asarray(getattr(table.layouts, n))[index] for n in ("tp", "pp", "ep", "adp")})
    held = served.batch / chosen.adp * sequence_bytes(table.shape, chosen, table.formats, context)
    capacity = table.capacity(index, goal.isl + goal.osl)
    per_device = served.rate * goal.osl / devices
    layouts = {i: _one(table, i) for i in np.unique(index).tolist()}
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
    layout = _one(table, int(index[best]))
    return float(
        rates[best]
    ), f"tp {layout.tp}, {load[best]:.0f} requests at a time, {served.tpot[best] * 1e3:.3g} ms a token"


def _front(found: list[Deployment]) -> tuple[Deployment, ...]:
    front: list[Deployment] = []
    for candidate in sorted(found, key=lambda d: (-d.per_user, -d.per_device)):
        if not front or candidate.per_device > front[-1].per_device:
            front.append(candidate)
    return tuple(front)


def _light(shape: Shape, cluster: Cluster, formats: ServingFormats) -> float:
    bandwidth = cluster.accelerator.memory_bandwidth
    assert bandwidth is not None
    weight = min(formats.product_bytes, formats.expert_bytes)
    return float(num_active_params(shape)) * weight / (bandwidth.value * cluster.num_devices)


def _check_floors(
    goal: ServingGoal, tpot: float, ttft: float, light: float, cluster: Cluster, formats: ServingFormats
) -> None:
    for name, wanted, floor, why in (
        ("--tpot", goal.tpot, tpot, f"reading the active weights once in {formats.name} takes all {cluster.num_devices} "
         f"devices {light * 1e3:.2g} ms at their peak bandwidth; launches, all-reduces and the host bring one request "
         f"at a time to {tpot * 1e3:.3g} ms"),
        ("--ttft", goal.ttft, ttft, f"computing one prompt of {goal.isl:,.0f} tokens, alone on the best split, takes "
         f"{ttft * 1e3:.3g} ms with the engine's own time"),
    ):  # fmt: skip
        if wanted is not None and wanted < floor:
            raise InfeasibleError(
                f"{name} (={wanted * 1e3:.3g} ms) is below the floor of {cluster.name}: {floor * 1e3:.3g} ms", why,
                f"try: {name} {np.ceil(floor * 1.3e4) / 10:g}ms, a narrower format, or faster memory",
                reasons={f"{name} below the floor": 1},
            )  # fmt: skip


def _does_not_fit(
    shape: Shape, cluster: Cluster, table: StepTable, goal: ServingGoal, rejected: dict[str, int]
) -> InfeasibleError:
    best = int(np.argmin(table.weights))
    layout = _one(table, best)
    need = float(table.weights[best]) + float(
        sequence_bytes(shape, layout, table.formats, goal.isl + goal.osl)
    )
    factor = int(np.ceil(need / table.budget))
    return InfeasibleError(
        f"{shape.name} in {table.formats.name} does not fit {cluster.name} at any split",
        f"the widest split (tp {layout.tp}, pp {layout.pp}) needs {need / 1e9:.4g} GB per device with one request of "
        f"{goal.isl + goal.osl:,.0f} tokens; {table.budget / 1e9:.4g} GB may be used",
        f"use about {cluster.num_devices * factor} devices, or a narrower --precision",
        reasons=rejected,
    )


def _misses(
    goal: ServingGoal, found: list[Deployment], counts: tuple[tuple[str, int], ...]
) -> InfeasibleError:
    def excess(d: Deployment) -> float:
        return max(d.ttft / goal.ttft if goal.ttft else 0.0, d.tpot / goal.tpot if goal.tpot else 0.0)

    near = min(found, key=excess)
    return InfeasibleError(
        "no deployment meets both goals at once",
        f"nearest: tp {near.layout.tp}, {near.concurrency:.0f} requests per replica: {near.ttft * 1e3:.3g} ms to the first "
        f"token, {near.tpot * 1e3:.3g} ms per token after it",
        "try: "
        + " ".join(
            f"{name} {max(wanted, got * 1.05) * 1e3:.4g}ms"
            for name, wanted, got in (("--ttft", goal.ttft, near.ttft), ("--tpot", goal.tpot, near.tpot))
            if wanted is not None
        ),
        reasons=dict(counts),
    )
