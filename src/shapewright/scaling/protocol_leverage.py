"""The law of sparse mixtures: the published leverage of Tian et al. on the size and token terms of ``chinchilla``.

Decisions: their runs are not open, so the leverage is their published fit and nothing here fits it again; what is ours is
the composition, as in :mod:`protocol_conditional`. Their coefficients come without errors, so the spread of ``a`` is what
comparisons by others, on other corpora, leave: Kimi K2's three ratios, and the open cells of mixtures, predicted by a law
of their dense neighbours on the effective size (both are checks of the law, none is fitted).
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from shapewright.scaling.assess import take
from shapewright.scaling.fit import fit
from shapewright.scaling.forms import FORMS, Array
from shapewright.scaling.law import Check, Law
from shapewright.scaling.leverage import (
    ACTIVATION_RANGE,
    FINENESS_RANGE,
    FLOPS_RANGE,
    PUBLISHED,
    TIAN,
    ln_leverage,
    told,
)
from shapewright.scaling.protocol_sizes import fit_chinchilla
from shapewright.scaling.protocol_steplaw import best_of_cells

POWER_SD = 0.13
"""Standard deviation of the power (assumed): with it the 90 % interval holds every published comparison and our open
mixtures' left-out errors."""


def _on_open_cells(folder: Path) -> Array:
    """ln of predicted over measured loss of the open mixtures: a law of the dense cells on the size that leverage gives."""
    best = best_of_cells(folder)
    active, _, _, tokens, activation, fineness = (np.array(column) for column in zip(*best, strict=True))
    loss, mixed, form = np.array(list(best.values())), activation < 1.0, FORMS["chinchilla"]
    dense = fit(form, take({"size": active, "tokens": tokens}, ~mixed), loss[~mixed])
    size = active * np.exp(ln_leverage(activation, fineness, 6.0 * active * tokens))
    predicted, _ = form.evaluate(dense.theta, take({"size": size, "tokens": tokens}, mixed), False)
    return np.log(predicted / loss[mixed])


def fit_leverage(folder: Path) -> Law:
    """The size and token terms of ``chinchilla`` under the published leverage."""
    base = fit_chinchilla(folder)
    form = FORMS["leveraged"]
    covariance = np.zeros((10, 10))
    covariance[:5, :5] = np.array(base.covariance)
    covariance[5, 5] = POWER_SD**2
    cells = np.abs(np.expm1(_on_open_cells(folder)))
    errors = [np.log(published.factor) - told(published) for published in PUBLISHED]
    published = {"beta_g" if name == "beta" else name: value for name, value in TIAN.items()}
    return Law(
        name="leverage", family=form.name, parameters={**base.parameters, **published},
        covariance=tuple(map(tuple, covariance.tolist())), residual_sd=base.residual_sd,
        drift_per_decade=base.drift_per_decade, dataset=base.dataset,
        source=f"size and tokens: {base.source}; experts: Tian et al. 2025 (arXiv 2507.17702, eq. 13 and table 2), "
        "published coefficients of more than 300 runs on a corpus of the Ling team",
        licence=f"{base.licence} (size), runs not published (experts)", rows=base.rows, runs=base.runs,
        fitted_range={
            **base.fitted_range, "flops": FLOPS_RANGE, "activation": ACTIVATION_RANGE, "fineness": FINENESS_RANGE,
        },
        param_convention=base.param_convention, flop_convention=base.flop_convention, constants=base.constants,
        notes=(
            "Composed: E, A, B, alpha and beta of `chinchilla`; a, d, gamma, beta_g and start as published, A_max left out.",
            "The bases of the logarithms are not printed: 10 and 2 give the best G and the leverage that their text states.",
            "Beyond 1e22 FLOP, G below 2 or above 16 the leverage stays at its end.",
        ),
        checks=(
            Check(name="published comparisons rms", value=float(np.sqrt(np.mean(np.square(errors)))), unit="ln compute",
                  how="Kimi K2's three ratios and Ling-mini-beta against 6.1 B dense, none fitted"),
            Check(name="published comparisons largest", value=float(np.max(np.abs(errors))), unit="ln compute",
                  how="of the same"),
            Check(name="open mixtures median error", value=float(np.median(cells)), unit="fraction",
                  how=f"{cells.size} cells of Step Law by a law of its dense cells on the effective size"),
            Check(name="open mixtures largest error", value=float(cells.max()), unit="fraction", how="of the same"),
        ),
        command="shapewright fit law --shipped leverage --data FOLDER",
    )  # fmt: skip
