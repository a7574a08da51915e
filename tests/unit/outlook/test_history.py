"""The history of training compute: derivations, growth, splits and the place of a design."""

from __future__ import annotations

import math

import numpy as np
import pytest

from shapewright.errors import DocumentError, UnknownNameError, UsageError
from shapewright.outlook.factors import split
from shapewright.outlook.growth import fit_growth
from shapewright.outlook.history import history
from shapewright.outlook.milestones import MODALITIES, own_milestones, read_epoch, records
from shapewright.report.history_view import history_view
from shapewright.report.view import html_view

TABLE = own_milestones()


def test_every_milestone_has_source_confidence_modality_and_derivation():
    assert len(TABLE.rows) >= 120
    assert len({row.name for row in TABLE.rows}) == len(TABLE.rows)
    for row in TABLE.rows:
        assert len(row.flop.source) > 15, row.name
        assert row.modalities[0] in MODALITIES, row.name
        assert row.confidence in ("confident", "likely", "speculative"), row.name
        assert (row.flop.low or 0) < row.flop.value < (row.flop.high or 0)


def test_no_milestone_uses_its_chips_beyond_their_peak():
    from shapewright.outlook.factors import utilisation

    for row in TABLE.rows:
        used = utilisation(row)
        assert used is None or 0.02 < used < 0.65, f"{row.name}: {used}"


@pytest.mark.parametrize(
    ("name", "factor"), [("GPT-3", 6.7e5), ("Llama 3.1 405B", 8.1e7), ("GPT-4.5", 8.1e8), ("Grok 4", 1.06e9)]
)
def test_factor_over_alexnet(name, factor):
    found = split(TABLE.find("AlexNet"), TABLE.find(name))
    assert found.ratio == pytest.approx(factor, rel=0.01)


def test_parts_multiply_to_the_whole_and_shares_add_to_one():
    base = TABLE.find("AlexNet")
    for row in TABLE.rows:
        if row.flop.value == base.flop.value:
            continue
        found = split(base, row)
        assert math.prod(f.ratio for f in found.factors) == pytest.approx(found.ratio, rel=1e-9), row.name
        assert sum(f.share for f in found.factors) == pytest.approx(1.0, abs=1e-9), row.name


def test_growth_finds_a_made_line():
    rng = np.random.default_rng(3)

    def moved(row, at):
        from dataclasses import replace

        value = 10 ** (17 + 0.6 * (row.year - 2012) + rng.normal(0, 0.3))
        return replace(row, flop=replace(row.flop, value=value))

    rows = [moved(row, at) for at, row in enumerate(TABLE.rows) if row.year > 2012]
    found = fit_growth("made", rows)
    assert found.low < 10**0.6 < found.high
    assert found.doubling_months == pytest.approx(12 * math.log10(2) / 0.6, rel=0.05)
    assert found.year_of(found.flop(2019.0)) == pytest.approx(2019.0)


def test_records_are_increasing_and_the_top_ten_holds_them():
    best = [row.flop.value for row in records(TABLE.rows)]
    assert best == sorted(best)
    assert set(records(TABLE.rows)) <= set(records(TABLE.rows, top=10))


def test_a_compute_is_placed_by_the_record_line():
    found = history(flop=3.14e23)
    assert found.standing is not None
    assert 2019 < (found.standing.frontier_year or 0) < 2022
    assert (found.standing.frontier_low or 0) < (found.standing.frontier_year or 0)
    assert found.standing.first_above is not None


def test_the_page_shows_every_plotted_point_with_its_source():
    view = history_view(history(flop=1e23))
    assert [chart.name for chart in view.charts] == ["timeline", "growth", "factors", "samples"]
    page = html_view(view)
    for chart in view.charts:
        assert chart.grid.headers[-1] == "source"
        assert all(row[-1] for row in chart.grid.rows)
        assert f'id="chart-{chart.name}"' in page


def test_wrong_inputs_name_the_rule(tmp_path):
    with pytest.raises(UnknownNameError, match="vision"):
        history(domain="visoin")
    with pytest.raises(UnknownNameError, match="alexnet"):
        TABLE.find("alexnett")
    with pytest.raises(UsageError, match="growth rate"):
        history(domain="robotics", since=2024.0)
    with pytest.raises(UsageError, match="positive"):
        history(flop=-1.0)
    bad = tmp_path / "bad.csv"
    bad.write_text("a,b\n1,2\n")
    with pytest.raises(DocumentError, match="Model"):
        read_epoch(bad)
