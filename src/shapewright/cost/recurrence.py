"""Recurrences that wait for a product at every token (LSTM, sLSTM).

A step multiplies a thin matrix of last outputs with the recurrent weights and then needs all of its result::

    step = sync_s + max(weights / rate, FLOP / (MATRIX * peak))        time = launch_s + tokens * step

``rate`` is where the weights stay between two steps: the on-chip memory of all slots where they fit (persistent
kernels: Diamos et al. 2016; Pöppel et al. 2025, arXiv 2412.07752), else the last cache, else device memory. ``sync_s``
is the barrier over all slots with the exchange of the outputs through the cache. Blocks of a block-diagonal matrix
(sLSTM) still meet at that barrier unless each fits one slot; then a step costs ``LOCAL_S``.

Decisions: no public table of measured recurrences covers today's devices, so the constants are assumed inside known
bounds and the interval says so. Neglected: the time to load the weights once.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

from shapewright.cost.device import Device
from shapewright.hardware.accelerator import Accelerator
from shapewright.hardware.calibration import Fit

SYNC_S = 2.2e-6
"""Barrier over a GPU and exchange of the outputs: between 1 us (a cooperative grid barrier) and 5 us (two kernel
launches inside a captured graph); assumed, their geometric mean [s]."""
LOCAL_S = 0.5e-6
"""Step of a recurrence that stays inside one multiprocessor: two block barriers and a thin product; assumed [s]."""
LAUNCH_S = 5e-6
MATRIX = 0.25
"""Share of the matrix peak that products of few rows reach from on-chip memory; assumed."""
HELD = 0.7
"""Share of shared memory and registers that can hold weights; assumed."""
BYTES_PER_CLOCK = 128.0
"""Shared-memory bandwidth of one multiprocessor (CUDA C++ Programming Guide: 32 banks of 4 bytes) [B/clock]."""
CACHE_RATE = 2.0
"""Bandwidth of the last cache over device memory (1.6 to 2.5 on A100 and H100); assumed."""
BACKWARD = 2.0
"""Gradient over forward: the same chain with two products per step, overlapped in part."""
EVIDENCE = Fit(
    family="scan", number_format="lstm", coefficients={"sync_s": SYNC_S}, kind="assumed",
    source="barrier of 1 to 5 us per token, weights from where they fit; no measured table", low=0.45, high=2.3,
)  # fmt: skip

DECLARED = Fit(
    family="scan", number_format="declared", coefficients={}, kind="assumed",
    source="a primitive by its declared numbers", low=0.5, high=2.0,
)  # fmt: skip
"""What a primitive that somebody declares rests on."""


def step_time(
    device: Device, accelerator: Accelerator, *, batch: ArrayLike, units: ArrayLike, gates: ArrayLike,
    heads: ArrayLike, weight_bytes: float = 2.0,
) -> NDArray[np.float64]:  # fmt: skip
    """Seconds of one token of all sequences; sizes broadcast."""
    b, u, g, h = (np.asarray(x, np.float64) for x in (batch, units, gates, heads))
    weights = g * u * u / h * weight_bytes
    on_chip = _on_chip(accelerator, device)
    rate = np.where(
        weights <= on_chip,
        device.slots * BYTES_PER_CLOCK * device.clock,
        np.where(weights <= device.cache, CACHE_RATE, 1.0) * device.bandwidth,
    )
    local = (h > 1) & (g * (u / h) ** 2 * weight_bytes <= on_chip / device.slots)
    # Heads that stay on one slot each queue where there are more of them than slots.
    queue = np.where(local, np.ceil(np.maximum(h, 1.0) / device.slots), 1.0)
    work = np.maximum(weights / rate, 2.0 * b * g * u * u / h / (MATRIX * device.peak))
    return np.where(local, LOCAL_S, SYNC_S) * queue + work


def recurrence_time(
    device: Device, accelerator: Accelerator, *, batch: ArrayLike, steps: ArrayLike, units: ArrayLike,
    gates: ArrayLike, heads: ArrayLike,
) -> NDArray[np.float64]:  # fmt: skip
    """Seconds of ``steps`` tokens, forward."""
    step = step_time(device, accelerator, batch=batch, units=units, gates=gates, heads=heads)
    return LAUNCH_S + np.asarray(steps, np.float64) * step


def _on_chip(accelerator: Accelerator, device: Device) -> float:
    held = [
        x.value for x in (accelerator.shared_memory_per_sm, accelerator.register_file_per_sm) if x is not None
    ]
    return HELD * device.slots * sum(held)
