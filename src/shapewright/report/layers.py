"""Layers that charts of several answers draw alike, so that the same thing looks the same everywhere."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from shapewright.report.vega import Spec

ROOM = 190
"""For the names on an axis of names [px]."""


def names_axis(names: Sequence[str], *, room: int = ROOM) -> Spec:
    """A position channel with one place for each name, in the given order; the data say theirs in ``name``."""
    return {
        "field": "name",
        "type": "nominal",
        "sort": list(dict.fromkeys(names)),
        "axis": {"title": None, "labelLimit": room},
    }


def points(
    rows: Sequence[Spec], hover: Sequence[Spec], *, size: int = 90, look: Spec | None = None, **mark: object
) -> Spec:
    """Filled points; ``look`` are their channels (``x``, ``y``, colour and form), ``mark`` what all have in common."""
    return {
        "data": {"values": list(rows)},
        "mark": {"type": "point", "filled": True, "size": size, **mark},
        "encoding": {**(look or {}), "tooltip": list(hover)},
    }


def curves(rows: Sequence[Spec], look: Spec, *, width: float = 2) -> Spec:
    """Lines through the rows, one for each colour."""
    return {
        "data": {"values": list(rows)},
        "mark": {"type": "line", "strokeWidth": width},
        "encoding": {name: channel for name, channel in look.items() if name != "shape"},
    }


def limit(value: float, **axis: Spec) -> Spec:
    """A rule across the chart where ``axis`` (``x`` or ``y``) has the value: no gain, no lead."""
    ((name, channel),) = axis.items()
    return {
        "data": {"values": [{channel["field"]: value}]},
        "mark": {"type": "rule", "style": "limit"},
        "encoding": {name: channel},
    }


def whiskers(rows: Sequence[Spec], *, x: Spec, style: str = "whisker", **channels: Spec) -> Spec:
    """The interval of each row, from ``low`` to ``high`` along x; ``channels`` say where it stands."""
    return {
        "data": {"values": list(rows)},
        "mark": {"type": "rule", "style": style},
        "encoding": {**channels, "x": {**x, "field": "low"}, "x2": {"field": "high"}},
    }


def shares(
    rows: Sequence[Spec],
    hover: Sequence[Spec],
    colours: Mapping[str, str],
    *,
    y: Spec,
    title: str,
    room: int = ROOM,
) -> Spec:
    """Bars of shares that add up, negative ones to the left of 0; a row has ``name``, ``part``, ``share`` and ``order``."""
    below, above = ({row["name"]: 0.0 for row in rows} for _ in range(2))
    for row in rows:
        side = below if row["share"] < 0 else above
        side[row["name"]] += row["share"]
    return {
        "data": {"values": list(rows)},
        "mark": {"type": "bar", "style": "segment"},
        "encoding": {
            "y": y,
            "x": {
                "field": "share",
                "type": "quantitative",
                "scale": {"domain": [min(below.values()), max(above.values())]},
                "axis": {"title": title, "format": "%"},
            },
            "order": {"field": "order"},
            "color": {
                "field": "part",
                "type": "nominal",
                "scale": {"domain": list(colours), "range": list(colours.values())},
                "legend": {"columns": 2, "labelLimit": room},
            },
            "tooltip": list(hover),
        },
    }
