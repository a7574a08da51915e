"""The chart of a ladder: the loss of every finished run against the tokens it saw, a line for each size."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from shapewright.report.theme import PALETTE
from shapewright.report.vega import Spec, chart, log_axis, tooltip
from shapewright.units import format_count


def ladder_chart(rows: Sequence[Mapping[str, Any]]) -> Spec | None:
    """Runs of the rungs and of the other shapes; None before the first of them is finished.

    Args:
        rows: finished runs with ``name``, ``role``, ``arm``, ``params``, ``tokens``, ``loss``, ``width``, ``depth``.
    """
    shown = [
        {
            "size": f"{row['width']}x{row['depth']}",
            "params": row["params"],
            "tokens": row["tokens"],
            "loss": row["loss"],
            "role": row["role"],
            "arm": row["arm"],
            "run": row["name"],
            "loss_text": f"{row['loss']:.4f} nat/byte",
            "tokens_text": format_count(row["tokens"]),
            "params_text": format_count(row["params"]),
        }
        for row in rows
        if row["loss"] < float("inf")
    ]
    if not shown:
        return None
    tokens, losses = [row["tokens"] for row in shown], [row["loss"] for row in shown]
    x = log_axis("tokens", "bytes seen", min(tokens) / 1.3, max(tokens) * 1.3)
    y = log_axis("loss", "loss [nat/byte]", min(losses) / 1.03, max(losses) * 1.03)
    # Arms of one layout differ in parameters, and are one size.
    sizes = list(dict.fromkeys(row["size"] for row in sorted(shown, key=lambda row: row["params"])))
    colour = {"field": "size", "type": "nominal", "scale": {"domain": sizes, "range": list(PALETTE)},
              "legend": {"columns": 3}}  # fmt: skip
    rungs = [row for row in shown if row["role"] == "rung"]
    best = min(losses)
    return chart(
        f"Loss of {len(shown)} finished runs of {len(sizes)} sizes against the bytes they saw; the lowest is {best:.3f}.",
        [
            {
                "data": {"values": rungs},
                "mark": {"type": "line", "strokeWidth": 1.5},
                "encoding": {"x": x, "y": y, "color": colour, "detail": {"field": "run"}},
            },
            {
                "data": {"values": shown},
                "mark": {"type": "point", "filled": True, "size": 60},
                "encoding": {
                    "x": x,
                    "y": y,
                    "color": colour,
                    "shape": {"field": "role", "type": "nominal", "legend": None,
                              "scale": {"domain": ["rung", "shape", "tune"], "range": ["circle", "square", "cross"]}},
                    "tooltip": tooltip(run="run", size="shape", arm="arm", params_text="parameters", tokens_text="bytes",
                                       loss_text="loss", role="role"),
                },
            },
        ],
        height=200,
    )  # fmt: skip
