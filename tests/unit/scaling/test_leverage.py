"""Mixtures sparser than the open runs: the published law, what others measured, and an interval that widens."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from shapewright.architecture.catalog import load_model
from shapewright.designs.siblings import SPARSE, leverage_sibling, outside_sparsity
from shapewright.scaling.experts import BEYOND_SD, MEASURED_RATIO, SHARE, ln_growth
from shapewright.scaling.law import Z90, load_law, predict_loss
from shapewright.scaling.leverage import PUBLISHED, TIAN, leverage_power, ln_leverage, told
from shapewright.scaling.protocol_leverage import POWER_SD
from shapewright.search.contrast import contrast_sd
from shapewright.search.learning import traits_of


def test_the_coefficients_say_what_their_text_says():
    """Section 4 of arXiv 2507.17702: the best G is about 12, and 3.1 % active at G = 12 saves more than 7 times at 1e22."""
    fine = np.linspace(2, 16, 1401)
    assert fine[np.argmin(leverage_power(fine, 1e20))] == pytest.approx(12, abs=1)
    assert 7.0 < np.exp(ln_leverage(0.031, 12, 1e22)) < 7.5
    assert float(ln_leverage(1.0, 8, 1e22)) == 0.0


@pytest.mark.parametrize("published", PUBLISHED, ids=lambda each: each.name)
def test_published_comparisons_lie_inside_both_intervals(published):
    """None of them is fitted; ours is the power of open mixtures of at most 11.5, theirs the law of Tian et al."""
    mean, sd = ln_growth(published.ratio, published.seen)
    other_mean, _ = ln_growth(published.other_ratio, published.other_seen)
    if published.other_ratio > 1.0:
        # One power for both: what differs is how far each goes.
        sd = ln_growth(published.ratio, 1.0)[1] - ln_growth(published.other_ratio, 1.0)[1]
    ours, theirs, measured = float(mean - other_mean), told(published), np.log(published.factor)
    assert abs(ours - measured) < Z90 * float(sd), (ours, measured, sd)
    shift = [
        np.log((a + TIAN["start"]) / (1 + TIAN["start"]))
        for a in (published.activation, published.other_activation)
    ]
    assert abs(theirs - measured) < Z90 * POWER_SD * abs(shift[0] - shift[1]), (theirs, measured)
    if published.name.startswith("Kimi"):
        assert ours == pytest.approx(measured, abs=0.05), "within 5 % of the compute"
        power = measured / np.log(published.ratio / published.other_ratio)
        assert SHARE < power < SHARE + Z90 * BEYOND_SD


def test_the_interval_widens_beyond_the_measured_sparsity_and_only_there():
    model = {"active_params": 3e9, "embedding_params": 0.0, "tokens": 1e12, "width": 2048, "depth": 40}
    for name in ("chinchilla_shape", "steplaw"):
        ratios = np.array([6.0, MEASURED_RATIO, 20.0, 32.0])
        found = predict_loss(load_law(name), **model, params=3e9 * ratios, granularity=9.0)
        width = np.log(found.high / found.loss)
        assert (np.diff(found.loss) < 0).all()
        assert width[3] > width[2] > width[1]
    inside = ln_growth(MEASURED_RATIO, 9.0)[1]
    assert ln_growth(MEASURED_RATIO * np.e, 9.0)[1] ** 2 - inside**2 > BEYOND_SD**2


def test_a_sparse_model_is_marked_and_has_a_second_opinion():
    law, sparse, mild = (
        load_law("chinchilla_shape"),
        traits_of(load_model("deepseek-v3")),
        traits_of(load_model("mixtral-8x7b")),
    )
    assert SPARSE in outside_sparsity(law, sparse)[0]
    assert outside_sparsity(law, mild) == ()
    told_of = leverage_sibling(law, sparse, tokens=1e12, number_format="bf16")
    assert told_of is not None
    assert "times its active parameters" in told_of.text
    assert (
        leverage_sibling(law, traits_of(load_model("llama-3-8b")), tokens=1e12, number_format="bf16") is None
    )
    assert leverage_sibling(law, replace(sparse, activation=0.001), tokens=1e12, number_format="bf16") is None


def test_two_sparse_models_are_told_apart_by_what_they_do_not_share():
    law, shape = load_law("chinchilla_shape"), load_model("deepseek-v3")
    same = contrast_sd(law, (shape, 1e12), (shape, 1e12))
    other = contrast_sd(law, (shape, 1e12), (load_model("mixtral-8x7b"), 1e12))
    assert other > same
    assert same == pytest.approx(law.residual_sd * 2**0.5)
