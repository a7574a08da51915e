"""Hypothetical hardware: physics refused, designs searched anew, elasticities, wishes, scenarios, crossings."""

from __future__ import annotations

import math

import pytest

from shapewright.errors import UnknownNameError, UsageError
from shapewright.hardware.catalog import parse_cluster
from shapewright.outlook.costs import Shares, dollar_shares, power_shares
from shapewright.outlook.crossing import TIE, Entry, Place, contest, crossings_of
from shapewright.outlook.hypothetical import hypothetical
from shapewright.outlook.outcome import best_design, elasticities, search
from shapewright.outlook.scenarios import scenarios
from shapewright.outlook.wanted import wanted
from shapewright.outlook.whatif import whatif
from shapewright.report.view import html_view
from shapewright.report.whatif_view import contest_lines, whatif_view
from shapewright.scaling.law import Z90
from shapewright.scaling.mixers import PRIORS
from shapewright.search.budget import Budget
from shapewright.search.families import PATTERNS
from shapewright.search.joint import Options

MONTH = Budget(kind="time", value=30 * 86400.0)
FREE = Options()
HARDWARE = "2xh100_sxm"
CLUSTER = parse_cluster(HARDWARE)


def test_a_property_raises_what_it_carries():
    real = CLUSTER.accelerator
    unit = hypothetical(CLUSTER, ["matrix_unit=2x"]).cluster.accelerator
    assert unit.peak("bf16") == pytest.approx(2 * real.peak("bf16"))
    assert unit.peak_flops["bf16"].kind == "assumed"
    wide = hypothetical(CLUSTER, ["num_sms=1.5x", "clock=1.1x"]).cluster.accelerator
    assert wide.peak("fp8") == pytest.approx(1.65 * real.peak("fp8"))
    stacks = hypothetical(CLUSTER, ["memory=2x"]).cluster.accelerator
    assert stacks.memory_capacity is not None
    assert stacks.memory_capacity.value == pytest.approx(160e9)
    more = hypothetical(CLUSTER, ["num_devices=4x", "network_latency=0.5x"]).cluster
    assert more.num_devices == 8
    assert hypothetical(CLUSTER, ["power_cap=0.5x"]).cluster.accelerator.power_cap is not None


@pytest.mark.parametrize(
    ("hardware", "settings", "rule"),
    [
        ("8xh100_sxm", ["peak_flops.bf16=2x"], "1.83 GHz x 528 units"),
        ("8xb200_sxm", ["peak_flops.bf16=3000TFLOP/s"], "clock and units give 2,250"),
        ("8xa100_sxm", ["peak_flops.fp8=2PFLOP/s"], "clock and units give 624"),
        ("8xh100_sxm", ["matrix_unit=1.5x", "peak_flops.bf16=2x"], "clock and units give 1,484"),
        ("8xh100_sxm", ["memory_bandwidth=2x"], "fastest pins"),
        ("8xrtx_4090", ["memory_bandwidth=2x"], "bandwidth per byte"),
        ("8xh100_sxm", ["scale_up.bandwidth=10x"], "memory behind it"),
        ("8xh100_sxm", ["sram=60x"], "bare cells"),
        ("8xh100_sxm", ["power_cap=900W"], "cooled"),
        ("8xh100_sxm", ["matrix_unit=fast"], "is scaled"),
        ("8xh100_sxm", ["num_devices=0"], "whole number"),
        ("8xh100_sxm", ["sram"], "NAME=VALUE"),
    ],
)
def test_what_no_chip_can_be_is_refused_with_the_rule(hardware, settings, rule):
    with pytest.raises(UsageError, match=rule):
        hypothetical(parse_cluster(hardware), settings)


def test_an_unknown_property_gets_the_nearest_name():
    with pytest.raises(UnknownNameError, match=r"did you mean .*memory_bandwidth"):
        hypothetical(CLUSTER, ["memory_bandwith=2x"])
    with pytest.raises(UnknownNameError, match="HBM4"):
        hypothetical(CLUSTER, ["memory_type=HBM5"])
    with pytest.raises(UnknownNameError, match="trend-2028"):
        whatif(HARDWARE, MONTH, FREE, scenario=["trend-2029"])


def test_faster_kinds_of_memory_lift_the_interface():
    chip = hypothetical(CLUSTER, ["memory_type=HBM4", "memory_bandwidth=2x"])
    assert chip.cluster.accelerator.memory_bandwidth is not None


def test_better_hardware_never_gives_a_worse_best_design():
    real = best_design(hypothetical(CLUSTER, []), MONTH, FREE)
    assert real.loss is not None
    assert real.low is not None
    assert real.low < real.loss < (real.high or 0)
    for setting in ("matrix_unit=1.5x", "memory=1.4x", "network=2x"):
        better = best_design(hypothetical(CLUSTER, [setting]), MONTH, FREE)
        assert better.loss is not None
        assert better.loss <= real.loss + 1e-6, setting


@pytest.mark.parametrize("setting", ["matrix_unit=3x", "matrix_unit=0.5x", "memory=0.5x"])
def test_a_search_from_similar_hardware_finds_what_a_whole_one_finds(setting):
    chip = hypothetical(CLUSTER, [setting])
    near = search(hypothetical(CLUSTER, []), MONTH, FREE)
    whole, quick = (best_design(chip, MONTH, FREE, near=each).loss for each in (None, near))
    assert quick == pytest.approx(whole, rel=2e-4)


def test_an_elasticity_is_the_slope_between_two_searches():
    chip = hypothetical(CLUSTER, [])
    near = search(chip, MONTH, FREE)
    (found,) = elasticities(
        chip, MONTH, FREE, ["matrix_unit"], dollars=dollar_shares(CLUSTER), power=power_shares(CLUSTER)
    )
    chips = [hypothetical(CLUSTER, [f"matrix_unit={factor!r}x"]) for factor in (1.2, 1 / 1.2)]
    up, down = (best_design(each, MONTH, FREE, near=near).loss for each in chips)
    assert up is not None
    assert down is not None
    assert found.per_loss == pytest.approx(math.log(up / down) / (2 * math.log(1.2)), rel=1e-6)
    assert 0 < found.worth < 1
    assert found.at_fixed_dollars == pytest.approx(found.worth - (found.dollar_share or 0))
    assert found.low <= found.per_loss <= found.high


def test_shares_are_parts_of_one_cost_and_can_be_replaced():
    for shares in (dollar_shares(CLUSTER), power_shares(CLUSTER)):
        assert sum(f.value for f in shares.by_property.values()) < 1
        assert all(f.kind == "assumed" and f.source for f in shares.by_property.values())
        assert shares.factor(dict.fromkeys(shares.by_property, 1.0)) == pytest.approx(1.0)
    assert dollar_shares(CLUSTER, ["memory=0.5"]).of("memory") == 0.5
    with pytest.raises(UsageError, match="add up"):
        dollar_shares(CLUSTER, ["memory=0.9"])
    with pytest.raises(UnknownNameError, match="memory"):
        dollar_shares(CLUSTER, ["memry=0.2"])


def test_the_wanted_chip_costs_no_more_and_learns_no_less():
    chip = hypothetical(CLUSTER, [])
    whole = power_shares(CLUSTER).by_property
    two = Shares(kind="power", by_property={name: whole[name] for name in ("matrix_unit", "memory")})
    found = wanted(chip, Budget(kind="time", value=86400.0), FREE, two)
    assert found.outcome.loss is not None
    assert found.outcome.loss <= found.base_loss
    assert found.worth >= 1
    assert found.cost == pytest.approx(two.factor(found.factors))
    assert min(t.loss for t in found.tried) >= found.outcome.loss - 1e-4


def test_primitives_are_a_tie_inside_their_priors_though_long_contexts_favour_them():
    values = [(float(n), str(n)) for n in (2048, 32768)]
    found = contest("seq_len", values, lambda text: hypothetical(CLUSTER, [f"seq_len={text}"]), MONTH, FREE)
    short, long = (
        {e.primitive: e.loss for e in place.entries if e.loss is not None} for place in found.places
    )
    lead = {name: (short["dense"] - short[name], long["dense"] - long[name]) for name in short}
    assert all(before < after for name, (before, after) in lead.items() if name not in ("dense", "mla"))
    assert {e.primitive for e in found.places[0].entries} == set(PATTERNS)
    for place in found.places:
        entries = {e.primitive: e for e in place.entries}
        assert entries[place.first].loss == min(e.loss for e in place.entries if e.loss is not None)
        for name, entry in entries.items():
            assert entry.behind is not None
            assert entry.behind_sd is not None
            if name in PRIORS and name != "attention":
                # The difference is known no better than the prior of the mixer.
                half = (PRIORS[name].high - PRIORS[name].low) / 2
                assert name == place.first or entry.behind_sd > 0.5 * half / Z90
            assert (name in place.tied) == (name != place.first and entry.behind < Z90 * entry.behind_sd)
        # Two thousand tokens: differences of a thousandth, priors of hundredths.
        assert place.best == (TIE if place.tied else place.first)
    assert found.places[0].best == TIE
    assert any("a tie;" in str(line) for line in contest_lines(found))


def test_a_crossing_needs_two_certain_bests():
    def place(value, **behind):
        entries = tuple(
            Entry(primitive=name, loss=2.0 * math.exp(gap), low=1.9, high=2.2, shape="1x1", reason="", behind=gap,
                  behind_sd=0.01)
            for name, gap in behind.items()
        )  # fmt: skip
        first = min(behind, key=lambda name: behind[name])
        tied = tuple(name for name, gap in behind.items() if name != first and gap < 1.645 * 0.01)
        return Place(value=value, text=f"{value:g}", entries=entries, first=first, tied=tied, lead=0.0)

    certain = [
        place(1.0, dense=0.0, mamba2=0.05),
        place(2.0, dense=0.005, mamba2=0.0),
        place(4.0, dense=0.05, mamba2=0.0),
    ]
    assert [each.best for each in certain] == ["dense", TIE, "mamba2"]
    (crossing,) = crossings_of(certain)
    assert (crossing.before, crossing.after) == ("dense", "mamba2")
    assert crossing.value == pytest.approx(2.0, rel=1e-3)
    assert crossings_of([place(1.0, dense=0.0, mamba2=0.004), place(4.0, dense=0.004, mamba2=0.0)]) == []


def test_a_sweep_keeps_impossible_chips_with_their_reason_and_scenarios_their_assumptions():
    found = whatif(HARDWARE, MONTH, FREE, sweeps=["memory_bandwidth=0.8x,1x,3x"], scenario=["hbm4"])
    assert [each.outcome.loss is None for each in found.swept] == [False, False, True]
    assert "above 52" in found.swept[2].outcome.reason
    assert found.swept[1].worth == pytest.approx(1.0)
    assert found.scenarios[0].assumptions
    view = whatif_view(found)
    assert {chart.name for chart in view.charts} == {"sweep", "scenarios"}
    assert "above 52" in html_view(view)
    for chart in view.charts:
        assert all(row[-1] for row in chart.grid.rows)


def test_every_scenario_is_possible_and_says_what_it_assumes():
    base = parse_cluster("8xb200_sxm")
    for scenario in scenarios().values():
        hypothetical(base, scenario.settings)
        assert scenario.assumptions


def test_wrong_requests_say_the_rule():
    with pytest.raises(UsageError, match="same on every chip"):
        whatif(HARDWARE, Budget(kind="flops", value=1e21), FREE)
    with pytest.raises(UsageError, match=r"LOW\.\.HIGH"):
        whatif(HARDWARE, MONTH, FREE, sweeps=["memory=2x..1x:3"])
    with pytest.raises(UsageError, match="the most is"):
        whatif(HARDWARE, MONTH, FREE, sweeps=["memory=0.5x..2x:30", "sram=0.5x..2x:30"])
    with pytest.raises(UsageError, match="KIND"):
        whatif(HARDWARE, MONTH, FREE, shares=["memory=0.3"])
    with pytest.raises(UsageError, match="dollars, power"):
        whatif(HARDWARE, MONTH, FREE, wish=["watts"])
