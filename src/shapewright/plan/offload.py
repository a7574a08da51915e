"""What lives in the host's memory, and what waiting for it costs.

Optimizer state on the host (ZeRO-Offload, Ren et al. 2021, arXiv 2101.06840): gradients go out, the host steps, weights come
back; taken to overlap with nothing. Activations on the host: what a layer keeps goes out behind its forward pass and comes
back behind its backward pass; a layer waits for what outlasts it. Neglected: contention of devices of one host beyond
their share of its memory.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from shapewright.plan.parallel import Plan
from shapewright.plan.precision import Precision

Array = NDArray[Any]

HOST_LINK = 25e9
"""Bytes per second and direction between a device and its host. Kind: assumed; 16 lanes of PCIe 4 reach 25 of 32 GB/s,
PCIe 5 twice that, NVLink-C2C far more."""
HOST_MEMORY = 30e9
"""Share of the host's memory bandwidth of one device [B/s]. Kind: assumed: two sockets of eight DDR5 channels reach about
500 GB/s, of which an optimizer written for it gets half, shared by eight devices."""


def optimizer_wait(params: Array, precision: Precision, traffic: float) -> Array:
    """Seconds of a step for ``params`` parameters on the host: gradients out, the step, weights back."""
    moved = precision.gradient_bytes + precision.weight_bytes
    return np.asarray(params) * (moved / HOST_LINK + traffic / HOST_MEMORY)


def activation_wait(kept: Array, forward: Array, plan: Plan) -> Array:
    """Seconds that one layer's pass waits for its activations to cross to the host or back."""
    if not np.any(np.asarray(plan.offload) == 2):
        return np.zeros(1)
    wait = np.maximum(kept / HOST_LINK - forward, 0.0)
    return np.where(np.asarray(plan.offload) == 2, wait, 0.0)
