"""Ladders: what is planned, and that a cut one ends as if it had not been cut."""

from __future__ import annotations

import json

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from shapewright.errors import DocumentError  # noqa: E402
from shapewright.lab import ladder, ladder_run  # noqa: E402
from shapewright.lab.ladder import finished, load_plan, run_jobs, save_plan, write_runs  # noqa: E402
from shapewright.lab.ladder_run import run_job  # noqa: E402
from shapewright.lab.rungs import (  # noqa: E402
    JUDGED,
    LEAST_RUNGS,
    OTHER_SHAPES,
    RUNGS,
    SWEEP,
    Job,
    Pace,
    Plan,
    TooShortError,
    choose_top,
    makespan,
    ratios_of,
    rung_jobs,
    size_of,
    tokens_of,
    tuning_jobs,
    wider_jobs,
)
from shapewright.scaling.runs import read_runs  # noqa: E402

pytestmark = pytest.mark.torch

TINY = Job(name="rung_8x1", role="rung", layout=(8, 1, 8), learning_rate=0.01, ratios=(2.0, 4.0))
PLAN = Plan(top=3, top_ratio=10, data=None, digest="", expected_seconds=1.0, minutes=1.0)


@pytest.fixture(autouse=True)
def one_thread():
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)


@pytest.fixture
def folder(tmp_path):
    place = tmp_path / "ladder"
    (place / "runs").mkdir(parents=True)
    (place / "checkpoints").mkdir()
    (place / "running").mkdir()
    return place


@pytest.fixture
def text(tmp_path):
    path = tmp_path / "text.txt"
    rng = np.random.default_rng(0)
    path.write_bytes(rng.choice(np.frombuffer(b"abcde fgh ", np.uint8), 60_000).tobytes())
    return str(path)


def told(folder) -> list[dict]:
    clocks = ("seconds", "judged_s", "wall_s")
    return [{k: v for k, v in row.items() if k not in clocks} for row in finished(folder)]


def pace(arm, layout):
    return Pace(arm=arm, layout=layout, tokens_per_s=2e9 / size_of(layout))


def test_rungs_are_about_a_factor_of_two_apart():
    sizes = np.array([size_of(layout) for layout in RUNGS])
    ratio = sizes[1:] / sizes[:-1]
    assert ((ratio > 1.5) & (ratio < 2.5)).all()
    assert all(0.8 < size_of(layout) / size_of(RUNGS[1]) < 1.25 for layout in OTHER_SHAPES)
    assert all(layout[0] % layout[2] == 0 for layout in (*RUNGS, *OTHER_SHAPES))


def test_every_rung_sees_about_as_many_tokens_as_the_top():
    top = RUNGS[4]
    longest = [ratios_of(layout, top, 10)[-1] * size_of(layout) for layout in RUNGS[:5]]
    assert max(longest) / min(longest) < 2.4
    assert ratios_of(top, top, 10) == (10.0,)


def test_more_minutes_climb_higher_and_too_few_are_refused():
    tops = [choose_top(60 * minutes, pace, 2) for minutes in (30.0, 120.0, 1000.0)]
    assert tops[0][:2] < tops[1][:2] < tops[2][:2]
    for (top, ratio, seconds), minutes in zip(tops, (30.0, 120.0, 1000.0), strict=True):
        jobs = [*tuning_jobs(), *rung_jobs(top, ratio, None)]
        tokens = [tokens_of(job) + JUDGED / 3 * len(job.ratios) for job in jobs]
        own = [t * size_of(job.layout) / 2e9 for t, job in zip(tokens, jobs, strict=True)]
        assert sum(own) == pytest.approx(seconds)
        assert seconds <= 2 * 60 * minutes
    with pytest.raises(TooShortError, match=rf"{LEAST_RUNGS} sizes"):
        choose_top(6.0, pace, 2)
    assert makespan([3.0, 3.0, 2.0, 2.0, 2.0], 2) == 7.0


def test_a_sweep_is_widened_where_its_best_is_at_its_end():
    rows = [
        {"role": "tune", "params": size_of(layout), "lr": rate, "loss": abs(np.log(rate / best))}
        for layout, rates, best in zip(RUNGS, SWEEP, (0.008, 0.02, 0.001), strict=False)
        for rate in rates
    ]
    assert [(job.layout, job.learning_rate) for job in wider_jobs(rows)] == [
        (RUNGS[1], 0.02),
        (RUNGS[2], 0.00075),
    ]


def test_branches_are_judged_and_written_as_runs(folder, text):
    run_job(TINY, text, str(folder))
    rows = finished(folder)
    size = size_of(TINY.layout)
    assert [row["tokens"] for row in rows] == [round(r * size / 1024) * 1024 for r in TINY.ratios]
    assert rows[1]["loss"] < rows[0]["loss"] < 5.5
    runs = read_runs(write_runs(folder), where={"role": ("rung",)})
    assert runs.params.tolist() == [size, size]
    assert runs.loss.tolist() == pytest.approx([row["loss"] for row in rows])


def test_a_killed_run_goes_on_to_the_same_losses(folder, text, tmp_path, monkeypatch):
    from shapewright.lab.state import TrainState

    run_job(TINY, text, str(folder))
    other = tmp_path / "other"
    for name in ("runs", "checkpoints"):
        (other / name).mkdir(parents=True)
    monkeypatch.setattr(ladder_run, "SAVE_EVERY_S", 0.0)
    real, count = TrainState.take_step, iter(range(10**6))

    def killed(self, rate):
        if next(count) in (5, 9):
            raise KeyboardInterrupt
        return real(self, rate)

    monkeypatch.setattr(TrainState, "take_step", killed)
    for _ in range(2):
        with pytest.raises(KeyboardInterrupt):
            run_job(TINY, text, str(other))
    run_job(TINY, text, str(other))
    assert told(other) == told(folder)


def test_a_ladder_can_be_made_longer(folder, text, tmp_path):
    from dataclasses import replace

    run_job(TINY, text, str(folder))
    run_job(replace(TINY, ratios=(2.0, 4.0, 8.0)), text, str(folder))
    other = tmp_path / "other"
    for name in ("runs", "checkpoints"):
        (other / name).mkdir(parents=True)
    run_job(replace(TINY, ratios=(2.0, 4.0, 8.0)), text, str(other))
    assert told(folder) == told(other)
    (folder / "runs" / "rung_8x1_2.json").unlink()
    ended = run_job(TINY, text, str(folder))
    assert "started over" in ended.remark
    assert told(folder) == told(other), "a branch that was deleted is made again, and comes out the same"


def test_processes_finish_the_jobs_and_leave_a_table(folder, text):
    from dataclasses import replace

    lines = []
    plan = replace(PLAN, data=text)
    jobs = [TINY, replace(TINY, name="rung_16x1", layout=(16, 1, 16), ratios=(1.0,))]
    run_jobs(jobs, plan, folder, workers=1, tell=lines.append)
    assert sorted(lines) == ["finished rung_16x1", "finished rung_8x1"]
    assert len((folder / "runs.csv").read_text().splitlines()) == 4
    run_jobs(jobs, plan, folder, workers=1, tell=lines.append)
    assert len(lines) == 2, "what is finished does not run again"


def test_a_folder_that_is_no_ladder_is_refused(folder):
    with pytest.raises(DocumentError, match="holds no ladder"):
        load_plan(folder)
    save_plan(PLAN, folder)
    assert load_plan(folder) == PLAN
    (folder / "runs" / "x.json").write_text(json.dumps({"name": "x"}))
    with pytest.raises(DocumentError, match="no finished run"):
        finished(folder)


COMPARED = Plan(top=1, top_ratio=2, data=None, digest="", expected_seconds=1.0, minutes=1.0,
                arms=("transformer", "lstm"), seeds=2)  # fmt: skip


@pytest.fixture
def tiny(monkeypatch):
    """Rungs of a few hundred bytes per parameter less: a whole comparison in seconds."""
    from shapewright.lab import comparison

    monkeypatch.setattr(comparison, "LAYOUTS", ((8, 1, 8), (16, 1, 8), (16, 2, 8)))
    monkeypatch.setattr(comparison, "TUNE_RATIO", 1)
    monkeypatch.setattr(comparison, "SHORTEST", 1)
    monkeypatch.setattr(comparison, "LEAST_STEPS", 5)
    rates = (0.01, 0.02, 0.04)
    monkeypatch.setattr(comparison, "RATES", {(8, 1, 8): rates, (16, 1, 8): rates})


def in_this_process(function, tasks, workers, stop, on_cuda=False):
    for task in tasks:
        yield function(*task)


def test_arms_share_bytes_and_have_flop_of_their_own(tiny, folder, text, monkeypatch):
    """Sweeps, rungs, seeds and rates of two arms, end to end; the driver is cut once and goes on."""
    from dataclasses import replace

    from shapewright.scaling.gain_runs import read_gain_runs

    plan = replace(COMPARED, data=text)
    done = []

    def cut(function, tasks, workers, stop, on_cuda):
        for ended in in_this_process(function, tasks, workers, stop):
            yield ended
            if len(done) == 9:
                raise KeyboardInterrupt

    monkeypatch.setattr(ladder, "in_processes", cut)
    with pytest.raises(KeyboardInterrupt):
        ladder.climb(plan, folder, workers=1, tell=done.append)
    monkeypatch.setattr(ladder, "in_processes", in_this_process)
    plan, rates = ladder.climb(plan, folder, workers=1, tell=done.append)
    assert load_plan(folder) == plan
    assert plan.settled
    assert len(done) == len(set(done)), "nothing that was finished ran again"
    assert set(rates) == {"transformer", "lstm"}
    rows = [row for row in finished(folder) if row["role"] == "rung"]
    lowest = {(r["arm"], r["seed"]) for r in rows if r["width"] == 8}
    assert lowest == {(arm, seed) for arm in ("transformer", "lstm") for seed in (0, 1)}
    assert {r["seed"] for r in rows if r["width"] == 16} == {0}, "the top rung is run once"
    assert {r["ratio"] for r in rows if r["width"] == 16} == {1.0, 2.0}, "two cooldowns of one run"
    assert {r["ratio"] for r in rows if r["width"] == 8} == {2.0}, "a branch of a few steps is left out"
    pair = {r["arm"]: r for r in rows if r["width"] == 16 and r["ratio"] == 2}
    assert pair["lstm"]["tokens"] == pair["transformer"]["tokens"]
    assert pair["lstm"]["flops"] != pair["transformer"]["flops"]
    runs = read_gain_runs(folder)
    assert runs.costs == ("flops", "seconds")
    lstm = runs.arm("lstm", "flops")
    assert len(lstm.loss) == 4
    assert len(set(lstm.runs)) == 3
    assert ladder.left_out(plan, folder) == ()
    assert set(json.loads((folder / "rates.json").read_text())) == {"transformer", "lstm"}


def test_flop_of_an_arm_are_its_graphs(folder, text):
    from dataclasses import replace

    from shapewright.architecture.graph import build_graph
    from shapewright.lab.arms import ARMS, arm_shape
    from shapewright.lab.nets import refuse_uncovered

    run_job(replace(TINY, arm="delta", layout=(8, 1, 8)), text, str(folder))
    row = finished(folder)[0]
    whole = build_graph(arm_shape("delta", (8, 1, 8)), batch=4, seq_len=256).flops()
    assert row["flops"] == pytest.approx(3 * float(whole) * row["steps"], rel=1e-12)
    for name in ARMS:
        refuse_uncovered(arm_shape(name, (32, 4, 16)))


def test_the_comparison_that_fits_the_minutes():
    from shapewright.lab.comparison import CHOICES, LAYOUTS, arm_jobs, choose_comparison, sweep_jobs
    from shapewright.lab.rungs import seconds_of, span_of

    arms = ("transformer", "lstm")
    chosen = [choose_comparison(60 * m, arms, 3, pace, 2) for m in (10.0, 30.0, 240.0)]
    assert all(told[:3] in CHOICES for told in chosen)
    assert chosen[0][:2] < chosen[1][:2] < chosen[2][:2]
    jobs = [*sweep_jobs(arms, 2), *arm_jobs(arms, *chosen[1][:3], None)]
    assert sum(seconds_of(j, pace) for j in jobs) == pytest.approx(chosen[1][3])
    assert len({j.name for j in jobs}) == len(jobs)
    assert choose_comparison(60_000.0, arms, 1, pace, 2)[1] == 1
    with pytest.raises(TooShortError, match="2 arms at 4 sizes"):
        choose_comparison(6.0, arms, 3, pace, 2)
    sizes = np.array([size_of(layout) for layout in LAYOUTS])
    assert ((sizes[1:] / sizes[:-1] > 1.4) & (sizes[1:] / sizes[:-1] < 2.3)).all()
    assert len({layout[0] for layout in LAYOUTS}) == len(LAYOUTS), "a width names its rung"
    spans = [span_of(arm_jobs(arms, *choice, None), pace, 2)[0] for choice in CHOICES]
    assert spans == sorted(spans), "the choice stops at the first that does not fit"


def test_a_branch_costs_little_beside_the_run_it_leaves():
    from shapewright.lab.comparison import LAYOUTS, arm_jobs, lengths_of

    assert lengths_of(LAYOUTS[0], 20) == (20.0,), "98 steps say more about the warm-up"
    assert lengths_of(LAYOUTS[2], 40) == (10.0, 20.0, 40.0)
    job = arm_jobs(("lstm",), 3, 1, 20, None)[-1]
    assert tokens_of(job) / (20.0 * size_of(job.layout)) == pytest.approx(1.1)


def test_five_rungs_span_the_range_that_a_verdict_needs():
    from shapewright.architecture.graph import build_graph
    from shapewright.lab.arms import ARMS, arm_shape
    from shapewright.lab.comparison import LAYOUTS
    from shapewright.scaling.gain_verdict import MIN_RANGE, MIN_RUNGS

    def cost(arm, layout):
        return float(build_graph(arm_shape(arm, layout), batch=1, seq_len=256).flops()) * size_of(layout)

    ends = (LAYOUTS[0], LAYOUTS[MIN_RUNGS - 1])
    for arm in ARMS:
        low, high = ([cost(a, layout) for a in (arm, "transformer")] for layout in ends)
        assert min(high) / max(low) > MIN_RANGE, arm
