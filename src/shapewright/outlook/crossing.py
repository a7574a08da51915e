"""Where another primitive becomes the best one: token mixers against each other along one property.

Decisions: the primitives are the families of the search (:mod:`search.families`), each at the ratio of a published model
and each with shape, plan and batch of its own on every chip. The priors about what a mixer does to the loss are wide and
mostly centred on attention (:mod:`scaling.mixers`), so a mixer wins by its cost alone, and that is said. The crossing is
interpolated between the two values of the property where the order changes, in logarithms.
Neglects: what a longer context is worth; the loss of a token does not fall with it here.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise

from shapewright.errors import InfeasibleError
from shapewright.outlook.hypothetical import Chip
from shapewright.outlook.outcome import best_design
from shapewright.search.budget import Budget
from shapewright.search.families import PATTERNS
from shapewright.search.joint import Options

USUAL = "dense"
"""Full attention in every layer."""
LEAD = 5e-4
"""Loss by which another primitive must lead full attention before it counts as the best [nat, assumed]."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Entry:
    """One primitive on one chip."""

    primitive: str
    loss: float | None
    """Predicted loss at the budget; None where nothing fits."""
    low: float | None
    """Lower end of the 90 % interval, the prior's width in it."""
    high: float | None
    shape: str
    reason: str


@dataclass(frozen=True, kw_only=True, slots=True)
class Place:
    """All primitives at one value of the property."""

    value: float
    text: str
    entries: tuple[Entry, ...]
    best: str
    lead: float
    """Loss of the next one less the best's; negative where a lead is too small to count."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Crossing:
    """Where the best primitive changes."""

    before: str
    after: str
    value: float
    low: float
    """The values of the sweep on both sides: its resolution."""
    high: float


@dataclass(frozen=True, kw_only=True, slots=True)
class Contest:
    """The contest along one property."""

    axis: str
    places: tuple[Place, ...]
    crossings: tuple[Crossing, ...]
    evidence: tuple[str, ...]
    """The model that each pattern is taken from."""


def contest(
    axis: str,
    values: Sequence[tuple[float, str]],
    chip_at: Callable[[str], Chip],
    budget: Budget,
    options: Options,
) -> Contest:
    """Compare the primitives at every value of one property.

    Args:
        axis: the property.
        values: its values as numbers and as the user writes them.
        chip_at: the chip of a value's text.
        budget: of time, dollars or energy.
        options: what the user fixes of the design.

    Raises:
        InfeasibleError: nothing fits at any value.
    """
    places = []
    for value, text in values:
        chip = chip_at(text)
        entries = tuple(_entry(name, chip, budget, options) for name in PATTERNS)
        losses = {e.primitive: e.loss for e in entries if e.loss is not None}
        if not losses:
            continue
        first = min(losses, key=lambda name: losses[name])
        best = USUAL if losses.get(USUAL, math.inf) - losses[first] < LEAD else first
        rest = min((loss for name, loss in losses.items() if name != best), default=math.inf)
        places.append(Place(value=value, text=text, entries=entries, best=best, lead=rest - losses[best]))
    if not places:
        raise InfeasibleError(f"nothing fits at any value of {axis}", "every chip was tried", "more devices")
    return Contest(
        axis=axis, places=tuple(places), crossings=tuple(_crossings(places)),
        evidence=tuple(f"{name}: {source}" for name, (_, source) in PATTERNS.items()),
    )  # fmt: skip


def _entry(name: str, chip: Chip, budget: Budget, options: Options) -> Entry:
    found = best_design(chip, budget, replace(options, family=name))
    return Entry(
        primitive=name,
        loss=found.loss,
        low=found.low,
        high=found.high,
        shape=found.shape,
        reason=found.reason,
    )


def _crossings(places: Sequence[Place]) -> list[Crossing]:
    found = []
    for a, b in pairwise(places):
        if a.best == b.best:
            continue
        gaps = [_gap(place, a.best, b.best) for place in (a, b)]
        share = 0.5 if None in gaps or gaps[0] == gaps[1] else gaps[0] / (gaps[0] - gaps[1])  # type: ignore[operator]
        value = math.exp(math.log(a.value) + min(max(share, 0.0), 1.0) * math.log(b.value / a.value))
        found.append(Crossing(before=a.best, after=b.best, value=value, low=a.value, high=b.value))
    return found


def _gap(place: Place, first: str, second: str) -> float | None:
    loss = {entry.primitive: entry.loss for entry in place.entries}
    one, other = loss.get(first), loss.get(second)
    return None if one is None or other is None else one - other
