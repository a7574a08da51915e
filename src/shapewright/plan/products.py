"""Matrix products of a place under a split: forward, and the gradients of the input and of the weight.

Decisions: all products of a place are priced in one call, so that equal ones are priced once. Frozen weights need no
gradient of their own; low-rank adapters beside the products of attention are bounded by traffic.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from shapewright.architecture.operator import GroupedMatmul, Matmul
from shapewright.plan.costs import Context, OperatorCost

Array = NDArray[Any]

ADAPTER_RANK = 16
"""Rank of the low-rank adapters of the attention's products when weights are frozen (LoRA, arXiv 2106.09685; the rank of
MLPerf's fine-tuning benchmark)."""


def price_matmuls(ops: list[Matmul], context: Context) -> Any:
    """All products of a place in one call: forward, and the gradients of the input and of the weight."""
    if not ops:
        return iter(())
    p = context.precision
    formats = [p.other_format if op.place == "head" else p.matmul_format for op in ops]
    dims = [(context.full(op.m), context.full(op.n), context.full(op.k)) for op in ops]
    seconds: dict[int, tuple[Array, Array, Any]] = {}
    for fmt in dict.fromkeys(formats):
        chosen = [i for i, f in enumerate(formats) if f == fmt]
        m, n, k = (np.stack([dims[i][axis] for i in chosen]) for axis in range(3))
        sizes = np.stack([m, m, k]), np.stack([n, k, n]), np.stack([k, n, m])
        time = context.model.matmul(*sizes, fmt)
        if p.wide_share and fmt == p.matmul_format:
            wide = context.model.matmul(*sizes, p.other_format)
            time = (1 - p.wide_share) * time + p.wide_share * wide
        for position, i in enumerate(chosen):
            weight_gradient = 0.0 if context.frozen else time[2, position]
            seconds[i] = (time[0, position], time[1, position] + weight_gradient, weight_gradient)
            if context.frozen and ops[i].name.startswith("attention."):
                # Two thin products beside the wide one, bounded by traffic: dropout reads and writes the input, the
                # first product reads it, the second writes the output's change, which is read, added and written.
                rows, columns, depth = dims[i]
                thin = rows * (4 * columns + 3 * depth + 2 * ADAPTER_RANK) * p.activation_bytes
                adapter = context.full(context.model.pointwise(thin, p.matmul_format))
                seconds[i] = (seconds[i][0] + adapter, seconds[i][1] + 2 * adapter, 0.0)
    width = p.activation_bytes
    return iter(
        [
            OperatorCost(
                name=op.name,
                cause="compute",
                forward=seconds[i][0],
                backward=seconds[i][1],
                flops=2.0 * dims[i][0] * dims[i][1] * dims[i][2],
                bytes=width * (dims[i][0] * dims[i][2] + dims[i][2] * dims[i][1] + dims[i][0] * dims[i][1]),
                family="matmul",
                number_format=formats[i],
                m_n_k=dims[i],
                weight=seconds[i][2],
            )
            for i, op in enumerate(ops)
        ]
    )


def price_grouped(op: GroupedMatmul, context: Context) -> OperatorCost:
    fmt = context.precision.matmul_format
    rows = context.full(op.tokens * op.topk)
    experts, n, k = context.full(op.experts), context.full(op.n), context.full(op.k)
    # Rows are those routed here in all, so the kernel sees topk 1.
    forward = context.model.grouped_matmul(rows, experts, 1, n, k, fmt)
    input_gradient = context.model.grouped_matmul(rows, experts, 1, k, n, fmt)
    # The weight gradient of each expert is a product whose inner dimension is the expert's tokens.
    return OperatorCost(
        name=op.name,
        cause="compute",
        forward=forward,
        backward=input_gradient if context.frozen else input_gradient + forward,
        flops=2.0 * rows * n * k,
        bytes=context.precision.activation_bytes * (rows * (n + k) + experts * n * k),
        family="moe",
        number_format=fmt,
        weight=0.0 if context.frozen else forward,
    )
