"""Native sparse attention as operators (NSA, arXiv 2502.11089, section 3.3).

Decisions: compression is one learned product per block of keys and of values. A query sees on average half of the
compressed keys, which is what a mask-free product over that many costs. A query that attends to w selected keys costs
what a window of w costs; that they are gathered in blocks is the kernel model's business.
"""

from __future__ import annotations

from shapewright.architecture.operator import Attention, Matmul, Operator, Pointwise, Size
from shapewright.architecture.shape import SparseAttention


def sparse_operators(
    a: SparseAttention, width: Size, *, batch: Size, seq_len: Size, past_len: Size = 0
) -> tuple[Operator, ...]:
    """Projections, compression, three branches, their gates, output."""
    tokens, v_dim = batch * seq_len, a.head_dim if a.v_head_dim is None else a.v_head_dim
    kv_features = a.kv_heads * (a.head_dim + v_dim)
    o_features = a.heads * v_dim
    qkv = a.heads * a.head_dim + 3 * kv_features
    # Compressed keys that a query sees: those of the past and half of those of its own sequence.
    seen = (past_len + (seq_len + 1) / 2) / a.compress_stride
    blocks = tokens * a.kv_heads / a.compress_stride
    turned = tokens * (a.heads + 3 * a.kv_heads) * a.head_dim

    def branch(name: str, kv_len: Size, window: Size | None) -> Attention:
        return Attention(name=f"attention.{name}", place="layer", batch=batch, q_len=seq_len, kv_len=kv_len,
                         heads=a.heads, kv_heads=a.kv_heads, head_dim=a.head_dim, v_head_dim=v_dim,
                         causal=window is not None, window=window, saved=tokens * o_features)  # fmt: skip

    def compress(name: str, features: Size) -> Matmul:
        return Matmul(name=f"attention.{name}", place="layer", m=blocks, n=features, k=a.compress_block * features,
                      bias=a.compress_block * features, saved=blocks * features)  # fmt: skip

    return (
        Matmul(name="attention.qkv", place="layer", m=tokens, n=qkv, k=width, split="column", saved=tokens * qkv),
        Pointwise(name="attention.rotary", place="layer", read=turned, written=turned, split="features"),
        compress("compress_keys", a.head_dim),
        compress("compress_values", v_dim),
        branch("compressed", seen, None),
        # Block scores are summed over the queries of a group and the best are chosen.
        Pointwise(name="attention.select", place="layer", read=tokens * a.kv_heads * seen,
                  written=tokens * a.kv_heads * a.select_count, split="features"),
        branch("selected", past_len + seq_len, a.selected),
        branch("window", past_len + seq_len, a.window),
        Matmul(name="attention.branch_gates", place="layer", m=tokens, n=3 * a.heads, k=width, split="column",
               saved=tokens * 3 * a.heads),
        Pointwise(name="attention.gating", place="layer", read=3 * tokens * (o_features + a.heads),
                  written=tokens * o_features, split="features", saved=tokens * o_features),
        Matmul(name="attention.out", place="layer", m=tokens, n=width, k=o_features, split="row"),
    )  # fmt: skip
