"""Convolutions as long as the sequence through the Fourier transform: eager transforms and one fused kernel.

Bytes per position and channel of a transform of N points, complex numbers of ``c`` bytes::

    eager   92 + 32 (passes - 1)        single precision, every step a pass over memory: cast 6, to complex 12,
                                        transform 16 per pass, filter 16, inverse 16 per pass, scale 16, cast back 10
    fused   4 + 16 (passes outside)     half precision: input and output once; each further stage crosses the cache or
                                        memory there and back, forward and inverse
    time    launch_s + blocks / slots * block_s + elements * (bytes / (share * bandwidth) + stages * 16 / on-chip rate)

A stage is one radix of at most 32 (a matrix product). All stages of a sequence stay in one multiprocessor while its
working set (16 B per position: two buffers of complex numbers in single precision) fits the shared memory; beyond, all
but the last cross the cache, and from the length at which the sequences in flight outgrow it, memory. That is why the
advantage of fusion falls past some length. Reference: Fu et al. 2023, arXiv 2311.05908 (FlashFFTConv).

Decisions: four shares are fitted on four lengths of the published H100 table (256, 4 K, 32 K, 1 M); the other five are
its test.
Neglected: gates fused into the kernel, and sparse filters.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

from shapewright.cost.device import Device
from shapewright.cost.recurrence import BYTES_PER_CLOCK, CACHE_RATE
from shapewright.hardware.accelerator import Accelerator
from shapewright.hardware.calibration import Fit

RADIX = 32.0
WORKING_SET = 16.0
"""Bytes of shared memory per position while all stages stay inside."""
EAGER_SET = 8.0
"""The same of an eager transform in single precision."""
EAGER_SHARE, FUSED_SHARE, CHIP_SHARE, BLOCK_S = 0.632, 0.438, 0.367, 9.43e-8
"""Shares of the bandwidths that eager transforms, the fused kernel's memory and its on-chip traffic reach, and the time
to set one sequence of one channel up on a multiprocessor [s]; fitted on FlashFFTConv's table of the H100
(HazyResearch/flash-fft-conv@b877102, 64 x 768 channels) at lengths 256, 4 K, 32 K and 1 M."""
LAUNCH_S = 5e-6
BACKWARD = 2.0
"""Gradient over forward: the same two transforms for the input and two for the filter, sharing one."""
EVIDENCE = Fit(
    family="scan", number_format="fourier", kind="fitted", num_rows=8, num_held_out=10,
    coefficients={"eager": EAGER_SHARE, "fused": FUSED_SHARE, "chip": CHIP_SHARE, "block_s": BLOCK_S},
    source="FlashFFTConv and PyTorch on H100, four of nine published lengths (HazyResearch/flash-fft-conv@b877102)",
    low=0.8, high=1.3,
)  # fmt: skip


def stages(length: ArrayLike) -> NDArray[np.float64]:
    """Radices of at most 32 whose product is the length."""
    return np.maximum(np.ceil(np.log2(np.asarray(length, np.float64)) / np.log2(RADIX) - 1e-9), 1.0)


def shared_memory(accelerator: Accelerator) -> float:
    """Shared memory of one multiprocessor [B]; 100 KiB where none is published (the least of Ampere to Blackwell)."""
    figure = accelerator.shared_memory_per_sm
    return 100.0 * 1024.0 if figure is None else figure.value


def fused_time(
    device: Device, accelerator: Accelerator, *, sequences: ArrayLike, length: ArrayLike
) -> NDArray[np.float64]:
    """Seconds of ``sequences`` (sequences times channels) convolutions of ``length`` points in one fused kernel."""
    n, t = np.asarray(sequences, np.float64), np.asarray(length, np.float64)
    inside = WORKING_SET * t <= shared_memory(accelerator)
    # One sequence per slot is in flight; its half-precision complex numbers wait in the cache between two stages.
    cached = 4.0 * t * device.slots <= device.cache
    outside = np.where(inside, 0.0, stages(t) - 1.0)
    traffic = 4.0 + 16.0 * outside / np.where(cached, CACHE_RATE, 1.0)
    chip = (
        np.where(inside, stages(t), 1.0) * 16.0 / (CHIP_SHARE * device.slots * BYTES_PER_CLOCK * device.clock)
    )
    each = traffic / (FUSED_SHARE * device.bandwidth) + chip
    return LAUNCH_S + n / device.slots * BLOCK_S + n * t * each


def eager_time(
    device: Device, accelerator: Accelerator, *, sequences: ArrayLike, length: ArrayLike
) -> NDArray[np.float64]:
    """Seconds of the same by eager transforms in single precision."""
    n, t = np.asarray(sequences, np.float64), np.asarray(length, np.float64)
    passes = np.where(EAGER_SET * t <= shared_memory(accelerator), 1.0, 2.0)
    return 8 * LAUNCH_S + n * t * (92.0 + 32.0 * (passes - 1.0)) / (EAGER_SHARE * device.bandwidth)
