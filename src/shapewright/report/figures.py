"""The charts of the HTML report with their captions, and their numbers as tables for those who do not see them."""

from __future__ import annotations

from collections.abc import Callable

from shapewright.designs.document import Design, LossPoint, Part
from shapewright.report import charts
from shapewright.report.charts import Spec
from shapewright.report.markup import Markup, details, table, tag
from shapewright.report.text import loss_text, percent
from shapewright.report.timeline import passes
from shapewright.units import format_quantity

CHARTS: dict[str, tuple[str, str, Callable[[Design], Spec | None]]] = {
    "loss-curve": (
        "Loss against compute",
        "The best design at other budgets, with the 90 % band. Dashed where the law is extrapolated.",
        charts.loss_curve,
    ),
    "step-time": (
        "Where a step's time goes",
        "The whole step above, then each part where it lies in it; small parts are added up per cause.",
        charts.step_time_stack,
    ),
    "timeline": (
        "Timeline",
        "The passes of one step by pipeline stage; the thin bars are waits on the wire. Long steps are drawn shorter.",
        charts.timeline,
    ),
    "memory": (
        "What fills the memory",
        "The fullest device, part by part; the dashed line is what may be used.",
        charts.memory_stack,
    ),
    "roofline": (
        "Roofline",
        "Operators of the forward pass under their roofs; the area is the time, the thin line what is missing. Those that "
        "only move bytes hang under the memory roof, and only how far below it means something.",
        charts.roofline,
    ),
    "pareto": (
        "Candidates",
        "Lower and further left is better. The dashed line joins the Pareto front; ties are inside the uncertainty.",
        charts.pareto,
    ),
}
"""Title, caption and function of each chart, in the order of the page."""


def figure(design: Design, name: str) -> Markup:
    """A chart with its caption and its numbers as a table; nothing where the Design has none of it."""
    title, caption, chart = CHARTS[name]
    spec = chart(design)
    if spec is None:
        return Markup("")
    table_of = numbers(design, name)
    return tag(
        "figure",
        tag("figcaption", tag("h3", title), tag("p", caption)),
        tag("div", id=f"chart-{name}", class_="chart"),
        tag("noscript", tag("p", spec["description"])),
        details("The numbers", table_of) if table_of else "",
    )


def numbers(design: Design, name: str) -> Markup:
    """The numbers of a chart; the candidates have a table of their own."""
    tables: dict[str, Callable[[], Markup]] = {
        "timeline": lambda: _passes(design),
        "step-time": lambda: _parts("Step time", design.step_parts, "s"),
        "memory": lambda: _parts("Memory of the fullest device", design.memory_parts, "B"),
        "roofline": lambda: _operators(design),
        "loss-curve": lambda: _losses(design.loss_curve),
    }
    return tables[name]() if name in tables else Markup("")


def _passes(design: Design) -> Markup:
    names = ("stage", "kind", "passes", "in all", "share")
    rows = [
        (stage, kind, f"{count:,}", format_quantity(seconds, "s"), percent(share))
        for stage, kind, count, seconds, share in passes(design)
    ]
    return table("What each stage does in the step that is drawn", names, rows, numbers=names[2:])


def _parts(caption: str, parts: tuple[Part, ...], unit: str) -> Markup:
    rows = [(p.name, p.cause, format_quantity(p.value, unit), percent(p.share)) for p in parts]
    return table(caption, ("part", "cause", "value", "share"), rows, numbers=("value", "share"))


def _operators(design: Design) -> Markup:
    names = ("operator", "FLOP/B", "reached", "roof", "of the roof", "time")
    rows = [
        (
            p.name,
            f"{p.intensity:,.4g}",
            format_quantity(p.achieved_flops, "FLOP/s"),
            format_quantity(p.roof_flops, "FLOP/s"),
            percent(p.achieved_flops / p.roof_flops),
            format_quantity(p.seconds, "s"),
        )
        for p in design.roofline
    ]
    slope = design.memory_bandwidth.value
    rows += [
        (
            m.name,
            "0",
            format_quantity(m.bandwidth, "B/s"),
            format_quantity(slope, "B/s"),
            percent(m.bandwidth / slope),
            format_quantity(m.seconds, "s"),
        )
        for m in design.movers
    ]
    return table("Operators against their roofs", names, rows, numbers=names[1:])


def _losses(points: tuple[LossPoint, ...]) -> Markup:
    names = ("compute", "loss", "low", "high", "law")
    rows = [
        (
            format_quantity(p.flops, "FLOP"),
            *(loss_text(loss) for loss in (p.loss, p.low, p.high)),
            "extrapolated" if p.extrapolated else "inside its data",
        )
        for p in points
    ]
    return table("Predicted loss with its 90 % band", names, rows, numbers=names[1:4])
