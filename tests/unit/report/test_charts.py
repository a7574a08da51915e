"""The charts say what the Design says, and are specifications that Vega-Lite accepts."""

from __future__ import annotations

import copy
import json
from dataclasses import replace
from typing import Any

import pytest

from shapewright.designs.document import Design, Mover, RooflinePoint
from shapewright.errors import MissingPackageError
from shapewright.report import charts
from shapewright.report.charts import Spec
from shapewright.report.theme import PALETTE

ALL = (charts.roofline, charts.pareto, charts.step_time_stack, charts.memory_stack, charts.loss_curve)


def rows(spec: Spec, layer: int) -> list[dict[str, Any]]:
    return spec["layer"][layer]["data"]["values"]


def marks(spec: Spec) -> list[str]:
    return [layer["mark"]["type"] for layer in spec["layer"]]


@pytest.mark.parametrize("chart", ALL, ids=lambda chart: chart.__name__)
def test_charts_are_pure_and_plain(chart, design: Design) -> None:
    spec = chart(design)
    assert spec == chart(design)
    assert json.loads(json.dumps(spec, allow_nan=False)) == spec
    assert spec["width"] == "container"
    assert spec["description"].endswith(".")
    assert "url" not in json.dumps(spec["layer"]), "a chart must bring its data"


@pytest.mark.parametrize("chart", ALL, ids=lambda chart: chart.__name__)
def test_charts_compile_to_vega(chart, design: Design) -> None:
    converter = pytest.importorskip("vl_convert")
    spec = {**chart(design), "width": 600}
    assert converter.vegalite_to_vega(spec)["marks"]


@pytest.mark.parametrize("chart", ALL, ids=lambda chart: chart.__name__)
def test_every_axis_has_a_title_and_quantities_have_units(chart, design: Design) -> None:
    titles = {
        encoding[channel]["axis"]["title"]
        for layer in chart(design)["layer"]
        for encoding in [layer["encoding"]]
        for channel in ("x", "y")
        if channel in encoding and encoding[channel]["type"] == "quantitative"
    }
    assert titles
    assert all(title.endswith("]") and "[" in title for title in titles), titles


def test_roofline_holds_the_operators(design: Design) -> None:
    points = rows(charts.roofline(design), 2)
    given = {p.name: (p.intensity, p.achieved_flops, p.roof_flops, p.seconds) for p in design.roofline}
    assert {
        p["name"]: (p["intensity"], p["achieved_flops"], p["roof_flops"], p["seconds"]) for p in points
    } == given
    assert {p["name"] for p in points if p["bound"] == "memory roof"} == {"attention.norm", "ffn.activation"}
    assert marks(charts.roofline(design))[:3] == ["line", "rule", "point"]


def test_what_only_moves_bytes_hangs_under_the_memory_roof(design: Design) -> None:
    movers = (
        Mover(name="norm", bandwidth=2e12, seconds=3e-3),
        Mover(name="rotary", bandwidth=1e12, seconds=1e-3),
    )
    drawn = rows(charts.roofline(replace(design, movers=movers)), 2)
    assert len(drawn) == len(design.roofline) + 2
    for mover in movers:
        (row,) = (row for row in drawn if row["name"] == mover.name)
        assert row["bound"] == "moves bytes only"
        assert row["achieved_flops"] / row["roof_flops"] == pytest.approx(mover.bandwidth / 3.35e12)
        assert row["roof_flops"] / row["intensity"] == pytest.approx(3.35e12)
        assert row["intensity"] < 989e12 / 3.35e12


def test_roofline_draws_both_roofs_through_the_ridge(design: Design) -> None:
    lines = rows(charts.roofline(design), 0)
    slope = [line for line in lines if line["roof"] == "memory"]
    flat = [line for line in lines if line["roof"] != "memory"]
    assert all(line["roof_flops"] == pytest.approx(3.35e12 * line["intensity"]) for line in slope)
    assert slope[1]["intensity"] == pytest.approx(flat[0]["intensity"]) == pytest.approx(989e12 / 3.35e12)
    assert {line["roof_flops"] for line in flat} == {989e12}


def test_an_operator_below_the_ridge_lies_under_the_memory_roof(design: Design) -> None:
    alone = RooflinePoint(
        name="router",
        intensity=230.0,
        achieved_flops=5e14,
        peak_flops=989e12,
        roof_flops=230 * 3.35e12,
        seconds=1e-3,
    )
    points = rows(charts.roofline(replace(design, roofline=(*design.roofline, alone))), 2)
    assert {p["name"]: p["bound"] for p in points}["router"] == "memory roof"


def test_roofline_of_two_formats_has_two_roofs(design: Design) -> None:
    fp8 = RooflinePoint(
        name="fp8",
        intensity=3000.0,
        achieved_flops=1.5e15,
        peak_flops=1979e12,
        roof_flops=1979e12,
        seconds=1e-3,
    )
    spec = charts.roofline(replace(design, roofline=(*design.roofline, fp8)))
    assert {line["roof_flops"] for line in rows(spec, 0) if line["roof"] != "memory"} == {989e12, 1979e12}


def test_pareto_holds_the_candidates(design: Design) -> None:
    points = {row["name"]: row for row in rows(charts.pareto(design), 1)}
    batch = design.run.global_batch_sequences * design.run.sequence_length
    for candidate in design.candidates:
        row = points[candidate.summary]
        assert row["loss"] == candidate.loss
        assert row["time_per_token_s"] == candidate.step_time_s / batch
        assert row["params"] == candidate.params
    assert [row["standing"] for row in points.values()].count("choice") == 1
    assert points["4096x36"]["standing"] == "tie"
    assert points["3072x32"]["standing"] == "behind"


def test_pareto_joins_the_front_from_left_to_right(design: Design) -> None:
    front = rows(charts.pareto(design), 0)
    assert {row["name"] for row in front} == {c.summary for c in design.candidates if c.pareto}
    assert [row["time_per_token_s"] for row in front] == sorted(row["time_per_token_s"] for row in front)


def test_the_choice_lies_on_top(design: Design) -> None:
    assert rows(charts.pareto(design), 1)[-1]["standing"] == "choice"


@pytest.mark.parametrize(
    ("chart", "parts", "total"),
    [
        (charts.step_time_stack, "step_parts", "step_time_s"),
        (charts.memory_stack, "memory_parts", "memory_bytes"),
    ],
)
def test_stacks_add_up_to_the_whole(chart, parts: str, total: str, design: Design) -> None:
    bars = rows(chart(design), 0)
    whole = [bar for bar in bars if bar["row"] != bar["part"]]
    single = [bar for bar in bars if bar["row"] == bar["part"]]
    expected = getattr(design.predicted, total).value
    assert sum(bar["value"] for bar in whole) == pytest.approx(expected)
    assert sum(bar["value"] for bar in single) == pytest.approx(expected)
    ends = [0.0, *(bar["end"] for bar in single)]
    assert [bar["start"] for bar in single] == pytest.approx(ends[:-1])
    for cause in {part.cause for part in getattr(design, parts)}:
        given = sum(part.value for part in getattr(design, parts) if part.cause == cause)
        assert sum(bar["value"] for bar in single if bar["cause"] == cause) == pytest.approx(given)


def test_small_parts_are_added_up_and_named(design: Design) -> None:
    bars = {bar["row"]: bar for bar in rows(charts.step_time_stack(design), 0)}
    rest = bars["other memory (3)"]
    assert "attention.norm" in rest["detail"]
    assert "ffn.norm" in rest["detail"]
    assert "attention.norm" not in bars


def test_parts_of_one_name_keep_their_rows(design: Design) -> None:
    twins = tuple(replace(p, name="ffn.up") if p.name == "ffn.activation" else p for p in design.step_parts)
    bars = {bar["row"] for bar in rows(charts.step_time_stack(replace(design, step_parts=twins)), 0)}
    assert {"ffn.up (compute)", "ffn.up (memory)"} <= bars


def test_memory_stack_shows_the_limit(design: Design) -> None:
    spec = charts.memory_stack(design)
    limits = [row for layer in spec["layer"] for row in layer["data"]["values"] if "limit" in row]
    assert {row["limit"] for row in limits} == {design.predicted.memory_limit_bytes.value}
    assert "rule" in marks(spec)


def test_colours_of_causes_do_not_depend_on_which_occur(design: Design) -> None:
    def colours(spec: Spec) -> dict[str, str]:
        scale = spec["layer"][0]["encoding"]["color"]["scale"]
        return dict(zip(scale["domain"], scale["range"], strict=True))

    every = colours(charts.step_time_stack(design))
    fewer = replace(design, step_parts=tuple(p for p in design.step_parts if p.cause != "memory"))
    assert colours(charts.step_time_stack(fewer)).items() < every.items()
    assert set(every.values()) <= set(PALETTE)


def test_loss_curve_holds_the_points_and_the_choice(design: Design) -> None:
    spec = charts.loss_curve(design)
    line = next(layer for layer in spec["layer"] if layer["mark"].get("style") == "curve")
    drawn = {(row["flops"], row["loss"], row["low"], row["high"]) for row in line["data"]["values"]}
    assert drawn == {(p.flops, p.loss, p.low, p.high) for p in design.loss_curve}
    choice = next(layer for layer in spec["layer"] if layer["mark"].get("style") == "choice")
    assert choice["data"]["values"][0]["loss"] == design.predicted.loss.value
    assert choice["data"]["values"][0]["flops"] == design.predicted.train_flops.value


def test_the_extrapolated_part_of_the_curve_is_dashed_and_joined(design: Design) -> None:
    spec = charts.loss_curve(design)
    line = next(layer for layer in spec["layer"] if layer["mark"].get("style") == "curve")
    inside = [row["flops"] for row in line["data"]["values"] if row["range"] == "inside the law's data"]
    beyond = [row["flops"] for row in line["data"]["values"] if row["range"] == "extrapolated"]
    assert max(inside) == max(p.flops for p in design.loss_curve if not p.extrapolated)
    assert max(inside) == min(beyond), "the dashed part begins where the solid one ends"
    assert line["encoding"]["strokeDash"]["scale"]["range"][1] == [6, 4]
    assert "dashed" in spec["description"]


def test_an_estimate_has_only_the_charts_it_has_numbers_for(estimate: Design) -> None:
    assert charts.pareto(estimate) is None
    assert charts.loss_curve(estimate) is None
    assert charts.step_time_stack(estimate) is not None
    assert charts.roofline(replace(estimate, roofline=())) is None
    assert charts.memory_stack(replace(estimate, memory_parts=())) is None


def test_pictures_are_drawn_and_leave_the_specification_alone(design: Design) -> None:
    pytest.importorskip("vl_convert")
    spec = charts.memory_stack(design)
    before = copy.deepcopy(spec)
    svg = charts.chart_svg(spec, dark=True)
    assert svg.startswith("<svg")
    assert "limit 76 GB" in svg
    assert charts.chart_png(spec, width=200).startswith(b"\x89PNG")
    assert spec == before


def test_pictures_without_the_package_name_the_extra(design: Design, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "vl_convert", None)
    with pytest.raises(MissingPackageError, match=r"shapewright\[report\]"):
        charts.chart_svg(charts.memory_stack(design))
