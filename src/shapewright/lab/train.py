"""Train a design on text: as its recipe says, for its tokens, a number of steps, or some minutes.

Decisions: under a budget of minutes the rate stays constant until 80 % of them are spent, whatever the recipe's
schedule, and decays over as many steps as will take the rest; so a busy machine costs tokens, not the schedule. Time
is that of a clock nobody sets, and goes on where the last checkpoint was. The log has one JSON object per line; on
resuming, lines after the checkpoint are dropped and written again.
"""

from __future__ import annotations

import hashlib
import json
import math
import signal
import statistics
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import torch

from shapewright.designs.document import Design
from shapewright.errors import MeasurementError, NotCoveredError, UsageError
from shapewright.evidence import Figure
from shapewright.lab.corpus import VOCAB_SIZE, Corpus
from shapewright.lab.schedule import Schedule, decay_start
from shapewright.lab.state import (
    Precision,
    Setup,
    TrainState,
    load_checkpoint,
    only_one,
    save_checkpoint,
    write_atomic,
)

DECAY = 0.2
"""Share of a run under a time budget in which the rate decays (Haegele et al. 2024, arXiv 2405.18392)."""
LOG_EVERY = 10
"""Steps between lines of the log."""
SAVE_EVERY_S = 30.0
TRIED_STEPS = 4
"""Steps timed in each number format, after one that is not."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Training:
    """A run: what, how, how long, and what was predicted of it."""

    setup: Setup
    schedule: Schedule
    minutes: float | None
    """Time budget; None where the schedule says how many steps."""
    predicted_step: Figure | None
    """[s]; None where the prediction is for other hardware or another number format."""
    predicted_loss: Figure | None
    """None where the run is not the one that the loss was predicted for."""


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
    """[nat/token]."""
    bits_per_byte: float
    predicted_step_time_s: float | None
    predicted_loss: float | None


Watch = Callable[[Record], None]


def training_of(
    design: Design,
    *,
    steps: int | None = None,
    minutes: float | None = None,
    learning_rate: float | None = None,
    precision: Precision | None = None,
    vocab_size: int = VOCAB_SIZE,
    seed: int = 0,
) -> Training:
    """The run that ``design`` asks for.

    Args:
        design: the document.
        steps: steps in place of the design's.
        minutes: time in place of steps.
        learning_rate: peak in place of the recipe's.
        precision: number format in place of the design's.
        vocab_size: symbols of the corpus.
        seed: of the weights and of the order of the text.

    Raises:
        UsageError: the design has no recipe, or its vocabulary is not bytes.
    """
    if design.recipe is None or design.run.tokens is None:
        raise UsageError(
            "the design has no recipe",
            "only a step was estimated",
            "give estimate a number of tokens: --tokens 10M",
        )
    if int(design.shape.vocab_size) < vocab_size or (vocab_size == VOCAB_SIZE) != (
        design.shape.vocab_size == VOCAB_SIZE
    ):
        raise UsageError(
            f"the vocabulary (={design.shape.vocab_size}) is not {vocab_size}",
            "the text is bytes" if vocab_size == VOCAB_SIZE else "the tokenizer has so many symbols",
            f"design it with --vocab {vocab_size}" + ("" if vocab_size != VOCAB_SIZE else ", or give its --tokenizer"),
        )  # fmt: skip
    recipe, plan = design.recipe, design.plan
    batch = design.run.global_batch_sequences
    micro = int(plan.micro_batch) if batch % int(plan.micro_batch) == 0 else batch
    chosen = precision or design.run.precision
    if chosen not in ("fp32", "bf16"):
        raise NotCoveredError(
            f"precision (={chosen!r}) cannot be trained here", "fp32 and bf16 can", "add --precision bf16"
        )
    setup = Setup(
        shape=design.shape, seq_len=design.run.sequence_length, batch=batch, micro_batch=micro, precision=chosen,
        weight_decay=recipe.weight_decay.value, beta1=recipe.beta1.value, beta2=recipe.beta2.value,
        epsilon=recipe.epsilon.value, gradient_clip=recipe.gradient_clip.value, init_std=recipe.init_std.value,
        output_init_std=recipe.output_init_std.value, seed=seed,
    )  # fmt: skip
    usual = max(round(design.run.tokens.value / setup.batch_tokens), 1)
    total = steps or usual
    peak = learning_rate or recipe.learning_rate.value
    warmup = min(int(recipe.warmup_steps.value), max(total // 10, 1))
    if minutes is not None:
        schedule = Schedule(kind="wsd", peak=peak, final=0.0, warmup=warmup, steps=None)
    else:
        fraction = recipe.decay_fraction.value
        schedule = Schedule(
            kind=recipe.schedule, peak=peak, final=min(recipe.final_learning_rate.value, peak), warmup=warmup, steps=total,
            decay_from=max(decay_start(total, fraction), warmup) if recipe.schedule == "wsd" else None,
        )  # fmt: skip
    same_step = int(plan.num_devices) == 1 and chosen == design.run.precision
    same_run = steps is None and learning_rate is None and (minutes is None or _is_budget(design, minutes))
    return Training(
        setup=setup, schedule=schedule, minutes=minutes,
        predicted_step=design.predicted.step_time_s if same_step else None,
        predicted_loss=design.predicted.loss if same_run else None,
    )  # fmt: skip


def _is_budget(design: Design, minutes: float) -> bool:
    budget = design.request.budget
    return (
        budget is not None
        and design.request.budget_kind == "time"
        and math.isclose(budget.value, 60.0 * minutes)
    )


def faster_precision(
    training: Training, corpus: Corpus, *, device: str
) -> tuple[Precision, dict[str, float]]:
    """The number format whose steps are shorter here, and the shortest step of each [s]."""
    times: dict[str, float] = {}
    formats: tuple[Precision, ...] = ("fp32", "bf16")
    for precision in formats:
        state = TrainState(replace(training.setup, precision=precision), corpus, device=device)
        state.take_step(0.0)
        taken = []
        for _ in range(TRIED_STEPS):
            start = time.perf_counter()
            state.take_step(0.0)
            taken.append(time.perf_counter() - start)
        times[precision] = min(taken)
    return min(formats, key=lambda name: times[name]), times


def train(
    training: Training,
    corpus: Corpus,
    folder: Path,
    *,
    resume: bool = False,
    device: str = "cpu",
    watch: Watch = lambda record: None,
) -> Outcome:
    """Train, with log and checkpoints in ``folder``.

    Raises:
        UsageError: the folder holds another run, or one that was not to be resumed.
        MeasurementError: the loss is no number, the folder fills up, a checkpoint is damaged, or somebody
            interrupted the run; what was saved stays.
    """
    with only_one(folder), _interruptible() as stop:
        run = _Run(training, corpus, folder, device=device, resume=resume, watch=watch)
        while not run.done:
            if stop():
                run.save()
                raise MeasurementError(
                    f"interrupted after step {run.state.step}", f"the checkpoint in {folder} is whole",
                    "go on with the same command and --resume",
                )  # fmt: skip
            run.step()
        return run.finish()


class _Run:
    """A run in progress: the state, the clock and the log."""

    def __init__(
        self, training: Training, corpus: Corpus, folder: Path, *, device: str, resume: bool, watch: Watch
    ) -> None:
        self.training, self.schedule, self.folder, self.watch = training, training.schedule, folder, watch
        self.identity = _identity(training, corpus)
        self.state = TrainState(training.setup, corpus, device=device)
        self.lines: list[dict[str, Any]] = []
        self._losses: list[float] = []
        self._times: list[float] = []
        self.before = self.own = 0.0
        self.clock, self.bytes_per_token = clock_of(device), corpus.bytes_per_token
        self.checkpoint, self.log = folder / "checkpoint.pt", folder / "log.jsonl"
        if self.checkpoint.exists():
            self._restore(resume)
        elif resume:
            raise UsageError(
                f"{folder} holds no checkpoint", "there is nothing to resume", "leave --resume out"
            )
        self._write_log()
        self.start = self.saved = time.monotonic()

    @property
    def elapsed(self) -> float:
        """Seconds of training, earlier parts included."""
        return self.before + time.monotonic() - self.start

    @property
    def done(self) -> bool:
        """Whether the last step is taken."""
        return self.schedule.steps is not None and self.state.step >= self.schedule.steps

    def step(self) -> None:
        """One step, with what is due after it: the end of a time budget, the log, a checkpoint."""
        start = self.clock()
        rate = self.schedule.rate(self.state.step)
        self._losses.append(self.state.take_step(rate))
        self._times.append(self.clock() - start)
        self.own += self._times[-1]
        self._close_budget()
        if self.state.step % LOG_EVERY == 0 or self.done:
            self._note(rate)
        if time.monotonic() - self.saved > SAVE_EVERY_S:
            self.save()

    def save(self) -> None:
        """Write the checkpoint and the log up to it."""
        self._write_log()
        open_end = {"steps": self.schedule.steps, "decay_from": self.schedule.decay_from}
        pending = {"losses": self._losses, "times": self._times}
        save_checkpoint(
            self.checkpoint,
            {
                **self.state.contents(),
                **open_end,
                **pending,
                "identity": self.identity,
                "elapsed": self.elapsed,
                "own": self.own,
            },
        )
        self.saved = time.monotonic()

    def finish(self) -> Outcome:
        """Judge the finished model and write the result."""
        seconds = self.elapsed
        self.save()
        loss = self.state.judge()
        t = self.training
        outcome = Outcome(
            steps=self.state.step, tokens=self.state.step * t.setup.batch_tokens, seconds=seconds, own_seconds=self.own,
            step_time_s=statistics.median(line["step_time_s"] for line in self.lines),
            train_loss=self.lines[-1]["loss"], held_out_loss=loss,
            bits_per_byte=loss / math.log(2.0) / self.bytes_per_token,
            predicted_step_time_s=t.predicted_step.value if t.predicted_step else None,
            predicted_loss=t.predicted_loss.value if t.predicted_loss else None,
        )  # fmt: skip
        write_atomic(self.folder / "result.json", (json.dumps(asdict(outcome), indent=2) + "\n").encode())
        return outcome

    def _close_budget(self) -> None:
        """Under a time budget: once the constant phase has had its share, fix where the run ends."""
        minutes = self.training.minutes
        if minutes is None or self.schedule.steps is not None or self.elapsed < (1 - DECAY) * 60.0 * minutes:
            return
        left = 60.0 * minutes - self.elapsed
        more = max(round(left / (self.elapsed / self.state.step)), 1)
        self.schedule = replace(self.schedule, steps=self.state.step + more, decay_from=self.state.step)

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
        try:
            with self.log.open("a", encoding="utf-8") as handle:
                handle.write(json.dumps(self.lines[-1]) + "\n")
        except OSError as error:
            raise MeasurementError(
                f"{self.log} cannot be written", error.strerror or str(error),
                "free space or mend the folder, then go on with --resume",
            ) from error  # fmt: skip
        self.watch(record)

    def _write_log(self) -> None:
        write_atomic(self.log, "".join(json.dumps(line) + "\n" for line in self.lines).encode())

    def _restore(self, resume: bool) -> None:
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
        self.state.restore(contents)
        self.schedule = replace(self.schedule, steps=contents["steps"], decay_from=contents["decay_from"])
        self._losses, self._times, self.before = contents["losses"], contents["times"], contents["elapsed"]
        self.own = contents["own"]
        try:
            lines = [json.loads(line) for line in self.log.read_text(encoding="utf-8").splitlines()]
        except (OSError, ValueError):
            lines = []
        self.lines = [line for line in lines if line["step"] <= self.state.step]


def _identity(training: Training, corpus: Corpus) -> str:
    """What must agree for a run to go on: set-up, schedule, budget and text."""
    told = [asdict(training.setup), asdict(training.schedule), training.minutes, corpus.digest]
    return hashlib.sha256(json.dumps(told, sort_keys=True).encode()).hexdigest()


@contextmanager
def _interruptible() -> Iterator[Callable[[], bool]]:
    """Ctrl-C (or a polite kill) waits for the end of a step; a second Ctrl-C does not."""
    asked = False

    def ask(number: int, frame: Any) -> None:
        nonlocal asked
        if asked:
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


def clock_of(device: str) -> Callable[[], float]:
    """The process's own clock where it has one thread on a processor, for a neighbour does not lengthen that."""
    return time.process_time if device == "cpu" and torch.get_num_threads() == 1 else time.perf_counter


def default_device(on_cpu: bool) -> str:
    """``cuda`` where the design is for an accelerator and one is here, else ``cpu``."""
    return "cuda" if not on_cpu and torch.cuda.is_available() else "cpu"
