"""What layers cost, as records: one operator, one place of the model, the whole model; and what they are priced under."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from shapewright.architecture.operator import Size
from shapewright.cost.price import CostModel
from shapewright.hardware.cluster import Cluster
from shapewright.plan.framework import Framework
from shapewright.plan.precision import Precision
from shapewright.plan.shard import Split

Array = NDArray[Any]


@dataclass(frozen=True, kw_only=True, slots=True)
class OperatorCost:
    """One operator on one device and micro-batch, per average layer [s]."""

    name: str
    cause: str
    """``compute``, ``memory``, ``communication`` or ``launch``."""
    forward: Array
    backward: Array
    flops: Array
    """Forward FLOP."""
    bytes: Array
    """Forward bytes of device memory, at least."""
    family: str
    number_format: str
    m_n_k: tuple[Array, Array, Array] | None = None
    """Dimensions of a product as priced."""
    weight: Array | float = 0.0
    """The part of ``backward`` that makes the weight's gradient, which nothing waits for before the optimizer [s]."""


@dataclass(frozen=True, kw_only=True, slots=True)
class PlaceCost:
    """The costs of one place (average layer, embedding or head), summed for sweeps, itemised for reports."""

    items: tuple[OperatorCost, ...]
    forward: Array
    """[s]"""
    backward: Array
    """[s]"""
    weight: Array
    """The part of backward that makes weights' gradients [s]."""
    communication_forward: Array
    communication_backward: Array
    """The parts of forward and backward that wait for collectives [s]."""
    pointwise_forward: Array
    """The part of forward that selective recompute repeats [s]."""
    alternate_forward: Array
    """The part of forward that recompute of every second product repeats [s]."""
    params_split: Array
    """Parameters per device that data parallelism over dp copies."""
    params_expert: Array
    """Parameters of experts per device, copied over fewer devices."""
    saved: Array
    """Bytes kept for the backward pass without recompute."""
    saved_selective: Array
    """The same under selective recompute."""
    saved_alternate: Array
    """The same under recompute of every second product."""
    input_bytes: Array
    """Bytes of the layer's input: all that full recompute keeps."""


@dataclass(frozen=True, kw_only=True, slots=True)
class ModelCost:
    """One micro-batch of the whole model, by place."""

    layer: PlaceCost
    embedding: PlaceCost
    head: PlaceCost
    flops: Array
    """Forward FLOP of the whole model and micro-batch over all devices, per average layer."""
    head_flops: Array
    """The same of the head."""

    @property
    def has_experts(self) -> bool:
        """Whether a layer of the table has experts."""
        return bool(np.any(self.layer.params_expert))


@dataclass(frozen=True, kw_only=True, slots=True)
class Context:
    split: Split
    tokens: Size
    width: Size
    precision: Precision
    framework: Framework
    model: CostModel
    cluster: Cluster
    grid: tuple[int, ...]
    frozen: bool

    def full(self, value: Any) -> Array:
        array = np.asarray(value, float)
        if array.shape == self.grid:
            return array
        # One pair: a new array is quicker than a view.
        return (
            np.full(self.grid, array.item())
            if array.size == np.prod(self.grid)
            else np.broadcast_to(array, self.grid)
        )


def weighted(item: OperatorCost, weight: Array) -> OperatorCost:
    return replace(
        item,
        forward=item.forward * weight,
        backward=item.backward * weight,
        flops=item.flops * weight,
        bytes=item.bytes * weight,
        weight=item.weight * weight,
    )
