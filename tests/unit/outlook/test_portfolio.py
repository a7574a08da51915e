"""Ideas at a target budget: extrapolation with risk, groups, the baseline, wrong files."""

from __future__ import annotations

import json
import math
from dataclasses import replace

import numpy as np
import pytest

from shapewright.errors import DocumentError, UsageError
from shapewright.outlook.ideas import read_ideas, shipped_ideas
from shapewright.outlook.portfolio import BASELINE, expected_positive, gain_at, portfolio
from shapewright.report.portfolio_view import portfolio_view

IDEA = shipped_ideas()[0]


def test_every_shipped_idea_has_scale_interval_source_and_kind():
    for idea in shipped_ideas():
        assert idea.gain_low <= idea.gain <= idea.gain_high
        assert len(idea.source) > 30
        assert idea.kind in ("measured", "vendor")


def test_a_gain_keeps_its_interval_where_it_was_seen_and_widens_away_from_it():
    near, far = (gain_at(IDEA, flops) for flops in (IDEA.at_flops, IDEA.at_flops * 1e6))
    assert math.exp(near[0]) == pytest.approx(IDEA.gain * IDEA.hardware)
    assert math.exp(near[0] + 1.645 * near[1]) == pytest.approx(IDEA.gain_high, rel=0.02)
    assert far[1] > near[1]
    assert far[0] - near[0] == pytest.approx(IDEA.slope * math.log(1e6))


def test_the_option_value_is_the_mean_of_what_is_adopted():
    draws = np.random.default_rng(1).normal(0.1, 0.4, 400_000)
    assert expected_positive(0.1, 0.4) == pytest.approx(np.maximum(draws, 0).mean(), rel=0.01)
    assert expected_positive(0.3, 0.0) == 0.3


def test_scaling_further_is_the_baseline_and_shrinking_ideas_lose_to_it_far_away():
    found = portfolio(1e24)
    by_name = {each.name: each for each in found.held}
    assert by_name[BASELINE].lead == 0
    assert by_name[BASELINE].chance == 1
    assert by_name["speed-run bundle of seven months"].lead < 0
    assert by_name["modern blocks over 2017's"].chance > 0.99
    near = {each.name: each for each in portfolio(1e20).held}
    assert near["speed-run bundle of seven months"].lead > 0
    assert by_name["modern blocks over 2017's"].loss_change < 0


def test_ideas_of_one_group_replace_each_other():
    twin = replace(IDEA, name="twin", gain=IDEA.gain * 1.01, gain_high=IDEA.gain_high * 1.01)
    found = portfolio(1e20, ideas=[IDEA, twin])
    assert found.chosen == ("twin",)
    other = portfolio(1e20, ideas=[IDEA, replace(twin, group="another")])
    assert other.together > found.together


def test_gains_that_were_measured_are_read(tmp_path):
    path = tmp_path / "gain.json"
    gain = {
        "cost": [1e16, 1e17],
        "gain": [1.2, 1.4],
        "gain_low": [1.1, 1.2],
        "gain_high": [1.3, 1.7],
        "slope": 0.05,
        "slope_low": 0.0,
        "slope_high": 0.1,
        "verdict": "growing",
    }
    path.write_text(json.dumps({"base": "old", "tuning": "tuned", "gains": {"new": {"flops": gain}}}))
    (idea,) = read_ideas(path)
    assert (idea.gain, idea.at_flops, idea.kind) == (1.4, 1e17, "measured")
    path.write_text("{}")
    with pytest.raises(DocumentError, match="shapewright gain"):
        read_ideas(path)


@pytest.mark.parametrize(
    ("line", "rule"),
    [
        ("gain = -1.0", "positive"), ("gains = 2.0", "not known"), ("kind = 'guess'", "known: measured"),
        ("gain = 9.0", "outside its interval"), ("slope = 0.1", "come together"),
    ],
)  # fmt: skip
def test_a_wrong_list_is_refused_by_its_path(tmp_path, line, rule):
    rows = {
        "name": "'x'",
        "gain": "1.5",
        "gain_low": "1.2",
        "gain_high": "2.0",
        "at_flops": "1e20",
        "kind": "'measured'",
        "source": "'mine'",
    }
    key, _, value = line.partition(" = ")
    rows[key] = value
    path = tmp_path / "ideas.toml"
    path.write_text("[[idea]]\n" + "\n".join(f"{name} = {text}" for name, text in rows.items()))
    with pytest.raises(DocumentError, match=rule):
        read_ideas(path)


def test_wrong_targets_say_the_rule():
    with pytest.raises(UsageError, match="1e12"):
        portfolio(1.0)
    with pytest.raises(UsageError, match="0 and 1"):
        portfolio(1e22, test_share=2.0)


def test_every_plotted_idea_has_its_source():
    for chart in portfolio_view(portfolio(1e23)).charts:
        assert chart.grid.headers[-1] == "source"
        assert all(row[-1] for row in chart.grid.rows)
