"""Softmax attention with the sequence over P devices: ring, zigzag ring, all-gather and tree.

``work_s`` is the whole causal layer on one device, ``kv_bytes`` the keys and values of the whole sequence. In the plain
order device i holds the i-th piece: the last device has twice the average work, so the ring runs at P / (2 P - 1) of the
ideal however fast the wires (Liu et al. 2023, arXiv 2310.01889). In zigzag order each holds a piece of both ends, and
every step is half a block for all (Zhu 2024, zhuzilin/ring-flash-attention). ``merge_s`` is what joining one block's
result to the others' takes beside the attention itself.

How little can be sent: every query must meet every key before it on some device. A device that holds q query rows and k
key rows computes q k pairs, so for its share of T^2 / P pairs (the square, as causal order saves no rows) it touches at
least ``2 T sqrt(a b / P)`` bytes, a and b being the bytes of a query with its output and of a key with its value: the
bound of n-body problems (Driscoll et al. 2013, doi 10.1109/IPDPS.2013.108). Its own rows come free.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike

from shapewright.cost.distributed.form import Array, Form, check_split, floats, rounds


def attention_bound(kv_bytes: ArrayLike, query_bytes: ArrayLike, devices: ArrayLike) -> Array:
    """Bytes that some device must send or receive in prefill and training [B]."""
    kv, qo, p = floats(kv_bytes, query_bytes, devices)
    needed = np.maximum(2.0 * np.sqrt(kv * qo / p) - (kv + qo) / p, 0.0)
    return np.where(p > 1, needed, 0.0)


def ring_attention(
    work_s: ArrayLike, kv_bytes: ArrayLike, query_bytes: ArrayLike, devices: ArrayLike, *, alpha: ArrayLike,
    beta: ArrayLike, merge_s: ArrayLike = 0.0,
) -> Form:  # fmt: skip
    """Causal attention in plain order: keys and values go round while each device works on those it has."""
    work, kv, qo, p, alpha, beta, merge = floats(work_s, kv_bytes, query_bytes, devices, alpha, beta, merge_s)
    # P^2 / 2 blocks in all: the diagonal ones are triangles. The last device has every block of its row.
    block = 2.0 * work / p**2
    hop = np.where(p > 1, alpha + beta * kv / p, 0.0)
    full, first = block + merge, block / 2.0 + merge
    several = np.maximum(first, hop) + np.maximum(p - 2, 0.0) * np.maximum(hop, full) + full
    return Form(name="ring", seconds=np.where(p > 1, several, first), compute_s=(p - 1) * full + first,
                sent_bytes=(p - 1) / p * kv, messages=p - 1, held_bytes=(2.0 * kv + qo) / p,
                bound_bytes=attention_bound(kv, qo, p))  # fmt: skip


def zigzag_attention(
    work_s: ArrayLike, kv_bytes: ArrayLike, query_bytes: ArrayLike, devices: ArrayLike, *, alpha: ArrayLike,
    beta: ArrayLike, merge_s: ArrayLike = 0.0,
) -> Form:  # fmt: skip
    """Causal attention in zigzag order: the same ring, every step an equal share for every device."""
    work, kv, qo, p, alpha, beta, merge = floats(work_s, kv_bytes, query_bytes, devices, alpha, beta, merge_s)
    step = work / p**2 + merge
    hop = np.where(p > 1, alpha + beta * kv / p, 0.0)
    return Form(name="zigzag", seconds=step + (p - 1) * np.maximum(hop, step), compute_s=p * step,
                sent_bytes=(p - 1) / p * kv, messages=p - 1, held_bytes=(2.0 * kv + qo) / p,
                bound_bytes=attention_bound(kv, qo, p))  # fmt: skip


def gathered_attention(
    work_s: ArrayLike, kv_bytes: ArrayLike, query_bytes: ArrayLike, devices: ArrayLike, *, alpha: ArrayLike,
    beta: ArrayLike,
) -> Form:  # fmt: skip
    """All keys and values are gathered first (Llama 3, arXiv 2407.21783, section 3.3.2), queries in zigzag order."""
    work, kv, qo, p, alpha, beta = floats(work_s, kv_bytes, query_bytes, devices, alpha, beta)
    # Recursive doubling: as many bytes as a ring in logarithmically many messages.
    gather = rounds(p) * alpha + beta * (p - 1) / p * kv
    return Form(name="all-gather", seconds=gather + work / p, compute_s=work / p, sent_bytes=(p - 1) / p * kv,
                messages=rounds(p), held_bytes=kv + qo / p, bound_bytes=attention_bound(kv, qo, p))  # fmt: skip


def tree_decode(
    work_s: ArrayLike, kv_bytes: ArrayLike, partial_bytes: ArrayLike, devices: ArrayLike, *, alpha: ArrayLike,
    beta: ArrayLike,
) -> Form:  # fmt: skip
    """One token against a cache that stays: partial results (maximum, sum, output) are reduced and sent back.

    Shyam et al. 2024, arXiv 2408.04093. ``partial_bytes`` is ``(h + 2) H`` numbers per sequence.
    """
    work, kv, partial, p, alpha, beta = floats(work_s, kv_bytes, partial_bytes, devices, alpha, beta)
    hops = 2.0 * rounds(p)
    # The root sends the result to one device per level; whoever is no root sends its part once.
    return Form(name="tree", seconds=work / p + hops * (alpha + beta * partial), compute_s=work / p,
                sent_bytes=rounds(p) * partial, messages=hops, held_bytes=kv / p,
                bound_bytes=np.where(p > 1, partial, 0.0))  # fmt: skip


def ring_decode(
    work_s: ArrayLike, kv_bytes: ArrayLike, partial_bytes: ArrayLike, devices: ArrayLike, *, alpha: ArrayLike,
    beta: ArrayLike,
) -> Form:  # fmt: skip
    """One token against a cache that goes round: what a ring made for prefill does in decoding."""
    work, kv, partial, p, alpha, beta = floats(work_s, kv_bytes, partial_bytes, devices, alpha, beta)
    hop, piece = np.where(p > 1, alpha + beta * kv / p, 0.0), work / p
    return Form(name="ring decode", seconds=piece + (p - 1) * np.maximum(hop, piece), compute_s=work,
                sent_bytes=(p - 1) / p * kv, messages=p - 1, held_bytes=2.0 * kv / p,
                bound_bytes=np.where(p > 1, np.minimum(partial, kv / p), 0.0))  # fmt: skip


def check_pieces(seq_len: float, devices: ArrayLike, piece: int = 128) -> None:
    """Refuse more devices than there are tiles of ``piece`` tokens.

    Raises:
        UsageError: with the most devices that still get a tile each.
    """
    check_split(devices, np.ceil(seq_len / piece), f"a sequence of {seq_len:,.0f} tokens in tiles of {piece}")
