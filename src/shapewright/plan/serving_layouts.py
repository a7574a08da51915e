"""The layouts that one replica of a model may have on given hardware.

Decisions: a replica takes a power of two of devices inside the scale-up domain, and whole domains beyond it by pipeline
stages. Attention groups and expert parallelism are offered to mixtures only. What a shape cannot be split into is counted
by reason.
"""

from __future__ import annotations

import numpy as np

from shapewright.architecture.shape import ExpertsFFN, NoFFN, Shape
from shapewright.hardware.cluster import Cluster
from shapewright.plan.rules import attention_heads
from shapewright.plan.serving_step import Layout


def layouts_for(shape: Shape, cluster: Cluster) -> tuple[list[Layout], dict[str, int]]:
    """Layouts of one replica that the shape can be split over, and counts of those it cannot, by reason."""
    devices = cluster.num_devices
    inner = cluster.tiers[0].size if cluster.tiers else 1
    sparse = any(isinstance(block.channel, ExpertsFFN) for block in shape.blocks)
    found: list[Layout] = []
    rejected: dict[str, int] = {}
    for stages in (1, 2, 4):
        for world in (2**i for i in range(11)):
            if world > inner or world * stages > devices:
                continue
            for adp in (1, world) if sparse and world > 1 else (1,):
                for ep in (1, world) if sparse and world > 1 else (1,):
                    layout = Layout(tp=world // adp, pp=stages, ep=ep, adp=adp)
                    reason = _indivisible(shape, layout)
                    if reason:
                        rejected[reason] = rejected.get(reason, 0) + 1
                    else:
                        found.append(layout)
    return found, rejected


def _indivisible(shape: Shape, layout: Layout) -> str | None:
    tp = int(layout.tp)
    if any(int(heads) % tp or (int(kv) % tp and tp % int(kv)) for heads, kv in attention_heads(shape)):
        return "tp does not divide the heads"
    if int(shape.num_layers) < int(layout.pp):
        return "more stages than layers"
    for block in shape.blocks:
        if isinstance(block.channel, ExpertsFFN) and int(block.channel.experts) % int(layout.ep):
            return "ep does not divide the experts"
        if (
            not isinstance(block.channel, ExpertsFFN | NoFFN)
            and int(getattr(block.channel, "ffn_size", tp)) % tp
        ):
            return "tp does not divide the feed-forward width"
    return None


def one_layout(layouts: Layout, index: int) -> Layout:
    """One entry of a table of layouts."""
    return Layout(**{n: int(np.asarray(getattr(layouts, n))[index]) for n in ("tp", "pp", "ep", "adp")})
