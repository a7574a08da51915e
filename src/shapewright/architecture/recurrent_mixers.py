"""Token mixers that carry a state from token to token instead of a cache that grows.

Decisions: all of them say with ``state_elements`` what decoding keeps for one sequence and layer (kernels keep it in
fp32, and read and write it at every token). Two kinds of recurrence differ by what their span is: a linear one
(DeltaNet, KDA, GLA, RWKV-7, Mamba-2, mLSTM) is computed chunk by chunk, one whose gates read the last output (LSTM,
sLSTM) token by token.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from shapewright.architecture.operator import Size


@dataclass(frozen=True, kw_only=True, slots=True)
class DeltaNet:
    """Gated DeltaNet (arXiv 2412.06464): a state per value head, rewritten by the delta rule with decay."""

    kind: Literal["delta"] = "delta"
    key_heads: Size
    """Heads of queries and keys."""
    value_heads: Size
    """Heads of values; each carries a state."""
    key_dim: Size
    value_dim: Size
    conv_kernel: Size = 4
    """Taps of the short convolution over queries, keys and values."""

    @property
    def heads(self) -> Size:
        """Heads that tensor parallelism can spread."""
        return self.value_heads

    @property
    def kv_heads(self) -> Size:
        """Heads that groups of ``heads`` share."""
        return self.key_heads

    @property
    def head_dim(self) -> Size:
        """Width of one query or key head."""
        return self.key_dim

    @property
    def state_elements(self) -> Size:
        """States, and the last inputs of the convolution."""
        mixed = 2 * self.key_heads * self.key_dim + self.value_heads * self.value_dim
        return self.value_heads * self.key_dim * self.value_dim + (self.conv_kernel - 1) * mixed

    def cached(self, context: Size) -> Size:
        """Elements that grow with the context: none."""
        return 0


@dataclass(frozen=True, kw_only=True, slots=True)
class Mamba2:
    """Mamba-2 (arXiv 2405.21060): a state per head that decays by a scalar."""

    kind: Literal["mamba2"] = "mamba2"
    heads: Size
    head_dim: Size
    """Width of one value head."""
    state_size: Size
    """Width of the keys and queries (B and C)."""
    groups: Size
    """Sets of keys and queries, each shared by as many heads."""
    conv_kernel: Size = 4
    conv_bias: bool = True
    bias: bool = False
    """Biases on the input and output projections."""

    @property
    def kv_heads(self) -> Size:
        """Heads that groups of ``heads`` share."""
        return self.groups

    @property
    def state_elements(self) -> Size:
        """States, and the last inputs of the convolution."""
        mixed = self.heads * self.head_dim + 2 * self.groups * self.state_size
        return self.heads * self.head_dim * self.state_size + (self.conv_kernel - 1) * mixed

    def cached(self, context: Size) -> Size:
        """Elements that grow with the context: none."""
        return 0


@dataclass(frozen=True, kw_only=True, slots=True)
class KimiDelta:
    """Kimi delta attention (KDA, arXiv 2510.26692): the delta rule with a decay per channel of the keys.

    Decay and output gate are low-rank: down to one head's width, up to all heads.
    """

    kind: Literal["kda"] = "kda"
    heads: Size
    """Heads of queries, keys and values; each carries a state."""
    head_dim: Size
    """Width of one query, key and value head."""
    conv_kernel: Size = 4
    """Taps of the short convolutions over queries, keys and values."""

    @property
    def kv_heads(self) -> Size:
        """Heads that groups of ``heads`` share."""
        return self.heads

    @property
    def state_elements(self) -> Size:
        """States, and the last inputs of the convolutions."""
        return self.heads * self.head_dim * (self.head_dim + 3 * (self.conv_kernel - 1))

    def cached(self, context: Size) -> Size:
        """Elements that grow with the context: none."""
        return 0


@dataclass(frozen=True, kw_only=True, slots=True)
class GatedLinear:
    """Gated linear attention (GLA, arXiv 2312.06635): a state per head, decayed per channel of the keys."""

    kind: Literal["gla"] = "gla"
    heads: Size
    key_dim: Size
    """Width of one query or key head."""
    value_dim: Size
    """Width of one value head."""
    gate_rank: Size = 16
    """Width of the low-rank product that makes the decays."""

    @property
    def kv_heads(self) -> Size:
        """Heads that groups of ``heads`` share."""
        return self.heads

    @property
    def head_dim(self) -> Size:
        """Width of one query or key head."""
        return self.key_dim

    @property
    def state_elements(self) -> Size:
        """The states."""
        return self.heads * self.key_dim * self.value_dim

    def cached(self, context: Size) -> Size:
        """Elements that grow with the context: none."""
        return 0


@dataclass(frozen=True, kw_only=True, slots=True)
class RWKV7:
    """The time mixing of RWKV-7 (arXiv 2503.14456): a state per head under a diagonal and a rank-one change.

    The heads span the model's width. Decay, in-context rate, value mixing and output gate are low-rank products.
    """

    kind: Literal["rwkv7"] = "rwkv7"
    heads: Size
    head_dim: Size
    """Width of one head of receptance, key and value."""
    decay_rank: Size = 64
    rate_rank: Size = 64
    """Width of the low-rank product that makes the in-context learning rates."""
    value_rank: Size = 32
    """Width of the one that mixes in the first layer's values."""
    gate_rank: Size = 128
    """Width of the one that makes the output gate."""

    @property
    def kv_heads(self) -> Size:
        """Heads that groups of ``heads`` share."""
        return self.heads

    @property
    def state_elements(self) -> Size:
        """States, and the last token that the shift needs."""
        return self.heads * self.head_dim * (self.head_dim + 1)

    def cached(self, context: Size) -> Size:
        """Elements that grow with the context: none."""
        return 0


@dataclass(frozen=True, kw_only=True, slots=True)
class MLSTM:
    """The matrix LSTM as in xLSTM 7B (arXiv 2503.13427): a decayed state per head with exponential gates.

    Queries, keys, values and the output gate are products of the input; input and forget gate are one number per head
    each, with a bias. The heads' outputs are normed each with its own scale.
    """

    kind: Literal["mlstm"] = "mlstm"
    heads: Size
    key_dim: Size
    """Width of one query or key head."""
    value_dim: Size
    """Width of one value head."""

    @property
    def kv_heads(self) -> Size:
        """Heads that groups of ``heads`` share."""
        return self.heads

    @property
    def head_dim(self) -> Size:
        """Width of one query or key head."""
        return self.key_dim

    @property
    def state_elements(self) -> Size:
        """State, normaliser and running maximum of each head."""
        return self.heads * (self.key_dim * self.value_dim + self.key_dim + 1)

    def cached(self, context: Size) -> Size:
        """Elements that grow with the context: none."""
        return 0


@dataclass(frozen=True, kw_only=True, slots=True)
class SLSTM:
    """The scalar LSTM (arXiv 2405.04517, section 2.2): exponential gates that read the last output of their own head.

    A short convolution feeds the input and forget gates; all four gates are made head by head (block-diagonal
    products) from the input and from the last output. The heads span the model's width; there is no output product.
    """

    kind: Literal["slstm"] = "slstm"
    heads: Size
    head_dim: Size
    conv_kernel: Size = 4
    """Taps of the short convolution, which has a bias; 0 for none."""

    @property
    def kv_heads(self) -> Size:
        """Heads that groups of ``heads`` share."""
        return self.heads

    @property
    def state_elements(self) -> Size:
        """Cell, normaliser, running maximum and output, and the last inputs of the convolution."""
        return self.heads * self.head_dim * (4 + self.conv_kernel - (self.conv_kernel > 0))

    def cached(self, context: Size) -> Size:
        """Elements that grow with the context: none."""
        return 0


@dataclass(frozen=True, kw_only=True, slots=True)
class LSTM:
    """The long short-term memory (Hochreiter and Schmidhuber 1997, doi 10.1162/neco.1997.9.8.1735) with forget gates.

    Four gates from the input and from the last output; then a product back to the model's width.
    """

    kind: Literal["lstm"] = "lstm"
    cell_size: Size
    """Units: width of the cell and of its output."""
    bias: bool = True
    """Two vectors of biases, one for the input's and one for the last output's product, as torch.nn.LSTM holds them."""
    projection: bool = True
    """A product from the cell back to the model's width; False where the cell is as wide as the model."""

    @property
    def heads(self) -> Size:
        """What tensor parallelism can spread: single units, at the price of a gather per token."""
        return self.cell_size

    @property
    def kv_heads(self) -> Size:
        """Heads that groups of ``heads`` share."""
        return self.cell_size

    @property
    def head_dim(self) -> Size:
        """Width of what one unit sees as a head."""
        return 1

    @property
    def state_elements(self) -> Size:
        """Cell and output."""
        return 2 * self.cell_size

    def cached(self, context: Size) -> Size:
        """Elements that grow with the context: none."""
        return 0
