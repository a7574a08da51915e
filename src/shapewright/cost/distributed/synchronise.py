"""How copies of a model stay together: all-reduce every step, or seldom, partly, in pairs, or compressed.

``state_bytes`` is what is exchanged of one copy; times are per inner step. References: DiLoCo (Douillard et al. 2023,
arXiv 2311.08105), streaming DiLoCo (2025, arXiv 2501.18512), NoLoCo (2025, arXiv 2506.10911), low-bit and sparse gradients
(1-bit Adam, arXiv 2102.02888; DeMo, arXiv 2411.19870). What seldom or inexact exchange costs in loss is not counted here.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike

from shapewright.cost.distributed.form import Array, Form, floats


def reduce_bound(state_bytes: ArrayLike, devices: ArrayLike) -> Array:
    """Bytes a device must send for an exact all-reduce [B] (Patarasuk and Yuan 2009, doi 10.1016/j.jpdc.2008.09.002)."""
    state, p = floats(state_bytes, devices)
    return 2.0 * (p - 1) / p * state


def all_reduce(
    state_bytes: ArrayLike, devices: ArrayLike, *, alpha: ArrayLike, beta: ArrayLike, step_s: ArrayLike,
    hidden_s: ArrayLike = 0.0,
) -> Form:  # fmt: skip
    """Gradients are reduced at every step, behind ``hidden_s`` of the backward pass.

    A ring sends least; a tree of halves (recursive halving and doubling) sends as little in fewer messages.
    """
    state, p, alpha, beta, step, hidden = floats(state_bytes, devices, alpha, beta, step_s, hidden_s)
    messages = np.where(p > 1, 2.0 * np.ceil(np.log2(np.maximum(p, 1.0)) - 1e-9), 0.0)
    wire = messages * alpha + beta * reduce_bound(state, p)
    return Form(name="all-reduce", seconds=step + np.maximum(wire - hidden, 0.0), compute_s=step,
                sent_bytes=reduce_bound(state, p), messages=messages, held_bytes=2.0 * state,
                bound_bytes=reduce_bound(state, p))  # fmt: skip


def ring_all_reduce(
    state_bytes: ArrayLike, devices: ArrayLike, *, alpha: ArrayLike, beta: ArrayLike, step_s: ArrayLike = 0.0,
    chunks: int = 1,
) -> Form:  # fmt: skip
    """The same by a ring of 2 (P - 1) hops, ``chunks`` pieces one after the other (what ASTRA-sim's system layer does)."""
    state, p, alpha, beta, step = floats(state_bytes, devices, alpha, beta, step_s)
    hops = np.where(p > 1, 2.0 * (p - 1), 0.0) * chunks
    return Form(name="ring all-reduce", seconds=step + hops * (alpha + beta * state / (p * chunks)), compute_s=step,
                sent_bytes=reduce_bound(state, p), messages=hops, held_bytes=2.0 * state,
                bound_bytes=reduce_bound(state, p))  # fmt: skip


def diloco(
    state_bytes: ArrayLike, devices: ArrayLike, every: ArrayLike, *, alpha: ArrayLike, beta: ArrayLike,
    step_s: ArrayLike,
) -> Form:  # fmt: skip
    """Copies train alone for ``every`` steps, then their weights are averaged while all wait."""
    state, p, every, alpha, beta, step = floats(state_bytes, devices, every, alpha, beta, step_s)
    whole = all_reduce(state, p, alpha=alpha, beta=beta, step_s=0.0)
    return Form(name="DiLoCo", seconds=step + whole.seconds / every, compute_s=step,
                sent_bytes=whole.sent_bytes / every, messages=whole.messages / every, held_bytes=3.0 * state,
                bound_bytes=whole.bound_bytes / every)  # fmt: skip


def streaming_diloco(
    state_bytes: ArrayLike, devices: ArrayLike, every: ArrayLike, fragments: ArrayLike, behind: ArrayLike, *,
    alpha: ArrayLike, beta: ArrayLike, step_s: ArrayLike,
) -> Form:  # fmt: skip
    """One fragment after the other is averaged, each once in ``every`` steps, behind ``behind`` steps of training."""
    state, p, every, parts, behind, alpha, beta, step = floats(
        state_bytes, devices, every, fragments, behind, alpha, beta, step_s
    )
    piece = all_reduce(state / parts, p, alpha=alpha, beta=beta, step_s=0.0)
    # An exchange may also not outlast the time to the next fragment's.
    exposed = np.maximum(piece.seconds - np.minimum(behind, every / parts) * step, 0.0)
    return Form(name="streaming DiLoCo", seconds=step + exposed * parts / every, compute_s=step,
                sent_bytes=piece.sent_bytes * parts / every, messages=piece.messages * parts / every,
                held_bytes=(2.0 + 1.0 / parts) * state, bound_bytes=piece.bound_bytes * parts / every)  # fmt: skip


def gossip(
    state_bytes: ArrayLike, devices: ArrayLike, every: ArrayLike, *, alpha: ArrayLike, beta: ArrayLike,
    step_s: ArrayLike,
) -> Form:  # fmt: skip
    """Every ``every`` steps each copy averages with one other at random: one message, however many copies (NoLoCo).

    It is no exact average, so the bound of an all-reduce does not hold: any mixing at all sends the state once.
    """
    state, p, every, alpha, beta, step = floats(state_bytes, devices, every, alpha, beta, step_s)
    sent = np.where(p > 1, state, 0.0)
    return Form(name="gossip", seconds=step + np.where(p > 1, alpha + beta * state, 0.0) / every, compute_s=step,
                sent_bytes=sent / every, messages=np.where(p > 1, 1.0, 0.0) / every, held_bytes=3.0 * state,
                bound_bytes=sent / every)  # fmt: skip


def compressed(
    state_bytes: ArrayLike, devices: ArrayLike, ratio: ArrayLike, *, alpha: ArrayLike, beta: ArrayLike,
    step_s: ArrayLike, code_s: ArrayLike = 0.0, hidden_s: ArrayLike = 0.0,
) -> Form:  # fmt: skip
    """An all-reduce of ``1 / ratio`` of the bytes, coded and decoded in ``code_s``; its bound is that of the code."""
    state, ratio = floats(state_bytes, ratio)
    form = all_reduce(state / ratio, devices, alpha=alpha, beta=beta, step_s=step_s, hidden_s=hidden_s)
    return Form(name="compressed all-reduce", seconds=form.seconds + np.asarray(code_s), compute_s=form.compute_s,
                sent_bytes=form.sent_bytes, messages=form.messages, held_bytes=form.held_bytes + state,
                bound_bytes=form.bound_bytes)  # fmt: skip
