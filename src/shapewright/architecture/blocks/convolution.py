"""Convolutions as operators: short ones with a gate, and those as long as the sequence.

Decisions: a short convolution and its two gates are one pass over memory. A long one reads its streams once more for
the gate; its filters are made once for all sequences. Decoding a long convolution exactly reads every earlier input
again: it has no state of fixed size (distilled recurrences are another architecture).
"""

from __future__ import annotations

from shapewright.architecture.blocks.recurrent import convolution
from shapewright.architecture.operator import FourierConvolution, Matmul, Operator, Pointwise, Size
from shapewright.architecture.shape import Convolution, LongConvolution

HIDDEN_LAYERS = 2
"""Hidden products of the network that makes the filters (HazyResearch/safari, HyenaFilter)."""


def convolution_operators(
    a: Convolution, width: Size, *, batch: Size, seq_len: Size, decode: bool = False
) -> tuple[Operator, ...]:
    """Projection, gated depthwise convolution, output."""
    tokens = batch * seq_len
    streams = a.channels * (3 if a.gated else 1)
    return (
        Matmul(name="convolution.in", place="layer", m=tokens, n=streams, k=width, split="column",
               bias=streams * int(a.bias), saved=tokens * streams),
        convolution("convolution.mix", tokens, a.channels, a.taps, batch=batch, decode=decode,
                    bias=a.channels * int(a.bias), read=tokens * streams),
        Matmul(name="convolution.out", place="layer", m=tokens, n=width, k=a.channels, split="row",
               bias=width * int(a.bias)),
    )  # fmt: skip


def long_convolution_operators(
    a: LongConvolution, width: Size, *, batch: Size, seq_len: Size, past_len: Size = 0, decode: bool = False
) -> tuple[Operator, ...]:
    """Projection, short convolution, filters, ``order`` long convolutions with their gates, output."""
    tokens, streams, filters = batch * seq_len, (a.order + 1) * a.channels, a.order * a.channels
    width_f = a.filter_width
    ops: tuple[Operator, ...] = (
        Matmul(name="hyena.in", place="layer", m=tokens, n=streams, k=width, split="column", bias=streams,
               saved=tokens * streams),
        convolution("hyena.short", tokens, streams, a.short_kernel, batch=batch, decode=decode, bias=streams),
        # One product stands for the small ones before the last: the same FLOP and parameters.
        Matmul(name="hyena.filter_hidden", place="layer", m=seq_len, n=width_f,
               k=a.position_dim + HIDDEN_LAYERS * width_f, bias=(1 + HIDDEN_LAYERS) * width_f,
               saved=(1 + HIDDEN_LAYERS) * seq_len * width_f),
        Matmul(name="hyena.filter", place="layer", m=seq_len, n=filters, k=width_f, split="column",
               saved=seq_len * filters),
    )  # fmt: skip
    if decode:
        # The dot product of each channel with all its earlier inputs: bounded by reading them.
        kept = batch * seq_len * (past_len + seq_len) * filters
        mix: tuple[Operator, ...] = (
            Pointwise(name="hyena.mix", place="layer", read=kept, written=tokens * filters, split="features",
                      weights=filters),
        )  # fmt: skip
    else:
        mix = (
            FourierConvolution(name="hyena.mix", place="layer", batch=batch, seq_len=seq_len, channels=filters,
                               weights=filters, saved=tokens * filters),
            Pointwise(name="hyena.gate", place="layer", read=2 * tokens * filters, written=tokens * filters,
                      split="features", saved=tokens * filters),
        )  # fmt: skip
    return (
        *ops,
        *mix,
        Matmul(name="hyena.out", place="layer", m=tokens, n=width, k=a.channels, split="row", bias=width),
    )
