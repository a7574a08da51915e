"""The charts of a compute-equivalent gain over compute, and of the runs behind it.

Decisions: both axes are logarithmic, so that a constant factor is a level line and a growing one a rising line. The
range that was run is a filled band; beyond it the band is hatched (Vega-Lite has no pattern, so thin strokes make
one), and only drawn where the largest runs obeyed the fit of the smaller ones.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from shapewright.report.theme import PALETTE
from shapewright.report.vega import Spec, chart, log_axis, tooltip
from shapewright.scaling.gain import Gain
from shapewright.scaling.gain_runs import Branch

STROKES = 28
"""Strokes of the hatching."""


def gain_chart(base: str, gains: Mapping[str, Gain], title: str) -> Spec:
    """Gain of each arm over ``base`` with its interval, hatched where it is extrapolated.

    ``title`` is that of the axis of costs.
    """
    inside, strokes, lines = [], [], []
    for name, gain in gains.items():
        for cost, value, low, high in zip(gain.cost, gain.gain, gain.gain_low, gain.gain_high, strict=True):
            inside.append(
                {
                    "arm": name,
                    "cost": float(cost),
                    "gain": float(value),
                    "low": float(low),
                    "high": float(high),
                }
            )
        if not gain.extrapolates:
            continue
        tail = [np.concatenate((part[-1:], beyond)) for part, beyond in (
            (gain.cost, gain.beyond_cost), (gain.gain, gain.beyond_gain), (gain.gain_low, gain.beyond_low),
            (gain.gain_high, gain.beyond_high))]  # fmt: skip
        at = np.linspace(np.log(tail[0][0]), np.log(tail[0][-1]), STROKES)
        value, low, high = (np.exp(np.interp(at, np.log(tail[0]), np.log(part))) for part in tail[1:])
        strokes += [
            {"arm": name, "cost": float(np.exp(c)), "gain": float(v), "low": float(a), "high": float(b)}
            for c, v, a, b in zip(at, value, low, high, strict=True)
        ]
        lines += strokes[-STROKES:]
    rows = inside + strokes
    x = log_axis(
        "cost",
        title,
        min(r["cost"] for r in rows) / 1.2,
        max(r["cost"] for r in rows) * 1.2,
    )
    low, high = min(0.8, *(r["low"] for r in rows)), max(1.25, *(r["high"] for r in rows))
    y = log_axis("gain", f"compute-equivalent gain over {base}", low / 1.1, high * 1.1)
    colour = {
        "field": "arm", "type": "nominal",
        "scale": {"domain": list(gains), "range": [PALETTE[i % len(PALETTE)] for i in range(len(gains))]},
    }  # fmt: skip
    layer: list[Spec] = [
        {"data": {"values": [{"gain": 1.0}]}, "mark": {"type": "rule", "style": "limit"}, "encoding": {"y": y}},
        {"data": {"values": inside}, "mark": {"type": "area", "opacity": 0.25},
         "encoding": {"x": x, "y": {**y, "field": "low"}, "y2": {"field": "high"}, "color": colour}},
        {"data": {"values": inside}, "mark": {"type": "line", "strokeWidth": 2.5},
         "encoding": {"x": x, "y": y, "color": colour}},
        {"data": {"values": strokes}, "mark": {"type": "rule", "strokeWidth": 1, "opacity": 0.55},
         "encoding": {"x": x, "y": {**y, "field": "low"}, "y2": {"field": "high"}, "color": colour}},
        {"data": {"values": lines}, "mark": {"type": "line", "strokeWidth": 2, "strokeDash": [6, 4]},
         "encoding": {"x": x, "y": y, "color": colour}},
    ]  # fmt: skip
    told = "; ".join(f"{name}: {gain.verdict}" for name, gain in gains.items())
    return chart(
        f"Compute-equivalent gain over {base} against {title}. {told}. Hatched: extrapolated.", layer
    )


def runs_chart(rows: Sequence[Branch], arms: Sequence[str]) -> Spec:
    """Loss of every judged branch over its FLOP: a colour for each of ``arms``, a form for each length."""
    shown = [
        {
            "arm": row.arm, "cost": row.costs["flops"], "loss": row.loss, "run": row.run,
            "length": "" if row.length is None else f"{row.length:g} tokens per parameter",
            "loss_text": f"{row.loss:.4f}",
        }
        for row in rows
    ]  # fmt: skip
    costs, losses = [row["cost"] for row in shown], [row["loss"] for row in shown]
    x = log_axis("cost", "training compute [FLOP]", min(costs) / 1.3, max(costs) * 1.3)
    y = log_axis("loss", "held-out loss [nat/token]", min(losses) / 1.03, max(losses) * 1.03)
    colour = {"field": "arm", "type": "nominal",
              "scale": {"domain": list(arms), "range": [PALETTE[i % len(PALETTE)] for i in range(len(arms))]}}  # fmt: skip
    shape = {"field": "length", "type": "nominal", "legend": {"columns": 2} if shown[0]["length"] else None}
    layer: list[Spec] = [
        {"data": {"values": shown}, "mark": {"type": "line", "strokeWidth": 1, "opacity": 0.6},
         "encoding": {"x": x, "y": {**y, "aggregate": "mean"}, "color": colour, "detail": {"field": "length"}}},
        {"data": {"values": shown}, "mark": {"type": "point", "size": 55, "strokeWidth": 1.8},
         "encoding": {"x": x, "y": y, "color": colour, "shape": shape,
                      "tooltip": tooltip(run="run", length="length", loss_text="loss")}},
    ]  # fmt: skip
    return chart(f"Loss of {len(shown)} branches of {', '.join(arms)} against training compute.", layer)
