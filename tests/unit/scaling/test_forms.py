"""Loss families: exact gradients, conversions, and sane behaviour far outside the fitted shapes."""

from __future__ import annotations

import numpy as np
import pytest

from shapewright.errors import UnknownNameError
from shapewright.scaling.forms import FORMS, get_form

PARAMETERS = {
    "chinchilla": {"E": 1.8, "A": 480.0, "B": 2100.0, "alpha": 0.35, "beta": 0.37},
    "shape": {
        "E": 1.7, "A": 1.3, "B": 0.08, "alpha": 0.22, "beta": 0.6, "delta": 0.2, "kappa": 0.013, "rho": 33.0,
        "gamma": 0.07, "lam": 0.16,
    },
    "routed": {"E": 1.2, "A": 0.8, "B": 0.4, "alpha": 0.2, "beta": 0.3, "delta": 0.1, "share": 0.45},
    "conditional": {
        "E": 1.8, "A": 480.0, "B": 2100.0, "alpha": 0.35, "beta": 0.37, "a0": 2.7, "a1": 0.1, "a2": 0.008, "b0": 0.39,
        "b1": 0.006, "b2": 0.007, "usual_width": 0.055, "usual_mlp": 2.0,
    },
    "leveraged": {
        "E": 1.8, "A": 480.0, "B": 2100.0, "alpha": 0.35, "beta": 0.37, "a": 1.23, "d": -0.076, "gamma": 0.017,
        "beta_g": -0.117, "start": 0.016,
    },
    "overtrained": {"E": 1.6, "A": 0.65, "B": 0.57, "eta": 0.13},
    "chinchilla_shape": {
        "E": 1.8, "A": 480.0, "B": 2100.0, "alpha": 0.35, "beta": 0.37, "kappa": 0.013, "rho": 33.0, "typical": 64.0,
    },
}  # fmt: skip
INPUTS = {
    "total": np.array([2e7, 8e9, 1e12]), "granularity": np.array([1.0, 2.0, 9.0]),
    "activation": np.array([1.0, 0.25, 0.02]), "fineness": np.array([1.0, 4.0, 20.0]),
    "relative_width": np.array([0.12, 0.06, 0.03]), "mlp_ratio": np.array([0.6, 4.8, 1.5]),
    "size": np.array([2e7, 1e9, 7e10]), "tokens": np.array([1e9, 2e11, 1e13]), "width": np.array([256.0, 2048.0, 8192.0]),
    "depth": np.array([20.0, 16.0, 80.0]), "decayed": np.array([0.0, 1.0, 1.0]), "lr_halvings": np.array([1.0, 0.0, 0.5]),
}  # fmt: skip


@pytest.mark.parametrize("name", sorted(PARAMETERS))
def test_gradient_of_ln_loss_matches_finite_differences(name):
    form = get_form(name)
    theta = form.to_theta(PARAMETERS[name])
    _, gradient = form.evaluate(theta, INPUTS, True)
    assert len(gradient) == len(form.parameters)
    for i, parameter in enumerate(form.parameters):
        step = np.zeros(len(theta))
        step[i] = 1e-6
        above, _ = form.evaluate(theta + step, INPUTS, False)
        below, _ = form.evaluate(theta - step, INPUTS, False)
        numeric = (np.log(above) - np.log(below)) / 2e-6
        assert np.allclose(gradient[i], numeric, rtol=1e-5, atol=1e-8), parameter


@pytest.mark.parametrize("name", sorted(PARAMETERS))
def test_shown_parameters_survive_the_fitted_vector(name):
    form = get_form(name)
    assert form.from_theta(form.to_theta(PARAMETERS[name])) == pytest.approx(PARAMETERS[name], rel=1e-12)


def test_chinchilla_equals_its_formula_written_out():
    p = PARAMETERS["chinchilla"]
    form = get_form("chinchilla")
    loss, _ = form.evaluate(form.to_theta(p), INPUTS, False)
    for i in range(3):
        plain = p["E"] + p["A"] / INPUTS["size"][i] ** p["alpha"] + p["B"] / INPUTS["tokens"][i] ** p["beta"]
        assert loss[i] == pytest.approx(plain, rel=1e-12)


def test_composed_form_is_chinchilla_at_the_typical_aspect():
    p = PARAMETERS["chinchilla_shape"]
    shaped, plain = get_form("chinchilla_shape"), get_form("chinchilla")
    x = {
        "size": np.array([1e9]),
        "tokens": np.array([1e11]),
        "width": np.array([6400.0]),
        "depth": np.array([100.0]),
    }
    loss, _ = shaped.evaluate(shaped.to_theta(p), x, False)
    expected, _ = plain.evaluate(plain.to_theta(PARAMETERS["chinchilla"]), x, False)
    assert loss == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize("name", ["shape", "chinchilla_shape"])
def test_best_aspect_is_moderate_at_every_size(name):
    """At 1e6 to 1e12 parameters the best of all aspects is near rho: never 128 wide x 2,000 deep, never 2 layers."""
    form = get_form(name)
    theta = form.to_theta(PARAMETERS[name])
    aspect = np.geomspace(0.05, 2e4, 400)
    for size in (1e6, 1e9, 1e12):
        depth = (size / (12 * aspect**2)) ** (1 / 3)
        x = {
            "size": np.full(400, size), "tokens": np.full(400, 20 * size), "width": aspect * depth, "depth": depth,
            "decayed": np.ones(400), "lr_halvings": np.zeros(400),
        }  # fmt: skip
        loss, _ = form.evaluate(theta, x, False)
        assert 30 < aspect[np.argmin(loss)] < 36
        assert loss[0] > 1.01 * loss.min()
        assert loss[-1] > 1.01 * loss.min()


def test_unknown_form_names_the_known_ones():
    with pytest.raises(UnknownNameError, match="chinchilla"):
        get_form("chinchila")
    assert set(FORMS) == set(PARAMETERS)
