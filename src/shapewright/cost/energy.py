"""Power and energy of a kernel: idle, what keeps the units busy, under the board's limit.

::

    wanted = limit * (steady + flop * (FLOP/t / peak)^flop_share + byte * (bytes/t / bandwidth)^byte_share)   [W]
    room   = cap * limit - idle_w
    power  = idle_w + wanted / (1 + (wanted/room)^sharp)^(1/sharp)
    energy = power * t

Both rates count over their nominal peaks, so that a coefficient is a share of the board's limit and transfers to other
boards as it is: energy per FLOP then goes with the board's power per FLOP. Shares below 1: a unit that is busy half
the time draws more than half its power.
Large products ask for more than the limit and run at it: the clock falls until they fit. Under a lower limit than the
one they were measured at (``--set power_cap=500W``) a kernel that asks for more runs slower by
``(wanted/room)^(1/CUBE)``: dynamic power falls about with that power of the clock; a kernel below the limit keeps its
time. Fitted on measured board power (NVML) of H200, B200 and GB200 kernels of known duration.
Neglects: temperature, the host, the values multiplied, and what ran before. Equal products at equal rates read the limit
or about six tenths of it. The low readings come in runs of the collection's order, where weights are large to prepare or
kernels are compiled first, and rise with the duration (8-bit blocks on B200: .47 of the limit at .2 ms, .62 at 1 ms, .75
at 18 ms, beside .98): a sensor's average that still holds the idle time before. They are not what a running step draws,
so the fit lets them go (Cauchy), and the interval is wide enough to hold them.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from shapewright.cost.coefficient import Coefficient

_C = Coefficient
COEFFICIENTS: tuple[Coefficient, ...] = (
    _C(name="idle", start=0.2, low=0.1, high=0.45, unit="1", meaning="power between kernels over the limit"),
    _C(
        name="cap",
        start=0.99,
        low=0.95,
        high=1.05,
        unit="1",
        meaning="highest sustained power over the limit",
    ),
    _C(name="sharp", start=8.0, low=1.5, high=60.0, unit="1", meaning="how sharply power meets the limit"),
    _C(name="steady", start=0.1, low=0.001, high=0.5, unit="1", meaning="power of any kernel over the limit"),
)
"""Of the board; each measured kind of kernel adds the four of :data:`OF_KIND`."""
OF_KIND: tuple[Coefficient, ...] = (
    _C(
        name="flop",
        start=0.8,
        low=0.001,
        high=6.0,
        unit="1",
        meaning="power at the peak FLOP/s over the limit",
    ),
    _C(name="flop_share", start=0.7, low=0.1, high=2.0, unit="1", meaning="power of that rate in the power"),
    _C(
        name="byte",
        start=0.5,
        low=0.001,
        high=4.0,
        unit="1",
        meaning="power at the full bandwidth over the limit",
    ),
    _C(name="byte_share", start=0.7, low=0.1, high=2.0, unit="1", meaning="power of that rate in the power"),
)
CUBE = 2.4
"""Power of the clock by which dynamic power falls: between 1 (voltage fixed) and 3 (voltage follows); assumed."""
LEAST_RATE = 1e-6
"""Rate below which a unit draws nothing more than idle."""
FALLBACK = {
    "fp16": "bf16",
    "tf32": "bf16",
    "fp32": "bf16",
    "int8": "fp8",
    "int8_wo": "bf16",
    "int4_wo": "bf16",
}


@dataclass(frozen=True, kw_only=True, slots=True)
class Board:
    """The limit of a board and the coefficients of its power."""

    limit: float
    """Power limit the coefficients were fitted at: the TDP [W]."""
    coefficients: Mapping[str, float]


def wanted_power(
    board: Board, *, flop_rate: ArrayLike, byte_rate: ArrayLike, number_format: str, kind: str
) -> NDArray[np.float64]:
    """Power over idle that a kernel would draw unlimited [W].

    ``flop_rate`` is its FLOP/s over the peak, ``byte_rate`` its B/s over the bandwidth.
    """
    c, which = board.coefficients, _kind(board.coefficients, kind, number_format)
    multiply = c[f"flop/{which}"] * np.maximum(flop_rate, LEAST_RATE) ** c[f"flop_share/{which}"]
    move = c[f"byte/{which}"] * np.maximum(byte_rate, LEAST_RATE) ** c[f"byte_share/{which}"]
    return board.limit * (c["steady"] + multiply + move)


def _kind(c: Mapping[str, float], kind: str, number_format: str) -> str:
    """The measured kind of kernel nearest to one asked for."""
    fmt = FALLBACK.get(number_format, number_format)
    for name in (f"{kind}/{fmt}", f"{kind}/bf16", f"matmul/{fmt}"):
        if f"flop/{name}" in c:
            return name
    return "matmul/bf16"


def mean_power(board: Board, wanted: ArrayLike, limit: float | None = None) -> NDArray[np.float64]:
    """Board power for what a kernel asks [W], under ``limit`` (the board's own where None)."""
    c, asked = board.coefficients, np.asarray(wanted, np.float64)
    idle = c["idle"] * board.limit
    room = max(c["cap"] * (board.limit if limit is None else limit) - idle, 1e-3 * board.limit)
    return idle + asked / (1.0 + (asked / room) ** c["sharp"]) ** (1.0 / c["sharp"])


def slow_down(board: Board, wanted: ArrayLike, limit: float) -> NDArray[np.float64]:
    """How much longer a kernel takes under ``limit`` than under the board's own; below 1 under a higher one, where it is
    throttled now: it then draws what it asks for, as far as the higher limit lets it."""
    c = board.coefficients
    drawn = mean_power(board, wanted) - c["idle"] * board.limit
    if limit >= board.limit:
        return (drawn / (mean_power(board, wanted, limit) - c["idle"] * board.limit)) ** (1.0 / CUBE)
    room = max(c["cap"] * limit - c["idle"] * board.limit, 1e-2 * board.limit)
    return np.maximum(drawn / room, 1.0) ** (1.0 / CUBE)
