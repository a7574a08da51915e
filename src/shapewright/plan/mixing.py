"""What mixes tokens: attention (whole or split over context-parallel ranks), recurrences, long convolutions, tables."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from shapewright.architecture.operator import (
    Attention,
    Declared,
    FourierConvolution,
    Gather,
    Recurrence,
    Scan,
    Size,
)
from shapewright.cost.distributed.scan import PREPASS
from shapewright.plan.costs import Context, OperatorCost

Array = NDArray[Any]
SECTOR = 64.0
"""What one read of device memory brings (the default fetch granularity of the L2 cache of NVIDIA's GPUs) [B]."""


def price_attention(op: Attention, context: Context) -> OperatorCost:
    """Attention of a rank: whole sequences, or with context parallelism its part of them.

    - ``zigzag``: each of the cp steps of the ring is a kernel of seq / cp queries on seq / (2 cp) keys without a mask: an
      equal share of the triangle, in smaller pieces.
    - ``ring``: the last rank, for which the others wait, meets cp - 1 whole pieces of seq / cp keys and its own triangle.
    - ``all-gather``: one kernel over all keys does the rank's share of the triangle (Llama 3, arXiv 2407.21783, 3.3.2).

    A window is taken to shrink every piece alike.
    """
    fmt = context.precision.other_format
    cp = context.full(context.split.cp)

    def kernel(q_len: Size, kv_len: Size, causal: bool, backward: bool) -> Array:
        return context.full(
            context.model.attention(
                batch=op.batch,
                q_len=q_len,
                kv_len=kv_len,
                heads=op.heads,
                kv_heads=op.kv_heads,
                head_dim=op.head_dim,
                v_head_dim=op.v_head_dim,
                causal=causal,
                window=op.window,
                number_format=fmt,
                backward=backward,
            )
        )

    def seconds(backward: bool) -> Array:
        whole = kernel(op.q_len, op.kv_len, op.causal, backward)
        if np.max(context.split.cp) == 1:
            return whole
        share = 2 if op.causal else 1
        queries, keys = op.q_len / context.split.cp, op.kv_len / context.split.cp
        balanced = np.maximum(cp * kernel(queries, keys / share, False, backward), whole / cp)
        contiguous = (cp - 1) * kernel(queries, keys, False, backward) + kernel(
            queries, keys, op.causal, backward
        )
        order = context.full(context.split.context)
        split = np.where(order == 0, balanced, np.where(order == 1, contiguous, whole / cp))
        return np.where(cp > 1, split, whole)

    tokens = context.full(op.batch * op.q_len) / cp
    features = context.full(
        op.heads * (op.head_dim + op.v_head_dim) + op.kv_heads * (op.head_dim + op.v_head_dim)
    )
    # Scores that are not fused cross the memory whole: a mask saves no traffic.
    square = context.full(op.batch * op.heads * op.q_len * op.kv_len) / cp
    crossing = square * context.framework.score_passes * context.precision.activation_bytes
    unfused = context.full(context.model.pointwise(crossing)) if context.framework.score_passes else 0.0
    return OperatorCost(
        name=op.name,
        cause="compute",
        forward=seconds(backward=False) + unfused,
        backward=seconds(backward=True) + 2 * unfused,
        flops=context.full(op.flops) / cp,
        bytes=tokens * features * context.precision.activation_bytes,
        family="attention",
        number_format=fmt,
    )


def price_scan(op: Scan, context: Context) -> OperatorCost:
    """A scan of a rank: whole sequences, or with context parallelism its piece of each in two passes."""
    cp = context.full(context.split.cp)

    def seconds(backward: bool) -> Array:
        twice = np.where(cp > 1, 1.0 + PREPASS, 1.0)
        return twice * context.full(
            context.model.scan(
                kind=op.kind,
                batch=op.batch,
                seq_len=op.seq_len / context.split.cp,
                heads=op.heads,
                key_dim=op.key_dim,
                value_dim=op.value_dim,
                key_heads=op.key_heads,
                backward=backward,
                trained=True,
            )
        )

    return OperatorCost(
        name=op.name,
        cause="compute",
        forward=seconds(backward=False),
        backward=seconds(backward=True),
        flops=context.full(op.flops) / cp,
        bytes=context.full(op.elements) / cp * context.precision.activation_bytes,
        family="scan",
        number_format=op.kind,
    )


def price_recurrence(op: Recurrence, context: Context) -> OperatorCost:
    """A recurrence that waits for a product at every token, whole on every rank of context parallelism."""

    def seconds(backward: bool) -> Array:
        return context.full(
            context.model.recurrence(
                batch=op.batch,
                seq_len=op.seq_len,
                units=op.units,
                gates=op.gates,
                heads=op.heads,
                backward=backward,
            )
        )

    return OperatorCost(
        name=op.name,
        cause="compute",
        forward=seconds(backward=False),
        backward=seconds(backward=True),
        flops=context.full(op.flops),
        bytes=context.full(op.elements + op.params) * context.precision.activation_bytes,
        family="scan",
        number_format="lstm",
    )


def price_fourier(op: FourierConvolution, context: Context) -> OperatorCost:
    """Convolutions as long as the sequence, on the channels of a rank."""

    def seconds(backward: bool) -> Array:
        return context.full(
            context.model.fourier(sequences=op.batch * op.channels, length=op.seq_len, backward=backward)
        )

    return OperatorCost(
        name=op.name,
        cause="compute",
        forward=seconds(backward=False),
        backward=seconds(backward=True),
        flops=context.full(op.flops),
        bytes=context.full(op.elements) * context.precision.activation_bytes,
        family="scan",
        number_format="fourier",
    )


def price_declared(op: Declared, context: Context) -> OperatorCost:
    """The highest of three roofs as declared: products, memory, and steps in waves over the slots."""
    device = context.model.device(context.precision.other_format)
    compute = context.full(op.flops) / (op.share * device.peak)
    memory = np.asarray(context.model.pointwise(context.full(op.moved), context.precision.name))
    waves = np.ceil(context.full(op.independent) / device.slots)
    span = context.full(op.span) * op.step_s * waves
    forward = np.maximum(np.maximum(compute, memory), span)
    return OperatorCost(
        name=op.name,
        cause="compute",
        forward=forward,
        backward=2.0 * forward,
        flops=context.full(op.flops),
        bytes=context.full(op.moved),
        family="scan",
        number_format="declared",
    )


def price_gather(op: Gather, context: Context) -> OperatorCost:
    """Rows of a table: what is read comes in whole sectors of memory; the gradient reads and writes the rows."""
    width = context.precision.activation_bytes
    row = np.asarray(op.row_size, float) * width
    waste = (np.ceil(row / SECTOR) * SECTOR) / row
    traffic = context.full(op.elements * waste) * width
    return OperatorCost(
        name=op.name,
        cause="memory",
        forward=context.full(context.model.pointwise(traffic, context.precision.name)),
        backward=context.full(context.model.pointwise(2.0 * traffic, context.precision.name)),
        flops=context.full(op.flops),
        bytes=traffic,
        family="memory",
        number_format="bytes",
    )
