"""Hypothetical hardware as an answer: words and tables."""

from __future__ import annotations

from shapewright.outlook.crossing import TIE, Contest
from shapewright.outlook.hypothetical import PROPERTIES
from shapewright.outlook.outcome import Outcome
from shapewright.outlook.wanted import Wanted
from shapewright.outlook.whatif import Asked, WhatIf
from shapewright.report.text import percent
from shapewright.report.view import Grid, View
from shapewright.report.whatif_charts import whatif_charts
from shapewright.units import format_count

MOST_ROWS = 60
"""Rows of a sweep on the console; the page and --json have all."""


def whatif_view(found: WhatIf) -> View:
    """The answer of ``shapewright whatif``."""
    answer: list[str | Grid] = [_chips("as it is, and as asked", [_base(found), *found.asked])]
    if found.scenarios:
        answer.append(_chips("Scenarios", found.scenarios))
        answer += [f"{each.name}: {'; '.join(each.assumptions)}" for each in found.scenarios]
    if found.elasticities:
        answer += [_slopes(found), _loss_slopes(found)]
    answer += [item for each in found.wanted for item in _wanted(each)]
    if found.contest is not None:
        answer += contest_lines(found.contest)
    if found.swept:
        answer.append(
            _chips(
                f"Sweep over {' and '.join(found.axes)}, {len(found.swept)} chips", found.swept[:MOST_ROWS]
            )
        )
        if len(found.swept) > MOST_ROWS:
            answer.append(f"and {len(found.swept) - MOST_ROWS} more with --json or --report")
    why = [
        "every chip is searched anew: shape, plan and batch; worth is the device-time on the real hardware that reaches the "
        f"same loss (here 1 % more time lowers the loss by {-found.time_elasticity:.4f} %)",
    ]
    if found.elasticities or found.wanted:
        why.append(
            "worth of a property: per cent of device-time that one per cent more of it replaces; it pays at fixed "
            "dollars (or power) where that is above its share of them"
        )
    assumed = []
    if found.elasticities or found.wanted:
        for shares in found.shares:
            parts = ", ".join(
                f"{name} {percent(figure.value)}" for name, figure in shares.by_property.items()
            )
            assumed.append(
                f"shares of {shares.kind}: {parts} [assumed] {next(iter(shares.by_property.values())).source}"
            )
    return View(
        title=f"What if {found.hardware} were another",
        sections=(
            ("Request", (f"{found.hardware}, {found.budget}",)),
            ("Assumed", (*assumed, *found.remarks)),
            ("Answer", tuple(answer)),
            ("Why", tuple(why)),
            (
                "Trust",
                (
                    "losses are of the law's corpus; differences between chips are what counts, its error is common to all",
                    f"90 % interval of the loss as it is: {found.base.low:.3f} to {found.base.high:.3f}",
                    "properties: "
                    + ", ".join(PROPERTIES)
                    + ", format, seq_len, and every figure of shapewright hardware",
                ),
            ),
            (
                "Next",
                (
                    f"shapewright whatif --on {found.hardware} --elasticities",
                    f"shapewright whatif --on {found.hardware} --sweep memory=0.5x..2x:5",
                    f"shapewright whatif --on {found.hardware} --wish dollars",
                    f"shapewright whatif --on {found.hardware} --scenario all",
                ),
            ),
        ),
        charts=whatif_charts(found),
    )


def _base(found: WhatIf) -> Asked:
    return Asked(name=found.hardware, outcome=found.base, worth=1.0)


def _loss(outcome: Outcome) -> str:
    return "-" if outcome.loss is None else f"{outcome.loss:.4f}"


def _chips(caption: str, asked: list[Asked] | tuple[Asked, ...]) -> Grid:
    rows = []
    for each in asked:
        o = each.outcome
        if o.loss is None or o.params is None or o.tokens is None or o.mfu is None:
            rows.append((each.name, "-", "-", "-", "-", "-", o.reason))
            continue
        rows.append(
            (
                each.name,
                _loss(o),
                "-" if each.worth is None else f"{each.worth:.3g}x",
                format_count(o.params),
                format_count(o.tokens),
                percent(o.mfu),
                o.shape,
            )
        )
    return Grid(
        caption=caption,
        headers=("chip", "loss", "worth", "params", "tokens", "MFU", "shape"),
        rows=tuple(rows),
        numbers=("loss", "worth", "params", "tokens", "MFU"),
    )


def _signed(value: float | None) -> str:
    return "-" if value is None else f"{value:+.3f}"


def _slopes(found: WhatIf) -> Grid:
    rows = tuple(
        (
            e.name,
            f"{e.worth:.3f}",
            "-" if e.dollar_share is None else f"{e.dollar_share:.3f}",
            _signed(e.at_fixed_dollars),
            "-" if e.power_share is None else f"{e.power_share:.3f}",
            _signed(e.at_fixed_power),
        )
        for e in found.elasticities
    )
    heads = ("property", "worth", "of dollars", "left", "of power", "left ")
    return Grid(
        caption="What one per cent more is worth, per cent of device-time",
        headers=heads,
        rows=rows,
        numbers=heads[1:],
    )


def _loss_slopes(found: WhatIf) -> Grid:
    rows = tuple(
        (
            e.name,
            f"{e.per_loss:+.5f}",
            f"{e.low:+.5f} to {e.high:+.5f}",
            "-" if e.loss_at_fixed_dollars is None else f"{e.loss_at_fixed_dollars:+.5f}",
            "-" if e.loss_at_fixed_power is None else f"{e.loss_at_fixed_power:+.5f}",
        )
        for e in found.elasticities
    )
    heads = ("property", "alone", "down and up", "fixed $", "fixed W")
    return Grid(
        caption="Elasticity of the loss, d ln loss / d ln property",
        headers=heads,
        rows=rows,
        numbers=heads[1:],
    )


def _wanted(each: Wanted) -> list[str | Grid]:
    rows = tuple((name, f"{factor:.2f}x") for name, factor in each.factors.items())
    loss = each.outcome.loss
    return [
        Grid(
            caption=f"The chip that this family wants at equal {each.kind}",
            headers=("property", "factor"),
            rows=rows,
            numbers=("factor",),
        ),
        f"loss {each.base_loss:.4f} to {loss:.4f}, as {each.worth:.3g}x the device-time; a device costs {each.cost:.2f}x "
        f"and device-hours are as many fewer; best shape {each.outcome.shape}",
        f"{len(each.tried)} chips tried in steps of 1.41x; {each.ended}",
    ]


def contest_lines(found: Contest) -> list[str | Grid]:
    """The table of the primitives, the crossings and the ties."""
    names = [entry.primitive for entry in found.places[0].entries]
    rows = []
    for place in found.places:
        losses = {entry.primitive: entry.loss for entry in place.entries}
        cells = ("-" if losses[name] is None else f"{losses[name]:.4f}" for name in names)
        rows.append((place.text, *cells, place.best))
    lines: list[str | Grid] = [
        Grid(
            caption=f"Primitives along {found.axis}: predicted loss at the budget",
            headers=(found.axis, *names, "best"),
            rows=tuple(rows),
            numbers=(found.axis, *names),
        )
    ]
    lines += [
        f"{each.after} passes {each.before} at {found.axis} about {each.value:,.3g} "
        f"(between {each.low:,g} and {each.high:,g})"
        for each in found.crossings
    ]
    for place in found.places:
        if place.tied:
            lines.append(
                f"{found.axis} {place.text}: a tie; {place.first} has the lowest loss, and the 90 % interval of the "
                f"difference does not tell it from {', '.join(place.tied)}"
            )
    bests = {place.best for place in found.places}
    if len(bests) == 1 and TIE not in bests:
        lines.append(f"{bests.pop()} stays the best over the whole range")
    lines += found.evidence
    lines.append(
        "best: ahead of every other by more than the 90 % interval of the difference (both mixers' priors about the "
        "loss, the scatter of single shapes); where it is a tie, cost and serving decide"
    )
    missing = {
        entry.primitive: entry.reason for place in found.places for entry in place.entries if entry.reason
    }
    lines += [f"{name} is left out where it has no loss: {reason}" for name, reason in missing.items()]
    return lines
