"""The conditional law of Bian et al.: hidden size and MLP-to-attention ratio on top of a Chinchilla term.

Decisions: their runs are not open, so the calibration is their published fit and nothing here fits it again; what is
ours is the composition. They measure the loss against the best one of a size (searched, not predicted), at 100 tokens
per parameter; we put the calibration on the size and token terms of ``chinchilla``, divided by its value at the shape
that those runs had, so that it is 1 there. Their size counts the parameters inside the layers, Chinchilla's all of them:
each term takes its own (:func:`scaling.law.predict_loss`). The scatter is their own: the mean squared error of a scale that
was not fitted, and what the six models of their tables 1 and 2 say.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from shapewright.scaling.forms import FORMS
from shapewright.scaling.law import Check, Law
from shapewright.scaling.protocol_sizes import CHINCHILLA_ASPECT, fit_chinchilla

BIAN = {"a0": 2.697, "a1": 0.0974, "a2": 0.0078, "b0": 0.3870, "b1": 0.0063, "b2": 0.0065}
"""Fitted on their 80 M, 145 M and 297 M models (section 5.1)."""
BIAN_1B = {"a0": 2.319, "a1": 0.238, "a2": 0.0176, "b0": 0.5104, "b1": 0.0051, "b2": 0.0062}
"""Fitted on their 1 B models alone (section 5.1): the coefficients move with size."""
BIAN_MODELS = (
    # name, parameters inside the layers, tokens, width, layers, width / sqrt(parameters), MLP ratio, loss
    ("LLaMA-3.2-1B", 1e9, 1e11, 2048, 16, 0.066, 4.80, 2.803),
    ("Panda-1B", 1e9, 1e11, 2560, 16, 0.082, 1.07, 2.782),
    ("Surefire-1B", 1e9, 1e11, 2560, 16, 0.082, 3.60, 2.804),
    ("LLaMA-3.2-3B", 3e9, 1e11, 3072, 28, 0.058, 4.80, 2.625),
    ("Panda-3B", 3e9, 1e11, 4096, 28, 0.077, 1.00, 2.619),
    ("Panda-3B, 1B fit", 3e9, 1e11, 4096, 28, 0.076, 1.23, 2.606),
)  # fmt: skip
"""Models that they trained, none of them behind ``BIAN`` (tables 1 and 2)."""
BIAN_MSE = 2e-4
"""Mean squared error of losses at the next larger scale, at most (figure 6) [nat^2]."""
USUAL_MLP = 2.0
"""MLP over attention parameters of the Chinchilla models: two products of 4 widths over four of one (table A9)."""
USUAL_PARAMS = (5.7e7, 1e9, 1.6e10)
"""Smallest, middle and largest of the Chinchilla models behind the base law."""


def usual_width(params: float) -> float:
    """Width over the root of the parameters inside the layers at Chinchilla's middle aspect: 12 width^2 depth of them."""
    aspect = CHINCHILLA_ASPECT[1]
    width = (params * aspect / 12.0) ** (1.0 / 3.0)
    return width / params**0.5


def calibration(relative_width: float, mlp_ratio: float, by: dict[str, float] = BIAN) -> float:
    """Their factor on the best loss of a size."""
    first = by["a0"] + by["a1"] * np.log(relative_width) + by["a2"] / relative_width
    return float(first * (by["b0"] + by["b1"] * np.log(mlp_ratio) + by["b2"] / mlp_ratio))


def best_shape(by: dict[str, float] = BIAN) -> tuple[float, float]:
    """Relative width and MLP ratio with the lowest loss: where both derivatives vanish."""
    return by["a2"] / by["a1"], by["b2"] / by["b1"]


def _model_errors() -> list[float]:
    """ln of predicted over measured loss of every model against the first of its size, level forgiven."""
    errors = []
    for size in sorted({row[1] for row in BIAN_MODELS}):
        rows = [row for row in BIAN_MODELS if row[1] == size]
        off = np.array([np.log(calibration(row[5], row[6]) / row[7]) for row in rows])
        errors += list(off - off.mean())
    return errors


def fit_conditional(folder: Path) -> Law:
    """The size and token terms of ``chinchilla`` under the published calibration."""
    base = fit_chinchilla(folder)
    form = FORMS["conditional"]
    covariance = np.zeros((13, 13))
    covariance[:5, :5] = np.array(base.covariance)
    small, middle, large = (usual_width(params) for params in USUAL_PARAMS)
    covariance[11, 11] = (0.5 * np.log(small / large)) ** 2
    scatter = BIAN_MSE**0.5 / 2.8
    errors = _model_errors()
    return Law(
        name="conditional", family=form.name,
        parameters={**base.parameters, **BIAN, "usual_width": middle, "usual_mlp": USUAL_MLP},
        covariance=tuple(map(tuple, covariance.tolist())), residual_sd=float(np.hypot(base.residual_sd, scatter)),
        drift_per_decade=base.drift_per_decade, dataset=base.dataset,
        source=f"size and tokens: {base.source}; shape: Bian et al. 2025 (arXiv 2510.18245, eq. 3 and section 5.1), "
        "published coefficients of more than 200 runs on Dolma v1.7",
        licence=f"{base.licence} (size), runs not published (shape)", rows=base.rows, runs=base.runs,
        fitted_range={
            "params": (8e7, 3e9), "size": (8e7, 3e9), "tokens": (8e9, 1e11), "flops": (6 * 8e7 * 8e9, 6 * 3e9 * 1e11),
            "mlp_ratio": (0.5, 5.0), "relative_width": (0.058, 0.082),
        },
        param_convention=base.param_convention, flop_convention=base.flop_convention, constants=base.constants,
        notes=(
            "Composed: E, A, B, alpha and beta of `chinchilla`; a and b as published, the range is that of their runs.",
            "Best shape: width/sqrt(parameters inside the layers) .080, MLP over attention 1.03; on their 1 B models alone "
            ".074 and 1.22. At a given ratio that is one depth for all sizes: depth was held per size, so the law cannot "
            "weigh it.",
            "The range of width is that of their named models; their sweep is wider, and its list was not at hand.",
            "The factor is 1 at width/depth 64 and an MLP ratio of 2, the middle of the Chinchilla models.",
        ),
        checks=(
            Check(name="named models rms", value=float(np.sqrt(np.mean(np.square(errors)))), unit="ln loss",
                  how="six models of 1 and 3 B that were not fitted, each against its size's mean"),
            Check(name="named models largest", value=float(np.max(np.abs(errors))), unit="ln loss", how="of the same"),
            Check(name="published mean squared error", value=BIAN_MSE, unit="nat^2",
                  how="losses of a scale that was not fitted, at most (figure 6)"),
        ),
        command="shapewright fit law --shipped conditional --data FOLDER",
    )  # fmt: skip
