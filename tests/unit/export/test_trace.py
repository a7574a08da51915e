"""The trace: the timeline of one step, complete events, one track per stream and stage, nothing at once on one track."""

from __future__ import annotations

import json
from dataclasses import replace
from itertools import pairwise
from typing import Any

import pytest

from shapewright.designs.document import Design
from shapewright.errors import DocumentError
from shapewright.export import trace as module
from shapewright.export.trace import trace
from shapewright.plan.timeline import lay


def events(design: Design, phase: str) -> list[dict[str, Any]]:
    return [event for event in json.loads(trace(design).text)["traceEvents"] if event["ph"] == phase]


def test_the_events_are_the_timeline_and_the_timeline_is_the_step(design: Design) -> None:
    assert design.pace is not None
    step = design.predicted.step_time_s.value
    assert lay(design.pace).step_time_s == pytest.approx(step, rel=5e-3)
    found = events(design, "X")
    assert min(event["ts"] for event in found) == 0
    assert max(event["ts"] + event["dur"] for event in found) == pytest.approx(step * 1e6, rel=5e-3)
    passes = design.pace.stages * design.pace.chunks * design.pace.micro_batches
    assert sum(e["name"].startswith("forward") and e["tid"] == 0 for e in found) == passes


def test_events_of_one_track_do_not_overlap(design: Design) -> None:
    found = events(design, "X")
    assert len({event["tid"] for event in found}) >= 3  # this plan has tensor, pipeline and data parallelism
    for track in {(event["pid"], event["tid"]) for event in found}:
        bars = sorted((e["ts"], e["ts"] + e["dur"]) for e in found if (e["pid"], e["tid"]) == track)
        assert all(end <= start + 1e-4 for (_, end), (start, _) in pairwise(bars)), track


def test_every_track_has_a_name(design: Design) -> None:
    names = {
        (e["pid"], e["tid"]): e["args"]["name"] for e in events(design, "M") if e["name"] == "thread_name"
    }
    assert set(names) == {(event["pid"], event["tid"]) for event in events(design, "X")}
    assert names[0, 0] == "compute"


def test_a_long_trace_keeps_the_ends_and_says_so(design: Design, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MOST", 10)
    assert design.pace is not None
    long = replace(design, pace=replace(design.pace, stages=4, chunks=1))
    assert {event["pid"] for event in events(long, "X")} == {0, 3}
    assert "first and the last of 4 stages" in trace(long).remarks[0]


def test_a_design_without_pace_is_refused(design: Design) -> None:
    with pytest.raises(DocumentError, match="pace"):
        trace(replace(design, pace=None))
