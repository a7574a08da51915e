"""The shorter ways to show a Design: Markdown, a notebook's table, pictures."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import pytest
from typer.testing import CliRunner

from shapewright.cli.main import app
from shapewright.designs.document import Design
from shapewright.errors import NotCoveredError, UnknownNameError
from shapewright.report.figures import CHARTS
from shapewright.report.markdown import markdown_report
from shapewright.report.pictures import picture, pictures


def test_markdown_has_the_fixed_order_and_whole_tables(design: Design) -> None:
    text = markdown_report(design)
    titles = [
        "### ",
        "**Request**",
        "| predicted |",
        "**Plan**",
        "**Why**",
        "Assumed",
        "Trust",
        "Shapewright",
    ]
    places = [text.index(title) for title in titles]
    assert places == sorted(places)
    for block in re.findall(r"(?:^\|.*\n)+", text, re.M):
        widths = {len(re.findall(r"(?<!\\)\|", line)) for line in block.splitlines()}
        assert len(widths) == 1, block
    assert text.count("<details>") == text.count("</details>")
    assert "None" not in text


def test_markdown_of_an_estimate_has_no_empty_places(estimate: Design) -> None:
    text = markdown_report(estimate)
    assert "Runners-up" not in text
    assert "llama-3-8b" in text
    assert "None" not in text


def test_a_text_of_the_document_is_no_markup(design: Design) -> None:
    evil = "<img src=x onerror=alert(1)>|x"
    changed = replace(design, request=replace(design.request, hardware=evil), warnings=(evil,))
    text = markdown_report(changed)
    assert "<img" not in text
    assert "<img" not in changed._repr_html_()


class Balanced(HTMLParser):
    """Fails where an element ends that is not the last one opened."""

    def __init__(self) -> None:
        super().__init__()
        self.opened: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag != "br":
            self.opened.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.opened.pop() == tag


def test_a_notebook_shows_a_table(design: Design, estimate: Design) -> None:
    for each in (design, estimate):
        page = each._repr_html_()
        parser = Balanced()
        parser.feed(page)
        assert not parser.opened
        assert each.shape.name in page
        assert "None" not in page
    assert str(design.predicted.loss) in design._repr_html_()


def test_every_chart_is_a_picture(design: Design) -> None:
    found = pictures(design)
    assert set(found) == {f"{name}.{suffix}" for name in CHARTS for suffix in ("svg", "png")}
    for name, content in found.items():
        assert content.startswith(b"<svg" if name.endswith("svg") else b"\x89PNG"), name


def test_a_picture_that_cannot_be_is_refused(design: Design, estimate: Design) -> None:
    with pytest.raises(UnknownNameError, match="roofline"):
        picture(design, "rooflin", "svg")
    with pytest.raises(UnknownNameError, match="png"):
        picture(design, "roofline", "pnj")
    with pytest.raises(NotCoveredError, match="pareto"):
        picture(estimate, "pareto", "svg")


def test_explain_writes_them_and_overwrites_nothing(design: Design, tmp_path: Path) -> None:
    document, text, folder = tmp_path / "design.json", tmp_path / "d.md", tmp_path / "charts"
    design.save(document)
    words = ["explain", str(document), "--markdown", str(text), "--charts", str(folder), "--json"]
    done = CliRunner().invoke(app, words)
    assert done.exit_code == 0, done.output
    assert json.loads(done.stdout)["step_shares"]
    assert text.read_text() == markdown_report(design)
    assert len(list(folder.iterdir())) == 2 * len(CHARTS)
    text.unlink()
    again = CliRunner().invoke(app, words)
    assert "exists already" in str(again.exception)
    assert not text.exists(), "nothing is written where one file cannot be"
