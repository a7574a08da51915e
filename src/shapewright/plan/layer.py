"""What one average layer, the embedding and the head cost on one device, before stages and schedules.

A table of shapes (rows) meets a table of local splits (columns): every distinct operator of the grid is
priced once. The same code prices one model under one plan and keeps the operators' names for explanations.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from shapewright.architecture.graph import build_graph
from shapewright.architecture.operator import (
    Attention,
    FourierConvolution,
    Gather,
    GroupedMatmul,
    Matmul,
    Operator,
    Pointwise,
    Recurrence,
    Scan,
    Size,
)
from shapewright.architecture.shape import Shape
from shapewright.cost.formats import kernel_format
from shapewright.cost.price import CostModel
from shapewright.hardware.cluster import Cluster
from shapewright.plan.costs import Context, ModelCost, OperatorCost, PlaceCost, weighted
from shapewright.plan.exchange import communication_of
from shapewright.plan.framework import Framework
from shapewright.plan.mixing import (
    price_attention,
    price_fourier,
    price_gather,
    price_recurrence,
    price_scan,
)
from shapewright.plan.precision import FULL_WIDTH, Precision
from shapewright.plan.products import price_grouped, price_matmuls
from shapewright.plan.shard import Split, shard

Array = NDArray[Any]

AMPERE = ("volta", "turing", "ampere", "ada")
"""Generations whose matrix instructions are those that FlashAttention 1 and 2 use."""


def price_model(
    shape: Shape,
    split: Split,
    *,
    micro_batch: Size,
    seq_len: int,
    precision: Precision,
    framework: Framework,
    model: CostModel,
    cluster: Cluster,
    frozen: bool = False,
) -> ModelCost:
    """Price one micro-batch; ``frozen`` weights need no gradient, only their inputs and small adapters do.

    Sizes of ``shape`` are (W, 1) arrays or numbers, those of ``split`` (1, L).

    The block counts of ``shape`` weight its blocks into one average layer.
    """
    graph = build_graph(shape, batch=micro_batch, seq_len=seq_len)
    total = shape.num_layers
    weights = [count / total for count in graph.counts]
    layer_ops = [(op, weight) for ops, weight in zip(graph.blocks, weights, strict=True) for op in ops]
    tokens = micro_batch * seq_len
    grid = np.broadcast_shapes(
        *(
            np.shape(x)
            for x in (shape.hidden_size, shape.vocab_size, split.tp, split.cp, split.ep, micro_batch)
        ),
        *(np.shape(op.saved) for op, _ in layer_ops),
    )
    context = Context(
        split=split,
        tokens=tokens,
        width=shape.hidden_size,
        precision=precision,
        framework=framework,
        model=model,
        cluster=cluster,
        grid=grid,
        frozen=frozen,
    )
    flops = sum(weight * np.asarray(op.flops, float) for op, weight in layer_ops)
    return ModelCost(
        layer=_price_place(layer_ops, context),
        embedding=_price_place([(op, 1.0) for op in graph.embedding], context),
        head=_price_place([(op, 1.0) for op in graph.head], context),
        flops=np.broadcast_to(flops, grid),
        head_flops=np.broadcast_to(sum(np.asarray(op.flops, float) for op in graph.head), grid),
    )


def _price_place(ops: list[tuple[Operator, Any]], context: Context) -> PlaceCost:
    grid = context.grid
    act = context.precision.activation_bytes
    # What norms and activations put out is kept as the next product reads it: cast, where the product is narrow.
    fmt = context.precision.matmul_format
    narrow = act if fmt in FULL_WIDTH else min(act, kernel_format(fmt).activation_bytes)
    local = [(shard(op, context.split), weight) for op, weight in ops]
    items: list[OperatorCost] = []
    matmuls = price_matmuls([op for op, _ in local if isinstance(op, Matmul)], context)
    saved, pointwise_saved, pointwise_forward = np.zeros(grid), np.zeros(grid), np.zeros(grid)
    params_split, params_expert = np.zeros(grid), np.zeros(grid)
    for op, weight in local:
        if isinstance(op, Matmul):
            item = next(matmuls)
        elif isinstance(op, GroupedMatmul):
            item = price_grouped(op, context)
        elif isinstance(op, Attention):
            item = price_attention(op, context)
        elif isinstance(op, Scan):
            item = price_scan(op, context)
        elif isinstance(op, Recurrence):
            item = price_recurrence(op, context)
        elif isinstance(op, FourierConvolution):
            item = price_fourier(op, context)
        elif isinstance(op, Gather):
            item = price_gather(op, context)
        else:
            item = _price_pointwise(op, context)
        item = _slowed(item, context)
        communication = communication_of(op, item, context)
        item = weighted(item, context.full(weight))
        items.append(item)
        items += [weighted(extra, context.full(weight)) for extra in communication]
        # The residual stream between layers is an input, not something to recompute.
        inside = isinstance(op, Pointwise) and op.place == "layer" and not op.name.endswith("residual")
        width = op.element_bytes or (narrow if inside else act) if isinstance(op, Pointwise) else act
        kept = context.full(op.saved) * weight * width
        saved = saved + kept
        if inside:
            pointwise_saved = pointwise_saved + kept
            pointwise_forward = pointwise_forward + item.forward
        held = context.full(op.params) * weight
        if isinstance(op, GroupedMatmul) and op.over == "experts":
            params_expert = params_expert + held
        else:
            params_split = params_split + held
    items += _launches(items, local, context)
    return PlaceCost(
        items=tuple(items),
        forward=sum((i.forward for i in items), np.zeros(grid)),
        backward=sum((i.backward for i in items), np.zeros(grid)),
        pointwise_forward=pointwise_forward,
        params_split=params_split,
        params_expert=params_expert,
        saved=saved,
        saved_selective=saved - pointwise_saved,
        input_bytes=context.full(
            context.tokens * context.width / (context.split.cp * context.split.tp) * act
        ),
    )


def _slowed(item: OperatorCost, context: Context) -> OperatorCost:
    """The operator as the framework runs it."""
    framework = context.framework
    accelerator = context.cluster.accelerator
    newer = accelerator.vendor == "NVIDIA" and accelerator.generation not in AMPERE
    matmul = framework.matmul if item.number_format in FULL_WIDTH else framework.matmul_8bit
    factor = {
        "matmul": matmul,
        "moe": framework.experts,
        "attention": framework.attention * (framework.attention_newer if newer else 1.0),
        "scan": framework.attention,
    }.get(item.family, framework.pointwise)
    return replace(item, forward=item.forward * factor, backward=item.backward * factor)


def _launches(
    items: list[OperatorCost], ops: list[tuple[Operator, Any]], context: Context
) -> list[OperatorCost]:
    """Time that the device waits for the host, which launches the operators of a pass one after the other."""
    framework, zero = context.framework, np.zeros(context.grid)
    host = zero
    for op, weight in ops:
        each = context.full(framework.host_s)
        if isinstance(op, Matmul) and op.split == "row":
            each = each + framework.host_collective_s * (context.full(context.split.tp) > 1)
        if isinstance(op, GroupedMatmul) and op.over == "experts":
            each = each + framework.host_experts_s
        host = host + each * context.full(weight)
    forward = np.maximum(host - sum((i.forward for i in items), zero), 0.0)
    backward = np.maximum(2 * host - sum((i.backward for i in items), zero), 0.0)
    return [
        OperatorCost(
            name="waiting for launches",
            cause="launch",
            forward=forward,
            backward=backward,
            flops=zero,
            bytes=zero,
            family="host",
            number_format="none",
        )
    ]


def _price_pointwise(op: Pointwise, context: Context) -> OperatorCost:
    width = op.element_bytes or context.precision.activation_bytes
    traffic = context.full(op.read + op.written) * width
    forward = context.full(context.model.pointwise(traffic, context.precision.name))
    backward = context.full(context.model.pointwise(traffic * op.backward_factor, context.precision.name))
    return OperatorCost(
        name=op.name,
        cause="memory",
        forward=forward,
        backward=backward,
        flops=np.zeros(context.grid),
        bytes=traffic,
        family="memory",
        number_format="bytes",
    )
