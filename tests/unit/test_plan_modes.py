"""Every axis and mode of a plan against a naive twin or a published formula."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from shapewright.architecture.catalog import resolve_model
from shapewright.architecture.shape import Block, DenseFFN, ExpertsFFN, Norm, SelfAttention, Shape
from shapewright.designs.breakdown import PricedPlan, memory_parts, price_plan, step_parts
from shapewright.designs.build import make_design
from shapewright.designs.estimate import make_estimate
from shapewright.designs.plans import search_for
from shapewright.designs.relief import reliefs
from shapewright.errors import InfeasibleError, NotCoveredError, UsageError
from shapewright.export.formats import export
from shapewright.hardware.catalog import parse_cluster
from shapewright.plan.goodput import goodput
from shapewright.plan.memory import read_by
from shapewright.plan.modes import OPTIMIZERS, Modes, with_modes
from shapewright.plan.network import collective_seconds
from shapewright.plan.offload import HOST_LINK, HOST_MEMORY
from shapewright.plan.parallel import CONTEXT, OFFLOAD, RECOMPUTE, SCHEDULES, Plan, default_plan, plan_options
from shapewright.plan.rules import check_batch, check_plan
from shapewright.search.budget import Budget
from shapewright.search.joint import Options, workload_for
from shapewright.search.plans import search_plans

LLAMA = resolve_model("llama-3-8b")


@pytest.fixture(scope="module")
def workload():
    return workload_for(parse_cluster("64xh100_sxm"), Options(framework="kernels"))


@pytest.fixture(scope="module")
def price(workload):
    def one(plan: Plan, shape: Shape = LLAMA, **more) -> PricedPlan:
        return price_plan(shape, plan, replace(workload, **more), global_batch=128)

    return one


def scalar(value) -> float:
    return float(np.ravel(value)[0])


def gpt(heads: int = 32, width: int = 4096, layers: int = 32) -> Shape:
    norm = Norm(kind="layernorm", bias=True)
    mixer = SelfAttention(
        heads=heads,
        kv_heads=heads,
        head_dim=width // heads,
        qkv_bias=True,
        out_bias=True,
        rotary_fraction=0.0,
    )
    block = Block(
        mixer=mixer, channel=DenseFFN(ffn_size=4 * width, gated=False, bias=True), count=layers, norm=norm
    )
    return Shape(name="gpt", vocab_size=51200, hidden_size=width, blocks=(block,), final_norm=norm)


@pytest.mark.parametrize("tp", [1, 2, 4, 8])
@pytest.mark.parametrize("sequence_parallel", [0, 1])
def test_a_layer_keeps_what_korthikanti_says(price, tp: int, sequence_parallel: int) -> None:
    """Table 2 of arXiv 2205.05198: s b h (10 + 24 / t) without and s b h 34 / t with sequence parallelism, less scores of
    unfused attention and, without dropout, two masks of one byte per element."""
    found = price(Plan(tp=tp, dp_shard=64 // tp, sharding=1, sequence_parallel=sequence_parallel), gpt())
    kept = scalar(found.local.costs.layer.saved)
    sbh = 4096 * 4096
    assert kept == pytest.approx(sbh * (32 / tp if sequence_parallel else 8 + 24 / tp))


def test_full_recompute_keeps_the_input_of_each_layer(price) -> None:
    found = price(Plan(dp_shard=64, sharding=1, recompute=2), gpt())
    assert scalar(found.local.costs.layer.input_bytes) == 2 * 4096 * 4096


def test_alternate_recompute_keeps_input_attention_and_every_second_product(price) -> None:
    found = price(Plan(dp_shard=64, sharding=3, recompute=RECOMPUTE.index("alternate")))
    # The layer's input and the attention's output, queries, values, the gate projection and the down projection.
    features = 4096 + 4096 + 4096 + 1024 + 14336 + 4096
    assert scalar(found.local.costs.layer.saved_alternate) == 2 * 4096 * features


@pytest.mark.parametrize("count", [1, 8, 16, 32])
def test_recompute_of_some_layers_lies_between_none_and_all(price, count: int) -> None:
    base = Plan(dp_shard=64, sharding=1)
    none, some, every = (
        price(plan).steps
        for plan in (base, replace(base, recompute=2, recompute_layers=count), replace(base, recompute=2))
    )
    assert scalar(some.recompute) == pytest.approx(scalar(every.recompute) * count / 32)
    assert scalar(every.memory) - 1 <= scalar(some.memory) <= scalar(none.memory) + 1e9


def test_without_sequence_parallelism_outputs_are_added_up_on_every_rank(price, workload) -> None:
    plan = Plan(tp=4, dp_shard=16, sharding=1, sequence_parallel=0)
    found = price(plan)
    item = next(i for i in found.local.costs.layer.items if i.name == "ffn all-reduce (tp)")
    tensor = 4096 * LLAMA.hidden_size * 2
    naive = collective_seconds(workload.model, workload.cluster, "all_reduce", tensor, size=4)
    assert scalar(item.forward) == pytest.approx(float(naive))
    assert found.step_time > price(replace(plan, sequence_parallel=1)).step_time


def test_asynchronous_tp_shows_its_first_piece_and_what_outlasts_the_product(price) -> None:
    plan = Plan(tp=4, dp_shard=16, sharding=1)
    blocking, behind = price(plan), price(replace(plan, async_tp=1))

    def at(found: PricedPlan, name: str) -> float:
        return scalar(next(i.forward for i in found.local.costs.layer.items if i.name == name))

    label = "ffn all-gather + reduce-scatter (tp)"
    pair, product = at(blocking, label), at(blocking, "ffn.down")
    assert at(behind, label) == pytest.approx(pair / 4 + max(0.75 * pair - product, 0.0))
    assert behind.step_time < blocking.step_time


def test_orders_of_context_parallelism(price) -> None:
    plan = Plan(cp=4, dp_shard=16, sharding=1)
    zigzag, ring, gathered = (price(replace(plan, context=i)) for i in range(len(CONTEXT)))

    def core(found: PricedPlan) -> float:
        return scalar(next(i.forward for i in found.local.costs.layer.items if i.name == "attention.core"))

    assert core(gathered) <= core(zigzag) * 1.001, "one kernel has no small pieces"
    # The last rank meets 3 whole pieces and half of its own, of 8 halves in all that four ranks share.
    assert core(ring) > 1.3 * core(zigzag)
    wait = next(i for i in gathered.local.costs.layer.items if i.name == "keys and values (cp)")
    assert scalar(wait.forward) > 0, "keys that are gathered first hide behind nothing"


def moe(**more) -> Shape:
    channel = ExpertsFFN(ffn_size=2048, experts=16, topk=2)
    mixer = SelfAttention(heads=16, kv_heads=16, head_dim=128)
    return Shape(
        name="moe",
        vocab_size=32000,
        hidden_size=2048,
        blocks=(Block(mixer=mixer, channel=channel, count=16),),
    )


def test_the_fullest_expert_rank_paces_and_fills_the_others(price) -> None:
    plan = Plan(dp_shard=64, ep=8, sharding=1)
    even, uneven = price(plan, moe()), price(plan, moe(), imbalance=1.5)
    for name in ("up all-to-all (ep)", "ffn.experts.up"):
        a, b = (
            scalar(next(i.flops + i.forward for i in found.local.costs.layer.items if i.name == name))
            for found in (even, uneven)
        )
        assert b > 1.3 * a, name
    assert uneven.step_time > even.step_time
    assert uneven.model_flops == even.model_flops


def test_tensor_parallel_experts_gather_and_scatter_their_tokens(price, workload) -> None:
    plan = Plan(tp=2, dp_shard=32, ep=4, sharding=1)
    found = price(replace(plan, etp=2), moe())
    item = next(i for i in found.local.costs.layer.items if i.name.endswith("(etp)"))
    rows = 4096 * 2 * 2 / 2 * 2048 * 2  # tokens * topk * etp / tp rows of 2,048 in 16 bits
    naive = sum(
        float(collective_seconds(workload.model, workload.cluster, kind, rows, size=2))
        for kind in ("all_gather", "reduce_scatter")
    )
    assert scalar(item.forward) == pytest.approx(naive)
    # Each of two ranks holds half of every expert's width instead of every second expert.
    whole = price(replace(plan, ep=8), moe())
    assert scalar(found.steps.weights) == pytest.approx(scalar(whole.steps.weights))


def test_zero_two_scatters_after_every_micro_batch(price) -> None:
    one, two = (price(Plan(dp_shard=64, sharding=s)) for s in (1, 2))
    assert scalar(two.steps.gradients) < scalar(one.steps.gradients) / 30
    assert two.step_time >= one.step_time


def test_under_a_pipeline_sharded_gradients_stay_whole_and_leave_once(price) -> None:
    """``torch.distributed.pipelining`` keeps FSDP2 from syncing before the last backward pass; DeepSpeed refuses it."""
    one, two = (price(Plan(pp=4, dp_shard=16, sharding=s)) for s in (1, 2))
    assert two.step_time == one.step_time
    assert two.memory == one.memory


def test_hybrid_sharding_reduces_shards_among_copies(price) -> None:
    whole, hybrid = price(Plan(dp_shard=64, sharding=3)), price(Plan(dp_shard=8, dp_replicate=8, sharding=3))
    assert scalar(hybrid.steps.optimizer_state) == pytest.approx(8 * scalar(whole.steps.optimizer_state))
    assert scalar(hybrid.steps.outward) > 0 == scalar(whole.steps.outward)


def test_copies_that_drift_exchange_less_and_keep_more(price) -> None:
    base = Plan(dp_shard=8, dp_replicate=8, sharding=1)
    often, seldom = price(replace(base, sync_every=2)), price(replace(base, sync_every=100))
    assert seldom.step_time < often.step_time
    params = scalar(often.steps.weights) / 2
    outer = scalar(often.steps.optimizer_state) - scalar(price(base).steps.optimizer_state)
    assert outer == pytest.approx(8 * params / 8)


def test_an_optimizer_on_the_host_costs_its_traffic(price) -> None:
    base = Plan(dp_shard=64, sharding=1)
    here, there = price(base), price(replace(base, offload=OFFLOAD.index("optimizer")))
    assert scalar(there.steps.optimizer_state) == 0
    owned = scalar(here.steps.optimizer_state) / 12
    naive = owned * ((4 + 2) / HOST_LINK + 30 / HOST_MEMORY)
    assert scalar(there.steps.host) == pytest.approx(naive)
    assert sum(p.value for p in step_parts(there)) == pytest.approx(there.step_time)


def test_activations_on_the_host_leave_two_layers_here(price) -> None:
    base = Plan(dp_shard=64, sharding=1, micro_batch=2)
    here, there = price(base), price(replace(base, offload=OFFLOAD.index("activations")))
    layer = scalar(here.local.costs.layer.saved)
    assert scalar(there.steps.activations) < 3 * layer + scalar(here.local.costs.embedding.saved)
    wait = max(layer / HOST_LINK - scalar(here.local.costs.layer.forward), 0.0)
    assert there.step_time - here.step_time == pytest.approx(2 * 32 * wait, rel=1e-6)
    assert sum(p.value for p in memory_parts(there)) == pytest.approx(there.memory)


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_optimizers_keep_master_weights_and_their_moments(price, workload, name: str) -> None:
    changed = with_modes(workload, Modes(optimizer=name))
    found = price_plan(LLAMA, Plan(dp_shard=64, sharding=1), changed, global_batch=128)
    params = scalar(found.steps.weights) / 2
    assert scalar(found.steps.optimizer_state) == pytest.approx(
        params / 64 * (4 + OPTIMIZERS[name].moments_bytes)
    )


def test_an_estimate_counts_another_optimizer_once_and_names_it() -> None:
    options = Options(plan={"dp_shard": 64, "sharding": 1}, global_batch=64, modes=Modes(optimizer="lion"))
    found = make_estimate(LLAMA, "64xh100_sxm", options, tokens=1e9)
    state = sum(part.value for part in found.memory_parts if part.name == "optimizer state")
    # fp32 master weights and one fp32 moment, over 64 devices.
    assert state == pytest.approx(found.predicted.params.value / 64 * (4 + 4), rel=0.01)
    assert found.run.optimizer == "Lion"
    assert "optimizer = lion" in found.request.constraints
    assert any("AdamW's" in warning for warning in found.warnings)
    with pytest.raises(NotCoveredError, match="recipe for Lion"):
        export(found, "megatron")


def test_adapters_have_no_loss_no_recipe_and_no_design() -> None:
    options = Options(plan={"dp_shard": 64, "sharding": 1}, global_batch=64, modes=Modes(adapter_rank=16))
    found = make_estimate(LLAMA, "64xh100_sxm", options, tokens=1e9)
    assert (found.run.adapter_rank, found.recipe, found.predicted.loss) == (16, None, None)
    assert found.predicted.train_time_s is not None
    with pytest.raises(NotCoveredError, match="adapters of rank 16"):
        export(found, "torchtitan")
    with pytest.raises(UsageError, match="adapter_rank"):
        make_design("h100_sxm", Budget(kind="flops", value=1e19), Options(modes=Modes(adapter_rank=16)))


def test_graphs_leave_the_host_nothing_to_launch(workload) -> None:
    slow = replace(workload, framework=replace(workload.framework, host_s=1e-3, host_experts_s=1e-3))
    plan, shape = Plan(dp_shard=64, ep=8, sharding=1), moe()
    eager = price_plan(shape, plan, slow, global_batch=128)
    replayed = price_plan(shape, plan, with_modes(slow, Modes(cuda_graphs=True)), global_batch=128)
    assert replayed.step_time < eager.step_time / 1.5
    assert not [p for p in step_parts(replayed) if p.cause == "launch"]


def test_a_step_waits_for_the_slowest_of_many_devices(price, workload) -> None:
    steady = price(Plan(dp_shard=64, sharding=1))
    shaky = price(Plan(dp_shard=64, sharding=1), framework=replace(workload.framework, jitter=0.01))
    rng = np.random.default_rng(0)
    slowest = rng.normal(0.0, 0.01, (4000, 64)).max(axis=1).mean()
    assert shaky.step_time / steady.step_time - 1 == pytest.approx(slowest, rel=0.25)


def test_embedding_and_head_can_stand_in_for_a_layer_each(price) -> None:
    shape = gpt(layers=30)
    found = price(Plan(pp=4, dp_shard=16, sharding=1), shape)
    check_plan(found.plan, shape, parse_cluster("64xh100_sxm"))
    assert sum(part.value for part in step_parts(found)) == pytest.approx(found.step_time)
    assert scalar(found.steps.passes.forward) == pytest.approx(8 * scalar(found.local.costs.layer.forward))


def test_low_precision_recipes(price, workload) -> None:
    plan = Plan(dp_shard=64, sharding=1)
    cluster = parse_cluster("64xb200_sxm")

    def step(name: str) -> float:
        return price_plan(
            LLAMA, plan, workload_for(cluster, Options(precision=name, framework="kernels")), global_batch=128
        ).step_time

    assert step("nvfp4") < step("nvfp4-tail") < step("bf16")
    whole, narrow = (
        workload_for(cluster, Options(precision=name, framework="kernels")) for name in ("fp8", "fp8-weights")
    )
    held = [scalar(price_plan(LLAMA, plan, w, global_batch=128).steps.weights) for w in (whole, narrow)]
    assert held[0] == 2 * held[1]


def test_the_best_checkpoint_interval_beats_its_neighbours() -> None:
    def share(interval: float, held: float, mtbf: float, restart: float) -> float:
        return 1 / (1 + held / interval + (interval / 2 + restart) / mtbf)

    state, devices = 50e9, 16384
    best = goodput(state_bytes=state, num_devices=devices)
    mtbf = best.cluster_mtbf_s
    assert best.share == pytest.approx(share(best.interval_s, best.checkpoint_s, mtbf, 600.0))
    for factor in (0.5, 2.0):
        assert share(best.interval_s * factor, best.checkpoint_s, mtbf, 600.0) < best.share
    assert 0.85 < best.share < goodput(state_bytes=state, num_devices=64).share < 1
    with pytest.raises(UsageError, match="positive"):
        goodput(state_bytes=1.0, num_devices=1, device_mtbf_s=0.0)


def test_meters_read_more_the_further_out_they_stand() -> None:
    readings = [read_by(meter, 50e9, 2.5e9) for meter in ("allocated", "reserved", "device")]
    assert readings == sorted(readings)
    assert readings[0] == 50e9


@pytest.mark.parametrize(
    ("numbers", "said"),
    [
        ({"tp": 3, "dp_shard": 1}, "try: --tp 1, 2, 4, 8"),
        ({"pp": 3, "dp_shard": 1}, "devices"),
        ({"pp": 64, "dp_shard": 1}, "plan.pp * plan.vpp (=64 * 1)"),
        ({"pp": 2, "vpp": 5, "dp_shard": 32}, "--vpp 2, 4, 8, 16"),
        ({"schedule": 2, "dp_shard": 64}, "needs a pipeline"),
        ({"pp": 2, "vpp": 2, "schedule": 1, "dp_shard": 32}, "only 1F1B"),
        ({"ep": 2, "dp_shard": 64}, "needs experts"),
        ({"async_tp": 1, "dp_shard": 64}, "needs tensor parallelism"),
        ({"sync_every": 10, "dp_shard": 64}, "needs copies"),
        ({"recompute": 2, "recompute_layers": 33, "dp_shard": 64}, "at most 32"),
        ({"recompute_layers": 3, "dp_shard": 64}, "needs a level"),
    ],
)
def test_an_invalid_plan_names_the_axis_and_the_nearest_values(numbers: dict[str, int], said: str) -> None:
    with pytest.raises(UsageError) as caught:
        check_plan(default_plan(**numbers), LLAMA, parse_cluster("64xh100_sxm"))
    assert said in str(caught.value)


def test_a_batch_names_its_neighbours() -> None:
    with pytest.raises(UsageError, match="try: --batch 64 or 128"):
        check_batch(Plan(dp_shard=64), 100)
    with pytest.raises(UsageError, match="--batch 128"):
        check_batch(Plan(pp=8, dp_shard=8, schedule=SCHEDULES.index("DualPipe")), 64)


def test_reliefs_fit_and_the_cheapest_comes_first(workload) -> None:
    plan = Plan(dp_replicate=64, micro_batch=2)
    limit = 76e9
    assert price_plan(LLAMA, plan, workload, global_batch=128).memory > limit
    found = reliefs(LLAMA, plan, workload, global_batch=128, memory_limit=limit)
    assert len(found) == 3
    assert [r.step_time for r in found] == sorted(r.step_time for r in found)
    for relief in found:
        again = price_plan(LLAMA, relief.plan, workload, global_batch=128)
        assert again.memory == relief.memory <= limit
        assert relief.change.startswith("--")


def test_the_search_finds_what_a_loop_over_all_plans_finds(workload) -> None:
    small = gpt(heads=16, width=2048, layers=8)
    near = replace(workload, cluster=parse_cluster("8xh100_sxm"))
    limit = 20e9
    found = search_plans(small, near, global_batch=32, memory_limit=limit)
    rows = []
    for index in range(len(found.plans)):
        priced = price_plan(small, found.plans.row(index), near, global_batch=32)
        rows.append((priced.step_time, priced.memory))
        assert priced.step_time == pytest.approx(found.step_time[index], rel=1e-9)
        if index > 150:
            break
    assert found.step_time[found.fastest] == found.step_time[found.fits].min()
    assert found.joules is not None
    table = np.stack([found.step_time, found.memory, found.joules], axis=1)
    for index in found.front:
        better = np.all(table[found.fits] <= table[index], axis=1) & np.any(
            table[found.fits] < table[index], axis=1
        )
        assert not better.any()
    with pytest.raises(InfeasibleError, match="leanest"):
        search_plans(small, near, global_batch=32, memory_limit=1e9)


def test_a_search_says_what_binds_and_how_to_look_closer() -> None:
    found = search_for(LLAMA, "64xh100_sxm", Options(global_batch=256))
    assert found["num_fit"] <= found["num_priced"] <= found["num_plans"]
    assert any("memory" in line for line in found["binds"])
    assert found["next"].startswith("shapewright estimate llama-3-8b --on 64xh100_sxm --batch 256 --dp-shard")


def test_options_give_the_plan_back() -> None:
    plan = Plan(tp=2, pp=2, dp_shard=16, sharding=1, schedule=2, sequence_parallel=0, offload=1, recompute=2)
    assert plan_options(plan) == (
        "--tp 2 --pp 2 --dp-shard 16 --recompute full --sharding optimizer --schedule zero-bubble "
        "--no-sequence-parallel --offload optimizer"
    )
