"""Mixers whose gates read the last output, as operators: LSTM and sLSTM.

Decisions: the input's share of the gates is one product over all tokens; only the recurrent share waits for the token
before. The gates are kept for the backward pass as the recurrence overwrites them, beside cells and outputs, as
cuDNN's reserve space does. Decoding runs the same operators on one token.
"""

from __future__ import annotations

import numpy as np

from shapewright.architecture.blocks.recurrent import convolution
from shapewright.architecture.operator import GroupedMatmul, Matmul, Operator, Pointwise, Recurrence, Size
from shapewright.architecture.shape import LSTM, SLSTM


def lstm_operators(a: LSTM, width: Size, *, batch: Size, seq_len: Size) -> tuple[Operator, ...]:
    """Gates from the input, recurrence, output (doi 10.1162/neco.1997.9.8.1735)."""
    tokens, gates = batch * seq_len, 4 * a.cell_size
    ops: list[Operator] = [
        Matmul(name="lstm.in", place="layer", m=tokens, n=gates, k=width, split="column",
               bias=gates * int(a.bias), saved=tokens * gates),
        Recurrence(name="lstm.recurrence", place="layer", batch=batch, seq_len=seq_len, units=a.cell_size,
                   gates=4, bias=gates * int(a.bias), state=2 * batch * a.cell_size,
                   saved=2 * tokens * a.cell_size),
    ]  # fmt: skip
    if a.projection:
        ops.append(
            Matmul(name="lstm.out", place="layer", m=tokens, n=width, k=a.cell_size, split="row")
        )  # fmt: skip
    return tuple(ops)


def slstm_operators(
    a: SLSTM, width: Size, *, batch: Size, seq_len: Size, decode: bool = False
) -> tuple[Operator, ...]:
    """Convolution, gates head by head, recurrence inside each head, norm (arXiv 2405.04517, section 2.2).

    The heads span the width, so ``width`` is not needed.
    """
    tokens, units = batch * seq_len, a.heads * a.head_dim
    ops: list[Operator] = []
    if np.any(a.conv_kernel):
        ops.append(
            convolution("slstm.conv", tokens, units, a.conv_kernel, batch=batch, decode=decode, bias=units)
        )
    return (
        *ops,
        GroupedMatmul(name="slstm.gates", place="layer", tokens=tokens, experts=a.heads, topk=a.heads,
                      n=4 * a.head_dim, k=a.head_dim, over="heads", saved=4 * tokens * units),
        Recurrence(name="slstm.recurrence", place="layer", batch=batch, seq_len=seq_len, units=units, gates=4,
                   heads=a.heads, bias=4 * units, state=4 * batch * units, saved=3 * tokens * units),
        # Each rank normed its own heads; the residual stream wants its own tokens.
        Pointwise(name="slstm.norm", place="layer", read=tokens * units, written=tokens * units, split="features",
                  weights=units, exchanged=True),
    )  # fmt: skip
