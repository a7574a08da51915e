"""Energy of a device over one step, for a table of (shape, plan) pairs.

Kernels draw what the fitted energy model says of their FLOP, bytes and time; waiting, bubbles and communication draw what an
idle kernel would. A backward pass is two products of the same work. Neglects the energy of the network.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from shapewright.cost.price import CostModel
from shapewright.plan.costs import ModelCost, OperatorCost, PlaceCost
from shapewright.plan.precision import Precision
from shapewright.plan.training import StepTable

Array = NDArray[Any]

KINDS = {"matmul": "matmul", "moe": "matmul", "attention": "attention", "scan": "memory", "memory": "memory"}
"""Which measured kind of kernel speaks for an operator's power."""


def step_joules(
    costs: ModelCost, w: Any, p: Any, steps: StepTable, layers: Array, model: CostModel, precision: Precision
) -> Array:
    """Joules of one device and step.

    Args:
        costs: layer costs on a grid, indexed by ``w`` and ``p``.
        steps: the steps of the pairs.
        layers: layers of a stage, on average over the stages.
        model, precision: price the energy.

    Raises:
        NotCoveredError: no power was fitted here or on a relative.
    """
    micro_batches = steps.num_micro_batches
    joules, busy = np.zeros(np.shape(steps.step_time)), np.zeros(np.shape(steps.step_time))
    for place, times in ((costs.layer, layers), (costs.embedding, 1.0), (costs.head, 1.0)):
        seconds, energy = _both_passes(place, model, precision)
        busy = busy + times * micro_batches * seconds[w, p]
        joules = joules + times * micro_batches * energy[w, p]
    joules, busy = joules * (1 + steps.recompute / busy), busy + steps.recompute
    idle = model.joules(
        seconds=1.0, flops=0.0, num_bytes=0.0, number_format=precision.other_format, kind="memory"
    )
    return joules + np.maximum(steps.step_time - busy, 0.0) * float(idle)


def _both_passes(place: PlaceCost, model: CostModel, precision: Precision) -> tuple[Array, Array]:
    """Seconds and joules of the forward and backward passes of a place's kernels."""
    seconds, energy = np.zeros(np.shape(place.forward)), np.zeros(np.shape(place.forward))
    for item in place.items:
        if item.family in KINDS:
            seconds = seconds + item.forward + item.backward
            energy = energy + _energy(item, model, precision)
    return seconds, energy


def _energy(item: OperatorCost, model: CostModel, precision: Precision) -> Array:
    own = item.family in ("matmul", "moe", "attention")
    total = np.zeros(np.shape(item.forward))
    for seconds, work in ((item.forward, 1.0), (item.backward, 2.0)):
        spent = model.joules(
            seconds=np.maximum(seconds, 1e-12),
            flops=work * item.flops,
            num_bytes=work * item.bytes,
            number_format=item.number_format if own else precision.other_format,
            kind=KINDS[item.family],
        )
        total = total + np.where(seconds > 0, spent, 0.0)
    return total
