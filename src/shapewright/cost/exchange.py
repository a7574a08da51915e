"""Dispatch and combine of expert parallelism: every token travels to the devices that hold its experts.

::

    copies  = ranks * (1 - (1 - 1/ranks)^topk) * (1 - 1/ranks)      (devices other than its own that a token meets)
    start   = launch_s + experts * expert_s + ranks * rank_s
    work    = tokens * copies * hidden * 2 B / (efficiency * link * share) + tokens * token_s
    share   = sms / (sms + half_sms)    (where the kernel runs on a given number of multiprocessors, else 1)
    time    = join-norm(start, work)

Decisions: one set of coefficients per library, phase and format, so that ``efficiency`` also holds what the format saves.
Neglects the network beyond the scale-up domain, and hot experts. Reference: DeepEP's README (deepseek-ai/DeepEP).
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from numpy.typing import ArrayLike, NDArray

from shapewright.cost.coefficient import Coefficient

_C = Coefficient
COEFFICIENTS: tuple[Coefficient, ...] = (
    _C(name="launch_s", start=3e-5, low=1e-6, high=1e-3, unit="s", meaning="start, with the exchange of counts"),
    _C(name="efficiency", start=0.5, low=0.005, high=8.0, unit="1", meaning="bandwidth over the link's"),
    _C(name="token_s", start=2e-9, low=1e-12, high=1e-6, unit="s", meaning="work per token beside the bytes"),
    _C(name="expert_s", start=1e-9, low=1e-12, high=1e-6, unit="s", meaning="start per expert"),
    _C(name="rank_s", start=1e-8, low=1e-11, high=1e-5, unit="s", meaning="start per device"),
    _C(name="half_sms", start=4.0, low=0.01, high=200.0, unit="1", meaning="multiprocessors at half the rate"),
    _C(name="join", start=2.0, low=1.0, high=8.0, unit="1", meaning="norm that joins start and work: 1 adds"),
)  # fmt: skip


def copies_of(topk: ArrayLike, ranks: ArrayLike) -> NDArray[np.float64]:
    """Other devices that a token is sent to, of ``ranks`` with evenly spread experts."""
    p = np.maximum(np.asarray(ranks, np.float64), 1.0)
    return p * (1.0 - (1.0 - 1.0 / p) ** np.asarray(topk, np.float64)) * (1.0 - 1.0 / p)


def exchange_time(
    c: Mapping[str, float], link: float, *, tokens: ArrayLike, hidden: ArrayLike, topk: ArrayLike, experts: ArrayLike,
    ranks: ArrayLike, sms: ArrayLike = 0.0,
) -> NDArray[np.float64]:  # fmt: skip
    """Seconds of one dispatch or combine of each device's ``tokens`` over ``link`` [B/s] per device and direction.

    ``sms`` is the number of multiprocessors the kernel is given; 0 where it takes what it needs.
    """
    t, width, units = (np.asarray(x, np.float64) for x in (tokens, hidden, sms))
    share = np.where(units > 0, units / (units + c["half_sms"]), 1.0)
    sent = t * copies_of(topk, ranks) * width * 2.0 / (c["efficiency"] * link * share)
    work = sent + t * c["token_s"]
    start = (
        c["launch_s"]
        + np.asarray(experts, np.float64) * c["expert_s"]
        + np.asarray(ranks, np.float64) * c["rank_s"]
    )
    top = np.maximum(work, start)
    return top * (1.0 + (np.minimum(work, start) / top) ** c["join"]) ** (1.0 / c["join"])
