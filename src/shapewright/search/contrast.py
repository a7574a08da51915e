"""How far apart two runs under one law can be told: what the law does not know about both cancels.

Decisions: the difference of ln loss of two runs has the variance ``|(g1 - g2) F|^2`` of the parameters they share (g the
gradient of ln loss, F F^T the covariance), the powers of experts and the strength of their cut counted once for both, the
priors of mixers where the two differ, and the scatter of two single runs around the law. The drift beyond the compute that
the law was fitted on is that of both and cancels at equal compute. Not covered: that the law may bend otherwise in size
than in tokens out there.
"""

from __future__ import annotations

import numpy as np

from shapewright.architecture.shape import Shape
from shapewright.scaling.experts import growth_sds, ln_growth, total_over_active
from shapewright.scaling.forms import Array
from shapewright.scaling.law import Law, law_size, size_slope
from shapewright.scaling.mixers import mixed_shift
from shapewright.search.learning import Traits, traits_of


def contrast_sd(law: Law, first: tuple[Shape, float], second: tuple[Shape, float]) -> float:
    """Standard deviation of the difference of ln loss of two runs, each a (shape, tokens) [1].

    Raises:
        NotCoveredError: a mixer without a prior.
    """
    traits = [traits_of(shape) for shape, _ in (first, second)]
    runs = [_gradient(law, seen, tokens) for seen, (_, tokens) in zip(traits, (first, second), strict=True)]
    shared = (runs[0][0] - runs[1][0]) @ law.covariance_factor
    experts = [one - other for one, other in zip(runs[0][1], runs[1][1], strict=True)]
    alike = traits[0].shares == traits[1].shares
    mixers = [0.0, 0.0] if alike else [mixed_shift(seen.shares)[1] for seen in traits]
    parts = [*shared, *experts, *mixers, law.residual_sd, law.residual_sd]
    return float(np.sqrt(np.sum(np.square(parts))))


def _gradient(law: Law, seen: Traits, tokens: float) -> tuple[Array, tuple[float, ...]]:
    """The gradient of ln loss by the law's parameters, and the standard deviations of ln loss for the power of experts,
    the strength of their cut and the power beyond the measured sparsity, each with its sign."""
    size = float(
        law_size(
            law, active_params=seen.active_params, embedding_params=seen.embedding_params, width=seen.width, depth=seen.depth
        )
    )  # fmt: skip
    ratio = float(total_over_active(seen.params, seen.active_params))
    growth, sds = 0.0, tuple(map(float, growth_sds(ratio, seen.granularity)))
    if "total" in law.form.inputs:
        sds = (0.0, 0.0, sds[2])
    elif "activation" in law.form.inputs:
        sds = (0.0, 0.0, 0.0)
    else:
        growth = float(ln_growth(ratio, seen.granularity)[0])
    inner = max(seen.active_params - seen.embedding_params, 1.0)
    run = {"size": size * np.exp(growth), "total": size * ratio, "granularity": seen.granularity,
           "activation": seen.activation, "fineness": seen.fineness, "tokens": tokens, "width": seen.width,
           "depth": seen.depth, "relative_width": seen.width / inner**0.5, "mlp_ratio": seen.mlp_ratio, "decayed": 1.0,
           "lr_halvings": 0.0}  # fmt: skip
    inputs = {name: np.array([run[name]]) for name in law.form.inputs}
    _, gradient = law.form.evaluate(law.theta, inputs, True)
    slope = float(size_slope(law, inputs)[0])
    return np.array([np.ravel(part)[0] for part in gradient]), tuple(slope * sd for sd in sds)
