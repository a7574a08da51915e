"""Step time and memory as stacks that are unrolled: the whole in one bar, then each part where it lies in it.

Decisions: parts keep the order of their causes, so equal colours stand together; parts below a hundredth are
added up per cause, so that the parts still make the whole; every bar carries its name and its share in letters.
"""

from __future__ import annotations

from collections.abc import Sequence

from shapewright.designs.document import Design, Part
from shapewright.report.text import MEMORY_CAUSES, STEP_CAUSES, percent, shares_text
from shapewright.report.theme import LIGHT_COLOURS, PALETTE
from shapewright.report.vega import Spec, chart, linear_axis, tooltip
from shapewright.units import format_quantity

SMALL = 0.01
"""Parts with a smaller share of the whole are added up per cause."""
LETTERS = 0.5
"""Share of a narrow chart's width that the letters of a bar take."""
ROW_HEIGHT = 24
"""[px]"""


def step_time_stack(design: Design) -> Spec | None:
    """The step time, part by part; None where the Design has no breakdown."""
    if not design.step_parts:
        return None
    total = format_quantity(design.predicted.step_time_s.value, "s")
    return _stack(
        design.step_parts,
        STEP_CAUSES,
        unit="s",
        title="time in one step",
        whole=f"step {total}",
        description=f"One step takes {total}: {shares_text(design.step_parts)}.",
    )


def memory_stack(design: Design) -> Spec | None:
    """The memory of the fullest device, part by part, with what may be used; None without a breakdown."""
    if not design.memory_parts:
        return None
    used, limit = design.predicted.memory_bytes.value, design.predicted.memory_limit_bytes.value
    total, most = format_quantity(used, "B"), format_quantity(limit, "B")
    return _stack(
        design.memory_parts,
        MEMORY_CAUSES,
        unit="B",
        title="memory per device",
        whole=f"used {total}",
        description=f"The fullest device uses {total} of {most}: {shares_text(design.memory_parts)}.",
        limit=limit,
    )


def _stack(
    parts: Sequence[Part],
    causes: Sequence[str],
    *,
    unit: str,
    title: str,
    whole: str,
    description: str,
    limit: float | None = None,
) -> Spec:
    causes = [*causes, *sorted({part.cause for part in parts} - set(causes))]
    colours = {cause: PALETTE[at % len(PALETTE)] for at, cause in enumerate(causes)}
    end, rows = 0.0, []
    merged = _merge_small(parts, causes)
    right = max(sum(part.value for part in parts), limit or 0.0)
    for part, detail in merged:
        start, end = end, end + part.value
        rows.append(
            {
                "row": part.name,
                "part": part.name,
                "cause": part.cause,
                "start": start,
                "end": end,
                "value": part.value,
                "share": part.share,
                "detail": detail,
                "value_text": format_quantity(part.value, unit),
                "share_text": percent(part.share),
                "letters": f"{percent(part.share)}, {format_quantity(part.value, unit)}",
                "side": _side(start / right, end / right),
                "ink": "on light" if colours[part.cause] in LIGHT_COLOURS else "on dark",
            }
        )
    order = [whole, *(row["row"] for row in rows)]
    bars = [*({**row, "row": whole} for row in rows), *rows]
    x = linear_axis("start", title, 0.0, right, unit=unit)
    y = {"field": "row", "type": "nominal", "scale": {"domain": order, "paddingInner": 0.25},
         "axis": {"title": None, "labelLimit": 150, "domain": False, "ticks": False}}  # fmt: skip
    present = [cause for cause in causes if any(row["cause"] == cause for row in rows)]
    colour = {
        "field": "cause",
        "type": "nominal",
        "scale": {
            "domain": present,
            "range": [colours[cause] for cause in present],
        },
        "legend": {"symbolType": "square"},
    }
    layer: list[Spec] = [
        {
            "data": {"values": bars},
            "mark": {"type": "bar", "style": "segment"},
            "encoding": {
                "x": x,
                "x2": {"field": "end"},
                "y": y,
                "color": colour,
                "tooltip": tooltip(
                    part="part", cause="cause", value_text="value", share_text="share", detail="consists of"
                ),
            },
        }
    ]
    for side, at, align, dx in (
        ("right", "end", "left", 5),
        ("left", "start", "right", -5),
        ("inside", "end", "right", -5),
    ):
        for ink in ("on dark", "on light"):
            letters = [row for row in rows if row["side"] == side and row["ink"] == ink]
            style = {"style": ink} if side == "inside" else {}
            if letters:
                layer.append({"data": {"values": letters}, "mark": {"type": "text", "align": align, "dx": dx, **style},
                              "encoding": {"x": {**x, "field": at}, "y": y, "text": {"field": "letters"}}})  # fmt: skip
    if limit is not None:
        mark = {"values": [{"limit": limit, "text": f"limit {format_quantity(limit, unit)}"}]}
        layer += [
            {
                "data": mark,
                "mark": {"type": "rule", "style": "limit"},
                "encoding": {"x": {**x, "field": "limit"}},
            },
            {
                "data": mark,
                "mark": {"type": "text", "align": "right", "baseline": "bottom", "y": -4},
                "encoding": {"x": {**x, "field": "limit"}, "text": {"field": "text"}},
            },
        ]
    return chart(description, layer, height=ROW_HEIGHT * len(order))


def _side(start: float, end: float) -> str:
    """Where a bar's letters have most room on a narrow screen: inside it, right of it, or left of it."""
    if 1 - end >= LETTERS:
        return "right"
    if end - start > LETTERS:
        return "inside"
    return "right" if 1 - end >= start - 0.1 else "left"


def _merge_small(parts: Sequence[Part], causes: Sequence[str]) -> list[tuple[Part, str]]:
    """Parts in the order of their causes, largest first, the small ones of a cause as one; with what is in each."""
    merged: list[tuple[Part, str]] = []
    names: dict[str, int] = {}
    for part in parts:
        names[part.name] = names.get(part.name, 0) + 1
    for cause in causes:
        members = sorted((part for part in parts if part.cause == cause), key=lambda part: -part.value)
        small = [part for part in members if part.share < SMALL]
        if len(small) < 2:
            small = []
        for part in members:
            if part not in small:
                name = part.name if names[part.name] == 1 else f"{part.name} ({cause})"
                merged.append((Part(name=name, cause=cause, value=part.value, share=part.share), part.name))
        if small:
            rest = Part(name=f"other {cause} ({len(small)})", cause=cause, value=sum(p.value for p in small),
                        share=sum(p.share for p in small))  # fmt: skip
            merged.append((rest, ", ".join(f"{p.name} {percent(p.share)}" for p in small)))
    return merged
