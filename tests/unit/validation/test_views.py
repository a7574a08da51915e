"""Kernels looked at again: a device left out, sizes apart, sizes that are not there."""

from __future__ import annotations

import numpy as np
import pytest

from shapewright.cost.family import Measurements
from shapewright.cost.price import cost_model
from shapewright.errors import UsageError
from shapewright.hardware.catalog import load_accelerator
from shapewright.validation.kernels import score, score_all
from shapewright.validation.views import View, unmeasured_model


@pytest.fixture
def products() -> Measurements:
    """Products whose measured times are the model's own, times 1.3 where n is 8,192."""
    m, n, k = (
        x.ravel().astype(float) for x in np.meshgrid([512, 4096], [1024, 2048, 8192], [1024, 4096, 8192])
    )
    seconds = cost_model(load_accelerator("a100_sxm")).matmul(m, n, k, "bf16")
    return Measurements(
        accelerator="a100_sxm", family="matmul", number_format="bf16", columns={"m": m, "n": n, "k": k},
        seconds=seconds * np.where(n == 8192, 1.3, 1.0),
    )  # fmt: skip


def test_a_dimension_becomes_slices(products: Measurements) -> None:
    scored, skips = score_all([products], held_out=None, view=View(by="n"))
    assert not skips
    errors = {item.name: float(np.median(item.predicted / item.measured)) for item in scored}
    assert errors == pytest.approx({
        "a100_sxm/gemm/bf16/n=1024": 1.0, "a100_sxm/gemm/bf16/n=2048": 1.0, "a100_sxm/gemm/bf16/n=8192": 1 / 1.3,
    }, rel=1e-3)  # fmt: skip
    with pytest.raises(UsageError, match="it has m, n, k"):
        score_all([products], held_out=None, view=View(by="head_dim"))


def test_a_device_left_out_is_priced_by_its_relatives(products: Measurements) -> None:
    model = unmeasured_model("a100_sxm")
    assert model.stand_in.relative not in (None, "a100_sxm")
    assert all(fit.kind == "derived" for fit in model.calibration.fits)
    (item,), _ = score_all([products], held_out=None, view=View(unmeasured=True))
    assert np.array_equal(item.predicted, score(model, products).predicted)
    assert not np.allclose(item.predicted, score_all([products], held_out=None)[0][0].predicted, rtol=0.02)


def test_a_fifth_of_the_pairs_is_scored_without_its_neighbours(products: Measurements) -> None:
    view = View(unseen=("n", "k"))
    out = view.left_out(products)
    assert 0 < out.sum() < len(products)
    pairs = {tuple(pair) for pair in np.stack([products.columns[x] for x in "nk"], axis=1)[out]}
    for n, k, left in zip(products.columns["n"], products.columns["k"], out, strict=True):
        assert ((n, k) in pairs) == left, "all rows of a pair are on one side"
    (item,), _ = score_all([products], held_out=None, view=view)
    assert item.measured.size == out.sum()
