"""What the templates show: a design turned into rows, cards and charts, with every text already chosen.

Decisions: templates hold no logic beyond loops; numbers become text by the same functions as in the console and the
report. Each number of the shape is a tile whose class is what ``lint`` says it costs.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from typing import Any

from markupsafe import Markup

from shapewright.architecture.shape import DenseFFN, ExpertsFFN, LatentAttention
from shapewright.designs.document import Candidate, Design
from shapewright.evidence import Figure
from shapewright.report import sections
from shapewright.report.explanation import what_binds, what_would_change
from shapewright.report.figures import CHARTS, numbers
from shapewright.report.text import (
    batch_text,
    change,
    loss_text,
    percent,
    plan_text,
    prediction_rows,
    recipe_rows,
    rejected_by_count,
    request_text,
    standing,
    ties_text,
)
from shapewright.report.theme import vega_config
from shapewright.studio.sliders import candidate_pins, sliders, tried
from shapewright.studio.state import State
from shapewright.units import format_count, format_quantity

THEMES = {"light": vega_config(dark=False), "dark": vega_config(dark=True)}
CARDS = ("loss", "step", "MFU", "memory/device", "training time", "dollars", "energy", "tokens/s")
_TITLES = {"loss": "Predicted loss", "step": "Step time", "MFU": "Utilisation (MFU)", "dollars": "Cost",
           "memory/device": "Memory / device", "training time": "Training time", "energy": "Energy",
           "tokens/s": "Tokens / s"}  # fmt: skip


@dataclass(frozen=True, kw_only=True, slots=True)
class Card:
    """One predicted figure."""

    name: str
    value: str
    unit: str
    note: str
    kind: str
    source: str
    low: float | None
    """Where the interval begins on its bar [per cent]; None where there is no interval."""
    high: float | None
    at: float
    """Where the value stands on the bar [per cent]."""
    fill: float | None = None
    """Share of a limit that is used [per cent]."""
    tight: bool = False


def cards(design: Design) -> list[Card]:
    """The predictions that matter most; what is unknown has no card."""
    found = []
    rows = {name: (text, figure) for name, text, figure in prediction_rows(design.predicted)}
    for name in CARDS:
        if name not in rows:
            continue
        text, figure = rows[name]
        value, _, note = text.partition(" (")
        number, _, unit = value.partition(" ")
        fill = None
        tight = False
        if name == "memory/device":
            used, limit = figure.value, design.predicted.memory_limit_bytes.value
            fill, tight = min(100 * used / limit, 100.0), used > 0.95 * limit
        low, at, high = _bar(figure)
        found.append(
            Card(
                name=_TITLES[name], value=number, unit=unit, note=note.replace(")", "", 1) if note else "", kind=figure.kind,
                source=figure.source, low=low, high=high, at=at, fill=fill, tight=tight,
            )
        )  # fmt: skip
    return found


def _bar(figure: Figure) -> tuple[float | None, float, float | None]:
    """Where an interval lies on a bar that is 1.5 times as long as it."""
    if figure.low is None or figure.high is None or figure.high <= figure.low:
        return None, 50.0, None
    length = figure.high - figure.low
    start = figure.low - 0.25 * length
    return 100 / 6, 100 * (figure.value - start) / (1.5 * length), 100 * 5 / 6


def charts(design: Design) -> list[dict[str, Any]]:
    """The charts of a design with their specifications as JSON."""
    found = []
    for name, (title, caption, chart) in CHARTS.items():
        spec = chart(design)
        if spec is not None:
            found.append(
                {
                    "name": name, "title": title, "caption": caption, "spec": json.dumps(spec),
                    "description": spec["description"], "numbers": Markup(numbers(design, name)),
                }
            )  # fmt: skip
    return found


def candidate_state(state: State, candidate: Candidate) -> State:
    """The state that opens a runner-up as a design of its own."""
    return replace(state.alone(), **candidate_pins(candidate), keep=state.keep)


def candidates(state: State, design: Design) -> list[dict[str, Any]]:
    """The choice and its runners-up with the address that opens each."""
    rows = []
    for index, c in enumerate(design.candidates):
        rows.append(
            {
                "summary": c.summary, "params": format_count(c.params), "tokens": format_count(c.tokens),
                "step": format_quantity(c.step_time_s, "s"), "mfu": percent(c.mfu), "loss": loss_text(c.loss),
                "standing": standing(design, index), "front": c.pareto, "heads": f"{c.heads:,} ({c.kv_heads:,})",
                "ffn": f"{c.ffn_size:,}", "plan": c.plan,
                "href": "" if state.opened else "/?" + candidate_state(state, c).query(),
            }
        )  # fmt: skip
    return rows


def tiles(design: Design, findings: list[dict[str, Any]] | None) -> list[dict[str, Any]]:
    """Every number of the shape, coloured by what it costs; ``findings`` is None while they are looked for."""
    shape, run = design.shape, design.run
    block = max(shape.blocks, key=lambda each: int(each.count))
    mixer, channel = block.mixer, block.channel
    rows: list[tuple[str, str, int]] = [
        ("hidden_size", "width", int(shape.hidden_size)),
        ("num_layers", "depth", int(shape.num_layers)),
    ]
    for name, label in (("heads", "heads"), ("kv_heads", "kv heads"), ("head_dim", "head width")):
        # A recurrence or a convolution has channels and no heads.
        if (count := getattr(mixer, name, None)) is not None:
            rows.append((name, label, int(count)))
    if isinstance(mixer, LatentAttention):
        rows.append(("kv_lora_rank", "latent", int(mixer.kv_lora_rank)))
    if isinstance(channel, ExpertsFFN):
        rows += [
            ("experts", "experts", int(channel.experts)),
            ("topk", "per token", int(channel.topk)),
            ("expert ffn_size", "expert ffn", int(channel.ffn_size)),
        ]
    elif isinstance(channel, DenseFFN):
        rows.append(("ffn_size", "ffn", int(channel.ffn_size)))
    rows += [
        ("vocab_size", "vocabulary", int(shape.vocab_size)),
        ("seq_len", "sequence", run.sequence_length),
        ("global_batch", "batch", run.global_batch_sequences),
    ]
    found = []
    for parameter, label, value in rows:
        mine = [f for f in findings or () if f["parameter"] == parameter]
        worst = mine[0] if mine else None
        found.append(
            {
                "label": label, "value": f"{value:,}",
                "severity": worst["severity"] if worst else "waiting" if findings is None else "fine",
                "cost": f"costs {percent(worst['cost'])}" if worst else "" if findings is None else "nothing lost",
                "better": f"{worst['better']:,} would be better" if worst else "",
            }
        )  # fmt: skip
    return found


def findings_rows(findings: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The findings as text."""
    return [
        {
            **f, "value": f"{f['value']:,}", "better": f"{f['better']:,}", "cost": percent(f["cost"]),
            "params": format_count(abs(f["params_change"])), "more": f["params_change"] >= 0,
            "loss": "" if f["loss_change"] is None else f"{f['loss_change']:+.4f}",
        }
        for f in findings
    ]  # fmt: skip


def answer(state: State, design: Design) -> dict[str, Any]:
    """Everything that the answer shows."""
    p = design.predicted
    more = [(name, value, figure) for name, value, figure in prediction_rows(p)]
    return {
        "state": state,
        "design": design,
        "title": design.shape.name,
        "params": format_count(p.params.value),
        "active": format_count(p.active_params.value) if p.active_params.value != p.params.value else "",
        "request": request_text(design.request),
        "tokens": format_quantity(design.run.tokens.value, "1") if design.run.tokens else "",
        "plan": plan_text(design),
        "batch": batch_text(design),
        "cards": cards(design),
        "tiles": tiles(design, None),
        "sliders": sliders(state, design) if state.opened is None else (),
        "still": trial(state.alone(), design, design),
        "charts": charts(design),
        "candidates": candidates(state, design),
        "hrefs": json.dumps([row["href"] for row in candidates(state, design)]),
        "ties": ties_text(design),
        "rejected": [(f"{item.count:,}", item.reason) for item in rejected_by_count(design)],
        "considered": f"{design.num_candidates:,}",
        "binds": what_binds(design),
        # What binds says already where the step's time goes.
        "reasons": [reason.text for reason in design.reasons if reason.topic != "step"],
        "changes": [item.text for item in what_would_change(design) if item.bound],
        "assumed": Markup(sections.assumed(design)),
        "trust": Markup(sections.trust(design)),
        "predictions": [(name, value, figure.kind, figure.source) for name, value, figure in more],
        "recipe": [(name, value, figure.kind, figure.source) for name, value, figure in recipe_rows(design)],
        "warnings": design.warnings,
    }


def beside(design: Design) -> dict[str, Any]:
    """The picks among the ties, and what ten per cent more of a resource would buy."""
    return {
        "family": design.ties.text if design.ties else "",
        "picks": [
            (pick.name, pick.summary, loss_text(pick.loss), pick.text, pick.kind, pick.source)
            for pick in design.picks
        ],
        "levers": [(lever.resource, lever.text) for lever in design.elasticities],
    }


_COMPARED = (
    ("Step time", "step_time_s", -1), ("Tokens / s", "tokens_per_s", 1), ("Memory / device", "memory_bytes", -1),
    ("Predicted loss", "loss", -1), ("Cost", "dollars", -1), ("Utilisation (MFU)", "mfu", 1), ("Energy", "energy_j", -1),
)  # fmt: skip


def trial(state: State, design: Design, other: Design) -> dict[str, Any]:
    """What the sliders would give, beside what there is."""
    rows = []
    for label, name, better in _COMPARED:
        before, after = getattr(design.predicted, name), getattr(other.predicted, name)
        if before is None or after is None:
            rows.append({"label": label, "after": "unknown", "before": "", "change": "", "good": 0})
            continue
        ratio = after.value / before.value - 1 if before.value else 0.0
        still = abs(ratio) < 5e-5
        moved = f"{after.value - before.value:+.4f}" if name == "loss" else change(ratio)
        rows.append(
            {
                "label": label, "after": _short(name, after), "before": _short(name, before),
                "change": "no change" if still else moved,
                "good": 0 if still else 1 if (ratio > 0) == (better > 0) else -1,
                "size": min(abs(ratio) * (1000 if name == "loss" else 100), 100),
            }
        )  # fmt: skip
    limit = other.predicted.memory_limit_bytes.value
    mixer = other.shape.blocks[0].mixer
    heads, head_dim = getattr(mixer, "heads", None), getattr(mixer, "head_dim", None)
    of_heads = f"{int(heads):,} heads of {int(head_dim)}, " if heads and head_dim else ""
    size = format_count(other.predicted.params.value)
    return {
        "rows": rows,
        "plan": plan_text(other),
        "shape": f"{other.shape.name}: {size} parameters, {of_heads}{batch_text(other)}",
        "memory": percent(other.predicted.memory_bytes.value / limit),
        "href": "/?" + replace(tried(state, design), keep=state.keep).query(),
        "moved": state.moved,
        "heads": f"{int(heads):,}" if heads else "",
    }  # fmt: skip


def _short(name: str, figure: Figure) -> str:
    if name == "mfu":
        return percent(figure.value)
    return loss_text(figure.value) if name == "loss" else format_quantity(figure.value, figure.unit)


def comparison(shown: list[tuple[State, Design]], keep: tuple[str, ...]) -> dict[str, Any]:
    """Designs side by side; the best of each row is marked."""
    columns = []
    for index, (state, design) in enumerate(shown):
        rest = tuple(item for at, item in enumerate(keep) if at != index)
        columns.append(
            {
                "title": design.shape.name, "request": request_text(design.request), "href": "/?" + state.query(),
                "kept": index < len(keep), "rest": rest,
            }
        )  # fmt: skip
    rows: list[dict[str, Any]] = []

    def add(label: str, texts: list[str], values: list[float | None] | None = None, better: int = -1) -> None:
        best: set[int] = set()
        known = [v for v in values or () if v is not None]
        if len(known) > 1 and max(known) > min(known) and len(set(texts)) > 1:
            top = min(known) if better < 0 else max(known)
            best = {i for i, v in enumerate(values or ()) if v == top}
        rows.append({"label": label, "cells": [(text, i in best) for i, text in enumerate(texts)]})

    designs = [design for _, design in shown]
    add("Parameters", [format_count(d.predicted.params.value) for d in designs])
    add("Tokens", [format_count(d.run.tokens.value) if d.run.tokens else "" for d in designs])
    for label, name, better in _COMPARED:
        figures = [getattr(d.predicted, name) for d in designs]
        texts = ["unknown" if f is None else _short(name, f) for f in figures]
        add(label, texts, [None if f is None else f.value for f in figures], better)
    add("Training time", [format_quantity(d.predicted.train_time_s.value, "s") if d.predicted.train_time_s else ""
                          for d in designs])  # fmt: skip
    add("Width x depth", [f"{int(d.shape.hidden_size):,} x {int(d.shape.num_layers)}" for d in designs])
    add("Plan", [plan_text(d) for d in designs])
    add("Batch", [batch_text(d) for d in designs])
    return {"columns": columns, "rows": rows}
