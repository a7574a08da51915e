"""A shape as the operators that one micro-batch runs through.

Decisions: a graph keeps one layer of each block and how often it occurs, so its size does not grow with the
depth. Three modes: ``train`` computes logits of every token and the loss; ``prefill`` reads a prompt and
computes logits of its last token; ``decode`` adds ``seq_len`` tokens (one, unless tokens are guessed ahead)
to a cache of ``past_len`` and computes logits of each.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np

from shapewright.architecture.blocks.layer import block_operators
from shapewright.architecture.blocks.pointwise import norm_operator
from shapewright.architecture.operator import GroupedMatmul, Matmul, Operator, Pointwise, Size
from shapewright.architecture.shape import Block, ExpertsFFN, Shape

Mode = Literal["train", "prefill", "decode"]


@dataclass(frozen=True, kw_only=True, slots=True)
class Graph:
    """Operators by place: before the layers, in one layer of each block, and after the layers."""

    embedding: tuple[Operator, ...]
    blocks: tuple[tuple[Operator, ...], ...]
    """The operators of one layer of each block of the shape."""
    counts: tuple[Size, ...]
    """Layers of each block."""
    head: tuple[Operator, ...]

    def flops(self) -> Size:
        """Forward FLOP of the micro-batch, exact for matrix products and attention."""
        return self._total("flops")

    def params(self) -> Size:
        """Parameters of the model."""
        return self._total("params")

    def saved(self) -> Size:
        """Elements kept for the backward pass, without recompute; those of the loss are fp32."""
        return self._total("saved")

    def _total(self, attribute: str) -> Size:
        total: Size = sum(getattr(op, attribute) for op in (*self.embedding, *self.head))
        for ops, count in zip(self.blocks, self.counts, strict=True):
            total = total + count * sum(getattr(op, attribute) for op in ops)
        return total


def build_graph(
    shape: Shape, *, batch: Size, seq_len: Size, mode: Mode = "train", past_len: Size = 0
) -> Graph:
    """Lower ``shape`` for a micro-batch of ``batch`` sequences of ``seq_len`` tokens.

    Sizes of the shape, ``batch``, ``seq_len`` and ``past_len`` (tokens already in the cache) may be arrays;
    they broadcast. A vision model's ``seq_len`` is its patches and class token, ``shape.patches.num_tokens``.
    """
    return Graph(
        embedding=_embedding(shape, batch, seq_len),
        blocks=tuple(
            layer_operators(block, shape, batch=batch, seq_len=seq_len, mode=mode, past_len=past_len)
            for block in shape.blocks
        ),
        counts=tuple(block.count for block in shape.blocks),
        head=_head(shape, batch, seq_len, mode),
    )


def layer_operators(
    block: Block, shape: Shape, *, batch: Size, seq_len: Size, mode: Mode = "train", past_len: Size = 0
) -> tuple[Operator, ...]:
    """The operators of one layer of ``block``."""
    return block_operators(
        block, shape.hidden_size, batch=batch, seq_len=seq_len, past_len=past_len, decode=mode == "decode"
    )


def _embedding(shape: Shape, batch: Size, seq_len: Size) -> tuple[Operator, ...]:
    d, tokens = shape.hidden_size, batch * seq_len
    positions = shape.learned_positions * d
    ops: list[Operator] = []
    if shape.patches is not None:
        p = shape.patches
        rows = batch * (seq_len - int(p.class_token))
        pixels = p.channels * p.patch_size**2
        # The pixels are kept as the input of the product; they need no gradient of their own.
        ops.append(
            Matmul(name="patches", place="embedding", m=rows, n=d, k=pixels, bias=d * int(p.bias),
                   saved=rows * pixels)
        )  # fmt: skip
        table = positions + d * int(p.class_token)
    else:
        table = shape.vocab_size * d + positions
    ops.append(
        Pointwise(name="embedding", place="embedding", read=tokens * d, written=tokens * d, weights=table,
                  saved=tokens * d)
    )  # fmt: skip
    if shape.embedding_norm is not None:
        ops.append(
            norm_operator("embedding.norm", shape.embedding_norm, tokens=tokens, width=d, place="embedding")
        )
    return tuple(ops)


def _head(shape: Shape, batch: Size, seq_len: Size, mode: Mode) -> tuple[Operator, ...]:
    d, vocab = shape.hidden_size, shape.vocab_size
    # Only the class token of an image and the last token of a prompt are asked for a prediction.
    rows = batch if shape.patches is not None or mode == "prefill" else batch * seq_len
    ops: list[Operator] = []
    if shape.final_norm is not None:
        tokens = batch * seq_len
        ops.append(norm_operator("final_norm", shape.final_norm, tokens=tokens, width=d, place="head"))
    ops.append(
        Matmul(name="lm_head", place="head", m=rows, n=vocab, k=d, split="column",
               bias=vocab * int(shape.head_bias), owns_weight=not shape.tied_embeddings)
    )  # fmt: skip
    if mode == "train":
        # Cross-entropy: the logits are read once, and kept in fp32 for the backward pass (arXiv 2205.05198).
        ops.append(
            Pointwise(name="loss", place="head", read=rows * vocab, written=rows * vocab, split="features",
                      saved=rows * vocab, element_bytes=4.0, backward_factor=1.0)
        )  # fmt: skip
    return tuple(ops)


def num_params(shape: Shape) -> Size:
    """Parameters of the whole model."""
    return build_graph(shape, batch=1, seq_len=1).params()


def num_embedding_params(shape: Shape) -> Size:
    """Parameters of the token and position embeddings (or patches) and of an untied head."""
    graph = build_graph(shape, batch=1, seq_len=1)
    norms = ("embedding.norm", "final_norm")
    return sum(op.params for op in (*graph.embedding, *graph.head) if op.name not in norms)


def num_active_params(shape: Shape) -> Size:
    """Parameters that one token passes through: all but the experts it is not routed to."""
    graph = build_graph(shape, batch=1, seq_len=1)
    total = graph.params()
    for block, ops in zip(shape.blocks, graph.blocks, strict=True):
        if isinstance(block.channel, ExpertsFFN):
            idle = block.channel.experts - block.channel.topk
            for op in ops:
                if isinstance(op, GroupedMatmul) and op.over == "experts":
                    total = total - block.count * idle * (op.n * op.k + op.bias)
    return total


def mlp_to_attention(shape: Shape) -> Size:
    """Parameters of the channel mixers' products over those of the token mixers', all layers together.

    A mixture counts what one token passes through. Bian et al. 2025 (arXiv 2510.18245, section 3.1) call it
    r_mlp/attn; it is 4.8 in Llama 3.2 1B.
    """
    channel: Size = 0
    mixer: Size = 0
    graph = build_graph(shape, batch=1, seq_len=1)
    for block, ops in zip(shape.blocks, graph.blocks, strict=True):
        for op in ops:
            if not isinstance(op, (Matmul, GroupedMatmul)):
                continue
            seen = op.topk / op.experts if isinstance(op, GroupedMatmul) else 1.0
            if op.name.startswith("ffn."):
                channel = channel + block.count * op.params * seen
            else:
                mixer = mixer + block.count * op.params * seen
    return channel / np.maximum(mixer, 1)
