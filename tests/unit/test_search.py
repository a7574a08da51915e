"""The lattice and the sweep, against a naive loop over all pairs."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pytest

from shapewright.architecture.graph import num_params
from shapewright.designs.breakdown import price_plan
from shapewright.errors import InfeasibleError, UsageError
from shapewright.hardware.catalog import load_accelerator, parse_cluster
from shapewright.plan.pairs import Pairs, price_local
from shapewright.plan.rules import attention_heads, check_plan, valid_for
from shapewright.plan.stages import can_stage
from shapewright.plan.table import enumerate_plans
from shapewright.scaling.law import load_law
from shapewright.search.arm import Job, memory_limit, price_arm
from shapewright.search.budget import Budget
from shapewright.search.guess import round_batch
from shapewright.search.joint import Options, best_of_cycle, rank, search_precisions, workload_for
from shapewright.search.lattice import lattice, single, width_grid
from shapewright.search.sweep import sweep_plans


@pytest.fixture(scope="module")
def small():
    """A small lattice on 8 devices, with everything that a sweep needs."""
    cluster = parse_cluster("8xh100_sxm")
    workload = workload_for(cluster, Options(seq_len=2048, framework="kernels"))
    candidates = lattice(
        cluster.accelerator,
        min_params=5e8,
        max_params=1.2e9,
        vocab_size=50304,
        tied_embeddings=False,
        fixed={"ffn_size": 5632},
    )
    plans = enumerate_plans(cluster, seq_len=2048, micro_batches=(1, 4))
    return workload, candidates, plans


def test_the_lattice_is_aligned_and_counts_right() -> None:
    table = lattice(
        load_accelerator("h100_sxm"), min_params=1e9, max_params=2e10, vocab_size=50304, tied_embeddings=False
    )
    assert table.layer.size > 200
    width = table.column(table.layers.hidden_size)
    assert np.all(width[width >= 2048] % 128 == 0)
    assert np.all(width % 32 == 0)
    for index in range(0, table.layer.size, 97):
        shape = table.shape(index)
        assert num_params(shape) == table.params[index]
        assert shape.blocks[0].mixer.heads % shape.blocks[0].mixer.kv_heads == 0


def test_the_sweep_finds_what_a_loop_over_all_pairs_finds(small) -> None:
    workload, candidates, plans = small
    limit = memory_limit(workload)
    sweep = sweep_plans(candidates, plans, workload, global_batch=64, memory_limit=limit)
    for index in np.linspace(0, candidates.layer.size - 1, 3).astype(int):
        shape = candidates.shape(int(index))
        best = np.inf
        for row in range(len(plans)):
            plan = plans.row(row)
            per_step = plan.dp * plan.micro_batch
            if 64 % per_step or (plan.vpp > 1 and 64 // per_step < plan.pp):
                continue
            try:
                check_plan(plan, shape, workload.cluster)
            except UsageError:
                continue
            priced = price_plan(shape, plan, workload, global_batch=64)
            if priced.memory <= limit:
                best = min(best, priced.step_time)
        assert sweep.step_time[index] == pytest.approx(best, rel=1e-9)


def test_timing_only_what_can_be_fastest_gives_what_timing_everything_gives(small) -> None:
    """To the bit, memory and counts included; a limit that some shapes exceed under every plan."""
    workload, candidates, plans = small
    limit = 0.07 * memory_limit(workload)
    sweep = sweep_plans(candidates, plans, workload, global_batch=64, memory_limit=limit)
    local = price_local(candidates.layers, plans, workload)
    unit = np.broadcast_to(np.asarray(plans.dp) * plans.micro_batch, len(plans))
    dealt = (64 % unit == 0) & ((np.asarray(plans.vpp) == 1) | (64 // unit >= plans.pp))
    too_big = 0
    for depth in np.unique(candidates.depth):
        rows, columns = np.flatnonzero(candidates.depth == depth), np.flatnonzero(dealt)
        columns = columns[can_stage(depth, plans.pp, plans.vpp)[columns]]
        pairs = Pairs(
            local=local, plans=plans, workload=workload, layer=candidates.layer[rows, None], plan=columns, depth=depth,
            global_batch=64,
        )  # fmt: skip
        steps, lean = pairs.steps(), pairs.memory()
        assert np.array_equal(lean, steps.memory)
        rules = valid_for(
            plans.take(columns), heads=[(candidates.column(h)[rows, None], candidates.column(kv)[rows, None])
                                        for h, kv in attention_heads(candidates.layers)],
            depth=depth, hidden_size=candidates.column(candidates.layers.hidden_size)[rows, None],
        )  # fmt: skip
        allowed = np.broadcast_to(
            np.logical_and.reduce(np.broadcast_arrays(*rules.values())), steps.step_time.shape
        )
        time = np.where(allowed & (steps.memory <= limit), steps.step_time, np.inf)
        too_big += int((allowed & (steps.memory > limit)).sum())
        best, found = np.argmin(time, axis=1), np.isfinite(time).any(axis=1)
        at = np.where(found, best, np.argmin(np.where(allowed, steps.memory, np.inf), axis=1))
        index = np.arange(rows.size)
        assert np.array_equal(sweep.best[rows], np.where(found, columns[best], -1))
        assert np.array_equal(sweep.step_time[rows], time[index, best])
        assert np.array_equal(sweep.memory[rows], steps.memory[index, at])
        assert np.array_equal(sweep.model_flops[rows], steps.model_flops[index, at])
        assert np.array_equal(sweep.leanest[rows][~found], columns[at][~found])
    assert sweep.rejected["memory of the fullest device"] <= too_big, (
        "uneven plans that cannot win are left out"
    )
    assert (sweep.best < 0).any()
    assert (sweep.best >= 0).any()


def test_a_hasty_search_finds_the_choice_of_a_whole_one() -> None:
    options = Options(seq_len=2048)
    one = Job(
        workload=workload_for(parse_cluster("8xh100_sxm"), options), law=load_law("chinchilla_shape"),
        budget=Budget(kind="time", value=864000.0), batch=256, centre=4e9, vocab=50304, tied=False,
        shape={"head_dim": 128}, plan={"micro_batch": 2}, reach=3.0,
    )  # fmt: skip
    whole, hasty = price_arm(one), price_arm(replace(one, hasty=True))
    best, chosen = int(np.argmin(whole.loss)), int(np.argmin(hasty.loss))
    assert whole.loss.size > 4 * np.isfinite(hasty.loss).sum() > 0
    assert whole.loss[best] == hasty.loss[chosen]
    assert whole.candidates.shape(best) == hasty.candidates.shape(chosen)
    assert whole.tokens[best] == hasty.tokens[chosen]


def test_every_pair_is_priced_or_rejected_by_a_rule(small) -> None:
    workload, candidates, plans = small
    sweep = sweep_plans(candidates, plans, workload, global_batch=64, memory_limit=memory_limit(workload))
    by_rule = sum(count for rule, count in sweep.rejected.items() if rule != "memory of the fullest device")
    assert sweep.num_priced + by_rule == sweep.num_pairs


def test_one_shape_survives_the_round_trip_through_the_table(small) -> None:
    _, candidates, _ = small
    shape = candidates.shape(3)
    again = single(shape).shape(0)
    assert again.blocks == shape.blocks
    assert again.hidden_size == shape.hidden_size


def test_the_batch_is_one_that_plans_divide() -> None:
    for devices in (1, 8, 24, 64, 72, 1024):
        cluster = parse_cluster(f"{devices}xh100_sxm")
        for wanted in (1.0, 7.0, 100.0, 999.0, 5000.0):
            batch = round_batch(wanted, cluster)
            assert batch >= 1
            assert 0.5 <= batch / max(wanted, 1.0) <= 2.0 or batch == devices


def test_a_larger_budget_buys_a_lower_loss() -> None:
    """Ten per cent more, and again, across steps of the batch and of the sequence length (1e20 FLOP): never a worse
    answer."""
    cluster = parse_cluster("2xh100_sxm")
    pins = {"tp": 1, "pp": 1, "cp": 1, "recompute": 0}
    flops = 6e19 * 1.1 ** np.arange(9)
    found = [
        rank(cluster, Budget(kind="flops", value=float(value)), Options(plan=pins, law="chinchilla_shape"))
        for value in flops
    ]
    losses = [float(ranking.loss[ranking.best]) for ranking in found]
    assert (np.diff(losses) < 0).all(), list(zip(flops, losses, strict=True))
    assert len({ranking.global_batch for ranking in found}) > 1
    assert len({ranking.workload.seq_len for ranking in found}) == 2


def test_the_grid_of_widths_is_one_whatever_is_asked_for() -> None:
    for name in ("8xh100_sxm", "laptop_8core"):
        device = parse_cluster(name).accelerator
        grid = width_grid(device, 2e4)
        assert grid == width_grid(device, 4e4)[: len(grid)]
        steps = np.array(grid[1:]) / grid[:-1]
        assert steps[np.array(grid[:-1]) >= 256].max() <= 1.25
        for low, high in ((1e7, 1e9), (3.3e8, 7e9), (1.1e9, 1e11)):
            table = lattice(device, min_params=low, max_params=high, vocab_size=50304, tied_embeddings=False)
            assert set(np.unique(table.layers.hidden_size)) <= set(width_grid(device, 1e5))


@pytest.mark.parametrize(("wanted", "answer"), [(768, 768), (1024, 768), (512, 768), (640, 768)])
def test_batches_that_lead_to_each_other_end_in_the_better_one(wanted: int, answer: int) -> None:
    """Rounds of 512, 1,024 and 768 sequences: the last one asks for itself, for the second, the first, or for another."""

    @dataclass
    class Round:
        loss: dict[str, float]
        best: str = "best"

    tried: Any = {
        batch: (Round({"best": loss}), batch) for batch, loss in ((512, 2.6), (1024, 2.51), (768, 2.5))
    }
    assert best_of_cycle(tried, wanted)[1] == answer
    tried[512] = (Round({"best": 2.4}), 512)
    assert best_of_cycle(tried, wanted)[1] == (512 if wanted == 512 else answer), (
        "the circle, not what led to it"
    )


def test_what_cannot_fit_says_why_and_what_is_nearest() -> None:
    with pytest.raises(InfeasibleError) as caught:
        rank(parse_cluster("1xh100_sxm"), Budget(kind="flops", value=1e26), Options())
    assert caught.value.exit_code == 3
    assert "memory" in caught.value.why
    assert "nearest" in caught.value.fix


@pytest.mark.parametrize("value", [0.0, -1.0, float("inf"), float("nan")])
def test_a_budget_must_be_positive_and_finite(value: float) -> None:
    with pytest.raises(UsageError, match="positive"):
        Budget(kind="time", value=value)


def test_a_processor_is_searched_in_two_formats_and_the_faster_one_wins() -> None:
    cluster = parse_cluster("laptop_8core")
    formats = [p.name for p in search_precisions(cluster, Options())]
    ranking = rank(cluster, Budget(kind="time", value=600.0), Options())
    assert [arm.workload.precision.name for arm in ranking.arms] == formats
    for arm in ranking.arms:
        alone = rank(
            cluster, Budget(kind="time", value=600.0), Options(precision=arm.workload.precision.name)
        )
        assert ranking.loss[ranking.best] <= alone.loss[alone.best]


def test_formats_on_request_are_those_that_are_faster_on_paper() -> None:
    assert [p.name for p in search_precisions(parse_cluster("1xh100_sxm"), Options())] == ["bf16"]
    assert [p.name for p in search_precisions(parse_cluster("1xh100_sxm"), Options(precision="auto"))] == [
        "bf16",
        "fp8",
    ]


@pytest.mark.parametrize("width", [32, 40, 48, 64, 96, 128, 256, 384])
def test_narrow_models_have_several_heads(width: int) -> None:
    """One head of 40 costs 1.9 % of loss against five of 8 (benchmarks/LOG.md)."""
    table = lattice(
        parse_cluster("laptop_8core").accelerator,
        min_params=1.0,
        max_params=1e12,
        vocab_size=256,
        tied_embeddings=True,
        fixed={"width": width, "depth": 4},
    )
    mixer = table.layers.blocks[0].mixer
    heads = np.ravel(mixer.heads)
    assert (heads >= (4 if width >= 64 else 2)).all()
    assert (heads * np.ravel(mixer.head_dim) == width).all()
