"""Plans: rules, the table of all plans, and the training step against a naive twin."""

from __future__ import annotations

import numpy as np
import pytest

from shapewright.architecture.catalog import resolve_model
from shapewright.designs.breakdown import PricedPlan, memory_parts, price_plan, step_parts
from shapewright.errors import UsageError
from shapewright.hardware.catalog import parse_cluster
from shapewright.plan.framework import KERNELS_ALONE
from shapewright.plan.network import collective_seconds, effective_tier
from shapewright.plan.parallel import Plan, default_plan
from shapewright.plan.precision import PRECISIONS
from shapewright.plan.rules import check_plan
from shapewright.plan.table import enumerate_plans
from shapewright.search.joint import Options, workload_for


@pytest.fixture(scope="module")
def workload():
    return workload_for(parse_cluster("64xh100_sxm"), Options(framework="kernels"))


@pytest.fixture(scope="module")
def llama():
    return resolve_model("llama-3-8b")


def test_every_plan_of_the_table_uses_every_device() -> None:
    plans = enumerate_plans(parse_cluster("64xh100_sxm"), seq_len=4096)
    assert np.all(np.broadcast_to(plans.num_devices, len(plans)) == 64)
    rows = np.stack([np.broadcast_to(getattr(plans, name), len(plans)) for name in Plan.__slots__])
    assert np.unique(rows, axis=1).shape[1] == len(plans), "a plan is listed twice"


def test_pins_hold() -> None:
    plans = enumerate_plans(
        parse_cluster("64xh100_sxm"), seq_len=4096, fixed={"tp": 4, "pp": 2, "recompute": 1}
    )
    assert len(plans) > 0
    assert np.all(plans.tp == 4)
    assert np.all(plans.pp == 2)
    assert np.all(plans.recompute == 1)


@pytest.mark.parametrize(
    ("numbers", "named"),
    [
        ({"tp": 6, "dp_shard": 1}, "64"),
        ({"tp": 3, "pp": 1, "dp_shard": 1}, "devices"),
        ({"tp": 64}, "architecture.heads"),
        ({"pp": 64}, "layers"),
        ({"tp": 0}, "at least 1"),
    ],
)
def test_a_plan_that_cannot_split_names_axis_and_fix(llama, numbers: dict[str, int], named: str) -> None:
    with pytest.raises(UsageError) as caught:
        check_plan(default_plan(**numbers), llama, parse_cluster("64xh100_sxm"))
    assert named in str(caught.value)


def test_parts_add_up_to_the_step_and_to_the_memory(llama, workload) -> None:
    for plan in (Plan(dp_shard=64, sharding=3), Plan(tp=4, pp=4, vpp=2, dp_shard=4, sharding=1, recompute=1)):
        priced = price_plan(llama, plan, workload, global_batch=256)
        assert sum(part.value for part in step_parts(priced)) == pytest.approx(priced.step_time, rel=1e-9)
        assert sum(part.value for part in memory_parts(priced)) == pytest.approx(priced.memory, rel=1e-9)


def naive_step(priced: PricedPlan, workload, shape, global_batch: int) -> float:
    """The step as a loop over layers, micro-batches and stages, with no arrays and no closed form."""
    plan, costs = priced.plan, priced.local.costs
    one = lambda x: float(np.asarray(x).ravel()[0])  # noqa: E731
    layer_forward, layer_backward = one(costs.layer.forward), one(costs.layer.backward)
    if plan.recompute == 2:
        layer_backward += layer_forward
    layers = int(shape.num_layers) // plan.pp
    stages = [sum(layer_forward + layer_backward for _ in range(layers)) for _ in range(plan.pp)]
    first, last = (
        one(costs.embedding.forward + costs.embedding.backward),
        one(costs.head.forward + costs.head.backward),
    )
    send = 0.0
    if plan.pp == 1:
        stages[0] += first + last
    else:
        bytes_sent = 4096 * plan.micro_batch * shape.hidden_size * 2 / (plan.tp * plan.cp)
        send = float(
            collective_seconds(
                workload.model,
                workload.cluster,
                "send",
                bytes_sent,
                size=2,
                stride=plan.tp * plan.cp * plan.dp,
            )
        )
    micro_batches = global_batch // (plan.dp * plan.micro_batch)
    # 1F1B: the slowest stage is busy for every micro-batch; the others are waited for once.
    if plan.pp == 1:
        work = micro_batches * stages[0]
    else:
        slowest = stages[0] + max(first, last) + 2 * send
        work = micro_batches * slowest + (sum(stages) + first + last - slowest) + 2 * plan.pp * send
    group = plan.dp * plan.cp
    params = layers * one(costs.layer.params_split)
    ends = (one(costs.embedding.params_split), one(costs.head.params_split))
    params += sum(ends) if plan.pp == 1 else max(ends)
    exposed = 0.0
    if group > 1:
        stride, p = plan.tp, PRECISIONS["bf16"]
        out = float(
            collective_seconds(
                workload.model,
                workload.cluster,
                "reduce_scatter",
                params * p.gradient_bytes,
                size=group,
                stride=stride,
            )
        )
        back = float(
            collective_seconds(
                workload.model,
                workload.cluster,
                "all_gather",
                params * p.weight_bytes,
                size=group,
                stride=stride,
            )
        )
        exposed = max(out - layers * layer_backward, 0.0) + max(back - layers * layer_forward, 0.0)
    share = plan.dp_shard * plan.cp if plan.sharding else 1
    return work + exposed + float(workload.model.pointwise(params / share * workload.optimizer_traffic))


@pytest.mark.parametrize(
    "plan",
    [
        Plan(dp_shard=64, sharding=1, micro_batch=2),
        Plan(tp=4, dp_shard=16, sharding=1),
        Plan(tp=2, pp=4, dp_shard=8, sharding=1, recompute=2),
    ],
)
def test_the_step_equals_its_naive_twin(llama, workload, plan: Plan) -> None:
    priced = price_plan(llama, plan, workload, global_batch=128)
    # Wires are straight lines in the sweep and the model's own curve in the twin: 2 % is their difference.
    assert priced.step_time == pytest.approx(naive_step(priced, workload, llama, 128), rel=0.02)


def test_more_of_anything_slow_makes_the_step_longer(llama, workload) -> None:
    plan = Plan(tp=4, dp_shard=16, sharding=1)
    base = price_plan(llama, plan, workload, global_batch=128).step_time
    assert (
        price_plan(
            llama, Plan(tp=4, dp_shard=16, sharding=1, recompute=2), workload, global_batch=128
        ).step_time
        > base
    )
    assert price_plan(llama, plan, workload, global_batch=256).step_time > base


def test_recompute_saves_memory_and_costs_time(llama, workload) -> None:
    rows = [
        price_plan(
            llama, Plan(dp_shard=64, sharding=3, recompute=r, micro_batch=4), workload, global_batch=256
        )
        for r in range(3)
    ]
    assert rows[0].memory > rows[1].memory > rows[2].memory
    assert rows[0].step_time < rows[1].step_time < rows[2].step_time


def test_sharding_saves_state(llama, workload) -> None:
    rows = [
        price_plan(
            llama,
            Plan(dp_shard=64 if s else 1, dp_replicate=1 if s else 64, sharding=s),
            workload,
            global_batch=64,
        ).memory
        for s in (0, 1, 2, 3)
    ]
    assert rows == sorted(rows, reverse=True)


def test_an_axis_across_nodes_uses_every_card_of_its_members() -> None:
    cluster = parse_cluster("64xh100_sxm")
    outer = cluster.tiers[-1].bandwidth.value
    assert effective_tier(cluster, 64, 1).bandwidth.value == pytest.approx(8 * outer)
    assert effective_tier(cluster, 8, 8).bandwidth.value == pytest.approx(outer)
    assert effective_tier(cluster, 8, 1).bandwidth.value == pytest.approx(cluster.tiers[0].bandwidth.value)


def test_kernels_alone_change_nothing() -> None:
    assert (KERNELS_ALONE.matmul, KERNELS_ALONE.attention, KERNELS_ALONE.pointwise, KERNELS_ALONE.host_s) == (
        1,
        1,
        1,
        0,
    )
