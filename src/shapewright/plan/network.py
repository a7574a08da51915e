"""Seconds of a collective among the devices of one axis of a plan.

Ranks are laid out with tensor parallelism innermost, then context, expert and data parallelism, and pipeline
stages outermost, the order of Megatron-LM and torchtitan. An axis of ``size`` devices whose neighbours are
``stride`` apart spans ``size * stride`` devices, and talks over the innermost tier that holds them. Where it
crosses nodes with k members in each, the k network cards of those members carry one share each: the
bandwidth of the outer tier is multiplied by k, up to the bandwidth inside the node (rings as NCCL builds
them). An all-to-all has no such relay: what a device sends to other nodes leaves through its own card. Neglected:
two axes that use the same wire at the same time, and congestion inside the network.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from shapewright.architecture.operator import Size
from shapewright.cost.price import CostModel
from shapewright.hardware.cluster import Cluster, Tier

Array = NDArray[Any]


def collective_seconds(
    model: CostModel,
    cluster: Cluster,
    kind: str,
    num_bytes: Size,
    *,
    size: Size,
    stride: Size = 1,
    rails: float = 1.0,
) -> Array:
    """Seconds of one collective of ``num_bytes`` (the whole tensor) over an axis [s]; broadcasts.

    ``rails`` is the share of the cards of a node's members that carry it (see ``Framework.rails``).
    """
    num_bytes, size, stride = np.broadcast_arrays(
        np.asarray(num_bytes, float), np.asarray(size), np.asarray(stride)
    )
    seconds = np.zeros(num_bytes.shape)
    # Few distinct groups occur, so the loop is over groups, not over candidates.
    key = (size.astype(np.int64) << 32) + stride
    for code in np.unique(key):
        group, step = int(code >> 32), int(code & 0xFFFFFFFF)
        if group <= 1:
            continue
        mask = key == code
        relayed = kind != "all_to_all"
        tier = effective_tier(cluster, group, step, rails) if relayed else exchange_tier(cluster, group, step)
        seconds[mask] = model.collective(kind, num_bytes[mask], group, tier)
    return seconds


def exchange_tier(cluster: Cluster, size: int, stride: int) -> Tier:
    """The tier of an all-to-all: each device's own card carries what leaves its node, the rest stays inside."""
    tier = effective_tier(cluster, size, stride)
    inner = cluster.tiers[0]
    if tier is inner:
        return tier
    outer = cluster.tier_of(size * stride)
    assert outer is not None
    members = min(max(inner.size // stride, 1), size)
    leaving = (size - members) / max(size - 1, 1)
    bandwidth = min(outer.bandwidth.value / leaving, inner.bandwidth.value)
    return replace(tier, bandwidth=replace(tier.bandwidth, value=float(bandwidth), kind="derived"))


def effective_tier(cluster: Cluster, size: int, stride: int, rails: float = 1.0) -> Tier:
    """The tier that carries an axis of ``size`` devices ``stride`` apart, with the cards of all its members."""
    tier = cluster.tier_of(size * stride)
    if tier is None:
        raise AssertionError("an axis of more than one device lies on a cluster with a network")
    inner = cluster.tiers[0]
    if tier is inner:
        return tier
    members = max(inner.size // stride, 1)
    cards = max(rails * min(members, size), 1.0)
    bandwidth = min(tier.bandwidth.value * cards, inner.bandwidth.value if members > 1 else np.inf)
    return replace(tier, bandwidth=replace(tier.bandwidth, value=float(bandwidth), kind="derived"))
