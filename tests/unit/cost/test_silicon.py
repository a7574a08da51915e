"""Reading measured tables, fitting them and scoring the fit: good tables, broken ones, somebody's file."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from shapewright.cost.coefficient import starts
from shapewright.cost.device import device_of
from shapewright.cost.families import FAMILIES, family_of, variants
from shapewright.cost.family import Measurements
from shapewright.cost.formats import FORMATS
from shapewright.cost.interval import conformal
from shapewright.cost.library import library_name
from shapewright.cost.residual import Residual
from shapewright.errors import (
    DocumentError,
    MeasurementError,
    MissingPackageError,
    NotCoveredError,
    UnknownNameError,
)
from shapewright.hardware.catalog import load_accelerator
from shapewright.lab.calibrate import REPORT_PARTS, calibrate, fit_family
from shapewright.validation import kernels, silicon
from shapewright.validation.silicon import FOLDERS, measured_tables, read_measurements, version_key
from shapewright.validation.tables import TABLES

pa = pytest.importorskip("pyarrow", reason="needs the extra silicon")
pq = pytest.importorskip("pyarrow.parquet", reason="needs the extra silicon")

GEMM = next(spec for spec in TABLES if spec.family == "matmul")


def write(path: Path, **columns: list) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(pa.table(columns), path)


def gemm(root: Path, backend: str = "vllm", version: str = "0.24.0") -> Path:
    return root / "h100_sxm" / "gemm" / backend / version / "gemm_perf.parquet"


def synthetic(count: int = 1500) -> Measurements:
    """Products timed by the model itself, with 3 % of noise and coefficients moved off their start."""
    draw = np.random.default_rng(1)
    columns = {
        "m": 2.0 ** draw.integers(0, 14, count),
        "n": 128.0 * draw.integers(1, 64, count),
        "k": 128.0 * draw.integers(1, 64, count),
    }
    truth = {**starts(FAMILIES["matmul"].coefficients), "mma": 0.7, "memory": 0.8, "launch_s": 3e-6}
    device = device_of(load_accelerator("h100_sxm"), "bf16")
    seconds = FAMILIES["matmul"].time(truth, device, FORMATS["bf16"], columns) * np.exp(
        0.03 * draw.standard_normal(count)
    )
    return Measurements(
        accelerator="h100_sxm", family="matmul", number_format="bf16", columns=columns, seconds=seconds
    )


def test_the_fastest_backend_counts_and_bad_times_are_counted(tmp_path: Path) -> None:
    rows = dict(m=[1, 2, 3], n=[64, 64, 64], k=[64, 64, 64], gemm_dtype=["bfloat16"] * 3)
    write(gemm(tmp_path), **rows, latency=[1.0, float("nan"), 0.0], kernel_source=["a"] * 3)
    write(gemm(tmp_path, "sglang", "0.5.14"), **rows, latency=[0.5, 2.0, 3.0], kernel_source=["b"] * 3)
    found, skipped = read_measurements("h100_sxm", GEMM, root=tmp_path)
    assert [table.number_format for table in found] == ["bf16"]
    assert found[0].seconds.tolist() == [0.5e-3, 2e-3, 3e-3]
    assert [(item.count, "positive" in item.reason) for item in skipped] == [(2, True)]
    only, _ = read_measurements("h100_sxm", GEMM, root=tmp_path, backend="vllm")
    assert only[0].seconds.tolist() == [1e-3]


def test_broken_tables_are_skipped_by_name(tmp_path: Path) -> None:
    write(gemm(tmp_path), m=[1], n=[64], gemm_dtype=["bfloat16"], latency=[1.0])
    bad = gemm(tmp_path, "sglang", "0.5.14")
    bad.parent.mkdir(parents=True)
    bad.write_bytes(b"not parquet at all")
    write(
        gemm(tmp_path, "trtllm", "1.3.0rc20"), m=["x"], n=[64], k=[64], gemm_dtype=["bfloat16"], latency=[1.0]
    )
    found, skipped = read_measurements("h100_sxm", GEMM, root=tmp_path)
    assert found == []
    reasons = " / ".join(item.reason for item in skipped)
    assert "lacks the column k" in reasons
    assert "cannot be read" in reasons
    assert "text where a number" in reasons


def test_a_device_whose_name_is_not_ours_is_named(tmp_path: Path) -> None:
    write(tmp_path / "x9000" / "gemm" / "vllm" / "1" / "gemm_perf.parquet", m=[1])
    _, skipped = measured_tables(root=tmp_path, family="gemm")
    assert [item.where for item in skipped] == ["x9000"]
    with pytest.raises(NotCoveredError):
        measured_tables("mi300x", root=tmp_path)


def test_a_missing_or_newer_package_is_said_in_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(silicon.metadata, "version", lambda name: "0.13.0")
    remark = silicon.version_remark()
    assert remark is not None
    assert "0.13.0" in remark
    assert "\n" not in remark
    monkeypatch.setattr(silicon.metadata, "version", lambda name: silicon.VERSION)
    assert silicon.version_remark() is None
    monkeypatch.setattr(silicon, "find_spec", lambda name: None)
    with pytest.raises(MissingPackageError, match=r"not installed\npip install 'shapewright\[silicon\]'"):
        silicon.tables_root()


def test_one_broken_table_leaves_the_rest(tmp_path: Path) -> None:
    rows = dict(m=[1, 2, 3], n=[64] * 3, k=[64] * 3, latency=[1.0, float("nan"), 0.0])
    write(gemm(tmp_path), **rows, gemm_dtype=["bfloat16"] * 3)
    bad = gemm(tmp_path, "trtllm", "1.3.0rc20")
    bad.parent.mkdir(parents=True)
    bad.write_bytes(b"PAR1 but not really")
    write(
        tmp_path / "h100_sxm" / "mhc" / "vllm" / "0.24.0" / "mhc_module_perf.parquet",
        tokens=[1],
        latency=[1.0],
    )
    found, skipped = measured_tables("h100_sxm", root=tmp_path)
    assert [(table.family, len(table)) for table in found] == [("matmul", 1)]
    assert len(skipped) == 3
    assert all("\n" not in item.reason for item in skipped)


def test_versions_are_ordered_by_their_numbers() -> None:
    assert max(["2.9", "2.27.3", "2.23"], key=version_key) == "2.27.3"


def test_every_folder_is_an_accelerator_of_the_catalogue() -> None:
    for name in FOLDERS.values():
        assert load_accelerator(name).name == name


def test_the_split_is_fixed_and_even() -> None:
    rows = synthetic()
    part = rows.part()
    assert np.array_equal(part, rows.part())
    assert np.array_equal(rows.take(np.arange(10)).part(), part[:10])
    assert 0.2 < np.isin(part, REPORT_PARTS).mean() < 0.4


def test_a_fit_finds_the_coefficients_that_made_the_rows() -> None:
    rows = synthetic()
    fit = calibrate(rows, device_of(load_accelerator("h100_sxm"), "bf16"))
    assert fit.median_error < 0.03
    assert fit.coefficients["mma"] == pytest.approx(0.7, rel=0.1)
    assert fit.coefficients["memory"] == pytest.approx(0.8, rel=0.1)
    assert 0.85 < fit.low < 1.0 < fit.high < 1.15
    bounds = {c.name: (c.low, c.high) for c in FAMILIES["matmul"].coefficients}
    assert all(
        bounds[name][0] * 0.999 <= value <= bounds[name][1] * 1.001
        for name, value in fit.coefficients.items()
    )


def test_too_few_rows_are_refused() -> None:
    with pytest.raises(MeasurementError, match="5 usable rows"):
        fit_family(synthetic(5), device_of(load_accelerator("h100_sxm"), "bf16"))


def test_conformal_multipliers_hold_nine_of_ten() -> None:
    ratio = np.exp(0.2 * np.random.default_rng(0).standard_normal(4000))
    low, high = conformal(ratio[:2000])
    assert ((ratio[2000:] >= low) & (ratio[2000:] <= high)).mean() == pytest.approx(0.9, abs=0.02)
    assert conformal(ratio[:5]) == (0.5, 2.0)


def test_the_residual_corrects_near_its_rows_and_leaves_the_rest() -> None:
    rows = synthetic(300)
    residual = Residual.of(rows, np.full(300, np.log(1.5)))
    assert residual.factor({name: column[:5] for name, column in rows.columns.items()}) == pytest.approx(
        1.5, rel=0.05
    )
    far = {name: np.array([2.0**60]) for name in rows.columns}
    assert residual.factor(far) == pytest.approx(1.0, rel=0.05)


def test_scores_count_what_could_not_be_predicted() -> None:
    rows = synthetic(200)
    other = Measurements(
        accelerator="a100_sxm",
        family="matmul",
        number_format="nvfp4",
        columns=rows.columns,
        seconds=rows.seconds,
    )
    scored, skips = kernels.score_all([rows, other], held_out=None)
    slices = {item.name: item for item in kernels.slices(scored)}
    assert slices["all"].count == 400
    assert slices["all"].covered == 200
    assert slices["h100_sxm/gemm/bf16"].covered == 200
    assert slices["a100_sxm/gemm/nvfp4"].covered == 0
    assert skips[0].count == 200
    assert skips[0].entry()["row"] == "a100_sxm/gemm/nvfp4, 200 rows"
    assert list(kernels.by_reason(skips).values()) == [200]
    document = kernels.document(slices.values(), skips)
    assert set(document["slices"][0]) == {
        "name", "count", "covered", "median_ape", "p90_ape", "bias", "coverage_90", "baseline_median_ape",
    }  # fmt: skip


def test_somebodys_file_is_scored_line_by_line(tmp_path: Path) -> None:
    path = tmp_path / "mine.csv"
    path.write_text(
        "accelerator,family,format,latency_s,m,n,k\n"
        "H100,gemm,fp16,0.002,8192,8192,8192\n"
        "h100_sxm,gemm,bf16,-1,8192,8192,8192\n"
        "h100_sxm,gemm,bf16,0.1,,8192,8192\n"
        "h100_sxm,gemm,bf99,0.1,1,8192,8192\n"
        "warp_drive,gemm,bf16,0.1,1,8192,8192\n",
        encoding="utf-8",
    )
    tables, skips = kernels.read_file(path)
    assert [(t.accelerator, t.number_format, len(t)) for t in tables] == [("h100_sxm", "fp16", 1)]
    assert [skip.row for skip in skips] == ["line 3", "line 4", "line 5", "line 6"]
    scored, failed = kernels.score_all(tables, held_out=None)
    assert not failed
    found = kernels.slices(scored, unread=len(skips))
    assert [(item.name, item.count, item.covered) for item in found] == [
        ("all", 5, 1),
        ("gemm/fp16", 1, 1),
        ("h100_sxm/gemm/fp16", 1, 1),
    ]
    path.write_text("a,b\n1,2\n", encoding="utf-8")
    with pytest.raises(DocumentError, match="no column accelerator"):
        kernels.read_file(path)


def test_an_unknown_family_is_refused() -> None:
    with pytest.raises(UnknownNameError):
        family_of("gem")


def test_experts_kernels_are_told_apart_by_backend_and_library(tmp_path: Path) -> None:
    spec = next(spec for spec in TABLES if spec.family == "moe")
    sizes = dict(hidden_size=[64] * 2, inter_size=[64] * 2, topk=[2] * 2, num_experts=[8] * 2, moe_tp_size=[1] * 2,
                 moe_ep_size=[1, 4], distribution=["balanced", "power_law_1.2"], moe_dtype=["bfloat16"] * 2)  # fmt: skip
    place = tmp_path / "h100_sxm" / "moe" / "sglang" / "0.5.14" / "moe_perf.parquet"
    write(
        place,
        num_tokens=[8, 8],
        latency=[1.0, 2.0],
        kernel_source=["sglang_fused_moe_triton", "own"],
        **sizes,
    )
    found, skipped = read_measurements("h100_sxm", spec, root=tmp_path)
    assert not skipped
    assert sorted(part.family for part in variants(found[0])) == [
        "moe/parted.sglang",
        "moe/whole.sglang.triton",
    ]


def test_decode_kernels_are_told_apart_by_backend_and_group() -> None:
    columns = {
        "batch_size": np.ones(5), "step": np.full(5, 100.0), "num_heads": np.array([32.0, 32, 64, 32, 32]),
        "num_key_value_heads": np.array([4.0, 32, 1, 4, 4]), "head_dim": np.full(5, 128.0),
        "window_size": np.array([0.0, 0, 64, 0, 0]), "backend": np.full(5, -1.0),
        "library": np.array([0.0, 1, 1, 1, -1]),
    }  # fmt: skip
    rows = Measurements(
        accelerator="h100_sxm", family="attention_decode", number_format="bf16", columns=columns,
        seconds=np.full(5, 1e-5), libraries=("vllm.flash_attn_fa3", "trtllm"),
    )  # fmt: skip
    assert {part.family.partition("/")[2]: len(part) for part in variants(rows)} == {
        "128": 1, "128.trtllm": 1, "128.trtllm_single": 1, "128.vllm.flash_attn_fa3": 1, "128w.trtllm_wide": 1,
    }  # fmt: skip


def test_all_kernels_of_one_shape_are_in_the_same_part() -> None:
    columns = {"m": np.arange(1.0, 41.0), "k": np.full(40, 64.0)}
    parts = [
        Measurements(
            accelerator="h100_sxm", family="quantise", number_format="bytes", seconds=np.ones(40),
            columns={**columns, "library": np.full(40, place)},
        ).part()
        for place in (-1.0, 0.0, 3.0)
    ]  # fmt: skip
    assert np.array_equal(parts[0], parts[1])
    assert np.array_equal(parts[0], parts[2])


@pytest.mark.parametrize(
    ("backend", "text", "name"),
    [
        ("vllm", "vllm_flash_attn_fa3", "vllm.flash_attn_fa3"),
        ("trtllm", "torch_flow", "trtllm"),
        ("vllm", "vllm.model_executor.kernels.mhc.tilelang.mhc_pre_tilelang", "vllm.mhc_pre_tilelang"),
    ],
)
def test_kernels_are_named_as_measured(backend: str, text: str, name: str) -> None:
    assert library_name(backend, text) == name
    assert library_name(backend, text, fp8=True) == f"{name}_fp8"


def test_words_that_are_not_known_are_counted(tmp_path: Path) -> None:
    sizes = dict(m=[1, 2, 3], n=[64] * 3, k=[64] * 3, latency=[1.0] * 3)
    write(gemm(tmp_path), gemm_dtype=["bfloat16", "fp3", "fp3"], **sizes)
    found, skipped = read_measurements("h100_sxm", GEMM, root=tmp_path)
    assert [len(table) for table in found] == [1]
    assert [(item.reason, item.count) for item in skipped] == [("gemm_dtype fp3 is not known here", 2)]


def test_tables_that_nobody_reads_are_named_with_their_rows(tmp_path: Path) -> None:
    sizes = dict(m=[1, 2], n=[64] * 2, k=[64] * 2, latency=[1.0] * 2, gemm_dtype=["bfloat16"] * 2)
    write(gemm(tmp_path), **sizes)
    write(gemm(tmp_path, version="0.19.0"), **sizes)
    write(tmp_path / "h100_sxm" / "mlp" / "sglang" / "1" / "wideep_context_mlp_perf.parquet", m=[1, 2, 3])
    write(tmp_path / "h100_sxm" / "warp" / "sglang" / "1" / "warp_perf.parquet", m=[1])
    found, skipped = measured_tables("h100_sxm", root=tmp_path)
    assert [len(table) for table in found] == [2]
    reasons = {Path(item.where).stem: (item.reason.split(",")[0], item.count) for item in skipped}
    assert reasons == {
        "gemm_perf": ("another version of it is the current one", 2),
        "wideep_context_mlp_perf": ("18 rows of one layer", 3),
        "warp_perf": ("no reader knows this table", 1),
    }


def test_rows_that_do_not_say_their_kernel_take_the_fastest() -> None:
    columns = {
        "batch_size": np.array([4.0, 4.0]), "isl": np.array([2048.0, 4096.0]), "num_heads": np.full(2, 32.0),
        "num_key_value_heads": np.full(2, 8.0), "head_dim": np.full(2, 128.0), "window_size": np.zeros(2),
        "library": np.full(2, -1.0),
    }  # fmt: skip
    rows = Measurements(accelerator="h100_sxm", family="attention", number_format="bf16", columns=columns,
                        seconds=np.ones(2))  # fmt: skip
    [part] = variants(rows)
    assert part.family == "attention/128"
    model = kernels.cost_model(load_accelerator("h100_sxm"))
    fits = kernels.fits_for(model, part)
    assert len(fits) > 1
    device, family = device_of(load_accelerator("h100_sxm"), "bf16"), FAMILIES["attention"]
    each = [family.time(fit.coefficients, device, FORMATS["bf16"], columns) for fit in fits]
    assert np.allclose(kernels.score(model, part).predicted, np.min(each, axis=0))
