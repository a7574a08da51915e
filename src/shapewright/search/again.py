"""Some candidates of a ranking once more, on other hardware or with another budget.

Decisions: what a change buys is judged on the candidates that tie with the choice, each with its fastest plan under the
changed hardware; the batch stays, so that losses compare. Shapes far from the choice are not laid out again: ten per
cent more of one resource moves the best size by less than the family spans.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from shapewright.cost.price import cost_model
from shapewright.errors import NotCoveredError
from shapewright.hardware.accelerator import Accelerator
from shapewright.hardware.cluster import Cluster
from shapewright.plan.table import enumerate_plans
from shapewright.search.arm import Job, learn, memory_limit
from shapewright.search.budget import Budget
from shapewright.search.families import FAMILIES
from shapewright.search.ranking import Arm, Ranking
from shapewright.search.sweep import sweep_plans

Array = NDArray[Any]


@dataclass(frozen=True, kw_only=True, slots=True)
class Again:
    """The candidates under the change."""

    loss: Array
    """Predicted loss; inf where no plan fits."""
    step_time: Array
    """[s]"""
    tokens: Array
    """Tokens that the budget buys."""


def representatives(ranking: Ranking, count: int) -> list[int]:
    """The choice and, of the candidates that tie with it, the best of each family, width and depth, spread over sizes."""
    width = ranking.joined(lambda arm: arm.candidates.column(arm.candidates.layers.hidden_size))
    depth = ranking.joined(lambda arm: arm.candidates.depth)
    best: dict[tuple[int, int, int], int] = {}
    for index in ranking.order[ranking.ties[ranking.order]]:
        best.setdefault((ranking.number_of_arm(int(index)), int(width[index]), int(depth[index])), int(index))
    others = sorted((i for i in best.values() if i != ranking.best), key=lambda i: ranking.active_params[i])
    if len(others) >= count:
        others = [others[i] for i in np.linspace(0, len(others) - 1, count - 1).round().astype(int)]
    return [ranking.best, *dict.fromkeys(others)]


def once_more(
    ranking: Ranking, indices: Sequence[int], cluster: Cluster, budget: Budget, pins: Mapping[str, int]
) -> Again:
    """Price and predict the candidates on ``cluster`` with ``budget``; ``pins`` fix axes of the plan.

    Raises:
        NotCoveredError: the changed hardware cannot be priced.
    """
    columns = np.empty((3, len(indices)))
    arms = np.array([ranking.number_of_arm(index) for index in indices])
    for number in dict.fromkeys(arms.tolist()):
        arm, mine = ranking.arms[number], np.flatnonzero(arms == number)
        rows = np.array([ranking.place(indices[int(place)])[1] for place in mine])
        found = _priced(ranking, arm, rows, cluster, budget, pins)
        columns[:, mine] = found.loss, found.sweep.step_time, found.tokens
    return Again(loss=columns[0], step_time=columns[1], tokens=columns[2])


def _priced(
    ranking: Ranking, arm: Arm, rows: Array, cluster: Cluster, budget: Budget, pins: Mapping[str, int]
) -> Arm:
    """Some candidates of an arm under the change."""
    candidates = arm.candidates.compact(rows)
    job = Job(
        workload=arm.workload, law=ranking.law, budget=budget, batch=ranking.global_batch, centre=1.0,
        vocab=int(candidates.layers.vocab_size), tied=candidates.layers.tied_embeddings, shape={}, plan={},
        family=FAMILIES[arm.family], unique_tokens=ranking.unique_tokens,
    )  # fmt: skip
    if cluster is arm.workload.cluster:
        # Another budget runs the same steps.
        return learn(job, candidates, arm.sweep.take(rows))
    level = "physics" if arm.workload.model.measured is None else "residual"
    workload = replace(arm.workload, cluster=cluster, model=cost_model(cluster.accelerator, level))
    plans = enumerate_plans(
        cluster, seq_len=workload.seq_len, experts=FAMILIES[arm.family].experts, fixed=dict(pins)
    )
    sweep = sweep_plans(
        candidates, plans, workload, global_batch=ranking.global_batch, memory_limit=memory_limit(workload)
    )
    return learn(replace(job, workload=workload), candidates, sweep)


def scaled(cluster: Cluster, what: str, factor: float) -> Cluster:
    """The cluster with ``factor`` times the memory ``bandwidth``, the ``memory`` or the ``power`` limit of its devices, or
    their ``network``.

    Raises:
        NotCoveredError: the power limit is unknown.
    """
    if what == "network":
        tiers = tuple(
            replace(
                tier,
                bandwidth=replace(tier.bandwidth, value=tier.bandwidth.value * factor),
                point_to_point=tier.point_to_point
                and replace(tier.point_to_point, value=tier.point_to_point.value * factor),
            )
            for tier in cluster.tiers
        )
        return replace(cluster, tiers=tiers)
    device = cluster.accelerator
    if what == "power":
        limit = device.power_cap or device.tdp
        if limit is None:
            raise NotCoveredError(
                f"the power limit of {device.name} is unknown",
                "more of it cannot be priced",
                "state it: --set tdp=700W",
            )
        cap = replace(limit, value=limit.value * factor)
        return replace(cluster, accelerator=replace(device, power_cap=cap))
    name = {"bandwidth": "memory_bandwidth", "memory": "memory_capacity"}[what]
    figure = getattr(device, name)
    return replace(
        cluster, accelerator=replace(device, **{name: replace(figure, value=figure.value * factor)})
    )


def next_generation(
    device: Accelerator, known: Sequence[Accelerator], number_format: str
) -> Accelerator | None:
    """The earliest later device of the same maker and kind that multiplies at least 1.3 times as fast; None for none."""
    released = device.release_year
    if released is None or number_format not in device.peak_flops:
        return None
    later = [
        other
        for other in known
        if other.vendor == device.vendor
        and other.device_class == device.device_class
        and other.release_year is not None
        and other.release_year > released
        and number_format in other.peak_flops
        and other.memory_bandwidth is not None
        and other.memory_capacity is not None
        and other.peak(number_format) >= 1.3 * device.peak(number_format)
    ]
    return min(later, key=lambda other: (other.release_year, -other.peak(number_format)), default=None)
