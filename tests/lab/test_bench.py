"""Choosing threads and formats, and processes that time, crash, hang or say nothing."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from shapewright.errors import MeasurementError, UsageError
from shapewright.lab import bench
from shapewright.lab.bench import (
    Timing,
    check_seconds,
    chosen_threads,
    race_speeds,
    run_probe,
    thread_candidates,
    training_environment,
    useful_formats,
)
from shapewright.lab.cases import GPU, PROCESSOR, Case, gemm_cases, layer_cases, pointwise_cases, shuffled

GEMM = Case("gemm", "fp32", (8, 16, 32, 0))


def timing(case: Case, *seconds: float) -> Timing:
    return Timing(case=case, samples=seconds, walls=seconds)


def script(tmp_path: Path, body: str) -> tuple[str, ...]:
    path = tmp_path / "fake.py"
    path.write_text("import json, sys, time\njob = json.load(sys.stdin)\n" + body)
    return (sys.executable, str(path))


def test_the_probe_times_numpy() -> None:
    cases = [GEMM, Case("overhead", "fp32"), Case("gemm", "bf16", (8, 8, 8, 0))]
    cases += [Case(kind, "fp32", (16, 24)) for kind in ("norm", "rotary", "residual", "gated")]
    cases += [
        Case("attention", "fp32", (2, 2, 16, 8)),
        Case("decode", "fp32", (2, 2, 16, 8)),
        Case("copy", "fp32", (4096,)),
    ]
    seen = []
    report = run_probe("numpy", 1, cases, seconds=5, rounds=2, on_sample=seen.append)
    assert report.library.startswith("numpy ")
    assert {t.case for t in report.timings} == set(cases) - {cases[2]}
    assert all(t.best > 0 and len(t.samples) == len(t.walls) >= 2 for t in report.timings)
    assert report.absent == {"gemm/bf16": "TypeError: numpy multiplies no bf16"}
    assert set(seen) == {t.case for t in report.timings}


@pytest.mark.torch
def test_the_probe_times_torch() -> None:
    pytest.importorskip("torch")
    cases = [Case("gemm", "bf16", (8, 16, 32, layout)) for layout in range(3)]
    cases += [Case(kind, "fp32", (16, 24)) for kind in ("norm", "rotary", "residual", "gated")]
    cases += [
        Case("attention", "bf16", (2, 2, 16, 8)),
        Case("decode", "fp32", (2, 2, 16, 8)),
        Case("copy", "fp32", (4096,)),
    ]
    report = run_probe("torch", 1, cases, seconds=10, rounds=1)
    assert {t.case for t in report.timings} == set(cases)
    assert report.absent == {}


def test_the_environment_reaches_the_process(tmp_path: Path) -> None:
    body = "import os\nprint(json.dumps({'case': 0, 'seconds': float(os.environ['OMP_NUM_THREADS']), 'wall': 1.0}))"
    report = run_probe("numpy", 7, [GEMM], seconds=1, command=script(tmp_path, body))
    assert report.timings[0].best == 7.0
    assert training_environment(7)["OMP_WAIT_POLICY"] == "PASSIVE"


def test_what_was_timed_before_a_crash_is_kept(tmp_path: Path) -> None:
    body = "print(json.dumps({'case': 0, 'seconds': 2.0, 'wall': 3.0}), flush=True)\nprint('chatter')\nsys.exit(139)"
    report = run_probe("numpy", 1, [GEMM], seconds=1, command=script(tmp_path, body))
    assert report.timings == (Timing(case=GEMM, samples=(2.0,), walls=(3.0,)),)


def test_a_crash_before_the_first_sample_is_an_error(tmp_path: Path) -> None:
    body = "sys.stderr.write('ImportError: libfoo.so not found')\nsys.exit(3)"
    with pytest.raises(MeasurementError, match=r"code 3: ImportError: libfoo\.so") as caught:
        run_probe("numpy", 1, [GEMM], seconds=1, command=script(tmp_path, body))
    assert caught.value.exit_code == 5


def test_a_hanging_process_is_ended(tmp_path: Path) -> None:
    with pytest.raises(MeasurementError, match="timed nothing"):
        run_probe("numpy", 1, [GEMM], seconds=0.1, grace=0.2, command=script(tmp_path, "time.sleep(60)"))


def test_a_broken_torch_falls_back_to_numpy(monkeypatch: pytest.MonkeyPatch, machine: bench.Machine) -> None:
    real = run_probe

    def probe(backend: str, threads: int, cases: object, **options: object) -> bench.Report:
        if backend == "torch":
            raise MeasurementError("torch timed nothing", "it does not load")
        return real(backend, threads, [GEMM], seconds=2, rounds=1)  # any timing will do

    monkeypatch.setattr(bench, "run_probe", probe)
    monkeypatch.setattr(bench, "find_spec", lambda name: object())
    measured = bench.measure_cpu(machine, seconds=10)
    assert measured.report.library.startswith("numpy ")
    assert "does not load" in measured.remarks[0]


@pytest.mark.parametrize("seconds", [0.0, 9.9, 601.0, -1.0, float("nan")])
def test_seconds_out_of_range(seconds: float) -> None:
    with pytest.raises(UsageError, match="out of range"):
        check_seconds(seconds)


@pytest.mark.parametrize(("cores", "threads"), [(1, (1,)), (2, (1, 2)), (16, (1, 4, 8, 16))])
def test_thread_candidates(cores: int, threads: tuple[int, ...]) -> None:
    assert thread_candidates(cores) == threads


def test_threads_are_judged_by_their_median_and_not_by_their_best_moment() -> None:
    one = [timing(GEMM, 1.0, 1.0, 1.1)]
    trap = [timing(GEMM, 0.5, 30.0, 33.0)]
    speeds = race_speeds({1: one, 2: trap})
    assert speeds[1] == 1.0
    assert speeds[2] == pytest.approx(1 / 30)
    assert chosen_threads(speeds) == 1


def test_a_thread_must_do_four_fifths_of_a_core_s_work() -> None:
    assert chosen_threads({1: 1.0, 2: 1.47}) == 1, "another process uses the second core better"
    assert chosen_threads({1: 1.0, 2: 1.8, 4: 2.0}) == 2


def test_an_emulated_format_is_not_listed() -> None:
    def products(bf16: float) -> list[Timing]:
        return [timing(GEMM, 1.0), timing(Case("gemm", "bf16", GEMM.dims), bf16)]

    assert useful_formats(products(bf16=5.0), ("fp32", "bf16")) == ("fp32",)
    assert useful_formats(products(bf16=0.5), ("fp32", "bf16")) == ("fp32", "bf16")


def test_formats_are_compared_on_the_same_products() -> None:
    """A large product in fp32, or one moment in which the machine was busy, says nothing against bf16."""
    large = Case("gemm", "fp32", (512, 512, 512, 0))
    timings = [
        timing(large, 1e-3),
        timing(GEMM, 1.0, 9.0),
        timing(Case("gemm", "bf16", GEMM.dims), 30.0, 0.5),
    ]
    assert large.flops / 1e-3 > GEMM.flops / 0.5
    assert useful_formats(timings, ("fp32", "bf16")) == ("fp32", "bf16")


@pytest.mark.parametrize("sizes", [PROCESSOR, GPU])
def test_products_cover_the_layouts_and_odd_sizes(sizes: object) -> None:
    cases = gemm_cases("fp32", sizes, most_flops=1e15)  # type: ignore[arg-type]
    assert {case.dims[3] for case in cases} == {0, 1, 2}
    assert sum(case.odd for case in cases) >= 5
    assert len(set(cases)) == len(cases)
    assert all(case.flops <= 1e9 for case in gemm_cases("fp32", PROCESSOR, most_flops=1e9))


def test_shuffling_is_fixed_and_loses_nothing() -> None:
    cases = pointwise_cases("fp32", PROCESSOR)
    assert shuffled(cases) == shuffled(cases)
    assert set(shuffled((*cases, *cases))) == set(cases)


def test_counted_traffic_is_that_of_the_architecture() -> None:
    """The calibration relates time to bytes that the architecture counts for the same kernels."""
    from shapewright.architecture.graph import layer_operators
    from shapewright.architecture.operator import Pointwise
    from shapewright.architecture.shape import Block, DenseFFN, SelfAttention, Shape
    from shapewright.lab.cases import LAYER, POINTWISE, ffn_width

    tokens, width = 512, 384
    block = Block(
        mixer=SelfAttention(heads=6, kv_heads=6, head_dim=64),
        channel=DenseFFN(ffn_size=ffn_width(width)),
        count=1,
    )
    shape = Shape(name="x", vocab_size=256, hidden_size=width, blocks=(block,))
    counted = [op for op in layer_operators(block, shape, batch=2, seq_len=256) if isinstance(op, Pointwise)]
    forward = sum(float(op.read + op.written) for op in counted)
    backward = sum(float(op.read + op.written) * op.backward_factor for op in counted)
    cases = layer_cases("fp32", tokens, width)
    ours = [
        (LAYER[c.kind] * POINTWISE[c.kind][0] * c.dims[0] * c.dims[1], POINTWISE[c.kind][1]) for c in cases
    ]
    assert sum(elements for elements, _ in ours) == forward
    assert sum(elements * factor for elements, factor in ours) == backward
