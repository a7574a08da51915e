"""Serving in closed form: memory against a naive count, limits of the formulas, prices against one by one."""

from __future__ import annotations

import numpy as np
import pytest

from shapewright.architecture.catalog import resolve_model
from shapewright.architecture.graph import num_params
from shapewright.cost.price import cost_model
from shapewright.hardware.catalog import parse_cluster
from shapewright.plan.engine import Engine, engines, find_engine, to_toml
from shapewright.plan.serving import accepted, closed_loop, disaggregated, open_apart
from shapewright.plan.serving_formats import serving_formats
from shapewright.plan.serving_memory import sequence_bytes, weight_bytes
from shapewright.plan.serving_step import CAUSES, Layout, price_pass


def test_cache_follows_the_layers():
    cluster = parse_cluster("8xh200_sxm")
    dense = resolve_model("llama-3.1-8b")
    formats = serving_formats("bf16", dense, cluster.accelerator)
    # 32 layers, 8 key heads of 128, keys and values, 2 bytes: 128 KiB a token.
    assert sequence_bytes(dense, Layout(tp=1), formats, 1600) == 1600 * 131072
    assert sequence_bytes(dense, Layout(tp=8), formats, 1600) == 1600 * 131072 / 8
    # More devices than key heads hold copies.
    assert sequence_bytes(dense, Layout(tp=16), formats, 1600) == 1600 * 131072 / 8
    # Pages round up.
    assert sequence_bytes(dense, Layout(), formats, 1601) == 1616 * 131072
    latent = resolve_model("deepseek-v3")
    assert sequence_bytes(latent, Layout(tp=8), formats, 16) == 16 * 61 * 576 * 2
    windowed = resolve_model("gpt-oss-120b")
    short, long = (float(sequence_bytes(windowed, Layout(), formats, n)) for n in (128, 12800))
    assert short < long < 60 * short, "half of the layers keep 128 tokens"
    hybrid = resolve_model("qwen3.5-397b-a17b")
    one, million = (float(sequence_bytes(hybrid, Layout(), formats, n)) for n in (16, 1_048_576))
    assert 0.2 < one / (45 * 64 * 128 * 128 * 4) < 2.0
    assert million / 1_048_576 < 15 * 2 * 2 * 256 * 2 * 1.01, "a quarter of the layers keeps keys"


@pytest.mark.parametrize("name", ["llama-3.1-8b", "deepseek-v3", "gpt-oss-120b"])
def test_weights_add_up(name: str):
    shape = resolve_model(name)
    formats = serving_formats("bf16", shape, parse_cluster("8xh200_sxm").accelerator)
    whole = float(weight_bytes(shape, Layout(), formats))
    assert whole == pytest.approx(2.0 * float(num_params(shape)), rel=1e-6)
    spread = float(weight_bytes(shape, Layout(tp=2, adp=4, ep=8), formats))
    assert whole / 8 < spread < whole / 1.99


def test_passes_priced_together_equal_those_priced_alone():
    cluster = parse_cluster("8xb200_sxm")
    model, shape = cost_model(cluster.accelerator), resolve_model("gpt-oss-120b")
    formats = serving_formats("fp4", shape, cluster.accelerator)
    tp, batch, past = np.array([1.0, 2, 8]), np.array([1.0, 16, 64]), np.array([10.0, 1000, 100_000])
    common = dict(formats=formats, model=model, cluster=cluster, backend="vllm")
    table = price_pass(shape, Layout(tp=tp), batch=batch, new=1, past=past, decode=True, **common)
    for i in range(3):
        layout = Layout(tp=float(tp[i]))
        alone = price_pass(shape, layout, batch=batch[i], new=1, past=past[i], decode=True, **common)
        for cause in CAUSES:
            assert getattr(alone, cause)[0] == pytest.approx(getattr(table, cause)[i], rel=1e-9)


def test_closed_loop_has_the_right_limits():
    engine = Engine(name="x", label="x", request_s=0.01, burst=0.0, queue=0.0, own=1.0, wait_steps=0.0)
    one = closed_loop(engine, step=np.array(0.01), prefill=np.array(0.1), groups=1, concurrency=1, capacity=64,
                      osl=100)  # fmt: skip
    assert one.tpot == pytest.approx(0.01)
    assert one.ttft == pytest.approx(0.11)
    # Everyone's prompt passes once per answer.
    many = closed_loop(engine, step=np.array(0.01), prefill=np.array(0.1), groups=1, concurrency=51, capacity=64,
                       osl=100)  # fmt: skip
    assert many.tpot == pytest.approx(0.01 + 50 * 0.1 / 100)
    # Twice what fits: half of them wait for a whole stay.
    full = closed_loop(engine, step=np.array(0.01), prefill=np.array(0.1), groups=1, concurrency=128, capacity=64,
                       osl=100)  # fmt: skip
    assert full.waiting == pytest.approx(100 * float(full.tpot))
    assert float(full.rate) == pytest.approx(64 / (100 * float(full.tpot)))


def test_disaggregated_is_bounded_by_its_prefill_workers():
    engine = Engine(name="x", label="x", apart_wait_steps=0.0, apart_request_s=0.0)
    served = disaggregated(engine, step=lambda batch: 0.01 + 0 * batch, prefill=np.array(1.0), groups=1,
                           prefill_workers=2, decode_workers=1, concurrency=np.array([1.0, 1000.0]), capacity=1e9,
                           osl=100, burst=0.0)  # fmt: skip
    assert served.rate[1] == pytest.approx(2.0, rel=0.02)
    assert served.ttft[0] == pytest.approx(1.0, rel=0.05)
    assert served.ttft[1] == pytest.approx(1000 / 2 - 1, rel=0.05)


def test_prompts_apart_under_open_arrivals_have_the_right_limits():
    engine = Engine(name="x", label="x", apart_wait_steps=0.0, apart_request_s=0.0, apart_own=1.0)
    batches = np.array([1.0, 64.0])
    served, largest = open_apart(
        engine, batches=batches, steps=np.array([0.01, 0.01]), prefill=0.5, groups=1.0, rate=1.0, osl=100,
        prefill_workers=np.array([1.0, 4.0, 1.0]), decode_workers=np.array([1.0, 1.0, 1.0]),
    )  # fmt: skip
    assert largest == pytest.approx([2.0, 8.0, 2.0])
    # One server with half its time taken by prompts of one length: it waits for half a prompt, and four for nearly none.
    assert served.waiting[0] == pytest.approx(0.25, rel=0.01)
    assert served.waiting[1] < 0.01
    _, most = open_apart(engine, batches=batches, steps=np.array([0.01, 0.01]), prefill=0.01, groups=1.0, rate=0.0, osl=100,
                         prefill_workers=np.array([1.0]), decode_workers=np.array([1.0]))  # fmt: skip
    assert most == pytest.approx([64.0])


@pytest.mark.parametrize("system", ["h200_sxm", "b200_sxm", "gb300"])
def test_latent_prefill_runs_near_what_its_kernels_reach(system: str):
    cluster, shape = parse_cluster(f"8x{system}"), resolve_model("deepseek-v3")
    formats = serving_formats("fp8", shape, cluster.accelerator)
    found = price_pass(shape, Layout(tp=8), batch=1, new=8192, past=0, decode=False, formats=formats,
                       model=cost_model(cluster.accelerator), cluster=cluster, backend="trtllm")  # fmt: skip
    flops = 61 * 128 * 8192**2 / 2 * (192 + 128) * 2
    rate = flops / 8 / float(found.attention[0])
    assert 0.3 < rate / cluster.accelerator.peak_flops["bf16"].value < 0.9


def test_tokens_travel_to_their_experts_where_that_is_less():
    cluster, shape = parse_cluster("72xgb200"), resolve_model("deepseek-v3")
    common = dict(batch=64, new=1, past=1000, decode=True, model=cost_model(cluster.accelerator), cluster=cluster,
                  formats=serving_formats("fp8", shape, cluster.accelerator), backend="trtllm")  # fmt: skip
    few, many = (price_pass(shape, Layout(adp=n, ep=n), **common).exchange[0] for n in (8, 32))
    assert many < 2.0 * few, "eight experts a token, not all of 32 devices"


def test_drafts_pay_by_acceptance():
    assert accepted(0.5, 0) == 1.0
    assert accepted(0.5, 3) == pytest.approx(1 + 0.5 + 0.25 + 0.125)


def test_shipped_engines_are_fitted_and_read_back():
    assert {"vllm", "sglang", "trtllm"} <= set(engines())
    for name in ("vllm", "sglang", "trtllm"):
        engine = find_engine(name)
        assert engine.kind == "fitted"
        assert engine.num_rows > 500
        assert 0 < engine.tpot_low < 1 < engine.tpot_high
    import tomllib

    engine = find_engine("trtllm")
    again = Engine(**tomllib.loads(to_toml(engine)))
    assert again.speculates == dict(engine.speculates)
    assert again.step_s == pytest.approx(engine.step_s, rel=1e-3)
