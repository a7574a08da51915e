"""What may happen to a ladder: kills, Ctrl-C, full disks, damaged files, divergence, clocks; what it loses is steps."""

from __future__ import annotations

import errno
import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

HERE = Path(__file__).parent


def until(holds, seconds: float = 300.0) -> None:
    """Wait for ``holds()``."""
    end = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < end, "it never came to be"
        time.sleep(0.02)


torch = pytest.importorskip("torch")

from typer.testing import CliRunner  # noqa: E402

from shapewright.errors import DivergedError, MeasurementError  # noqa: E402
from shapewright.lab import comparison, ladder, ladder_run  # noqa: E402
from shapewright.lab.ladder import Clock, climb, finished, left_out, run_jobs  # noqa: E402
from shapewright.lab.ladder_run import STOP, run_job  # noqa: E402
from shapewright.lab.rungs import Job, Pace, Plan  # noqa: E402
from shapewright.lab.state import TrainState, load_checkpoint, only_one  # noqa: E402

JOB = Job(name="rung_8x1", role="rung", layout=(8, 1, 8), learning_rate=0.01, ratios=(4.0, 8.0))


@pytest.fixture(autouse=True)
def one_thread():
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module")
def text(tmp_path_factory):
    path = tmp_path_factory.mktemp("corpus") / "text.txt"
    rng = np.random.default_rng(0)
    path.write_bytes(rng.choice(np.frombuffer(b"abcde fgh ", np.uint8), 60_000).tobytes())
    return str(path)


def new_folder(place: Path) -> Path:
    for name in ("runs", "checkpoints", "running"):
        (place / name).mkdir(parents=True)
    return place


@pytest.fixture
def folder(tmp_path):
    return new_folder(tmp_path / "ladder")


def told(folder: Path) -> list[dict]:
    clocks = ("seconds", "judged_s", "wall_s")
    return [{k: v for k, v in row.items() if k not in clocks} for row in finished(folder)]


@pytest.fixture(scope="module")
def whole(text, tmp_path_factory):
    """What the job comes to when nothing happens."""
    place = new_folder(tmp_path_factory.mktemp("whole") / "ladder")
    run_job(JOB, text, str(place))
    return told(place)


@pytest.fixture
def every_step(monkeypatch):
    monkeypatch.setattr(ladder_run, "SAVE_EVERY_S", 0.0)
    monkeypatch.setattr(ladder_run, "TELL_EVERY_S", 0.0)


def at_step(monkeypatch, number: int, what) -> None:
    """Call ``what(state)`` in place of the step with that number, counted from 0, once."""
    real, count = TrainState.take_step, iter(range(10**6))

    def step(self, rate):
        if next(count) == number:
            what(self)
        return real(self, rate)

    monkeypatch.setattr(TrainState, "take_step", step)


@pytest.mark.torch
def test_a_run_killed_by_the_system_loses_the_steps_since_its_checkpoint(text, whole, folder):
    checkpoint = folder / "checkpoints" / "rung_8x1.pt"
    command = [sys.executable, str(HERE / "cut_ladder.py"), str(folder), text]
    run = subprocess.Popen(command, stderr=subprocess.PIPE)
    try:
        until(checkpoint.exists)
    finally:
        run.kill()
        run.communicate()
    assert load_checkpoint(checkpoint)["step"] > 0, (
        "a checkpoint that was being written is the old one or the new"
    )
    assert run_job(JOB, text, str(folder)).remark == ""
    assert told(folder) == whole


@pytest.mark.torch
@pytest.mark.parametrize("step", [4, 9, 21], ids=["constant", "cooling", "second cooldown"])
def test_a_run_that_is_asked_to_stop_goes_on_where_it_was(step, text, whole, folder, monkeypatch):
    monkeypatch.setattr(ladder_run, "TELL_EVERY_S", 0.0)
    taken = []
    at_step(monkeypatch, step, lambda state: ((folder / STOP).touch(), taken.append(state.step)))
    assert not run_job(JOB, text, str(folder)).finished
    assert not run_job(JOB, text, str(folder)).finished, "nothing runs while the ladder is stopped"
    (folder / STOP).unlink()
    again = []
    at_step(monkeypatch, 0, lambda state: again.append(state.step))
    assert run_job(JOB, text, str(folder)).finished
    assert again == [taken[0] + 1], "no step is taken twice"
    assert told(folder) == whole


@pytest.mark.torch
@pytest.mark.parametrize("which", ["rung_8x1.pt", "rung_8x1.cooling.pt"])
def test_a_damaged_checkpoint_costs_time_and_nothing_else(
    which, text, whole, folder, monkeypatch, every_step
):
    at_step(monkeypatch, 9, lambda state: (folder / STOP).touch())
    run_job(JOB, text, str(folder))
    (folder / STOP).unlink()
    path = folder / "checkpoints" / which
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)
    assert "damaged" in run_job(JOB, text, str(folder)).remark
    assert told(folder) == whole


@pytest.mark.torch
def test_a_full_disk_keeps_what_is_there(text, whole, folder, monkeypatch, every_step):
    real = os.fsync

    def full(number):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    at_step(monkeypatch, 15, lambda state: monkeypatch.setattr(os, "fsync", full))
    with pytest.raises(MeasurementError, match="No space left on device") as caught:
        run_job(JOB, text, str(folder))
    assert caught.value.exit_code == 5
    assert [row["ratio"] for row in finished(folder)] == [4.0]
    monkeypatch.setattr(os, "fsync", real)
    run_job(JOB, text, str(folder))
    assert told(folder) == whole


@pytest.mark.torch
def test_the_clock_on_the_wall_may_be_set(text, whole, folder, monkeypatch):
    """Only clocks that nobody sets are read."""
    hours = iter(range(0, -(10**6), -1))
    monkeypatch.setattr(time, "time", lambda: 3600.0 * next(hours))
    run_job(JOB, text, str(folder))
    assert told(folder) == whole
    assert all(row["seconds"] >= 0 and row["wall_s"] >= 0 for row in finished(folder))


def in_this_process(function, tasks, workers, stop, on_cuda=False):
    for task in tasks:
        yield function(*task)


PLAN = Plan(top=1, top_ratio=2, data=None, digest="", expected_seconds=1.0, minutes=1.0, arms=("transformer", "lstm"),
            seeds=1, most_seeds=2)  # fmt: skip


@pytest.fixture
def tiny(monkeypatch):
    """A whole comparison in a second."""
    rates = (0.01, 0.02, 0.04)
    monkeypatch.setattr(comparison, "LAYOUTS", ((8, 1, 8), (16, 1, 8), (24, 1, 8)))
    monkeypatch.setattr(comparison, "TUNE_RATIO", 1)
    monkeypatch.setattr(comparison, "SHORTEST", 1)
    monkeypatch.setattr(comparison, "LEAST_STEPS", 5)
    monkeypatch.setattr(comparison, "RATES", {(8, 1, 8): rates, (16, 1, 8): rates})
    monkeypatch.setattr(comparison, "CHOICES", ((1, 1, 2), (2, 1, 2), (2, 2, 2), (3, 2, 2)))
    monkeypatch.setattr(ladder, "in_processes", in_this_process)


@pytest.mark.torch
def test_one_arm_that_diverges_ends_no_other_run_and_is_no_verdict(tiny, text, folder, monkeypatch):
    from shapewright.scaling.gain_runs import read_gain_runs

    real = TrainState.take_step

    def step(self, rate):
        if (
            self.setup.shape.name == "16x1"
            and "LSTM" in type(self.setup.shape.blocks[0].mixer).__name__
            and self.step > 3
        ):
            raise DivergedError("the loss is nan at step 5", "learning rate 0.02", "try a lower one")
        return real(self, rate)

    monkeypatch.setattr(TrainState, "take_step", step)
    monkeypatch.setattr(comparison, "RATES", {(8, 1, 8): (0.01, 0.02, 0.04)})
    lines: list[str] = []
    plan, _ = climb(replace(PLAN, data=text, swept=1), folder, workers=1, tell=lines.append)
    assert any(line.startswith("lstm_16x1_seed0 diverged: the loss is nan") for line in lines)
    assert left_out(plan, folder) == ()
    lost = [row for row in finished(folder) if row["loss"] == float("inf")]
    assert {row["arm"] for row in lost} == {"lstm"}
    runs = read_gain_runs(folder)
    assert set(runs.dropped) == {"lstm"}
    assert runs.tuning == "untuned", "what is left of an arm that loses runs flatters it"


@pytest.mark.torch
def test_time_that_is_up_is_said_and_the_rest_can_be_done(tiny, text, folder):
    plan = replace(PLAN, data=text)
    none, rates = climb(
        plan, folder, workers=1, tell=lambda line: None, clock=Clock(began=time.monotonic(), seconds=0.0)
    )
    assert rates == {}
    assert len(left_out(none, folder)) == 12 + 4
    done, rates = climb(plan, folder, workers=1, tell=lambda line: None)
    assert set(rates) == {"transformer", "lstm"}
    assert left_out(done, folder) == ()


@pytest.mark.torch
@pytest.mark.parametrize(("minutes", "sizes", "seeds"), [(600.0, 3, 2), (0.5, 1, 1)], ids=["slack", "slow"])
def test_after_the_sweeps_the_rungs_are_chosen_for_the_time_that_is_left(
    minutes, sizes, seeds, tiny, text, folder, monkeypatch
):
    """A machine that turns out as fast as timed gets all its minutes hold; one a thousand times slower gets less."""
    layouts = comparison.LAYOUTS
    paces = tuple(Pace(arm=a, layout=x, tokens_per_s=1e5) for a in PLAN.arms for x in layouts)
    if sizes == 1:
        real = ladder.finished
        monkeypatch.setattr(ladder, "finished", lambda f: [{**row, "wall_s": 30.0} for row in real(f)])
    lines: list[str] = []
    plan, _ = climb(replace(PLAN, data=text, paces=paces), folder, workers=1, tell=lines.append,
                    clock=Clock(began=time.monotonic(), seconds=60 * minutes))  # fmt: skip
    assert (plan.top + 1, plan.seeds) == (sizes, seeds) or sizes == 1
    assert plan.settled
    assert plan.note
    assert plan.note in lines
    if sizes == 1:
        assert plan.top + 1 <= 2


@pytest.mark.torch
def test_a_ladder_without_a_single_finished_run_says_so(tiny, text, folder, capsys):
    """Time was up in the sweeps: still a page, a table and a document."""
    from shapewright.cli.ladder_watch import climb_and_show
    from shapewright.lab.ladder import save_plan, write_runs

    plan = replace(PLAN, data=text)
    save_plan(plan, folder)
    write_runs(folder)
    climb_and_show(plan, folder, 1, "local", True, Clock(began=time.monotonic(), seconds=0.0))
    told_of = json.loads(capsys.readouterr().out)
    assert told_of["gain"] == {
        "refused": "no run of transformer and lstm is finished but for the sweeps of the learning rate"
    }
    assert len(told_of["left_out"]) == 16
    assert "not done in time" in (folder / "report.html").read_text()


@pytest.mark.torch
@pytest.mark.parametrize(
    ("words", "code", "told_of"),
    [
        (["run", "--data", "{empty}", "--out", "{new}"], 2, "holds no text"),
        (["run", "--out", "{held}"], 2, "holds a ladder already"),
        (["resume", "{held}"], 5, "is in use"),
        (["resume", "{new}"], 2, "holds no ladder"),
        (["resume", "{held}", "--minutes", "-1"], 2, "not positive"),
        (["resume", "{held}", "--engine", "rey"], 2, "did you mean ray"),
        (["run", "--arm", "lstm", "--out", "{new}"], 2, "a comparison has a base"),
    ],
)
def test_what_is_refused_leaves_everything_as_it_was(words, code, told_of, text, folder, tmp_path):
    from shapewright.cli.ladder import app
    from shapewright.errors import ShapewrightError
    from shapewright.lab.corpus import read_corpus
    from shapewright.lab.ladder import save_plan

    (tmp_path / "empty.txt").touch()
    save_plan(replace(PLAN, data=text, digest=read_corpus(Path(text)).digest), folder)
    names = {"empty": tmp_path / "empty.txt", "new": tmp_path / "new", "held": folder}
    before = sorted(p for p in tmp_path.rglob("*") if p.name != ".lock")
    with only_one(folder):
        result = CliRunner().invoke(app, [word.format(**names) for word in words])
    assert isinstance(result.exception, ShapewrightError), result.exception
    assert result.exception.exit_code == code
    assert told_of in str(result.exception)
    assert sorted(p for p in tmp_path.rglob("*") if p.name != ".lock") == before


@pytest.mark.cluster
@pytest.mark.torch
def test_on_ray_a_killed_worker_goes_on_from_its_checkpoint_and_ctrl_c_asks_all_to_end(
    text, whole, folder, tmp_path
):
    """One start of Ray for all: it is slow."""
    ray = pytest.importorskip("ray")
    import logging

    from shapewright.lab.pools import on_ray

    where, job, marker, begun = str(folder), JOB, str(tmp_path / "stop"), str(tmp_path / "begun")

    def killed_once() -> str:
        from pathlib import Path

        from shapewright.lab import ladder_run

        if not Path(where, "checkpoints", "rung_8x1.pt").exists():
            ladder_run.SAVE_EVERY_S = 0.0
            real = ladder_run._Run._save

            def save(self, path, ratio):
                real(self, path, ratio)
                os.kill(os.getpid(), 9)

            ladder_run._Run._save = save
        return ladder_run.run_job(job, text, where).name

    def patient() -> str:
        Path(begun).touch()
        until(Path(marker).exists)
        return "asked"

    ray.init(num_cpus=1, logging_level=logging.ERROR, log_to_driver=False, include_dashboard=False)
    try:
        assert list(on_ray(killed_once, [()], 1, lambda: None)) == ["rung_8x1"]
        assert told(folder) == whole
        lines: list[str] = []
        plan = replace(PLAN, data=text)
        run_jobs(
            [replace(JOB, name="other", ratios=(1.0,))],
            plan,
            folder,
            workers=1,
            tell=lines.append,
            engine="ray",
        )
        assert lines == ["finished other"]
        results = on_ray(patient, [()], 1, Path(marker).touch)
        with pytest.raises(KeyboardInterrupt):
            interrupt(results, Path(begun), Path(marker))
        assert Path(marker).exists()
    finally:
        ray.shutdown()


def interrupt(results, begun: Path, stopped: Path) -> None:
    """Ctrl-C while the first result is waited for, and again where Ray lost it."""
    import threading

    def press() -> None:
        until(begun.exists)
        while not stopped.exists():
            os.kill(os.getpid(), signal.SIGINT)
            time.sleep(5.0)

    before = signal.signal(signal.SIGINT, signal.default_int_handler)  # tests in the background ignore it
    try:
        threading.Thread(target=press, daemon=True).start()
        next(results)
    finally:
        signal.signal(signal.SIGINT, before)


def test_what_runs_say_of_themselves_is_seen_from_the_folder(tmp_path):
    from shapewright.lab.ladder import save_plan
    from shapewright.lab.rungs import seconds_of
    from shapewright.lab.standing import standing

    arms = ("transformer", "lstm")
    paces = tuple(Pace(arm=a, layout=x, tokens_per_s=2e4) for a in arms for x in comparison.LAYOUTS)
    plan = replace(PLAN, top=4, top_ratio=20, paces=paces)
    place = new_folder(tmp_path / "ladder")
    save_plan(plan, place)
    empty = standing(place)
    assert (empty.share, empty.left_s, empty.rows) == (0.0, None, ())
    sweeps, rungs = ladder.jobs_of(plan)

    def pace(arm, layout):
        return Pace(arm=arm, layout=layout, tokens_per_s=2e4)

    def write(job, ratio, wall):
        row = {**dict.fromkeys((*ladder.COLUMNS, "judged_s"), 0), "name": job.name, "role": job.role, "arm": job.arm,
               "ratio": ratio, "wall_s": wall, "loss": 2.0}  # fmt: skip
        (place / "runs" / f"{job.name}_{ratio:g}.json").write_text(json.dumps(row))

    for job in sweeps:
        write(job, job.ratios[0], 3.0 * seconds_of(job, pace))
    now = standing(place, workers=2)
    left = sum(seconds_of(job, pace) for job in rungs)
    assert now.share == pytest.approx(1 - left / (left + sum(seconds_of(job, pace) for job in sweeps)))
    # Three times as slow as timed, in two processes that the longest runs do not fill evenly.
    assert 0.999 * 3.0 * left / 2 <= now.left_s <= 3.0 * left / 2 * 1.2
    top = rungs[-1]
    line = {
        "name": top.name,
        "ratio": 20.0,
        "step": 500,
        "steps": 1000,
        "loss": 1.9,
        "seconds": 1.0,
        "wall": 1.0,
    }
    (place / "running" / f"{top.name}.json").write_text(json.dumps(line))
    further = standing(place, workers=2)
    assert further.share > now.share
    assert [r.name for r in further.running] == [top.name]
    assert standing(place, workers=2, running=False).running == ()
