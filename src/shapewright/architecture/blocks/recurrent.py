"""Mixers with a linear recurrence as operators: gated DeltaNet, KDA, GLA, RWKV-7, Mamba-2 and mLSTM.

Decisions: all project their inputs, some run a short depthwise convolution over what enters the scan, and all norm
its gated output. The convolution keeps its input (written by the projection) and its output; the scan keeps its
output and recomputes its states in the backward pass. Gates and decays of one number per head ride along with the
projection. Decoding runs the same operators on one token; the convolution then also reads and writes its last inputs.
"""

from __future__ import annotations

from shapewright.architecture.operator import Matmul, Operator, Pointwise, Scan, ScanKind, Size
from shapewright.architecture.shape import MLSTM, RWKV7, DeltaNet, GatedLinear, KimiDelta, Mamba2

DPLR_CHUNK = 16
"""Tokens of a chunk of RWKV-7: its decays overflow over longer ones (fla-org/flash-linear-attention, dplr/chunk.py)."""


def delta_operators(
    a: DeltaNet, width: Size, *, batch: Size, seq_len: Size, decode: bool = False
) -> tuple[Operator, ...]:
    """Projection, convolution, gated delta rule, gated norm, output (arXiv 2412.06464, section 3.3)."""
    tokens, values = batch * seq_len, a.value_heads * a.value_dim
    mixed = 2 * a.key_heads * a.key_dim + values
    # Beside queries, keys and values: the output gate, and beta and the decay of each head.
    projected = mixed + values + 2 * a.value_heads
    return (
        _project("delta.in", tokens, width, projected),
        convolution("delta.conv", tokens, mixed, a.conv_kernel, batch=batch, decode=decode),
        _scan("delta.scan", "delta", batch, seq_len, a.value_heads, a.key_dim, a.value_dim, key_heads=a.key_heads),
        # One scale for all heads, and two numbers per head that set its decay.
        _gated_norm("delta.norm", tokens, values, a.value_dim + 2 * a.value_heads),
        _output("delta.out", tokens, width, values),
    )  # fmt: skip


def mamba2_operators(
    a: Mamba2, width: Size, *, batch: Size, seq_len: Size, decode: bool = False
) -> tuple[Operator, ...]:
    """Projection, convolution, state-space scan, gated norm, output (arXiv 2405.21060, section 7)."""
    tokens, values = batch * seq_len, a.heads * a.head_dim
    mixed = values + 2 * a.groups * a.state_size
    # Beside values, keys and queries: the output gate and the step size of each head.
    projected = mixed + values + a.heads
    return (
        _project("mamba.in", tokens, width, projected, bias=projected * int(a.bias)),
        convolution("mamba.conv", tokens, mixed, a.conv_kernel, batch=batch, decode=decode,
                    bias=mixed * int(a.conv_bias)),
        _scan("mamba.scan", "ssd", batch, seq_len, a.heads, a.state_size, a.head_dim, key_heads=a.groups,
              chunk=128),
        # Decay, step offset and skip of each head.
        _gated_norm("mamba.norm", tokens, values, values + 3 * a.heads),
        _output("mamba.out", tokens, width, values, bias=width * int(a.bias)),
    )  # fmt: skip


def kimi_delta_operators(
    a: KimiDelta, width: Size, *, batch: Size, seq_len: Size, decode: bool = False
) -> tuple[Operator, ...]:
    """Projection, low-rank decay and gate, convolution, delta rule, gated norm, output (arXiv 2510.26692)."""
    tokens, features = batch * seq_len, a.heads * a.head_dim
    # Queries, keys, values, beta of each head, and the two narrow products.
    projected = 3 * features + a.heads + 2 * a.head_dim
    return (
        _project("kda.in", tokens, width, projected),
        _project("kda.decay_up", tokens, a.head_dim, features, bias=features),
        _project("kda.gate_up", tokens, a.head_dim, features, bias=features),
        convolution("kda.conv", tokens, 3 * features, a.conv_kernel, batch=batch, decode=decode),
        _scan("kda.scan", "kda", batch, seq_len, a.heads, a.head_dim, a.head_dim),
        # One scale for all heads, and one number per head that sets its decay.
        _gated_norm("kda.norm", tokens, features, a.head_dim + a.heads),
        _output("kda.out", tokens, width, features),
    )


def gated_linear_operators(
    a: GatedLinear, width: Size, *, batch: Size, seq_len: Size
) -> tuple[Operator, ...]:
    """Projection, low-rank decay, scan, gated norm, output (arXiv 2312.06635, section 4.4)."""
    tokens, keys, values = batch * seq_len, a.heads * a.key_dim, a.heads * a.value_dim
    return (
        _project("gla.in", tokens, width, 2 * keys + 2 * values + a.gate_rank),
        _project("gla.decay_up", tokens, a.gate_rank, keys, bias=keys),
        _scan("gla.scan", "gla", batch, seq_len, a.heads, a.key_dim, a.value_dim),
        _gated_norm("gla.norm", tokens, values, a.value_dim),
        _output("gla.out", tokens, width, values),
    )


def rwkv7_operators(a: RWKV7, width: Size, *, batch: Size, seq_len: Size) -> tuple[Operator, ...]:
    """Token shift, projections, low-rank gates, scan, norm, output (arXiv 2503.14456, section 4).

    The first layer's unused mixing of values is counted with the others.
    """
    tokens, features = batch * seq_len, a.heads * a.head_dim
    low_rank: list[Operator] = []
    for name, rank, bias in (
        ("decay", a.decay_rank, 1), ("rate", a.rate_rank, 1), ("value", a.value_rank, 1), ("gate", a.gate_rank, 0),
    ):  # fmt: skip
        # The narrow side is copied on every rank; only the wide one is cut.
        low_rank += [
            Matmul(name=f"rwkv.{name}_down", place="layer", m=tokens, n=rank, k=width, saved=tokens * rank),
            _project(f"rwkv.{name}_up", tokens, rank, features, bias=features * bias),
        ]
    return (
        # Each of six streams is the token mixed with the one before.
        Pointwise(name="rwkv.shift", place="layer", read=tokens * width, written=6 * tokens * width,
                  weights=6 * width, saved=6 * tokens * width),
        *(_project(f"rwkv.{name}", tokens, width, features) for name in ("receptance", "key", "value")),
        *low_rank,
        # Scales of the removed key, of the rate in the key, and of the bonus for the present token.
        Pointwise(name="rwkv.mix", place="layer", read=6 * tokens * features, written=3 * tokens * features,
                  split="features", weights=3 * features, saved=3 * tokens * features),
        _scan("rwkv.scan", "rwkv7", batch, seq_len, a.heads, a.head_dim, a.head_dim, chunk=DPLR_CHUNK),
        _gated_norm("rwkv.norm", tokens, features, 2 * features),
        _output("rwkv.out", tokens, width, features),
    )  # fmt: skip


def mlstm_operators(a: MLSTM, width: Size, *, batch: Size, seq_len: Size) -> tuple[Operator, ...]:
    """Projection, scan with exponential gates, gated norm, output (arXiv 2503.13427, section 3)."""
    tokens, values = batch * seq_len, a.heads * a.value_dim
    projected = 2 * a.heads * a.key_dim + 2 * values + 2 * a.heads
    return (
        _project("mlstm.in", tokens, width, projected, bias=2 * a.heads),
        _scan("mlstm.scan", "mlstm", batch, seq_len, a.heads, a.key_dim, a.value_dim),
        _gated_norm("mlstm.norm", tokens, values, values),
        _output("mlstm.out", tokens, width, values),
    )


def convolution(
    name: str, tokens: Size, channels: Size, kernel: Size, *, batch: Size, decode: bool, bias: Size = 0,
    read: Size | None = None,
) -> Pointwise:  # fmt: skip
    """A short depthwise convolution; ``read`` elements come in where gates beside it are read as well."""
    size = tokens * channels
    last = 2 * batch * (kernel - 1) * channels * int(decode)
    return Pointwise(name=name, place="layer", read=(size if read is None else read) + last, written=size,
                     split="features", weights=channels * kernel + bias, saved=size)  # fmt: skip


def _project(name: str, tokens: Size, width: Size, features: Size, bias: Size = 0) -> Matmul:
    return Matmul(name=name, place="layer", m=tokens, n=features, k=width, split="column", bias=bias,
                  saved=tokens * features)  # fmt: skip


def _output(name: str, tokens: Size, width: Size, values: Size, bias: Size = 0) -> Matmul:
    return Matmul(name=name, place="layer", m=tokens, n=width, k=values, split="row", bias=bias)


def _scan(
    name: str, kind: ScanKind, batch: Size, seq_len: Size, heads: Size, key_dim: Size, value_dim: Size, *,
    key_heads: Size | None = None, chunk: Size = 64,
) -> Scan:  # fmt: skip
    return Scan(name=name, place="layer", kind=kind, batch=batch, seq_len=seq_len, heads=heads,
                key_heads=heads if key_heads is None else key_heads, key_dim=key_dim, value_dim=value_dim,
                chunk=chunk, saved=batch * seq_len * heads * value_dim)  # fmt: skip


def _gated_norm(name: str, tokens: Size, values: Size, weights: Size) -> Pointwise:
    return Pointwise(name=name, place="layer", read=2 * tokens * values, written=tokens * values,
                     split="features", weights=weights, saved=tokens * values)  # fmt: skip
