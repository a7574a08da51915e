"""A Design on the console, in the fixed order: request, assumptions, answer, why, trust, next commands.

Decisions: two columns and no frames, so that it fits 80 columns and can be copied without trailing blanks; every
figure shows unit, interval and kind of evidence; nothing from the document is read as markup, and its control
characters are not passed on to the terminal.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from rich.console import Console
from rich.text import Text

from shapewright.designs.document import Design
from shapewright.report.explanation import what_binds, what_would_change
from shapewright.report.text import (
    Row,
    batch_text,
    loss_text,
    percent,
    pick_lines,
    plan_text,
    prediction_rows,
    recipe_rows,
    rejected_by_count,
    rejected_text,
    request_text,
    shape_lines,
    shares_by_cause,
    standing,
    ties_text,
    transfer_text,
)
from shapewright.units import format_count, format_quantity

NEXT = (
    "keep it with --out design.json, then look closer:",
    "shapewright explain design.json --report report.html",
)
Section = tuple[str, Iterable[Text]]
INDENT = 11
"""Where the second column begins."""
MAX_NAME = 20
"""Longest name of a candidate in the table."""
MAX_RUNNERS_UP = 12
"""Rows of the table of candidates; the HTML report has them all."""


def print_design(design: Design, console: Console, *, next_commands: Sequence[str] = NEXT) -> None:
    """Print a design, or an estimate, which is a design without candidates and perhaps without recipe and loss."""
    print_sections(
        console,
        ("Request", [plain(request_text(design.request))]),
        ("Assumed", (_evident(f"{a.name}: {a.text}", a.kind) for a in design.assumptions)),
        ("Design", map(plain, shape_lines(design.shape))),
        ("Plan", [plain(plan_text(design))]),
        ("Recipe", _recipe_lines(design)),
        ("Predicted", _aligned(prediction_rows(design.predicted))),
        ("Why", _why_lines(design)),
        ("Picks", (_evident(text, kind) for text, kind in pick_lines(design))),
        ("Levers", (plain(lever.text) for lever in design.elasticities)),
        ("Trust", _trust_lines(design)),
        ("Next", map(plain, next_commands)),
    )


def print_explanation(design: Design, console: Console, *, next_commands: Sequence[str] = ()) -> None:
    """Print where time and memory go, what binds, why, what would change, runners-up, rejections and trust."""
    step, memory = design.predicted.step_time_s.value, design.predicted.memory_bytes.value
    print_sections(
        console,
        ("Request", [plain(request_text(design.request))]),
        ("Assumed", (_evident(f"{a.name}: {a.text}", a.kind) for a in design.assumptions)),
        ("Design", map(plain, shape_lines(design.shape))),
        ("Plan", [plain(plan_text(design))]),
        ("Step", _share_lines(shares_by_cause(design.step_parts), step, "s")),
        ("Memory", _share_lines(shares_by_cause(design.memory_parts), memory, "B")),
        ("Binds", map(plain, what_binds(design))),
        ("Why", (plain(reason.text) for reason in design.reasons)),
        ("Changes", (plain(item.text) for item in what_would_change(design) if item.bound)),
        ("Runners-up", [*_candidate_lines(design), *(plain(text) for text in (ties_text(design),) if text)]),
        ("Picks", (_evident(text, kind) for text, kind in pick_lines(design))),
        ("Levers", (plain(lever.text) for lever in design.elasticities)),
        ("Rejected", (plain(f"{item.count:>13,}  {item.reason}") for item in rejected_by_count(design))),
        ("Considered", [plain(f"{design.num_candidates:>13,}  (shape, plan) pairs")]),
        ("Trust", _trust_lines(design, sources=True)),
        ("Next", map(plain, next_commands)),
    )


def plain(text: str, style: str = "") -> Text:
    """Text as it is: no markup, and no control characters for the terminal."""
    return Text("".join(letter if letter.isprintable() else "?" for letter in text), style=style)


def print_sections(console: Console, *sections: Section) -> None:
    """The sections one after another; an empty one is left out."""
    for name, lines in sections:
        for line in lines:
            for piece in line.wrap(console, console.width - INDENT):
                piece.rstrip()
                console.print(Text.assemble((f"{name:<{INDENT}}", "bold"), piece), soft_wrap=True)
                name = ""


def _evident(text: str, kind: str) -> Text:
    return plain(text).append(" ").append_text(plain(f"[{kind}]", "dim"))


def _aligned(rows: Sequence[Row]) -> list[Text]:
    wide = max(len(name) for name, _, _ in rows)
    return [_evident(f"{name:<{wide}}  {text}", figure.kind) for name, text, figure in rows]


def _recipe_lines(design: Design) -> list[Text]:
    run, recipe = design.run, design.recipe
    how = f"{run.optimizer} in {run.precision}" + (
        f", {recipe.schedule} schedule, batch and rate by {recipe.law}" if recipe else ""
    )
    by_kind: dict[str, list[str]] = {}
    for name, text, figure in recipe_rows(design):
        by_kind.setdefault(figure.kind, []).append(f"{name} {text}")
    figures = [_evident(" · ".join(texts), kind) for kind, texts in by_kind.items()]
    remarks = [plain(remark, "yellow") for remark in (recipe.remarks if recipe else ())]
    carried = transfer_text(design)
    return [
        plain(f"batch of {batch_text(design)}"),
        plain(how),
        *figures,
        *remarks,
        *([plain(carried)] if carried else []),
    ]


def _why_lines(design: Design) -> list[Text]:
    lines = [*(reason.text for reason in design.reasons), ties_text(design), rejected_text(design)]
    return [plain(line) for line in lines if line]


def _trust_lines(design: Design, *, sources: bool = False) -> list[Text]:
    lines = [plain(f"warning: {warning}", "yellow") for warning in design.warnings]
    for item in design.trust:
        lines.append(_evident(f"{item.name}: {item.text}", item.kind))
        if sources:
            lines.append(plain(f"  {item.source}", "dim"))
    return lines


def _share_lines(shares: dict[str, float], total: float, unit: str) -> list[Text]:
    return [
        plain(f"{cause:<14}{percent(share):>6}  {format_quantity(share * total, unit)}")
        for cause, share in shares.items()
    ]


def _candidate_lines(design: Design) -> list[Text]:
    if len(design.candidates) < 2:
        return []
    rows = [("shape", "params", "tokens", "step", "MFU", "loss", "standing", "")]
    for index, c in enumerate(design.candidates[:MAX_RUNNERS_UP]):
        name = c.summary if len(c.summary) <= MAX_NAME else c.summary[: MAX_NAME - 1] + "…"
        rows.append((name, format_count(c.params), format_count(c.tokens), format_quantity(c.step_time_s, "s"),
                     percent(c.mfu), loss_text(c.loss), standing(design, index), "Pareto" if c.pareto else ""))  # fmt: skip
    wide = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    lines = []
    for at, row in enumerate(rows):
        cells = [
            f"{row[0]:<{wide[0]}}",
            *(f"{cell:>{wide[k]}}" for k, cell in enumerate(row[1:-1], 1)),
            row[-1],
        ]
        lines.append(plain(" ".join(cells), "" if at else "dim"))
    hidden = len(design.candidates) - MAX_RUNNERS_UP
    return [*lines, plain(f"and {hidden} more in the report", "dim")] if hidden > 0 else lines
