"""The interval of a kernel's time: which multipliers hold 90 % of measured over predicted.

Split-conformal: the two tails of measured over predicted on rows that neither the fit nor the report saw, apart for
the regimes that err differently: *short* kernels (within ``SHORT`` launches), *memory*-bound and *compute*-bound ones.
They stand in a fit's ``ranges`` as ``interval:short`` and so on, beside the fitted range of each dimension; ``low``
and ``high`` of the fit are those of all regimes together. Outside the fitted range the interval widens by
``WIDENING`` per factor of two. Reference: Vovk et al. 2005; Romano et al. 2019, arXiv 1905.03222 (both tails apart).
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from shapewright.cost.device import Device
from shapewright.cost.family import Columns, Family
from shapewright.cost.formats import KernelFormat
from shapewright.hardware.calibration import Fit

REGIMES = ("short", "memory", "compute")
COVERAGE = 0.90
FEWEST = 20
"""Rows below which no tail is read off, and the interval is ``UNKNOWN``."""
UNKNOWN = (0.5, 2.0)
SHORT = 3.0
"""A kernel whose ideal time is within this many launches is short."""
CODES = frozenset(
    {"backend", "kernel", "library", "distribution", "model", "gemm_format", "step_kind", "kind", "mode"}
)
"""Columns that name a kernel and have no range."""
WIDENING = 0.15
"""Relative widening per factor of two outside the fitted range; assumed."""


def roofline(family: Family, device: Device, fmt: KernelFormat, columns: Columns) -> NDArray[np.float64]:
    """The plain roofline: the longest of FLOP over peak, bytes over bandwidth and bytes sent over the link [s]."""
    ideal = np.maximum(family.flops(columns) / device.peak, family.num_bytes(fmt, columns) / device.bandwidth)
    if family.link_bytes is not None:
        ideal = np.maximum(ideal, family.link_bytes(columns) / device.link)
    return ideal


def regimes(
    family: Family, device: Device, fmt: KernelFormat, columns: Columns, launch_s: float
) -> NDArray[np.int64]:
    """The place in :data:`REGIMES` of each row."""
    bound = np.where(
        family.flops(columns) / device.peak > family.num_bytes(fmt, columns) / device.bandwidth, 2, 1
    )
    return np.where(roofline(family, device, fmt, columns) < SHORT * launch_s, 0, bound)


def conformal(ratio: NDArray[np.float64], coverage: float = COVERAGE) -> tuple[float, float]:
    """Multipliers that hold ``coverage`` of fresh rows, from measured over predicted of rows not fitted."""
    if ratio.size < FEWEST:
        return UNKNOWN
    rank = min((ratio.size + 1) * (1.0 + coverage) / 2.0 / ratio.size, 1.0)
    return float(np.quantile(ratio, 1.0 - rank)), float(np.quantile(ratio, rank))


def multipliers(
    fit: Fit, family: Family, device: Device, fmt: KernelFormat, columns: Columns
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Lower and upper multiplier of each row's predicted time."""
    place = regimes(family, device, fmt, columns, fit.coefficients.get("launch_s", 0.0))
    ends = [fit.ranges.get(f"interval:{name}", (fit.low, fit.high)) for name in REGIMES]
    low, high = (np.array([end[side] for end in ends])[place] for side in (0, 1))
    outside = np.zeros(place.shape)
    for name, values in columns.items():
        if name in CODES:
            continue
        least, most = fit.ranges.get(name, (0.0, np.inf))
        above = np.log2(np.maximum(values, 1.0) / max(most, 1.0))
        below = np.log2(least / np.maximum(values, 1e-9)) if least > 0 else np.zeros(place.shape)
        outside += np.clip(np.maximum(above, below), 0.0, 20.0)
    wider = (1.0 + WIDENING) ** outside
    return low / wider, high * wider
