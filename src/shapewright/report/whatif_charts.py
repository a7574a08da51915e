"""The charts of hypothetical hardware: a sweep, elasticities, scenarios, the hardware wanted, mixers in contest."""

from __future__ import annotations

from shapewright.outlook.whatif import WhatIf
from shapewright.report.layers import curves, limit, names_axis, points
from shapewright.report.theme import BLUE, BRICK, GOLD, GREEN, GREY, PURPLE, VIOLET
from shapewright.report.vega import Spec, chart, classes, linear_axis, log_axis, padded, tooltip
from shapewright.report.view import Chart, Grid, grid

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


def _told(rows: list[Spec], *fields: str) -> str:
    """What a screen reader says of the rows."""
    return "; ".join(" ".join(row[name] for name in fields) for row in rows)


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
                "name": each.name, "value": value, "loss": each.outcome.loss, "rest": rest or "swept",
                "shape": each.outcome.shape, "text": f"{each.outcome.loss:.4f}",
                "worth": f"{each.worth:.3g}x" if each.worth else "-", "source": SOURCE,
            }
        )  # fmt: skip
    if len(rows) < 2:
        return None
    groups = list(dict.fromkeys(row["rest"] for row in rows))
    colour = {
        "field": "rest",
        "type": "nominal",
        "scale": {"domain": groups, "range": [COLOURS[i % 7] for i in range(len(groups))]},
        "legend": {"columns": 2} if len(groups) > 1 else None,
    }
    look = {**_loss_against(rows, axis), "color": colour}
    rule = "a rule of physics, or memory"
    left_out = [
        {"name": each.name, "text": "-", "worth": "-", "shape": each.outcome.reason, "source": rule}
        for each in found.swept
        if each.outcome.loss is None
    ]
    return Chart(
        name="sweep",
        title=f"Loss along {axis}",
        caption="Each point is the best design on that chip."
        + (f" {len(left_out)} chips cannot be." if left_out else ""),
        spec=chart(
            f"Predicted loss of the best design on {len(rows)} chips along {axis}.",
            [
                curves(rows, look),
                points(
                    rows,
                    tooltip(name="chip", text="loss", worth="worth", shape="shape"),
                    size=60,
                    look=look,
                ),
            ],
        ),
        grid=grid(
            "Chips",
            {"chip": "name", "loss": "text", "worth": "worth", "shape": "shape", "source": "source"},
            [*rows, *left_out],
            numbers=("loss", "worth"),
        ),
    )


def _loss_against(rows: list[Spec], axis: str) -> Spec:
    """Position channels of the loss along a property of the chip."""
    values = [row["value"] for row in rows]
    low, high = padded([row["loss"] for row in rows], 0.08)
    return {
        "x": log_axis("value", axis, min(values) / 1.05, max(values) * 1.05),
        "y": linear_axis("loss", "predicted loss", low, high),
    }


def _slope_chart(found: WhatIf) -> Chart | None:
    if not found.elasticities:
        return None
    looks = {
        "worth": (BLUE, "circle"),
        "share of dollars": (GOLD, "diamond"),
        "share of power": (GREEN, "square"),
    }
    rows = [
        {
            "name": e.name, "what": what, "value": value, "text": f"{value:.3f}",
            "source": SOURCE if what == "worth" else _share_source(found, e.name, what),
        }
        for e in found.elasticities
        for what, value in zip(looks, (e.worth, e.dollar_share, e.power_share), strict=True)
        if value is not None
    ]  # fmt: skip
    low, high = padded([0.0, *(row["value"] for row in rows)], 0.06)
    names = [e.name for e in found.elasticities]
    look = {
        "x": linear_axis("value", "per cent of device-time for one per cent more", low, high),
        "y": names_axis(names),
        **classes("what", looks, rows),
    }
    hover = tooltip(name="property", what="what", text="value", source="source")
    return Chart(
        name="elasticities",
        title="What a property is worth, and what it costs",
        caption="It pays to have more where worth is right of the share of what is scarce.",
        spec=chart(
            _told(rows, "name", "what", "text"),
            [points(rows, hover, look=look, opacity=0.9)],
            height=30 * len(names) + 20,
        ),
        grid=grid(
            "Elasticities",
            {"property": "name", "what": "what", "value": "text", "source": "source"},
            rows,
            numbers=("value",),
        ),
    )


def _share_source(found: WhatIf, name: str, what: str) -> str:
    kind = "dollars" if what.endswith("dollars") else "power"
    return next(shares.by_property[name].source for shares in found.shares if shares.kind == kind)


def _scenario_chart(found: WhatIf) -> Chart | None:
    rows = [
        {
            "name": each.name, "worth": each.worth, "text": f"{each.worth:.3g}x",
            "assumed": "; ".join(each.assumptions), "source": f"assumed: {'; '.join(each.assumptions)}",
        }
        for each in found.scenarios
        if each.worth is not None
    ]  # fmt: skip
    if not rows:
        return None
    low, high = padded([1.0, *(row["worth"] or 1.0 for row in rows)], 0.08)
    x = log_axis("worth", "worth, as so many times the device-time", max(low, 0.05), high * 1.05)
    return _factors(
        rows, {"x": x, "y": names_axis([row["name"] for row in rows])}, name="scenarios",
        title="Chips that may come", caption="Device-time on the real hardware that reaches the same loss.",
        hover=tooltip(name="scenario", text="worth", assumed="assumed"), told=_told(rows, "name", "text"),
        table=grid(
            "Scenarios", {"scenario": "name", "worth": "text", "source": "source"}, rows, numbers=("worth",)
        ), height=30 * len(rows) + 20, color=BLUE,
    )  # fmt: skip


def _wanted_chart(found: WhatIf) -> Chart | None:
    rows = [
        {"name": name, "kind": f"at equal {each.kind}", "factor": factor, "text": f"{factor:.2f}x", "source": SOURCE}
        for each in found.wanted
        for name, factor in each.factors.items()
    ]  # fmt: skip
    if not rows:
        return None
    factors = [row["factor"] for row in rows]
    x = log_axis("factor", "factor on the real chip", min(0.5, *factors) / 1.1, max(2.0, *factors) * 1.1)
    looks = {"at equal dollars": (GOLD, "diamond"), "at equal power": (GREEN, "square")}
    y = names_axis([row["name"] for row in rows])
    return _factors(
        rows, {"x": x, "y": y, **classes("kind", looks, rows)}, name="wanted",
        title="The chip that this family wants", caption="The same cost, spent otherwise.",
        hover=tooltip(name="property", kind="cost", text="factor"), told=_told(rows, "name", "kind", "text"),
        table=grid(
            "Wanted", {"property": "name", "cost": "kind", "factor": "text", "source": "source"}, rows, numbers=("factor",)
        ), height=32 * len(y["sort"]) + 20,
    )  # fmt: skip


def _factors(
    rows: list[Spec],
    look: Spec,
    *,
    name: str,
    title: str,
    caption: str,
    hover: list[Spec],
    told: str,
    table: Grid,
    height: int,
    **mark: object,
) -> Chart:
    """Points beside a rule at 1."""
    layer = [limit(1.0, x=look["x"]), points(rows, hover, size=110, look=look, **mark)]
    return Chart(name=name, title=title, caption=caption, spec=chart(told, layer, height=height), grid=table)


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
            "value": place.value, "loss": entry.loss, "primitive": entry.primitive, "text": f"{entry.loss:.4f}",
            "interval": f"{entry.low:.3f} to {entry.high:.3f}", "at": f"{contest.axis}={place.text}", "source": SOURCE,
        }
        for place in contest.places
        for entry in place.entries
        if entry.loss is not None
    ]  # fmt: skip
    look = {**_loss_against(rows, contest.axis), **classes("primitive", looks, rows)}
    hover = tooltip(primitive="primitive", at="at", text="loss", interval="90 %")
    return Chart(
        name="primitives",
        title=f"Primitives along {contest.axis}",
        caption="Lower is better; the priors about the loss are "
        "wider than the differences, so this is cost alone.",
        spec=chart(
            _told(rows, "at", "primitive", "text"),
            [curves(rows, look), points(rows, hover, size=60, look=look)],
        ),
        grid=grid(
            "Primitives",
            {"at": "at", "primitive": "primitive", "loss": "text", "90 %": "interval", "source": "source"},
            rows,
            numbers=("loss",),
        ),
    )
