"""Collectives over one tier of the network, by latency and bandwidth.

With P devices, bandwidth B per device and direction, and ``n`` bytes of the *full* tensor, a device sends::

    all_reduce      2 (P-1)/P n       reduce_scatter  (P-1)/P n      (n: the tensor that is reduced)
    all_gather      (P-1)/P n         (n: the gathered tensor)
    all_to_all      (P-1)/P n/P       (n: the sum of what all devices hold)
    send            n                 (n: the message)

    flow = sent / (efficiency * P^(0.4 - shared) * B)
    time = launch_s + hop_s * (P-1)^depth + min(flow / ll_rate, mid_s + flow / mid_rate, bulk_s + flow)

The three terms of the minimum are NCCL's protocols: LL (flags beside every word: no barrier, little bandwidth),
LL128, and Simple (full bandwidth, one more handshake). ``depth`` lies between a tree (logarithmic) and a ring (1);
``shared`` is large where devices share a path (PCIe).
Neglects contention between collectives, oversubscribed networks and NCCL's mistuned switches (up to 2x at some sizes).
Reference: Thakur et al. 2005, doi 10.1177/1094342005051521; NCCL's tuning model.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from numpy.typing import ArrayLike, NDArray

from shapewright.cost.coefficient import Coefficient
from shapewright.errors import UnknownNameError

_C = Coefficient
COEFFICIENTS: tuple[Coefficient, ...] = (
    _C(
        name="launch_s", start=5e-6, low=5e-7, high=1e-4, unit="s", meaning="start of the collective's kernel"
    ),
    _C(name="hop_s", start=1.5e-6, low=1e-8, high=3e-5, unit="s", meaning="one hop between two devices"),
    _C(name="depth", start=0.7, low=0.2, high=1.5, unit="1", meaning="power of P-1 by which hops grow"),
    _C(name="efficiency", start=0.7, low=0.02, high=2.0, unit="1", meaning="bulk bandwidth over the link's"),
    _C(
        name="shared",
        start=0.2,
        low=0.01,
        high=3.0,
        unit="1",
        meaning="0.4 less the power of P that scales B",
    ),
    _C(name="ll_rate", start=0.2, low=0.001, high=1.0, unit="1", meaning="LL bandwidth over the bulk's"),
    _C(name="mid_rate", start=0.6, low=0.01, high=1.0, unit="1", meaning="LL128 bandwidth over the bulk's"),
    _C(name="mid_s", start=2e-6, low=1e-8, high=1e-4, unit="s", meaning="extra start of LL128"),
    _C(
        name="bulk_s", start=8e-6, low=1e-8, high=2e-4, unit="s", meaning="extra start of the Simple protocol"
    ),
)
KINDS = ("all_reduce", "all_gather", "reduce_scatter", "all_to_all", "send")
FITTED_AS = {"send": "all_to_all"}
"""Point-to-point sends use the fit of the all-to-all, which NCCL builds from sends."""
SCALE_OUT_EFFICIENCY = 0.82
"""Bulk bandwidth over the network card's: NCCL's H100 ring reaches 365 of 450 GB/s inside a node
(stas00/ml-engineering, Aug 2026); taken to hold for the network card as well."""
SCALE_OUT_DEPTH = 0.4
"""Hops beyond the node: P^0.4 is close to log2 P from 16 to 1,024 devices (NCCL's trees)."""
SCALE_OUT_LAUNCH_S = 1.0e-5
"""Start of a collective that leaves the node; assumed (NCCL's all-reduce of 8 bytes takes 15 to 30 us)."""


def scale_of(shared: float) -> float:
    """The power of P that scales the bandwidth: up to 0.4 on a switch (more peers fill the links), less where shared."""
    return 0.4 - shared


def sent_bytes(kind: str, size: NDArray, group: ArrayLike) -> NDArray[np.float64]:
    """Bytes each device sends.

    Raises:
        UnknownNameError: ``kind`` is none of :data:`KINDS`.
    """
    p = np.asarray(group, np.float64)
    if kind == "all_reduce":
        return 2.0 * (p - 1) / p * size
    if kind in ("all_gather", "reduce_scatter"):
        return (p - 1) / p * size
    if kind == "all_to_all":
        return (p - 1) / p * size / p
    if kind == "send":
        return size * 1.0
    raise UnknownNameError("collective", kind, KINDS)


def collective_time(
    c: Mapping[str, float], kind: str, num_bytes: ArrayLike, group: ArrayLike, bandwidth: float
) -> NDArray[np.float64]:
    """Seconds of one collective of ``num_bytes`` of the full tensor over ``group`` devices; both broadcast.

    ``bandwidth`` is per device and direction [B/s]. A group of one takes no time.
    """
    size, p = np.broadcast_arrays(np.asarray(num_bytes, np.float64), np.asarray(group, np.float64))
    p = np.maximum(p, 1.0)
    flow = sent_bytes(kind, size, p) / (c["efficiency"] * p ** scale_of(c["shared"]) * bandwidth)
    fastest = np.minimum(
        np.minimum(flow / c["ll_rate"], c["mid_s"] + flow / c["mid_rate"]), c["bulk_s"] + flow
    )
    hops = np.where(kind == "send", 1.0, np.maximum(p - 1.0, 0.0) ** c["depth"])
    return np.where(p > 1.0, c["launch_s"] + c["hop_s"] * hops + fastest, 0.0)
