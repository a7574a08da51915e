"""How much compute a mixture of experts saves over a dense model of equal loss, by the published law of sparse mixtures.

Tian et al. 2025 (arXiv 2507.17702, eq. 13 and table 2), efficiency leverage of a mixture::

    EL = A'^(a + d log10 C + gamma (log2 G)^2 + beta log2 G),   A' = A + start,   divided by its value at A = 1

A is the share of the experts' width that a token sees (theirs: experts, all as wide), G = 2 width / width of an expert, C
the training compute. At fixed tokens it is the ratio of the sizes of equal loss (their section 3), so a factor on size.

Decisions: coefficients as published, none fitted here; their ``A_max`` is so large that it is left out. The bases of the
logarithms are not printed: 10 for compute and 2 for granularity give what their text says (the best G about 12, more than
7 at 3.1 %, G = 12 and 1e22 FLOP), and no other pair does. More than 300 runs of up to 28 B parameters, A of .8 to 100 %, G
of 2 to 16, 1e18 to 3e20 FLOP and one pair at 5e21; beyond their ends G and C count as at the end.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]
Values = Any
"""A number or an array of numbers."""

TIAN = {"a": 1.23, "d": -7.61e-2, "gamma": 1.67e-2, "beta": -1.17e-1, "start": 1.63e-2}
"""Coefficients of their table 2."""
FINENESS_RANGE = (2.0, 16.0)
"""G of their runs."""
FLOPS_RANGE = (1e18, 1e22)
"""Compute of their runs and of the pair that confirmed them [FLOP]."""
ACTIVATION_RANGE = (0.008, 1.0)
"""A of their runs."""


def ln_leverage(activation: Values, fineness: Values, flops: Values, by: Mapping[str, float] = TIAN) -> Array:
    """ln of the dense size of equal loss over the active size; 0 for a dense model."""
    share = np.asarray(activation, float)
    return leverage_power(fineness, flops, by) * np.log((share + by["start"]) / (1.0 + by["start"]))


def leverage_power(fineness: Values, flops: Values, by: Mapping[str, float] = TIAN) -> Array:
    """The power of the (shifted) active share."""
    fine = np.log2(np.clip(np.asarray(fineness, float), *FINENESS_RANGE))
    compute = np.log10(np.clip(np.asarray(flops, float), *FLOPS_RANGE))
    return by["a"] + by["d"] * compute + by["gamma"] * fine**2 + by["beta"] * fine


@dataclass(frozen=True, kw_only=True, slots=True)
class Published:
    """A published comparison of a mixture with a denser model at equal loss."""

    name: str
    factor: float
    """Compute (or, at equal tokens, active size) of the denser model over the mixture's."""
    ratio: float
    """Total over active parameters of the mixture."""
    seen: float
    """Its granularity as :mod:`scaling.experts` counts it."""
    other_ratio: float
    """Total over active parameters of the denser model; 1 for a dense one."""
    other_seen: float
    activation: float
    """Share of its experts that a token sees."""
    other_activation: float
    fineness: float
    """Of both."""
    flops: float
    """Compute of the comparison [FLOP]."""
    source: str


_K2_REST, _K2_EXPERT, _K2_ACTIVE = 8.8, 2.642, 32.6
"""Billions of parameters of Kimi K2 outside its routed experts, in one of its experts through all 60 layers, and active."""
_K2 = "Kimi K2 (arXiv 2507.20534, section 2.3): 8 of 64 to 384 experts and one shared, equal active parameters, loss 1.5"


def _k2(experts: int, factor: float) -> Published:
    """384 experts over fewer, in the proportions of Kimi K2 itself: those of the small runs are not published."""
    ratio = [(_K2_EXPERT * (1 + count) + _K2_REST) / _K2_ACTIVE for count in (384, experts)]
    return Published(
        name=f"Kimi K2: 384 over {experts} experts", factor=factor, ratio=ratio[0], other_ratio=ratio[1], seen=9.0,
        other_seen=9.0, activation=9 / 385, other_activation=9 / (experts + 1), fineness=7.0, flops=1e21, source=_K2,
    )  # fmt: skip


PUBLISHED = (
    _k2(64, 1.69), _k2(128, 1.39), _k2(256, 1.15),
    Published(
        name="Ling-mini-beta over a dense 6.1 B", factor=6.11 / 0.855, ratio=17.5 / 0.855, seen=13.0, other_ratio=1.0,
        other_seen=1.0, activation=13 / 385, other_activation=1.0, fineness=2 * 2048 / 384, flops=6 * 0.855e9 * 1e12,
        source="Tian et al. 2025 (arXiv 2507.17702, section 5): both on the same 1 T tokens to about the same loss",
    ),
)  # fmt: skip
"""Comparisons of mixtures sparser than those behind our own law of experts; none is fitted."""


def told(published: Published) -> float:
    """ln of a published factor by the leverage."""
    ends = [
        float(ln_leverage(activation, published.fineness, published.flops))
        for activation in (published.activation, published.other_activation)
    ]
    return ends[0] - ends[1]
