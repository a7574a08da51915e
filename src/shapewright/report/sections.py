"""The sections of the HTML report, in the order of the console: request, assumptions, answer, why, trust, next."""

from __future__ import annotations

from shapewright.designs.document import Design
from shapewright.report.explanation import what_binds, what_would_change
from shapewright.report.figures import figure
from shapewright.report.markup import Markup, bullets, details, evidence, kind, table, tag
from shapewright.report.text import (
    batch_text,
    loss_text,
    percent,
    plan_text,
    prediction_rows,
    recipe_rows,
    rejected_by_count,
    request_text,
    shape_lines,
    standing,
    ties_text,
)
from shapewright.units import format_count, format_quantity

CARDS = ("loss", "step", "MFU", "memory/device", "training time", "energy", "dollars", "parameters")


def request(design: Design) -> Markup:
    """What was asked for."""
    asked = design.request
    return section(
        "Request",
        tag("p", request_text(asked)),
        bullets(f"set by the user: {item}" for item in asked.settings),
    )


def assumed(design: Design) -> Markup:
    """What the answer rests on."""
    rows = [(a.name, a.text, kind(a.kind), a.source) for a in design.assumptions]
    return section("Assumed", table("Assumptions", ("what", "value", "kind", "source"), rows))


def answer(design: Design) -> Markup:
    """Shape, plan, recipe and predictions."""
    run, recipe = design.run, design.recipe
    how = f"{run.optimizer} in {run.precision}, batch of {batch_text(design)}"
    if recipe is not None:
        how += f", {recipe.schedule} schedule; batch and learning rate by {recipe.law}"
    rows = [(name, value, *evidence(figure)) for name, value, figure in recipe_rows(design)]
    plan = [(name, f"{int(value):,}") for name, value in _plan_rows(design)]
    head = ("figure", "value", "kind", "source")
    return section(
        "Design",
        bullets(shape_lines(design.shape)),
        tag("h3", "Plan"),
        tag("p", plan_text(design)),
        details("All axes of the plan", table("Plan", ("axis", "size"), plan, numbers=("size",))),
        tag("h3", "Recipe"),
        tag("p", how),
        bullets(recipe.remarks if recipe else ()),
        table("Recipe", head, rows),
        tag("h3", "Predicted"),
        _cards(design),
        table("Predictions with their 90 % intervals", head,
              [(name, value, *evidence(figure)) for name, value, figure in prediction_rows(design.predicted)]),
        figure(design, "loss-curve"),
    )  # fmt: skip


def why(design: Design) -> Markup:
    """What binds, the reasons, the charts of time and memory, and what would change."""
    return section(
        "Why",
        bullets(what_binds(design)),
        tag("h3", "Reasons"),
        bullets(reason.text for reason in design.reasons),
        tag(
            "div",
            *(figure(design, name) for name in ("step-time", "timeline", "memory", "roofline")),
            class_="charts",
        ),
        tag("h3", "What would change"),
        bullets(item.text for item in what_would_change(design) if item.bound),
    )


def runners_up(design: Design) -> Markup:
    """The candidates, ties called ties, and what was rejected."""
    names = (
        "shape",
        "parameters",
        "tokens",
        "step",
        "MFU",
        "loss",
        "standing",
        "Pareto front",
        "heads (kv)",
        "ffn",
        "plan",
    )
    rows = [
        (c.summary, format_count(c.params), format_count(c.tokens), format_quantity(c.step_time_s, "s"), percent(c.mfu),
         loss_text(c.loss), standing(design, index), "yes" if c.pareto else "", f"{c.heads:,} ({c.kv_heads:,})",
         f"{c.ffn_size:,}", c.plan)
        for index, c in enumerate(design.candidates)
    ]  # fmt: skip
    rejected = [(item.reason, f"{item.count:,}") for item in rejected_by_count(design)]
    picks = [
        (pick.name, pick.summary, loss_text(pick.loss), pick.text, kind(pick.kind), pick.source)
        for pick in design.picks
    ]
    levers = [(lever.resource, lever.text) for lever in design.elasticities]
    return section(
        "Runners-up",
        tag("p", ties_text(design) or "One model was given: there is nothing to compare it with."),
        figure(design, "pareto"),
        table("The choice and its runners-up", names, rows, numbers=names[1:6], marked=0),
        tag("p", design.ties.text if design.ties else ""),
        table(
            "Picks within the uncertainty",
            ("for", "candidate", "loss", "why", "kind", "source"),
            picks,
            numbers=("loss",),
        ),
        table("What ten per cent more would buy", ("of", "buys"), levers),
        tag("p", f"{design.num_candidates:,} (shape, plan) pairs were considered."),
        table("Rejected", ("reason", "pairs"), rejected, numbers=("pairs",)),
    )


def trust(design: Design) -> Markup:
    """The evidence that the predictions rest on."""
    rows = [(item.name, item.text, kind(item.kind), item.source) for item in design.trust]
    return section("Trust", table("Evidence", ("what", "measured error", "kind", "source"), rows))


def section(title: str, *children: str) -> Markup:
    """A section with its heading; its id is the title in lower case."""
    name = title.lower()
    return tag(
        "section", tag("h2", title, id=f"{name}-title"), *children, id=name, aria_labelledby=f"{name}-title"
    )


def _cards(design: Design) -> Markup:
    cards = []
    for name, value, found in prediction_rows(design.predicted):
        if name in CARDS:
            main, _, rest = value.partition(" (")
            cards.append(tag("div", tag("dt", name), tag("dd", tag("div", main, class_="value"),
                             tag("div", f"({rest}" if rest else "", " ", kind(found.kind), class_="interval"))))  # fmt: skip
    return tag("dl", *cards, class_="cards")


def _plan_rows(design: Design) -> list[tuple[str, int]]:
    plan = design.plan
    names = ("tp", "pp", "vpp", "cp", "ep", "etp", "dp_shard", "dp_replicate", "micro_batch")
    return [(name, int(getattr(plan, name))) for name in names]
