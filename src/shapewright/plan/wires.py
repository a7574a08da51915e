"""The large collectives of a plan as straight lines in bytes, worked out once per table of plans.

Gradients, weights and stage boundaries are megabytes and more, where the collective model is a straight
line ``alpha + beta * bytes``; a sweep then needs two array operations per pair instead of a look-up. The
line passes through the model's values at 16 MB and 1 GB.
"""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Any

import numpy as np
from numpy.typing import NDArray

from shapewright.architecture.operator import Size
from shapewright.cost.price import CostModel
from shapewright.hardware.cluster import Cluster
from shapewright.plan.network import collective_seconds
from shapewright.plan.parallel import Plan

Array = NDArray[Any]
_LOW, _HIGH = 16e6, 1e9


@dataclass(frozen=True, kw_only=True, slots=True)
class Wire:
    """One collective of every plan; an axis of one device costs nothing."""

    alpha: Array
    """[s]"""
    beta: Array
    """[s/B]"""

    def seconds(self, num_bytes: Array) -> Array:
        """Seconds for messages of ``num_bytes`` [s]."""
        return self.alpha + self.beta * num_bytes


@dataclass(frozen=True, kw_only=True, slots=True)
class Wires:
    """Every large collective of a table of plans. A use that a plan has not is a line of zeros."""

    layer_gather: Wire
    """Fully sharded weights of a layer, before it runs."""
    layer_scatter: Wire
    """Its gradients, after it ran backward."""
    send: Wire
    """A stage boundary."""
    reduce: Wire
    """Gradients, without sharding."""
    scatter: Wire
    """Gradients, with sharded optimizer state."""
    gather: Wire
    """Weights, with sharded optimizer state."""
    replica_reduce: Wire
    """Gradient shards among the replicas of a fully sharded group."""
    expert_reduce: Wire
    expert_scatter: Wire
    expert_gather: Wire
    """The same three for experts, which fewer devices copy."""
    outer: Wire
    """Weights that drifted apart among replicas, every few steps."""

    def take(self, index: Any) -> Wires:
        """The wires of the plans at ``index``."""
        return Wires(
            **{
                f.name: Wire(alpha=getattr(self, f.name).alpha[index], beta=getattr(self, f.name).beta[index])
                for f in fields(self)
            }
        )


def plan_wires(model: CostModel, cluster: Cluster, plans: Plan, rails: float = 1.0) -> Wires:
    """Work out the wires of a table of plans; ``rails`` as in ``Framework.rails``."""
    count = len(plans)
    tp, cp, pp, dp, shard, replicate, sharding, ep, etp, every = (
        np.broadcast_to(np.asarray(x), count)
        for x in (
            plans.tp,
            plans.cp,
            plans.pp,
            plans.dp,
            plans.dp_shard,
            plans.dp_replicate,
            plans.sharding,
            plans.ep,
            plans.etp,
            plans.sync_every,
        )
    )
    plain, zero, full = sharding == 0, (sharding == 1) | (sharding == 2), sharding == 3
    # Copies that drift apart exchange nothing within a step.
    drifting = every > 1
    group, spread = np.where(drifting, shard, dp) * cp, ep * etp
    copies = np.maximum(group * tp // spread, 1)

    def wire(kind: str, used: Any, size: Size, stride: Size, cards: float = 1.0) -> Wire:
        size = np.where(used, size, 1)
        low = collective_seconds(model, cluster, kind, _LOW, size=size, stride=stride, rails=cards)
        high = collective_seconds(model, cluster, kind, _HIGH, size=size, stride=stride, rails=cards)
        beta = (high - low) / (_HIGH - _LOW)
        return Wire(alpha=np.maximum(low - beta * _LOW, 0.0), beta=beta)

    return Wires(
        # Context-parallel ranks hold the same weights, so they shard them too (FSDP2's dp_shard_cp mesh).
        layer_gather=wire("all_gather", full, shard * cp, tp, rails),
        layer_scatter=wire("reduce_scatter", full, shard * cp, tp, rails),
        send=wire("send", pp > 1, 2, tp * cp * dp),
        reduce=wire("all_reduce", plain, group, tp),
        scatter=wire("reduce_scatter", zero, group, tp),
        gather=wire("all_gather", zero, group, tp),
        replica_reduce=wire("all_reduce", full & ~drifting, replicate, tp * cp * shard),
        expert_reduce=wire("all_reduce", plain, copies, spread),
        expert_scatter=wire("reduce_scatter", zero, copies, spread),
        expert_gather=wire("all_gather", zero, copies, spread),
        outer=wire("all_reduce", drifting, replicate, tp * cp * shard),
    )
