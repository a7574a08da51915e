"""Mean power of a cluster under one plan, from the energy of its kernels."""

from __future__ import annotations

import numpy as np

from shapewright.designs.breakdown import PricedPlan
from shapewright.errors import NotCoveredError
from shapewright.evidence import Figure
from shapewright.plan.costs import OperatorCost
from shapewright.plan.pairs import Workload
from shapewright.plan.power import cluster_power

KINDS = {"matmul": "matmul", "moe": "matmul", "attention": "attention", "scan": "memory", "memory": "memory"}
"""Which measured kind of kernel speaks for an operator's power."""


def mean_power(priced: PricedPlan, workload: Workload) -> Figure | None:
    """Mean power of the whole cluster with hosts and site [W]; None where no power limit is published.

    Kernels draw what the fitted energy model says of their FLOP, bytes and time; waiting, bubbles and
    communication draw what an idle kernel would. Neglects the energy of the network.
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
    costs = priced.local.costs
    layers = int(priced.shape.num_layers) / int(priced.plan.pp)
    micro_batches = float(np.ravel(priced.steps.num_micro_batches)[0])
    joules = busy = 0.0
    for place, times in ((costs.layer, layers), (costs.embedding, 1.0), (costs.head, 1.0)):
        for item in place.items:
            if item.family in KINDS:
                seconds, energy = _both_passes(item, workload)
                joules, busy = joules + times * micro_batches * energy, busy + times * micro_batches * seconds
    recomputed = float(np.ravel(priced.steps.recompute)[0])
    joules, busy = joules * (1 + recomputed / busy), busy + recomputed
    waiting = max(priced.step_time - busy, 0.0)
    return (joules + waiting * _idle_watts(workload)) / (busy + waiting)


def _both_passes(item: OperatorCost, workload: Workload) -> tuple[float, float]:
    """Seconds and joules of the forward and backward passes; a backward pass is two products of the same work."""
    number_format = item.number_format if item.family in ("matmul", "moe", "attention") else _usual(workload)
    forward, backward, flops, moved = (
        float(np.ravel(x)[0]) for x in (item.forward, item.backward, item.flops, item.bytes)
    )
    energy = 0.0
    for seconds, work in ((forward, 1.0), (backward, 2.0)):
        if seconds > 0:
            energy += float(
                workload.model.joules(
                    seconds=seconds,
                    flops=work * flops,
                    num_bytes=work * moved,
                    number_format=number_format,
                    kind=KINDS[item.family],
                )
            )
    return forward + backward, energy


def _idle_watts(workload: Workload) -> float:
    return float(
        workload.model.joules(
            seconds=1.0, flops=0.0, num_bytes=0.0, number_format=_usual(workload), kind="memory"
        )
    )


def _usual(workload: Workload) -> str:
    return workload.precision.other_format
