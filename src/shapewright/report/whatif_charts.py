"""The charts of hypothetical hardware: a sweep, elasticities, scenarios, the hardware wanted, mixers in contest."""

from __future__ import annotations

from shapewright.outlook.whatif import WhatIf
from shapewright.report.theme import BLUE, BRICK, GOLD, GREEN, GREY, PURPLE, VIOLET
from shapewright.report.vega import Spec, chart, classes, linear_axis, log_axis, padded, tooltip
from shapewright.report.view import Chart, Grid

COLOURS = (BLUE, GOLD, GREEN, PURPLE, BRICK, VIOLET, GREY)
SOURCE = "searched by shapewright on the real chip's scaled kernels and the loss law"


def whatif_charts(found: WhatIf) -> tuple[Chart, ...]:
    """Up to five charts: those that the answer has data for."""
    made = (
        _sweep_chart(found),
        _slope_chart(found),
        _scenario_chart(found),
        _wanted_chart(found),
        _contest_chart(found),
    )
    return tuple(each for each in made if each is not None)


def _number(name: str, axis: str) -> float | None:
    for part in name.split():
        key, _, value = part.partition("=")
        if key == axis:
            try:
                return float(value.removesuffix("x"))
            except ValueError:
                return None
    return None


def _sweep_chart(found: WhatIf) -> Chart | None:
    if not found.swept:
        return None
    axis = found.axes[0]
    rows: list[Spec] = []
    for each in found.swept:
        value = _number(each.name, axis)
        if value is None or each.outcome.loss is None:
            continue
        rest = " ".join(part for part in each.name.split() if not part.startswith(f"{axis}="))
        rows.append(
            {
                "name": each.name,
                "value": value,
                "loss": each.outcome.loss,
                "rest": rest or "swept",
                "shape": each.outcome.shape,
                "text": f"{each.outcome.loss:.4f}",
                "worth": f"{each.worth:.3g}x" if each.worth else "-",
            }
        )
    if len(rows) < 2:
        return None
    values = [row["value"] for row in rows]
    x = log_axis("value", axis, min(values) / 1.05, max(values) * 1.05)
    low, high = padded([row["loss"] for row in rows], 0.08)
    y = linear_axis("loss", "predicted loss", low, high)
    groups = list(dict.fromkeys(row["rest"] for row in rows))
    colour = {
        "field": "rest",
        "type": "nominal",
        "scale": {"domain": groups, "range": [COLOURS[i % 7] for i in range(len(groups))]},
        "legend": {"columns": 2} if len(groups) > 1 else None,
    }
    left_out = [each for each in found.swept if each.outcome.loss is None]
    caption = "Each point is the best design on that chip." + (
        f" {len(left_out)} chips cannot be." if left_out else ""
    )
    return Chart(
        name="sweep",
        title=f"Loss along {axis}",
        caption=caption,
        spec=chart(
            f"Predicted loss of the best design on {len(rows)} chips along {axis}.",
            [
                {
                    "data": {"values": rows},
                    "mark": {"type": "line", "strokeWidth": 2},
                    "encoding": {"x": x, "y": y, "color": colour},
                },
                {
                    "data": {"values": rows},
                    "mark": {"type": "point", "filled": True, "size": 60},
                    "encoding": {
                        "x": x,
                        "y": y,
                        "color": colour,
                        "tooltip": tooltip(name="chip", text="loss", worth="worth", shape="shape"),
                    },
                },
            ],
        ),
        grid=Grid(
            caption="Chips",
            headers=("chip", "loss", "worth", "shape", "source"),
            numbers=("loss", "worth"),
            rows=(
                *((row["name"], row["text"], row["worth"], row["shape"], SOURCE) for row in rows),
                *(
                    (each.name, "-", "-", each.outcome.reason, "a rule of physics, or memory")
                    for each in left_out
                ),
            ),
        ),
    )


def _slope_chart(found: WhatIf) -> Chart | None:
    if not found.elasticities:
        return None
    looks = {
        "worth": (BLUE, "circle"),
        "share of dollars": (GOLD, "diamond"),
        "share of power": (GREEN, "square"),
    }
    rows = []
    for e in found.elasticities:
        for what, value in (
            ("worth", e.worth),
            ("share of dollars", e.dollar_share),
            ("share of power", e.power_share),
        ):
            if value is not None:
                rows.append(
                    {
                        "name": e.name,
                        "what": what,
                        "value": value,
                        "text": f"{value:.3f}",
                        "source": SOURCE if what == "worth" else _share_source(found, e.name, what),
                    }
                )
    low, high = padded([0.0, *(row["value"] for row in rows)], 0.06)
    x = linear_axis("value", "per cent of device-time for one per cent more", low, high)
    names = [e.name for e in found.elasticities]
    y = {"field": "name", "type": "nominal", "sort": names, "axis": {"title": None, "labelLimit": 190}}
    return Chart(
        name="elasticities",
        title="What a property is worth, and what it costs",
        caption="It pays to have more where worth is right of the share of what is scarce.",
        spec=chart(
            "; ".join(f"{row['name']} {row['what']} {row['text']}" for row in rows),
            [
                {
                    "data": {"values": rows},
                    "mark": {"type": "point", "filled": True, "size": 90, "opacity": 0.9},
                    "encoding": {
                        "x": x,
                        "y": y,
                        **classes("what", looks, rows),
                        "tooltip": tooltip(name="property", what="what", text="value", source="source"),
                    },
                },
            ],
            height=30 * len(names) + 20,
        ),
        grid=Grid(
            caption="Elasticities",
            headers=("property", "what", "value", "source"),
            numbers=("value",),
            rows=tuple((row["name"], row["what"], row["text"], row["source"]) for row in rows),
        ),
    )


def _share_source(found: WhatIf, name: str, what: str) -> str:
    kind = "dollars" if what.endswith("dollars") else "power"
    return next(shares.by_property[name].source for shares in found.shares if shares.kind == kind)


def _scenario_chart(found: WhatIf) -> Chart | None:
    rows = [
        {
            "name": each.name,
            "worth": each.worth,
            "text": f"{each.worth:.3g}x",
            "assumed": "; ".join(each.assumptions),
        }
        for each in found.scenarios
        if each.worth is not None
    ]
    if not rows:
        return None
    low, high = padded([1.0, *(row["worth"] or 1.0 for row in rows)], 0.08)
    x = log_axis("worth", "worth, as so many times the device-time", max(low, 0.05), high * 1.05)
    y = {"field": "name", "type": "nominal", "sort": [row["name"] for row in rows], "axis": {"title": None}}
    return Chart(
        name="scenarios",
        title="Chips that may come",
        caption="Device-time on the real hardware that reaches the same loss.",
        spec=chart(
            "; ".join(f"{row['name']} {row['text']}" for row in rows),
            [
                {
                    "data": {"values": [{"worth": 1.0}]},
                    "mark": {"type": "rule", "style": "limit"},
                    "encoding": {"x": x},
                },
                {
                    "data": {"values": rows},
                    "mark": {"type": "point", "filled": True, "size": 110, "color": BLUE},
                    "encoding": {
                        "x": x,
                        "y": y,
                        "tooltip": tooltip(name="scenario", text="worth", assumed="assumed"),
                    },
                },
            ],
            height=30 * len(rows) + 20,
        ),
        grid=Grid(
            caption="Scenarios",
            headers=("scenario", "worth", "source"),
            numbers=("worth",),
            rows=tuple((row["name"], row["text"], f"assumed: {row['assumed']}") for row in rows),
        ),
    )


def _wanted_chart(found: WhatIf) -> Chart | None:
    rows = [
        {"name": name, "kind": f"at equal {each.kind}", "factor": factor, "text": f"{factor:.2f}x"}
        for each in found.wanted
        for name, factor in each.factors.items()
    ]
    if not rows:
        return None
    factors = [row["factor"] for row in rows]
    x = log_axis("factor", "factor on the real chip", min(0.5, *factors) / 1.1, max(2.0, *factors) * 1.1)
    y = {
        "field": "name",
        "type": "nominal",
        "sort": list(dict.fromkeys(row["name"] for row in rows)),
        "axis": {"title": None},
    }
    looks = {"at equal dollars": (GOLD, "diamond"), "at equal power": (GREEN, "square")}
    return Chart(
        name="wanted",
        title="The chip that this family wants",
        caption="The same cost, spent otherwise.",
        spec=chart(
            "; ".join(f"{row['name']} {row['kind']} {row['text']}" for row in rows),
            [
                {
                    "data": {"values": [{"factor": 1.0}]},
                    "mark": {"type": "rule", "style": "limit"},
                    "encoding": {"x": x},
                },
                {
                    "data": {"values": rows},
                    "mark": {"type": "point", "filled": True, "size": 110},
                    "encoding": {
                        "x": x,
                        "y": y,
                        **classes("kind", looks, rows),
                        "tooltip": tooltip(name="property", kind="cost", text="factor"),
                    },
                },
            ],
            height=32 * len({row["name"] for row in rows}) + 20,
        ),
        grid=Grid(
            caption="Wanted",
            headers=("property", "cost", "factor", "source"),
            numbers=("factor",),
            rows=tuple((row["name"], row["kind"], row["text"], SOURCE) for row in rows),
        ),
    )


def _contest_chart(found: WhatIf) -> Chart | None:
    contest = found.contest
    if contest is None or len(contest.places) < 2:
        return None
    looks = {
        "dense": (BLUE, "circle"),
        "sliding": (GOLD, "diamond"),
        "mla": (BRICK, "cross"),
        "deltanet": (GREEN, "square"),
        "mamba2": (PURPLE, "triangle-up"),
    }
    rows = [
        {
            "value": place.value,
            "loss": entry.loss,
            "primitive": entry.primitive,
            "text": f"{entry.loss:.4f}",
            "interval": f"{entry.low:.3f} to {entry.high:.3f}",
            "at": f"{contest.axis}={place.text}",
        }
        for place in contest.places
        for entry in place.entries
        if entry.loss is not None
    ]
    values = [row["value"] for row in rows]
    x = log_axis("value", contest.axis, min(values) / 1.05, max(values) * 1.05)
    low, high = padded([row["loss"] or 0.0 for row in rows], 0.08)
    y = linear_axis("loss", "predicted loss", low, high)
    seen = classes("primitive", looks, rows)
    return Chart(
        name="primitives",
        title=f"Primitives along {contest.axis}",
        caption="Lower is better; the priors about the loss are "
        "wider than the differences, so this is cost alone.",
        spec=chart(
            "; ".join(f"{row['at']} {row['primitive']} {row['text']}" for row in rows),
            [
                {
                    "data": {"values": rows},
                    "mark": {"type": "line", "strokeWidth": 2},
                    "encoding": {"x": x, "y": y, "color": seen["color"]},
                },
                {
                    "data": {"values": rows},
                    "mark": {"type": "point", "filled": True, "size": 60},
                    "encoding": {
                        "x": x,
                        "y": y,
                        **seen,
                        "tooltip": tooltip(primitive="primitive", at="at", text="loss", interval="90 %"),
                    },
                },
            ],
        ),
        grid=Grid(
            caption="Primitives",
            headers=("at", "primitive", "loss", "90 %", "source"),
            numbers=("loss",),
            rows=tuple((row["at"], row["primitive"], row["text"], row["interval"], SOURCE) for row in rows),
        ),
    )
