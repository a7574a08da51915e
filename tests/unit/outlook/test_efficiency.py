"""Efficiency across generations: golden ratios, decompositions, the test of flattening, mixed precisions refused."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest

from shapewright.architecture.catalog import resolve_model
from shapewright.errors import NotCoveredError, UnknownNameError, UsageError
from shapewright.outlook.efficiency import efficiency, measures
from shapewright.outlook.flattening import Point, bend_of
from shapewright.outlook.generations import step
from shapewright.outlook.lineages import choose
from shapewright.outlook.workload import at_work
from shapewright.report.efficiency_view import efficiency_view
from shapewright.report.view import html_view

PAIRS = [
    ("v100_sxm2", "a100_sxm", 1.87), ("a100_sxm", "h100_sxm", 1.81), ("h100_sxm", "b200_sxm", 1.59),
    ("h100_sxm", "gb200", 1.47), ("h100_sxm", "gb300", 1.26), ("rtx_4090", "rtx_5090", 0.99),
    ("mi300x", "mi355x", 1.03), ("tpu_v5p", "tpu_v7", 2.83), ("gb200", "rubin", 1.07),
]  # fmt: skip


@pytest.mark.parametrize(("first", "last", "gain"), PAIRS)
def test_gain_per_watt_at_equal_precision(first, last, gain):
    found = step(*choose([first, last])).per_watt
    assert found is not None
    assert found.value == pytest.approx(gain, abs=0.005)


def test_gain_per_watt_across_precisions():
    found = step(*choose(["h100_sxm:fp8", "b200_sxm:fp4"], mixed=True)).per_watt
    assert found is not None
    assert found.value == pytest.approx(3.18, abs=0.005)


@pytest.mark.parametrize(
    ("first", "last"),
    [*((a, b) for a, b, _ in PAIRS), ("h100_sxm:fp8", "b200_sxm:fp4"), ("a100_sxm:bf16", "gb300:fp4")],
)
def test_parts_multiply_and_shares_add_to_one(first, last):
    found = step(*choose([first, last], mixed=True))
    assert math.prod(part.ratio for part in found.parts) == pytest.approx(found.performance, rel=1e-12)
    assert sum(part.share for part in found.parts) == pytest.approx(1.0, abs=1e-9)


def test_shares_of_h100_to_b200_and_the_range_of_the_area():
    found = step(*choose(["h100_sxm", "b200_sxm"]))
    assert found.alone["power"] == pytest.approx(0.43, abs=0.005)
    assert found.alone["area"] == pytest.approx(0.82, abs=0.01)
    assert found.alone["transistors"] == pytest.approx(1.16, abs=0.005)
    assert found.per_area is not None
    assert found.per_area.kind == "assumed"
    assert (found.per_area.low or 9) < 1.16 < (found.per_area.high or 0)
    assert [part.assumed for part in found.parts if "area" in part.name] == [True, True]


def test_an_unknown_figure_merges_its_factors():
    a, b = choose(["gb200", "rubin"])
    names = [part.name for part in step(a, b).parts]
    assert "transistors per watt" in names
    bare = replace(b, accelerator=replace(b.accelerator, tdp=None, transistors=None))
    found = step(a, bare)
    assert found.per_watt is None
    assert [part.name for part in found.parts] == ["all together"]


def test_flattening_is_found_in_made_data_and_not_where_there_is_none():
    def made(bend):
        return [
            Point(lineage=maker, chips=(f"{maker}{t}",), year=2014.0 + 2 * t, assumed=False, source="made",
                  value=math.exp(level + 0.5 * 2 * t - bend * (2 * t) ** 2 + 0.02 * ((t * 7 + level) % 3 - 1)))
            for level, maker in enumerate(("x", "y"), 1) for t in range(6)
        ]  # fmt: skip

    assert bend_of("m", "all", made(0.03)).verdict == "flattening"
    assert bend_of("m", "all", made(-0.03)).verdict == "accelerating"
    straight = bend_of("m", "all", made(0.0))
    assert straight.verdict == "undecided"
    assert straight.bend is not None
    assert straight.bend[1] < 0 < straight.bend[2]
    assert bend_of("m", "all", made(0.0)[:3]).verdict.startswith("not tested")


def test_the_verdict_differs_by_precision():
    found = {(t.name, t.scope): t.verdict for t in efficiency().trends}
    assert found["16-bit peak per watt", "all makers"] == "flattening"
    assert found["best peak per watt", "all makers"] == "undecided"
    assert all(point.source for points in measures().values() for point in points)


def test_a_model_at_work_is_never_worse_re_designed():
    found = at_work(resolve_model("gpt-3-13b"), choose(["h100_sxm", "v100_sxm2"]), devices=8)
    assert found[0].worth is not None
    assert found[0].worth > 1.05, "gpt-3-13b falls badly on an H100"
    assert (found[0].loss_change or 0) <= 0
    assert found[1].as_it_is is None
    assert found[1].reason


def test_mixed_precisions_are_refused_with_the_rule():
    with pytest.raises(UsageError, match="width"):
        choose(["h100_sxm:fp8", "b200_sxm:fp4"])
    with pytest.raises(UsageError, match="either all or none"):
        choose(["h100_sxm:fp8", "b200_sxm"])
    with pytest.raises(UsageError, match="one lineage"):
        choose(["h100_sxm..mi300x"])
    with pytest.raises(UsageError, match="backwards"):
        choose(["b200_sxm..a100_sxm"])
    with pytest.raises(UsageError, match="two"):
        choose(["h100_sxm"])
    with pytest.raises(UnknownNameError, match="fp8"):
        choose(["h100_sxm:fp9", "b200_sxm:fp8"])
    with pytest.raises(NotCoveredError, match="8-bit"):
        efficiency(["v100_sxm2..h100_sxm"], precision="8bit")
    with pytest.raises(UnknownNameError, match="16bit"):
        efficiency(precision="16bits")


def test_the_page_marks_assumed_and_unknown_areas_and_every_point_has_a_source():
    view = efficiency_view(efficiency())
    for chart in view.charts:
        assert chart.grid.headers[-1] == "source", chart.name
        assert all(row[-1] for row in chart.grid.rows), chart.name
    areas = next(chart for chart in view.charts if chart.name == "per-area")
    assert ("rubin", "unknown", "unknown area", "nobody published it") in areas.grid.rows
    assert "assumed area, with its range" in html_view(view)
