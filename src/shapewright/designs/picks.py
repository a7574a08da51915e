"""The family of the choice: what tells its members apart, who is best at what, and what more of a resource would buy.

Decisions: candidates within the uncertainty are one family, and a pick is its best member in one respect, so that
nobody pays loss for it. Cheapest and least energy are the device time and the joules that a member needs to reach the
family's edge, the loss that all of them reach. The next generation is the earliest later device of the same maker that
multiplies 1.3 times as fast, as many of them and for the same budget. Serving is one request on the fewest devices
that are fastest. More power means a higher limit than the device has: kernels that it throttles now run faster
(:mod:`cost.energy`), and an energy budget pays for the watts. A respect that nobody can price here is left out.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from shapewright.architecture.shape import Shape
from shapewright.designs.alternatives import summary
from shapewright.designs.document import Elasticity, Pick, TieFamily
from shapewright.designs.energy import mean_powers
from shapewright.errors import ShapewrightError
from shapewright.hardware.catalog import accelerator_names, load_accelerator, parse_cluster
from shapewright.hardware.cluster import Cluster
from shapewright.plan.pairs import Workload
from shapewright.search.again import next_generation, once_more, representatives, scaled
from shapewright.search.budget import Budget
from shapewright.search.ranking import Ranking
from shapewright.search.reach import device_hours
from shapewright.search.serve import decode
from shapewright.units import format_count, format_quantity

Array = NDArray[Any]
MEMBERS = 8
"""Members of the family that are priced again for picks and elasticities."""
MORE = 1.1
"""An elasticity is what ten per cent more buys."""


def tie_family(ranking: Ranking) -> TieFamily:
    """The candidates that the uncertainty cannot tell from the choice."""
    rows = np.flatnonzero(ranking.ties)
    width = ranking.joined(lambda arm: arm.candidates.column(arm.candidates.layers.hidden_size))[rows]
    depth = ranking.joined(lambda arm: arm.candidates.depth)[rows]
    active, tokens = ranking.active_params[rows], ranking.tokens[rows]
    names = list(dict.fromkeys(ranking.arm_of(int(row)).family for row in rows))
    text = (
        f"{rows.size:,} candidates within {ranking.tie_width:.3f} of the lowest loss: {', '.join(names)}; "
        f"width {_span(width)}, depth {_span(depth)}, {_span(active, format_count)} active parameters on "
        f"{_span(tokens, format_count)} tokens"
    )
    return TieFamily(
        count=int(rows.size), tie_width=ranking.tie_width, families=tuple(names),
        width=(int(width.min()), int(width.max())), depth=(int(depth.min()), int(depth.max())),
        active_params=(float(active.min()), float(active.max())), tokens=(float(tokens.min()), float(tokens.max())),
        text=text,
    )  # fmt: skip


def _span(values: np.ndarray, show=lambda value: f"{value:,.0f}") -> str:
    low, high = show(float(values.min())), show(float(values.max()))
    return low if low == high else f"{low} to {high}"


def picks(ranking: Ranking, budget: Budget, pins: Mapping[str, int]) -> tuple[Pick, ...]:
    """The best members of the family, one per respect; ``pins`` of the plan hold on other hardware too."""
    edge = float(ranking.loss[ranking.best]) + ranking.tie_width
    hours = device_hours(ranking, edge)
    cheap = int(np.argmin(hours))
    members = list(dict.fromkeys([*representatives(ranking, MEMBERS), cheap]))
    lowest = f"loss {ranking.loss[ranking.best]:.4f}"
    found = [_pick(ranking, ranking.best, "lowest loss", lowest, f"law {ranking.law.name}")]
    price = ranking.workload.cluster.price_per_device_hour
    cost = f"{_round(hours[cheap])} device-hours" + (f", ${price.value * hours[cheap]:,.0f}" if price else "")
    found.append(_pick(ranking, cheap, "cheapest", f"loss {edge:.3f} for {cost}", "step time and law"))
    watts = _watts(ranking, members)
    if watts is not None:
        joules = hours[members] * 3600.0 / ranking.workload.cluster.num_devices * watts
        least = int(np.argmin(joules))
        text = f"loss {edge:.3f} for {format_quantity(float(joules[least]), 'J')}"
        found.append(_pick(ranking, members[least], "least energy", text, "energy of the kernels and law"))
    served = [time_per_token(ranking.shape(index), ranking.arm_of(index).workload) for index in members]
    if None not in served:
        fast = int(np.argmin([each[0] for each in served if each]))
        second, devices = served[fast] or (0.0, 0)
        text = f"{format_quantity(second, 's')} per token for one request in 16 bits, {devices} device{'s' * (devices > 1)}"
        found.append(_pick(ranking, members[fast], "fastest to serve", text, "plan.serving"))
    robust = _most_robust(ranking, members, budget, pins)
    return (*found, *((robust,) if robust else ()))


def _round(value: float) -> str:
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"


def _pick(ranking: Ranking, index: int, name: str, text: str, source: str) -> Pick:
    return Pick(
        name=name, summary=summary(ranking, index), plan=ranking.plan(index).describe(),
        loss=float(ranking.loss[index]), kind="fitted" if source.startswith("law") else "derived", source=source,
        text=text,
    )  # fmt: skip


def _watts(ranking: Ranking, indices: Sequence[int]) -> Array | None:
    """Mean power of the cluster under each candidate [W]; None where no power limit is published."""
    watts = np.empty(len(indices))
    places = [ranking.place(index) for index in indices]
    for arm in dict.fromkeys(id(arm) for arm, _ in places):
        mine = [at for at, (other, _) in enumerate(places) if id(other) == arm]
        here, rows = places[mine[0]][0], np.array([places[at][1] for at in mine])
        found = mean_powers(
            here.candidates.compact(rows), here.sweep.plans.take(here.sweep.best[rows]), here.workload,
            global_batch=ranking.global_batch,
        )  # fmt: skip
        if found is None:
            return None
        watts[mine] = [figure.value for figure in found]
    return watts


def time_per_token(shape: Shape, workload: Workload) -> tuple[float, int] | None:
    """(Seconds per output token of one request, devices); None where decoding is not calibrated here or nothing fits."""
    try:
        seconds, devices = decode(shape, workload)
    except ShapewrightError:
        return None
    return (seconds, devices) if devices else None


def _most_robust(
    ranking: Ranking, members: Sequence[int], budget: Budget, pins: Mapping[str, int]
) -> Pick | None:
    device = ranking.workload.cluster.accelerator
    known = [load_accelerator(name) for name in accelerator_names()]
    later = next_generation(device, known, ranking.workload.precision.matmul_format)
    if later is None:
        return None
    try:
        cluster = parse_cluster(f"{ranking.workload.cluster.num_devices}x{later.name}")
        there = once_more(ranking, members, cluster, budget, pins)
    except ShapewrightError:
        return None
    if not np.isfinite(there.loss).any():
        return None
    best = int(np.argmin(there.loss))
    gap = float(there.loss[0] - there.loss[best])
    return _pick(
        ranking, members[best], "most robust to the next generation",
        f"on as many {later.name} its loss is {there.loss[best]:.4f}, "
        f"{'as low as any' if best == 0 else f'{gap:.4f} below the choice'}",
        f"datasheet of {later.name}, kernels transferred",
    )  # fmt: skip


def elasticities(ranking: Ranking, budget: Budget, pins: Mapping[str, int]) -> tuple[Elasticity, ...]:
    """What ten per cent more of each resource buys in loss, the best member of the family under each change."""
    cluster = ranking.workload.cluster
    members = representatives(ranking, MEMBERS)
    before = float(ranking.loss[ranking.best])
    more = Budget(kind=budget.kind, value=budget.value * MORE)
    rows = [_elasticity(ranking, members, "budget", cluster, more, before, pins)]
    for what in ("bandwidth", "memory", *(("network",) if cluster.tiers else ()), "power"):
        try:
            changed = scaled(cluster, what, MORE)
        except ShapewrightError as error:
            rows.append(_not_priced(what, error))
            continue
        rows.append(_elasticity(ranking, members, what, changed, budget, before, pins))
    return tuple(rows)


def _elasticity(
    ranking: Ranking, members: Sequence[int], what: str, cluster: Cluster, budget: Budget, before: float,
    pins: Mapping[str, int],
) -> Elasticity:  # fmt: skip
    name = _resource(what)
    try:
        there = once_more(ranking, members, cluster, budget, pins)
    except ShapewrightError as error:
        return _not_priced(what, error)
    best = int(np.argmin(there.loss))
    # The change may only help: what ten per cent more allows includes what was there before.
    change = min(float(there.loss[best]) - before, 0.0)
    tokens = max(float(there.tokens[0] / ranking.tokens[members[0]]) - 1.0, 0.0)
    other = "" if best == 0 else f", then with {summary(ranking, members[best])}"
    how = " (kernels at the limit speed up by its root of 2.4, assumed)" if what == "power" else ""
    return Elasticity(
        resource=name, loss_change=change, tokens_change=tokens, summary=summary(ranking, members[best]),
        text=f"10 % more {name}{how}: {_moved(change)}, the choice reads {tokens:+.1%} tokens{other}",
    )  # fmt: skip


def _moved(change: float) -> str:
    return f"loss {change:+.4f}" if change < -5e-5 else "the same loss"


def _resource(what: str) -> str:
    return {"bandwidth": "memory bandwidth"}.get(what, what)


def _not_priced(what: str, error: ShapewrightError) -> Elasticity:
    name = _resource(what)
    return Elasticity(resource=name, loss_change=None, tokens_change=None, summary=None,
                      text=f"10 % more {name}: not priced ({error.what})")  # fmt: skip
