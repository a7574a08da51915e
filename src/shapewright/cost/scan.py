"""Recurrent mixers: chunked scans (gated DeltaNet, KDA, Mamba-2), their decode step, and the short convolution.

The scan has a span that no parallelism shortens: the chunks of a sequence are computed one after the other::

    span    (ceil(T / chunk) * chunk_s + wave_s) * waves,   waves = ceil(sequences * heads / slots)
            + chunks of all heads / slots * work_s + chunks of all key heads / slots * key_s
    memory  bytes of q, k, v, output and states over memory * bandwidth
    time    launch_s + join-norm(span, memory)

``waves`` steps exactly at the number of multiprocessors: each runs one head of one sequence. Kernels that scan in two
passes (states first, then all chunks at once) hide part of the span: ``whole_waves`` below 1 and ``parallel`` above 0.
Decode reads and writes the state once. Reference: Yang et al. 2024, arXiv 2412.06464; the span model's check is in
the reference tests (132 slots on H100, 148 on B200).
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from numpy.typing import ArrayLike, NDArray

from shapewright.cost.coefficient import Coefficient
from shapewright.cost.device import Device

_C = Coefficient
SCAN: tuple[Coefficient, ...] = (
    _C(
        name="launch_s",
        start=1.2e-5,
        low=1e-6,
        high=3e-4,
        unit="s",
        meaning="start of the kernels of the scan",
    ),
    _C(name="chunk_s", start=3e-6, low=1e-7, high=5e-5, unit="s", meaning="one chunk of one head"),
    _C(
        name="wave_s",
        start=6e-6,
        low=1e-9,
        high=1e-4,
        unit="s",
        meaning="load and store of the states, per wave",
    ),
    _C(
        name="work_s",
        start=1e-7,
        low=1e-10,
        high=2e-5,
        unit="s",
        meaning="one chunk where all chunks run at once",
    ),
    _C(
        name="key_s",
        start=1e-8,
        low=1e-11,
        high=2e-5,
        unit="s",
        meaning="the same for one head of queries and keys",
    ),
    _C(
        name="passes",
        start=0.5,
        low=0.001,
        high=16.0,
        unit="1",
        meaning="times the states and factors of all chunks pass through memory",
    ),
    _C(
        name="cache_share",
        start=0.5,
        low=0.02,
        high=1.5,
        unit="1",
        meaning="cache that holds them between two kernels",
    ),
    _C(name="whole", start=0.5, low=0.01, high=1.0, unit="1", meaning="1: a begun chunk costs a full one"),
    _C(name="memory", start=0.6, low=0.02, high=1.0, unit="1", meaning="bandwidth over the peak"),
    _C(
        name="join", start=3.0, low=1.0, high=8.0, unit="1", meaning="norm that joins span and memory: 1 adds"
    ),
)
STREAM: tuple[Coefficient, ...] = (
    _C(name="launch_s", start=3e-6, low=3e-7, high=1e-3, unit="s", meaning="start of the kernel"),
    _C(
        name="sequence_s",
        start=1e-9,
        low=1e-12,
        high=1e-5,
        unit="s",
        meaning="one sequence, where they queue",
    ),
    _C(
        name="queue_s",
        start=1e-10,
        low=1e-12,
        high=1e-5,
        unit="s",
        meaning="one block of one sequence, where they queue",
    ),
    _C(name="token_s", start=1e-11, low=1e-14, high=1e-7, unit="s", meaning="one token, whatever its width"),
    _C(
        name="chain_s",
        start=1e-8,
        low=1e-12,
        high=1e-6,
        unit="s",
        meaning="one token after the other in a block",
    ),
    _C(
        name="share",
        start=1.0,
        low=0.01,
        high=1.0,
        unit="1",
        meaning="width that was timed over the one the table states",
    ),
    _C(name="memory", start=0.7, low=0.01, high=1.0, unit="1", meaning="bandwidth over the peak"),
    _C(name="ramp_s", start=1e-6, low=1e-9, high=2e-5, unit="s", meaning="least time of the stream"),
    _C(
        name="unit_s", start=1e-7, low=1e-10, high=5e-5, unit="s", meaning="one sequence and head on its slot"
    ),
    _C(
        name="cache_share", start=0.6, low=0.05, high=1.5, unit="1", meaning="cache that holds repeated reads"
    ),
    _C(name="cache_speed", start=1.5, low=1.0, high=12.0, unit="1", meaning="cached over cold bandwidth"),
)
CHUNK = 64.0
"""Tokens of one chunk in the measured kernels (flash-linear-attention, FlashInfer)."""
BLOCK_TOKENS = 8.0
"""Tokens that a block of a convolution walks over; seen in the tables, longer sequences take more blocks."""


def scan_time(
    c: Mapping[str, float],
    device: Device,
    *,
    sequences: ArrayLike,
    length: ArrayLike,
    heads: ArrayLike,
    key_dim: ArrayLike,
    value_dim: ArrayLike,
    key_heads: ArrayLike | None = None,
) -> NDArray[np.float64]:
    """Seconds of a chunked scan over ``length`` tokens; ``heads`` are the value heads, which hold the states.

    ``key_heads`` are the heads of queries and keys where several value heads share one; None for as many.
    """
    b, t, h, dk, dv = (np.asarray(x, np.float64) for x in (sequences, length, heads, key_dim, value_dim))
    g = h if key_heads is None else np.asarray(key_heads, np.float64)
    chunks = np.ceil(t / CHUNK)
    waves = np.ceil(b * h / device.slots)
    # Calibrations of one's own device may lack some coefficients.
    whole = c.get("whole", 1.0)
    pieces = whole * chunks + (1.0 - whole) * t / CHUNK
    work = b * pieces / device.slots * (h * c["work_s"] + g * c.get("key_s", 0.0))
    span = (chunks * c["chunk_s"] + c["wave_s"]) * waves + work
    moved = b * t * (2.0 * g * dk + 2.0 * h * dv) * 2.0 + b * h * dk * dv * 8.0
    # Two-pass kernels leave the states and the factors of every chunk in memory, or in the cache where they fit.
    between = b * h * (chunks * dk * dv + t * (dk + dv)) * 2.0
    if device.cache > 0:
        between /= 1.0 + (c.get("cache_share", 1.0) * device.cache / np.maximum(between, 1.0)) ** 4
    moved = moved + c.get("passes", 0.0) * between
    memory = moved / (c["memory"] * device.bandwidth)
    top = np.maximum(span, memory)
    return c["launch_s"] + top * (1.0 + (np.minimum(span, memory) / top) ** c["join"]) ** (1.0 / c["join"])


def stream_time(
    c: Mapping[str, float], device: Device, *, num_bytes: ArrayLike, units: ArrayLike, sequences: ArrayLike,
    length: ArrayLike, repeated: bool = False,
) -> NDArray[np.float64]:  # fmt: skip
    """Seconds of a decode step or a short convolution: ``num_bytes`` moved by ``units`` independent blocks.

    ``sequences`` of ``length`` tokens each: some kernels take one sequence after the other, or as long for every token
    whatever its width.
    """
    size, units = np.asarray(num_bytes, np.float64) * c["share"], np.asarray(units, np.float64)
    if repeated and device.cache > 0:
        held = 1.0 / (1.0 + (size / (c["cache_share"] * device.cache)) ** 4)
        size = size * (1.0 - held + held / c["cache_speed"])
    b, t = np.asarray(sequences, np.float64), np.asarray(length, np.float64)
    stream = size / (c["memory"] * device.bandwidth)
    queue = np.maximum(b * c["sequence_s"] + units * c["queue_s"], b * t * c["token_s"])
    work = (stream**4 + c["ramp_s"] ** 4 + queue**4) ** 0.25
    start = c["launch_s"] + np.minimum(t, BLOCK_TOKENS) * c["chain_s"]
    return start + work + np.maximum(units / device.slots, 1.0) * c["unit_s"]
