"""Large tables that a token reads a few rows of, as operators: product-key memory and hashed n-grams.

Decisions: a table is cut by features over tensor parallelism, so that every rank looks up the same rows and no row
travels (Berges et al. 2024, arXiv 2412.09764, section 3). The rows read are kept for the backward pass as indices
only; the gradient scatters into the rows that were read.
"""

from __future__ import annotations

from shapewright.architecture.operator import Gather, GroupedMatmul, Matmul, Operator, Pointwise, Size
from shapewright.architecture.shape import HashedTable, ProductKeyMemory


def product_key_operators(a: ProductKeyMemory, width: Size, *, tokens: Size) -> tuple[Operator, ...]:
    """Queries, scores of both sets of half-keys, selection, weighted sum of the values (arXiv 1907.05242)."""
    queries, scores = a.heads * a.query_dim, 2 * a.heads * a.num_keys
    return (
        Matmul(name="memory.query", place="layer", m=tokens, n=queries, k=width, saved=tokens * queries),
        GroupedMatmul(name="memory.scores", place="layer", tokens=tokens, experts=2 * a.heads, topk=2 * a.heads,
                      n=a.num_keys, k=a.query_dim // 2, over="heads"),
        # The best of each set, then the best pairs of those.
        Pointwise(name="memory.select", place="layer", read=tokens * (scores + a.heads * a.topk**2),
                  written=2 * tokens * a.heads * a.topk, saved=2 * tokens * a.heads * a.topk),
        Gather(name="memory.values", place="layer", tokens=tokens, rows=a.heads * a.topk, row_size=width,
               table_rows=a.num_keys**2),
    )  # fmt: skip


def hashed_operators(a: HashedTable, width: Size, *, batch: Size, seq_len: Size) -> tuple[Operator, ...]:
    """Rows of the n-grams, key and value, gate, short convolution (arXiv 2601.07372, section 2)."""
    tokens, found = batch * seq_len, a.lookups * a.row_size
    return (
        Gather(name="hashed.rows", place="layer", tokens=tokens, rows=a.lookups, row_size=a.row_size,
               table_rows=a.table_rows, summed=False, saved=tokens * found),
        Matmul(name="hashed.kv", place="layer", m=tokens, n=2 * width, k=found, saved=2 * tokens * width),
        # Key and residual stream are normed, their product gates the value, which is convolved.
        Pointwise(name="hashed.gate", place="layer", read=3 * tokens * width, written=tokens * width,
                  weights=(2 + a.conv_kernel) * width, saved=tokens * width),
    )  # fmt: skip
