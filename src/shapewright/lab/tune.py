"""How to run one model's training steps on this device: number format, micro-batch, threads, kernels, compiled or not.

Decisions: choices that the cost model prices (format and micro-batch) are pruned by it, so that only those within
``KEEP`` of its best are timed; what it does not price is always timed. One choice after another, each with the best of
those before, since a full grid would take longer than the training it serves. Time is the best of several steps, by the
process's own clock where there is one thread. A choice is taken if it is faster by ``WORTH``: the rest is noise. Compiling
is tried on request, because it takes longer than most runs of minutes gain by it; its first step is reported.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

import torch

from shapewright.architecture.shape import DenseFFN
from shapewright.errors import MeasurementError, NotCoveredError
from shapewright.lab.attend import BLOCK
from shapewright.lab.channel_layers import TRITON
from shapewright.lab.corpus import Corpus
from shapewright.lab.nets import Net
from shapewright.lab.recurrent_layers import DeltaLayer, Mamba2Layer, MLSTMLayer
from shapewright.lab.state import Setup, TrainState

KEEP = 1.4
"""Candidates predicted to take longer than the best by this factor are not timed."""
WORTH = 1.02
STEPS = 6
BLOCKS = (64, BLOCK, 256, None)
CHUNKS = (16, 32, 64, 128)


@dataclass(frozen=True, kw_only=True, slots=True)
class Trial:
    """One way to run a step, timed or pruned."""

    choice: str
    """What is tried: ``format``, ``micro-batch``, ``attention``, ``scan``, ``tile``, ``threads`` or ``compile``."""
    value: str
    seconds: float | None
    """Shortest step [s]; None where the cost model left it out, or it failed."""
    predicted: float | None
    """By the cost model [s]; None where it does not price the choice."""
    taken: bool
    remark: str = ""


@dataclass(frozen=True, kw_only=True, slots=True)
class Tuned:
    """What was chosen, and what it bought."""

    setup: Setup
    threads: int
    before_s: float
    """Shortest step as the design has it [s]."""
    after_s: float
    trials: tuple[Trial, ...]

    @property
    def speedup(self) -> float:
        """Before over after."""
        return self.before_s / self.after_s


Predict = Callable[[Setup], float]


def tune(
    setup: Setup,
    corpus: Corpus,
    *,
    device: str = "cpu",
    threads: Sequence[int] = (1,),
    compile: bool = False,
    predict: Predict | None = None,
    tell: Callable[[Trial], None] = lambda trial: None,
) -> Tuned:
    """Choose by measurement how to run ``setup``'s steps.

    Args:
        setup: the run as the design has it.
        corpus: what it trains on.
        device: ``cpu`` or ``cuda``.
        threads: numbers of threads to try on a processor; the first is the present one.
        compile: whether to try torch.compile.
        predict: seconds of a step by the cost model; None to time every candidate.
        tell: called with each trial.

    Raises:
        MeasurementError: the design's own step cannot be run.
    """
    trials: list[Trial] = []

    def note(trial: Trial) -> None:
        trials.append(trial)
        tell(trial)

    torch.set_num_threads(threads[0])
    before = shortest(setup, corpus, device)
    best, current = before, setup
    named: Mapping[str, list[Setup]] = {
        "format": [replace(setup, precision=p) for p in ("fp32", "bf16") if p != setup.precision],
        "micro-batch": [],
        "attention": [],
        "scan": [],
    }
    for choice in named:
        candidates = named[choice] or _candidates(choice, current, device)
        told = (
            {c: _predicted(predict, c) for c in (current, *candidates)}
            if choice in ("format", "micro-batch")
            else {}
        )
        least = min((v for v in told.values() if v is not None), default=None)
        found = current
        for candidate in candidates:
            predicted = told.get(candidate)
            value = _value(choice, candidate)
            if predicted is not None and least is not None and predicted > KEEP * least:
                note(
                    Trial(
                        choice=choice,
                        value=value,
                        seconds=None,
                        predicted=predicted,
                        taken=False,
                        remark="pruned",
                    )
                )
                continue
            try:
                seconds = shortest(candidate, corpus, device)
            except (RuntimeError, MeasurementError) as error:
                note(Trial(choice=choice, value=value, seconds=None, predicted=predicted, taken=False,
                           remark=str(error).splitlines()[0][:60]))  # fmt: skip
                continue
            taken = seconds * WORTH < best
            if taken:
                best, found = seconds, candidate
            note(Trial(choice=choice, value=value, seconds=seconds, predicted=predicted, taken=taken))
        current = found
    if device == "cuda":
        trials_of_tiles, tiles = _tiles(current)
        for trial in trials_of_tiles:
            note(trial)
        if tiles:
            current = replace(current, tiles=tiles)
            best = min(best, shortest(current, corpus, device))
    chosen = threads[0]
    for count in threads[1:]:
        torch.set_num_threads(count)
        seconds = shortest(current, corpus, device)
        taken = seconds * WORTH < best
        if taken:
            best, chosen = seconds, count
        note(Trial(choice="threads", value=str(count), seconds=seconds, predicted=None, taken=taken))
    torch.set_num_threads(chosen)
    if compile:
        candidate, start = replace(current, compiled=True), time.perf_counter()
        seconds, taken = None, False
        try:
            seconds = shortest(candidate, corpus, device)
            remark = f"{time.perf_counter() - start:.0f} s to compile and time"
        except Exception as error:
            # A compiler that does not work here is a finding, whatever it raises.
            remark = str(error)[:60]
        else:
            taken = seconds * WORTH < best
            best, current = (seconds, candidate) if taken else (best, current)
        note(
            Trial(choice="compile", value="yes", seconds=seconds, predicted=None, taken=taken, remark=remark)
        )
    return Tuned(setup=current, threads=chosen, before_s=before, after_s=best, trials=tuple(trials))


def shortest(setup: Setup, corpus: Corpus, device: str) -> float:
    """Shortest of several steps [s]."""
    from shapewright.lab.training import clock_of

    state = TrainState(setup, corpus, device=device)
    clock = clock_of(device)
    state.take_step(0.0)
    taken = []
    for _ in range(STEPS):
        start = clock()
        state.take_step(0.0)
        taken.append(clock() - start)
    return min(taken)


def _candidates(choice: str, setup: Setup, device: str) -> list[Setup]:
    if choice == "micro-batch":
        sizes = [
            size
            for size in range(1, setup.batch + 1)
            if setup.batch % size == 0 and size != setup.micro_batch
        ]
        return [replace(setup, micro_batch=size) for size in sizes]
    with torch.device("meta"):
        modules = list(Net(setup.shape).modules())
    if choice == "attention":
        has = any(hasattr(m, "block") for m in modules) and device == "cpu"
        return [replace(setup, attention_block=b) for b in BLOCKS if has and b != setup.attention_block]
    scans = any(isinstance(m, DeltaLayer | Mamba2Layer | MLSTMLayer) for m in modules)
    return [replace(setup, scan_chunk=c) for c in CHUNKS if scans and c <= setup.seq_len]


def _tiles(setup: Setup) -> tuple[list[Trial], tuple[tuple[int, int], ...]]:
    """Tiles of the fused activation for each width of the model, and the fastest; nothing without Triton."""
    if not TRITON:
        return [], ()
    from shapewright.lab.triton_kernels import time_tiles

    dtype = torch.bfloat16 if setup.precision == "bf16" else torch.float32
    widths = {
        int(b.channel.ffn_size)
        for b in setup.shape.blocks
        if isinstance(b.channel, DenseFFN) and b.channel.gated
    }
    found, fastest = [], []
    for width in sorted(widths):
        taken = time_tiles(setup.micro_batch * setup.seq_len, width, dtype=dtype, device="cuda")
        least = min(taken, key=lambda tile: taken[tile])
        fastest.append((width, least))
        found += [Trial(choice="tile", value=f"{tile} of {width}", seconds=seconds, predicted=None, taken=tile == least)
                  for tile, seconds in taken.items()]  # fmt: skip
    return found, tuple(fastest)


def _value(choice: str, setup: Setup) -> str:
    return {
        "format": setup.precision, "micro-batch": str(setup.micro_batch), "scan": f"chunks of {setup.scan_chunk}",
        "attention": "fused" if setup.attention_block is None else f"blocks of {setup.attention_block}",
    }[choice]  # fmt: skip


def _predicted(predict: Predict | None, setup: Setup) -> float | None:
    if predict is None:
        return None
    try:
        return predict(setup)
    except NotCoveredError:
        return None
