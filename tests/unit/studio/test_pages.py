"""The pages without a browser: states, sliders, fragments and files."""

from __future__ import annotations

import json
from dataclasses import replace
from urllib.parse import parse_qsl

import pytest
from hypothesis import given
from hypothesis import strategies as st
from starlette.testclient import TestClient

import shapewright as sw
from shapewright.designs.document import Design
from shapewright.errors import UsageError
from shapewright.report.figures import CHARTS
from shapewright.studio.sliders import sliders, tried
from shapewright.studio.state import UNITS, State, read_state

STATE = State(accelerator="h100_sxm", devices=8, budget=2.0, unit="hours")
"""What the fixture ``design`` answers."""


@given(
    state=st.builds(
        State,
        accelerator=st.sampled_from(["h100_sxm", "dgx_b200"]),
        devices=st.integers(1, 10_000_000),
        budget=st.floats(1e-3, 1e29).map(lambda x: float(f"{x:g}")),
        unit=st.sampled_from(UNITS),
        precision=st.none() | st.sampled_from(["bf16", "fp8"]),
        setting=st.lists(st.sampled_from(["power_cap=500W", "memory_bandwidth=2x"]), max_size=3).map(tuple),
        width=st.none() | st.integers(1, 9999),
        try_devices=st.none() | st.integers(-16, 16),
        keep=st.lists(st.just("accelerator=h100_sxm&devices=2"), max_size=2).map(tuple),
    )
)
def test_an_address_keeps_the_whole_state(state: State) -> None:
    assert read_state(parse_qsl(state.query())) == state


@pytest.mark.parametrize(
    ("query", "named"),
    [
        ("devices=0", "devices"),
        ("devices=many", "devices"),
        ("colour=red", "colour"),
        ("unit=parsecs", "unit"),
        ("opened=../../etc/passwd", "opened"),
        ("try_devices=99", "try_devices"),
        ("&".join(["keep=a"] * 9), "keep"),
    ],
)
def test_a_wrong_address_is_refused_by_its_parameter(client: TestClient, query: str, named: str) -> None:
    with pytest.raises(UsageError, match=named):
        read_state(parse_qsl(query))
    page = client.get(f"/?{query}")
    assert page.status_code == 422
    assert named in page.text


def test_sliders_at_rest_are_the_design(design: Design) -> None:
    found = sliders(STATE, design)
    names = {s.name for s in found}
    assert names == {"try_width", "try_heads", "try_devices", "try_memory", "try_budget"}
    for slider in found:
        assert slider.low <= slider.rest <= slider.high
        assert slider.value == slider.rest
        assert len(slider.texts) == (slider.high - slider.low) // slider.step + 1
    still = tried(STATE, design)
    assert (still.devices, still.budget, still.setting) == (8, 2.0, ())
    again = sw.design("8xh100_sxm", hours=2, options=_options(still))
    assert again.predicted == design.predicted
    assert again.plan == design.plan


def _options(state: State):
    from shapewright.studio.questions import options_of

    return options_of(state.question())  # type: ignore[arg-type]


@given(width=st.integers(64, 8192), heads=st.integers(1, 64))
def test_every_position_is_a_shape(design: Design, width: int, heads: int) -> None:
    pins = tried(replace(STATE, try_width=width, try_heads=heads), design)
    assert pins.heads == heads
    assert heads % (pins.kv_heads or 1) == 0
    assert (pins.head_dim or 0) % 8 == 0
    assert (pins.head_dim or 0) >= 8


def test_sliders_move_what_they_say(design: Design) -> None:
    moved = tried(replace(STATE, try_devices=1, try_memory=-4, try_budget=2), design)
    assert moved.devices == 16
    assert moved.budget == 4.0
    assert moved.setting == ("memory_bandwidth=0.5x",)


def test_the_fragments_answer(client: TestClient) -> None:
    query = STATE.query()
    answer = client.get(f"/answer?{query}").text
    assert 'id="hero-title"' in answer
    assert answer.count("data-spec=") == len(CHARTS)
    assert client.get(f"/?{query}").text.count('id="hero-title"') == 1, (
        "a known answer is in the page at once"
    )
    assert "nothing lost" in client.get(f"/lint?{query}").text
    assert "ten per cent more" in client.get(f"/beside?{query}").text
    trial = client.get(f"/try?{query}&try_devices=1")
    assert "Open this as a design" in trial.text
    assert trial.headers["hx-replace-url"].endswith("try_devices=1")
    kept = replace(STATE, keep=(replace(STATE, budget=1.0).query(),)).query()
    assert client.get(f"/compare?{kept}").text.count('<th scope="col">') == 2
    assert "Start a ladder" in client.get("/ladders").text


def test_the_shape_is_judged_under_the_step_that_is_shown(
    design: Design, monkeypatch: pytest.MonkeyPatch
) -> None:
    from shapewright.designs import lint

    steps, price = [], lint.price_plan

    def priced(*arguments, **options):
        steps.append(price(*arguments, **options))
        return steps[-1]

    monkeypatch.setattr(lint, "price_plan", priced)
    odd = replace(design, shape=replace(design.shape, vocab_size=50_257))
    findings = {finding.parameter: finding.better for finding in lint.lint_design(odd)}
    assert findings["vocab_size"] % 64 == 0
    steps.clear()
    lint.lint_design(design)
    assert steps[0].step_time == pytest.approx(design.predicted.step_time_s.value)


def test_a_text_of_the_visitor_is_never_markup(client: TestClient) -> None:
    for path in ("/", "/answer", "/lint", "/try", "/compare"):
        page = client.get(path, params={"accelerator": "<script>alert(1)</script>", "mode": "design"}).text
        assert "<script>alert" not in page, path


def test_files_are_saved_from_the_state(client: TestClient) -> None:
    query = STATE.query()
    saved = client.get(f"/save/design.json?{query}")
    assert saved.headers["content-disposition"] == 'attachment; filename="design.json"'
    assert json.loads(saved.text)["schema_version"] == 1
    assert client.get(f"/save/report.html?{query}").text.startswith("<!doctype html>")
    assert client.get(f"/save/design.md?{query}").text.startswith("### ")
    assert client.get(f"/save/huggingface?{query}").status_code == 200
    assert client.get(f"/save/pareto.svg?{query}").text.startswith("<svg")
    assert client.get(f"/save/roofline.png?{query}").content.startswith(b"\x89PNG")
    assert client.get(f"/save/nothing?{query}").status_code == 404


def test_an_uploaded_design_is_shown_by_its_digest(client: TestClient, design: Design) -> None:
    sent = client.post(
        "/api/documents/design", content=design.to_json(), headers={"content-type": "application/json"}
    )
    digest = sent.json()["digest"]
    assert design.shape.name in client.get(f"/answer?opened={digest}").text
    assert "not open any more" in client.get("/answer?opened=0123456789abcdef").text


def test_a_runner_up_of_experts_opens_as_itself(client: TestClient) -> None:
    from shapewright.search.joint import Options
    from shapewright.studio.sliders import candidate_pins

    found = sw.design("8xh100_sxm", hours=2, options=Options(family="32 experts"))
    state = replace(STATE, **candidate_pins(found.candidates[0]))
    page = client.get(f"/answer?{state.query()}").text
    assert f'<span class="shape-name">{found.shape.name}</span>' in page
    assert {s.name for s in sliders(state, found)} >= {"try_width", "try_heads"}
    moved = tried(replace(state, try_width=found.candidates[0].width * 2), found)
    assert moved.family == "32 experts"
    assert moved.ffn_size == 2 * (state.ffn_size or 0)
    assert replace(tried(state, found), head_dim=None) == state
    experts = found.shape.blocks[0].channel
    again = sw.design("8xh100_sxm", hours=2, options=_options(state))
    assert again.shape.blocks[0].channel == experts
