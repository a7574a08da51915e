"""The step as a timeline: one track per stream of the busiest device.

Decisions: a Design knows each part's total over the step and, of communication, only what nothing hides, so the parts
lie end to end, each on the track of the stream that is busy or waited for. It is the trace of ``shapewright export
trace``, drawn.
"""

from __future__ import annotations

from shapewright.designs.document import Design
from shapewright.designs.streams import STREAMS, stream_of
from shapewright.report.text import STEP_CAUSES, percent
from shapewright.report.theme import PALETTE
from shapewright.report.vega import Spec, chart, linear_axis, tooltip
from shapewright.units import format_quantity

TRACK = 34
"""Height of a track [px]."""


def timeline(design: Design) -> Spec | None:
    """The parts of the step on their tracks; None where the Design has no breakdown."""
    if not design.step_parts:
        return None
    clock, rows = 0.0, []
    for part in design.step_parts:
        start, clock = clock, clock + part.value
        rows.append(
            {
                "part": part.name,
                "cause": part.cause,
                "stream": STREAMS[stream_of(part)].replace(" communication", ""),
                "start": start,
                "end": clock,
                "value_text": format_quantity(part.value, "s"),
                "share_text": percent(part.share),
            }
        )
    used = [
        name
        for name in (stream.replace(" communication", "") for stream in STREAMS)
        if any(row["stream"] == name for row in rows)
    ]
    causes = [cause for cause in STEP_CAUSES if any(row["cause"] == cause for row in rows)]
    colours: dict[str, str] = dict(zip(STEP_CAUSES, PALETTE, strict=False))
    x = linear_axis("start", "time in the step, parts end to end", 0.0, clock, unit="s")
    longest = max(rows, key=lambda row: row["end"] - row["start"])
    return chart(
        f"Timeline of one step of {format_quantity(clock, 's')} on {len(used)} streams; the longest part is "
        f"{longest['part']} with {longest['share_text']}.",
        [
            {
                "data": {"values": rows},
                "mark": {"type": "bar", "style": "segment", "height": {"band": 0.72}},
                "encoding": {
                    "x": x,
                    "x2": {"field": "end"},
                    "y": {
                        "field": "stream", "type": "nominal", "scale": {"domain": used},
                        "axis": {"title": None, "labelLimit": 130, "domain": False, "ticks": False},
                    },
                    "color": {
                        "field": "cause", "type": "nominal",
                        "scale": {"domain": causes, "range": [colours[cause] for cause in causes]},
                        "legend": {"symbolType": "square", "columns": 3},
                    },
                    "tooltip": tooltip(part="part", cause="cause", value_text="total", share_text="of the step"),
                },
            }
        ],
        height=TRACK * len(used),
    )  # fmt: skip
