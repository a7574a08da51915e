"""Linear recurrences computed chunk by chunk: the gated delta rule, the state-space scan, and mLSTM.

Decisions: inside a chunk everything is a product; from chunk to chunk a state is carried, and the first chunk meets a
state of zeros, so that the products are those that ``architecture.operator.Scan`` counts. Decays are sums of logarithms,
of which only differences are raised to powers. All is computed in fp32, whatever the operands. A length that is no
multiple of the chunk is padded with tokens that change nothing. Each has a naive twin in the tests.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

CHUNK = {"delta": 64, "ssd": 128, "mlstm": 64}
"""Tokens of a chunk, as the operators of the architecture state them."""


def delta_scan(
    q: Tensor, k: Tensor, v: Tensor, log_decay: Tensor, beta: Tensor, *, chunk: int = CHUNK["delta"]
) -> Tensor:
    """``S_t = a_t S_{t-1} + b_t k_t (v_t - a_t S_{t-1}^T k_t)^T``, ``y_t = S_t^T q_t`` (arXiv 2412.06464, section 3.3).

    The chunk's updates solve a triangular system, whose inverse is formed once (WY form).

    Args:
        q: (batch, tokens, heads, d_k) queries, scaled as wanted.
        k: (batch, tokens, heads, d_k) keys of length 1.
        v: (batch, tokens, heads, d_v)
        log_decay: (batch, tokens, heads) ln a_t, at most 0.
        beta: (batch, tokens, heads) b_t in 0 to 1.
        chunk: tokens of a chunk.

    Returns:
        (batch, tokens, heads, d_v) in fp32.
    """
    tokens, chunk = q.shape[1], min(chunk, q.shape[1])
    q, k, v, log_decay, beta = (_chunks(t.float(), chunk) for t in (q, k, v, log_decay, beta))
    below = torch.tril(torch.ones(chunk, chunk, dtype=torch.bool, device=q.device), -1)
    total = log_decay.cumsum(-1)
    between = _between(total, below | torch.eye(chunk, dtype=torch.bool, device=q.device))
    identity = torch.eye(chunk, device=q.device)
    system = identity + (k @ k.mT * beta.unsqueeze(-1) * between).masked_fill(~below, 0.0)
    inverse = torch.linalg.solve_triangular(
        system, identity.expand_as(system), upper=False, unitriangular=True
    )
    inverse = inverse * beta.unsqueeze(-2)
    new = inverse @ v
    seen = inverse @ (k * total.exp().unsqueeze(-1))
    scores = q @ k.mT * between
    faded = q * total.exp().unsqueeze(-1)
    last = total[..., -1:]
    kept = (k * (last - total).exp().unsqueeze(-1)).mT
    state = torch.zeros(*q.shape[:2], q.shape[-1], v.shape[-1], device=q.device)
    out = []
    for i in range(q.shape[2]):
        fresh = new[:, :, i] - seen[:, :, i] @ state
        out.append(faded[:, :, i] @ state + scores[:, :, i] @ fresh)
        state = state * last[:, :, i].exp().unsqueeze(-1) + kept[:, :, i] @ fresh
    return _joined(out, tokens)


def ssd_scan(
    x: Tensor, keys: Tensor, queries: Tensor, log_decay: Tensor, *, chunk: int = CHUNK["ssd"]
) -> Tensor:
    """``S_t = a_t S_{t-1} + k_t x_t^T``, ``y_t = S_t^T q_t`` (state-space duality, arXiv 2405.21060, section 6).

    Args:
        x: (batch, tokens, heads, d_v) values, already times their step size.
        keys: (batch, tokens, groups, d_k), each group shared by ``heads / groups`` heads.
        queries: like the keys.
        log_decay: (batch, tokens, heads) ln a_t, at most 0.
        chunk: tokens of a chunk.

    Returns:
        (batch, tokens, heads, d_v) in fp32.
    """
    tokens, chunk, shared = x.shape[1], min(chunk, x.shape[1]), x.shape[2] // keys.shape[2]
    x, keys, queries, log_decay = (_chunks(t.float(), chunk) for t in (x, keys, queries, log_decay))
    total = log_decay.cumsum(-1)
    seen = torch.tril(torch.ones(chunk, chunk, dtype=torch.bool, device=x.device))
    scores = (queries @ keys.mT).repeat_interleave(shared, 1) * _between(total, seen)
    inside = scores @ x
    keys, queries = keys.repeat_interleave(shared, 1), queries.repeat_interleave(shared, 1)
    faded = queries * total.exp().unsqueeze(-1)
    last = total[..., -1:]
    kept = (keys * (last - total).exp().unsqueeze(-1)).mT
    state = torch.zeros(*x.shape[:2], keys.shape[-1], x.shape[-1], device=x.device)
    out = []
    for i in range(x.shape[2]):
        out.append(inside[:, :, i] + faded[:, :, i] @ state)
        state = state * last[:, :, i].exp().unsqueeze(-1) + kept[:, :, i] @ x[:, :, i]
    return _joined(out, tokens)


def mlstm_scan(
    q: Tensor, k: Tensor, v: Tensor, log_input: Tensor, log_forget: Tensor, *, chunk: int = CHUNK["mlstm"],
    epsilon: float = 1e-6,
) -> Tensor:  # fmt: skip
    """mLSTM with exponential input gate and running maximum m (xLSTM, arXiv 2405.04517, equations 19 to 27).

    ``C_t = f_t C_{t-1} + i_t k_t v_t^T``, ``n_t = f_t n_{t-1} + i_t k_t``, ``y_t = C_t^T q_t / max(|n_t^T q_t|, 1)``; state
    and normaliser are kept times ``exp(-m_t)``, so that nothing overflows.

    Args:
        q: (batch, tokens, heads, d_k), scaled by d_k^-1/2 here.
        k: (batch, tokens, heads, d_k)
        v: (batch, tokens, heads, d_v)
        log_input: (batch, tokens, heads) logarithm of the input gate, unbounded.
        log_forget: (batch, tokens, heads) logarithm of the forget gate, at most 0.
        chunk: tokens of a chunk.
        epsilon: added to the denominator.

    Returns:
        (batch, tokens, heads, d_v) in fp32.
    """
    tokens, chunk = q.shape[1], min(chunk, q.shape[1])
    q, k, v, log_forget = (_chunks(t.float(), chunk) for t in (q * q.shape[-1] ** -0.5, k, v, log_forget))
    log_input = _chunks(log_input.float(), chunk, fill=float("-inf"))
    total = log_forget.cumsum(-1)
    hidden = torch.ones(chunk, chunk, dtype=torch.bool, device=q.device).triu(1)
    weight = (total.unsqueeze(-1) - total.unsqueeze(-2) + log_input.unsqueeze(-2)).masked_fill(
        hidden, float("-inf")
    )
    products, largest = q @ k.mT, weight.amax(-1)
    last = total[..., -1]
    entering = last.unsqueeze(-1) - total + log_input
    state = torch.zeros(*q.shape[:2], q.shape[-1], v.shape[-1], device=q.device)
    norm = torch.zeros(*q.shape[:2], q.shape[-1], device=q.device)
    # The state before the first token is nothing: any finite maximum serves.
    top = torch.zeros(q.shape[:2], device=q.device)
    out = []
    for i in range(q.shape[2]):
        carried = total[:, :, i] + top.unsqueeze(-1)
        m = torch.maximum(largest[:, :, i], carried)
        scores = products[:, :, i] * (weight[:, :, i] - m.unsqueeze(-1)).exp()
        faded = q[:, :, i] * (carried - m).exp().unsqueeze(-1)
        value = scores @ v[:, :, i] + faded @ state
        weighed = scores.sum(-1) + (faded * norm.unsqueeze(-2)).sum(-1)
        out.append(value / (torch.maximum(weighed.abs(), (-m).exp()) + epsilon).unsqueeze(-1))
        peak = torch.maximum(last[:, :, i] + top, entering[:, :, i].amax(-1))
        kept = k[:, :, i] * (entering[:, :, i] - peak.unsqueeze(-1)).exp().unsqueeze(-1)
        fade = (last[:, :, i] + top - peak).exp()
        state = state * fade[..., None, None] + kept.mT @ v[:, :, i]
        norm = norm * fade.unsqueeze(-1) + kept.sum(-2)
        top = peak
    return _joined(out, tokens)


def _chunks(t: Tensor, chunk: int, *, fill: float = 0.0) -> Tensor:
    """(batch, tokens, heads, ...) to (batch, heads, chunks, chunk, ...), padded at the end."""
    t = t.transpose(1, 2)
    missing = -t.shape[2] % chunk
    if missing:
        t = functional.pad(t, (0, 0) * (t.dim() - 3) + (0, missing), value=fill)
    return t.reshape(*t.shape[:2], -1, chunk, *t.shape[3:]).contiguous()


def _between(total: Tensor, seen: Tensor) -> Tensor:
    """Decay between two tokens of a chunk, 0 where the first does not see the second."""
    return (total.unsqueeze(-1) - total.unsqueeze(-2)).masked_fill(~seen, float("-inf")).exp()


def _joined(chunks: list[Tensor], tokens: int) -> Tensor:
    """Chunks of (batch, heads, chunk, d) to (batch, tokens, heads, d)."""
    return torch.cat(chunks, dim=2)[:, :, :tokens].transpose(1, 2)
