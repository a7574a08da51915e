"""The page of a ladder: live without a verdict, and at the end with what was not done."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from shapewright.report.ladder_view import LadderState, Verdicts, ladder_view, progress_text
from shapewright.report.view import html_view
from shapewright.scaling.gain import compare
from shapewright.scaling.gain_runs import Branch, Runs

ROW = {"name": "lstm_16x2_seed0", "role": "rung", "arm": "lstm", "params": 12368, "tokens": 2e5, "loss": 2.1, "width": 16,
       "depth": 2, "ratio": 20.0, "lr": 0.01, "steps": 196, "seconds": 3.2}  # fmt: skip
STATE = LadderState(
    request="transformer, lstm at 5 sizes", assumed=("one thread a process",), remarks=("lstm_24x3_seed0 diverged",),
    rates=(), rows=(ROW,), expected=28, share=0.42, left_s=312.0, ends="20:03",
    running=(("lstm_40x4_seed0", "90 of 1,682", "2.310"),),
    left_out=("lstm_40x4_seed0 (10 and 20 tokens per parameter)",), folder="ladder", live=True,
)  # fmt: skip


def made() -> Runs:
    rng = np.random.default_rng(1)
    rows = [
        Branch(arm=arm, loss=float(1 + np.exp(0.3 - 0.12 * np.log(c / 3e11)) + 0.001 * rng.standard_normal()),
               costs={"flops": float(c)}, run=f"{arm}{i}", length=20.0)
        for arm in ("transformer", "lstm")
        for i, c in enumerate(np.geomspace(1e10, 1e13, 8))
    ]  # fmt: skip
    return Runs(source="ladder/runs.csv", rows=tuple(rows), costs=("flops",), tuning="transferred", folder=True, energy="",
                dropped=())  # fmt: skip


def test_a_ladder_that_runs_is_live_and_gives_no_verdict():
    assert progress_text(STATE) == "1 of 28 branches, 42% of the work; about 5.2 min left, until 20:03"
    page = html_view(ladder_view(STATE, None), refresh_s=5)
    assert '<meta http-equiv="refresh" content="5">' in page
    assert "90 of 1,682" in page
    assert "the verdict comes at the end" in page
    assert "not done in time" not in page


def test_a_ladder_that_ended_names_what_is_not_done():
    state = replace(STATE, live=False, running=())
    found = made()
    gain = compare(found.arm("lstm", "flops"), found.arm("transformer", "flops"), tuning="tuned", draws=20)
    view = ladder_view(
        state, Verdicts(found=found, base="transformer", gains={"lstm": {"flops": gain}}, refused="")
    )
    page = html_view(view)
    assert 'http-equiv="refresh"' not in page
    told = dict(view.sections)
    assert any(gain.verdict in str(line) for line in told["Answer"])
    assert any("not done in time: lstm_40x4_seed0" in str(line) for line in told["Trust"])
    assert "lstm_24x3_seed0 diverged" in told["Trust"]
    assert told["Next"][0] == "shapewright ladder resume ladder"
    assert [chart.name for chart in view.charts] == ["gain_flops", "gain_runs", "ladder"]
    refused = ladder_view(state, Verdicts(found=found, base="transformer", gains={}, refused="too few runs"))
    assert "no verdict: too few runs" in dict(refused.sections)["Answer"]


def test_narrow_ranges_have_ticks_too():
    from shapewright.report.vega import log_axis

    for low, high in ((2.04, 2.16), (1.7, 2.7), (1.0, 1.02), (0.8, 1.25), (95.0, 130.0), (1.5, 1500.0)):
        ticks = log_axis("x", "x", low, high)["axis"]["values"]
        assert 3 <= len(ticks) <= 11, (low, high, ticks)
        assert all(low <= tick <= high for tick in ticks)
