"""Channel mixers: what a layer does to each token by itself."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from shapewright.architecture.operator import Size


@dataclass(frozen=True, kw_only=True, slots=True)
class DenseFFN:
    """Feed-forward layer: gated (three matrices, SwiGLU) or plain (two matrices, GELU)."""

    kind: Literal["dense"] = "dense"
    ffn_size: Size
    gated: bool = True
    bias: bool = False
    monarch_blocks: Size | None = None
    """Each matrix is two block-diagonal factors of so many blocks with a permutation between them (Monarch, arXiv
    2204.00595); None for dense matrices."""


@dataclass(frozen=True, kw_only=True, slots=True)
class ExpertsFFN:
    """Mixture of experts: ``topk`` of ``experts`` per token, and ``shared`` that see every token."""

    kind: Literal["experts"] = "experts"
    ffn_size: Size
    """Width of one routed expert."""
    experts: Size
    topk: Size
    shared_ffn_size: Size = 0
    """Width of the shared experts together; 0 for none."""
    gated: bool = True
    bias: bool = False
    """Biases in the routed experts."""
    router_bias: bool = False
    """One trained number per expert, added to its score."""
    shared_gate: bool = False
    """A sigmoid gate on the shared experts' output, one number per token (Qwen2-MoE)."""
    separate_norms: bool = False
    """Routed and shared experts each have norms of their own, and the router a scale per feature and per
    expert (Gemma 4)."""
    latent_size: Size | None = None
    """Width that the tokens are projected to before the routed experts and back from after them (Nemotron 3);
    None where experts see the model's width."""


@dataclass(frozen=True, kw_only=True, slots=True)
class NoFFN:
    """No feed-forward layer: the block is a token mixer alone."""

    kind: Literal["none"] = "none"

    @property
    def ffn_size(self) -> Size:
        """Its width."""
        return 0

    @property
    def gated(self) -> bool:
        """It has no gate."""
        return False


@dataclass(frozen=True, kw_only=True, slots=True)
class ProductKeyMemory:
    """A memory of ``num_keys ** 2`` values found by two halves of a key (arXiv 1907.05242, 2412.09764).

    Each head compares the halves of its query with ``num_keys`` half-keys each; the ``topk`` best pairs address values
    as wide as the model, which are weighted and summed over all heads.
    """

    kind: Literal["product_keys"] = "product_keys"
    num_keys: Size
    """Half-keys of each of the two sets; the memory has its square of slots."""
    heads: Size
    topk: Size
    """Slots read per head and token."""
    query_dim: Size
    """Width of one head's query, both halves."""

    @property
    def ffn_size(self) -> Size:
        """Its width in the sense of a feed-forward layer: none."""
        return 0

    @property
    def gated(self) -> bool:
        """It has no gate."""
        return False


@dataclass(frozen=True, kw_only=True, slots=True)
class HashedTable:
    """Rows of a table addressed by hashes of the last tokens (n-grams), as Engram (arXiv 2601.07372) has them.

    ``lookups`` rows stand side by side; one product makes a key, which gates, and a value as wide as the model, which
    passes a short convolution. The addresses are known as soon as the tokens are.
    """

    kind: Literal["hashed"] = "hashed"
    table_rows: Size
    row_size: Size
    lookups: Size
    """Rows per token: orders of n-grams times hashes of each."""
    conv_kernel: Size = 4

    @property
    def ffn_size(self) -> Size:
        """Its width in the sense of a feed-forward layer: none."""
        return 0

    @property
    def gated(self) -> bool:
        """It has no gate in the sense of a feed-forward layer."""
        return False
