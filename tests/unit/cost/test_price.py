"""The cost model of one accelerator: shapes, fallbacks, limits, transfer."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from shapewright.cost.choice import attention_fits, candidates, variant_of
from shapewright.cost.families import FAMILIES
from shapewright.cost.families.attention import serves
from shapewright.cost.family import Measurements
from shapewright.cost.formats import FORMATS
from shapewright.cost.price import CostModel, cost_model
from shapewright.cost.residual import MeasuredLevel
from shapewright.cost.transfer import measured_accelerators, nearest_relatives
from shapewright.cost.unique import price_unique
from shapewright.errors import NotCoveredError, UnknownNameError
from shapewright.evidence import Figure
from shapewright.hardware.catalog import accelerator_names, load_accelerator
from shapewright.hardware.cluster import Tier


def figure(value: float, unit: str) -> Figure:
    return Figure(value=value, unit=unit, kind="assumed", source="test")


NVLINK = Tier(name="NVLink", size=8, bandwidth=figure(450e9, "B/s"), latency=figure(1e-6, "s"))
NETWORK = Tier(name="NDR", size=512, bandwidth=figure(50e9, "B/s"), latency=figure(5e-6, "s"))


@pytest.fixture(scope="module")
def h100() -> CostModel:
    return cost_model(load_accelerator("h100_sxm"))


@settings(max_examples=30, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 3), st.floats(-2, 2)), min_size=1, max_size=40))
def test_unique_pricing_equals_pricing_every_row(rows: list[tuple[int, float]]) -> None:
    calls = []

    def price(a: np.ndarray, b: np.ndarray) -> np.ndarray:
        calls.append(len(a))
        return a * 10.0 + b

    a, b = np.array([r[0] for r in rows]), np.array([r[1] for r in rows])
    assert np.array_equal(price_unique(price, a, b), a * 10.0 + b)
    assert calls == [len({(x, y + 0.0) for x, y in rows})]


def test_a_format_without_a_fit_borrows_one(h100: CostModel) -> None:
    assert h100.fit("matmul", "fp16").number_format == "bf16"
    assert float(h100.matmul(4096, 4096, 4096, "fp16")) == pytest.approx(
        float(h100.matmul(4096, 4096, 4096, "bf16"))
    )


def test_attention_uses_the_kernels_of_its_head_size(h100: CostModel) -> None:
    def sizes(head_dim: float, *, windowed: bool) -> set[str]:
        fits = attention_fits(h100.calibration, "attention", "bf16", head_dim, windowed)
        return {variant_of(fit).partition(".")[0] for fit in fits}

    assert sizes(128.0, windowed=False) == {"128"}
    assert sizes(64.0, windowed=True) == {"64w"}
    assert sizes(96.0, windowed=False) <= {"64", "128"}


def test_a_kernel_with_few_rows_or_large_errors_is_no_candidate(h100: CostModel) -> None:
    good = h100.fit("matmul", "bf16")
    few, bad = replace(good, num_rows=20), replace(good, median_error=0.4)
    assert candidates([few, good, bad]) == (good,)
    assert candidates([few, bad]) == (few, bad)


def test_attention_takes_the_fastest_kernel_unless_told(h100: CostModel) -> None:
    sizes = dict(batch=1, q_len=8192, kv_len=8192, heads=32, kv_heads=8, head_dim=128, v_head_dim=128)
    each = [float(h100.attention(**sizes, kernel=k)) for k in ("vllm.flash_attn_fa3", "sglang.fa3", "trtllm")]
    assert float(h100.attention(**sizes)) == pytest.approx(min(each))
    with pytest.raises(NotCoveredError, match="no measured kernel warp"):
        h100.attention(**sizes, kernel="warp")
    decode = {**sizes, "q_len": 1, "kv_heads": 32}
    assert float(h100.attention(**decode, kernel="trtllm")) > 0


def test_a_narrow_cache_does_not_double_the_rate_of_products(h100: CostModel) -> None:
    sizes = dict(batch=4, q_len=16384, kv_len=16384, heads=32, kv_heads=8, head_dim=128, v_head_dim=128)
    wide, narrow = (float(h100.attention(**sizes, number_format=name)) for name in ("bf16", "fp8"))
    flops = 2 * 4 * 32 * 16384**2 / 2 * 256
    assert 0.5 * wide < narrow <= 1.05 * wide
    assert flops / narrow < 1979e12


def test_attention_backward_and_windows(h100: CostModel) -> None:
    sizes = dict(batch=2, q_len=8192, kv_len=8192, heads=32, kv_heads=8, head_dim=128, v_head_dim=128)
    full, local = h100.attention(**sizes), h100.attention(**sizes, window=1024)
    assert h100.attention(**sizes, backward=True) > full > local
    mixed = h100.attention(**{**sizes, "q_len": np.array([1, 8192])})
    assert mixed.shape == (2,)
    assert mixed[1] == pytest.approx(float(full))


def test_collectives_cost_more_over_the_network(h100: CostModel) -> None:
    inside, outside = (float(h100.collective("all_reduce", 1e9, 8, tier)) for tier in (NVLINK, NETWORK))
    assert outside > 4 * inside
    assert float(h100.collective("all_gather", 1e9, 8, NVLINK)) < inside
    assert float(h100.collective("all_reduce", 1e9, 1, NVLINK)) == 0.0
    with pytest.raises(UnknownNameError):
        h100.collective("all_reduced", 1e9, 8, NVLINK)


def test_a_power_cap_slows_products_and_not_small_streams() -> None:
    accelerator = load_accelerator("h200_sxm")
    capped = cost_model(replace(accelerator, power_cap=figure(400.0, "W")))
    free = cost_model(accelerator)
    assert float(capped.matmul(8192, 8192, 8192, "bf16")) > 1.2 * float(free.matmul(8192, 8192, 8192, "bf16"))
    slow = float(capped.matmul(1, 1024, 1024, "bf16")) / float(free.matmul(1, 1024, 1024, "bf16"))
    assert slow < 1.1


def test_a_higher_limit_speeds_up_what_the_limit_throttles() -> None:
    """H200 products draw 691 of 700 W; at a tenth more the clock rises with the root of 2.4."""
    accelerator = load_accelerator("h200_sxm")
    raised, free = cost_model(replace(accelerator, power_cap=figure(770.0, "W"))), cost_model(accelerator)
    product = float(raised.matmul(8192, 8192, 8192, "bf16")) / float(free.matmul(8192, 8192, 8192, "bf16"))
    stream = float(raised.matmul(1, 1024, 1024, "bf16")) / float(free.matmul(1, 1024, 1024, "bf16"))
    # What idles draws no more, so the room grows by up to an eighth.
    assert 1.125 ** (-1 / 2.4) <= product < 0.99
    assert 0.999 < stream <= 1.0


def test_energy_adds_idle_and_stays_under_the_limit(h100: CostModel) -> None:
    seconds = h100.matmul(8192, 8192, 8192, "bf16")
    joules = h100.joules(seconds=seconds, flops=2 * 8192.0**3, num_bytes=4e8, number_format="bf16")
    watts = float(joules / seconds)
    assert 500 < watts <= 700 * 1.05
    idle = h100.joules(seconds=1.0, flops=0.0, num_bytes=0.0, number_format="bf16", kind="memory")
    assert 50 < float(idle) < 350


@pytest.mark.parametrize("name", accelerator_names())
def test_every_accelerator_with_a_peak_and_a_bandwidth_is_priced(name: str) -> None:
    accelerator = load_accelerator(name)
    formats = [f for f in ("bf16", "fp16", "fp32") if f in accelerator.peak_flops]
    if not formats or accelerator.memory_bandwidth is None:
        with pytest.raises(NotCoveredError):
            cost_model(accelerator)
        return
    model = cost_model(accelerator)
    seconds = float(model.matmul(8192, 8192, 8192, formats[0]))
    share = 2 * 8192**3 / seconds / accelerator.peak_flops[formats[0]].value
    assert 0.3 < share <= 1.0
    assert float(model.pointwise(1e9)) > 1e9 / accelerator.memory_bandwidth.value
    low, high = model.interval("matmul", formats[0])
    assert low < 1.0 < high


def test_a_transferred_device_is_derived_and_pinned() -> None:
    model = cost_model(load_accelerator("mi300x"))
    fit = model.fit("matmul", "bf16")
    assert fit.kind == "derived"
    assert "pinned" in fit.source
    rate = 2.0 * 16384 * 8192 * 8192 / float(model.matmul(16384, 8192, 8192, "bf16"))
    assert rate == pytest.approx(model.accelerator.achievable_flops["bf16"].value, rel=0.02)


def test_relatives_share_generation_or_memory() -> None:
    measured = measured_accelerators()
    nearest = {
        name: nearest_relatives(load_accelerator(name), measured)[0].name
        for name in ("h20", "l4", "b100_sxm")
    }
    assert nearest["h20"] in ("h100_sxm", "h200_sxm")
    assert nearest["l4"] == "l40s"
    assert nearest["b100_sxm"] in ("b200_sxm", "gb200", "b300_sxm", "gb300")


def test_experts_take_the_fastest_kernel_unless_told(h100: CostModel) -> None:
    layer = dict(
        tokens=np.array([64, 4096]), hidden=4096, inter=2048, topk=8, experts=256, number_format="bf16"
    )
    best = h100.experts(**layer)
    each = [h100.experts(**layer, kernel=name) for name in ("vllm.triton", "sglang.triton", "trtllm.cutlass")]
    assert np.allclose(best, np.min(each, axis=0))
    assert best[1] > best[0]
    assert h100.experts(**layer, ep=16)[1] < best[1]
    assert np.all(h100.experts(**layer, backward=True) > best)
    with pytest.raises(NotCoveredError, match="no kernel vllm"):
        h100.experts(**layer, kernel="vllm.warp")


def test_a_layer_of_experts_reads_at_least_its_weights(h100: CostModel) -> None:
    seconds = float(
        h100.experts(tokens=256, hidden=4096, inter=2048, topk=8, experts=256, number_format="bf16")
    )
    assert seconds > 256 * 3 * 4096 * 2048 * 2 / 3.35e12


def test_decode_takes_the_fastest_backend_of_a_group(h100: CostModel) -> None:
    fits = attention_fits(h100.calibration, "attention_decode", "bf16", 128.0, windowed=False)
    names = {fit.family.partition(".")[2] for fit in fits}
    assert names >= {"vllm.flash_attn_fa3", "sglang.fa3", "trtllm", "trtllm_single"}
    single = next(fit for fit in fits if fit.family.endswith("_single"))
    heads = {"num_heads": np.array([32.0, 32.0]), "num_key_value_heads": np.array([8.0, 32.0])}
    assert serves(single, heads).tolist() == [False, True]
    sizes = dict(batch=32, q_len=1, kv_len=4096, head_dim=128, v_head_dim=128)
    grouped, single = (float(h100.attention(**sizes, heads=32, kv_heads=kv)) for kv in (8, 32))
    assert grouped < single


def test_what_is_calibrated_is_named_in_short(h100: CostModel) -> None:
    with pytest.raises(NotCoveredError) as caught:
        h100.calibration.find("warp", "bf16")
    assert "/" not in caught.value.why
    assert len(caught.value.why) < 500
    with pytest.raises(NotCoveredError, match="matmul/nvfp4") as caught:
        h100.calibration.find("matmul", "nvfp4")
    assert "matmul in bf16" in caught.value.why


def test_the_measured_level_corrects_where_kernels_were_measured(h100: CostModel) -> None:
    m = np.array([1024.0, 2048.0, 4096.0, 8192.0] * 8)
    n = np.repeat(np.array([1024.0, 2048.0, 4096.0, 8192.0]), 8)
    columns = {"m": m, "n": n, "k": n}
    family = FAMILIES["matmul"]
    device = h100.device("bf16")
    physics = family.time(h100.fit("matmul", "bf16").coefficients, device, FORMATS["bf16"], columns)
    rows = Measurements(
        accelerator="h100_sxm", family="matmul", number_format="bf16", columns=columns, seconds=1.3 * physics
    )
    read = []

    def tables(name: str) -> list[Measurements]:
        read.append(name)
        return [rows] if name == "matmul" else []

    measured = replace(h100, measured=MeasuredLevel(tables=tables))
    near = measured.matmul(4096, 4096, 4096, "bf16") / h100.matmul(4096, 4096, 4096, "bf16")
    far = measured.matmul(1, 64, 64, "bf16") / h100.matmul(1, 64, 64, "bf16")
    assert float(near) == pytest.approx(1.3, rel=0.05)
    assert float(far) == pytest.approx(1.0, rel=0.05)
    assert measured.evidence("matmul", "bf16").kind == "measured"
    assert measured.evidence("matmul", "bf16").ranges["m"] == h100.fit("matmul", "bf16").ranges["m"]
    assert measured.evidence("attention", "bf16").kind == "fitted"
    # Streams and collectives are priced by physics alone at either level.
    assert measured.evidence("memory", "bytes").kind == "fitted"
    assert read == ["matmul", "attention"]
    assert h100.evidence("matmul", "bf16").kind == "fitted"


def test_an_unknown_level_is_refused() -> None:
    with pytest.raises(UnknownNameError, match="level"):
        cost_model(load_accelerator("h100_sxm"), level="magic")  # type: ignore[arg-type]
