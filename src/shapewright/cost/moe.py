"""Mixture-of-experts layers: grouped products of the routed rows, gate, up and down in one fused operator.

With R rows spread over the touched experts, for the tile height bm that is fastest::

    rows      padded = touched * ceil(R/touched/bm) * bm * skew
    compute   2 * matrices * padded * inter * hidden FLOP at mma * peak * bm/(bm + half_rows), in waves over the slots
    memory    touched experts' weights, R rows in and out (``row_passes`` times)
    time      launch_s + 4-norm(compute, memory) + route_s * rows routed

Rows, touched experts and tiles are those of the fullest rank, as :mod:`shapewright.cost.router` deals them; tokens are
those of all ranks together. A skewed router's tiles cost ``skew`` times what their number says.
Neglects: shared experts, the router's own product, capacity drops.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from numpy.typing import ArrayLike, NDArray

from shapewright.cost.coefficient import Coefficient
from shapewright.cost.device import Device
from shapewright.cost.formats import KernelFormat
from shapewright.cost.router import HEIGHTS, Routed, routed

_C = Coefficient
COEFFICIENTS: tuple[Coefficient, ...] = (
    _C(
        name="launch_s",
        start=2e-5,
        low=1e-6,
        high=5e-4,
        unit="s",
        meaning="routing, sorting and both products' start",
    ),
    _C(
        name="mma",
        start=0.6,
        low=0.05,
        high=1.0,
        unit="1",
        meaning="matrix rate of a large tile over the peak",
    ),
    _C(
        name="half_rows",
        start=16.0,
        low=0.1,
        high=512.0,
        unit="1",
        meaning="rows of a tile at which half is lost",
    ),
    _C(name="memory", start=0.8, low=0.1, high=1.0, unit="1", meaning="bandwidth over the peak"),
    _C(
        name="occupancy",
        start=1.5,
        low=0.2,
        high=8.0,
        unit="1",
        meaning="slots over those that saturate memory",
    ),
    _C(
        name="whole_waves",
        start=0.3,
        low=0.001,
        high=1.0,
        unit="1",
        meaning="1: waves do not overlap; 0: they do",
    ),
    _C(name="padding", start=1.05, low=1.0, high=3.0, unit="1", meaning="tiles computed over those needed"),
    _C(name="skew", start=1.05, low=0.7, high=4.0, unit="1", meaning="the same again for a skewed router"),
    _C(
        name="row_passes",
        start=3.0,
        low=0.1,
        high=30.0,
        unit="1",
        meaning="passes over the routed rows in memory",
    ),
    _C(name="step_s", start=1e-7, low=1e-9, high=3e-6, unit="s", meaning="least time of one step along k"),
    _C(
        name="all_passes",
        start=0.5,
        low=0.001,
        high=30.0,
        unit="1",
        meaning="passes over the rows of all ranks",
    ),
    _C(name="expert_s", start=1e-8, low=1e-11, high=2e-6, unit="s", meaning="bookkeeping of one held expert"),
    _C(
        name="cache_share",
        start=0.5,
        low=0.02,
        high=1.5,
        unit="1",
        meaning="cache that holds repeated weights",
    ),
    _C(name="cache_speed", start=1.5, low=1.0, high=12.0, unit="1", meaning="cached over cold bandwidth"),
    _C(
        name="least_width",
        start=16.0,
        low=1.0,
        high=512.0,
        unit="1",
        meaning="narrowest expert that is computed",
    ),
    _C(
        name="coarse",
        start=1.05,
        low=0.7,
        high=4.0,
        unit="1",
        meaning="memory time over its own with more tokens than experts",
    ),
    _C(
        name="ragged",
        start=1.5,
        low=1.0,
        high=8.0,
        unit="1",
        meaning="slow-down of widths off multiples of 16",
    ),
    _C(
        name="join",
        start=4.0,
        low=1.0,
        high=8.0,
        unit="1",
        meaning="norm that joins compute and memory: 1 adds",
    ),
)
TILE_N = 128.0
ALIGNED = 16.0
"""Elements that kernels read at a time: Triton compiles its own for sizes off this multiple."""


def moe_time(
    c: Mapping[str, float],
    device: Device,
    fmt: KernelFormat,
    *,
    tokens: ArrayLike,
    hidden: ArrayLike,
    inter: ArrayLike,
    topk: ArrayLike,
    experts: ArrayLike,
    ep: ArrayLike = 1.0,
    distribution: ArrayLike = 0.0,
    matrices: ArrayLike = 3.0,
    repeated: bool = False,
    loads: Routed | None = None,
) -> NDArray[np.float64]:
    """Seconds of one rank's expert layer; ``inter`` is the width of one expert on this rank.

    ``distribution`` is 0 for a balanced router, 1 and 2 for the power laws 1.01 and 1.2 of the measured tables.
    ``loads`` are the router's results where the caller has them.
    ``matrices`` is 3 for gated experts (gate, up, down) and 2 for plain ones.
    """
    t, d, f, top, e, ep = (np.asarray(x, np.float64) for x in (tokens, hidden, inter, topk, experts, ep))
    # Kernels compute whole tiles of an expert's width, and read them: a narrow one costs as much.
    f = (f**4 + c["least_width"] ** 4) ** 0.25
    kind, num = np.asarray(distribution), np.asarray(matrices, np.float64)
    loads = routed(t, top, e, ep, kind) if loads is None else loads
    extra = c["padding"] * np.where(kind == 0, 1.0, c["skew"])
    weights = loads.touched * num * f * d * fmt.weight_bytes
    if repeated and device.cache > 0:
        held = 1.0 / (1.0 + (weights / (c["cache_share"] * device.cache)) ** 4)
        weights = weights * (1.0 - held + held / c["cache_speed"])
    passes = (
        loads.rows * (d + f) * c["row_passes"] + t * top * d * np.where(ep > 1, c["all_passes"], 0.0)
    ) * 2.0
    # Triton's default tiles change once there are more tokens than experts held.
    coarse = np.where(t > np.maximum(e / ep, 1.0), c["coarse"], 1.0)
    best = np.full(np.broadcast(loads.rows, d, f).shape, np.inf)
    for i, bm in enumerate(HEIGHTS):
        step = 2.0 * bm * TILE_N * 64.0 / (device.peak / device.slots * c["mma"] * bm / (bm + c["half_rows"]))
        step = (step**4 + c["step_s"] ** 4) ** 0.25
        compute = np.zeros(1)
        for width, depth in (((num - 1.0) * f, d), (d, f)):
            load = loads.tiles[..., i] * extra * np.ceil(width / TILE_N) / device.slots
            waves = c["whole_waves"] * np.ceil(load) + (1.0 - c["whole_waves"]) * np.maximum(load, 1.0)
            compute = compute + waves * np.maximum(depth / 64.0, 1.0) * step
        load = loads.tiles[..., i] * np.ceil((num - 1.0) * f / TILE_N) / device.slots
        memory = (
            coarse
            * (weights + passes)
            / (c["memory"] * device.bandwidth * np.minimum(1.0, c["occupancy"] * load))
        )
        top_roof = np.maximum(compute, memory)
        both = top_roof * (1.0 + (np.minimum(compute, memory) / top_roof) ** c["join"]) ** (1.0 / c["join"])
        best = np.minimum(best, both)
    best = best * np.where(np.asarray(inter) % ALIGNED == 0, 1.0, c["ragged"])
    return c["launch_s"] + best + np.maximum(e / ep, 1.0) * c["expert_s"]
