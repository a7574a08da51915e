"""What tests of several rooms share."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from shapewright.scaling.forms import Array
from shapewright.scaling.law import Law

FRESH_FIT_SPREAD = 0.1
"""Two standard errors of a standard deviation that 200 resamples give: ``2 / sqrt(2 x 200)``. Where parameters trade
off, single entries of a bootstrapped covariance move more than that between two processors; what it says about
predictions does not."""


def spread_of_predictions(law: Law) -> Array:
    """Standard deviation of ln loss that the covariance of ``law`` gives, from its fitted range to ten times its
    sizes and tokens."""
    low_size, high_size = law.fitted_range["size"]
    low_tokens, high_tokens = law.fitted_range["tokens"]
    size, tokens = np.meshgrid(
        np.geomspace(low_size, 10 * high_size, 9), np.geomspace(low_tokens, 10 * high_tokens, 9)
    )
    flat = {
        "size": size.ravel(),
        "total": 3.0 * size.ravel(),
        "tokens": tokens.ravel(),
        "width": np.full(size.size, 1024.0),
        "depth": np.full(size.size, 20.0),
        "decayed": np.ones(size.size),
        "lr_halvings": np.zeros(size.size),
        "granularity": np.full(size.size, 4.0),
        "activation": np.full(size.size, 0.1),
        "fineness": np.full(size.size, 8.0),
        "relative_width": np.full(size.size, 0.07),
        "mlp_ratio": np.full(size.size, 1.5),
    }
    _, gradient = law.form.evaluate(law.theta, {name: flat[name] for name in law.form.inputs}, True)
    return np.linalg.norm(np.array(gradient).T @ law.covariance_factor, axis=1)


@pytest.fixture
def expect_same_spread() -> Callable[[Law, Law], None]:
    """Two fits of one law to the same runs: their predictions are as uncertain, inside the range and tenfold beyond."""

    def check(again: Law, stored: Law) -> None:
        found, kept = spread_of_predictions(again), spread_of_predictions(stored)
        assert found == pytest.approx(kept, rel=FRESH_FIT_SPREAD)

    return check
