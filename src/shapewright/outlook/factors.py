"""From AlexNet to a model: how a factor of compute splits into chip, number format, chips, time and utilisation.

``C = peak x chips x seconds x utilisation``, and the peak of the format it was trained in is the chip's fp32 peak times
what its matrix units gain by the format. The ratio of two models splits the same way; logarithms of the parts over
that of the whole are their shares and add to one. What is not published is never guessed: its neighbours are merged.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from shapewright.outlook.milestones import Milestone, format_peak


@dataclass(frozen=True, kw_only=True, slots=True)
class Factor:
    """One part of a ratio."""

    name: str
    ratio: float
    share: float
    """ln ratio over ln of the whole; the shares of a split add to one."""
    text: str
    """From what to what, or what is unknown."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Split:
    """How much more compute one model took than another, and why."""

    base: str
    model: str
    ratio: float
    factors: tuple[Factor, ...]


def split(base: Milestone, model: Milestone) -> Split:
    """Split the training compute of ``model`` over that of ``base``."""
    whole = model.flop.value / base.flop.value
    parts = _peak(base, model)
    used = math.prod(ratio for _, ratio, _ in parts)
    if parts and base.chip_hours and model.chip_hours:
        if base.chip_count and model.chip_count:
            hours = [row.chip_hours / row.chip_count for row in (base, model)]  # type: ignore[operator]
            parts.append(
                (
                    "chips",
                    model.chip_count / base.chip_count,
                    f"{base.chip_count:,.0f} to {model.chip_count:,.0f}",
                )
            )
            parts.append(("time", hours[1] / hours[0], f"{hours[0] / 24:,.3g} to {hours[1] / 24:,.3g} days"))
        else:
            parts.append(
                (
                    "chips x time",
                    model.chip_hours / base.chip_hours,
                    f"{base.chip_hours:,.0f} to {model.chip_hours:,.0f} chip-hours; the number is not public",
                )
            )
        used = math.prod(ratio for _, ratio, _ in parts)
        reached = [utilisation(row) for row in (base, model)]
        text = "FLOP over peak" if None in reached else f"{reached[0]:.0%} to {reached[1]:.0%} of peak"
        parts.append(("utilisation", whole / used, text))
    elif parts and base.chip_count and model.chip_count:
        parts.append(
            (
                "chips",
                model.chip_count / base.chip_count,
                f"{base.chip_count:,.0f} to {model.chip_count:,.0f}",
            )
        )
        used = math.prod(ratio for _, ratio, _ in parts)
        parts.append(("time x utilisation", whole / used, "the time is not public"))
    elif parts:
        parts.append(("chips x time x utilisation", whole / used, "neither number nor time is public"))
    else:
        parts.append(("all together", whole, "the chips are not public: not split"))
    scale = math.log(whole)
    return Split(
        base=base.name,
        model=model.name,
        ratio=whole,
        factors=tuple(
            Factor(name=name, ratio=ratio, share=math.log(ratio) / scale if scale else 0.0, text=text)
            for name, ratio, text in parts
        ),
    )


def utilisation(row: Milestone) -> float | None:
    """Training FLOP over what its chips could have done in its time; None where something is unknown."""
    peak = _peak_of(row)
    if peak is None or not row.chip_hours:
        return None
    return row.flop.value / (row.chip_hours * 3600.0 * peak)


def _peak_of(row: Milestone) -> float | None:
    device = row.device
    return format_peak(device, row.number_format) if device and row.number_format else None


def _peak(base: Milestone, model: Milestone) -> list[tuple[str, float, str]]:
    """The parts of the peak: fp32 and format, merged where a chip has no fp32 peak; none where a peak is unknown."""
    first, last = _peak_of(base), _peak_of(model)
    if first is None or last is None or base.device is None or model.device is None:
        return []
    plain = [format_peak(row.device, "fp32") for row in (base, model)]  # type: ignore[arg-type]
    chips = f"{base.device.name} to {model.device.name}"
    if plain[0] is None or plain[1] is None:
        text = f"{chips}, {base.number_format} to {model.number_format}; no fp32 peak is published"
        return [("chip and format", last / first, text)]
    return [
        ("chip peak (fp32)", plain[1] / plain[0], chips),
        (
            "number format",
            (last / plain[1]) / (first / plain[0]),
            f"{base.number_format} to {model.number_format}, with the matrix units that only it has",
        ),
    ]
