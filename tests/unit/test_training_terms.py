"""What stands between kernels and steps: frozen weights, contention, unfused attention, hosts, exchanges."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from shapewright.architecture.catalog import resolve_model
from shapewright.architecture.shape import Block, DenseFFN, ExpertsFFN, Norm, SelfAttention, Shape
from shapewright.designs.breakdown import memory_parts, price_plan, step_parts
from shapewright.hardware.catalog import parse_cluster
from shapewright.lab.frameworks import conformal_spread, remembering
from shapewright.plan.framework import KERNELS_ALONE
from shapewright.plan.network import effective_tier, exchange_tier
from shapewright.plan.parallel import Plan
from shapewright.search.joint import Options, workload_for
from shapewright.validation.published import DEFAULT_VOCAB, generation_of
from shapewright.validation.training import Point


@pytest.fixture(scope="module")
def workload():
    return workload_for(parse_cluster("16xh100_sxm"), Options(framework="kernels", seq_len=2048))


@pytest.fixture(scope="module")
def llama():
    return resolve_model("llama-3-8b")


def with_constants(workload, **constants: float):
    return replace(workload, framework=replace(KERNELS_ALONE, **constants))


def shape_of(heads: int, channel: DenseFFN | ExpertsFFN) -> Shape:
    mixer = SelfAttention(heads=heads, kv_heads=heads, head_dim=2048 // heads)
    return Shape(
        name="test",
        vocab_size=DEFAULT_VOCAB,
        hidden_size=2048,
        blocks=(Block(mixer=mixer, channel=channel, count=8, norm=Norm()),),
    )


def test_frozen_weights_need_no_gradient_and_no_state(llama, workload) -> None:
    plan = Plan(dp_shard=16, sharding=1)
    full = price_plan(llama, plan, workload, global_batch=64)
    frozen = price_plan(llama, plan, replace(workload, trainable=0.004), global_batch=64)
    assert 0.5 < frozen.step_time / full.step_time < 0.8, "two of three products remain, and some traffic"
    assert frozen.model_flops == pytest.approx(full.model_flops * 2 / 3)
    for name in ("gradients", "optimizer_state"):
        ratio = float(np.ravel(getattr(frozen.steps, name))[0] / np.ravel(getattr(full.steps, name))[0])
        assert ratio == pytest.approx(0.004), name
    assert sum(part.value for part in step_parts(frozen)) == pytest.approx(frozen.step_time, rel=1e-9)
    assert sum(part.value for part in memory_parts(frozen)) == pytest.approx(frozen.memory, rel=1e-9)


@pytest.mark.parametrize("sharding", [0, 1, 3])
def test_contention_of_one_hides_nothing(llama, workload, sharding: int) -> None:
    plan = Plan(dp_shard=16, sharding=sharding) if sharding else Plan(dp_replicate=16)
    step = [
        price_plan(llama, plan, with_constants(workload, contention=k), global_batch=16).step_time
        for k in (0.0, 0.5, 1.0)
    ]
    assert step[0] < step[1] < step[2]
    assert step[1] - step[0] == pytest.approx(step[2] - step[1], rel=1e-6), "each share costs the same"


def test_parts_add_up_with_every_constant(llama, workload) -> None:
    busy = with_constants(
        workload,
        contention=0.4,
        score_passes=3.0,
        host_s=1e-4,
        host_collective_s=1e-4,
        attention_newer=2.0,
        pointwise=2.0,
    )
    for plan in (Plan(dp_shard=16, sharding=3, recompute=2), Plan(tp=4, pp=2, dp_shard=2, sharding=1)):
        priced = price_plan(llama, plan, busy, global_batch=32)
        assert sum(part.value for part in step_parts(priced)) == pytest.approx(priced.step_time, rel=1e-9)


def core(priced) -> float:
    return float(
        next(np.ravel(i.forward)[0] for i in priced.local.costs.layer.items if i.name == "attention.core")
    )


def test_scores_that_cross_the_memory_cost_by_heads_not_by_width(workload) -> None:
    added = []
    for heads in (16, 32):
        shape = shape_of(heads, DenseFFN(ffn_size=8192, gated=False))
        fused, unfused = (
            core(
                price_plan(
                    shape, Plan(dp_replicate=16), with_constants(workload, score_passes=s), global_batch=16
                )
            )
            for s in (0.0, 4.0)
        )
        added.append(unfused - fused)
    assert added[1] / added[0] == pytest.approx(2.0, rel=0.05)


def test_newer_devices_alone_pay_for_older_attention_kernels() -> None:
    shape = shape_of(16, DenseFFN(ffn_size=8192))
    for name, factor in (("8xa100_sxm", 1.0), ("8xh100_sxm", 2.0)):
        plain = workload_for(parse_cluster(name), Options(framework="kernels", seq_len=2048))
        old = core(
            price_plan(
                shape, Plan(dp_replicate=8), with_constants(plain, attention_newer=2.0), global_batch=8
            )
        )
        new = core(price_plan(shape, Plan(dp_replicate=8), plain, global_batch=8))
        assert old / new == pytest.approx(factor), name


def test_the_host_of_experts_is_waited_for_with_small_micro_batches(workload) -> None:
    shape = shape_of(16, ExpertsFFN(ffn_size=1024, experts=16, topk=2))
    slow = with_constants(workload, host_experts_s=2e-3)
    plan = Plan(dp_shard=16, sharding=1, ep=8)
    small, large = (
        price_plan(shape, replace(plan, micro_batch=m), slow, global_batch=64).step_time
        / price_plan(shape, replace(plan, micro_batch=m), workload, global_batch=64).step_time
        for m in (1, 4)
    )
    assert small > large, "one host launch serves more tokens"


def test_an_exchange_leaves_a_node_through_each_devices_own_card() -> None:
    cluster = parse_cluster("64xh100_sxm")
    own = cluster.tiers[1].bandwidth.value
    assert exchange_tier(cluster, 8, 1) == effective_tier(cluster, 8, 1), "inside a node nothing changes"
    # 56 of 63 partners are elsewhere.
    assert exchange_tier(cluster, 64, 1).bandwidth.value == pytest.approx(own * 63 / 56)
    assert exchange_tier(cluster, 8, 8).bandwidth.value == pytest.approx(own)
    assert effective_tier(cluster, 64, 1).bandwidth.value > 6 * own, "rings are relayed"


@pytest.mark.parametrize(
    ("framework", "hardware", "date", "generation"),
    [
        ("megatron-lm", "a100_sxm", "2021-04", "megatron-deepspeed"),
        ("megatron-lm", "h100_sxm", "2025", "megatron-core"),
        ("megatron-bridge", "gb200", "2026-04", "megatron-core"),
        ("megatron-bridge", "gb200", "2026-08", "megatron-core-26.06"),
        ("NGC Pytorch 24.09, NGC HugeCTR 24.09", "h100_sxm", "2024-11", "megatron-core"),
        ("PyTorch 2.6.0, ROCm 6.4", "mi300x", "2025-06", "primus"),
        ("llm-foundry/composer fsdp", "h100_sxm", "2023-20", "fsdp"),
        ("jax", "tpu_v5p", "2024", None),
    ],
)
def test_generations(framework: str, hardware: str, date: str, generation: str | None) -> None:
    assert generation_of(framework, hardware, date) == generation


def test_a_remembering_model_prices_the_same(llama, workload) -> None:
    remembered = remembering(workload)
    plan = Plan(tp=2, dp_shard=8, sharding=1)
    once = price_plan(llama, plan, remembered, global_batch=64).step_time
    again = price_plan(llama, plan, remembered, global_batch=64).step_time
    assert once == again == price_plan(llama, plan, workload, global_batch=64).step_time


def test_the_spread_covers_nine_tenths() -> None:
    class Measured:
        def __init__(self, step_time: float) -> None:
            self.step_time = step_time

    errors = np.linspace(-0.4, 0.4, 41)
    points = [
        Point(
            row=Measured(float(np.exp(e))),  # pyright: ignore[reportArgumentType]
            predicted=1.0,
            low=float(np.exp(-0.1)),
            high=float(np.exp(0.1)),
            flops_per_device=1.0,
            recompute=0,
        )
        for e in errors
    ]
    spread = conformal_spread(points)
    inside = np.mean(np.abs(errors) <= spread)
    assert 0.9 <= inside < 0.96
