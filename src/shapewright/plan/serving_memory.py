"""What weights, cached keys and values, and recurrent states occupy on one device of a serving replica.

Decisions: the cache is counted layer by layer from the shape, not by one formula for all: full attention keeps every
token, a window or a chunk keeps at most its length, latent attention keeps one latent that every device of a group
holds whole, an indexer adds its one key head, and recurrent mixers keep a state per sequence whatever its length. Key
heads fewer than ``tp`` are copied. A paged cache rounds each sequence up to whole pages. Weights are counted in the
format of their part; embeddings and head are cut by vocabulary.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from shapewright.architecture.graph import build_graph
from shapewright.architecture.operator import GroupedMatmul, Matmul, Size
from shapewright.architecture.shape import LatentAttention, SelfAttention, Shape, SparseAttention
from shapewright.cost.formats import kernel_format
from shapewright.plan.serving_formats import CACHES, STATE_BYTES, ServingFormats
from shapewright.plan.serving_step import Layout

Array = NDArray[Any]
PAGE = 16
"""Tokens of one page of the cache (vLLM's default; TensorRT-LLM's is 32, SGLang's 1 to 64)."""
INDEX_BYTES = 1.03125
"""Of one element of an indexer's key: fp8 with a scale per 128."""


def sequence_bytes(
    shape: Shape, layout: Layout, formats: ServingFormats, context: Size, *, page: int = PAGE
) -> Array:
    """Bytes that one sequence of ``context`` tokens occupies on each device of its group [B]; broadcasts."""
    tokens = np.ceil(np.asarray(context, float) / page) * page
    tp = np.asarray(layout.tp, float)
    total = np.zeros(np.broadcast_shapes(np.shape(tokens), np.shape(tp)))
    for block in shape.blocks:
        total = total + block.count * _layer_bytes(block.mixer, tokens, tp, formats)
    return total / layout.pp


def _layer_bytes(mixer: Any, tokens: Array, tp: Array, formats: ServingFormats) -> Array:
    if isinstance(mixer, SelfAttention | SparseAttention):
        # Devices beyond the key heads hold copies.
        share = np.minimum(tp, mixer.kv_heads)
        return np.asarray(mixer.cached(tokens), float) / share * formats.cache_bytes
    if isinstance(mixer, LatentAttention):
        latent = (mixer.kv_lora_rank + mixer.qk_rope_head_dim) * formats.cache_bytes
        index = mixer.indexer.head_dim * INDEX_BYTES if mixer.indexer is not None else 0.0
        return tokens * (latent + index)
    # A state of fixed size, and what else a mixer keeps of its inputs (a long convolution its whole history).
    state = np.asarray(mixer.state_elements, float) * STATE_BYTES
    return (state + np.asarray(mixer.cached(tokens), float) * CACHES["bf16"]) / tp


def weight_bytes(shape: Shape, layout: Layout, formats: ServingFormats) -> Array:
    """Bytes of weights on each device of one replica [B]; layers are spread evenly over the stages."""
    tp, world = np.asarray(layout.tp, float), np.asarray(layout.world, float)
    graph = build_graph(shape, batch=1, seq_len=1)
    total: Array = np.zeros(np.broadcast_shapes(np.shape(tp), np.shape(world), np.shape(layout.pp)))
    for ops, count in zip(graph.blocks, graph.counts, strict=True):
        for op in ops:
            if isinstance(op, GroupedMatmul) and op.over == "experts":
                held = op.params * formats.expert_bytes / world
            elif isinstance(op, Matmul):
                width = kernel_format("ternary").weight_bytes if op.ternary else formats.product_bytes
                held = op.params * width / (tp if op.split != "none" else 1.0)
            elif isinstance(op, GroupedMatmul):
                held = op.params * 2.0 / tp
            else:
                held = op.params * 2.0
            total = total + count * held / layout.pp
    for op in (*graph.embedding, *graph.head):
        total = total + op.params * 2.0 / tp
    return total
