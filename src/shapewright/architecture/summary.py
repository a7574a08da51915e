"""What a shape amounts to: where its parameters are, FLOP per token, the cache of decoding, alignment."""

from __future__ import annotations

import numpy as np

from shapewright.architecture.graph import build_graph
from shapewright.architecture.operator import Size
from shapewright.architecture.shape import Shape


def parameter_breakdown(shape: Shape) -> dict[str, Size]:
    """Parameters by the operator that owns them, over all layers, largest first where they are numbers."""
    graph = build_graph(shape, batch=1, seq_len=1)
    found: dict[str, Size] = {}
    for op in (*graph.embedding, *graph.head):
        found[op.name] = found.get(op.name, 0) + op.params
    for ops, count in zip(graph.blocks, graph.counts, strict=True):
        for op in ops:
            found[op.name] = found.get(op.name, 0) + count * op.params
    return {name: params for name, params in found.items() if np.any(params)}


def flops_per_token(shape: Shape, seq_len: Size) -> Size:
    """Forward FLOP per token of a training sequence of ``seq_len`` tokens, head included.

    Training costs about three times as much: the backward pass computes two products for each one of the
    forward pass (and recomputes the scores of attention).
    """
    return build_graph(shape, batch=1, seq_len=seq_len).flops() / seq_len


def cache_elements(shape: Shape, context: Size) -> Size:
    """Elements that decoding keeps for one sequence of ``context`` tokens, over all layers.

    Grouped-query attention keeps the keys and values of its key-value heads, of at most a window (or chunk)
    of tokens; latent attention keeps one latent, the rotary part of the key, and the keys of its indexer;
    recurrent mixers keep a state instead (:func:`state_elements`).
    """
    total: Size = 0
    for block in shape.blocks:
        total = total + block.count * block.mixer.cached(context)
    return total


def state_elements(shape: Shape) -> Size:
    """Elements of the recurrent states of one sequence, over all layers: what scans keep instead of a cache.

    They do not grow with the context. Kernels keep them in fp32 and read and write them at every token. The
    last inputs of the short convolutions are included.
    """
    total: Size = 0
    for block in shape.blocks:
        total = total + block.count * block.mixer.state_elements
    return total


def power_of_two(size: int) -> int:
    """The largest power of two that divides ``size``: what its tiles can be aligned to."""
    return size & -size
