"""One run of a ladder in a process of its own: its constant phase, a cooldown for every length, a file for each.

Decisions: whatever the next step depends on is in a checkpoint, the constant phase's beside that of the cooldown in
progress, so a run that is killed loses the steps since the last one. A checkpoint that is damaged, or a finished
branch that somebody deleted, costs the run its time and nothing else: it starts over and comes to the same losses. A run
that diverges is a result (an infinite loss for each branch that is left) and ends no other run. A file named ``stop``
in the ladder's folder asks every run, on whatever machine, to save its checkpoint and end. Seconds are the process's
own (CPU) time, which another user of the machine does not lengthen much; on a CUDA device, which a run has to itself,
they are the wall's.
"""

from __future__ import annotations

import json
import os
import time
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path
from typing import Any

from shapewright.architecture.graph import build_graph, num_params
from shapewright.errors import DivergedError, MeasurementError
from shapewright.lab.arms import BASE, arm_shape
from shapewright.lab.corpus import VOCAB_SIZE, Corpus, read_corpus
from shapewright.lab.energy import Power, counter_of
from shapewright.lab.rungs import (
    BATCH,
    DECAY,
    SEQ_LEN,
    Job,
    Layout,
    Pace,
    inner_size,
    size_of,
)

SAVE_EVERY_S = 20.0
TELL_EVERY_S = 2.0
"""Seconds between the lines a run writes about where it is, and between its looks for a stop."""
TIMED_STEPS = 8
"""Steps timed of each rung before a ladder is planned, after one that is not."""
STOP = "stop"
"""Name of the file that asks all runs of a ladder to end."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Ended:
    """How a run ended."""

    name: str
    finished: bool
    """False where it was asked to stop."""
    remark: str = ""
    """What a reader of the ladder must know of it."""


class StoppedError(Exception):
    """The ladder was asked to stop."""


def branch_file(folder: Path, job: Job, ratio: float) -> Path:
    """The file that a finished branch is."""
    return folder / "runs" / f"{job.name}_{ratio:g}.json"


def run_job(
    job: Job, data: str | None, folder: str, power: Power | None = None, device: str = "cpu"
) -> Ended:
    """Run ``job`` in this process, from its last checkpoint if there is one; writes a file per branch.

    Args:
        job: the run.
        data: path of the corpus; None for the standard library.
        folder: of the ladder.
        power: where joules come from; None where they are unknown.
        device: ``cpu`` or ``cuda``; the CUDA device is the only one that this process sees.

    Raises:
        MeasurementError: a file cannot be written; what was written before stays.
    """
    import torch

    torch.set_num_threads(1)
    if (Path(folder) / STOP).exists():
        return Ended(name=job.name, finished=False)
    run = _Run(job, _corpus(data), Path(folder), power, device)
    try:
        for ratio in job.ratios:
            if not branch_file(run.folder, job, ratio).exists():
                run.branch(ratio)
    except StoppedError:
        return Ended(name=job.name, finished=False, remark=run.remark)
    except DivergedError as error:
        run.give_up(error)
    run.clear()
    return Ended(name=job.name, finished=True, remark=run.remark)


def setup_of(job: Job) -> Any:
    """The training set-up of a job: the recipe's, with the ladder's batch."""
    from shapewright.lab.state import Setup
    from shapewright.scaling.recipe import recipe

    shape, size = arm_shape(job.arm, job.layout), size_of(job.layout)
    r = recipe(params=inner_size(job.layout), tokens=max(job.ratios) * size, width=job.layout[0], depth=job.layout[1],
               batch=float(SEQ_LEN * BATCH), schedule="wsd")  # fmt: skip
    return Setup(
        shape=shape, seq_len=SEQ_LEN, batch=BATCH, micro_batch=BATCH, precision="fp32", seed=job.seed,
        weight_decay=r.weight_decay.value, beta1=r.beta1.value, beta2=r.beta2.value, epsilon=r.epsilon.value,
        gradient_clip=r.gradient_clip.value, init_std=r.init_std.value, output_init_std=r.output_init_std.value,
    )  # fmt: skip


def pace_of(
    layout: Layout, corpus: Corpus, arm: str = BASE, device: str = "cpu"
) -> tuple[Pace, float, float]:
    """How fast this process trains ``arm`` at ``layout``, by the shortest of a few steps.

    Returns:
        The pace, and the seconds of all timed steps on the run's clock and on the wall.
    """
    from shapewright.lab.state import TrainState
    from shapewright.lab.training import clock_of

    clock = clock_of(device)

    job = Job(name="timed", role="tune", arm=arm, layout=layout, learning_rate=0.0,
              ratios=(float(max(10_000_000 // size_of(layout), 1)),))  # fmt: skip
    state = TrainState(setup_of(job), corpus, device=device)
    state.take_step(0.0)
    times, wall = [], time.monotonic()
    for _ in range(TIMED_STEPS):
        start = clock()
        state.take_step(0.0)
        times.append(clock() - start)
    pace = Pace(arm=arm, layout=layout, tokens_per_s=state.setup.batch_tokens / min(times))
    return pace, sum(times), time.monotonic() - wall


@lru_cache(maxsize=1)
def _corpus(data: str | None) -> Corpus:
    return read_corpus(Path(data) if data else None)


class _Run:
    """A run in progress."""

    def __init__(self, job: Job, corpus: Corpus, folder: Path, power: Power | None, device: str) -> None:
        from shapewright.lab.schedule import Schedule
        from shapewright.lab.state import TrainState
        from shapewright.lab.training import clock_of

        self.own_clock = clock_of(device)
        self.saved = self.told = self.clock = time.monotonic()
        self.job, self.folder, self.remark = job, folder, ""
        self.steady_file = folder / "checkpoints" / f"{job.name}.pt"
        self.cooling_file = folder / "checkpoints" / f"{job.name}.cooling.pt"
        self.told_file = folder / "running" / f"{job.name}.json"
        self.make = lambda: TrainState(setup_of(job), corpus, device=device)
        self.state = self.make()
        setup = self.state.setup
        self.batch_tokens, self.size = setup.batch_tokens, size_of(job.layout)
        warmup = max(round(self.size / self.batch_tokens), 1)
        self.steady = Schedule(kind="wsd", peak=job.learning_rate, final=0.0, warmup=warmup, steps=None)
        self.seconds = self.wall = self.counted = 0.0
        self.power, self.joules = power, 0.0 if power else None
        self.meter = counter_of(device)
        self.loss = float("nan")
        contents = self._load(self.steady_file)
        if contents:
            self._restore(contents)

    def branch(self, ratio: float) -> None:
        """Train to where the branch leaves, cool down, judge, and go back."""
        from shapewright.lab.schedule import decay_start

        steps = self.steps_of(ratio)
        first = decay_start(steps, DECAY)
        if self.state.step > first:
            self._start_over(f"a finished branch of {self.job.name} was missing: the run started over")
        self._advance(self.steady, first, self.steady_file, ratio)
        self._save(self.steady_file, ratio)
        kept = self._load(self.steady_file)
        assert kept is not None
        begun = self._load(self.cooling_file)
        if begun and begun["ratio"] == ratio:
            self._restore(begun)
        self._advance(replace(self.steady, steps=steps, decay_from=first), steps, self.cooling_file, ratio)
        before = self.own_clock()
        loss = self.state.judge()
        judged = self.own_clock() - before
        self._write(ratio, loss, judged)
        self.cooling_file.unlink(missing_ok=True)
        self._restore(kept)

    def give_up(self, error: DivergedError) -> None:
        """Write what is left of a run that diverged as an infinite loss."""
        for ratio in self.job.ratios:
            if not branch_file(self.folder, self.job, ratio).exists():
                self._write(ratio, float("inf"), 0.0)
        if self.job.role != "tune":
            self.remark = f"{self.job.name} diverged: {error.what}, {error.why}"

    def clear(self) -> None:
        """Forget what only a run in progress needs; the checkpoint at the last branch stays."""
        self.cooling_file.unlink(missing_ok=True)
        self.told_file.unlink(missing_ok=True)

    def steps_of(self, ratio: float) -> int:
        """Steps of a branch in all."""
        return max(round(ratio * self.size / self.batch_tokens), 2)

    def _advance(self, schedule: Any, until: int, checkpoint: Path, ratio: float) -> None:
        self.meter.reset()
        self.counted = self.seconds
        while self.state.step < until:
            start = self.own_clock()
            self.loss = self.state.take_step(schedule.rate(self.state.step))
            self.seconds += self.own_clock() - start
            now = time.monotonic()
            if now - self.told > TELL_EVERY_S:
                self.told = now
                self._count_joules()
                self._tell(ratio)
                try:
                    self._look()
                except StoppedError:
                    self._save(checkpoint, ratio)
                    raise
            if now - self.saved > SAVE_EVERY_S:
                self._count_joules()
                self._save(checkpoint, ratio)
        self._count_joules()

    def _count_joules(self) -> None:
        """Add what the steps since the last count took; once unknown, a run's joules stay unknown."""
        own = self.seconds - self.counted
        if self.power is None or self.joules is None:
            return
        lap = self.meter.lap(own) if self.power.watts is None else own * self.power.watts
        self.joules = None if lap is None else self.joules + lap
        # Where the system's clock has not moved yet the seconds wait for the next lap.
        if lap:
            self.counted = self.seconds

    def _look(self) -> None:
        if (self.folder / STOP).exists():
            raise StoppedError

    def _save(self, path: Path, ratio: float) -> None:
        from shapewright.lab.state import save_checkpoint

        self._count_wall()
        save_checkpoint(
            path,
            {
                **self.state.contents(),
                "seconds": self.seconds,
                "wall": self.wall,
                "ratio": ratio,
                "joules": self.joules,
            },
        )
        self.saved = time.monotonic()

    def _load(self, path: Path) -> dict[str, Any] | None:
        """A checkpoint; None where there is none, or where what is there is damaged."""
        from shapewright.lab.state import load_checkpoint

        if not path.exists():
            return None
        try:
            return load_checkpoint(path)
        except MeasurementError:
            path.unlink(missing_ok=True)
            self.remark = f"a checkpoint of {self.job.name} was damaged: what it held was trained again"
            return None

    def _restore(self, contents: dict[str, Any]) -> None:
        self.state.restore(contents)
        self.seconds, self.joules = contents["seconds"], contents["joules"]
        self.wall = max(self.wall, contents["wall"])

    def _start_over(self, why: str) -> None:
        self.state, self.remark, self.seconds = self.make(), why, 0.0
        self.joules = 0.0 if self.power else None
        self.cooling_file.unlink(missing_ok=True)

    def _count_wall(self) -> None:
        now = time.monotonic()
        self.wall, self.clock = self.wall + now - self.clock, now

    def _tell(self, ratio: float) -> None:
        """Say where the run is, for those who watch; a line that is lost is no harm."""
        self._count_wall()
        line = {"name": self.job.name, "ratio": ratio, "step": self.state.step, "steps": self.steps_of(ratio),
                "loss": self.loss, "seconds": self.seconds, "wall": self.wall}  # fmt: skip
        part = self.told_file.with_suffix(f".{os.getpid()}")
        try:
            part.write_text(json.dumps(line))
            part.replace(self.told_file)
        except OSError:
            part.unlink(missing_ok=True)

    def _write(self, ratio: float, loss: float, judged: float) -> None:
        from shapewright.lab.state import write_atomic

        self._count_wall()
        job, steps, shape = self.job, self.steps_of(ratio), self.state.setup.shape
        forward = float(build_graph(shape, batch=1, seq_len=SEQ_LEN).flops()) / SEQ_LEN
        row = {
            "name": job.name, "role": job.role, "params": int(num_params(shape)),
            "embedding_params": VOCAB_SIZE * job.layout[0], "tokens": steps * self.batch_tokens, "loss": loss,
            "width": job.layout[0], "depth": job.layout[1],
            "lr": job.learning_rate, "batch_tokens": self.batch_tokens, "steps": steps, "seed": job.seed,
            "seconds": round(self.seconds, 2), "arm": job.arm, "ratio": ratio,
            "flops": 3.0 * forward * steps * self.batch_tokens,
            "joules": None if self.joules is None else round(self.joules, 3),
            "energy": self.power.kind if self.power and self.joules is not None else "",
            "judged_s": round(judged, 2), "wall_s": round(self.wall, 2),
        }  # fmt: skip
        write_atomic(branch_file(self.folder, job, ratio), json.dumps(row).encode())
