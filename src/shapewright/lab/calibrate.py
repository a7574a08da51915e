"""Fitting a family's coefficients to measured kernels.

Decisions: least squares on the log ratio of predicted to measured time with a soft-L1 loss, so that a kernel twice
too slow counts as one twice too fast and a cliff does not bend the rest. Coefficients move in the log within their
physical bounds, with a weak prior at their start. Three parts by a fixed hash of the row: fit, conformal interval,
and report; nothing is fitted on what is reported.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import least_squares

from shapewright.cost.device import Device, device_of
from shapewright.cost.families import family_of, variants
from shapewright.cost.family import Family, Measurements
from shapewright.cost.formats import FORMATS, KernelFormat
from shapewright.cost.interval import CODES, FEWEST, REGIMES, conformal, regimes
from shapewright.errors import MeasurementError, ShapewrightError
from shapewright.hardware.accelerator import Accelerator
from shapewright.hardware.calibration import Calibration, Fit

REPORT_PARTS = (0, 1, 2)
"""Parts of the hash that are scored and never fitted."""
CONFORMAL_PARTS = (3,)
"""Parts that set the interval."""
PRIOR = 0.01
"""Weight of the prior: one unit of log away from the start costs this much of one per cent error per row."""
SCALE = 0.06
"""Errors beyond this are counted linearly (soft L1)."""
MAX_ROWS = 2000
"""Rows a fit uses at most, drawn evenly; twice and five times as many move no error by .1 % (checked on products)."""
MAX_STEPS = 25
"""Steps of the search; more move no error (checked on attention, experts and modules of H200)."""
IN_SAMPLE = 1.3
"""Widening [power of the ratio] of errors that the fit has seen; set so that the small NCCL tables are covered."""
FEWEST_IN_REGIME = 60
"""Conformal rows of a regime below which it shares the interval of all."""
SHIFT = 25.0
"""Taken off the logs, so that none is near zero: SciPy's difference steps are relative."""


def fit_family(
    rows: Measurements, device: Device, *, start: Mapping[str, float] | None = None, max_rows: int = MAX_ROWS
) -> dict[str, float]:
    """Fit the coefficients of the rows' family.

    Raises:
        MeasurementError: fewer rows than coefficients.
    """
    family = family_of(rows.family)
    spec = family.coefficients_of(rows.family)
    if len(rows) < len(spec):
        raise MeasurementError(
            f"{rows.accelerator}/{family.label}/{rows.number_format} has {len(rows)} usable rows",
            f"{len(spec)} coefficients need more", "measure more shapes",
        )  # fmt: skip
    if len(rows) > max_rows:
        rows = rows.take(np.random.default_rng(0).permutation(len(rows))[:max_rows])
    names = [c.name for c in spec]
    prior_values = {c.name: c.start for c in spec}
    for name in ("launch_s", "floor_s"):
        if name in prior_values:
            prior_values[name] = 0.7 * float(rows.seconds.min())
    low = np.log([max(c.low, 1e-12) for c in spec])
    high = np.log([c.high for c in spec])
    prior = np.clip(np.log([max(prior_values[name], 1e-12) for name in names]), low, high)
    first = (
        prior
        if start is None
        else np.log([max(start.get(name, prior_values[name]), 1e-12) for name in names])
    )
    fmt, measured, columns = format_of(rows), np.log(rows.seconds), family.prepare(rows.columns)
    pull = PRIOR * np.sqrt(len(rows)) * 0.1

    def residuals(x: NDArray) -> NDArray:
        predicted = family.time(dict(zip(names, np.exp(x + SHIFT), strict=True)), device, fmt, columns)
        return np.concatenate([np.log(predicted) - measured, pull * SCALE * (x + SHIFT - prior)])

    found = least_squares(
        residuals, np.clip(first, low + 1e-6, high - 1e-6) - SHIFT, bounds=(low - SHIFT, high - SHIFT),
        loss="soft_l1", f_scale=SCALE, diff_step=5e-5, max_nfev=MAX_STEPS,
    )  # fmt: skip
    return {name: float(f"{value:.6g}") for name, value in zip(names, np.exp(found.x + SHIFT), strict=True)}


def calibrate(rows: Measurements, device: Device, *, start: Mapping[str, float] | None = None) -> Fit:
    """Fit on one part of the rows, set the intervals on another and score on the third.

    Raises:
        MeasurementError: too few rows.
    """
    part = rows.part()
    held_out, apart = np.isin(part, REPORT_PARTS), np.isin(part, CONFORMAL_PARTS)
    fitted = rows.take(~held_out & ~apart)
    coefficients = fit_family(fitted, device, start=start)
    family, fmt = family_of(rows.family), format_of(rows)
    conformal_rows = rows.take(apart)
    ratio = ratios(family, coefficients, device, fmt, conformal_rows)
    place = regimes(family, device, fmt, conformal_rows.columns, coefficients.get("launch_s", 0.0))
    if len(conformal_rows) < FEWEST:
        # Too few rows to set some apart: the fit's own errors, widened.
        known = rows.take(~held_out)
        ratio = ratios(family, coefficients, device, fmt, known) ** IN_SAMPLE
        place = regimes(family, device, fmt, known.columns, coefficients.get("launch_s", 0.0))
    low, high = conformal(ratio)
    sizes = {name: v for name, v in fitted.columns.items() if name not in CODES}
    ranges = {name: (float(v.min()), float(v.max())) for name, v in sizes.items()}
    for i, name in enumerate(REGIMES):
        if (place == i).sum() >= FEWEST_IN_REGIME:
            ends = conformal(ratio[place == i])
            ranges[f"interval:{name}"] = (round(ends[0], 4), round(ends[1], 4))
    error = np.abs(1.0 / ratios(family, coefficients, device, fmt, rows.take(held_out)) - 1.0)
    return Fit(
        family=rows.family, number_format=rows.number_format, coefficients=coefficients, kind="fitted",
        source=f"{rows.source}; {', '.join(rows.kernels[:3])}" if rows.kernels else rows.source,
        num_rows=len(fitted), num_held_out=int(held_out.sum()),
        median_error=float(f"{np.median(error):.4g}") if error.size else 0.0,
        p90_error=float(f"{np.quantile(error, 0.9):.4g}") if error.size else 0.0,
        low=float(f"{low:.4g}"), high=float(f"{high:.4g}"), ranges=ranges,
    )  # fmt: skip


def calibrate_accelerator(
    accelerator: Accelerator,
    tables: Iterable[Measurements],
    *,
    tick: Callable[[str], None] = lambda text: None,
) -> tuple[Calibration, tuple[str, ...]]:
    """All fits of one accelerator, and a line for each table that could not be fitted.

    ``tick`` is called with the name of each fit as it is done.
    """
    fits, failed = [], []
    for table in tables:
        for rows in variants(table):
            name = f"{accelerator.name}/{rows.family}/{rows.number_format}"
            try:
                fits.append(calibrate(rows, device_for(accelerator, rows)))
            except ShapewrightError as error:
                failed.append(f"{name}: {error.what}; {error.why}")
            tick(name)
    return Calibration(accelerator=accelerator.name, fits=tuple(fits)), tuple(failed)


def device_for(accelerator: Accelerator, rows: Measurements) -> Device:
    """The nominal numbers that a family's rows run against; attention multiplies in 16 bits whatever its cache holds.

    Raises:
        NotCoveredError: the accelerator's peak or bandwidth is unknown.
    """
    return device_of(accelerator, rows.number_format if family_of(rows.family).own_peak else "bf16")


def ratios(
    family: Family, coefficients: Mapping[str, float], device: Device, fmt: KernelFormat, rows: Measurements
) -> NDArray[np.float64]:
    """Measured over predicted time of each row."""
    return rows.seconds / family.time(coefficients, device, fmt, family.prepare(rows.columns))


def format_of(rows: Measurements) -> KernelFormat:
    """The kernel format of the rows; 16 bits where their format names another thing (bytes, a collective)."""
    return FORMATS.get(rows.number_format, FORMATS["bf16"])
