"""The roofline chart.

Decisions: several number formats give several compute roofs. A thin line joins each operator to its own roof, and
its area is its time. An operator that only moves bytes has no FLOP per byte: it is hung under the memory roof, the
longest first from the left, and only its distance from that roof means something.
"""

from __future__ import annotations

from shapewright.designs.document import Design, RooflinePoint
from shapewright.report.text import percent
from shapewright.report.theme import BLUE, GOLD, VIOLET
from shapewright.report.vega import Spec, chart, classes, labelled, log_axis, log_position, tooltip
from shapewright.units import format_quantity

SAME = 1e-6
"""A roof within this fraction of the peak is the compute roof."""

LOOKS = {
    "compute roof": (BLUE, "circle"),
    "memory roof": (GOLD, "square"),
    "moves bytes only": (VIOLET, "triangle-up"),
}


def roofline(design: Design) -> Spec | None:
    """Every operator of the forward pass: rate reached against FLOP per byte, under the roofs of the device.

    None where the Design has no roofline. The area of a point is its time in the step.
    """
    points = sorted(design.roofline, key=lambda p: -p.seconds)
    if not points:
        return None
    slope, flats = design.memory_bandwidth.value, sorted({p.peak_flops for p in points})
    rows = [
        {
            "name": p.name,
            "intensity": p.intensity,
            "achieved_flops": p.achieved_flops,
            "roof_flops": p.roof_flops,
            "seconds": p.seconds,
            "bound": _bound(p),
            "achieved": format_quantity(p.achieved_flops, "FLOP/s"),
            "roof": format_quantity(p.roof_flops, "FLOP/s"),
            "of_roof": percent(p.achieved_flops / p.roof_flops),
            "time": format_quantity(p.seconds, "s"),
        }
        for p in points
    ]
    ridge = max(flats) / slope
    x_low, x_high = min(p.intensity for p in points) / 2, max(p.intensity for p in points) * 2
    x_low = min(x_low, ridge / (8 if design.movers else 2))  # so that the two roofs meet inside the picture
    rows += _hung(design, x_low, ridge)
    rows.sort(key=lambda row: -row["seconds"])
    y_low = min(row["achieved_flops"] for row in rows) / 2
    y_high = max(max(row["roof_flops"], row["achieved_flops"]) for row in rows) * 1.6
    ends = (max(x_low, y_low / slope), max(flats) / slope)
    lines = [{"roof": "memory", "intensity": end, "roof_flops": end * slope} for end in ends]
    for flat in flats:
        start = max(x_low, flat / slope)
        lines += [{"roof": f"{flat:g}", "intensity": end, "roof_flops": flat} for end in (start, x_high)]
    x = log_axis("intensity", "arithmetic intensity [FLOP/B]", x_low, x_high)
    y = log_axis("achieved_flops", "rate", y_low, y_high, unit="FLOP/s")
    labels = labelled(
        rows,
        [log_position(row["intensity"], x_low, x_high) for row in rows],
        [log_position(row["achieved_flops"], y_low, y_high) for row in rows],
        x=x,
        y=y,
    )
    y_roof = {**y, "field": "roof_flops"}
    lowest = min(rows, key=lambda row: row["achieved_flops"] / row["roof_flops"])
    return chart(
        f"Roofline of {len(rows)} operators. The longest is {rows[0]['name']} with {rows[0]['of_roof']} of its roof; "
        f"farthest below its roof is {lowest['name']} with {lowest['of_roof']}.",
        [
            {
                "data": {"values": lines},
                "mark": {"type": "line", "style": "roof"},
                "encoding": {"x": x, "y": y_roof, "detail": {"field": "roof"}},
            },
            {
                "data": {"values": rows},
                "mark": {"type": "rule", "style": "gap"},
                "encoding": {"x": x, "y": y, "y2": {"field": "roof_flops"}},
            },
            {
                "data": {"values": rows},
                "mark": {"type": "point", "filled": True, "opacity": 0.9, "style": "segment"},
                "encoding": {
                    "x": x,
                    "y": y,
                    "size": {"field": "seconds", "type": "quantitative", "legend": None, "scale": {"range": [50, 320]}},
                    **classes("bound", LOOKS, rows),
                    "tooltip": tooltip(name="operator", achieved="reached", roof="roof", of_roof="of the roof",
                                        bound="under the", time="time in a step"),
                },
            },
            *labels,
        ],
    )  # fmt: skip


def _hung(design: Design, x_low: float, ridge: float) -> list[dict[str, object]]:
    """The operators that only move bytes, spread under the memory roof left of the ridge."""
    movers = sorted(design.movers, key=lambda m: -m.seconds)
    slope = design.memory_bandwidth.value
    places = [x_low * (ridge / x_low) ** ((at + 0.5) / len(movers)) for at in range(len(movers))]
    return [
        {
            "name": m.name, "intensity": x, "achieved_flops": m.bandwidth * x, "roof_flops": slope * x, "seconds": m.seconds,
            "bound": "moves bytes only", "achieved": format_quantity(m.bandwidth, "B/s"),
            "roof": format_quantity(slope, "B/s"), "of_roof": percent(m.bandwidth / slope),
            "time": format_quantity(m.seconds, "s"),
        }
        for m, x in zip(movers, places, strict=True)
    ]  # fmt: skip


def _bound(point: RooflinePoint) -> str:
    return "compute roof" if point.roof_flops >= point.peak_flops * (1 - SAME) else "memory roof"
