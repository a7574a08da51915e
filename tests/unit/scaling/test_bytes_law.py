"""The law of the project's own ladder, and the recipe that belongs to it."""

from __future__ import annotations

from importlib import resources
from pathlib import Path

import numpy as np
import pytest

from shapewright.scaling.fit import fit
from shapewright.scaling.forms import FORMS
from shapewright.scaling.hyperparameters import (
    LADDER_BATCH_TOKENS,
    LADDER_RANGE,
    LADDER_RATE,
    STEPLAW_LARGEST_OPTIMUM,
    ladder_batch_tokens,
    ladder_learning_rate,
)
from shapewright.scaling.law import BYTES_LAW, default_law, load_law, predict_from_inputs, predict_loss
from shapewright.scaling.lawfile import read_law, write_law
from shapewright.scaling.protocol_ladder import (
    FILE,
    TYPICAL_ASPECT,
    fit_ladder_rates,
    ladder_inputs,
    ladder_runs,
)
from shapewright.scaling.recipe import batch_tokens, default_recipe_law, recipe
from shapewright.scaling.shipped import fit_shipped

FOLDER = Path(str(resources.files("shapewright"))) / "data" / "ladders"
UNIFORM = np.log(256.0)


def test_the_law_is_what_its_command_writes(expect_same_spread):
    again = read_law(write_law(fit_shipped(BYTES_LAW, FOLDER)), where=BYTES_LAW)
    stored = load_law(BYTES_LAW)
    assert again.parameters == pytest.approx(stored.parameters, rel=1e-3)
    assert again.residual_sd == pytest.approx(stored.residual_sd, rel=0.01)
    expect_same_spread(again, stored)
    assert (again.unit, again.rows, again.notes) == ("nat/byte", stored.rows, stored.notes)


def test_it_follows_its_runs_and_never_exceeds_guessing_where_they_are():
    law = load_law(BYTES_LAW)
    runs = ladder_runs(FOLDER / FILE)
    told = predict_from_inputs(law, **ladder_inputs(runs))
    assert np.median(np.abs(told.loss / runs.loss - 1)) < 0.015
    assert (np.abs(told.loss / runs.loss - 1) < 0.06).all()
    assert ((runs.loss > told.low) & (runs.loss < told.high)).mean() >= 0.8
    assert (told.high < UNIFORM).all()


def test_the_largest_model_is_foretold_by_the_smaller_ones():
    runs = ladder_runs(FOLDER / FILE)
    inputs = ladder_inputs(runs)
    top = inputs["size"] == inputs["size"].max()
    fixed = {"typical": float(np.log(TYPICAL_ASPECT))}
    found = fit(
        FORMS["chinchilla_shape"], {k: v[~top] for k, v in inputs.items()}, runs.loss[~top], fixed=fixed
    )
    predicted, _ = FORMS["chinchilla_shape"].evaluate(
        found.theta, {k: v[top] for k, v in inputs.items()}, False
    )
    assert np.abs(predicted / runs.loss[top] - 1).max() < 0.05


def test_ten_minutes_of_a_laptop_learn_more_than_guessing():
    told = predict_loss(
        default_law(flops=3e13, vocab_size=256),
        active_params=4e5,
        embedding_params=2e4,
        tokens=1.2e7,
        width=96,
        depth=4,
    )
    assert 0.8 < told.loss / np.log(2.0) < 2.2
    assert told.high < UNIFORM


def test_bytes_take_this_law_and_words_do_not():
    assert default_law(flops=1e13, vocab_size=256).name == BYTES_LAW
    assert default_law(flops=1e13, vocab_size=50304).name != BYTES_LAW
    assert default_law(flops=1e17, vocab_size=256).name != BYTES_LAW
    assert default_law(flops=1e13).unit == "nat/token"
    assert default_recipe_law(load_law(BYTES_LAW)) == ("ladder", "wsd")
    assert default_recipe_law(load_law("chinchilla_shape")) == ("steplaw", "cosine")
    assert default_recipe_law(None) == ("steplaw", "cosine")


def test_the_rule_for_the_rate_is_what_the_sweeps_say():
    found = fit_ladder_rates(FOLDER / FILE)
    assert found.at_end == ()
    assert pytest.approx((found.scale, found.power), rel=1e-3) == LADDER_RATE
    sizes = sorted(found.tuned)
    assert LADDER_RANGE["params"][0] == pytest.approx(sizes[0], rel=0.01)
    for size, rate in found.tuned.items():
        assert float(ladder_learning_rate(size)) == pytest.approx(rate, rel=0.15)


def test_the_recipe_of_a_byte_model():
    r = recipe("ladder", params=2.4e5, tokens=5e6, width=64, depth=5, schedule="wsd")
    assert r.batch_tokens.value == pytest.approx(float(ladder_batch_tokens(5e6)))
    assert 1e-4 < r.learning_rate.value < STEPLAW_LARGEST_OPTIMUM
    assert r.final_learning_rate.value == 0.0
    assert "ladder" in r.learning_rate.source
    assert r.remarks == ()
    same = recipe(
        "ladder", params=2.4e5, tokens=5e6, width=64, depth=5, batch=LADDER_BATCH_TOKENS, schedule="wsd"
    )
    assert same.learning_rate.value == pytest.approx(float(ladder_learning_rate(2.4e5)))
    wider = recipe(
        "ladder", params=2.4e5, tokens=5e6, width=64, depth=5, batch=4 * LADDER_BATCH_TOKENS, schedule="wsd"
    )
    assert wider.learning_rate.value == pytest.approx(2 * same.learning_rate.value)
    far = recipe("ladder", params=1e7, tokens=5e8, width=256, depth=8, schedule="wsd")
    assert any("ladder's rule is extrapolated: params" in remark for remark in far.remarks)


def test_batches_grow_with_training_and_never_exceed_it():
    tokens = np.array([500.0, 1e5, 4.3e6, 1e7, 1e9])
    batch = batch_tokens(tokens=tokens, law="ladder")
    assert batch[:3].tolist() == [500.0, LADDER_BATCH_TOKENS, LADDER_BATCH_TOKENS]
    assert (np.diff(batch[2:]) > 0).all()
