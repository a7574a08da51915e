"""Mixtures of experts: how large a model the idle parameters and the cut of the experts make it.

Decisions: a mixture is predicted as a dense model of effective size ``active (total/active)^share cut(G)``. ``cut`` is the
published law of granularity (Krajewski et al. 2024, arXiv 2402.07871; coefficients as published, not re-derived): their
size term ``(a + g/G^gamma)/N^alpha`` at G over that at G = 1, as a factor on N. G is the width that a token sees over the
width of one routed expert (:func:`granularity_of`): the number of experts of a token where all are as wide, which in their
runs, of constant active width, is the dense layer's width over an expert's. ``share`` was fitted to 16 mixture and 17 dense
cells of one corpus with ``cut`` in force (law ``steplaw``); without it the same cells give .44 and fit as well. Taken by
the dense layer's width over an expert's alone (G of 11 in half of the cells, whose tokens see two or four), granularity
makes the cells fit half as badly again, so it is not that. Their runs have 64 times the parameters of one layer, G from 1 to
16; the open cells G from 2 to 6.

Sparser than the open cells (total over active above 11.5) the same power goes on, with an interval that widens: published
comparisons of mixtures up to 31 (Kimi K2) give powers of .30 to .35 there, the law of Tian et al. .33 to .53 by compute
(:mod:`scaling.leverage`; ``tests/unit/scaling/test_leverage.py`` holds them against it), so it is a low guess rather than
a high one.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from shapewright.errors import UsageError

Array = NDArray[np.float64]
Values = Any
"""A number or an array of numbers."""

SHARE = 0.279
"""Power of total over active parameters (data/laws/steplaw.toml, parameter ``share``)."""
SHARE_SD = 0.05
"""Its standard deviation: bootstrap over sizes (same file), and the spread with E held at .9 to 1.7 (.29 to .25)."""
CUT_SD = 0.5
"""Standard deviation of ln ``cut`` over itself (assumed): the open cells fit as well with none of it as with half more."""
CUT_RANGE = (1.0, 16.0)
"""Granularities of the runs behind ``cut``."""
MEASURED_RATIO = 11.5
"""Largest total over active parameters behind ``SHARE`` (2.15 B in all, .19 B active)."""
BEYOND_SD = 0.15
"""Standard deviation of the power beyond ``MEASURED_RATIO`` (assumed: its 90 % interval, .03 to .53, holds the
published powers as well as next to no gain)."""
SPARSEST_RATIO = 40.0
"""Largest total over active parameters that a search lays out: beyond that of any published model that was trained at scale
(Kimi K2: 31)."""
KRAJEWSKI = {"a": 18.1, "g": 2.1, "gamma": 0.58, "alpha": 0.115}
"""Coefficients of their size term: 129 M to 3.7 B parameters, 16 to 130 B tokens of C4, RMSE .015 (arXiv 2402.07871)."""
EXPERTS_SOURCE = (
    "law steplaw (scaling.experts): share fitted; granularity by Krajewski et al. 2024 (arXiv 2402.07871)"
)


def total_over_active(total: Values, active: Values) -> Array:
    """Total over active parameters.

    Raises:
        UsageError: fewer parameters in all than active.
    """
    ratio = np.asarray(total, float) / np.asarray(active, float)
    if np.any(ratio < 1.0 - 1e-9):
        raise UsageError(
            "params are fewer than active_params",
            "active parameters are a part of all parameters",
            "swap or mend the counts",
        )
    return np.maximum(ratio, 1.0)


def ln_cut(granularity: Values) -> Array:
    """ln of the factor on the size for experts cut so that a token sees ``granularity`` of them; 0 at one.

    Beyond ``CUT_RANGE`` the factor stays at its end: finer experts than anyone fitted are no better.
    """
    k = KRAJEWSKI
    seen = np.clip(np.asarray(granularity, float), *CUT_RANGE)
    return np.log((k["a"] + k["g"]) / (k["a"] + k["g"] * seen ** -k["gamma"])) / k["alpha"]


def ln_growth(ratio: Values, granularity: Values) -> tuple[Array, Array]:
    """ln of what experts make of the active size, and its standard deviation."""
    mean = SHARE * np.log(np.asarray(ratio, float)) + ln_cut(granularity)
    return mean, np.sqrt(sum(np.square(part) for part in growth_sds(ratio, granularity)))


def growth_sds(ratio: Values, granularity: Values) -> tuple[Array, Array, Array]:
    """Standard deviations of ln size for the power of experts, the strength of their cut and the power beyond the measured
    sparsity: independent of each other, and each the same error in every mixture."""
    return SHARE_SD * np.log(np.asarray(ratio, float)), CUT_SD * ln_cut(granularity), beyond_sd(ratio)


def beyond_sd(ratio: Values) -> Array:
    """Standard deviation of ln size for being sparser than the mixtures behind ``SHARE``; 0 where it is not."""
    return BEYOND_SD * np.log(np.maximum(np.asarray(ratio, float) / MEASURED_RATIO, 1.0))


def effective_size(active: Values, total: Values, granularity: Values = 1.0, share: float = SHARE) -> Array:
    """Size of the dense model of equal loss (parameters outside the embeddings)."""
    return np.asarray(active, float) * total_over_active(total, active) ** share * np.exp(ln_cut(granularity))
