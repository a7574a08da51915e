"""The hardware that a model family wants: the same dollars, or watts, spent on other properties.

Decisions: a pattern search over factors of the properties that have a cost of their own. From the real chip one property
after the other is stepped up, or down, as long as that helps, until no step of any helps; a dearer chip gets less
device-time, so nothing is free. Every chip on the way is fully re-designed for, and no chip breaks a rule of physics.
The end is a local optimum on a lattice of steps of the square root of two, between a quarter and four times.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

from shapewright.errors import UsageError
from shapewright.outlook.costs import COSTED, Shares
from shapewright.outlook.hypothetical import Chip, refuse_impossible, turned
from shapewright.outlook.outcome import Outcome, best_design, search, time_elasticity
from shapewright.search.budget import Budget
from shapewright.search.joint import Options
from shapewright.search.ranking import Ranking

MOVE = math.sqrt(2.0)
REACH = 4.0
"""Largest factor, and its inverse the smallest."""
MOST = 48
"""Chips that are tried at most."""
LEAST = 1e-5
"""Relative gain of loss below which the search ends."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Tried:
    """One chip of the search."""

    factors: dict[str, float]
    cost: float
    """Of a device over the real one's."""
    loss: float


@dataclass(frozen=True, kw_only=True, slots=True)
class Wanted:
    """The chip that the family wants at equal cost."""

    kind: str
    """``dollars`` or ``power``."""
    factors: dict[str, float]
    """Factor of each property against the real chip."""
    cost: float
    outcome: Outcome
    base_loss: float
    worth: float
    """Device-time on the real chip that reaches the same loss, over the budget's."""
    tried: tuple[Tried, ...]
    ended: str
    """Why the search ended."""


def wanted(chip: Chip, budget: Budget, options: Options, shares: Shares) -> Wanted:
    """Search the chip with the lowest loss at equal cost.

    Raises:
        InfeasibleError: nothing fits on the chip as it is.
        UsageError: the budget does not depend on hardware.
    """
    near = search(chip, budget, options)
    start = best_design(chip, budget, options, near=near)
    assert start.loss is not None
    time = time_elasticity(chip, budget, options, start.loss, near=near)
    names = [name for name in COSTED if shares.of(name) > 0]
    here: dict[str, float] = dict.fromkeys(names, 1.0)
    best = start
    tried = {_key(here): Tried(factors=dict(here), cost=1.0, loss=start.loss)}
    moved = True
    while moved and len(tried) < MOST:
        moved = False
        for name in names:
            for factor in (MOVE, 1.0 / MOVE):
                # On in the same direction while it helps.
                while len(tried) < MOST:
                    there = {**here, name: here[name] * factor}
                    if not 0.99 / REACH <= there[name] <= 1.01 * REACH or _key(there) in tried:
                        break
                    found = _at(chip, budget, options, shares, there, near)
                    loss = math.inf if found is None or found.loss is None else found.loss
                    tried[_key(there)] = Tried(factors=there, cost=shares.factor(there), loss=loss)
                    assert best.loss is not None
                    if found is None or loss > best.loss * (1 - LEAST):
                        break
                    here, best, moved = there, found, True
    ended = f"{MOST} chips were tried" if len(tried) >= MOST else "no single step helps any more"
    assert best.loss is not None
    return Wanted(
        kind=shares.kind, factors=here, cost=shares.factor(here), outcome=best, base_loss=start.loss,
        worth=(best.loss / start.loss) ** (1.0 / time), tried=tuple(tried.values()), ended=ended,
    )  # fmt: skip


def _key(factors: dict[str, float]) -> tuple[int, ...]:
    return tuple(round(math.log(factor) / math.log(MOVE)) for factor in factors.values())


def _at(
    chip: Chip, budget: Budget, options: Options, shares: Shares, factors: dict[str, float], near: Ranking
) -> Outcome | None:
    """The best design on a chip with these factors at equal cost; None where no such chip can be."""
    moved = chip
    for name, factor in factors.items():
        if factor != 1.0:
            moved = turned(moved, name, factor)
    try:
        refuse_impossible(chip.cluster.accelerator, replace(moved, factors=factors))
    except UsageError:
        return None
    settings = tuple(f"{name}={factor:.3g}x" for name, factor in factors.items() if factor != 1.0)
    spent = replace(budget, value=budget.value / shares.factor(factors))
    return best_design(replace(moved, settings=(*chip.settings, *settings)), spent, options, near=near)
