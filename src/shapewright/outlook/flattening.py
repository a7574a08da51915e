"""Is it flattening? Growth of performance per unit over generations, with the interval of its change.

``ln y = a_lineage + b t + c t^2`` by least squares over generations; ``c < 0`` is flattening and its 90 % interval
(Student's t) decides: wholly below 0 ``flattening``, wholly above 0 ``accelerating``, else ``undecided``. The
growth in a year is ``b + 2 c t``. Decisions: a point is one generation of one maker, the geometric mean of its variants
(they share silicon, so they are not independent); every maker has its own level, all share growth and bend. The same
test by itself for every maker with enough generations. Neglected: announced figures that will change.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from scipy.stats import t as t_distribution

from shapewright.hardware.accelerator import Accelerator
from shapewright.outlook.lineages import LINEAGES, shipped

TESTED = ("NVIDIA", "AMD", "Google", "AWS", "Intel")
"""Lineages of datacentre parts."""
FEWEST_FREE = 2
"""Degrees of freedom that a test needs."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Point:
    """One generation of one maker."""

    lineage: str
    chips: tuple[str, ...]
    year: float
    value: float
    """Geometric mean over its variants, in the unit of the measure."""
    assumed: bool
    """True where one of the figures is assumed."""
    source: str


@dataclass(frozen=True, kw_only=True, slots=True)
class Trend:
    """The test of one measure."""

    name: str
    """For example ``16-bit per watt``."""
    scope: str
    """A lineage, or ``all makers``."""
    points: tuple[Point, ...]
    growth_first: tuple[float, float, float] | None
    """Factor per year at the first generation, with its 90 % interval; None where too few to test."""
    growth_last: tuple[float, float, float] | None
    bend: tuple[float, float, float] | None
    """c: change of ln growth per year and year over two, with its 90 % interval."""
    verdict: str


def generation_points(
    value: Callable[[Accelerator], tuple[float, bool, str] | None],
    lineages: Sequence[str] = TESTED,
) -> tuple[Point, ...]:
    """One point for every generation in which a variant has the measure.

    Args:
        value: the measure of an accelerator with whether it is assumed and its source; None where it is unknown.
        lineages: which makers.
    """
    points = []
    for name in lineages:
        for generation in LINEAGES[name]:
            rated = [(chip, value(chip)) for chip in map(shipped, generation)]
            known = [(chip, *found) for chip, found in rated if found is not None and chip.release_year]
            if not known:
                continue
            points.append(
                Point(
                    lineage=name, chips=tuple(chip.name for chip, *_ in known),
                    year=sum(chip.release_year or 0.0 for chip, *_ in known) / len(known),
                    value=math.exp(float(np.mean([math.log(each[1]) for each in known]))),
                    assumed=any(each[2] for each in known), source="; ".join(dict.fromkeys(each[3] for each in known)),
                )
            )  # fmt: skip
    return tuple(points)


def trends(measures: Mapping[str, tuple[Point, ...]]) -> tuple[Trend, ...]:
    """The test of every measure, over all makers and for each maker with enough generations."""
    found = []
    for name, points in measures.items():
        found.append(bend_of(name, "all makers", points))
        for lineage in dict.fromkeys(point.lineage for point in points):
            own = tuple(point for point in points if point.lineage == lineage)
            if len(own) >= 3 + FEWEST_FREE:
                found.append(bend_of(name, lineage, own))
    return tuple(found)


def bend_of(name: str, scope: str, points: Sequence[Point]) -> Trend:
    """The test of one set of generations."""
    # A maker with one generation says nothing about growth: it would only buy its own level.
    counts = {lineage: sum(p.lineage == lineage for p in points) for lineage in {p.lineage for p in points}}
    used = sorted((p for p in points if counts[p.lineage] > 1), key=lambda p: p.year)
    makers = sorted({p.lineage for p in used})
    free = len(used) - len(makers) - 2
    if free < FEWEST_FREE:
        need = len(makers) + 2 + FEWEST_FREE
        return Trend(name=name, scope=scope, points=tuple(points), growth_first=None, growth_last=None, bend=None,
                     verdict=f"not tested: {len(used)} generations of {max(need, 5)} needed")  # fmt: skip
    year = np.array([p.year for p in used])
    centre = year.mean()
    t = year - centre
    design = np.column_stack([*(np.array([p.lineage == m for p in used], float) for m in makers), t, t * t])
    target = np.log([p.value for p in used])
    theta, *_ = np.linalg.lstsq(design, target, rcond=None)
    residual = target - design @ theta
    covariance = np.linalg.pinv(design.T @ design) * float(residual @ residual) / free
    wide = float(t_distribution.ppf(0.95, free))

    def told(row: np.ndarray) -> tuple[float, float, float]:
        middle, sd = float(row @ theta[-2:]), math.sqrt(float(row @ covariance[-2:, -2:] @ row))
        return middle, middle - wide * sd, middle + wide * sd

    bend = told(np.array([0.0, 1.0]))
    ends = [told(np.array([1.0, 2.0 * (y - centre)])) for y in (year.min(), year.max())]
    verdict = "flattening" if bend[2] < 0 else "accelerating" if bend[1] > 0 else "undecided"
    first, last = ((math.exp(a), math.exp(b), math.exp(c)) for a, b, c in ends)
    return Trend(
        name=name,
        scope=scope,
        points=tuple(points),
        growth_first=first,
        growth_last=last,
        bend=bend,
        verdict=verdict,
    )
