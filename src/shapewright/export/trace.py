"""A predicted step as a Chrome trace, which Perfetto and ``chrome://tracing`` open: one track per stream.

Decisions: a Design knows each part's total over the step and, of communication, only what nothing hides. So the parts
lie end to end, each on the track of the stream that is busy or waited for, each with its total; the tracks never run
at once, and the last event ends with the step. Times are in microseconds, as the format wants them, events of one
track do not overlap, since Perfetto does not show those that do.

Format: Trace Event Format, complete events (``ph: X``) and metadata (``ph: M``).
"""

from __future__ import annotations

import json
from typing import Any

from shapewright.designs.document import Design
from shapewright.designs.streams import STREAMS, stream_of
from shapewright.export.exported import Exported

_MICROSECONDS = 1e6


def trace(design: Design) -> Exported:
    """The trace as JSON text."""
    events: list[dict[str, Any]] = []
    clock = 0.0
    for part in design.step_parts:
        start, clock = clock, clock + part.value
        events.append(
            {
                "name": part.name,
                "cat": part.cause,
                "ph": "X",
                "pid": 0,
                "tid": stream_of(part),
                "ts": start * _MICROSECONDS,
                "dur": part.value * _MICROSECONDS,
                "args": {"share of the step": part.share},
            }
        )
    step = design.predicted.step_time_s
    document = {
        "displayTimeUnit": "ms",
        "otherData": {
            "model": design.shape.name,
            "hardware": design.request.hardware,
            "plan": design.plan.describe(),
            "predicted step": str(step),
            "reading": "totals over all micro-batches of one device, end to end; communication is what nothing hides",
        },
        "traceEvents": _metadata({event["tid"] for event in events}) + events,
    }
    return Exported(text=json.dumps(document, indent=1) + "\n", file_name="trace.json")


def _metadata(used: set[int]) -> list[dict[str, Any]]:
    def named(kind: str, tid: int, value: dict[str, Any]) -> dict[str, Any]:
        return {"name": kind, "ph": "M", "pid": 0, "tid": tid, "args": value}

    rows = [named("process_name", 0, {"name": "one predicted training step, busiest device"})]
    for tid in sorted(used):
        rows += [
            named("thread_name", tid, {"name": STREAMS[tid]}),
            named("thread_sort_index", tid, {"sort_index": tid}),
        ]
    return rows
