"""What an accelerator does per watt, area, transistor, dollar and byte of bandwidth, on four lines of evidence.

The lines: the dense peak at equal precision, the peak in its best floating-point format, the fastest matrix product
that somebody measured, and published training runs. Decisions: the denominator is the TDP as its maker states it
(TGP, TBP and per-GPU maximum differ by vendor; a rack's share is higher), the purchase price as published, the compute
area where it is known; what is unknown is None. Training runs are compared only inside a group of like runs; facts with
their sources are in ``data/history/rates.csv``.
"""

from __future__ import annotations

import csv
from dataclasses import dataclass
from functools import lru_cache

from shapewright.evidence import Figure
from shapewright.hardware.accelerator import Accelerator
from shapewright.hardware.catalog import DATA
from shapewright.outlook.lineages import best_peak, equal_peak

TABLE = DATA / "history" / "rates.csv"
UNITS = {
    "watt": "tdp",
    "mm2": "die_area",
    "transistor": "transistors",
    "dollar": "price",
    "byte/s": "memory_bandwidth",
}
"""What performance is divided by, and the field of the accelerator that holds it."""
_SCALE = {"mm2": 1e6}
"""Units of SI in one of ours."""
LINES = ("16-bit peak", "8-bit peak", "4-bit peak", "best peak", "measured matmul")


@dataclass(frozen=True, kw_only=True, slots=True)
class Rate:
    """A measured rate of one accelerator."""

    what: str
    """``joule`` (FLOP per measured joule of a matrix product) or ``training`` (model FLOP/s of one device)."""
    group: str
    """Runs of one group are comparable."""
    chip: str
    number_format: str
    value: float
    source: str


@dataclass(frozen=True, kw_only=True, slots=True)
class Rating:
    """One accelerator on one line."""

    chip: str
    line: str
    year: float | None
    number_format: str
    performance: Figure
    """[FLOP/s]."""
    per: dict[str, Figure | None]
    """Performance over each of :data:`UNITS` [FLOP/s per W, mm2, transistor, USD; FLOP per byte]; None: unknown."""


@lru_cache(maxsize=1)
def rates() -> tuple[Rate, ...]:
    """The measured rates."""
    with TABLE.open(encoding="utf-8", newline="") as handle:
        return tuple(
            Rate(what=row["what"], group=row["group"], chip=row["chip"], number_format=row["format"],
                 value=float(row["value"]), source=row["source"])
            for row in csv.DictReader(handle)
        )  # fmt: skip


def performance(accelerator: Accelerator, line: str) -> tuple[str, Figure] | None:
    """Format and rate of an accelerator on one of :data:`LINES`; None where nobody published it."""
    if line == "measured matmul":
        for name in ("bf16", "fp16"):
            if name in accelerator.achievable_flops:
                return name, accelerator.achievable_flops[name]
        return None
    found = (
        best_peak(accelerator)
        if line == "best peak"
        else equal_peak(accelerator, int(line.partition("-")[0]))
    )
    return None if found is None else (found[0], accelerator.peak_flops[found[0]])


def rate(accelerator: Accelerator, line: str) -> Rating | None:
    """The rating of an accelerator on a line; None where its performance is unknown."""
    found = performance(accelerator, line)
    if found is None:
        return None
    fmt, figure = found
    return Rating(
        chip=accelerator.name, line=line, year=accelerator.release_year, number_format=fmt, performance=figure,
        per={unit: over(figure, getattr(accelerator, field), _SCALE.get(unit, 1.0)) for unit, field in UNITS.items()},
    )  # fmt: skip


def over(figure: Figure, divisor: Figure | None, scale: float = 1.0) -> Figure | None:
    """``figure`` over ``divisor`` in units of ``1/scale``; a range of the divisor is kept, an unknown one is None."""
    if divisor is None:
        return None
    low, high = (None if end is None else figure.value / (end * scale) for end in (divisor.high, divisor.low))
    kind = "assumed" if "assumed" in (figure.kind, divisor.kind) else "derived"
    return Figure(value=figure.value / (divisor.value * scale), unit=figure.unit, kind=kind,
                  source=f"{figure.source}; {divisor.source}", low=low, high=high)  # fmt: skip
