"""The recipe: sane from a million to a trillion parameters, every figure with its source."""

from __future__ import annotations

from dataclasses import fields

import numpy as np
import pytest

from shapewright.errors import UsageError
from shapewright.evidence import Figure
from shapewright.scaling.hyperparameters import (
    STEPLAW_LARGEST_OPTIMUM,
    deepseek_batch_tokens,
    deepseek_learning_rate,
    kaplan_critical_batch_tokens,
    kaplan_learning_rate,
    rescaled_for_batch,
    steplaw_batch_tokens,
    steplaw_learning_rate,
)
from shapewright.scaling.recipe import batch_tokens, learning_rate, recipe, warmup_steps
from shapewright.scaling.transfer import completep

SIZES = [
    (1e6, 2e7, 128, 5),
    (1e7, 2e8, 256, 8),
    (1e8, 2e9, 768, 12),
    (8e9, 1.5e13, 4096, 32),
    (1e12, 2e13, 16384, 128),
]


@pytest.mark.parametrize(("params", "tokens", "width", "depth"), SIZES)
def test_recipe_is_sane_at_every_size(params, tokens, width, depth):
    r = recipe(params=params, tokens=tokens, width=width, depth=depth)
    assert 1e-5 < r.learning_rate.value <= STEPLAW_LARGEST_OPTIMUM
    assert 100 < r.steps.value < 3e6
    assert r.batch_tokens.value * r.steps.value == pytest.approx(tokens, rel=0.01)
    assert 1 <= r.warmup_steps.value <= min(2000, 0.1 * r.steps.value + 1)
    assert 1e-3 < r.init_std.value < 0.1
    assert r.output_init_std.value < r.init_std.value
    for field in fields(r):
        value = getattr(r, field.name)
        if isinstance(value, Figure):
            assert value.source, field.name


def test_formulas_by_hand():
    assert float(steplaw_learning_rate(1e9, 1e11)) == pytest.approx(1.79 * 1e9**-0.713 * 1e11**0.307)
    assert float(steplaw_batch_tokens(1e11)) == pytest.approx(0.58 * 1e11**0.571)
    assert float(deepseek_learning_rate(1e20)) == pytest.approx(0.3118 * 1e20**-0.125)
    assert float(deepseek_batch_tokens(1e20)) == pytest.approx(0.2920 * 1e20**0.3271)
    assert float(kaplan_critical_batch_tokens(3.0)) == pytest.approx(2e8 / 3.0 ** (1 / 0.21))
    assert float(kaplan_learning_rate(1e9)) == pytest.approx(0.003239 - 0.0001395 * np.log(1e9))


def test_published_laws_agree_within_a_small_factor_where_all_were_measured():
    """Around 1e20 FLOP the three published batches lie within 8x and the rates within 6x of each other."""
    params, tokens = 4e8, 4e10
    flops = 6 * params * tokens
    batches = [
        float(steplaw_batch_tokens(tokens)),
        float(deepseek_batch_tokens(flops)),
        float(kaplan_critical_batch_tokens(2.7)),
    ]
    rates = [
        float(steplaw_learning_rate(params, tokens)),
        float(deepseek_learning_rate(flops)),
        float(kaplan_learning_rate(params)),
    ]
    assert max(batches) / min(batches) < 8, batches
    assert max(rates) / min(rates) < 6, rates


def test_vectorised_and_scalar_agree():
    tokens = np.array([1e8, 1e10, 1e13])
    params = np.array([1e6, 1e9, 1e11])
    batch = batch_tokens(tokens=tokens)
    rate = learning_rate(params=params, tokens=tokens, batch=batch)
    for i in range(3):
        assert batch[i] == float(batch_tokens(tokens=tokens[i]))
        assert rate[i] == pytest.approx(
            float(learning_rate(params=params[i], tokens=tokens[i], batch=batch[i]))
        )
    assert float(batch_tokens(tokens=100.0)) <= 100.0


def test_another_batch_moves_the_rate_by_its_square_root():
    free = recipe(params=1e9, tokens=5e10, width=2048, depth=16)
    larger = recipe(params=1e9, tokens=5e10, width=2048, depth=16, batch=4 * free.batch_tokens.value)
    assert larger.learning_rate.value == pytest.approx(2 * free.learning_rate.value)
    assert "Malladi" in larger.learning_rate.source
    assert float(rescaled_for_batch(1e-3, 1e6, 4e6)) == pytest.approx(5e-4)
    far = recipe(params=1e9, tokens=5e10, width=2048, depth=16, batch=16 * free.batch_tokens.value)
    assert any("not measured" in remark for remark in far.remarks)


def test_extrapolation_is_remarked():
    assert not recipe(params=5e8, tokens=5e10, width=1280, depth=13).remarks
    remarks = " ".join(recipe(params=4e11, tokens=1.5e13, width=16384, depth=126).remarks)
    assert "params 364x above" in remarks
    assert "tokens 150x above" in remarks


def test_schedules():
    cosine = recipe(params=1e9, tokens=5e10, width=2048, depth=16)
    wsd = recipe("deepseek", params=1e9, tokens=5e10, width=2048, depth=16, schedule="wsd")
    assert cosine.final_learning_rate.value == 1e-5
    assert wsd.final_learning_rate.value == 0.0
    assert wsd.decay_fraction.value == 0.2
    assert recipe(params=1e6, tokens=2e7, width=128, depth=5).beta2.value == 0.99
    assert float(warmup_steps(params=1e6, batch=1e4, steps=5)) == 1.0


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"params": 0.0}, "params"),
        ({"tokens": -1.0}, "tokens"),
        ({"batch": 1e12}, "batch"),
        ({"law": "magic"}, "law"),
    ],
)
def test_wrong_requests_are_named(change, message):
    given = {"params": 1e9, "tokens": 5e10, "width": 2048, "depth": 16} | change
    law = given.pop("law", "steplaw")
    with pytest.raises(UsageError, match=message):
        recipe(law, **given)


def test_transfer_to_itself_changes_nothing():
    t = completep(width=512, depth=8, proxy_width=512, proxy_depth=8)
    assert {
        t.hidden_learning_rate,
        t.hidden_weight_decay,
        t.residual_multiplier,
        t.epsilon,
        t.logit_multiplier,
    } == {1.0}
    with pytest.raises(UsageError, match="depth_exponent"):
        completep(width=512, depth=8, proxy_width=512, proxy_depth=8, depth_exponent=2.0)
    with pytest.raises(UsageError, match="proxy_width"):
        completep(width=512, depth=8, proxy_width=0, proxy_depth=8)


def test_a_recipe_says_how_to_carry_over_what_a_proxy_was_tuned_to():
    """CompleteP from a proxy; a model as small as the proxy keeps everything."""
    large = recipe(params=2.5e10, tokens=5e11, width=5120, depth=64).transfer
    assert large is not None
    assert (large.proxy_width, large.proxy_depth) == (256, 8)
    assert large.hidden_learning_rate == pytest.approx(256 / 5120)
    assert large.residual_multiplier == pytest.approx(8 / 64)
    assert "2505.01618" in large.source
    small = recipe(params=1e5, tokens=1e7, width=64, depth=4).transfer
    assert small is not None
    assert small.hidden_learning_rate == small.residual_multiplier == small.hidden_weight_decay == 1.0
