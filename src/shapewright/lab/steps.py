"""Whole training steps on this machine: predicted from its calibration, measured, and the difference put right.

Decisions: kernels timed alone leave out what happens between them, so a step is longer than their sum. Three factors,
on products, on attention and scans, and on memory-bound work, are fitted to steps of ``CALIBRATION`` shapes; steps of
the ``HELD_OUT`` shapes, which share no size with them, say how well that holds. Steps are timed on the machine's number
of threads, all shapes in turn, in a process of their own; one thread by its own clock, several by the wall's. What a
run of minutes takes is the typical step and not the best one, so the median counts, where a kernel's best does; steps
of an idle machine were 7 % above their best. The factors are a fit of the family ``step`` in the machine's file, where
``plan.framework`` finds them.
"""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from scipy.optimize import nnls

from shapewright.architecture.shape import Shape
from shapewright.errors import MeasurementError, NotCoveredError
from shapewright.evidence import Figure
from shapewright.hardware.calibration import Fit
from shapewright.lab.arms import arm_shape

ROUNDS = 8
FACTORS = ("matmul", "attention", "pointwise")


@dataclass(frozen=True, kw_only=True, slots=True)
class Step:
    """One training step to time."""

    arm: str
    """A name of ``lab.arms``."""
    width: int
    depth: int
    head_dim: int
    seq_len: int
    batch: int
    """Sequences, all at once."""
    precision: str

    @property
    def shape(self) -> Shape:
        """The model."""
        return arm_shape(self.arm, (self.width, self.depth, self.head_dim))

    @property
    def name(self) -> str:
        """For tables."""
        return f"{self.arm} {self.width}x{self.depth}/{self.head_dim} {self.batch}x{self.seq_len} {self.precision}"


def _steps(*rows: tuple[str, int, int, int, int, int]) -> tuple[Step, ...]:
    return tuple(
        Step(arm=arm, width=w, depth=d, head_dim=h, seq_len=t, batch=b, precision=precision)
        for arm, w, d, h, t, b in rows
        for precision in ("fp32", "bf16")
    )


CALIBRATION = _steps(
    ("transformer", 48, 3, 16, 256, 4), ("transformer", 64, 4, 32, 128, 8), ("transformer", 96, 2, 32, 512, 2),
    ("transformer", 128, 3, 64, 256, 8), ("transformer", 192, 4, 32, 128, 4), ("transformer", 256, 2, 64, 256, 4),
    ("delta", 64, 2, 32, 256, 4), ("delta", 128, 3, 32, 128, 8),
)  # fmt: skip
HELD_OUT = _steps(
    ("transformer", 56, 5, 28, 192, 6), ("transformer", 80, 3, 40, 384, 3), ("transformer", 160, 5, 40, 192, 3),
    ("transformer", 224, 3, 56, 320, 5), ("delta", 96, 4, 48, 192, 5), ("delta", 160, 2, 40, 384, 2),
)  # fmt: skip
"""Twelve: width, depth, heads, sequence, batch and both formats, attention and DeltaNet."""


def measure_steps(
    steps: Sequence[Step], *, threads: int, rounds: int = ROUNDS, command: tuple[str, ...] | None = None
) -> list[float]:
    """Median time of each step [s], in a process of its own: CPU time of one thread, wall time of several.

    Raises:
        MeasurementError: the process failed.
    """
    from shapewright.lab.bench import training_environment

    job = json.dumps({"steps": [asdict(step) for step in steps], "threads": threads, "rounds": rounds})
    done = subprocess.run(
        command or (sys.executable, "-m", "shapewright.lab.steps"), input=job, capture_output=True, text=True,
        env={**os.environ, **training_environment(threads)}, check=False,
    )  # fmt: skip
    try:
        return [float(v) for v in json.loads(done.stdout.strip().splitlines()[-1])]
    except (ValueError, IndexError) as error:
        last = (done.stderr.strip().splitlines() or ["no message"])[-1]
        raise MeasurementError(
            f"steps were not timed: the process ended with code {done.returncode}", last[:200],
            "see whether torch runs: python -c 'import torch'",
        ) from error  # fmt: skip


def time_steps(steps: Sequence[Step], rounds: int) -> list[float]:
    """The median of two steps in each of ``rounds`` visits, for each step in this process [s]."""
    from shapewright.lab.corpus import standard_library
    from shapewright.lab.state import Setup, TrainState
    from shapewright.lab.training import clock_of

    clock = clock_of("cpu")
    corpus = standard_library()
    states = [
        TrainState(
            Setup(shape=s.shape, seq_len=s.seq_len, batch=s.batch, micro_batch=s.batch, precision=s.precision,  # pyright: ignore[reportArgumentType]
                  weight_decay=0.1, beta1=0.9, beta2=0.99, epsilon=1e-8, gradient_clip=1.0, init_std=0.05,
                  output_init_std=0.02),
            corpus,
        )
        for s in steps
    ]  # fmt: skip
    taken: list[list[float]] = [[] for _ in states]
    for visit in range(rounds + 1):
        for i, state in enumerate(states):
            for _ in range(2):
                start = clock()
                state.take_step(0.0)
                if visit:
                    taken[i].append(clock() - start)
    return [statistics.median(times) for times in taken]


def predicted_step(
    step: Step, hardware: str, *, framework: str | None = None
) -> tuple[Figure, dict[str, float]]:
    """Seconds of a step from the machine's file, and its parts by name.

    ``framework`` ``kernels`` leaves the factors of whole steps out.
    """
    from shapewright.api import Options, estimate

    found = estimate(
        step.shape, hardware, tokens=1e6,
        options=Options(seq_len=step.seq_len, global_batch=step.batch, precision=step.precision,
                        plan={"micro_batch": step.batch}, framework=framework),
    )  # fmt: skip
    parts: dict[str, float] = {}
    for part in found.step_parts:
        parts[part.name] = parts.get(part.name, 0.0) + part.value
    return found.predicted.step_time_s, parts


def group_of(part: str) -> str | None:
    """Which factor a part of a step is under; None for the optimiser, which has none."""
    if part in ("optimizer", "gradients and weights (dp)"):
        return None
    end = part.rsplit(".", 1)[-1]
    if end in ("core", "scan"):
        return "attention"
    return "matmul" if end in ("qkv", "out", "up", "down", "in", "lm_head", "router", "gate") else "pointwise"


def fit_steps(
    steps: Sequence[Step], seconds: Sequence[float], hardware: str, *, source: str,
    progress: Callable[[str], None] = lambda text: None,
) -> Fit | None:  # fmt: skip
    """The factors under which the machine's kernels add up to measured steps; None where too little is priced.

    Least squares on relative errors, no factor below nothing; a factor that has no part in any step is 1. Errors are
    those of each shape left out of the fit.
    """
    rows, measured, names = [], [], []
    for step, value in zip(steps, seconds, strict=True):
        progress(step.name)
        try:
            _, parts = predicted_step(step, hardware, framework="kernels")
        except NotCoveredError:
            continue
        groups = {name: sum(v for k, v in parts.items() if group_of(k) == name) for name in FACTORS}
        rest = sum(v for k, v in parts.items() if group_of(k) is None)
        rows.append([groups[name] / value for name in FACTORS])
        measured.append(1.0 - rest / value)
        names.append(step)
    if len(rows) < 2 * len(FACTORS):
        return None
    a, y = np.array(rows), np.array(measured)
    factors = _solve(a, y)
    shapes = [(s.arm, s.width) for s in names]
    errors = []
    for left in dict.fromkeys(shapes):
        mine = np.array([shape == left for shape in shapes])
        errors.extend((1.0 / (1.0 - y[mine] + a[mine] @ _solve(a[~mine], y[~mine]))).tolist())
    ratio = np.array(errors)
    miss = np.abs(1.0 / ratio - 1.0)
    return Fit(
        family="step", number_format="any",
        coefficients={n: round(float(f), 4) for n, f in zip(FACTORS, factors, strict=True)},
        kind="fitted", source=source, num_rows=len(rows), num_held_out=len(rows),
        median_error=round(float(np.median(miss)), 4), p90_error=round(float(np.quantile(miss, 0.9)), 4),
        low=round(float(np.quantile(ratio, 0.05)), 4), high=round(float(np.quantile(ratio, 0.95)), 4),
    )  # fmt: skip


PULL = 0.15
"""How strongly factors are held to each other, in relative error of a step: few shapes tell them apart badly."""


def _solve(a: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Non-negative factors, drawn to their common value."""
    common = float(np.sum(a.sum(1) * y) / np.sum(a.sum(1) ** 2))
    weight = PULL * np.eye(a.shape[1])
    found, _ = nnls(np.vstack((a, weight)), np.concatenate((y, PULL * common * np.ones(a.shape[1]))))
    return found


def score(
    hardware: str, steps: Sequence[Step] = HELD_OUT, *, threads: int, rounds: int = ROUNDS
) -> list[dict[str, Any]]:
    """Predicted and measured seconds of steps that nothing was fitted on, predictions first.

    ``threads`` are those that the machine's file was measured with.
    """
    told = [
        (predicted_step(step, hardware)[0], predicted_step(step, hardware, framework="kernels")[0].value)
        for step in steps
    ]
    measured = measure_steps(steps, threads=threads, rounds=rounds)
    return [
        {"step": step.name, "predicted_s": figure.value, "low_s": figure.low, "high_s": figure.high, "kernels_s": alone,
         "measured_s": value, "error": figure.value / value - 1.0}
        for step, (figure, alone), value in zip(steps, told, measured, strict=True)
    ]  # fmt: skip


def median_error(rows: Sequence[dict[str, Any]]) -> tuple[float, float]:
    """Median and worst of the absolute relative errors."""
    errors = [abs(row["error"]) for row in rows]
    return statistics.median(errors), max(errors)


def main() -> None:
    """Read the job, time it, write one line."""
    import torch

    job = json.load(sys.stdin)
    torch.set_num_threads(job["threads"])
    print(json.dumps(time_steps([Step(**step) for step in job["steps"]], job["rounds"])))


if __name__ == "__main__":
    main()
