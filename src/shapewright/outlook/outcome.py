"""The best design on one hypothetical chip, and what a property is worth there.

Decisions: every chip gets the whole search, re-designed shape, plan and batch; nothing is carried over from the real
chip. An elasticity is ``d ln loss / d ln property`` by a central difference over 1.2x and its inverse; each side by itself
is the range, because a search over discrete shapes has kinks and a property saturates. What it is *worth* is that
elasticity over the elasticity to device-time: the per cent more device-time that one per cent more of it replaces.
At fixed dollars a dearer device buys less device-time, so what is left is worth minus share of the cost, and the
same for watts.
Neglects: the loss law's own error, which is common to all chips and cancels in differences.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from shapewright.cost.device import peak_of
from shapewright.errors import InfeasibleError, UsageError
from shapewright.outlook.costs import Shares
from shapewright.outlook.hypothetical import Chip, refuse_impossible, turned
from shapewright.search.budget import Budget
from shapewright.search.joint import Options, rank
from shapewright.search.ranking import Ranking

STEP = 1.2
"""Factor up and down of a difference."""
LATENCY = ("network_latency", "scale_up.latency", "scale_out.latency")
"""Properties of which less is better."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Outcome:
    """The best design on one chip."""

    settings: tuple[str, ...]
    """What differs from the real one."""
    loss: float | None
    """Predicted loss; None where nothing fits."""
    low: float | None
    """Lower end of its 90 % interval."""
    high: float | None
    shape: str
    """Width x depth."""
    params: float | None
    tokens: float | None
    step_time_s: float | None
    mfu: float | None
    plan: str
    reason: str
    """Why nothing fits; empty where something does."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Elasticity:
    """What one property does for the loss."""

    name: str
    per_loss: float
    """d ln loss / d ln property; negative is better with more of it."""
    low: float
    """The smaller of the two one-sided slopes."""
    high: float
    worth: float
    """Per cent of device-time that one per cent more replaces (one per cent less, of a latency)."""
    dollar_share: float | None
    """Share of a device-hour's dollars; None where the property has no price of its own."""
    power_share: float | None
    at_fixed_dollars: float | None
    """``worth - dollar_share``: above 0 more of it pays."""
    at_fixed_power: float | None
    """``worth - power_share``."""
    loss_at_fixed_dollars: float | None
    """d ln loss / d ln property where the dollars stay: the elasticity less what the dearer device takes away."""
    loss_at_fixed_power: float | None


def search(chip: Chip, budget: Budget, options: Options, *, near: Ranking | None = None) -> Ranking:
    """The ranking of all designs on a chip; ``near`` is that of a similar one.

    Raises:
        InfeasibleError: nothing fits.
    """
    options = replace(
        options, precision=chip.precision or options.precision, seq_len=chip.seq_len or options.seq_len
    )
    return rank(chip.cluster, budget, options, near=near)


def best_design(chip: Chip, budget: Budget, options: Options, *, near: Ranking | None = None) -> Outcome:
    """Search the best design on a chip; nothing fitting is an answer."""
    try:
        ranking = search(chip, budget, options, near=near)
    except InfeasibleError as error:
        return Outcome(settings=chip.settings, loss=None, low=None, high=None, shape="-", params=None, tokens=None,
                       step_time_s=None, mfu=None, plan="", reason=error.what)  # fmt: skip
    best = ranking.best
    arm, row = ranking.place(best)
    workload = arm.workload
    peak = chip.cluster.num_devices * peak_of(chip.cluster.accelerator, workload.precision.matmul_format)
    step = float(arm.sweep.step_time[row])
    return Outcome(
        settings=chip.settings, loss=float(ranking.loss[best]), low=float(arm.prediction.low[row]),
        high=float(arm.prediction.high[row]), shape=ranking.shape(best).name, params=float(ranking.params[best]),
        tokens=float(ranking.tokens[best]), step_time_s=step, mfu=float(arm.sweep.model_flops[row]) / step / peak,
        plan=ranking.plan(best).describe(), reason="",
    )  # fmt: skip


def time_elasticity(
    chip: Chip, budget: Budget, options: Options, base: float, *, near: Ranking | None = None
) -> float:
    """d ln loss / d ln device-time at a budget of time or dollars.

    Raises:
        UsageError: the budget is neither, so that faster hardware would change nothing, or a longer run does not help.
    """
    if budget.kind not in ("time", "dollars", "energy"):
        raise UsageError(f"a budget of {budget.kind} is the same on every chip", "hardware then changes time, not loss",
                         "give --days, --dollars or --energy")  # fmt: skip
    longer = best_design(chip, replace(budget, value=budget.value * STEP), options, near=near)
    if longer.loss is None or not longer.loss < base:
        raise UsageError("more device-time does not lower the loss here", "nothing can be compared with it",
                         "choose a law that is not at its floor, or a smaller budget")  # fmt: skip
    return math.log(longer.loss / base) / math.log(STEP)


def elasticities(
    chip: Chip,
    budget: Budget,
    options: Options,
    names: Sequence[str],
    *,
    dollars: Shares,
    power: Shares,
    known: tuple[Ranking, float, float] | None = None,
) -> tuple[Elasticity, ...]:
    """The elasticity of the loss to each property, the design searched anew on every chip.

    ``known`` are the chip's own ranking, the best loss near it and the elasticity to device-time, where they are.
    """
    if known is None:
        near = search(chip, budget, options)
        # The chip itself is searched as its variants are: a whole search lays other shapes out.
        base = best_design(chip, budget, options, near=near).loss
        assert base is not None
        known = near, base, time_elasticity(chip, budget, options, base, near=near)
    near, base, time = known
    return tuple(_one(chip, budget, options, name, near, base, time, dollars, power) for name in names)


def _one(
    chip: Chip,
    budget: Budget,
    options: Options,
    name: str,
    near: Ranking,
    base: float,
    time: float,
    dollars: Shares,
    power: Shares,
) -> Elasticity:
    slopes = []
    for factor in (1.0 / STEP, STEP):
        try:
            moved = turned(chip, name, factor)
            refuse_impossible(chip.cluster.accelerator, replace(moved, factors={name: factor}))
        except UsageError:
            continue
        loss = best_design(moved, budget, options, near=near).loss
        if loss is not None:
            slopes.append(math.log(loss / base) / math.log(factor))
    if not slopes:
        raise UsageError(f"{name} cannot be changed on {chip.cluster.name}", "neither more nor less of it is possible",
                         "leave it out")  # fmt: skip
    mean = float(np.mean(slopes))
    worth = mean / time * (-1.0 if name in LATENCY else 1.0)
    costs = [shares.by_property.get(name) for shares in (dollars, power)]
    left = [None if cost is None else worth - cost.value for cost in costs]
    return Elasticity(
        name=name, per_loss=mean, low=min(slopes), high=max(slopes), worth=worth,
        dollar_share=None if costs[0] is None else costs[0].value,
        power_share=None if costs[1] is None else costs[1].value,
        at_fixed_dollars=left[0], at_fixed_power=left[1],
        loss_at_fixed_dollars=None if left[0] is None else left[0] * time,
        loss_at_fixed_power=None if left[1] is None else left[1] * time,
    )  # fmt: skip
