"""How a notebook shows a Design: one small table, nothing loaded, readable on light and dark pages.

Decisions: colours and letters are the notebook's own. The whole report is one call away (``report.html``), and too
large to stand in every cell.
"""

from __future__ import annotations

from dataclasses import fields
from html import escape
from typing import TYPE_CHECKING

from shapewright.units import format_count, format_quantity

if TYPE_CHECKING:
    from shapewright.designs.document import Design

_NAMES = {
    "loss": "loss", "step_time_s": "step", "mfu": "MFU", "tokens_per_s": "tokens/s", "memory_bytes": "memory/device",
    "memory_limit_bytes": "usable memory", "train_time_s": "training time", "energy_j": "energy", "dollars": "dollars",
}  # fmt: skip


def notebook_html(design: Design) -> str:
    """The Design as a piece of HTML."""
    asked, p = design.request, design.predicted
    budget = f", {format_quantity(asked.budget.value, asked.budget.unit)}" if asked.budget else ""
    known = {field.name: getattr(p, field.name) for field in fields(p)}
    rows = "".join(
        f"<tr><th style='text-align:left'>{name}</th><td style='text-align:left'>{escape(str(known[key]))}</td>"
        f"<td style='text-align:left'><small title='{escape(known[key].source, quote=True)}'>{known[key].kind}</small>"
        "</td></tr>"
        for key, name in _NAMES.items()
        if known[key] is not None
    )
    warnings = "".join(f"<li><strong>{escape(text)}</strong></li>" for text in design.warnings)
    why = "".join(f"<li>{escape(reason.text)}</li>" for reason in design.reasons)
    return (
        f"<div><p><strong>{escape(design.shape.name)}</strong>, {format_count(p.params.value)} parameters on "
        f"{escape(asked.hardware + budget)}<br>{escape(design.plan.describe())}</p>"
        f"<table><thead><tr><th style='text-align:left'>predicted</th><th style='text-align:left'>90 % interval</th>"
        f"<th style='text-align:left'>kind</th></tr></thead><tbody>{rows}</tbody></table>"
        f"<ul>{warnings}</ul><details><summary>why</summary><ul>{why}</ul></details></div>"
    )
