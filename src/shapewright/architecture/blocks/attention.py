"""Softmax attention as operators, from the projections to the output projection.

Decisions: queries, keys and values are projected by one product, as fused kernels do; the parameters are the
same; a layer that shares another's keys and values projects queries only. A norm on queries and keys keeps its input
and its output for the backward pass; rotary embedding is linear and keeps nothing. Attention keeps its output; the
log-sum-exp (4 bytes per head and token, at most 2 % of the output for heads of 128) is neglected.
"""

from __future__ import annotations

import numpy as np

from shapewright.architecture.operator import Attention, Matmul, Operator, Pointwise, Size
from shapewright.architecture.shape import SelfAttention


def attention_operators(
    a: SelfAttention, width: Size, *, batch: Size, seq_len: Size, past_len: Size = 0
) -> tuple[Operator, ...]:
    """Projections, norms of queries and keys, rotary, attention over ``past_len + seq_len`` keys, output."""
    tokens = batch * seq_len
    sequences, q_len, kv_len = batch, seq_len, past_len + seq_len
    if a.chunk is not None:
        # Pieces are short sequences of their own; exact where the sequence is shorter or a whole number of them.
        q_len = np.minimum(seq_len, a.chunk)
        sequences, kv_len = batch * (seq_len / q_len), np.minimum(kv_len, a.chunk)
    v_head_dim = a.head_dim if a.v_head_dim is None else a.v_head_dim
    own = int(not a.shares_kv)
    q_features = a.heads * a.head_dim
    k_features = a.kv_heads * a.head_dim * own
    v_features = a.kv_heads * v_head_dim * own
    o_features = a.heads * v_head_dim
    qkv = q_features + k_features + (0 if a.values_are_keys else v_features)
    ops: list[Operator] = [
        Matmul(name="attention.qkv", place="layer", m=tokens, n=qkv, k=width, split="column",
               bias=qkv * int(a.qkv_bias), saved=tokens * qkv)
    ]  # fmt: skip
    if a.qk_norm != "none":
        normed = q_features + k_features + (v_features if a.values_are_keys else 0)
        ops.append(
            Pointwise(name="attention.qk_norm", place="layer", read=tokens * normed, written=tokens * normed,
                      split="features", weights=_qk_norm_params(a), saved=tokens * normed)
        )  # fmt: skip
    if a.rotary_fraction > 0:
        turned = tokens * (q_features + k_features) * a.rotary_fraction
        ops.append(
            Pointwise(name="attention.rotary", place="layer", read=turned, written=turned, split="features")
        )
    ops.append(
        Attention(name="attention.core", place="layer", batch=sequences, q_len=q_len, kv_len=kv_len,
                  heads=a.heads, kv_heads=a.kv_heads, head_dim=a.head_dim, v_head_dim=v_head_dim,
                  causal=a.causal, window=a.window, saved=tokens * o_features,
                  weights=a.heads * int(a.sinks))
    )  # fmt: skip
    if a.gate != "none":
        gates = a.heads if a.gate == "head" else o_features
        ops += [
            Matmul(name="attention.gate", place="layer", m=tokens, n=gates, k=width, split="column",
                   bias=gates * int(a.qkv_bias), saved=tokens * gates),
            Pointwise(name="attention.gating", place="layer", read=tokens * (o_features + gates),
                      written=tokens * o_features, split="features", saved=tokens * o_features),
        ]  # fmt: skip
    ops.append(
        Matmul(name="attention.out", place="layer", m=tokens, n=width, k=o_features, split="row",
               bias=width * int(a.out_bias))
    )  # fmt: skip
    return tuple(ops)


def _qk_norm_params(a: SelfAttention) -> Size:
    key_heads = a.kv_heads * int(not a.shares_kv)
    features = (
        (1 + int(not a.shares_kv)) * a.head_dim if a.qk_norm == "head" else (a.heads + key_heads) * a.head_dim
    )
    return features * (int(a.qk_norm_scale) + int(a.qk_norm_bias))
