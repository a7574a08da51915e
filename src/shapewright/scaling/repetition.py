"""Repeated data: how much a second epoch is worth.

Decisions: the law of Muennighoff et al. 2023 (arXiv 2305.16264, eq. 5 and 6; coefficients from
huggingface/datablations@1370131, README, "Parametric Fit") turns repeated tokens into fewer effective tokens and
parameters beyond what the unique data can use into fewer effective parameters. What the unique data can use is taken
from their own base law, for which the decay was fitted. A law of ours takes the change that repetition makes, not their
level: in their full law a model too large for its *fresh* tokens decays too, which laws fitted on fresh tokens already
hold. Against 46 pairs of open runs of equal size and tokens, one on fresh and one on repeated data, up to 60 epochs and
models up to 20 times as large as the unique tokens can use, that change is mostly cautious: what was measured is .6 of it
in the median, and 91 % lie within the interval that ``REPETITION_SD`` gives. Beyond that range losses explode, and the law
does not say so.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from shapewright.errors import UsageError
from shapewright.scaling.forms import Array

Values = Any
"""A number or an array of numbers."""

TOKEN_HALF_LIFE = 15.387756
"""R_D*: repetitions after which a repeated token has lost all but 1/e of its worth (Muennighoff et al. 2023)."""
PARAM_HALF_LIFE = 5.309743
"""R_N*: the same for parameters in excess of what the unique tokens can use."""
MUENNIGHOFF = {
    "E": float(np.exp(0.6254804)), "A": float(np.exp(6.255414)), "B": float(np.exp(7.3049974)),
    "alpha": 0.3526596, "beta": 0.3526596,
}  # fmt: skip
"""Their base law, in which size and tokens share one exponent."""
_BASE = {name: MUENNIGHOFF[name] for name in ("A", "B", "alpha", "beta")}
REPETITION_SOURCE = (
    "Muennighoff et al. 2023 (arXiv 2305.16264, eq. 5 and 6), checked on pairs of their runs "
    "(huggingface/datablations@1370131)"
)
REPETITION_SD = 0.6
"""Standard deviation of the cost of repetition [ln loss] over that cost (tests/reference/test_scaling_laws.py)."""
CHECKED_EPOCHS, CHECKED_EXCESS = 60.0, 20.0
"""Most epochs, and largest size over the best one for the unique tokens, of the pairs behind ``REPETITION_SD``."""
CHECKED_UNIQUE = (1e8, 8.8e10)
"""Fewest and most unique tokens of them."""
WORTHLESS_EPOCHS = 40.0
"""From about here on more epochs buy next to nothing (Muennighoff et al. 2023, section 6.1)."""


def effective_tokens(tokens: Values, unique_tokens: Values) -> Array:
    """``U + U R* (1 - exp(-R / R*))`` with R = tokens / U - 1 repetitions: fresh tokens that would do as well.

    Raises:
        UsageError: no unique tokens.
    """
    tokens, unique = np.asarray(tokens, float), np.asarray(unique_tokens, float)
    if np.any(unique <= 0):
        raise UsageError(
            "unique_tokens must be positive", "a corpus has tokens", "leave it out where data do not repeat"
        )
    unique = np.minimum(unique, tokens)
    return unique * (1.0 + TOKEN_HALF_LIFE * -np.expm1(-(tokens / unique - 1.0) / TOKEN_HALF_LIFE))


def _best(tokens: Values, *, A: float, B: float, alpha: float, beta: float) -> Array:
    """Size with the lowest loss for the compute that spends ``tokens`` on it."""
    factor = (alpha * A / (beta * B)) ** (1.0 / (alpha + beta))
    return (np.asarray(tokens, float) * factor) ** (beta / alpha) * factor


def effective_params(
    params: Values, unique_tokens: Values, *, A: float, B: float, alpha: float, beta: float
) -> Array:
    """Parameters that would do as well with unlimited data; excess over the optimum for ``unique_tokens`` decays."""
    optimum = _best(unique_tokens, A=A, B=B, alpha=alpha, beta=beta)
    used = np.minimum(np.asarray(params, float), optimum)
    excess = np.maximum(np.asarray(params, float) / used - 1.0, 0.0)
    return used * (1.0 + PARAM_HALF_LIFE * -np.expm1(-excess / PARAM_HALF_LIFE))


def best_params(unique_tokens: Values) -> Array:
    """Parameters that ``unique_tokens`` can use, by their base law: about one for twenty tokens."""
    return _best(unique_tokens, **_BASE)


def largest_checked(unique_tokens: float) -> float:
    """Most parameters for which the cost of repeating so many tokens was checked."""
    return CHECKED_EXCESS * float(best_params(unique_tokens))


def excess_factor(params: Values, tokens: Values, unique_tokens: Values) -> Array:
    """What the size is worth on repeated tokens, over what it is worth on as many fresh ones; 1 without repetition."""
    unique = np.minimum(np.asarray(unique_tokens, float), tokens)
    return effective_params(params, unique, **_BASE) / effective_params(params, tokens, **_BASE)


def muennighoff_loss(params: Values, tokens: Values, unique_tokens: Values) -> Array:
    """Loss on C4 by the published law; its absolute level is about 10 % low on the open runs, its trend is what counts."""
    law = _BASE
    unique = np.minimum(np.asarray(unique_tokens, float), tokens)
    n = effective_params(params, unique, **law)
    d = effective_tokens(tokens, unique)
    return MUENNIGHOFF["E"] + law["A"] / n ** law["alpha"] + law["B"] / d ** law["beta"]
