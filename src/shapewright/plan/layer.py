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
    Declared,
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
from shapewright.cost.price import CostModel
from shapewright.hardware.cluster import Cluster
from shapewright.plan.activations import kept_by
from shapewright.plan.costs import Context, ModelCost, OperatorCost, PlaceCost, weighted
from shapewright.plan.exchange import communication_of
from shapewright.plan.framework import Framework
from shapewright.plan.mixing import (
    price_attention,
    price_declared,
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
            for x in (
                shape.hidden_size,
                shape.vocab_size,
                split.tp,
                split.cp,
                split.ep,
                split.context,
                split.sequence_parallel,
                split.async_tp,
                micro_batch,
            )
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
    local = [(shard(op, context.split), weight) for op, weight in ops]
    items: list[OperatorCost] = []
    matmuls = price_matmuls([op for op, _ in local if isinstance(op, Matmul)], context)
    kept = kept_by([op for op, _ in local], context)
    sums = {
        name: np.zeros(grid)
        for name in ("saved", "saved_selective", "saved_alternate", "pointwise_forward", "alternate_forward",
                     "params_split", "params_expert")
    }  # fmt: skip
    for (op, weight), held in zip(local, kept, strict=True):
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
        elif isinstance(op, Declared):
            item = price_declared(op, context)
        else:
            item = _price_pointwise(op, context)
        item = _slowed(item, context)
        communication = communication_of(op, item, context)
        item = weighted(item, context.full(weight))
        items.append(item)
        items += [weighted(extra, context.full(weight)) for extra in communication]
        params = "params_expert" if isinstance(op, GroupedMatmul) and op.over == "experts" else "params_split"
        for name, value in (
            ("saved", held.everything * weight),
            ("saved_selective", held.selective * weight),
            ("saved_alternate", held.alternate * weight),
            ("pointwise_forward", held.repeated_selective * item.forward),
            ("alternate_forward", held.repeated_alternate * item.forward),
            (params, context.full(op.params) * weight),
        ):
            sums[name] = sums[name] + value
    items += _launches(items, local, context)
    waits = [i for i in items if i.cause == "communication"]
    input_bytes = context.full(
        context.tokens
        * context.width
        / (context.split.cp * context.split.token_ranks)
        * context.precision.activation_bytes
    )
    if local and local[0][0].place == "layer":
        sums["saved_alternate"] = sums["saved_alternate"] + input_bytes
    return PlaceCost(
        items=tuple(items),
        forward=_total(items, "forward", grid),
        backward=_total(items, "backward", grid),
        weight=_total(items, "weight", grid),
        communication_forward=_total(waits, "forward", grid),
        communication_backward=_total(waits, "backward", grid),
        input_bytes=input_bytes,
        **sums,
    )


def _total(items: list[OperatorCost], name: str, grid: tuple[int, ...]) -> Array:
    return sum((np.asarray(getattr(item, name), float) for item in items), np.zeros(grid))


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
    return replace(
        item, forward=item.forward * factor, backward=item.backward * factor, weight=item.weight * factor
    )


def _launches(
    items: list[OperatorCost], ops: list[tuple[Operator, Any]], context: Context
) -> list[OperatorCost]:
    """Time that the device waits for the host, which launches the operators of a pass one after the other.

    Launches run ahead of the device while it is the slower of the two. Experts that take as many tokens as the router sends
    make the host wait for its counts: the queue runs empty, once per layer, in the forward pass.
    """
    framework, zero = context.framework, np.zeros(context.grid)
    host, counts = zero, zero
    for op, weight in ops:
        each = context.full(framework.host_s)
        if isinstance(op, Matmul) and op.split == "row":
            each = each + framework.host_collective_s * (context.full(context.split.tp) > 1)
        if isinstance(op, GroupedMatmul) and op.over == "experts" and op.split == "column":
            counts = counts + framework.host_experts_s * context.full(weight)
        host = host + each * context.full(weight)
    forward = np.maximum(host - sum((i.forward for i in items), zero), 0.0)
    backward = np.maximum(2 * host - sum((i.backward for i in items), zero), 0.0)
    return [
        _wait("waiting for launches", forward, backward),
        _wait("waiting for the router's counts", counts, zero),
    ]


def _wait(name: str, forward: Array, backward: Array) -> OperatorCost:
    zero = np.zeros(np.shape(forward))
    return OperatorCost(
        name=name,
        cause="launch",
        forward=forward,
        backward=backward,
        flops=zero,
        bytes=zero,
        family="host",
        number_format="none",
    )


def _price_pointwise(op: Pointwise, context: Context) -> OperatorCost:
    width = op.element_bytes or context.precision.activation_bytes
    traffic = context.full(op.read + op.written) * width
    forward = context.full(context.model.pointwise(traffic, context.precision.matmul_format))
    backward = context.full(
        context.model.pointwise(traffic * op.backward_factor, context.precision.matmul_format)
    )
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
