"""The design document: lossless, strict, and every figure with a source."""

from __future__ import annotations

import json
from dataclasses import fields, is_dataclass, replace
from pathlib import Path
from typing import Any

import jsonschema
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import shapewright as sw
from shapewright.designs.document import Design, json_schema
from shapewright.designs.figures import not_below
from shapewright.designs.files import load_design
from shapewright.errors import DocumentError, InfeasibleError, UsageError
from shapewright.evidence import KINDS, Figure
from shapewright.search.joint import Options


@pytest.fixture(scope="module")
def design() -> Design:
    return sw.design("8xh100_sxm", days=2)


@pytest.fixture(scope="module")
def estimate() -> Design:
    return sw.estimate("llama-3-8b", "64xh100_sxm", options=Options(plan={"tp": 4, "pp": 2, "dp_shard": 8}))


def test_saving_and_loading_loses_nothing(design: Design, estimate: Design, tmp_path: Path) -> None:
    for number, document in enumerate((design, estimate)):
        path = tmp_path / f"{number}.json"
        document.save(path)
        assert load_design(path) == document
        jsonschema.validate(json.loads(path.read_text()), json_schema())


@settings(max_examples=30, deadline=None)
@given(value=st.floats(1e-90, 1e90), low=st.none() | st.floats(1e-9, 1.0), source=st.text(max_size=30))
def test_any_figure_survives(
    tmp_path_factory, design: Design, value: float, low: float | None, source: str
) -> None:
    figure = Figure(value=value, unit="s", kind="measured", source=source, low=low)
    changed = replace(design, predicted=replace(design.predicted, step_time_s=figure), warnings=(source,))
    path = tmp_path_factory.mktemp("figures") / "d.json"
    changed.save(path)
    assert load_design(path) == changed


def test_nothing_is_overwritten_unasked(design: Design, tmp_path: Path) -> None:
    path = tmp_path / "design.json"
    path.write_text("mine")
    with pytest.raises(DocumentError, match="exists already"):
        design.save(path)
    assert path.read_text() == "mine"


def test_what_is_uncertain_of_the_step_is_uncertain_of_its_flop(design: Design, estimate: Design) -> None:
    p = design.predicted
    assert p.train_flops is not None
    assert design.run.tokens is not None
    assert p.train_flops.high is not None
    assert design.run.tokens.high is not None
    spread = design.run.tokens.high / design.run.tokens.value
    assert p.train_flops.high / p.train_flops.value == pytest.approx(spread)


def test_no_step_is_shorter_than_its_flop_at_the_peak() -> None:
    figure = Figure(value=1.0, unit="s", kind="fitted", source="a fit", low=0.4, high=2.0)
    assert not_below(figure, 0.5) == replace(figure, low=0.5)
    assert not_below(figure, 0.1) == figure
    assert not_below(figure, 1.5).low == 1.0


def _figures(noun: Any) -> list[Figure]:
    if isinstance(noun, Figure):
        return [noun]
    if is_dataclass(noun):
        return [figure for f in fields(noun) for figure in _figures(getattr(noun, f.name))]
    if isinstance(noun, tuple):
        return [figure for item in noun for figure in _figures(item)]
    return []


def test_every_figure_has_kind_and_source(design: Design) -> None:
    found = _figures(design)
    assert len(found) > 20
    for figure in found:
        assert figure.kind in KINDS
        assert figure.source, figure
        if figure.low is not None and figure.high is not None:
            assert figure.low <= figure.value <= figure.high


def test_the_parts_add_up(design: Design, estimate: Design) -> None:
    for document in (design, estimate):
        assert sum(p.value for p in document.step_parts) == pytest.approx(
            document.predicted.step_time_s.value
        )
        assert sum(p.share for p in document.step_parts) == pytest.approx(1.0)
        assert sum(p.value for p in document.memory_parts) == pytest.approx(
            document.predicted.memory_bytes.value
        )


def test_the_choice_leads_its_runners_up(design: Design) -> None:
    losses = [candidate.loss for candidate in design.candidates]
    assert losses == sorted(losses)
    assert design.candidates[0].width == design.shape.hidden_size
    assert design.candidates[0].tie
    assert any(not candidate.tie for candidate in design.candidates) or len(design.candidates) < 12


def test_time_money_and_tokens_agree(design: Design) -> None:
    p, run = design.predicted, design.run
    assert p.train_time_s is not None
    assert run.tokens is not None
    assert p.train_time_s.value == pytest.approx(2 * 86400.0)
    assert run.tokens.value == pytest.approx(p.tokens_per_s.value * p.train_time_s.value)
    assert p.memory_bytes.value <= p.memory_limit_bytes.value
    assert 0 < p.mfu.value < 1


@pytest.mark.parametrize(
    ("change", "named"),
    [
        (lambda d: d.update(extra=1), "extra"),
        (lambda d: d["plan"].update(tpp=2), "plan.tpp"),
        (lambda d: d.update(schema_version=99), "schema_version"),
        (lambda d: d["predicted"]["step_time_s"].update(value="fast"), "predicted.step_time_s.value"),
    ],
)
def test_a_changed_document_is_refused_by_path(
    design: Design, tmp_path: Path, change: Any, named: str
) -> None:
    document = json.loads(design.to_json())
    change(document)
    path = tmp_path / "d.json"
    path.write_text(json.dumps(document))
    with pytest.raises(DocumentError) as caught:
        load_design(path)
    assert named in str(caught.value)


@pytest.mark.parametrize("content", [b"", b"[1]", b"{", b"\x00\xff\xfe binary", b'"text"', b" " * 5_000_000])
def test_what_is_no_design_is_refused(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "d.json"
    path.write_bytes(content)
    with pytest.raises(DocumentError):
        load_design(path)


def test_an_overfull_plan_says_by_how_much() -> None:
    with pytest.raises(InfeasibleError) as caught:
        sw.estimate("llama-3.1-405b", "8xh100_sxm", options=Options(plan={"tp": 8}))
    assert "more than" in caught.value.what
    assert caught.value.exit_code == 3


def test_one_budget_and_only_one() -> None:
    with pytest.raises(UsageError, match="exactly one"):
        sw.design("8xh100_sxm")
    with pytest.raises(UsageError, match="exactly one"):
        sw.design("8xh100_sxm", days=1, flops=1e22)


def test_a_far_extrapolation_is_marked() -> None:
    found = sw.design("1024xh100_sxm", flops=1e26)
    assert any("EXTRAPOLATION" in warning for warning in found.warnings)


def test_settings_move_the_answer() -> None:
    base = sw.estimate("llama-3-8b", "8xh100_sxm", options=Options(plan={"dp_shard": 8, "sharding": 3}))
    slow = sw.estimate(
        "llama-3-8b",
        "8xh100_sxm",
        options=Options(plan={"dp_shard": 8, "sharding": 3}),
        settings=("memory_bandwidth=0.5x",),
    )
    assert slow.predicted.step_time_s.value > base.predicted.step_time_s.value


def test_the_public_interface_is_small() -> None:
    assert sorted(sw.__all__) == [
        "design",
        "estimate",
        "lint",
        "load_accelerator",
        "load_design",
        "parse_cluster",
        "resolve_model",
    ]
    for name in sw.__all__:
        assert callable(getattr(sw, name))
