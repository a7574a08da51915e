"""Softmax attention as products, for processors, and as the library's fused kernel elsewhere.

Decisions: torch's fused attention runs on a core at a tenth to a third of the rate of its products, so on a processor
scores are made by blocks of queries against the keys they may see, which are then few enough to stay in its caches
(measured in benchmarks/LOG.md: 1.2 to 4 times faster, most in bf16). Groups of queries that share keys are rows of one
product, so keys are never copied. On other devices, and where learned sinks join the softmax, nothing differs but the
kernel.
"""

from __future__ import annotations

from functools import lru_cache

import torch
from torch import Tensor
from torch.nn import functional

BLOCK = 128
"""Queries of one block on a processor."""


def attend(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    *,
    causal: bool = True,
    window: int | None = None,
    sinks: Tensor | None = None,
    block: int | None = BLOCK,
) -> Tensor:
    """Attention of ``q`` (batch, tokens, heads, d) on ``k`` (batch, tokens, kv_heads, d) and ``v`` (..., d_v).

    Args:
        q: queries; ``heads`` is a multiple of ``kv_heads``.
        k: keys.
        v: values.
        causal: whether a token sees only itself and what came before.
        window: most keys that a query sees, the newest ones; with ``causal`` only.
        sinks: (heads,) logits that join each softmax without a value; None for none.
        block: queries of one block on a processor; None for the library's fused kernel there too.

    Returns:
        (batch, tokens, heads, d_v)
    """
    if sinks is not None or (q.device.type == "cpu" and block is not None):
        return _by_products(q, k, v, causal, window, sinks, block or BLOCK)
    q, k = q.to(v.dtype), k.to(v.dtype)
    mask = None if window is None or window >= k.shape[1] else _allowed(q.shape[1], window, str(q.device))
    return functional.scaled_dot_product_attention(
        q.transpose(1, 2), k.transpose(1, 2), v.transpose(1, 2), attn_mask=mask, is_causal=causal and mask is None,
        enable_gqa=k.shape[2] != q.shape[2],
    ).transpose(1, 2)  # fmt: skip


def _by_products(
    q: Tensor, k: Tensor, v: Tensor, causal: bool, window: int | None, sinks: Tensor | None, block: int
) -> Tensor:
    batch, tokens, heads, dim = q.shape
    kv_heads, value_dim = k.shape[2], v.shape[3]
    group, pairs = heads // kv_heads, batch * kv_heads
    q = q.to(v.dtype).view(batch, tokens, kv_heads, group, dim).permute(0, 2, 3, 1, 4)
    k = k.to(v.dtype).transpose(1, 2).reshape(pairs, tokens, dim).transpose(1, 2)
    v = v.transpose(1, 2).reshape(pairs, tokens, value_dim)
    out = []
    # Scores are made in the values' format: autocast would turn them back and forth.
    with torch.autocast(q.device.type, enabled=False):
        for first in range(0, tokens, block):
            last = min(first + block, tokens)
            start = 0 if window is None or not causal else max(first - window + 1, 0)
            end = last if causal else tokens
            rows = q[:, :, :, first:last].reshape(pairs, group * (last - first), dim)
            mask = _mask(first, last, start, end, window, group, causal, v.dtype, str(v.device))
            scores = torch.baddbmm(mask, rows, k[:, :, start:end], alpha=dim**-0.5)
            shares = _shares(scores, sinks, batch, kv_heads, group)
            part = torch.bmm(shares, v[:, start:end])
            out.append(part.view(batch, kv_heads, group, last - first, value_dim))
    return torch.cat(out, dim=3).permute(0, 3, 1, 2, 4).reshape(batch, tokens, heads, value_dim)


def _shares(scores: Tensor, sinks: Tensor | None, batch: int, kv_heads: int, group: int) -> Tensor:
    if sinks is None:
        return torch.softmax(scores, -1)
    rows = scores.view(batch, kv_heads, group, -1, scores.shape[-1])
    column = sinks.to(scores.dtype).view(1, kv_heads, group, 1, 1).expand(*rows.shape[:-1], 1)
    return torch.softmax(torch.cat((rows, column), -1), -1)[..., :-1].reshape(scores.shape)


@lru_cache(maxsize=256)
def _mask(
    first: int, last: int, start: int, end: int, window: int | None, group: int, causal: bool, dtype: torch.dtype,
    device: str,
) -> Tensor:  # fmt: skip
    """(group x queries, keys) 0 where a query sees a key, else minus infinity."""
    if not causal:
        return torch.zeros(1, 1, dtype=dtype, device=device)
    queries, keys = torch.arange(first, last)[:, None], torch.arange(start, end)
    hidden = keys > queries
    if window is not None:
        hidden |= keys <= queries - window
    mask = torch.zeros(last - first, end - start).masked_fill(hidden, float("-inf"))
    return mask.repeat(group, 1).to(device=device, dtype=dtype)


@lru_cache(maxsize=16)
def _allowed(tokens: int, window: int, device: str) -> Tensor:
    """(tokens, tokens) True where a query sees a key."""
    apart = torch.arange(tokens)[:, None] - torch.arange(tokens)
    return ((apart >= 0) & (apart < window)).to(device)
