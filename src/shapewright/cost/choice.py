"""Which fit prices a kernel: its own, or the nearest one of the same device.

Decisions: families and formats without a fit of their own use the nearest one (``FALLBACK``), never a guess about
another family. Of several measured kernels that do the same work all are returned, and the fastest is priced; one
fitted on few rows, or badly, is no candidate while a better one is there, or its errors would look like speed.
"""

from __future__ import annotations

import math
from collections.abc import Iterable

from shapewright.cost.library import matches
from shapewright.hardware.calibration import Calibration, Fit

FALLBACK = {
    "fp16": ("bf16",), "tf32": ("bf16",), "fp32": ("bf16",), "fp8": ("bf16",), "fp8_block": ("fp8", "bf16"),
    "nvfp4": ("fp8", "bf16"), "int8": ("fp8", "bf16"), "int8_wo": ("bf16",), "int4_wo": ("int8_wo", "bf16"),
    "bytes": ("fp8",), "ternary": ("int4_wo", "int8_wo", "bf16"),
}  # fmt: skip
"""Which format's coefficients stand in, in order; they are ratios to the wanted format's own peak and bytes."""
SCAN_FITS = {"delta": "gdn", "kda": "kda", "rwkv7": "kda", "ssd": "mamba2"}
"""Measured family of a kind of scan; the rest, and what is not measured here, borrow ``gdn``."""
OWN_SCANS = ("delta", "kda")
"""Kinds of scans that were measured themselves; the others run kernels of the library that has a gradient."""
FORWARD_ONLY = ("flashinfer", "flashkda")
"""Scans without a gradient: serving kernels, several times as fast as those that train (on GB200 .32 and 1.27 ms for one
sequence of 8,192 tokens and 96 heads; flash-linear-attention's README measures 1.265 ms)."""
FEWEST_ROWS = 100
"""Fitted rows below which a kernel is a candidate only where there is no other."""
WORST_MEDIAN = 0.15
"""The same for its median error."""


def formats_for(number_format: str) -> tuple[str, ...]:
    """The format and those that stand in, in order."""
    return (number_format, *FALLBACK.get(number_format, ()))


def base_of(fit: Fit) -> str:
    """The family of a fit's name: ``attention`` of ``attention/128w.vllm``."""
    return fit.family.partition("/")[0]


def variant_of(fit: Fit) -> str:
    """What follows the family in a fit's name."""
    return fit.family.partition("/")[2]


def fit_of(calibration: Calibration, family: str, number_format: str) -> Fit:
    """The fit of a family in a format, its own or the fallback.

    Raises:
        NotCoveredError: neither exists.
    """
    for name in formats_for(number_format):
        fit = calibration.get(family, name)
        if fit is not None:
            return fit
    return calibration.find(family, number_format)


def kernels_of(calibration: Calibration, family: str, variant: str, number_format: str) -> tuple[Fit, ...]:
    """All measured kernels of a variant in a format, or in the first fallback that has some; none where none is."""
    fits = [fit for fit in calibration.fits if base_of(fit) == family and matches(variant_of(fit), variant)]
    for name in formats_for(number_format):
        found = tuple(fit for fit in fits if fit.number_format == name)
        if found:
            return found
    return ()


def candidates(fits: Iterable[Fit]) -> tuple[Fit, ...]:
    """The kernels that are trusted to be compared; all of them where none is."""
    fits = tuple(fits)
    good = tuple(fit for fit in fits if fit.num_rows >= FEWEST_ROWS and fit.median_error <= WORST_MEDIAN)
    return good or fits


def attention_fits(
    calibration: Calibration, family: str, number_format: str, head_dim: float, windowed: bool
) -> tuple[Fit, ...]:
    """The kernels of a head size, or of the nearest size that was measured.

    Raises:
        NotCoveredError: no attention kernel is calibrated here.
    """
    formats = formats_for(number_format)

    def distance(fit: Fit) -> tuple[int, float, bool]:
        size = variant_of(fit).partition(".")[0]
        place = formats.index(fit.number_format) if fit.number_format in formats else len(formats)
        gap = abs(math.log(max(head_dim, 1.0) / float(size.rstrip("w")))) if size else 0.0
        return place, gap, size.endswith("w") != windowed

    fits = [fit for fit in calibration.fits if base_of(fit) == family]
    if not fits:
        return (calibration.find(family, number_format),)
    distances = [distance(fit) for fit in fits]
    nearest = min(distances)
    return tuple(fit for fit, away in zip(fits, distances, strict=True) if away == nearest)


def scan_fits(calibration: Calibration, kind: str, step: str, *, gradient: bool = False) -> tuple[Fit, ...]:
    """The kernels of a kind of scan (``delta``, ``kda``, ``ssd``...); ``step`` is ``scan`` or ``recurrent``.

    With ``gradient`` those that can train, where any was measured.

    Raises:
        NotCoveredError: no scan is calibrated here.
    """
    for family in (SCAN_FITS.get(kind, "gdn"), "gdn"):
        found = kernels_of(calibration, family, step, "bf16")
        if found:
            both = [fit for fit in found if not any(word in fit.family for word in FORWARD_ONLY)]
            return candidates(both if gradient and both else found)
    return (calibration.find(f"gdn/{step}", "bf16"),)


def most_measured(fits: Iterable[Fit]) -> Fit:
    """The fit that speaks for several."""
    return max(fits, key=lambda fit: fit.num_rows)
