"""The chart of the candidates: what a lower loss costs in time per token.

Decisions: all candidates share the batch of the run, so the step time over its tokens is the time per token. The
choice, those that tie with it and those behind differ in colour and in form; the tooltip holds everything that the
Design knows about a candidate.
"""

from __future__ import annotations

from shapewright.designs.document import Candidate, Design
from shapewright.report.text import loss_text, percent, standing
from shapewright.report.theme import BLUE, BRICK, GREY
from shapewright.report.vega import Spec, chart, classes, labelled, linear_axis, loss_unit, padded, tooltip
from shapewright.units import format_count, format_quantity


def pareto(design: Design) -> Spec | None:
    """Candidates: predicted loss against step time per token; None for an estimate of one given model."""
    if len(design.candidates) < 2:
        return None
    batch = design.run.global_batch_sequences * design.run.sequence_length
    looks = {"choice": (BRICK, "diamond"), "tie": (BLUE, "circle"), "behind": (GREY, "triangle-up")}
    rows = [_row(design, index, candidate, batch) for index, candidate in enumerate(design.candidates)]
    times, losses = [row["time_per_token_s"] for row in rows], [row["loss"] for row in rows]
    x_low, x_high = padded(times, 0.08)
    y_low, y_high = padded(losses, 0.12)
    x = linear_axis("time_per_token_s", "step time per token", x_low, x_high, unit="s")
    y = linear_axis("loss", f"predicted loss [{loss_unit(design)}]", y_low, y_high)
    labels = labelled(
        rows,
        [(time - x_low) / (x_high - x_low) for time in times],
        [(loss - y_low) / (y_high - y_low) for loss in losses],
        x=x,
        y=y,
        strong=1,
        sides=("left", "below"),
    )
    front = sorted((row for row in rows if row["pareto"]), key=lambda row: row["time_per_token_s"])
    ties = sum(row["standing"] == "tie" for row in rows)
    return chart(
        f"Predicted loss against step time per token for {len(rows)} candidates. The choice {rows[0]['name']} has loss "
        f"{loss_text(losses[0])}; {ties} others tie with it; {len(front)} of those shown are on the Pareto front.",
        [
            {
                "data": {"values": front},
                "mark": {"type": "line", "style": "front", "interpolate": "step-after"},
                "encoding": {"x": x, "y": y, "order": {"field": "time_per_token_s"}},
            },
            {
                "data": {"values": rows[::-1]},  # the choice last, on top of the others
                "mark": {"type": "point", "filled": True, "opacity": 0.95, "style": "segment"},
                "encoding": {
                    "x": x,
                    "y": y,
                    "size": {"field": "area", "type": "quantitative", "legend": None, "scale": None},
                    **classes("standing", looks, rows),
                    "tooltip": tooltip(name="candidate", shape_text="shape", params_text="parameters", plan="plan",
                                        loss_text="predicted loss", tokens_text="tokens", step_text="step",
                                        mfu_text="MFU", front="on the Pareto front"),
                },
            },
            *labels,
        ],
    )  # fmt: skip


def _row(design: Design, index: int, candidate: Candidate, batch: int) -> Spec:
    c, per_token = candidate, candidate.step_time_s / batch
    return {
        "name": c.summary,
        "index": index,
        "standing": "choice" if index == 0 else "tie" if c.tie else "behind",
        "pareto": c.pareto,
        "loss": c.loss,
        "step_time_s": c.step_time_s,
        "time_per_token_s": per_token,
        "params": c.params,
        "tokens": c.tokens,
        "mfu": c.mfu,
        "area": 260 if index == 0 else 80,
        "loss_text": f"{loss_text(c.loss)} ({standing(design, index)})",
        "shape_text": f"width {c.width:,}, depth {c.depth:,}, heads {c.heads:,} (kv {c.kv_heads:,}), ffn {c.ffn_size:,}",
        "params_text": format_count(c.params),
        "tokens_text": format_count(c.tokens),
        "step_text": f"{format_quantity(c.step_time_s, 's')}, {format_quantity(per_token, 's')} per token",
        "mfu_text": percent(c.mfu),
        "plan": c.plan,
        "front": "yes" if c.pareto else "no",
    }
