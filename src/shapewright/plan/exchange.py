"""The collectives that operators of a layer bring with them, as far as the layer waits for them."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from shapewright.architecture.operator import (
    Attention,
    Declared,
    FourierConvolution,
    GroupedMatmul,
    Matmul,
    Operator,
    Pointwise,
    Recurrence,
    Scan,
    Size,
)
from shapewright.plan.costs import Context, OperatorCost
from shapewright.plan.framework import Framework
from shapewright.plan.network import collective_seconds

Array = NDArray[Any]


def communication_of(op: Operator, item: OperatorCost, context: Context) -> list[OperatorCost]:
    """The collectives that an operator brings with it, exposed as the layer waits for them.

    Tensor parallelism gathers the input of each column-split product's group and scatters the output of each
    row-split one (with sequence parallelism), or adds the outputs up on every rank (without), forward and backward.
    Asynchronous, it runs in tp pieces behind the product, all but the first (Wang et al. 2023, ASPLOS). Context
    parallelism passes keys and values around a ring behind the attention itself, or gathers them before it; expert
    parallelism sends tokens there and back, and tensor parallelism inside experts gathers and scatters them there. A
    full recurrence gathers its outputs at every token; a long convolution trades tokens for channels and back.
    """
    split, act = context.split, context.precision.activation_bytes
    tensor = context.full(context.tokens * context.width / split.cp * act)
    found: list[tuple[str, str, Array, Array]] = []
    if isinstance(op, Matmul) and op.split == "row" and np.max(split.tp) > 1:
        found.append(_tensor_parallel(op.name.split(".")[0], tensor, item, context))
    if isinstance(op, Pointwise) and op.exchanged and np.max(split.tp) > 1:
        held = context.full(op.written) * act * context.full(split.tp)
        moved = _on_axis(context, "all_to_all", held, split.tp, 1)
        found.append((f"{op.name.rpartition('.')[0]} all-to-all (tp)", "all_to_all", moved, moved))
    if isinstance(op, Recurrence) and np.max(split.tp) > 1:
        # Full recurrent matrices need every unit's last output at every token; blocks of their own need none.
        outputs = context.full(op.batch * op.units) * context.full(split.tp) * act
        each = _on_axis(context, "all_gather", outputs, split.tp, 1) * context.full(op.seq_len)
        each = np.where(context.full(op.heads) * context.full(split.tp) > 1, 0.0, each)
        found.append((f"{op.name.split('.')[0]} all-gather at every token (tp)", "all_gather", each, each))
    if isinstance(op, Scan | Declared) and np.max(split.cp) > 1 and np.any(np.asarray(op.passed) > 0):
        # Effects of pieces meet in a tree, in fp32, and each goes on to the next piece.
        state = context.full(op.passed * 4.0)
        hops = np.ceil(np.log2(context.full(split.cp))) + 1.0
        tree = hops * _on_axis(context, "send", state, split.cp, split.tp)
        found.append((f"{op.name.split('.')[0]} states (cp)", "send", tree, tree))
    if isinstance(op, FourierConvolution) and np.max(split.cp) > 1:
        held = context.full(op.batch * op.seq_len * op.channels) * context.full(split.cp) * act
        moved = 2 * _on_axis(context, "all_to_all", held, split.cp, split.tp)
        found.append((f"{op.name.split('.')[0]} all-to-all (cp)", "all_to_all", moved, moved))
    if isinstance(op, GroupedMatmul) and op.over == "experts" and np.max(split.ep) > 1:
        # Tokens of this rank times topk, sent once; every member of the group holds as many.
        routed = context.full(op.tokens * op.topk * context.width * act) / context.full(split.etp)
        # A token bound for several experts of one node crosses the network once and is copied there.
        once = _on_axis(
            context,
            "all_to_all",
            routed * context.full(split.ep) * _distinct(op, context),
            split.ep,
            split.etp,
        )
        found.append((f"{op.name.rsplit('.', 1)[-1]} all-to-all (ep)", "all_to_all", once, once))
    if isinstance(op, GroupedMatmul) and op.over == "experts" and op.split == "row" and np.max(split.etp) > 1:
        rows = context.full(op.tokens * op.topk * context.width * act)
        pair = _on_axis(context, "all_gather", rows, split.etp, 1)
        pair = pair + _on_axis(context, "reduce_scatter", rows, split.etp, 1)
        found.append(("experts all-gather + reduce-scatter (etp)", "all_gather", pair, pair))
    if isinstance(op, Attention) and np.max(split.cp) > 1:
        kv = context.full(op.batch * op.kv_len * op.kv_heads * (op.head_dim + op.v_head_dim) * act)
        wire = _on_axis(context, "all_gather", kv, split.cp, split.tp)
        gathered = context.full(split.context) == 2
        found.append(
            (
                "keys and values (cp)",
                "all_gather",
                np.where(gathered, wire, exposed(wire, item.forward, context.framework)),
                np.where(gathered, 2 * wire, exposed(2 * wire, item.backward, context.framework)),
            )
        )
    zero = np.zeros(context.grid)
    return [
        OperatorCost(
            name=name,
            cause="communication",
            forward=f,
            backward=b,
            flops=zero,
            bytes=zero,
            family="collective",
            number_format=kind,
        )
        for name, kind, f, b in found
    ]


def _tensor_parallel(
    name: str, tensor: Array, item: OperatorCost, context: Context
) -> tuple[str, str, Array, Array]:
    split = context.split
    pair = _on_axis(context, "all_gather", tensor, split.tp, 1) + _on_axis(
        context, "reduce_scatter", tensor, split.tp, 1
    )
    kind, label = "all_gather", "all-gather + reduce-scatter"
    if np.min(split.sequence_parallel) == 0:
        sums = _on_axis(context, "all_reduce", tensor, split.tp, 1)
        pair = np.where(context.full(split.sequence_parallel) > 0, pair, sums)
        kind, label = "all_reduce", "all-reduce"
    forward = backward = pair
    if np.max(split.async_tp) > 0:
        first = pair / np.maximum(context.full(split.tp), 1)
        later = context.full(split.async_tp) > 0
        forward = np.where(later, first + exposed(pair - first, item.forward, context.framework), pair)
        backward = np.where(later, first + exposed(pair - first, item.backward, context.framework), pair)
    return f"{name} {label} (tp)", kind, forward, backward


def exposed(wire: Array, work: Array, framework: Framework) -> Array:
    """What a transfer behind ``work`` adds to it: what outlasts it, and the slowing of what it overlaps with [s]."""
    return np.maximum(wire - work, 0.0) + framework.contention * np.minimum(wire, work)


def _distinct(op: GroupedMatmul, context: Context) -> Array:
    """Distinct nodes (or devices, inside one) that a token's experts lie on, over the experts it is routed to."""
    ep, topk = context.full(context.split.ep), context.full(op.topk)
    inner = context.cluster.tiers[0].size if context.cluster.tiers else 1
    places = np.where(ep > inner, ep / inner, ep)
    return places * (1 - (1 - 1 / places) ** topk) / topk


def _on_axis(context: Context, kind: str, num_bytes: Array, size: Size, stride: Size) -> Array:
    return collective_seconds(
        context.model,
        context.cluster,
        kind,
        num_bytes,
        size=np.broadcast_to(np.asarray(size), context.grid),
        stride=np.broadcast_to(np.asarray(stride), context.grid),
    )
