"""How far apart two runs under one law can be told: what the law does not know about both cancels.

Decisions: the difference of ln loss of two runs has the variance ``|(g1 - g2) F|^2`` of the parameters they share (g the
gradient of ln loss, F F^T the covariance), the power of experts counted once for both, the priors of mixers where the two
differ, and the scatter of two single runs around the law. The drift beyond the compute that the law was fitted on is that
of both and cancels at equal compute. Not covered: that the law may bend otherwise in size than in tokens out there.
"""

from __future__ import annotations

import numpy as np

from shapewright.architecture.graph import num_active_params, num_embedding_params, num_params
from shapewright.architecture.shape import Shape
from shapewright.scaling.experts import SHARE, SHARE_SD, total_over_active
from shapewright.scaling.forms import Array
from shapewright.scaling.law import Law, law_size
from shapewright.scaling.mixers import mixed_shift
from shapewright.search.learning import mixer_shares

STEP = 1e-4
"""Of ln size, for its slope."""


def contrast_sd(law: Law, first: tuple[Shape, float], second: tuple[Shape, float]) -> float:
    """Standard deviation of the difference of ln loss of two runs, each a (shape, tokens) [1].

    Raises:
        NotCoveredError: a mixer without a prior.
    """
    gradients, slopes = zip(*(_gradient(law, *run) for run in (first, second)), strict=True)
    shared = (gradients[0] - gradients[1]) @ law.covariance_factor
    shares = [mixer_shares(shape) for shape, _ in (first, second)]
    mixers = [0.0, 0.0] if shares[0] == shares[1] else [mixed_shift(each)[1] for each in shares]
    parts = [*shared, (slopes[0] - slopes[1]) * SHARE_SD, *mixers, law.residual_sd, law.residual_sd]
    return float(np.sqrt(np.sum(np.square(parts))))


def _gradient(law: Law, shape: Shape, tokens: float) -> tuple[Array, float]:
    """The gradient of ln loss by the law's parameters, and by the power of experts."""
    params, active, tables = (
        float(count(shape)) for count in (num_params, num_active_params, num_embedding_params)
    )
    width, depth = float(shape.hidden_size), float(shape.num_layers)
    size = float(law_size(law, active_params=active, embedding_params=tables, width=width, depth=depth))
    ratio = float(total_over_active(params, active))
    idle = 0.0 if "total" in law.form.inputs else float(np.log(ratio))
    run = {"size": size * np.exp(SHARE * idle), "total": size * ratio, "tokens": tokens, "width": width,
           "depth": depth, "decayed": 1.0, "lr_halvings": 0.0}  # fmt: skip
    inputs = {name: np.array([run[name]]) for name in law.form.inputs}
    _, gradient = law.form.evaluate(law.theta, inputs, True)
    above, _ = law.form.evaluate(law.theta, {**inputs, "size": inputs["size"] * np.exp(STEP)}, False)
    below, _ = law.form.evaluate(law.theta, {**inputs, "size": inputs["size"] * np.exp(-STEP)}, False)
    slope = float((np.log(above) - np.log(below))[0] / (2.0 * STEP))
    return np.array([np.ravel(part)[0] for part in gradient]), slope * idle
