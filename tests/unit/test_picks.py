"""The family of the choice: its picks, what more of a resource buys, and what serving rules out."""

from __future__ import annotations

import numpy as np
import pytest

from shapewright.designs.picks import elasticities, picks, tie_family
from shapewright.errors import InfeasibleError
from shapewright.hardware.catalog import accelerator_names, load_accelerator, parse_cluster
from shapewright.search.again import next_generation, once_more, representatives, scaled
from shapewright.search.budget import Budget
from shapewright.search.joint import Options, rank
from shapewright.search.serve import ServingLimits, decode, within

CLUSTER = parse_cluster("8xh100_sxm")
BUDGET = Budget(kind="time", value=86400.0 * 5)
FEW = Options(seq_len=2048, shape={"depth": 24, "ffn_size": 8192}, plan={"tp": 1})


@pytest.fixture(scope="module")
def ranking():
    return rank(CLUSTER, BUDGET, FEW)


def test_the_same_hardware_and_budget_give_the_same_losses(ranking):
    members = representatives(ranking, 5)
    assert members[0] == ranking.best
    assert ranking.ties[members].all()
    there = once_more(ranking, members, CLUSTER, BUDGET, FEW.plan)
    assert there.loss == pytest.approx(ranking.loss[members], rel=1e-9)
    assert there.step_time == pytest.approx(ranking.step_time[members], rel=1e-9)


def test_picks_are_members_of_the_family(ranking):
    edge = ranking.loss[ranking.best] + ranking.tie_width
    found = {pick.name: pick for pick in picks(ranking, BUDGET, FEW.plan)}
    assert {"lowest loss", "cheapest", "least energy", "fastest to serve"} <= set(found)
    assert any(name.startswith("most robust") for name in found)
    assert all(pick.loss <= edge for pick in found.values())
    assert found["lowest loss"].loss == float(ranking.loss[ranking.best])
    family = tie_family(ranking)
    assert family.count == ranking.ties.sum()
    assert family.depth == (24, 24)


def test_more_of_a_resource_never_hurts(ranking):
    found = {row.resource: row for row in elasticities(ranking, BUDGET, FEW.plan)}
    assert {"budget", "memory bandwidth", "memory", "network", "power"} == set(found)
    assert all(row.loss_change is None or row.loss_change <= 0 for row in found.values())
    assert found["budget"].tokens_change == pytest.approx(0.1)
    assert found["budget"].loss_change < found["memory bandwidth"].loss_change <= 0
    # Large products run at the limit of the board; the clock rises with less than its power.
    assert 0 < found["power"].tokens_change < 1.125 ** (1 / 2.4) - 1


def test_more_power_is_priced_where_a_cap_holds_it_back():
    capped = parse_cluster("8xh100_sxm", ["power_cap=400W"])
    power = elasticities(rank(capped, BUDGET, FEW), BUDGET, FEW.plan)[-1]
    assert power.resource == "power"
    assert power.loss_change < 0 < power.tokens_change
    assert scaled(capped, "power", 2.0).accelerator.power_cap.value == 800.0


def test_scaling_changes_one_resource_only():
    faster = scaled(CLUSTER, "network", 1.1)
    assert faster.accelerator == CLUSTER.accelerator
    assert faster.tiers[0].bandwidth.value == pytest.approx(1.1 * CLUSTER.tiers[0].bandwidth.value)
    assert scaled(CLUSTER, "memory", 2.0).accelerator.memory_capacity.value == pytest.approx(
        2 * CLUSTER.accelerator.memory_capacity.value
    )


def test_the_next_generation_is_later_and_faster():
    known = [load_accelerator(name) for name in accelerator_names()]
    now = CLUSTER.accelerator
    later = next_generation(now, known, "bf16")
    assert later is not None
    assert later.release_year > now.release_year
    assert later.peak("bf16") >= 1.3 * now.peak("bf16")
    newest = max(known, key=lambda device: device.release_year or 0.0)
    assert next_generation(newest, known, "bf16") is None


def test_a_limit_on_serving_gives_the_best_design_that_keeps_it(ranking):
    seconds = np.array([decode(ranking.shape(int(i)), ranking.workload)[0] for i in ranking.order])
    limit = float(np.quantile(seconds, 0.1))
    limited = within(ranking, ServingLimits(tpot=limit))
    first = int(ranking.order[np.flatnonzero(seconds <= limit)[0]])
    assert limited.best == first
    assert ranking.loss[first] >= ranking.loss[ranking.best]
    assert sum(limited.refused.values()) > 0
    assert all(
        decode(limited.shape(int(i)), limited.workload)[0] <= limit for i in np.flatnonzero(limited.ties)
    )


def test_a_limit_that_nothing_keeps_is_infeasible(ranking):
    with pytest.raises(InfeasibleError, match="none of") as caught:
        within(ranking, ServingLimits(tpot=1e-6))
    assert "per token" in caught.value.fix
