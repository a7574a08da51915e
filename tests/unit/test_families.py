"""Families beside the plain one: their tables count right, their bounds lose nothing, their engine does not matter."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest

import shapewright as sw
from shapewright.architecture.graph import num_active_params, num_params
from shapewright.errors import NotCoveredError, UnknownNameError
from shapewright.hardware.catalog import load_accelerator, parse_cluster
from shapewright.plan.rules import check_plan
from shapewright.report.explanation import explanation
from shapewright.report.html import html_report
from shapewright.report.markdown import markdown_report
from shapewright.scaling.experts import SPARSEST_RATIO
from shapewright.scaling.law import load_law
from shapewright.scaling.mixers import PRIORS
from shapewright.search.arm import BOUNDED_WINDOW, Job, price_arm, scout
from shapewright.search.budget import Budget
from shapewright.search.coverage import covered
from shapewright.search.engine import run_tasks
from shapewright.search.families import FAMILIES, families
from shapewright.search.joint import Options, rank, workload_for
from shapewright.search.lattice import lattice
from shapewright.search.learning import mixer_shares
from shapewright.search.ranking import tie_width
from shapewright.search.sweep import BOUNDED

CLUSTER = parse_cluster("8xh100_sxm")


@pytest.mark.parametrize("name", sorted(FAMILIES))
def test_a_table_of_layers_counts_what_its_shapes_count(name: str) -> None:
    family = FAMILIES[name]
    table = lattice(
        load_accelerator("h100_sxm"),
        family,
        min_params=5e8,
        max_params=8e9,
        vocab_size=50304,
        tied_embeddings=False,
    )
    assert table.layer.size > 20
    assert (table.params <= SPARSEST_RATIO * table.active_params).all()
    assert set(mixer_shares(table.layers)) <= set(PRIORS)
    for index in range(0, table.layer.size, max(table.layer.size // 5, 1)):
        shape = table.shape(index)
        assert int(shape.num_layers) == table.depth[index]
        assert num_params(shape) == pytest.approx(table.params[index], rel=1e-12)
        assert num_active_params(shape) == pytest.approx(table.active_params[index], rel=1e-12)
        assert mixer_shares(shape) == pytest.approx(mixer_shares(table.layers))


def job(name: str, *, bar: float = np.inf) -> Job:
    options = Options(seq_len=2048)
    return Job(
        workload=workload_for(CLUSTER, options), law=load_law("chinchilla_shape"),
        budget=Budget(kind="time", value=86400.0 * 10), batch=256, centre=4e9, vocab=50304, tied=False,
        shape={"depth": 24}, plan={"micro_batch": 2}, family=FAMILIES[name], bar=bar,
    )  # fmt: skip


@pytest.mark.parametrize("name", ["deltanet", "64 experts", "sliding", "xlstm"])
def test_a_bound_changes_neither_the_choice_nor_its_ties(name: str) -> None:
    """The same arm with nothing left out: a naive twin that prices every pair."""
    one = job(name)
    one = replace(one, bar=scout(one))
    bounded = price_arm(one)
    full = price_arm(replace(one, family=replace(one.family, name="dense"), bar=np.inf, reach=BOUNDED_WINDOW))
    assert bounded.sweep.rejected[BOUNDED] > 0
    assert bounded.sweep.num_pairs == full.sweep.num_pairs
    assert bounded.sweep.num_priced < full.sweep.num_priced
    best = float(full.loss.min())
    assert float(bounded.loss.min()) == best <= one.bar
    edge = best + tie_width(best, one.law)
    assert np.array_equal(np.sort(bounded.loss[bounded.loss <= edge]), np.sort(full.loss[full.loss <= edge]))


def test_the_choice_of_a_search_over_families_can_be_run() -> None:
    few = Options(family="moe", seq_len=2048, shape={"depth": 24}, plan={"micro_batch": 2})
    ranking = rank(CLUSTER, Budget(kind="time", value=86400.0 * 10), few)
    assert {arm.family for arm in ranking.arms} == {family.name for family in families("moe")}
    for index in ranking.order[:5]:
        check_plan(ranking.plan(int(index)), ranking.shape(int(index)), CLUSTER)
    by_rule = sum(n for rule, n in ranking.rejected.items() if rule != "memory of the fullest device")
    assert sum(arm.sweep.num_priced for arm in ranking.arms) + by_rule == ranking.num_pairs


def test_a_family_without_a_kernel_is_left_out_by_name_in_every_output() -> None:
    """Nobody measured a gated DeltaNet on an MI250X, and no relative lends one."""
    few = Options(
        family="hybrid", seq_len=2048, shape={"width": 2048}, plan={"micro_batch": 2, "tp": 1, "recompute": 0}
    )
    ranking = rank(parse_cluster("8xmi250x"), Budget(kind="time", value=86400.0), few)
    assert set(ranking.left_out) == {"deltanet", "mamba2", "xlstm"}, "all scans are priced by one kernel"
    assert {arm.family for arm in ranking.arms} == {f.name for f in families("hybrid")} - set(
        ranking.left_out
    )
    design = sw.design("8xmi250x", hours=24, options=few)
    texts = {
        "json": design.to_json(),
        "html": html_report(design),
        "markdown": markdown_report(design),
        "explain": json.dumps(explanation(design)),
        "notebook": design._repr_html_(),
    }
    for name, text in texts.items():
        assert "LEFT OUT of the search: deltanet; mamba2; xlstm: gdn/scan/bf16" in text, name
        assert "shapewright measure" in text, name
    with pytest.raises(NotCoveredError, match="gdn/scan"):
        rank(parse_cluster("8xmi250x"), Budget(kind="time", value=86400.0), replace(few, family="deltanet"))


def test_hardware_that_can_price_no_family_refuses() -> None:
    workload = workload_for(parse_cluster("8xmi250x"), Options())
    with pytest.raises(NotCoveredError, match="none of 2 families"):
        covered([FAMILIES["deltanet"], FAMILIES["deltanet, 128 experts"]], [workload])
    assert covered([FAMILIES["dense"]], [workload])[1] == {}


def test_several_families_are_searched_by_name() -> None:
    assert [f.name for f in families("mla, 256 experts+dense + 8 experts")] == [
        "dense",
        "8 experts",
        "mla, 256 experts",
    ]
    assert families("moe+all") == families("all")
    with pytest.raises(UnknownNameError, match="8 expertz"):
        families("dense+8 expertz")


def test_a_family_that_is_not_known_is_named() -> None:
    with pytest.raises(UnknownNameError, match="hybrid"):
        families("hybird")


def test_an_engine_that_is_not_known_is_named() -> None:
    with pytest.raises(UnknownNameError, match="local"):
        run_tasks("locl", abs, [-1])


@pytest.mark.cluster
def test_ray_gives_the_same_answer_to_the_bit() -> None:
    pytest.importorskip("ray")
    here, there = (
        rank(
            CLUSTER,
            Budget(kind="time", value=86400.0),
            Options(family="hybrid", seq_len=1024, shape={"width": 2048}, plan={"tp": 1}, engine=engine),
        )
        for engine in ("local", "ray")
    )
    assert np.array_equal(here.loss, there.loss)
    assert np.array_equal(here.step_time, there.step_time)
    assert here.shape(here.best) == there.shape(there.best)
    assert here.plan(here.best) == there.plan(there.best)
    assert here.rejected == there.rejected
