"""The Markdown report: what a pull request needs to show of a Design, in one screen.

Decisions: tables only, no pictures, since a pull request cannot hold files; what is long folds away.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from shapewright.designs.document import Design
from shapewright.report.explanation import what_binds, what_would_change
from shapewright.report.text import (
    batch_text,
    loss_text,
    percent,
    plan_text,
    prediction_rows,
    recipe_rows,
    request_text,
    shape_lines,
    shares_by_cause,
    standing,
)
from shapewright.units import format_count, format_quantity


def markdown_report(design: Design) -> str:
    """The Design as GitHub-flavoured Markdown, in the fixed order: request, assumed, answer, why, trust, next."""
    p = design.predicted
    rows = [(name, value, f.kind) for name, value, f in prediction_rows(p)]
    parts = [
        f"### {_cell(design.shape.name)}: {format_count(p.params.value)} parameters on {_cell(design.request.hardware)}",
        f"**Request** {_cell(request_text(design.request))}",
        "\n".join(f"> **Warning** {_cell(text)}" for text in design.warnings),
        _table(("predicted", "value (90 % interval)", "kind"), rows),
        "\n".join(f"**Shape** {_cell(line)}" for line in shape_lines(design.shape)),
        f"**Plan** {_cell(plan_text(design))} · batch of {batch_text(design)}",
        "**Why**\n" + _bullets([*what_binds(design), *(reason.text for reason in design.reasons)]),
        _folded(
            "Where the step and the memory go",
            _table(("cause", "of the step"), [(c, percent(s)) for c, s in shares_by_cause(design.step_parts).items()])
            + "\n\n"
            + _table(("what", "of the memory"), [(c, percent(s)) for c, s in shares_by_cause(design.memory_parts).items()]),
        ),
        _folded("What would change", _bullets(item.text for item in what_would_change(design) if item.bound)),
        _folded("Runners-up", _candidates(design)),
        _folded("Recipe", _table(("figure", "value", "kind"), [(n, v, f.kind) for n, v, f in recipe_rows(design)])),
        _folded("Assumed", _table(("what", "value", "kind"), [(a.name, a.text, a.kind) for a in design.assumptions])),
        _folded("Trust", _table(("what", "measured error", "kind"), [(t.name, t.text, t.kind) for t in design.trust])),
        f"<sub>Shapewright {_cell(design.shapewright_version)} · `shapewright explain design.json`</sub>",
    ]  # fmt: skip
    return "\n\n".join(part for part in parts if part) + "\n"


def _candidates(design: Design) -> str:
    rows = [
        (
            c.summary, format_count(c.params), format_count(c.tokens), format_quantity(c.step_time_s, "s"),
            percent(c.mfu), loss_text(c.loss), standing(design, index), c.plan,
        )
        for index, c in enumerate(design.candidates[:8])
    ]  # fmt: skip
    return _table(("shape", "parameters", "tokens", "step", "MFU", "loss", "standing", "plan"), rows)


def _cell(text: str) -> str:
    """A text in which nothing is markup of a table or of a page."""
    return text.replace("&", "&amp;").replace("<", "&lt;").replace("|", "\\|").replace("\n", " ")


def _table(names: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    if not rows:
        return ""
    head = [f"| {' | '.join(names)} |", f"|{'---|' * len(names)}"]
    return "\n".join([*head, *(f"| {' | '.join(map(_cell, row))} |" for row in rows)])


def _bullets(items: Iterable[str]) -> str:
    return "\n".join(f"- {_cell(item)}" for item in items)


def _folded(title: str, body: str) -> str:
    return f"<details><summary>{title}</summary>\n\n{body}\n\n</details>" if body.strip() else ""
