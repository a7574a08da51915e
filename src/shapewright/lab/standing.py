"""Where a ladder stands, from its folder alone, so that whoever looks sees the same: console, page, studio.

Decisions: work is counted in the seconds that were expected of it, finished branches and the runs in progress by
their steps. The time that is left is what is not done over the processes, times how much longer than expected what
is done took on the wall. What a run in progress says is at most seconds old; one that was killed is not in progress.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from shapewright.lab.ladder import finished, jobs_of, load_plan, pace_from
from shapewright.lab.ladder_run import branch_file
from shapewright.lab.rungs import Job, Plan, Row, makespan, ordered, seconds_of


@dataclass(frozen=True, kw_only=True, slots=True)
class Running:
    """A run in progress."""

    name: str
    step: int
    steps: int
    """Of the branch in progress."""
    ratio: float
    """Its tokens per parameter."""
    loss: float
    """Of the last step that was told [nat/byte]."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Standing:
    """A ladder at one moment."""

    plan: Plan
    rows: tuple[Row, ...]
    """Finished branches."""
    expected: int
    """Branches in all, without wider sweeps that are not begun."""
    running: tuple[Running, ...]
    share: float
    """Of the work that is done, 0 to 1."""
    left_s: float | None
    """Until all is done on the wall; None where nothing was timed or done."""

    @property
    def sizes(self) -> tuple[int, ...]:
        """Parameters of the base at each rung."""
        from shapewright.lab.rungs import size_of

        return tuple(sorted({size_of(job.layout) for job in jobs_of(self.plan)[1] if job.role == "rung"}))


def standing(folder: Path, *, workers: int = 1, running: bool = True) -> Standing:
    """Where the ladder in ``folder`` stands.

    Args:
        folder: of the ladder.
        workers: processes that run it.
        running: whether somebody runs it now.

    Raises:
        DocumentError: the folder holds no ladder, or a file that is no run.
    """
    plan = load_plan(folder)
    rows = tuple(finished(folder)) if (folder / "runs").is_dir() else ()
    sweeps, rungs = jobs_of(plan)
    names = {job.name for job in (*sweeps, *rungs)}
    wider = {row["name"] for row in rows if row["role"] == "tune"} - names
    told = _running(folder) if running else []
    work = _Work(plan, folder, told)
    jobs = [*ordered(sweeps), *ordered(rungs)]
    left = [work.left(job) for job in jobs]
    whole = sum(work.whole(job) for job in jobs)
    share = 1.0 - sum(left) / whole if whole else 0.0
    left_s = None
    if plan.paces and work.slower is not None:
        left_s = work.slower * makespan([seconds for seconds in left if seconds > 0] or [0.0], workers)
    return Standing(
        plan=plan, rows=rows, expected=sum(len(job.ratios) for job in jobs) + len(wider),
        running=tuple(
            Running(name=t["name"], step=t["step"], steps=t["steps"], ratio=t["ratio"], loss=t["loss"]) for t in told
        ),
        share=share, left_s=left_s,
    )  # fmt: skip


class _Work:
    """Expected seconds of jobs, whole and left."""

    def __init__(self, plan: Plan, folder: Path, told: Sequence[dict[str, Any]]) -> None:
        self.folder = folder
        self.pace = pace_from(plan.paces)
        self.timed = bool(plan.paces)
        self.told = {each["name"]: each for each in told}
        jobs = [job for part in jobs_of(plan) for job in part]
        took = wanted = 0.0
        for job in jobs:
            done = self.whole(job) - self.left(job)
            wall = self._wall(job)
            if done > 0 and wall > 0:
                took, wanted = took + wall, wanted + done
        self.slower = took / wanted if wanted else None

    def whole(self, job: Job) -> float:
        """Seconds of the whole job; its tokens where nothing was timed."""
        from shapewright.lab.rungs import tokens_of

        return seconds_of(job, self.pace) if self.timed else tokens_of(job)

    def left(self, job: Job) -> float:
        """Seconds of it that are not done: steps that are behind count, those of finished branches whole."""
        done = [ratio for ratio in job.ratios if branch_file(self.folder, job, ratio).exists()]
        if len(done) == len(job.ratios):
            return 0.0
        # The constant phase up to the longest finished branch is most of what a branch costs.
        share = max(done, default=0.0) / job.ratios[-1]
        mine = self.told.get(job.name)
        if mine is not None and mine["steps"]:
            share = max(share, mine["ratio"] / job.ratios[-1] * mine["step"] / mine["steps"])
        return self.whole(job) * (1.0 - share)

    def _wall(self, job: Job) -> float:
        mine = self.told.get(job.name)
        if mine is not None:
            return float(mine["wall"])
        for ratio in reversed(job.ratios):
            path = branch_file(self.folder, job, ratio)
            if path.exists():
                return float(json.loads(path.read_text())["wall_s"])
        return 0.0


def _running(folder: Path) -> list[dict[str, Any]]:
    found = []
    for path in sorted((folder / "running").glob("*.json")):
        try:
            found.append(json.loads(path.read_text()))
        except (OSError, ValueError):
            continue  # it ended between the listing and the reading
    return found
