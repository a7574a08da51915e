"""Mean power of a cluster under one plan, from the energy of its kernels."""

from __future__ import annotations

import numpy as np

from shapewright.designs.breakdown import PricedPlan
from shapewright.errors import NotCoveredError
from shapewright.evidence import Figure
from shapewright.plan.joules import step_joules
from shapewright.plan.pairs import Workload
from shapewright.plan.power import cluster_power


def mean_power(priced: PricedPlan, workload: Workload) -> Figure | None:
    """Mean power of the whole cluster with hosts and site [W]; None where no power limit is published.

    What its kernels draw follows from the fitted energy model, see ``plan.joules``.
    """
    accelerator = workload.cluster.accelerator
    limit = accelerator.power_cap or accelerator.tdp
    if limit is None:
        return None
    try:
        fit = workload.model.calibration.find("energy", "board")
        watts = _device_watts(priced, workload)
    except NotCoveredError:
        return cluster_power(workload.cluster)
    device = Figure(
        value=watts,
        unit="W",
        kind=fit.kind,
        source=f"energy of the kernels: {fit.source}",
        low=watts * fit.low,
        high=min(watts * fit.high, max(limit.value, watts)),
    )
    return cluster_power(workload.cluster, device)


def _device_watts(priced: PricedPlan, workload: Workload) -> float:
    layers = np.asarray(int(priced.shape.num_layers) / int(priced.plan.pp))
    joules = step_joules(
        priced.local.costs,
        np.zeros((1, 1), int),
        np.zeros((1, 1), int),
        priced.steps,
        layers,
        workload.model,
        workload.precision,
    )
    return float(np.ravel(joules)[0]) / priced.step_time
