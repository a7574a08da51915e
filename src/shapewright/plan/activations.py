"""What a place keeps for its backward pass under each level of recompute, and what it then computes again.

Reference: Korthikanti et al. 2022 (arXiv 2205.05198), section 4, as the check: ``tests/reference`` holds a GPT layer
against its equations with and without tensor and sequence parallelism. Decisions:

- ``selective`` drops what pointwise operators put out, and computes it again.
- ``alternate`` is torchtitan's selective recompute per operator: beside the layer's input (which the caller adds), the
  output of attention and of every second product are kept, in the order in which the layer runs them; queries, keys and
  values count apart, as do gate and up projection. Its 4-bit products are custom operators that are on no list to keep:
  all of them run again.
- Frozen weights have no gradient that would need the input of their product: the feed-forward layer's norm and activation
  keep nothing. The attention's inputs stay, since its adapters train.
- Outputs of norms and activations are kept as the next product reads them, cast where the product is narrow.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from shapewright.architecture.operator import Attention, GroupedMatmul, Matmul, Operator, Pointwise, Size
from shapewright.cost.formats import kernel_format
from shapewright.plan.costs import Context
from shapewright.plan.precision import FULL_WIDTH

Array = NDArray[Any]


@dataclass(frozen=True, kw_only=True, slots=True)
class Kept:
    """One operator's share of what is kept [B], and of its forward pass that each level repeats [1]."""

    everything: Array
    selective: Array
    alternate: Array
    repeated_selective: float
    repeated_alternate: float


def kept_by(ops: Sequence[Operator], context: Context) -> list[Kept]:
    """What each operator of a place (already cut by the plan) keeps for one micro-batch."""
    p = context.precision
    act, fmt = p.activation_bytes, p.matmul_format
    narrow = act
    if fmt not in FULL_WIDTH:
        cast = min(act, kernel_format(fmt).activation_bytes)
        narrow = p.wide_share * act + (1 - p.wide_share) * cast
    products = _kept_products(ops, kept=p.wide_share if fmt == "nvfp4" else 1.0)
    found = []
    for position, op in enumerate(ops):
        residual = op.name.endswith("residual")
        inside = isinstance(op, Pointwise) and op.place == "layer" and not residual
        width = (op.element_bytes or (narrow if inside else act)) if isinstance(op, Pointwise) else act
        everything = context.full(op.saved) * width
        if op.name == "loss":
            everything = context.full(op.saved) * p.loss_bytes
        if context.frozen and op.name in ("ffn.norm", "ffn.activation"):
            everything = np.zeros(context.grid)
        share = products.get(position)
        if share is not None:
            alternate = context.full(_outputs(op)) * act * share
        elif isinstance(op, Attention) or op.place != "layer":
            alternate = everything
        else:
            alternate = np.zeros(context.grid)
        found.append(
            Kept(
                everything=everything,
                selective=np.zeros(context.grid) if inside else everything,
                alternate=alternate,
                repeated_selective=float(inside),
                repeated_alternate=1.0 - share if share is not None else float(isinstance(op, Pointwise)),
            )
        )
    return found


def _outputs(op: Operator) -> Size:
    if isinstance(op, GroupedMatmul):
        return op.tokens * op.topk * op.n
    assert isinstance(op, Matmul)
    return op.m * op.n


def _kept_products(ops: Sequence[Operator], *, kept: float) -> dict[int, float]:
    """By position of a product: the share of its output that every second product keeps, in a share ``kept`` of layers."""
    count, shares = 0, {}
    for position, op in enumerate(ops):
        if not isinstance(op, Matmul | GroupedMatmul) or op.place != "layer":
            continue
        parts = _parts(op, ops[position + 1 :])
        share = 0.0
        for part in parts:
            count += 1
            if count % 2 == 1:
                share += part
        shares[position] = share * kept
    return shares


def _parts(op: Operator, later: Sequence[Operator]) -> tuple[float, ...]:
    """Shares of an operator's output that come from products of their own where frameworks do not fuse them."""
    if op.name == "attention.qkv":
        core = next((o for o in later if isinstance(o, Attention)), None)
        if core is not None:
            sizes = [
                core.heads * core.head_dim,
                core.kv_heads * core.head_dim,
                core.kv_heads * core.v_head_dim,
            ]
            total = sum(float(np.mean(size)) for size in sizes)
            return tuple(float(np.mean(size)) / total for size in sizes)
    if op.name.endswith(".up"):
        activation = next((o for o in later if isinstance(o, Pointwise)), None)
        if activation is not None and np.all(
            np.asarray(activation.read) == 2 * np.asarray(activation.written)
        ):
            return (0.5, 0.5)
    return (1.0,)
