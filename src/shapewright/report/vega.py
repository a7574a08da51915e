"""Pieces that the charts share, as Vega-Lite specifications.

Decisions: data stay in SI; axes divide by a power of a thousand in an expression and say so in their title. Ticks of
logarithmic axes are chosen here, decades where there are enough of them, so that they never print as ``1e+21``.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from shapewright.designs.document import Design
from shapewright.report.labels import SIDES, place_labels

Spec = dict[str, Any]
SCHEMA = "https://vega.github.io/schema/vega-lite/v6.json"
"""Names the language of a specification; nothing is loaded from it."""
HEIGHT = 300
"""Of the plotting area of scatter and line charts [px]."""
MAX_LABELS = 8
_PREFIXES = ((1e18, "E"), (1e15, "P"), (1e12, "T"), (1e9, "G"), (1e6, "M"), (1e3, "k"), (1.0, ""), (1e-3, "m"),
             (1e-6, "µ"), (1e-9, "n"))  # fmt: skip


def chart(description: str, layer: list[Spec], *, height: int = HEIGHT) -> Spec:
    """A chart as wide as the place it is put in; the description is what a screen reader says."""
    return {
        "$schema": SCHEMA,
        "description": description,
        "width": "container",
        "height": height,
        "autosize": {"type": "fit-x", "contains": "padding"},
        "layer": layer,
    }


def linear_axis(field: str, title: str, low: float, high: float, *, unit: str = "") -> Spec:
    """A position channel from ``low`` to ``high``; ``unit`` is an SI unit that gets a prefix."""
    factor, name = _prefix(max(abs(low), abs(high)), unit)
    axis: Spec = {"title": f"{title} [{name}]" if unit else title, "tickCount": 5}
    if unit:
        axis["labelExpr"] = f"format(datum.value / {factor:g}, '~g')"
    return {
        "field": field,
        "type": "quantitative",
        "scale": {"domain": [low, high], "nice": False, "zero": False},
        "axis": axis,
    }


def log_axis(field: str, title: str, low: float, high: float, *, unit: str = "") -> Spec:
    """A logarithmic position channel from ``low`` to ``high``, both positive."""
    factor, name = _prefix(math.sqrt(low * high), unit)
    plain = "format(datum.value, '~g')" if high < 1e5 else "replace(format(datum.value, '~e'), 'e+', 'e')"
    label = f"format(datum.value / {factor:g}, '~g')" if unit else plain
    return {
        "field": field,
        "type": "quantitative",
        "scale": {"type": "log", "domain": [low, high], "nice": False},
        "axis": {
            "title": f"{title} [{name}]" if unit else title,
            "values": _log_ticks(low, high),
            "labelExpr": label,
        },
    }


def _prefix(top: float, unit: str) -> tuple[float, str]:
    if not unit:
        return 1.0, ""
    factor, letter = next(((f, p) for f, p in _PREFIXES if top >= f), _PREFIXES[-1])
    return factor, letter + unit


def _log_ticks(low: float, high: float) -> list[float]:
    first, last = math.floor(math.log10(low)), math.ceil(math.log10(high))
    for digits in ((1,), (1, 3), (1, 2, 5), (1, 1.5, 2, 3, 4, 5, 6, 8)):
        ticks = [float(f"{digit}e{power}") for power in range(first, last + 1) for digit in digits]
        ticks = [tick for tick in ticks if low <= tick <= high]
        if len(ticks) >= 3:
            break
    return (ticks if len(ticks) >= 3 else _even_ticks(low, high))[:: math.ceil(len(ticks) / 9) or 1]


def _even_ticks(low: float, high: float) -> list[float]:
    """Three to seven round numbers at even distances: for a range of less than a doubling."""
    step = 10.0 ** math.floor(math.log10(high - low))
    step = next(step * part for part in (0.5, 0.2, 0.1, 0.05) if (high - low) / (step * part) >= 3)
    first, last = math.ceil(low / step), math.floor(high / step)
    return [float(f"{count * step:.6g}") for count in range(first, last + 1)]


def padded(values: Iterable[float], share: float) -> tuple[float, float]:
    """Lowest and highest value with a margin of ``share`` of their distance."""
    values = list(values)
    low, high = min(values), max(values)
    margin = share * (high - low) or 0.05 * abs(high) or 1.0
    return low - margin, high + margin


def log_position(value: float, low: float, high: float) -> float:
    """Where a value lies on a logarithmic axis, 0 to 1."""
    return math.log(value / low) / math.log(high / low)


def classes(field: str, looks: Mapping[str, tuple[str, str]], rows: Sequence[Spec]) -> Spec:
    """Colour and form by class; the legend shows the classes that occur.

    Args:
        field: the field with the class.
        looks: colour and form of every class.
        rows: the data.
    """
    present = {row[field] for row in rows}
    names = [name for name in looks if name in present]
    return {
        channel: {
            "field": field,
            "type": "nominal",
            "scale": {"domain": names, "range": [looks[name][part] for name in names]},
            "legend": {"columns": 3},
        }
        for part, channel in enumerate(("color", "shape"))
    }


def tooltip(**fields: str) -> list[Spec]:
    """What hovering shows: field and title."""
    return [{"field": field, "type": "nominal", "title": title} for field, title in fields.items()]


def labelled(
    rows: Sequence[Spec],
    across: Sequence[float],
    up: Sequence[float],
    *,
    x: Spec,
    y: Spec,
    strong: int = 0,
    sides: Sequence[str] = SIDES,
) -> list[Spec]:
    """Layers with the names of the first points that have room for one.

    Args:
        rows: the data, the most important first.
        across: position of each point from 0 (left) to 1 (right).
        up: position of each point from 0 (bottom) to 1 (top).
        x: position channel.
        y: position channel.
        strong: how many of the first names are set in bold.
        sides: where a name may stand, the best place first.
    """
    layers: list[Spec] = []
    for label in place_labels(across, up, [row["name"] for row in rows], sides)[:MAX_LABELS]:
        style = {"style": "strong"} if label.index < strong else {}
        mark = {
            "type": "text",
            "align": label.align,
            "baseline": "middle",
            "dx": label.dx,
            "dy": label.dy,
            **style,
        }
        layers.append({"data": {"values": [rows[label.index]]}, "mark": mark,
                       "encoding": {"x": x, "y": y, "text": {"field": "name"}}})  # fmt: skip
    return layers


def loss_unit(design: Design) -> str:
    """The unit in which the Design states its loss."""
    loss = design.predicted.loss
    return loss.unit if loss is not None and loss.unit != "1" else "nat/token"
