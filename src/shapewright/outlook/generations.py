"""A step from one accelerator to the next, split into power, area, transistors, clock, architecture and format.

The split telescopes: ``FLOP/s = P x (A/P) x (T/A) x f x (F/(f T)) x (F'/F)`` with power P, compute area A, transistors T,
clock f, peak F at equal precision and F' in the compared format. The ratio of two chips is the product of the ratios of
these factors, so the logarithmic shares add to one; a figure that nobody published drops out and its two factors merge
under a name that says so. A die area that is only known as a range gives its shares as a range.
What each gives *by itself* (power 43 %, area 82 %, transistors 116 % of H100 to B200) overlaps and is shown beside.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from shapewright.evidence import Figure
from shapewright.hardware.accelerator import Accelerator
from shapewright.outlook.lineages import CLASSES, WIDTH, Choice, equal_peak, peak_of

_LINKS = {
    ("", "power"): "power", ("", "area"): "area", ("", "transistors"): "transistors", ("", "clock"): "transistors x clock",
    ("power", "area"): "area per watt", ("power", "transistors"): "transistors per watt",
    ("power", "clock"): "transistors per watt, clock", ("area", "transistors"): "transistors per area",
    ("area", "clock"): "transistors per area, clock", ("transistors", "clock"): "clock",
    ("clock", "peak"): "architecture (FLOP per transistor and clock)",
    ("transistors", "peak"): "clock and architecture (FLOP per transistor)",
    ("area", "peak"): "transistors, clock and architecture (FLOP per area)",
    ("power", "peak"): "all but power (FLOP per watt)", ("", "peak"): "all together",
    ("peak", "format"): "number format",
}  # fmt: skip


@dataclass(frozen=True, kw_only=True, slots=True)
class Part:
    """One factor of a step."""

    name: str
    ratio: float
    share: float
    """ln ratio over ln of the whole gain; the shares of a step add to one."""
    share_low: float
    """Over the range of the die areas; equal to ``share`` where areas are published."""
    share_high: float
    assumed: bool
    """True where it rests on an assumed figure."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Step:
    """From one accelerator to another."""

    first: str
    last: str
    formats: tuple[str, str]
    years: float | None
    performance: float
    """Ratio of the dense peaks."""
    per_watt: Figure | None
    per_area: Figure | None
    per_transistor: Figure | None
    per_dollar: Figure | None
    per_bandwidth: Figure | None
    """FLOP per byte of memory bandwidth: above 1 the memory fell behind."""
    parts: tuple[Part, ...]
    alone: dict[str, float]
    """Share of the gain that power, area, transistors and clock would give each by itself; they overlap."""


def step(first: Choice, last: Choice, *, bits: int = 16) -> Step:
    """The step from one accelerator to another at one width of numbers.

    Raises:
        NotCoveredError: one has no published peak of this width.
    """
    (fmt_a, peak_a), (fmt_b, peak_b) = peak_of(first, bits), peak_of(last, bits)
    a, b = first.accelerator, last.accelerator
    gain = peak_b / peak_a
    anchors = _anchors(first, last, bits, gain)
    years = None if a.release_year is None or b.release_year is None else b.release_year - a.release_year

    def per(name: str, figure: str) -> Figure | None:
        ratio = _ratio(getattr(a, figure), getattr(b, figure))
        if ratio is None:
            return None
        low, high = (None if end is None else gain / end for end in (ratio.high, ratio.low))
        return Figure(value=gain / ratio.value, unit="1", kind=ratio.kind, source=f"peak over {name}: {ratio.source}",
                      low=low, high=high)  # fmt: skip

    return Step(
        first=a.name, last=b.name, formats=(fmt_a, fmt_b), years=years, performance=gain,
        per_watt=per("TDP", "tdp"), per_area=per("compute area", "die_area"),
        per_transistor=per("transistors", "transistors"), per_dollar=per("purchase price", "price"),
        per_bandwidth=per("memory bandwidth", "memory_bandwidth"), parts=_parts(anchors, gain),
        alone={name: math.log(ratio.value) / math.log(gain) for name, ratio in anchors.items()
               if name in ("power", "area", "transistors") and gain != 1.0}
        | _clock_alone(a, b, gain),
    )  # fmt: skip


def _clock_alone(a: Accelerator, b: Accelerator, gain: float) -> dict[str, float]:
    ratio = _ratio(a.clock, b.clock)
    return {} if ratio is None or gain == 1.0 else {"clock": math.log(ratio.value) / math.log(gain)}


def _ratio(a: Figure | None, b: Figure | None) -> Figure | None:
    """``b / a`` with the widest range that both allow; None where one is unknown."""
    if a is None or b is None:
        return None
    ranged = any(end is not None for figure in (a, b) for end in (figure.low, figure.high))
    low = (b.low or b.value) / (a.high or a.value) if ranged else None
    high = (b.high or b.value) / (a.low or a.value) if ranged else None
    kind = "assumed" if "assumed" in (a.kind, b.kind) else "derived"
    return Figure(
        value=b.value / a.value, unit="1", kind=kind, source=f"{a.source}; {b.source}", low=low, high=high
    )


def _anchors(first: Choice, last: Choice, bits: int, gain: float) -> dict[str, Figure]:
    """Ratios of what is known of both, from the outside in."""
    a, b = first.accelerator, last.accelerator
    found: dict[str, Figure] = {}
    for name, field in (("power", "tdp"), ("area", "die_area"), ("transistors", "transistors")):
        ratio = _ratio(getattr(a, field), getattr(b, field))
        if ratio is not None:
            found[name] = ratio
    clock = _ratio(a.clock, b.clock)
    if clock is not None and "transistors" in found:
        count = found["transistors"]
        found["clock"] = Figure(
            value=count.value * clock.value,
            unit="1",
            kind=count.kind,
            source=f"{count.source}; {clock.source}",
        )
    equal = _equal_ratio(first, last, bits)
    found["peak"] = Figure(value=equal, unit="1", kind="derived", source="dense peaks at equal precision")
    if abs(equal / gain - 1.0) > 1e-12:
        found["format"] = Figure(
            value=gain, unit="1", kind="derived", source="dense peaks in the compared formats"
        )
    return found


def _equal_ratio(first: Choice, last: Choice, bits: int) -> float:
    """Ratio of the peaks at the width that both have: the compared one, or the widest where the formats differ."""
    formats = [peak_of(choice, bits)[0] for choice in (first, last)]
    if WIDTH[formats[0]] != WIDTH[formats[1]]:
        for width in (b for b in CLASSES if b <= max(WIDTH[f] for f in formats)):
            peaks = [equal_peak(choice.accelerator, width) for choice in (first, last)]
            if peaks[0] is not None and peaks[1] is not None:
                return peaks[1][1] / peaks[0][1]
    return peak_of(last, bits)[1] / peak_of(first, bits)[1]


def _parts(anchors: dict[str, Figure], gain: float) -> tuple[Part, ...]:
    scale = math.log(gain) if gain != 1.0 else math.nan
    parts = []
    before, known = "", Figure(value=1.0, unit="1", kind="derived", source="")
    for name, figure in anchors.items():
        low, high = _ends(known, figure)
        shares = [math.log(ratio) / scale for ratio in (figure.value / known.value, low, high)]
        parts.append(
            Part(name=_LINKS[before, name], ratio=figure.value / known.value, share=shares[0],
                 share_low=min(shares), share_high=max(shares),
                 assumed="assumed" in (known.kind, figure.kind) and "area" in (before, name))
        )  # fmt: skip
        before, known = name, figure
    return tuple(parts)


def _ends(a: Figure, b: Figure) -> tuple[float, float]:
    """Lowest and highest ``b / a`` over their ranges."""
    return (b.low or b.value) / (a.high or a.value), (b.high or b.value) / (a.low or a.value)
