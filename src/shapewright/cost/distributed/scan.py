"""Linear recurrences with the sequence over P devices: only a state crosses, whatever the length.

Each device first runs its piece without the state before it (``local_s``, of which ``prepass`` gives the piece's own
effect on a state), then the states meet, then the outputs are finished with the right state. A chain passes one state
from device to device; a tree composes pairs of effects in ``log2 P`` rounds (Kogge-Stone), each a product of two effects
(``compose_s``). ``state_bytes`` is :attr:`shapewright.architecture.operator.Scan.passed` in fp32.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike

from shapewright.cost.distributed.form import Form, floats, rounds

PREPASS = 0.5
"""States of a piece without its outputs, over the whole scan of it: one of the two products with the state and half of
those inside chunks (:class:`shapewright.architecture.operator.Scan`)."""


def state_passing(
    work_s: ArrayLike, state_bytes: ArrayLike, devices: ArrayLike, *, alpha: ArrayLike, beta: ArrayLike,
    compose_s: ArrayLike = 0.0, prepass: float = PREPASS,
) -> Form:  # fmt: skip
    """States go down a chain of P - 1 hops between the two passes."""
    work, state, p, alpha, beta, compose = floats(work_s, state_bytes, devices, alpha, beta, compose_s)
    local = work / p * np.where(p > 1, 1.0 + prepass, 1.0)
    return Form(name="state passing", seconds=local + (p - 1) * (alpha + beta * state + compose), compute_s=local,
                sent_bytes=np.where(p > 1, state, 0.0), messages=p - 1, held_bytes=state,
                bound_bytes=np.where(p > 1, state, 0.0))  # fmt: skip


def tree_scan(
    work_s: ArrayLike, state_bytes: ArrayLike, devices: ArrayLike, *, alpha: ArrayLike, beta: ArrayLike,
    compose_s: ArrayLike = 0.0, prepass: float = PREPASS,
) -> Form:  # fmt: skip
    """Effects of pieces are composed in ``log2 P`` rounds, and one more message brings each its predecessor's."""
    work, state, p, alpha, beta, compose = floats(work_s, state_bytes, devices, alpha, beta, compose_s)
    local = work / p * np.where(p > 1, 1.0 + prepass, 1.0)
    levels, shift = rounds(p), np.where(p > 1, 1.0, 0.0)
    hop = alpha + beta * state
    return Form(name="tree scan", seconds=local + levels * (hop + compose) + shift * hop, compute_s=local,
                sent_bytes=(levels + shift) * state, messages=levels + shift, held_bytes=2.0 * state,
                bound_bytes=shift * state)  # fmt: skip
