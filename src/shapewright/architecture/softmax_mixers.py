"""Token mixers that weigh keys by a softmax: full, windowed, latent and sparse attention.

Decisions: ``heads``, ``kv_heads`` and ``head_dim`` are what tensor parallelism and tiles ask of every mixer; where a
mixer has no such field, a property says what takes its place. ``kind`` names the noun in documents and catalogues.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np

from shapewright.architecture.operator import Size


@dataclass(frozen=True, kw_only=True, slots=True)
class SelfAttention:
    """Multi-head, grouped-query (kv_heads < heads) or multi-query (kv_heads = 1) attention."""

    kind: Literal["attention"] = "attention"
    heads: Size
    kv_heads: Size
    head_dim: Size
    """Width of one query, key and (unless ``v_head_dim`` says otherwise) value head."""
    v_head_dim: Size | None = None
    """Width of one value head; None where it is ``head_dim``."""
    window: Size | None = None
    """Sliding window in tokens; None for full attention."""
    chunk: Size | None = None
    """The sequence is cut into pieces of this many tokens that do not see each other; None for no cut."""
    causal: bool = True
    """False where every token sees every token (encoders, vision)."""
    qkv_bias: bool = False
    out_bias: bool = False
    qk_norm: Literal["none", "head", "heads", "full"] = "none"
    """Norm on queries and keys: over each head with one scale for all of them (``head``), over each head with
    its own scale (``heads``), or over all heads together (``full``)."""
    qk_norm_scale: bool = True
    qk_norm_bias: bool = False
    rotary_fraction: float = 1.0
    """Share of each head that rotary embedding turns; 0 for learned, ALiBi or no positions."""
    gate: Literal["none", "head", "element"] = "none"
    """Sigmoid gate on the output, computed from the layer's input: one number per head or per element, with a
    bias where queries have one."""
    sinks: bool = False
    """One learned logit per head in the denominator of the softmax."""
    values_are_keys: bool = False
    """Values are the keys before their norm and rotary embedding, so there is no value projection."""
    shares_kv: bool = False
    """Keys and values are those of an earlier layer (cross-layer attention, arXiv 2405.12981): no projection of them
    and no cache here."""

    @property
    def state_elements(self) -> Size:
        """Elements of recurrent state per sequence."""
        return 0

    def cached(self, context: Size) -> Size:
        """Elements that decoding keeps of ``context`` tokens of one sequence."""
        if self.shares_kv:
            return 0
        kept = context
        for limit in (self.window, self.chunk):
            if limit is not None:
                kept = np.minimum(kept, limit)
        return kept * self.kv_heads * (self.head_dim + _value_width(self))


@dataclass(frozen=True, kw_only=True, slots=True)
class Indexer:
    """A small scorer that chooses the keys each query attends to (DeepSeek-V3.2, arXiv 2512.02556)."""

    heads: Size
    head_dim: Size
    """Width of one scoring query and of the one key that all its heads share."""


@dataclass(frozen=True, kw_only=True, slots=True)
class LatentAttention:
    """Multi-head latent attention (arXiv 2405.04434, section 2.1): keys and values from one latent."""

    kind: Literal["latent"] = "latent"
    heads: Size
    kv_lora_rank: Size
    """Width of the latent that keys and values are expanded from, and that decoding caches."""
    qk_nope_head_dim: Size
    """Width of the part of a query or key head without positions."""
    qk_rope_head_dim: Size
    """Width of the rotary part; its key is shared by all heads and cached beside the latent."""
    v_head_dim: Size
    q_lora_rank: Size | None = None
    """Width of the latent of the queries; None where they are projected directly."""
    bias: bool = False
    """Biases on the two down-projections and on the output projection."""
    selected: Size | None = None
    """Keys each query attends to; None for all."""
    indexer: Indexer | None = None
    """What chooses them; None where nothing is chosen, or where an earlier layer's choice is used again."""

    @property
    def head_dim(self) -> Size:
        """Width of one query or key head."""
        return self.qk_nope_head_dim + self.qk_rope_head_dim

    @property
    def kv_heads(self) -> Size:
        """Key and value heads in training and prefill, where the latent is expanded for every head."""
        return self.heads

    @property
    def state_elements(self) -> Size:
        """Elements of recurrent state per sequence."""
        return 0

    def cached(self, context: Size) -> Size:
        """Elements that decoding keeps: the latent, the rotary part of the key, the keys of an indexer."""
        indexer = 0 if self.indexer is None else self.indexer.head_dim
        return context * (self.kv_lora_rank + self.qk_rope_head_dim + indexer)


@dataclass(frozen=True, kw_only=True, slots=True)
class SparseAttention:
    """Native sparse attention (NSA, arXiv 2502.11089): compressed blocks, selected blocks and a window, gated together.

    Each branch has keys and values of its own. The scores of the compressed branch choose the blocks, so selection
    needs no indexer; all query heads of a group choose the same blocks.
    """

    kind: Literal["sparse"] = "sparse"
    heads: Size
    kv_heads: Size
    head_dim: Size
    """Width of one query or key head."""
    v_head_dim: Size | None = None
    """Width of one value head; None where it is ``head_dim``."""
    compress_block: Size = 32
    """Tokens that one compressed key stands for."""
    compress_stride: Size = 16
    """Tokens from one compressed key to the next."""
    select_block: Size = 64
    """Tokens of a selected block: what is gathered at once."""
    select_count: Size = 16
    """Blocks selected per query, the first and the nearest included."""
    window: Size = 512
    """Tokens of the sliding window."""

    @property
    def selected(self) -> Size:
        """Tokens that each query attends to in the selected branch."""
        return self.select_block * self.select_count

    @property
    def state_elements(self) -> Size:
        """Elements of recurrent state per sequence."""
        return 0

    def cached(self, context: Size) -> Size:
        """Elements that decoding keeps: all keys for selection, compressed ones, those of the window."""
        kept = context + context / self.compress_stride + np.minimum(context, self.window)
        return kept * self.kv_heads * (self.head_dim + _value_width(self))


def _value_width(a: SelfAttention | SparseAttention) -> Size:
    return a.head_dim if a.v_head_dim is None else a.v_head_dim
