"""One piece of work, before anybody decides how it is split.

An operator states its exact FLOP, the bytes a fused kernel moves, the parameters it owns, what it must keep
for the backward pass, and along which dimension tensor and expert parallelism may cut it. It knows no device
and no plan: ``plan.shard`` cuts it, ``cost`` prices it.

Decisions: sizes are ints or NumPy arrays that broadcast, so one lowering serves one model and a million
candidates; nothing here branches on a size. A multiply-add is 2 FLOP; causal attention counts the triangle
it computes. FLOP of normalisations, rotary and activations are not counted as model FLOP (they are
bandwidth-bound and priced by bytes), the convention of torch's FlopCounterMode. What carries a state over the tokens
says its ``span``: the steps that must be computed one after the other, whatever the hardware.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import NDArray

from shapewright.architecture.chunked import chunk_flops, transition

if TYPE_CHECKING:
    Size = int | float | NDArray[Any]
else:
    # Documents hold single models only, so their schema sees plain numbers.
    Size = int | float
Place = Literal["embedding", "layer", "head"]
ScanKind = Literal["delta", "kda", "rwkv7", "ssd", "gla", "mlstm"]


@dataclass(frozen=True, kw_only=True, slots=True)
class Matmul:
    """``[m, k] x [k, n]``, once per layer that holds it; the weight is ``k x n`` plus ``bias`` parameters."""

    name: str
    place: Place
    m: Size
    """Rows: tokens of the micro-batch."""
    n: Size
    """Columns: output features."""
    k: Size
    """Input features."""
    split: Literal["column", "row", "none"] = "none"
    """How tensor parallelism cuts the weight: by n, by k, or not at all."""
    bias: Size = 0
    """Bias parameters."""
    saved: Size = 0
    """Output elements kept for the backward pass."""
    owns_weight: bool = True
    """False where the weight is another operator's (tied embeddings)."""
    ternary: bool = False
    """Weights of -1, 0 and 1 with one scale (BitNet b1.58, arXiv 2402.17764): decoding reads 2 bits of each."""

    @property
    def flops(self) -> Size:
        """Forward FLOP."""
        return 2.0 * self.m * self.n * self.k

    @property
    def params(self) -> Size:
        """Parameters owned."""
        return (self.k * self.n if self.owns_weight else 0) + self.bias


@dataclass(frozen=True, kw_only=True, slots=True)
class GroupedMatmul:
    """A product per expert: ``tokens x topk`` rows spread over ``experts`` weights of ``k x n``."""

    name: str
    place: Place
    tokens: Size
    experts: Size
    topk: Size
    n: Size
    k: Size
    split: Literal["column", "row", "none"] = "none"
    bias: Size = 0
    """Bias parameters of one expert."""
    saved: Size = 0
    over: Literal["experts", "heads"] = "experts"
    """What the group is: experts, which expert parallelism spreads, or attention heads, each with a weight of
    its own that every token meets (``topk`` equals ``experts``)."""

    @property
    def flops(self) -> Size:
        """Forward FLOP of the routed tokens."""
        return 2.0 * self.tokens * self.topk * self.n * self.k

    @property
    def params(self) -> Size:
        """Parameters of all experts."""
        return self.experts * (self.k * self.n + self.bias)


@dataclass(frozen=True, kw_only=True, slots=True)
class Attention:
    """Softmax attention over keys and values, fused (scores never leave the chip)."""

    name: str
    place: Place
    batch: Size
    q_len: Size
    kv_len: Size
    heads: Size
    kv_heads: Size
    head_dim: Size
    """Width of queries and keys."""
    v_head_dim: Size
    """Width of values."""
    causal: bool = True
    window: Size | None = None
    """Keys each query sees at most; None for all."""
    saved: Size = 0
    weights: Size = 0
    """Parameters owned (learned sinks)."""

    @property
    def pairs(self) -> Size:
        """Query-key pairs computed per sequence and head."""
        if not self.causal:
            keys = self.kv_len if self.window is None else np.minimum(self.kv_len, self.window)
            return 1.0 * np.asarray(self.q_len) * keys
        # The last q_len positions of a causal sequence: a trapezium, a triangle when q_len equals kv_len.
        q, kv = np.asarray(self.q_len, float), np.asarray(self.kv_len, float)
        triangle = q * kv - q * (q - 1) / 2
        if self.window is None:
            return triangle
        w = np.minimum(np.asarray(self.window, float), kv)
        # Rows that see fewer than w keys exist only where the sequence starts inside the window.
        short = np.clip(w - 1 - (kv - q), 0, q)
        return q * w - short * (short + 1) / 2

    @property
    def flops(self) -> Size:
        """Forward FLOP: scores and their product with the values."""
        return 2.0 * self.batch * self.heads * self.pairs * (self.head_dim + np.asarray(self.v_head_dim))

    @property
    def params(self) -> Size:
        """Parameters owned."""
        return self.weights


@dataclass(frozen=True, kw_only=True, slots=True)
class Pointwise:
    """Work bounded by memory traffic: norms, rotary, activations, residuals, softmax, embedding gather."""

    name: str
    place: Place
    read: Size
    """Elements read in the forward pass."""
    written: Size
    """Elements written in the forward pass."""
    split: Literal["sequence", "features", "none"] = "sequence"
    """How tensor parallelism cuts it: by tokens (sequence parallelism), by features, or not."""
    weights: Size = 0
    """Parameters owned (norm scales, embedding table, biases)."""
    saved: Size = 0
    """Output elements kept for the backward pass; selective recompute drops and recomputes them."""
    backward_factor: float = 2.0
    """Traffic of the backward pass over that of the forward pass."""
    element_bytes: float | None = None
    """Bytes per element where it is not the activation format's (fp32 logits)."""
    exchanged: bool = False
    """With tensor parallelism its output changes owners: an all-to-all inside the group."""

    @property
    def flops(self) -> Size:
        """Counted as zero: see the module's decisions."""
        return 0.0

    @property
    def params(self) -> Size:
        """Parameters owned."""
        return self.weights


@dataclass(frozen=True, kw_only=True, slots=True)
class Scan:
    """A linear recurrence over the tokens, computed chunk by chunk: its span does not shrink with more hardware.

    Every head of every sequence carries a state of ``key_dim x value_dim`` from chunk to chunk; inside a chunk
    the work is matrix products, counted by :mod:`shapewright.architecture.chunked`.
    """

    name: str
    place: Place
    kind: ScanKind
    batch: Size
    """Sequences."""
    seq_len: Size
    heads: Size
    """Heads that carry a state."""
    key_heads: Size
    """Heads of queries and keys, each shared by as many states."""
    key_dim: Size
    value_dim: Size
    chunk: Size = 64
    """Tokens of a chunk."""
    saved: Size = 0

    @property
    def flops(self) -> Size:
        """Forward FLOP of the chunked form; a sequence shorter than a chunk is one chunk."""
        c = np.minimum(self.chunk, np.asarray(self.seq_len, float))
        per_head = chunk_flops(self.kind, c, self.key_dim, self.value_dim, self.key_heads / self.heads)
        return self.batch * self.seq_len * self.heads * per_head

    @property
    def elements(self) -> Size:
        """Elements of memory that one fused pass moves: queries, keys, values, output and gates."""
        gates = {"kda": self.key_dim, "gla": self.key_dim, "rwkv7": 3 * self.key_dim}.get(self.kind, 0)
        each = 2 * self.key_heads * self.key_dim + self.heads * (2 * self.value_dim + gates)
        return self.batch * self.seq_len * each

    @property
    def state(self) -> Size:
        """Elements of the states of all sequences."""
        return self.batch * self.heads * self.key_dim * self.value_dim

    @property
    def passed(self) -> Size:
        """Elements that cross to the next device where the sequence is split: a state and what becomes of the last one."""
        return self.batch * self.heads * (self.key_dim * self.value_dim + transition(self.kind, self.key_dim))

    @property
    def span(self) -> Size:
        """Chunks that must be computed one after the other."""
        return np.ceil(np.asarray(self.seq_len, float) / self.chunk)

    @property
    def independent(self) -> Size:
        """Chains that can run at once."""
        return self.batch * self.heads

    @property
    def params(self) -> Size:
        """A scan owns no parameters."""
        return 0


@dataclass(frozen=True, kw_only=True, slots=True)
class Recurrence:
    """A recurrence whose gates read the last output: every token waits for a product with the one before.

    A step multiplies the last outputs ``[batch, units]`` with ``gates`` matrices of ``units x units``, block-diagonal
    over ``heads``. The input's share of the gates is another operator's, computed for all tokens at once.
    """

    name: str
    place: Place
    batch: Size
    """Sequences."""
    seq_len: Size
    units: Size
    """Width of the output that is fed back."""
    gates: int
    heads: Size = 1
    """Blocks of the recurrent matrices."""
    bias: Size = 0
    """Bias parameters."""
    state: Size = 0
    """Elements of the states of all sequences."""
    saved: Size = 0

    @property
    def flops(self) -> Size:
        """Forward FLOP of the recurrent products."""
        return 2.0 * self.batch * self.seq_len * self.gates * self.units * self.units / self.heads

    @property
    def params(self) -> Size:
        """Parameters owned."""
        return self.gates * self.units * self.units // self.heads + self.bias

    @property
    def elements(self) -> Size:
        """Elements of memory moved beside the weights: gates in, outputs and cells out."""
        return self.batch * self.seq_len * self.units * (self.gates + 2)

    @property
    def span(self) -> Size:
        """Steps that must be computed one after the other: the tokens."""
        return self.seq_len

    @property
    def independent(self) -> Size:
        """Chains that can run at once; one chain of full matrices spreads over a whole device."""
        return self.heads


@dataclass(frozen=True, kw_only=True, slots=True)
class FourierConvolution:
    """Convolutions as long as the sequence, each through a Fourier transform of twice its length.

    FLOP per channel with N = 2 T: ``(2 batch + 1) * 5 N log2 N + 6 N batch`` (transforms of input, output and, once
    for all sequences, of the filter; then a complex product). Reference: Fu et al. 2023, arXiv 2311.05908.
    """

    name: str
    place: Place
    batch: Size
    seq_len: Size
    channels: Size
    weights: Size = 0
    """Parameters owned (one skip per channel)."""
    saved: Size = 0

    @property
    def flops(self) -> Size:
        """Forward FLOP by transforms of complex numbers."""
        n = 2.0 * np.asarray(self.seq_len, float)
        return self.channels * ((2.0 * self.batch + 1.0) * 5.0 * n * np.log2(n) + 6.0 * n * self.batch)

    @property
    def params(self) -> Size:
        """Parameters owned."""
        return self.weights

    @property
    def elements(self) -> Size:
        """Elements of memory that one fused pass moves: input, output, and the filter once."""
        return self.channels * self.seq_len * (2 * self.batch + 1)

    @property
    def span(self) -> Size:
        """Stages that must be computed one after the other: those of two transforms."""
        return 2.0 * np.log2(2.0 * np.asarray(self.seq_len, float))


@dataclass(frozen=True, kw_only=True, slots=True)
class Gather:
    """Rows of a large table fetched by address, weighted and summed, for every token."""

    name: str
    place: Place
    tokens: Size
    rows: Size
    """Rows per token."""
    row_size: Size
    """Elements of a row."""
    table_rows: Size
    """Rows of the table."""
    summed: bool = True
    """The rows of a token are weighted and added; else they stand side by side."""
    saved: Size = 0

    @property
    def flops(self) -> Size:
        """Forward FLOP of the weighted sum."""
        return 2.0 * self.tokens * self.rows * self.row_size * int(self.summed)

    @property
    def params(self) -> Size:
        """Parameters of the table."""
        return self.table_rows * self.row_size

    @property
    def elements(self) -> Size:
        """Elements of memory moved: the rows in, the result out."""
        return self.tokens * self.row_size * (self.rows + (1 if self.summed else self.rows))


@dataclass(frozen=True, kw_only=True, slots=True)
class Declared:
    """A primitive by its numbers alone (:mod:`shapewright.architecture.declared_mixer`)."""

    name: str
    place: Place
    flops: Size
    """Forward FLOP."""
    moved: Size
    """Bytes of device memory, forward."""
    span: Size
    """Steps that must be computed one after the other."""
    independent: Size
    """Chains of such steps that can run at once."""
    step_s: float
    """One step of one chain [s]."""
    share: float
    """Of the matrix peak [1]."""
    passed: Size = 0
    """Elements that cross where the sequence is split; 0 where it cannot be."""
    params: Size = 0
    saved: Size = 0


Operator = (
    Matmul
    | GroupedMatmul
    | Attention
    | Pointwise
    | Scan
    | Recurrence
    | FourierConvolution
    | Gather
    | Declared
)
