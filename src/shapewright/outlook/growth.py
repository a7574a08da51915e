"""Growth of training compute: a straight line of log FLOP over time, with an interval from resampled models.

``log10 C = a + b t``; growth per year ``10^b``, doubling time ``12 log10(2) / b`` months. The interval resamples models
with replacement: it holds the scatter of the selection, not the error of each estimate (which the confidence states).
Neglected: models without an estimate are not missing at random; most closed models of late have none.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from shapewright.errors import UsageError
from shapewright.outlook.milestones import Milestone

DRAWS = 2000
"""Resamples behind an interval."""
FEWEST = 5
"""Fewest models for a line."""
LEAST_SPAN = 1.0
"""Fewest years that they must cover."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Growth:
    """A line through a set of models."""

    name: str
    """Which set."""
    count: int
    first: float
    """Year of the first model."""
    last: float
    per_year: float
    """Factor per year."""
    low: float
    """Lower end of its 90 % interval."""
    high: float
    doubling_months: float
    doubling_low: float
    """Of the highest growth; negative and infinite ends mean that the set may not grow."""
    doubling_high: float
    r2: float
    """Share of the variance of log FLOP that the line explains."""
    scatter: float
    """Standard deviation of the models around the line [log10]."""
    intercept: float
    """log10 FLOP of the line at the year ``origin``."""
    slope: float
    """log10 per year."""
    origin: float

    def flop(self, year: float) -> float:
        """The line's FLOP in a year."""
        return 10.0 ** (self.intercept + self.slope * (year - self.origin))

    def year_of(self, flop: float) -> float | None:
        """The year in which the line reaches a compute; None where it does not grow."""
        if self.slope <= 0:
            return None
        return self.origin + (math.log10(flop) - self.intercept) / self.slope


def fit_growth(name: str, rows: Sequence[Milestone], *, seed: int = 0) -> Growth:
    """The growth of a set.

    Raises:
        UsageError: fewer than five models, or they appeared within a year.
    """
    year = np.array([row.year for row in rows])
    value = np.log10([row.flop.value for row in rows])
    if len(rows) < FEWEST or np.ptp(year) < LEAST_SPAN:
        span = float(np.ptp(year)) if len(rows) else 0.0
        raise UsageError(
            f"{len(rows)} models of {name} span {span:.1f} years",
            f"a growth rate needs {FEWEST} over at least {LEAST_SPAN:g} year",
            "choose an earlier --since, or another --domain",
        )
    origin = float(year.mean())
    slope, intercept = _line(year - origin, value)
    draw = np.random.default_rng(seed).integers(0, len(rows), (DRAWS, len(rows)))
    slopes = _slopes(year[draw], value[draw])
    low, high = (float(end) for end in np.nanquantile(slopes, [0.05, 0.95]))
    residual = value - intercept - slope * (year - origin)
    return Growth(
        name=name, count=len(rows), first=float(year.min()), last=float(year.max()), per_year=10.0**slope,
        low=10.0**low, high=10.0**high, doubling_months=_months(slope), doubling_low=_months(high),
        doubling_high=_months(low), r2=float(1.0 - residual.var() / value.var()),
        scatter=float(residual.std(ddof=2)), intercept=intercept, slope=slope,
        origin=origin,
    )  # fmt: skip


def _line(x: NDArray[np.float64], y: NDArray[np.float64]) -> tuple[float, float]:
    slope = float(_slopes(x[None], y[None])[0])
    return slope, float(y.mean() - slope * x.mean())


def _slopes(x: NDArray[np.float64], y: NDArray[np.float64]) -> NDArray[np.float64]:
    """Least-squares slope of every row; nan where all of a resample share one date."""
    dx, dy = x - x.mean(axis=1, keepdims=True), y - y.mean(axis=1, keepdims=True)
    square = (dx * dx).sum(axis=1)
    return np.divide((dx * dy).sum(axis=1), square, out=np.full(len(x), np.nan), where=square > 0)


def _months(slope: float) -> float:
    return 12.0 * math.log10(2.0) / slope if slope != 0 else math.inf
