"""Laws: what they predict, how they count size, how their files read."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from shapewright.errors import DocumentError, UnknownNameError, UsageError
from shapewright.scaling.law import (
    CHUNK,
    Z90,
    default_law,
    law_names,
    law_size,
    load_law,
    predict_from_inputs,
    predict_loss,
)
from shapewright.scaling.lawfile import read_law, write_law

LLAMA_8B = {"active_params": 8.03e9, "embedding_params": 1.05e9, "tokens": 1.5e13, "width": 4096, "depth": 32}


@pytest.mark.parametrize("name", law_names())
def test_every_shipped_law_serves_from_far_below_its_runs_to_a_trillion_parameters(name):
    law = load_law(name)
    params = np.geomspace(min(1e6, law.fitted_range["params"][0] / 30), 1e12, 25)
    depth = (params / (12 * 40.0**2)) ** (1 / 3)
    # The conditional law wants one depth at every size: its width grows with the root of the parameters.
    width = 0.08 * params**0.5 if "relative_width" in law.form.inputs else 40 * depth
    told = predict_loss(
        law, active_params=params, embedding_params=0.0, tokens=20 * params, width=width, depth=depth
    )
    assert np.isfinite(told.high).all()
    assert (np.diff(told.loss) < 0).all(), "larger budgets at the same aspect must not lose"
    assert (told.low < told.loss).all()
    assert (told.loss < told.high).all()
    relative = np.log(told.high / told.loss)
    assert relative[-1] > 2 * relative.min(), "the interval must grow beyond the fitted range"
    assert relative[0] > 2 * relative.min()
    assert told.extrapolation[-1] > 1e3


@pytest.mark.parametrize("name", law_names())
def test_file_gives_the_same_law_back(name):
    law = load_law(name)
    assert read_law(write_law(law), where="again") == law
    assert law.dataset
    assert law.source
    assert law.licence
    assert law.rows >= law.runs > 0


def test_interval_is_the_sum_of_three_variances():
    law = load_law("chinchilla")
    x = {"size": np.array([1e9, 1e12]), "tokens": np.array([1e10, 1e13])}
    _, gradient = law.form.evaluate(law.theta, x, True)
    told = predict_from_inputs(law, **x)
    for i in range(2):
        g = np.array([column[i] for column in gradient])
        factor = 6 * x["size"][i] * x["tokens"][i] / law.fitted_range["flops"][1]
        decades = max(np.log10(factor), 0.0)
        sd = np.sqrt(
            g @ np.array(law.covariance) @ g + law.residual_sd**2 + (law.drift_per_decade * decades) ** 2
        )
        assert np.log(told.high[i] / told.loss[i]) == pytest.approx(Z90 * sd, rel=1e-6)
        assert told.extrapolation[i] == pytest.approx(max(factor, 1.0))


def test_arrays_broadcast_and_pieces_do_not_show():
    law = load_law("gemstones")
    width = np.linspace(256, 4096, CHUNK + 7)
    whole = predict_loss(
        law, active_params=12 * 24 * width**2, embedding_params=0.0, tokens=1e11, width=width, depth=24
    )
    for i in (0, CHUNK - 1, CHUNK, CHUNK + 6):
        one = predict_loss(
            law,
            active_params=12 * 24 * width[i] ** 2,
            embedding_params=0.0,
            tokens=1e11,
            width=width[i],
            depth=24,
        )
        assert one.loss.shape == ()
        assert whole.loss[i] == pytest.approx(float(one.loss), rel=1e-12)
        assert whole.high[i] == pytest.approx(float(one.high), rel=1e-12)
    grid = predict_loss(law, active_params=np.array([[1e8], [2e8]]), embedding_params=0.0, tokens=np.array([1e10, 2e10]),
                        width=1024, depth=12)  # fmt: skip
    assert grid.loss.shape == (2, 2)


def test_size_is_counted_as_the_law_counts_it():
    count = {"active_params": 1e9, "embedding_params": 2e8, "width": 1000.0, "depth": 10.0}
    law = load_law("gemstones")
    assert law_size(load_law("chinchilla"), **count) == 1e9
    assert law_size(law, **count) == 8e8 + 50304 * 1000 + 2048 * 1000 * 10
    assert law_size(replace(law, param_convention="non_embedding"), **count) == 8e8


def test_a_larger_vocabulary_is_not_a_larger_model():
    law = load_law("gemstones")
    base = predict_loss(law, **{**LLAMA_8B, "active_params": 7e9, "embedding_params": 0.0})
    more = predict_loss(law, **{**LLAMA_8B, "active_params": 9e9, "embedding_params": 2e9})
    assert more.loss == pytest.approx(float(base.loss))


def test_decay_and_learning_rate_move_the_loss_the_right_way():
    law = load_law("gemstones")
    decayed = predict_loss(law, **LLAMA_8B)
    constant = predict_loss(law, **LLAMA_8B, decayed=0.0)
    halved = predict_loss(law, **LLAMA_8B, decayed=0.0, lr_halvings=1.0)
    assert decayed.loss < constant.loss < halved.loss


def test_wrong_inputs_are_named():
    with pytest.raises(UsageError, match=r"tokens \(=0\)"):
        predict_loss(load_law("chinchilla"), **{**LLAMA_8B, "tokens": 0})
    with pytest.raises(UsageError, match="size"):
        predict_loss(load_law("gemstones"), **{**LLAMA_8B, "active_params": -1e12})
    with pytest.raises(UnknownNameError, match="chinchilla"):
        load_law("chinchila")


def test_default_law_follows_the_budget():
    assert default_law().name == "chinchilla_shape"
    assert default_law(flops=1e24).name == "chinchilla_shape"
    assert default_law(flops=1e15).name == "porian_shape"


def test_law_files_are_strict():
    text = write_law(load_law("chinchilla"))
    with pytest.raises(DocumentError, match="unknown key 'colour'"):
        read_law('colour = "red"\n' + text, where="f.toml")
    with pytest.raises(DocumentError, match="missing key"):
        read_law("name = 'x'", where="f.toml")
    with pytest.raises(DocumentError, match="not TOML"):
        read_law("= broken", where="f.toml")
    with pytest.raises(DocumentError, match="parameters"):
        read_law(text.replace("alpha = ", "alfa = "), where="f.toml")
    with pytest.raises(DocumentError, match="covariance"):
        read_law(text.replace('"ln E"', '"E"'), where="f.toml")
