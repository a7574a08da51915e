"""Mean power of a cluster under one plan, from the energy of its kernels."""

from __future__ import annotations

from typing import Any

import numpy as np

from shapewright.designs.breakdown import PricedPlan
from shapewright.errors import NotCoveredError
from shapewright.evidence import Figure
from shapewright.plan.joules import step_joules
from shapewright.plan.pairs import LocalCosts, Pairs, Workload, price_local
from shapewright.plan.parallel import Plan
from shapewright.plan.power import cluster_power
from shapewright.plan.training import StepTable
from shapewright.search.lattice import Candidates


def mean_power(priced: PricedPlan, workload: Workload) -> Figure | None:
    """Mean power of the whole cluster with hosts and site [W]; None where no power limit is published.

    What its kernels draw follows from the fitted energy model, see ``plan.joules``.
    """
    one = np.zeros((1, 1), int)
    layers = np.asarray(int(priced.shape.num_layers) / int(priced.plan.pp))
    found = _powers(priced.local, one, one, priced.steps, layers, workload)
    return found[0] if found else None


def mean_powers(
    candidates: Candidates, plans: Plan, workload: Workload, *, global_batch: int
) -> list[Figure] | None:
    """The same of every candidate under its own plan, the plan of its row in ``plans``."""
    local = price_local(candidates.layers, plans, workload)
    pairs = Pairs(
        local=local, plans=plans, workload=workload, layer=candidates.layer, plan=np.arange(candidates.layer.size),
        depth=candidates.depth, global_batch=global_batch,
    )  # fmt: skip
    layers = candidates.depth / np.asarray(plans.pp)
    return _powers(local, candidates.layer, local.split_of_plan, pairs.steps(), layers, workload)


def _powers(
    local: LocalCosts, w: Any, p: Any, steps: StepTable, layers: Any, workload: Workload
) -> list[Figure] | None:
    accelerator = workload.cluster.accelerator
    limit = accelerator.power_cap or accelerator.tdp
    if limit is None:
        return None
    try:
        fit = workload.model.calibration.find("energy", "board")
        joules = step_joules(local.costs, w, p, steps, layers, workload.model, workload.precision)
    except NotCoveredError:
        figures = [cluster_power(workload.cluster)] * steps.step_time.size
    else:
        devices = [
            Figure(
                value=watts, unit="W", kind=fit.kind, source=f"energy of the kernels: {fit.source}",
                low=watts * fit.low, high=min(watts * fit.high, max(limit.value, watts)),
            )
            for watts in map(float, np.ravel(joules) / np.ravel(steps.step_time))
        ]  # fmt: skip
        figures = [cluster_power(workload.cluster, device) for device in devices]
    return [figure for figure in figures if figure is not None]
