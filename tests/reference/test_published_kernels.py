"""Predicted kernels against published and measured figures, the source beside each number."""

from __future__ import annotations

from importlib.util import find_spec

import numpy as np
import pytest

from shapewright.cost.choice import scan_fits
from shapewright.cost.price import cost_model
from shapewright.cost.scan import scan_time
from shapewright.hardware.catalog import load_accelerator

SILICON = find_spec("aiconfigurator_core") is not None and find_spec("pyarrow") is not None


def layer_rate(d_ff: int) -> float:
    """FLOP/s of the three products of a SwiGLU layer of width 4,096 on H100."""
    model = cost_model(load_accelerator("h100_sxm"))
    seconds = 2 * model.matmul(8192, d_ff, 4096, "bf16") + model.matmul(8192, 4096, d_ff, "bf16")
    return 3 * 2 * 8192 * 4096 * d_ff / float(seconds)


def test_an_odd_width_costs_what_was_measured() -> None:
    # stas00/ml-engineering, SwiGLU on H100, hidden 4,096: 272.7 TFLOP/s at 10,922; 398.4 at 10,944; 395.0 at 11,008.
    assert layer_rate(10944) / layer_rate(10922) == pytest.approx(398.4 / 272.7, rel=0.05)
    assert layer_rate(11008) / layer_rate(10944) == pytest.approx(395.0 / 398.4, rel=0.03)


@pytest.mark.parametrize(
    ("name", "number_format", "tflops"),
    [
        # Highest matrix-product rates, stas00/ml-engineering, Aug 2026.
        ("h100_sxm", "bf16", 794.5), ("a100_sxm", "bf16", 271.2), ("b200_sxm", "bf16", 1745), ("gb200", "bf16", 1822),
        ("mi300x", "bf16", 668.4), ("mi325x", "bf16", 784.9), ("gaudi3", "bf16", 1243), ("gaudi2", "bf16", 418.7),
    ],
)  # fmt: skip
def test_large_products_run_at_the_published_rate(name: str, number_format: str, tflops: float) -> None:
    model = cost_model(load_accelerator(name))
    rate = 2.0 * 16384 * 8192 * 8192 / float(model.matmul(16384, 8192, 8192, number_format)) / 1e12
    assert rate == pytest.approx(tflops, rel=0.10), f"{name}: {rate:.0f} TFLOP/s"


@pytest.mark.parametrize(("name", "slots"), [("h100_sxm", 132), ("b200_sxm", 148), ("gb200", 152)])
def test_the_scan_steps_exactly_at_the_number_of_multiprocessors(name: str, slots: int) -> None:
    # Measured gated-delta prefill, T 8,192: flat to 128 heads on H100, 2x at 192 (.407 and .792 ms).
    model = cost_model(load_accelerator(name))
    fit = next(fit for fit in scan_fits(model.calibration, "delta", "scan") if ".vllm." in fit.family)
    device = model.device("bf16")
    assert device.slots == slots
    heads = np.array([slots - 1, slots, slots + 1, 2 * slots, 2 * slots + 1])
    before, full, next_wave, two, third = scan_time(
        fit.coefficients,
        device,
        sequences=1,
        length=8192,
        heads=heads,
        key_dim=128,
        value_dim=128,
        key_heads=heads / 3,
    )
    assert full == pytest.approx(before, rel=0.01)
    assert next_wave > 1.6 * full
    assert third - two > 0.6 * full


def test_all_reduce_bus_bandwidth_is_what_nccl_reaches() -> None:
    # NCCL on 8 H100: 365 GB/s of bus bandwidth by ring, 473 to 480 in the switch (stas00/ml-engineering, Aug 2026).
    from shapewright.hardware.catalog import parse_cluster

    cluster = parse_cluster("8xh100_sxm")
    seconds = float(cost_model(cluster.accelerator).collective("all_reduce", 4e9, 8, cluster.tiers[0]))
    assert 360e9 < 2 * 7 / 8 * 4e9 / seconds < 490e9


@pytest.mark.silicon
@pytest.mark.skipif(not SILICON, reason="needs the measured tables (extra silicon)")
@pytest.mark.parametrize("name", ["a100_sxm", "h100_sxm", "b200_sxm"])
def test_held_out_products_beat_a_plain_roofline_threefold(name: str) -> None:
    from shapewright.lab.calibrate import REPORT_PARTS
    from shapewright.validation import kernels
    from shapewright.validation.silicon import measured_tables

    tables, _ = measured_tables(name, family="gemm")
    scored, _ = kernels.score_all(
        kernels.only(tables, family="gemm", number_format="bf16"), held_out=REPORT_PARTS
    )
    found = kernels.slices(scored)[0]
    assert found.covered == found.count > 2000
    assert found.median_ape < 0.07, f"{found.median_ape:.3f}"
    assert found.p90_ape < 0.20, f"{found.p90_ape:.3f}"
    assert 3 * found.median_ape < found.baseline_median_ape
    assert 0.87 < found.coverage_90 < 0.93
