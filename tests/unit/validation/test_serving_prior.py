"""Rows that leave their deployment open stand for several, weighted; what is unknown widens their interval."""

from __future__ import annotations

import csv
from itertools import product
from pathlib import Path

import numpy as np
import pytest

from shapewright.validation.serving import predict_file
from shapewright.validation.serving_mixture import Mixture
from shapewright.validation.serving_prior import LIKELY, Stated, likely
from shapewright.validation.serving_recipes import FOLDER, Key
from shapewright.validation.serving_rows import held_out

KEY = Key(model="deepseek-v3", system="b300_sxm", engine="trtllm", precision="fp8", isl=1024, osl=1024)


def _stated(**more) -> Stated:
    return Stated(**{"key": KEY, "version": "0.8.1.post1", "concurrency": 60.0} | more)


def test_weights_add_to_one_and_fall():
    found = likely(_stated(prefill_world=4, decode_world=8), held_out)
    weights = [setup.weight for setup in found]
    assert 1 < len(found) <= LIKELY
    assert sum(weights) == pytest.approx(1.0)
    assert weights == sorted(weights, reverse=True)


def test_what_is_stated_overrides():
    for setup in likely(_stated(prefill_world=2, decode_world=16), held_out):
        assert setup.prefill is not None
        assert (int(setup.prefill.layout.world), int(setup.decode.layout.world)) == (2, 16)


def test_neither_its_own_pair_nor_one_held_out_is_among_them(monkeypatch: pytest.MonkeyPatch):
    # A row of a pair gets the same deployments whether or not its pair's recipes are in the table.
    from shapewright.validation import serving_prior, serving_recipes

    before = likely(_stated(decode_world=8, prefill_world=4), held_out)
    kept = {
        key: value
        for key, value in serving_recipes.all_recipes().items()
        if (key.model, key.system) != (KEY.model, KEY.system) and not held_out(key.model, key.system)
    }
    monkeypatch.setattr(serving_prior, "all_recipes", lambda: kept)
    serving_prior._table.cache_clear()
    assert likely(_stated(decode_world=8, prefill_world=4), held_out) == before
    serving_prior._table.cache_clear()


def test_an_unknown_model_gets_a_distribution_too():
    key = Key(model="somebody-7b", system="rtx_4090", engine="vllm", precision="bf16", isl=300, osl=90)
    assert likely(Stated(key=key, version="", concurrency=3.0), held_out)


def test_a_mixture_of_one_is_the_known_interval():
    one = Mixture(owner=np.array([0, 1]), weight=np.array([1.0, 2.0]))
    low, high = one.ends(np.array([0.01, 0.2]), np.array([[0.7, 0.5], [1.4, 3.0]]))
    np.testing.assert_allclose(low, [0.007, 0.1], rtol=1e-6)
    np.testing.assert_allclose(high, [0.014, 0.6], rtol=1e-6)
    np.testing.assert_allclose(one.quantile(np.array([0.01, 0.2]), 0.5), [0.01, 0.2])


def test_what_is_unknown_widens_the_interval():
    two = Mixture(owner=np.array([0, 0]), weight=np.array([0.5, 0.5]))
    reach = np.array([[0.8, 0.8], [1.25, 1.25]])
    low, high = two.ends(np.array([1.0, 3.0]), reach)
    # Nine tenths of two equal halves: a tenth of each half lies outside.
    assert 0.8 < low[0] < 0.9
    assert 3.3 < high[0] < 3.75
    assert two.quantile(np.array([1.0, 3.0]), 0.5)[0] == pytest.approx(3.0**0.5)
    draws = np.random.default_rng(0).normal(size=(2, 200_000))
    sigma = np.log(1.25) / 1.6448536
    mixed = np.exp(sigma * draws + np.log([[1.0], [3.0]]))
    np.testing.assert_allclose([low[0], high[0]], np.quantile(mixed, (0.05, 0.95)), rtol=0.01)


def test_order_within_a_row_does_not_matter():
    rng = np.random.default_rng(1)
    owner, weight, values = np.repeat(np.arange(5), 4), rng.random(20), rng.random(20) + 0.1
    shuffled = np.concatenate([rng.permutation(4) + 4 * i for i in range(5)])
    one, other = (
        Mixture(owner=owner, weight=weight),
        Mixture(owner=owner, weight=weight[shuffled]),
    )
    reach = np.full((2, 20), [[0.5], [2.0]])
    np.testing.assert_allclose(one.quantile(values, 0.5), other.quantile(values[shuffled], 0.5))
    np.testing.assert_allclose(one.ends(values, reach), other.ends(values[shuffled], reach))


def test_intervals_of_silent_rows_are_wider(tmp_path: Path):
    header = "id,silicon_data_source,backend,backend_version,model_path,system,precision,mode,isl,osl,prefill_tp_size,"
    words = "silicon_concurrency=12,trtllm,0.8.1.post1,x/DeepSeek-R1,b300_sxm,fp8,disagg,1024,1024"
    row = f",source_file=2026-04-06; {words},"
    path = tmp_path / "points.csv"
    path.write_text(f"{header}decode_tp_size,silicon_ttft_ms,silicon_tpot_ms\nr{row}4,8,1000,9\n")
    (known,), _, _ = predict_file(path)
    (silent,), _, _ = predict_file(path, recipes=False)
    assert len(silent.row.setups) > len(known.row.setups)
    for i in (0, 1):
        assert silent.high[i] / silent.low[i] > known.high[i] / known.low[i]
        assert silent.low[i] < silent.predicted[i] < silent.high[i]


def test_every_line_of_the_holds_names_its_script():
    lines = list(csv.DictReader((FOLDER / "holds.csv").read_text().splitlines()))
    assert all(line["where"] and line["argument"] and int(line["steps"]) > 0 for line in lines)
    for a, b in product(range(len(lines)), repeat=2):
        # A later line of the same words must say something else than an earlier one.
        if a < b:
            assert {k: v for k, v in lines[a].items() if k != "where"} != {
                k: v for k, v in lines[b].items() if k != "where"
            }
