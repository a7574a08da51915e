"""Whole training steps: the factors over kernels, and the process that times them."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from shapewright.errors import MeasurementError, NotCoveredError
from shapewright.evidence import Figure
from shapewright.lab import steps
from shapewright.lab.steps import CALIBRATION, FACTORS, HELD_OUT, Step, fit_steps, group_of, measure_steps

TRUE = {"matmul": 1.1, "attention": 0.8, "pointwise": 2.0}


def parts_of(step: Step) -> dict[str, float]:
    """Seconds of a made machine's kernels, of another mix in every shape."""
    size = step.batch * step.seq_len * step.depth * 1e-8
    return {
        "layer.qkv": size * step.width**2 / 100,
        "layer.core": size * step.seq_len * (2 if step.precision == "fp32" else 1),
        "layer.norm": size * step.width * 3,
        "optimizer": 1e-4,
    }


def predicted(step: Step, hardware: str, *, framework: str | None = None) -> tuple[Figure, dict[str, float]]:
    parts = parts_of(step)
    return Figure(value=sum(parts.values()), unit="s", kind="fitted", source="made up"), parts


def seconds_of(step: Step) -> float:
    """What the made machine takes for a step."""
    parts = {name: (TRUE.get(group_of(name) or "", 1.0), value) for name, value in parts_of(step).items()}
    return sum(factor * value for factor, value in parts.values())


def test_factors_are_found_and_nothing_held_out_is_fitted(monkeypatch):
    monkeypatch.setattr(steps, "predicted_step", predicted)
    fit = fit_steps(CALIBRATION, [seconds_of(s) for s in CALIBRATION], "this", source="a test")
    assert fit is not None
    # The factors are drawn to each other a little, so they come near and not exactly.
    assert [fit.coefficients[name] for name in FACTORS] == pytest.approx(list(TRUE.values()), rel=0.2)
    assert fit.median_error < 0.03
    assert not {(s.arm, s.width) for s in CALIBRATION} & {(s.arm, s.width) for s in HELD_OUT}


def test_too_few_priced_steps_are_no_calibration(monkeypatch):
    def uncovered(step: Step, hardware: str, *, framework: str | None = None) -> None:
        raise NotCoveredError("no kernels", "a test", "none")

    monkeypatch.setattr(steps, "predicted_step", uncovered)
    assert fit_steps(CALIBRATION, [1.0] * len(CALIBRATION), "this", source="a test") is None


def test_threads_reach_the_process_that_times(tmp_path: Path):
    program = tmp_path / "fake.py"
    program.write_text(
        "import json, os, sys\njob = json.load(sys.stdin)\n"
        "print('a line of a library')\n"
        "print(json.dumps([job['threads'], float(os.environ['OMP_NUM_THREADS']), len(job['steps'])]))\n"
    )
    command = (sys.executable, str(program))
    assert measure_steps(HELD_OUT[:3], threads=2, command=command) == [2.0, 2.0, 3.0]
    program.write_text("raise SystemExit('no library here')")
    with pytest.raises(MeasurementError, match="ended with code 1"):
        measure_steps(HELD_OUT, threads=1, command=command)
