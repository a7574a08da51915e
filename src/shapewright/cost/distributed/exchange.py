"""All-to-alls: every device has something for every other (experts, Fourier transforms, sharded tables)."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike

from shapewright.cost.distributed.form import Array, Form, floats
from shapewright.errors import UsageError


def exchange_bound(held_bytes: ArrayLike, devices: ArrayLike) -> Array:
    """Bytes a device must send where all it holds but its own share belongs to others [B]."""
    held, p = floats(held_bytes, devices)
    return (p - 1) / p * held


def flat_exchange(held_bytes: ArrayLike, devices: ArrayLike, *, alpha: ArrayLike, beta: ArrayLike) -> Form:
    """One message to every other device, one after the other; ``held_bytes`` is what one device holds."""
    held, p, alpha, beta = floats(held_bytes, devices, alpha, beta)
    sent = (p - 1) / p * held
    return Form(name="all-to-all", seconds=(p - 1) * alpha + beta * sent, compute_s=0.0 * held, sent_bytes=sent,
                messages=p - 1, held_bytes=2.0 * held, bound_bytes=exchange_bound(held, p))  # fmt: skip


def hierarchical_exchange(
    held_bytes: ArrayLike,
    devices: ArrayLike,
    node: int,
    *,
    inner: tuple[float, float],
    outer: tuple[float, float],
) -> Form:
    """First inside each node by place, then between devices of one place over all nodes.

    ``inner`` and ``outer`` are (alpha, beta) inside and between nodes. Every byte may move twice, but only
    ``node - 1 + P / node - 1`` messages follow one another (as in Tutel and DeepSpeed-MoE).

    Raises:
        UsageError: the devices are no whole number of nodes.
    """
    held, p = floats(held_bytes, devices)
    if np.any((p > node) & (p % node != 0)):
        wrong = float(p[(p > node) & (p % node != 0)].ravel()[0])
        raise UsageError(
            f"devices (={wrong:,.0f}) are no whole number of nodes of {node}",
            "both stages of the exchange need full nodes", f"nearest that works: {max(round(wrong / node), 1) * node:,}",
        )  # fmt: skip
    group = np.minimum(p, node)
    nodes = p / group
    inside, between = (group - 1) / group * held, (nodes - 1) / nodes * held
    seconds = (group - 1) * inner[0] + inner[1] * inside + (nodes - 1) * outer[0] + outer[1] * between
    return Form(name="hierarchical all-to-all", seconds=seconds, compute_s=0.0 * held, sent_bytes=inside + between,
                messages=group + nodes - 2, held_bytes=2.0 * held, bound_bytes=exchange_bound(held, p))  # fmt: skip


def once_per_node(topk: ArrayLike, nodes: ArrayLike) -> Array:
    """Copies of a token that cross to other nodes, where experts lie evenly and each node is sent one copy.

    Of k experts over n nodes, ``n (1 - (1 - 1/n)^k)`` nodes are touched, one of them the token's own in 1 of n cases.
    """
    k, n = floats(topk, nodes)
    return n * (1.0 - (1.0 - 1.0 / n) ** k) * (1.0 - 1.0 / n)
