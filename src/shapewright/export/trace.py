"""A predicted step as a Chrome trace, which Perfetto and ``chrome://tracing`` open: a process per stage, a track per stream.

The bars are those of ``plan.timeline``, laid from the pace that the Design holds: every pass of every micro-batch, what it
waited for on the stream of its axis, weights and gradients on the wire, the optimizer. Decisions: times are in
microseconds, as the format wants them. Of a long pipeline whose bars would be more than ``MOST``, only the first and the
last stage are written, and the file says so. Events of one track do not overlap, since Perfetto does not show those
that do.

Format: Trace Event Format, complete events (``ph: X``) and metadata (``ph: M``).
"""

from __future__ import annotations

import json
from typing import Any

from shapewright.designs.document import Design
from shapewright.errors import DocumentError
from shapewright.export.exported import Exported
from shapewright.plan.timeline import STREAMS, Timeline, lay

MOST = 50_000
"""Bars that a viewer still opens quickly."""
_MICROSECONDS = 1e6


def trace(design: Design) -> Exported:
    """The trace as JSON text.

    Raises:
        DocumentError: the design was written by a version that kept no pace of its step.
    """
    if design.pace is None:
        raise DocumentError(
            "the design has no pace (key pace)",
            "a timeline follows from the passes of its stages",
            "write the design again with: shapewright design, or shapewright estimate --out",
        )
    timeline = lay(design.pace)
    stages = _stages(timeline, design.pace.stages)
    events = [
        {
            "name": event.name,
            "ph": "X",
            "pid": event.stage,
            "tid": STREAMS.index(event.stream),
            "ts": event.start_s * _MICROSECONDS,
            "dur": (event.end_s - event.start_s) * _MICROSECONDS,
        }
        for event in timeline.events
        if event.stage in stages and event.end_s > event.start_s
    ]
    document = {
        "displayTimeUnit": "ms",
        "otherData": {
            "model": design.shape.name,
            "hardware": design.request.hardware,
            "plan": design.plan.describe(),
            "predicted step": str(design.predicted.step_time_s),
            "stages": f"{len(stages)} of {design.pace.stages}",
            "reading": "one process per pipeline stage; what a pass waited for stands at its end, on the stream of its axis",
        },
        "traceEvents": _metadata({(event["pid"], event["tid"]) for event in events}) + events,
    }
    remarks = ()
    if len(stages) < design.pace.stages:
        remarks = (
            f"the trace holds the first and the last of {design.pace.stages} stages: all of them are "
            f"{len(timeline.events):,} bars",
        )
    return Exported(text=json.dumps(document) + "\n", file_name="trace.json", remarks=remarks)


def _stages(timeline: Timeline, count: int) -> set[int]:
    return set(range(count)) if len(timeline.events) <= MOST else {0, count - 1}


def _metadata(used: set[tuple[int, int]]) -> list[dict[str, Any]]:
    def named(kind: str, stage: int, tid: int, value: dict[str, Any]) -> dict[str, Any]:
        return {"name": kind, "ph": "M", "pid": stage, "tid": tid, "args": value}

    rows = [
        named("process_name", stage, 0, {"name": f"stage {stage}"}) for stage in sorted({s for s, _ in used})
    ]
    for stage, tid in sorted(used):
        rows += [
            named("thread_name", stage, tid, {"name": STREAMS[tid]}),
            named("thread_sort_index", stage, tid, {"sort_index": tid}),
        ]
    return rows
