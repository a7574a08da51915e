"""The second level: what the physics gets wrong, read off measured neighbours.

The log of measured over predicted is interpolated between the nearest measured rows, never the time itself, so that
far from any row the physics stands alone::

    factor = exp(median_w(r) * sum w / (sum w + w0)),   w = 1 / (d^3 + EPSILON^3),  d the distance in log2 of the dimensions

Decisions: the median, weighted by nearness, because neighbours served by another kernel would draw a mean away;
distances count in factors of two (rows and columns of a product twice, as kernels tile them), and a number of rows just
past a tile lies apart from the full tile beside it; the physics counts as much as one neighbour at ``REACH``. The
interval is conformal on the neighbours' own leave-one-out errors.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from pkgutil import resolve_name

import numpy as np
from numpy.typing import NDArray
from scipy.spatial import KDTree

from shapewright.cost.device import Device
from shapewright.cost.families import family_of, variants
from shapewright.cost.family import Columns, Measurements
from shapewright.cost.formats import KernelFormat
from shapewright.cost.interval import conformal
from shapewright.errors import MissingPackageError
from shapewright.hardware.calibration import Fit

TABLES = "shapewright.validation.silicon:measured_tables"
"""The reader of the installed tables, found by name as an entry point would be: it needs pyarrow, the core must not."""
Tables = Callable[[str], Iterable[Measurements]]
"""The measured rows of a family on one accelerator."""
NEIGHBOURS = 12
"""Rows that are looked at."""
REACH = 1.5
"""Distance [factors of two] at which the physics counts as much as one neighbour."""
EPSILON = 0.1
"""Distance below which neighbours count alike."""
WEIGHTS = {"m": 2.0, "n": 2.0}
"""Dimensions that kernels tile, with the weight of their distance."""
TILED = "m"
"""The dimension that is measured at tiles and one more."""
PAST_TILE = 0.5
"""Distance between a full tile and one row more."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Residual:
    """Measured rows with what the physics got wrong on them."""

    names: tuple[str, ...]
    tree: KDTree
    logs: NDArray[np.float64]
    """Log of measured over predicted of each row."""
    low: float = 1.0
    """Multiplier of the corrected prediction at the lower end of the 90 % interval."""
    high: float = 1.0
    median_error: float = 0.0
    """Median error of the corrected rows, each without itself."""
    p90_error: float = 0.0

    @classmethod
    def of(cls, rows: Measurements, logs: NDArray[np.float64]) -> Residual:
        """From measured rows and the logs of measured over predicted time."""
        # A dimension that never changes tells nothing, and a prediction need not name it.
        names = tuple(n for n, column in rows.columns.items() if column.size and (column != column[0]).any())
        names = names or tuple(rows.columns)[:1]
        places = _places(rows.columns, names)
        tree = KDTree(places)
        distance, index = _nearest(tree, places, min(NEIGHBOURS + 1, len(rows)))
        left_out = _centre(logs, distance[:, 1:], index[:, 1:])
        low, high = conformal(np.exp(logs - left_out))
        error = np.abs(np.expm1(left_out - logs))
        return cls(
            names=names, tree=tree, logs=logs, low=low, high=high, median_error=float(np.median(error)),
            p90_error=float(np.quantile(error, 0.9)),
        )  # fmt: skip

    def factor(self, columns: Columns) -> NDArray[np.float64]:
        """What to multiply the predicted times with."""
        distance, index = _nearest(self.tree, _places(columns, self.names), min(NEIGHBOURS, self.logs.size))
        return np.exp(_centre(self.logs, distance, index))


def _nearest(tree: KDTree, places: NDArray, count: int) -> tuple[NDArray, NDArray]:
    distance, index = tree.query(places, k=count)
    return np.asarray(distance).reshape(len(places), -1), np.asarray(index).reshape(len(places), -1)


def _places(columns: Columns, names: tuple[str, ...]) -> NDArray[np.float64]:
    """Log2 of the dimensions; zero (no window, a code) lies one factor of two below one."""
    axes = [np.log2(np.maximum(columns[name], 0.5)) * WEIGHTS.get(name, 1.0) for name in names]
    if TILED in names:
        rows = columns[TILED]
        axes.append(np.where((rows > 16) & (rows % 2 == 1), PAST_TILE, 0.0))
    return np.stack(axes, axis=1)


def _centre(logs: NDArray, distance: NDArray, index: NDArray) -> NDArray[np.float64]:
    """Weighted median of the neighbours' logs, interpolated between the two in the middle, pulled towards zero."""
    if index.shape[1] == 0:
        return np.zeros(len(index))
    weight = 1.0 / (distance**3 + EPSILON**3)
    values = logs[index]
    order = np.argsort(values, axis=1)
    values, sorted_weight = np.take_along_axis(values, order, 1), np.take_along_axis(weight, order, 1)
    total = weight.sum(axis=1)
    middle = np.cumsum(sorted_weight, axis=1) - 0.5 * sorted_weight
    after = np.clip((middle < 0.5 * total[:, None]).sum(axis=1), 1, max(values.shape[1] - 1, 1))
    before, rows = after - 1, np.arange(len(index))
    if values.shape[1] == 1:
        centre = values[:, 0]
    else:
        step = (0.5 * total - middle[rows, before]) / (middle[rows, after] - middle[rows, before])
        step = np.clip(step, 0.0, 1.0)
        centre = values[rows, before] * (1.0 - step) + values[rows, after] * step
    return centre * total / (total + 1.0 / (REACH**3 + EPSILON**3))


@dataclass(frozen=True, kw_only=True, slots=True)
class MeasuredLevel:
    """The measured kernels of one accelerator, read family by family when first asked for."""

    tables: Tables
    read: dict[str, Mapping[tuple[str, str], Measurements]] = field(default_factory=dict, compare=False)
    """Rows by (variant, format) of each family that was asked for."""
    built: dict[tuple[str, str], Residual | None] = field(default_factory=dict, compare=False)

    def residual(self, fit: Fit, device: Device, fmt: KernelFormat) -> Residual | None:
        """What the physics of ``fit`` gets wrong on the measured rows; None where nobody measured its kernel."""
        key = (fit.family, fit.number_format)
        if key not in self.built:
            family = family_of(fit.family)
            if family.name not in self.read:
                parts = [part for table in self.tables(family.name) for part in variants(table)]
                self.read[family.name] = {(part.family, part.number_format): part for part in parts}
            rows = self.read[family.name].get(key)
            self.built[key] = None
            if rows is not None:
                predicted = family.time(fit.coefficients, device, fmt, family.prepare(rows.columns))
                self.built[key] = Residual.of(rows, np.log(rows.seconds / predicted))
        return self.built[key]


def installed_tables(accelerator: str) -> Tables:
    """The rows of the installed tables for one accelerator; none where the tables do not hold it.

    Raises:
        MissingPackageError: the extra ``silicon`` is not installed (when a family is first read).
    """

    def rows(family: str) -> Iterable[Measurements]:
        try:
            return resolve_name(TABLES)(accelerator, family=family)[0]
        except ImportError as error:
            raise MissingPackageError(
                "--level residual", error.name or "aiconfigurator-core", extra="silicon"
            ) from error

    return rows
