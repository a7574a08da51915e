"""Growth of training compute in Epoch AI's table of notable models, as published figures have it."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from shapewright.outlook.history import LARGE_TABLE, history
from shapewright.outlook.milestones import own_milestones, read_epoch

DATA = Path(os.environ.get("SHAPEWRIGHT_DATA", Path(__file__).parents[3] / "shared" / "data"))
pytestmark = [
    pytest.mark.data,
    pytest.mark.skipif(not DATA.is_dir(), reason=f"no reference data in {DATA} (set SHAPEWRIGHT_DATA)"),
]


def test_growth_of_all_notable_models_since_alexnet():
    found = history(read_epoch(DATA / "compute_history.csv")).line("all")
    assert found.count == 453
    assert found.per_year == pytest.approx(4.63, abs=0.02)
    assert found.low == pytest.approx(4.25, abs=0.02)
    assert found.high == pytest.approx(5.07, abs=0.02)
    assert found.doubling_months == pytest.approx(5.4, abs=0.05)
    assert (LARGE_TABLE.value, LARGE_TABLE.low, LARGE_TABLE.high) == pytest.approx(
        (found.per_year, found.low, found.high), abs=0.01
    )


def test_growth_of_the_frontier():
    found = history(read_epoch(DATA / "compute_history.csv"))
    assert found.line("running top ten").per_year == pytest.approx(4.90, abs=0.05)
    assert found.line("running record").per_year == pytest.approx(4.97, abs=0.1)


def test_our_derivations_agree_with_the_estimates_of_the_large_table():
    """Of models with the same name, nine tenths lie within a factor of two."""
    large = {
        "".join(filter(str.isalnum, row.name.lower())): row
        for row in read_epoch(DATA / "compute_history.csv").rows
    }
    ratios = []
    for row in own_milestones().rows:
        other = large.get("".join(filter(str.isalnum, row.name.lower())))
        if other is not None and row.method != "Epoch AI":
            ratios.append(row.flop.value / other.flop.value)
    assert len(ratios) >= 20
    near = sum(0.5 <= ratio <= 2.0 for ratio in ratios) / len(ratios)
    assert near >= 0.9, f"{near:.2f} of {len(ratios)} within a factor of two"
