"""Run a ladder in processes of one thread each, so that killing any of them loses seconds.

Decisions: one process per core, first seeds and long runs first. A finished branch is a file, and a run that was cut goes
on from its last checkpoint (``lab/ladder_run.py``); the checkpoint at its last branch stays, so a ladder can also be
made longer. A ladder under a budget of minutes looks at the clock twice: after the sweeps, when it is known how fast
this machine really is, the rungs are chosen anew for the time that is left; and at the end, when runs that are not
done save their checkpoints and wait for ``ladder resume``. Both are said. The clock is one that nobody sets.
"""

from __future__ import annotations

import csv
import io
import json
import os
import shutil
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from shapewright.errors import DocumentError, MeasurementError
from shapewright.lab.bench import training_environment
from shapewright.lab.comparison import arm_jobs, choose_comparison, rates_by_arm, sweep_jobs, wider_sweeps
from shapewright.lab.energy import Power
from shapewright.lab.ladder_run import STOP, branch_file, run_job
from shapewright.lab.pools import WorkerDiedError, in_processes, on_ray
from shapewright.lab.rungs import (
    MOST_WIDER,
    Job,
    Layout,
    Pace,
    PaceOf,
    Plan,
    RateLaw,
    Row,
    TooShortError,
    choose_top,
    ordered,
    rates_of,
    rung_jobs,
    span_of,
    tuning_jobs,
    wider_jobs,
)

COLUMNS = (
    "name", "role", "params", "embedding_params", "tokens", "loss", "width", "depth", "lr", "batch_tokens", "steps",
    "seed", "seconds", "joules", "energy", "arm", "ratio", "flops",
)  # fmt: skip

ENDING_SHARE, ENDING_S = 0.05, 15.0
"""Of the budget, and seconds at most: for the last checkpoints, the verdict and the page."""
SLOWEST = 1e-9
"""Tokens per second of what was not timed, since it would not have fitted."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Clock:
    """A budget of time on a clock that nobody sets."""

    began: float
    """``time.monotonic`` when the ladder was asked for [s]."""
    seconds: float
    """The whole budget."""

    @property
    def left(self) -> float:
        """Seconds that are left for runs, the end of the ladder apart; negative where it is over."""
        return self.began + self.seconds - min(ENDING_SHARE * self.seconds, ENDING_S) - time.monotonic()


def jobs_of(plan: Plan, rates: dict[str, RateLaw] | None = None) -> tuple[list[Job], list[Job]]:
    """The sweeps and the rungs of a plan; without ``rates`` only their names and lengths matter."""
    from shapewright.lab.arms import BASE

    if plan.arms:
        return sweep_jobs(plan.arms, plan.swept), arm_jobs(
            plan.arms, plan.top + 1, plan.seeds, plan.top_ratio, rates
        )
    return tuning_jobs(), rung_jobs(plan.top, plan.top_ratio, rates[BASE] if rates else None)


def climb(
    plan: Plan,
    folder: Path,
    *,
    workers: int,
    tell: Callable[[str], None],
    engine: str = "local",
    clock: Clock | None = None,
) -> tuple[Plan, dict[str, RateLaw]]:
    """Run what is left of the ladder in ``folder``; its rows are in ``runs.csv``, the rates in ``rates.json``.

    Args:
        plan: of the ladder.
        folder: of the ladder.
        workers: processes.
        tell: takes a line about every run that ended.
        engine: ``local`` or ``ray``.
        clock: the budget; None where everything is to be finished.

    Returns:
        The plan as it was carried out, and the learning rate of every arm; none where time ran out in the sweeps.

    Raises:
        MeasurementError: a process died, or a file could not be written; what is finished stays.
    """
    from shapewright.lab.arms import BASE
    from shapewright.lab.state import write_atomic

    def run(jobs: Sequence[Job]) -> None:
        run_jobs(jobs, plan, folder, workers=workers, tell=tell, engine=engine, clock=clock)

    began, arms, sweeps = time.monotonic(), plan.arms, jobs_of(plan)[0]
    run(sweeps)
    if _missing(sweeps, folder):
        return plan, {}
    for _ in range(MOST_WIDER):
        run(wider_sweeps(arms, plan.swept, finished(folder)) if arms else wider_jobs(finished(folder)))
    swept = finished(folder)
    rates = rates_by_arm(arms, swept) if arms else {BASE: rates_of(swept)}
    told = {arm: {"scale": r.scale, "power": r.power, "at_end": list(r.at_end)} for arm, r in rates.items()}
    write_atomic(folder / "rates.json", (json.dumps(told, indent=2) + "\n").encode())
    if clock is not None and not plan.settled:
        plan = _settle(plan, swept, clock, workers, time.monotonic() - began)
        if plan.note:
            tell(plan.note)
    plan = replace(plan, settled=True)
    save_plan(plan, folder)
    run(jobs_of(plan, rates)[1])
    return plan, rates


def _settle(plan: Plan, rows: Sequence[Row], clock: Clock, workers: int, took: float) -> Plan:
    """The largest plan for the time that is left, by how long the sweeps took against what was expected."""
    pace, sweeps = pace_from(plan.paces), jobs_of(plan)[0]
    tuned = [row["wall_s"] for row in rows if row["role"] == "tune"]
    # Sweeps that were widened took longer for a reason that is no slowness.
    expected = span_of(sweeps, pace, workers)[0] * len(tuned) / len(sweeps)
    ran = sum(tuned) / workers
    slower = ran / expected
    # What is not the runs' is the start of processes, which comes again.
    seconds = max(clock.left - max(took - ran, 0.0), 0.0) / slower
    try:
        if plan.arms:
            rungs, seeds, longest, total = choose_comparison(
                seconds, plan.arms, plan.most_seeds, pace, workers, swept=True
            )
            found = replace(plan, top=rungs - 1, seeds=seeds, top_ratio=longest, expected_seconds=total)
        else:
            top, ratio, total = choose_top(seconds, pace, workers, swept=True)
            found = replace(plan, top=top, top_ratio=ratio, expected_seconds=total)
    except TooShortError:
        # Nothing whole fits: the plan stands, and what the clock cuts off can be resumed.
        return replace(
            plan,
            note=f"the machine is {slower:.1f} times as slow as timed: not all runs will be done in time",
        )
    if (found.top, found.seeds, found.top_ratio) == (plan.top, plan.seeds, plan.top_ratio):
        return plan
    return replace(
        found, note=f"steps take {slower:.1f} times what was timed before, and {max(clock.left, 0) / 60:.1f} minutes are "
        f"left: {_words(found)} instead of {_words(plan)}",
    )  # fmt: skip


def _words(plan: Plan) -> str:
    seeds = f", {plan.seeds} seed{'s' * (plan.seeds > 1)}" if plan.arms else ""
    return f"{plan.top + 1} sizes{seeds} to {plan.top_ratio} tokens per parameter"


def pace_from(paces: Sequence[Pace]) -> PaceOf:
    """The pace of an arm at a layout among those that were timed; any other is too slow for every budget."""
    known = {(pace.arm, pace.layout): pace for pace in paces}
    return lambda arm, layout: known.get((arm, layout), Pace(arm=arm, layout=layout, tokens_per_s=SLOWEST))


def run_jobs(
    jobs: Sequence[Job],
    plan: Plan,
    folder: Path,
    *,
    workers: int,
    tell: Callable[[str], None],
    engine: str = "local",
    clock: Clock | None = None,
) -> None:
    """Run the jobs that are not finished in ``workers`` processes (or on a Ray cluster), until the clock says stop.

    On a cluster ``folder`` (and the corpus) must be a path that all its machines share.

    Raises:
        MeasurementError: a process died, or a file could not be written; what is finished stays.
    """
    waiting = _missing(jobs, folder)
    if not waiting or (clock is not None and clock.left <= 0):
        return
    shutil.rmtree(folder / "running", ignore_errors=True)
    for name in ("runs", "checkpoints", "running"):
        (folder / name).mkdir(exist_ok=True)
    stop = folder / STOP
    stop.unlink(missing_ok=True)
    # Set before the processes start, since their libraries read it while they load.
    os.environ.update(training_environment(1))
    tasks = [(job, plan.data, str(folder), plan.power, plan.device) for job in ordered(waiting)]
    pool = on_ray if engine == "ray" else in_processes
    on_cuda = plan.device == "cuda"
    timer = threading.Timer(max(clock.left, 0.0), stop.touch) if clock is not None else None
    if timer is not None:
        timer.daemon = True
        timer.start()
    try:
        for ended in pool(run_job, tasks, workers, stop.touch, on_cuda=on_cuda):
            if ended.remark:
                tell(ended.remark)
            if ended.finished:
                tell(f"finished {ended.name}")
    except WorkerDiedError as error:
        raise MeasurementError(
            "a process of the ladder died",
            "it was killed, or memory ran out",
            f"go on: shapewright ladder resume {folder}",
        ) from error
    finally:
        if timer is not None:
            timer.cancel()
        write_runs(folder)


def _missing(jobs: Sequence[Job], folder: Path) -> list[Job]:
    return [job for job in jobs if not all(branch_file(folder, job, r).exists() for r in job.ratios)]


def left_out(plan: Plan, folder: Path) -> tuple[str, ...]:
    """Runs of the plan that are not finished, with the branches they lack."""
    found = []
    for job in ordered([job for jobs in jobs_of(plan) for job in jobs]):
        lacks = [f"{r:g}" for r in job.ratios if not branch_file(folder, job, r).exists()]
        if lacks:
            found.append(f"{job.name} ({' and '.join(lacks)} tokens per parameter)")
    return tuple(found)


def finished(folder: Path) -> list[Row]:
    """The rows of all branches that are done, in a fixed order.

    Raises:
        DocumentError: a file is not what a branch writes.
    """
    rows = []
    for path in sorted((folder / "runs").glob("*.json")):
        try:
            told = json.loads(path.read_text())
            rows.append({column: told[column] for column in (*COLUMNS, "judged_s", "wall_s")})
        except (ValueError, KeyError, TypeError) as error:
            raise DocumentError(
                f"{path} is no finished run", str(error), "delete it and resume the ladder"
            ) from error
    return sorted(
        rows, key=lambda row: (row["role"], row["params"], row["tokens"], row["lr"], row["arm"], row["seed"])
    )


def write_runs(folder: Path) -> Path:
    """``runs.csv`` of all finished branches."""
    from shapewright.lab.state import write_atomic

    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(COLUMNS)
    writer.writerows([row[column] for column in COLUMNS] for row in finished(folder))
    write_atomic(folder / "runs.csv", text.getvalue().encode())
    return folder / "runs.csv"


def save_plan(plan: Plan, folder: Path) -> None:
    """Keep the plan in the ladder's folder."""
    from shapewright.lab.state import write_atomic

    write_atomic(folder / "ladder.json", (json.dumps(asdict(plan), indent=2) + "\n").encode())


def load_plan(folder: Path) -> Plan:
    """The plan of a ladder's folder.

    Raises:
        DocumentError: the folder holds no ladder.
    """
    try:
        told = json.loads((folder / "ladder.json").read_text())
        paces = tuple(
            Pace(arm=p["arm"], layout=_layout(p["layout"]), tokens_per_s=p["tokens_per_s"])
            for p in told["paces"]
        )
        power = Power(**told["power"]) if told["power"] else None
        return Plan(**{**told, "arms": tuple(told["arms"]), "paces": paces, "power": power})
    except (OSError, ValueError, TypeError, KeyError) as error:
        raise DocumentError(
            f"{folder} holds no ladder", str(error), "start one: shapewright ladder run --out FOLDER"
        ) from error


def _layout(told: Sequence[int]) -> Layout:
    width, depth, head_dim = told
    return width, depth, head_dim
