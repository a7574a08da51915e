"""What changes the effective size or the effective tokens: experts and repetition."""

from __future__ import annotations

import numpy as np
import pytest

from shapewright.architecture.catalog import load_model
from shapewright.errors import UsageError
from shapewright.scaling.experts import KRAJEWSKI, SHARE, SHARE_SD, effective_size, ln_cut
from shapewright.scaling.law import load_law, predict_loss
from shapewright.scaling.repetition import TOKEN_HALF_LIFE, effective_params, effective_tokens
from shapewright.search.learning import granularity_of

MODEL = {"active_params": 3e9, "embedding_params": 0.0, "tokens": 1e12, "width": 2048, "depth": 40}


def test_a_dense_model_is_its_own_size():
    assert effective_size(1e9, 1e9) == 1e9
    dense = predict_loss(load_law("chinchilla"), **MODEL)
    same = predict_loss(load_law("chinchilla"), **MODEL, params=3e9)
    assert float(same.loss) == float(dense.loss)
    assert float(same.high) == float(dense.high)


@pytest.mark.parametrize("name", ["chinchilla", "chinchilla_shape", "gemstones", "steplaw"])
def test_idle_experts_help_less_than_active_ones(name):
    law = load_law(name)
    dense = predict_loss(law, **MODEL)
    mixture = predict_loss(law, **MODEL, params=30e9)
    large = predict_loss(law, **{**MODEL, "active_params": 30e9})
    assert large.loss < mixture.loss < dense.loss
    assert np.log(mixture.high / mixture.loss) > np.log(dense.high / dense.loss)


def test_finer_experts_are_a_larger_model():
    """Krajewski et al. 2024: L = c + (g/G^gamma + a)/N^alpha + ..., so the size term at G = 8 equals that of the factor
    on N at G = 1; what nobody fitted is no finer than the finest that was."""
    k = KRAJEWSKI
    factor = float(np.exp(ln_cut(8.0)))
    assert k["g"] / 8 ** k["gamma"] + k["a"] == pytest.approx((k["g"] + k["a"]) / factor ** k["alpha"])
    assert float(ln_cut(1.0)) == 0.0
    assert float(ln_cut(64.0)) == float(ln_cut(16.0))
    law = load_law("chinchilla")
    coarse, fine = (predict_loss(law, **MODEL, params=12e9, granularity=g) for g in (1.0, 8.0))
    assert fine.loss < coarse.loss
    assert np.log(fine.high / fine.loss) > np.log(coarse.high / coarse.loss)


def test_granularity_counts_the_width_that_a_token_sees():
    """DeepSeek-V3: eight routed experts and a shared one as wide as one of them."""
    assert granularity_of(load_model("deepseek-v3")) == 9.0
    assert granularity_of(load_model("mixtral-8x7b")) == 2.0
    assert granularity_of(load_model("llama-3-8b")) == 1.0


def test_share_is_the_one_of_the_law_file():
    law = load_law("steplaw")
    assert pytest.approx(law.parameters["share"], abs=5e-4) == SHARE
    bootstrap_sd = law.covariance[-1][-1] ** 0.5
    assert bootstrap_sd <= SHARE_SD


def test_fewer_parameters_in_all_than_active_are_refused():
    with pytest.raises(UsageError, match="fewer than active"):
        predict_loss(load_law("chinchilla"), **MODEL, params=1e9)


def test_repetition_by_its_formula():
    """Four epochs of 1e9 tokens: 1e9 (1 + R* (1 - e^(-3/R*)))."""
    expected = 1e9 * (1 + TOKEN_HALF_LIFE * (1 - np.exp(-3 / TOKEN_HALF_LIFE)))
    assert effective_tokens(4e9, 1e9) == pytest.approx(expected)
    assert effective_tokens(5e8, 1e9) == 5e8, "less than one epoch repeats nothing"
    assert effective_tokens(1e15, 1e9) == pytest.approx(1e9 * (1 + TOKEN_HALF_LIFE))
    with pytest.raises(UsageError, match="unique_tokens"):
        effective_tokens(1e9, 0.0)


def test_repetition_costs_loss_and_never_gains():
    fresh = predict_loss(load_law("gemstones"), **MODEL)
    repeated = predict_loss(load_law("gemstones"), **MODEL, unique_tokens=np.array([1e12, 2.5e11, 1e10]))
    assert float(repeated.loss[0]) == float(fresh.loss)
    assert (np.diff(repeated.loss) > 0).all()
    assert repeated.loss[1] / fresh.loss - 1 < 0.01, (
        "four epochs cost next to nothing (Muennighoff et al. 2023)"
    )


def test_excess_parameters_decay():
    law = {"A": 520.8, "B": 1487.6, "alpha": 0.353, "beta": 0.353}
    sizes = np.array([1e6, 1e8, 1e10, 1e12])
    used = effective_params(sizes, 1e8, **law)
    assert used[0] == 1e6
    assert (used <= sizes).all()
    assert (np.diff(used) >= 0).all()
