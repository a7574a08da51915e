"""``shapewright measure``: the file it writes, and everything that can go wrong around it."""

from __future__ import annotations

import contextlib
import json
import os
import sys
from dataclasses import replace
from datetime import date
from pathlib import Path

import pytest

from shapewright.cli import main as cli
from shapewright.cli import measure as verb
from shapewright.cost.price import cost_model
from shapewright.errors import MeasurementError, UsageError
from shapewright.hardware.accelerator_file import save_accelerator
from shapewright.hardware.catalog import load_accelerator, load_calibration
from shapewright.lab.accelerator import best_rates, copy_rates, describe, level_rates
from shapewright.lab.bench import Measured, Report, Timing
from shapewright.lab.cases import Case
from shapewright.lab.cuda import formats_of

DAY = date(2030, 1, 2)


@pytest.fixture
def measures(monkeypatch: pytest.MonkeyPatch, measured: Measured, tmp_path: Path) -> Path:
    """The verb in an empty folder, with the measuring itself replaced by a made-up one."""

    def made(name: str, seconds: float, threads: int | None, cpu: bool, progress: object) -> object:
        return measured, *describe(measured, name=name, today=DAY)

    monkeypatch.setattr(verb, "_measure", made)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def run(monkeypatch: pytest.MonkeyPatch, *arguments: str) -> int:
    monkeypatch.setattr(sys, "argv", ["shapewright", "measure", *arguments])
    try:
        cli.main()
    except SystemExit as end:
        return int(end.code or 0)
    return 0


class TestDescription:
    def test_it_says_what_was_measured_and_nothing_else(self, measured: Measured) -> None:
        accelerator, fits = describe(measured, today=DAY)
        fastest = max(t.case.flops / t.best for t in measured.report.timings if t.case.kind == "gemm")
        assert accelerator.peak_flops["fp32"].value == pytest.approx(fastest, rel=1e-3)
        assert accelerator.peak_flops["fp32"].kind == "measured"
        assert "MFU is relative to it" in accelerator.peak_flops["fp32"].source
        assert "2030-01-02" in accelerator.peak_flops["fp32"].source
        assert "1 thread" in accelerator.peak_flops["fp32"].source
        assert accelerator.memory_bandwidth is not None
        assert accelerator.memory_bandwidth.value == pytest.approx(20e9)
        assert accelerator.num_sms is not None
        assert accelerator.num_sms.value == 1
        assert accelerator.device_class == "cpu"
        assert accelerator.clock is accelerator.tdp is accelerator.price is None
        families = {(fit.family, fit.number_format) for fit in fits}
        assert families == {("matmul", "fp32"), ("attention", "fp32"), ("attention_decode", "fp32"),
                            ("memory", "fp32"), ("memory", "bytes")}  # fmt: skip

    def test_unknown_caches_and_memory_stay_unknown(self, measured: Measured) -> None:
        bare = replace(measured, machine=replace(measured.machine, caches=(), memory=None))
        accelerator, _ = describe(bare, today=DAY)
        assert accelerator.l2_capacity is None
        assert accelerator.memory_capacity is None

    def test_a_format_that_was_timed_too_little_is_left_out(self, measured: Measured) -> None:
        few = (
            *measured.report.timings,
            Timing(case=Case("gemm", "bf16", (512, 512, 512, 0)), samples=(1e-4,), walls=(1e-4,)),
        )
        accelerator, fits = describe(
            replace(measured, report=replace(measured.report, timings=few)), today=DAY
        )
        assert set(accelerator.peak_flops) == {"fp32"}
        assert {fit.number_format for fit in fits} == {"fp32", "bytes"}

    def test_the_peak_is_that_of_the_faster_library(self, measured: Measured) -> None:
        case = Case("gemm", "fp32", (512, 512, 512, 0))
        other = Report(library="other 1", timings=(Timing(case=case, samples=(1e-5,), walls=(1e-5,)),))
        rate, library = best_rates(replace(measured, other=other))["fp32"]
        assert (rate, library) == (pytest.approx(case.flops / 1e-5), "other 1")

    def test_nothing_timed_is_an_error(self, measured: Measured) -> None:
        overhead = tuple(t for t in measured.report.timings if t.case.kind == "overhead")
        empty = replace(measured, report=replace(measured.report, timings=overhead))
        with pytest.raises(MeasurementError, match="no copy or no fp32 product"):
            describe(empty, today=DAY)

    def test_rates_of_the_caches(self, measured: Measured) -> None:
        copies = {2**14: 9e10, 2**19: 8e10, 2**21: 7e10, 2**27: 2e10}
        rates = level_rates(measured, copies)
        assert rates == {"l1_bytes": 2**15, "l1_bandwidth": 9e10, "l2_bytes": 2**20, "l2_bandwidth": 8e10,
                         "l3_bytes": 2**25, "l3_bandwidth": 7e10, "dram_bandwidth": 2e10}  # fmt: skip
        assert list(copy_rates(measured.report.timings)) == sorted(copy_rates(measured.report.timings))

    def test_formats_by_compute_capability(self) -> None:
        assert formats_of((7, 0)) == ("fp32", "fp16")
        assert formats_of((8, 0)) == ("fp32", "tf32", "bf16", "fp16")
        assert "fp8" in formats_of((9, 0))


class TestFile:
    def test_it_reads_back_as_it_was(self, measured: Measured, tmp_path: Path) -> None:
        accelerator, fits = describe(measured, today=DAY)
        path = tmp_path / "mine.toml"
        path.write_text(save_accelerator(accelerator, fits))
        read = load_accelerator(str(path))
        assert read == accelerator
        assert load_calibration(read).fits == fits

    def test_the_cost_model_prices_with_it(
        self, measures: Path, monkeypatch: pytest.MonkeyPatch, measured: Measured
    ) -> None:
        assert run(monkeypatch) == 0
        model = cost_model(load_accelerator("this"))
        timed = {t.case: t.best for t in measured.report.timings}
        case = Case("gemm", "fp32", (1024, 1024, 1024, 0))
        assert float(model.matmul(1024, 1024, 1024, "fp32")) == pytest.approx(timed[case], rel=0.05)
        assert float(model.pointwise(1e8)) > float(model.pointwise(1e6)) > 0

    def test_the_screen(
        self, measures: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
    ) -> None:
        assert run(monkeypatch) == 0
        text, remarks = capsys.readouterr()
        assert "Example 9000" in text
        assert "wrote this.toml" in text
        assert "next: shapewright design this" in text
        assert "matmul fp32" in text
        assert max(len(line) for line in text.splitlines()) <= 80
        assert remarks == ""

    def test_json(
        self, measures: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
    ) -> None:
        assert run(monkeypatch, "--json", "--out", "box.toml") == 0
        document = json.loads(capsys.readouterr().out)
        assert document["num_threads"] == 1
        assert document["path"] == "box.toml"
        assert {fit["family"] for fit in document["fits"]} >= {"matmul", "attention", "memory"}
        assert document["timings"][0]["best_s"] > 0
        assert load_accelerator("box.toml").name == "box"

    def test_a_design_for_it_says_how_to_train_it(
        self, measures: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
    ) -> None:
        assert run(monkeypatch) == 0
        ask = ("shapewright", "design", "this", "--minutes", "1", "--out", "mine.json", "--width", "64")
        monkeypatch.setattr(sys, "argv", [*ask, "--depth", "2"])
        capsys.readouterr()
        with contextlib.suppress(SystemExit):
            cli.main()
        told = capsys.readouterr().out
        assert "Next       shapewright train mine.json" in told
        assert "shapewright explain mine.json --report report.html" in told

    def test_a_busy_machine_is_said(
        self,
        measures: Path,
        monkeypatch: pytest.MonkeyPatch,
        capsys: pytest.CaptureFixture[str],
        measured: Measured,
    ) -> None:
        busy = tuple(replace(t, walls=tuple(2 * wall for wall in t.walls)) for t in measured.report.timings)
        answer = replace(
            measured, report=replace(measured.report, timings=busy), remarks=("torch is broken",)
        )
        monkeypatch.setattr(verb, "_measure", lambda *_: (answer, *describe(answer, today=DAY)))
        assert run(monkeypatch) == 0
        said = capsys.readouterr().err
        assert "warning: the machine is busy" in said
        assert "remark: torch is broken" in said


class TestTrouble:
    def test_an_existing_file_is_refused_before_measuring(
        self, measures: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
    ) -> None:
        (measures / "this.toml").write_text("mine")
        monkeypatch.setattr(verb, "_measure", lambda *_: pytest.fail("it measured"))
        assert run(monkeypatch) == 2
        assert "exists already" in capsys.readouterr().err
        assert (measures / "this.toml").read_text() == "mine"

    def test_force_replaces_it(self, measures: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        (measures / "this.toml").write_text("mine")
        assert run(monkeypatch, "--force") == 0
        assert load_accelerator("this").name == "this"

    def test_an_interrupt_leaves_the_old_file(
        self, measures: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
    ) -> None:
        def interrupted(*_: object) -> None:
            raise KeyboardInterrupt

        (measures / "this.toml").write_text("mine")
        monkeypatch.setattr(verb, "_measure", interrupted)
        assert run(monkeypatch, "--force") == 5
        said = capsys.readouterr().err
        assert "interrupted" in said
        assert "this.toml is as it was" in said
        assert (measures / "this.toml").read_text() == "mine"

    def test_a_failed_measurement_ends_with_5(
        self, measures: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
    ) -> None:
        def failing(*_: object) -> None:
            raise MeasurementError("numpy timed nothing", "its process ended", "try again")

        monkeypatch.setattr(verb, "_measure", failing)
        assert run(monkeypatch) == 5
        assert "[5 measurement failed]" in capsys.readouterr().err
        assert list(measures.iterdir()) == []

    @pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() == 0, reason="root writes everywhere")
    def test_a_read_only_folder_is_refused_before_measuring(
        self, measures: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
    ) -> None:
        monkeypatch.setattr(verb, "_measure", lambda *_: pytest.fail("it measured"))
        (measures / "locked").mkdir(mode=0o500)
        assert run(monkeypatch, "--out", "locked/this.toml") == 2
        assert "cannot be written to" in capsys.readouterr().err

    def test_a_path_below_a_file_is_refused_before_measuring(
        self, measures: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
    ) -> None:
        monkeypatch.setattr(verb, "_measure", lambda *_: pytest.fail("it measured"))
        (measures / "file").write_text("")
        assert run(monkeypatch, "--out", "file/this.toml") == 2
        assert "cannot be written to" in capsys.readouterr().err

    def test_a_full_disk_does_not_throw_the_measurement_away(
        self, measures: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
    ) -> None:
        def full(path: Path, text: str, *, overwrite: bool) -> None:
            raise UsageError(f"{path} cannot be written", "[Errno 28] No space left on device", "")

        monkeypatch.setattr(verb, "write_text", full)
        assert run(monkeypatch) == 2
        shown = capsys.readouterr()
        assert "No space left" in shown.err
        assert 'name = "this"' in shown.out
        assert "[[calibration]]" in shown.out

    @pytest.mark.parametrize("seconds", ["1", "1e9", "nan"])
    def test_seconds_out_of_range(
        self,
        measures: Path,
        monkeypatch: pytest.MonkeyPatch,
        capsys: pytest.CaptureFixture[str],
        seconds: str,
    ) -> None:
        assert run(monkeypatch, "--seconds", seconds) == 2
        assert "seconds (=" in capsys.readouterr().err
