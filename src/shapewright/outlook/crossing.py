"""Where another primitive becomes the best one: token mixers against each other along one property.

Decisions: the primitives are the families of the search (:mod:`search.families`), each at the ratio of a published model
and each with shape, plan and batch of its own on every chip. The priors about what a mixer does to the loss are wide and
mostly centred on attention (:mod:`scaling.mixers`), so the lowest loss alone decides nothing: a primitive is the best only
where its lead over every other exceeds the 90 % interval of their difference (:func:`search.contrast.contrast_sd`, what
both share cancelled); else it is a tie, and said so. A crossing is told only between two such bests, interpolated between
the values of the property where they change, in logarithms. A primitive that cannot be priced on a chip is left out there.
Neglects: what a longer context is worth; the loss of a token does not fall with it here.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise

from shapewright.architecture.shape import Shape
from shapewright.errors import InfeasibleError, NotCoveredError
from shapewright.outlook.hypothetical import Chip
from shapewright.outlook.outcome import search
from shapewright.scaling.law import Z90
from shapewright.search.budget import Budget
from shapewright.search.contrast import contrast_sd
from shapewright.search.families import PATTERNS
from shapewright.search.joint import Options
from shapewright.search.ranking import Ranking

TIE = "tie"
"""What stands in place of the best primitive where none leads for certain."""


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
    """Why there is no loss; empty where there is one."""
    behind: float | None = None
    """ln loss above the lowest of the chip."""
    behind_sd: float | None = None
    """Standard deviation of that difference: the priors of both mixers and the scatter of single shapes."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Place:
    """All primitives at one value of the property."""

    value: float
    text: str
    entries: tuple[Entry, ...]
    first: str
    """The primitive with the lowest predicted loss."""
    tied: tuple[str, ...]
    """Those that the 90 % interval of the difference does not tell from it."""
    lead: float
    """Loss of the next one less the first's."""

    @property
    def best(self) -> str:
        """The first where it leads for certain, else ``tie``."""
        return TIE if self.tied else self.first


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
        place = _place(value, text, chip_at(text), budget, options)
        if place is not None:
            places.append(place)
    if not places:
        raise InfeasibleError(f"nothing fits at any value of {axis}", "every chip was tried", "more devices")
    return Contest(
        axis=axis, places=tuple(places), crossings=tuple(crossings_of(places)),
        evidence=tuple(f"{name}: {source}" for name, (_, source) in PATTERNS.items()),
    )  # fmt: skip


def _place(value: float, text: str, chip: Chip, budget: Budget, options: Options) -> Place | None:
    """All primitives on one chip; None where none fits."""
    found: dict[str, Ranking | str] = {}
    for name in PATTERNS:
        try:
            found[name] = search(chip, budget, replace(options, family=name))
        except (InfeasibleError, NotCoveredError) as error:
            found[name] = error.what
    ranked = {name: ranking for name, ranking in found.items() if isinstance(ranking, Ranking)}
    if not ranked:
        return None
    losses = {name: float(ranking.loss[ranking.best]) for name, ranking in ranked.items()}
    first = min(losses, key=lambda name: losses[name])
    entries = tuple(_entry(name, each, ranked[first]) for name, each in found.items())
    return Place(
        value=value, text=text, entries=entries, first=first,
        tied=tuple(
            entry.primitive
            for entry in entries
            if entry.primitive != first and entry.behind is not None and entry.behind < Z90 * (entry.behind_sd or 0.0)
        ),
        lead=min((loss for name, loss in losses.items() if name != first), default=math.inf) - losses[first],
    )  # fmt: skip


def _entry(name: str, found: Ranking | str, first: Ranking) -> Entry:
    if isinstance(found, str):
        return Entry(primitive=name, loss=None, low=None, high=None, shape="-", reason=found)
    arm, row = found.place(found.best)
    loss, lowest = float(found.loss[found.best]), float(first.loss[first.best])
    return Entry(
        primitive=name, loss=loss, low=float(arm.prediction.low[row]), high=float(arm.prediction.high[row]),
        shape=found.shape(found.best).name, reason="", behind=math.log(loss / lowest),
        behind_sd=0.0 if found is first else contrast_sd(found.law, _run(first), _run(found)),
    )  # fmt: skip


def _run(ranking: Ranking) -> tuple[Shape, float]:
    return ranking.shape(ranking.best), float(ranking.tokens[ranking.best])


def crossings_of(places: Sequence[Place]) -> list[Crossing]:
    """The changes of the certain best between neighbours that have one."""
    found = []
    for a, b in pairwise(place for place in places if place.best != TIE):
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
