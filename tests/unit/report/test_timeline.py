"""The timeline chart: the bars of the plan's own timeline, fewer where there are too many to see."""

from __future__ import annotations

from dataclasses import replace

import pytest

from shapewright.designs.document import Design
from shapewright.plan.timeline import lay
from shapewright.report.timeline import LOOKS, MOST_BARS, shortened, timeline


def _bars(design: Design) -> list[dict]:
    spec = timeline(design)
    assert spec is not None
    return [row for layer in spec["layer"] for row in layer["data"]["values"]]


def test_a_short_step_is_drawn_whole(design: Design) -> None:
    assert design.pace is not None
    short = replace(design, pace=replace(design.pace, micro_batches=4))
    assert short.pace is not None
    laid = lay(short.pace)
    bars = _bars(short)
    assert {row["stage"] for row in bars} == {"stage 0", "stage 1"}
    assert max(row["end"] for row in bars) == pytest.approx(laid.step_time_s, rel=1e-4)
    passes = [e for e in laid.events if e.stream == "compute" and e.name.startswith(("forward", "backward"))]
    assert sum(row["class"] in {"forward", "backward"} for row in bars) == len(passes)
    assert {row["class"] for row in bars} <= set(LOOKS)
    assert "of 4" not in str(timeline(short)), "nothing is left out, so nothing is said"


def test_a_long_step_says_what_it_leaves_out(design: Design) -> None:
    spec = timeline(design)
    assert spec is not None
    assert "8 micro-batches of 32" in spec["description"]
    assert "8 of 32 micro-batches drawn" in str(spec["layer"][0]["encoding"]["x"])


@pytest.mark.parametrize("stages", [1, 3, 8, 16, 60])
@pytest.mark.parametrize("chunks", [1, 8])
def test_long_pipelines_show_their_ends(design: Design, stages: int, chunks: int) -> None:
    assert design.pace is not None
    pace = replace(design.pace, stages=stages, chunks=chunks if stages > 1 else 1, micro_batches=16 * stages)
    assert pace.micro_batches % shortened(pace).micro_batches == 0
    bars = _bars(replace(design, pace=pace))
    shown = {row["stage"] for row in bars}
    assert {"stage 0", f"stage {stages - 1}"} <= shown
    assert len(bars) <= 3 * MOST_BARS


def test_a_design_without_a_pace_has_none(design: Design) -> None:
    assert timeline(replace(design, pace=None)) is None
