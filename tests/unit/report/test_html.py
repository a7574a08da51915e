"""The report is one file that loads nothing, runs nothing but its own scripts, and says everything in tables too."""

from __future__ import annotations

import base64
import hashlib
import json
import re
from dataclasses import replace
from html.parser import HTMLParser
from importlib.resources import files

import pytest

from shapewright.designs.document import Design
from shapewright.designs.files import load_design
from shapewright.evidence import Figure
from shapewright.report.figures import CHARTS
from shapewright.report.html import SCRIPTS, html_report

HOSTILE = "</script><script>alert(1)</script>\"'><img src=x onerror=alert(2)><!--"
VOID = {"meta", "link", "img", "br", "input"}


class Page(HTMLParser):
    """Elements with their attributes, scripts by type, and visible text; raises where elements do not nest."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str]]] = []
        self.scripts: list[tuple[str, str]] = []
        self.words: list[str] = []
        self._open: list[str] = []
        self.feed(text)
        self.close()
        assert not self._open, f"left open: {self._open}"

    def handle_starttag(self, tag, attrs) -> None:
        self.elements.append((tag, {key: value or "" for key, value in attrs}))
        if tag not in VOID:
            self._open.append(tag)
        if tag == "script":
            self.scripts.append((self.elements[-1][1].get("type", ""), ""))

    def handle_endtag(self, tag) -> None:
        assert self._open.pop() == tag

    def handle_data(self, data) -> None:
        if self._open and self._open[-1] == "script":
            of, text = self.scripts[-1]
            self.scripts[-1] = (of, text + data)
        elif self._open and self._open[-1] != "style":
            self.words.append(data)

    def all(self, tag: str) -> list[dict[str, str]]:
        return [attributes for name, attributes in self.elements if name == tag]

    @property
    def text(self) -> str:
        return " ".join(self.words)


def test_nothing_is_loaded_from_anywhere(design: Design) -> None:
    page = Page(html_report(design))
    for name, attributes in page.elements:
        for key in ("src", "srcset", "data", "poster", "action", "formaction", "background"):
            assert key not in attributes, f"<{name} {key}>"
        if "href" in attributes:
            assert attributes["href"].startswith(("#", "data:")), attributes["href"]
    assert "sourceMappingURL" not in html_report(design)
    style = (files("shapewright.report") / "static" / "page.css").read_text()
    assert "url(" not in style
    assert "@import" not in style


def test_the_policy_allows_exactly_the_four_scripts(design: Design) -> None:
    page = Page(html_report(design))
    policy = next(
        meta["content"] for meta in page.all("meta") if meta.get("http-equiv") == "Content-Security-Policy"
    )
    assert policy.startswith("default-src 'none';")
    assert "unsafe-eval" not in policy
    assert not re.search(r"https?:|\*", policy)
    code = [text for of, text in page.scripts if of == ""]
    digests = [base64.b64encode(hashlib.sha256(text.encode()).digest()).decode() for text in code]
    assert re.findall(r"'sha256-([^']+)'", policy) == digests
    assert len(code) == len(SCRIPTS)


def test_hostile_text_stays_text(design: Design) -> None:
    hostile = replace(
        design,
        request=replace(design.request, hardware=HOSTILE, settings=(HOSTILE,)),
        shape=replace(design.shape, name=HOSTILE),
        assumptions=(
            replace(design.assumptions[0], name=HOSTILE, text=HOSTILE, kind=HOSTILE, source=HOSTILE),
        ),
        step_parts=tuple(replace(part, name=HOSTILE, cause=HOSTILE) for part in design.step_parts),
        candidates=tuple(replace(c, summary=HOSTILE, plan=HOSTILE) for c in design.candidates),
        reasons=(replace(design.reasons[0], text=HOSTILE),),
        warnings=(HOSTILE,),
    )
    clean, page = Page(html_report(design)), Page(html_report(hostile))
    assert not page.all("img")
    assert len(page.all("script")) == len(clean.all("script"))
    assert all(not any(key.startswith("on") for key in attributes) for _, attributes in page.elements)
    assert not any("<" in text for of, text in page.scripts if of == "application/json")
    assert page.text.count(HOSTILE) >= 10, "and it is shown as it is"
    assert json.loads(page.scripts[0][1])["pareto"]["layer"][1]["data"]["values"][0]["name"] == HOSTILE


def test_the_whole_document_can_be_taken_out(design: Design, tmp_path) -> None:
    link = next(a for a in Page(html_report(design)).all("a") if a.get("download") == "design.json")
    data = base64.b64decode(link["href"].removeprefix("data:application/json;base64,"))
    path = tmp_path / "design.json"
    path.write_bytes(data)
    assert load_design(path) == design


def test_sections_stand_in_the_fixed_order(design: Design) -> None:
    page = Page(html_report(design))
    wanted = ["request", "assumed", "design", "why", "trust", "runners-up", "next"]
    assert [section["id"] for section in page.all("section")] == wanted
    inside = [a["href"] for a in page.all("a") if a["href"].startswith("#") and a.get("class") != "skip"]
    assert inside == [f"#{name}" for name in wanted]
    ids = {attributes["id"] for _, attributes in page.elements if "id" in attributes}
    assert {a["href"][1:] for a in page.all("a") if a["href"].startswith("#")} <= ids
    assert all(section["aria-labelledby"] in ids for section in page.all("section"))


def test_every_figure_shows_interval_kind_and_source(design: Design) -> None:
    text = Page(html_report(design)).text
    for shown in (
        "2.091 nat/token (2.049 to 2.133)",
        "3.2 s (2.91 to 3.49)",
        "47 % (43 to 51)",
        "test fixture",
        "fitted",
    ):
        assert shown in text, shown
    assert "3 of the 6 runners-up tie" in text
    assert "1,280,400" in text
    assert design.warnings[0] in text


def test_charts_have_titles_numbers_and_words(design: Design) -> None:
    page = Page(html_report(design))
    specs = json.loads(next(text for of, text in page.scripts if of == "application/json"))
    assert set(specs) == set(CHARTS)
    assert {f"chart-{name}" for name in CHARTS} <= {div.get("id") for div in page.all("div")}
    assert len(page.all("figcaption")) == len(page.all("figure")) == len(CHARTS)
    for part in design.step_parts:
        assert part.name in page.text, "each part stands in a table, also those that the chart adds up"


def test_tables_have_captions_and_scoped_headers(design: Design) -> None:
    page = Page(html_report(design))
    assert len(page.all("table")) == len(page.all("caption")) > 8
    assert all(th.get("scope") in ("row", "col") for th in page.all("th"))
    assert all(
        div["tabindex"] == "0" and div["aria-label"] for div in page.all("div") if div.get("role") == "region"
    )
    assert page.all("html")[0]["lang"] == "en"


def test_both_themes_are_there(design: Design) -> None:
    page = Page(html_report(design))
    themes = json.loads([text for of, text in page.scripts if of == "application/json"][1])
    assert themes["light"]["axis"]["titleColor"] != themes["dark"]["axis"]["titleColor"]
    assert "prefers-color-scheme: dark" in (files("shapewright.report") / "static" / "page.css").read_text()


def test_an_estimate_has_no_empty_places(estimate: Design) -> None:
    page = Page(html_report(estimate))
    specs = json.loads(next(text for of, text in page.scripts if of == "application/json"))
    assert set(specs) == {"step-time", "timeline", "memory", "roofline"}
    assert {div["id"] for div in page.all("div") if div.get("class") == "chart"} == {
        f"chart-{name}" for name in specs
    }
    assert "llama-3-8b" in page.text
    assert "None" not in page.text


def test_a_figure_without_an_interval_shows_none(design: Design) -> None:
    bare = Figure(value=2.5, unit="nat/token", kind="assumed", source="a guess")
    page = Page(html_report(replace(design, predicted=replace(design.predicted, loss=bare))))
    assert "2.500 nat/token" in page.text
    assert "2.500 nat/token (" not in page.text


@pytest.mark.parametrize("name", [name for name in SCRIPTS if name != "page.js"])
def test_vendored_files_are_those_of_the_licence_file(name: str) -> None:
    folder = files("shapewright.report") / "static"
    digest = hashlib.sha256((folder / name).read_bytes()).hexdigest()
    row = next(line for line in (folder / "LICENSES.md").read_text().splitlines() if f"`{name}`" in line)
    assert digest in row
    version = row.split("|")[3].strip()
    assert f'"{version}"' in (folder / name).read_text()


def test_licences_travel_with_the_report(design: Design) -> None:
    text = Page(html_report(design)).text
    assert "University of Washington Interactive Data Lab" in text
    assert "Mike Bostock" in text
