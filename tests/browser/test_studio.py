"""The studio as a person meets it, in a real Chromium."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

pytestmark = pytest.mark.browser
SMALL = "/?accelerator=h100_sxm&devices=8&budget=2&unit=hours"


def settled(page: Any, url: str) -> Any:
    """Open a page and wait for its answer and its lint."""
    page.goto(url)
    page.wait_for_selector(".hero")
    page.wait_for_selector(".tile:not(.waiting)")
    return page


def test_the_main_path(open_tab: Callable[..., Any], address: str, tmp_path: Path) -> None:
    page = settled(open_tab(), address + SMALL)
    title = page.inner_text("#hero-title")
    assert page.locator(".card").count() == 8
    assert page.locator(".tile").count() >= 9

    page.focus("#try_width")
    page.keyboard.press("ArrowRight")
    page.wait_for_selector("#tried .bad, #tried .good")
    page.wait_for_url(re.compile("try_width="))
    moved = page.input_value("#try_width")
    assert page.get_attribute("#try_width", "aria-valuetext") == moved
    page.reload()
    page.wait_for_selector("#tried .bad, #tried .good")
    assert page.input_value("#try_width") == moved, "a reload comes back to where the slider stood"

    with page.expect_download() as download:
        page.click(".menu summary")
        page.click("text=design.json >> nth=-1")
    saved = tmp_path / "design.json"
    download.value.save_as(saved)
    document = json.loads(saved.read_text())
    assert document["shape"]["name"] in title
    page.set_input_files("#open-design", saved)
    page.wait_for_url(re.compile("opened="))
    assert page.inner_text("#hero-title") == title


def test_the_front_opens_designs_and_they_compare(open_tab: Callable[..., Any], address: str) -> None:
    page = settled(open_tab(), address + SMALL)
    page.locator("#chart-pareto").scroll_into_view_if_needed()
    page.wait_for_selector("#chart-pareto[data-state=drawn]")
    title = page.inner_text(".shape-name")
    points = page.locator("#chart-pareto .mark-symbol.role-mark path[aria-label]")
    points.first.hover(force=True)
    page.wait_for_selector("#vg-tooltip-element.visible")
    assert "predicted loss" in page.inner_text("#vg-tooltip-element")
    points.first.click(force=True)
    page.wait_for_url(re.compile("width="))
    page.wait_for_selector(".hero")
    other = page.inner_text(".shape-name")
    assert other != title
    page.click("text=Keep to compare")
    page.wait_for_selector("#compare")
    page.click("text=Search again")
    page.wait_for_selector(".compare .best")
    assert page.locator(".compare thead th").all_inner_texts()[0].startswith(other)
    assert page.locator(".compare thead th").count() == 2


def test_an_infeasible_request_says_what_would_fit(open_tab: Callable[..., Any], address: str) -> None:
    page = open_tab()
    page.goto(address + "/?accelerator=h100_sxm&devices=1&budget=1e27&unit=flops")
    page.wait_for_selector(".problem")
    text = page.inner_text(".problem")
    for word in ("Infeasible", "memory", "nearest"):
        assert word in text
    page.fill("#budget", "1e19")
    page.click("text=Design it")
    page.wait_for_selector(".hero")


@pytest.mark.parametrize(
    ("field", "content", "said"),
    [
        ("#open-design", "{broken", "is not JSON"),
        ("#open-design", '{"schema_version": 1, "shape": 7}', "schema"),
        ("#open-design", "[" * 1000, "deeper"),
        ("#open-config", '{"model_type": "mystery"}', "mystery"),
    ],
)
def test_a_broken_upload_is_refused_and_the_page_stays(
    open_tab: Callable[..., Any], address: str, tmp_path: Path, field: str, content: str, said: str
) -> None:
    page = open_tab(allowed=["422"])
    page.goto(address + "/?mode=estimate&accelerator=h100_sxm&devices=8&model=llama-3-8b")
    page.wait_for_selector(".hero")
    (tmp_path / "upload.json").write_text(content)
    page.set_input_files(field, tmp_path / "upload.json")
    page.wait_for_selector("#notice.shown")
    assert said in page.inner_text("#notice")
    assert page.locator(".hero").count() == 1


def test_a_configuration_is_priced(open_tab: Callable[..., Any], address: str, tmp_path: Path) -> None:
    config = {
        "model_type": "llama", "hidden_size": 2000, "intermediate_size": 5461, "num_hidden_layers": 22,
        "num_attention_heads": 25, "num_key_value_heads": 5, "vocab_size": 50257, "tie_word_embeddings": False,
    }  # fmt: skip
    (tmp_path / "config.json").write_text(json.dumps(config))
    page = open_tab()
    page.goto(address + "/?mode=estimate&accelerator=h100_sxm&devices=8&model=llama-3-8b")
    page.wait_for_selector(".hero")
    page.set_input_files("#open-config", tmp_path / "config.json")
    page.wait_for_url(re.compile("config="))
    page.wait_for_selector(".tile.serious, .tile.warning")
    assert "costs" in page.inner_text(".findings")


def test_two_tabs_do_not_disturb_each_other(open_tab: Callable[..., Any], address: str) -> None:
    first, second = open_tab(), open_tab()
    settled(first, address + SMALL)
    settled(second, address + SMALL.replace("h100_sxm", "a100_sxm"))
    titles = [tab.inner_text(".eyebrow") for tab in (first, second)]
    assert "h100_sxm" in titles[0]
    assert "a100_sxm" in titles[1]
    for tab in (first, second):
        tab.focus("#try_devices")
        tab.keyboard.press("ArrowRight")
    for tab in (first, second):
        tab.wait_for_selector("#tried .good, #tried .bad")
        tab.reload()
        tab.wait_for_selector(".hero")
    assert [tab.inner_text(".eyebrow") for tab in (first, second)] == titles


def test_a_ladder_is_live_and_survives_a_reload(open_tab: Callable[..., Any], address: str) -> None:
    page = settled(open_tab(), address + SMALL)
    page.click("text=Start a ladder")
    page.wait_for_selector(".ladder .state.live")
    page.wait_for_selector("#ladders svg.marks")
    page.reload()
    page.wait_for_selector(".ladder .state.live")
    before = page.get_attribute(".ladder progress", "value")
    page.wait_for_selector(f".ladder progress:not([value='{before}'])")
    page.click(".ladder >> text=Stop")
    page.wait_for_selector("text=Start a ladder")
    page.wait_for_selector("#ladders .chart.has-actions")


def test_a_slow_worker_does_not_stop_the_page(
    open_tab: Callable[..., Any], tmp_path: Path, listening: Any
) -> None:
    with listening(tmp_path, search_timeout_s=0.05) as slow:
        page = open_tab()
        page.goto(slow + "/?accelerator=mi300x&devices=1024&budget=2e6&unit=dollars")
        page.wait_for_selector(".problem")
        assert "answer within 0.05 s" in page.inner_text(".problem")
        assert page.locator("a:text('Ask again')").count() == 1
        assert page.request.get(slow + "/api/models").ok


def test_a_long_search_shows_that_it_is_at_work_and_survives_a_reload(
    open_tab: Callable[..., Any], tmp_path: Path, listening: Any
) -> None:
    with listening(tmp_path, patience_s=0.1) as hasty:
        page = open_tab()
        page.goto(hasty + "/?accelerator=h100_sxm&devices=64&budget=30&unit=days")
        page.wait_for_selector("text=At work for")
        page.reload()
        page.wait_for_selector(".hero")
        page.locator("#beside").scroll_into_view_if_needed()
        page.wait_for_selector("#beside >> text=At work for")
        page.wait_for_selector("#beside table >> nth=1")


@pytest.mark.parametrize(("width", "colours"), [(1280, "light"), (390, "dark")])
def test_axe_finds_no_serious_fault(
    open_tab: Callable[..., Any], address: str, axe: str, width: int, colours: str
) -> None:
    page = settled(open_tab(width=width, colours=colours), address + SMALL + "&try_devices=1")
    page.wait_for_selector("#tried .good, #tried .bad")
    for chart in page.locator(".answer .chart").all():
        chart.scroll_into_view_if_needed()
        page.wait_for_selector(f"#{chart.get_attribute('id')}[data-state=drawn]")
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth"), "nothing sticks out"
    page.evaluate(axe)
    found = page.evaluate("axe.run(document, {resultTypes: ['violations']})")
    serious = [
        (v["id"], v["help"], [node["target"] for node in v["nodes"]][:4])
        for v in found["violations"]
        if v["impact"] in {"serious", "critical"}
    ]
    assert not serious, serious


def test_what_takes_longer_than_the_answer_follows_it(open_tab: Callable[..., Any], address: str) -> None:
    page = settled(open_tab(), address + SMALL)
    page.locator("#beside").scroll_into_view_if_needed()
    page.wait_for_selector("#beside table >> nth=1")
    assert "ten per cent more" in page.inner_text("#beside")


def test_every_operator_and_every_pass_is_drawn(open_tab: Callable[..., Any], address: str) -> None:
    page = settled(open_tab(), address + SMALL)
    for name in ("roofline", "timeline"):
        page.locator(f"#chart-{name}").scroll_into_view_if_needed()
        page.wait_for_selector(f"#chart-{name}[data-state=drawn]")
    points = page.locator("#chart-roofline .mark-symbol.role-mark path[aria-label]")
    page.click("#card-roofline summary >> text=The numbers")
    names = page.locator("#card-roofline tbody th, #card-roofline tbody tr td:first-child").all_inner_texts()
    assert points.count() == len(names) > 5
    points.nth(1).hover(force=True)
    page.wait_for_selector("#vg-tooltip-element.visible")
    assert any(name in page.inner_text("#vg-tooltip-element") for name in names)
    passes = page.locator("#chart-timeline .mark-rect path[aria-label]")
    assert passes.count() > 8


def test_limits_of_serving_are_part_of_the_request(open_tab: Callable[..., Any], address: str) -> None:
    page = open_tab()
    page.goto(address + SMALL + "&width=1024&depth=8&max_tpot=1us")
    page.wait_for_selector(".problem")
    assert "Infeasible" in page.inner_text(".problem")
    assert page.input_value("#max_tpot") == "1us", "the request stays as it was asked"
    page.fill("#max_tpot", "20ms")
    page.click("text=Design it")
    page.wait_for_selector(".hero")
    assert "20 ms per token when served" in page.content()


def test_sliders_end_where_the_hand_leaves_them(open_tab: Callable[..., Any], address: str) -> None:
    page = settled(open_tab(), address + SMALL)
    page.focus("#try_memory")
    for _ in range(8):
        page.keyboard.press("ArrowRight")
    page.wait_for_url(re.compile("try_memory=8"))
    page.wait_for_selector("#tried .good")
    left = page.inner_text("#tried table")
    page.reload()
    page.wait_for_selector("#tried .good")
    assert page.inner_text("#tried table") == left, "the answers of positions on the way are not shown last"
    page.click("text=Back to the design")
    page.wait_for_selector("#tried >> text=The sliders stand where the design stands")


def test_the_tab_key_walks_in_the_order_of_the_page(open_tab: Callable[..., Any], address: str) -> None:
    page = settled(open_tab(), address + SMALL)
    walked: list[str] = []
    for _ in range(60):
        page.keyboard.press("Tab")
        walked.append(
            page.evaluate(
                "(e => e.id || e.name || e.getAttribute('aria-label') || e.textContent.trim())(document.activeElement)"
            )
        )
        if walked[-1] == "try_budget":
            break
    order = ["open-design", "Copy link", "mode", "devices", "accelerator", "budget", "unit", "Keep to compare", "try_width",
             "try_budget"]  # fmt: skip
    assert [name for name in walked if name in order] == order, walked


def test_the_keyboard_reaches_everything(open_tab: Callable[..., Any], address: str) -> None:
    page = settled(open_tab(), address + SMALL)
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.textContent") == "Skip to the answer"
    page.keyboard.press("Enter")
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.closest('#answer') !== null")
    page.focus("[data-theme-toggle]")
    page.keyboard.press("Enter")
    page.keyboard.press("Enter")
    assert page.get_attribute("html", "data-theme") == "dark"


def test_another_origin_cannot_drive_the_interface(open_tab: Callable[..., Any], address: str) -> None:
    page = open_tab(allowed=["CORS", "403", "ERR_FAILED", "NotSameOrigin"])
    page.goto("about:blank")
    attempts = """async (address) => {
        const tries = [
            [address + "/api/models", {}],
            [address + "/api/ladders", {method: "POST", mode: "no-cors", body: '{"minutes": 30}'}],
            [address + "/api/design", {method: "POST", headers: {"content-type": "application/json"}, body: "{}"}],
        ];
        const seen = [];
        for (const [url, options] of tries) {
            try { const answer = await fetch(url, options); seen.push(answer.type + answer.status); }
            catch (error) { seen.push("blocked"); }
        }
        return seen;
    }"""
    assert set(page.evaluate(attempts, address)) <= {"blocked", "opaque0"}
    ladders = page.request.get(address + "/api/ladders").json()["ladders"]
    assert not any(ladder["running"] for ladder in ladders)
