"""Train a design on text: as its recipe says, for its tokens, a number of steps, or some minutes.

Decisions: under a budget of minutes the rate stays constant until 80 % of them are spent, whatever the recipe's
schedule, and decays over as many steps as will take the rest; so a busy machine costs tokens, not the schedule. Time
is that of a clock nobody sets, and goes on where the last checkpoint was. The log has one JSON object per line; on
resuming, lines after the checkpoint are dropped and written again. In a team the first process writes and its clock
counts; where it cannot write, or anybody is asked to stop, all end at the same step.
"""

from __future__ import annotations

import hashlib
import json
import math
import signal
import statistics
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from shapewright.errors import MeasurementError, UsageError
from shapewright.lab.corpus import Corpus
from shapewright.lab.energy import counter_of
from shapewright.lab.state import TrainState, load_checkpoint, only_one, save_checkpoint, write_atomic
from shapewright.lab.team import ALONE, Team
from shapewright.lab.training import Training, clock_for

DECAY = 0.2
"""Share of a run under a time budget in which the rate decays (Haegele et al. 2024, arXiv 2405.18392)."""
LOG_EVERY = 10
"""Steps between lines of the log."""
SAVE_EVERY_S = 30.0


@dataclass(frozen=True, kw_only=True, slots=True)
class Record:
    """One line of the log."""

    step: int
    steps: int | None
    """Steps in all; None while the end is open."""
    loss: float
    """Mean over the steps since the last line [nat/token]."""
    learning_rate: float
    tokens: int
    tokens_per_s: float
    step_time_s: float
    """Median since the last line [s]."""
    predicted_step_time_s: float | None
    elapsed_s: float


@dataclass(frozen=True, kw_only=True, slots=True)
class Outcome:
    """What a finished run reached."""

    steps: int
    tokens: int
    seconds: float
    """Time of training on the wall, earlier parts of a resumed run included."""
    own_seconds: float
    """The same by the process's own clock, where it has one thread on a processor; else on the wall."""
    step_time_s: float
    """Median."""
    train_loss: float
    """Of the last line of the log [nat/token]."""
    held_out_loss: float
    """[nat/token], or nat per image."""
    bits_per_byte: float | None
    """None of images."""
    predicted_step_time_s: float | None
    predicted_loss: float | None
    joules: float | None
    """Of all processes; None where nothing counts them [J]."""
    energy: str
    """What counted them; empty where nothing did."""


Watch = Callable[[Record], None]


def train(
    training: Training,
    corpus: Corpus,
    folder: Path,
    *,
    resume: bool = False,
    team: Team = ALONE,
    watch: Watch = lambda record: None,
    about: Mapping[str, Any] | None = None,
) -> Outcome:
    """Train, with log and checkpoints in ``folder``.

    Args:
        training: the run.
        corpus: what it trains on; the same in every process.
        folder: of log and checkpoints; the first process's.
        resume: whether to go on with the run in ``folder``.
        team: the processes that train together, and their device.
        watch: called with each record, in the first process.
        about: what else the result says of the run.

    Raises:
        UsageError: the folder holds another run, or one that was not to be resumed; the processes read different texts.
        MeasurementError: the loss is no number, the folder fills up, a checkpoint is damaged, a process is lost, or
            somebody interrupted the run; what was saved stays.
    """
    with _held(folder, team), _interruptible(patient=not team.alone) as asked, _together(folder, team):
        run = _Run(training, corpus, folder, resume=resume, team=team, watch=watch)
        while not run.done:
            if run.between(asked()):
                run.save()
                raise MeasurementError(
                    f"interrupted after step {run.state.step}", f"the checkpoint in {folder} is whole",
                    "go on with the same command and --resume",
                )  # fmt: skip
            run.step()
        return run.finish(about or {})


class _Run:
    """A run in progress: the state, the clock and the log."""

    def __init__(
        self, training: Training, corpus: Corpus, folder: Path, *, resume: bool, team: Team, watch: Watch
    ) -> None:
        self.training, self.schedule, self.folder = training, training.schedule, folder
        self.team, self.watch = team, watch
        self.identity = _identity(training, corpus)
        if team.sums(team.from_first(lambda: self.identity) != self.identity)[0]:
            raise UsageError(
                "the processes were told different runs", "design, options and corpus must be the same on every node",
                "give each node the same design and text",
            )  # fmt: skip
        self.state = TrainState(training.setup, corpus, device=team.device, team=team)
        self.lines: list[dict[str, Any]] = []
        self._losses: list[float] = []
        self._times: list[float] = []
        self.before = self.own = 0.0
        self.meter, self.joules, self.counted = counter_of(team.device), 0.0, time.process_time()
        self.clock, self.bytes_per_token = clock_for(team), corpus.bytes_per_token
        self.checkpoint, self.log = folder / "checkpoint.pt", folder / "log.jsonl"
        self._restore(team.from_first(lambda: self._found(resume)))
        self._write_log()
        self.start = self.saved = time.monotonic()
        self.meter.reset()

    @property
    def elapsed(self) -> float:
        """Seconds of training, earlier parts included."""
        return self.before + time.monotonic() - self.start

    @property
    def done(self) -> bool:
        """Whether the last step is taken."""
        return self.schedule.steps is not None and self.state.step >= self.schedule.steps

    def between(self, asked: bool) -> bool:
        """What is due between two steps: the end of a time budget, a checkpoint.

        Returns whether a process was ``asked`` to stop.
        """
        mine = (self.elapsed, time.monotonic() - self.saved) if self.team.first else (0.0, 0.0)
        elapsed, unsaved, stop = self.team.sums(*mine, asked)
        self._close_budget(elapsed)
        if unsaved > SAVE_EVERY_S:
            self.save()
        return stop > 0

    def step(self) -> None:
        """One step, and the log where it is due."""
        start = self.clock()
        rate = self.schedule.rate(self.state.step)
        self._losses.append(self.state.take_step(rate))
        self._times.append(self.clock() - start)
        self.own += self._times[-1]
        if self.state.step % LOG_EVERY == 0 or self.done:
            self._count_joules()
            self._note(rate)

    def save(self) -> None:
        """Write the checkpoint and the log up to it."""
        self._write_log()
        contents = {
            **self.state.contents(), "steps": self.schedule.steps, "decay_from": self.schedule.decay_from,
            "losses": self._losses, "times": self._times, "identity": self.identity, "elapsed": self.elapsed,
            "own": self.own, "joules": self.joules,
        }  # fmt: skip
        self.team.from_first(lambda: save_checkpoint(self.checkpoint, contents))
        self.saved = time.monotonic()

    def finish(self, about: Mapping[str, Any]) -> Outcome:
        """Judge the finished model and write the result."""
        seconds = self.elapsed
        self.save()
        loss = self.state.judge()
        t = self.training
        # What is unknown to one process is unknown of all.
        joules = self.team.sums(self.joules)[0]
        known = math.isfinite(joules)
        outcome = Outcome(
            steps=self.state.step, tokens=self.state.step * t.setup.batch_tokens, seconds=seconds, own_seconds=self.own,
            step_time_s=statistics.median(line["step_time_s"] for line in self.lines),
            train_loss=self.lines[-1]["loss"], held_out_loss=loss,
            bits_per_byte=None if t.setup.shape.patches else loss / math.log(2.0) / self.bytes_per_token,
            predicted_step_time_s=t.predicted_step.value if t.predicted_step else None,
            predicted_loss=t.predicted_loss.value if t.predicted_loss else None,
            joules=joules if known else None, energy=self.meter.kind if known else "",
        )  # fmt: skip
        told = {**asdict(outcome), "identity": self.identity, **about}
        text = json.dumps(told, indent=2) + "\n"
        self.team.from_first(lambda: write_atomic(self.folder / "result.json", text.encode()))
        return outcome

    def _close_budget(self, elapsed: float) -> None:
        """Under a time budget: once the constant phase has had its share, fix where the run ends."""
        minutes = self.training.minutes
        if minutes is None or self.schedule.steps is not None or self.state.step == 0:
            return
        if elapsed < (1 - DECAY) * 60.0 * minutes:
            return
        left = 60.0 * minutes - elapsed
        more = max(round(left / (elapsed / self.state.step)), 1)
        self.schedule = replace(self.schedule, steps=self.state.step + more, decay_from=self.state.step)

    def _count_joules(self) -> None:
        """Add what was drawn since the last count; once unknown, a run's joules stay unknown (not a number)."""
        now = time.process_time()
        lap = self.meter.lap(now - self.counted)
        self.joules += math.nan if lap is None else lap
        # Where the system's clock has not moved yet the seconds wait for the next lap.
        if lap:
            self.counted = now

    def _note(self, rate: float) -> None:
        setup, predicted = self.training.setup, self.training.predicted_step
        step_time = statistics.median(self._times)
        record = Record(
            step=self.state.step, steps=self.schedule.steps, loss=statistics.fmean(self._losses), learning_rate=rate,
            tokens=self.state.step * setup.batch_tokens, tokens_per_s=setup.batch_tokens / step_time,
            step_time_s=step_time, predicted_step_time_s=predicted.value if predicted else None, elapsed_s=self.elapsed,
        )  # fmt: skip
        self._losses, self._times = [], []
        self.lines.append(asdict(record))
        self.team.from_first(self._append)
        if self.team.first:
            self.watch(record)

    def _append(self) -> None:
        """Add the last line to the log."""
        try:
            with self.log.open("a", encoding="utf-8") as handle:
                handle.write(json.dumps(self.lines[-1]) + "\n")
        except OSError as error:
            raise MeasurementError(
                f"{self.log} cannot be written", error.strerror or str(error),
                "free space or mend the folder, then go on with --resume",
            ) from error  # fmt: skip

    def _write_log(self) -> None:
        text = "".join(json.dumps(line) + "\n" for line in self.lines)
        self.team.from_first(lambda: write_atomic(self.log, text.encode()))

    def _found(self, resume: bool) -> tuple[dict[str, Any], list[dict[str, Any]]] | None:
        """Contents of the checkpoint and lines of the log that a run goes on from; None where it begins."""
        if not self.checkpoint.exists():
            if resume:
                raise UsageError(
                    f"{self.folder} holds no checkpoint", "there is nothing to resume", "leave --resume out"
                )
            return None
        if not resume:
            raise UsageError(
                f"{self.folder} holds a run already", "nothing on disk is overwritten without being asked",
                "add --resume to go on with it, or name another folder with --out",
            )  # fmt: skip
        contents = load_checkpoint(self.checkpoint)
        if contents["identity"] != self.identity:
            raise UsageError(
                f"{self.folder} holds another run", "its design, options or corpus differ from these",
                "give the same ones, or name another folder with --out",
            )  # fmt: skip
        try:
            lines = [json.loads(line) for line in self.log.read_text(encoding="utf-8").splitlines()]
        except (OSError, ValueError):
            lines = []
        return contents, lines

    def _restore(self, found: tuple[dict[str, Any], list[dict[str, Any]]] | None) -> None:
        if found is None:
            return
        contents, lines = found
        self.state.restore(contents)
        self.schedule = replace(self.schedule, steps=contents["steps"], decay_from=contents["decay_from"])
        self._losses, self._times, self.before = contents["losses"], contents["times"], contents["elapsed"]
        self.own, self.joules = contents["own"], contents["joules"]
        self.lines = [line for line in lines if line["step"] <= self.state.step]


def _identity(training: Training, corpus: Corpus) -> str:
    """What must agree for a run to go on: set-up, schedule, budget and text."""
    told = [asdict(training.setup), asdict(training.schedule), training.minutes, corpus.digest]
    return hashlib.sha256(json.dumps(told, sort_keys=True).encode()).hexdigest()


@contextmanager
def _held(folder: Path, team: Team) -> Iterator[None]:
    """The folder, held by the first process for all."""
    with ExitStack() as stack:
        team.from_first(lambda: stack.enter_context(only_one(folder)))
        yield


@contextmanager
def _together(folder: Path, team: Team) -> Iterator[None]:
    """A message for what the library throws where another process is gone."""
    try:
        yield
    except RuntimeError as error:
        if team.alone:
            raise
        raise MeasurementError(
            f"process {team.rank} could not go on", str(error).strip().splitlines()[0][:200],
            f"see what the others say; if {folder} has a checkpoint, go on with the same command and --resume",
        ) from error  # fmt: skip


@contextmanager
def _interruptible(*, patient: bool) -> Iterator[Callable[[], bool]]:
    """Ctrl-C (or a polite kill) waits for the end of a step; a second Ctrl-C does not.

    ``patient`` waits whatever comes: torchrun passes on what the terminal has already sent to every process.
    """
    asked = False

    def ask(number: int, frame: Any) -> None:
        nonlocal asked
        if asked and not patient:
            raise KeyboardInterrupt
        asked = True

    try:
        old = {number: signal.signal(number, ask) for number in (signal.SIGINT, signal.SIGTERM)}
    except ValueError:  # not the main thread: whoever runs it there interrupts it there
        old = {}
    try:
        yield lambda: asked
    finally:
        for number, handler in old.items():
            signal.signal(number, handler)
