"""The HTML report: one file that needs no network, for the eyes and for the archive.

Decisions: everything is inside the file: style, charts, the code that draws them, its licences, and the whole
document for download. A content security policy says so to the browser: nothing may be loaded, and only the four
scripts whose digests are named may run, so a text in the document can never become code. Without scripts every
number is still there, in tables.
"""

from __future__ import annotations

import base64
import hashlib
import re
from collections.abc import Iterable, Mapping, Sequence
from functools import cache
from importlib.resources import files

from shapewright.designs.document import Design
from shapewright.report import sections
from shapewright.report.figures import CHARTS
from shapewright.report.markup import Markup, bullets, data_block, details, tag
from shapewright.report.theme import vega_config
from shapewright.report.vega import Spec

SCRIPTS = ("vega.min.js", "vega-lite.min.js", "vega-embed.min.js", "page.js")
"""In the order in which they run."""


def html_report(design: Design) -> str:
    """The report of a design as one HTML document."""
    title = f"{design.shape.name} on {design.request.hardware}"
    parts = (
        sections.request(design),
        sections.assumed(design),
        sections.answer(design),
        sections.why(design),
        sections.trust(design),
        sections.runners_up(design),
        _next(design),
    )
    specs = {name: spec for name, (_, _, chart) in CHARTS.items() if (spec := chart(design)) is not None}
    warnings = (
        tag("div", tag("strong", "Warnings"), bullets(design.warnings), class_="warning", role="note")
        if design.warnings
        else ""
    )
    titles = ("Request", "Assumed", "Design", "Why", "Trust", "Runners-up", "Next")
    footer = f"Written by Shapewright {design.shapewright_version}, document version {design.schema_version}."
    return page(title, titles, parts, specs, footer=footer, notice=warnings)


def page(
    title: str,
    titles: Sequence[str],
    parts: Iterable[Markup],
    specs: Mapping[str, Spec],
    *,
    footer: str,
    notice: str = "",
    refresh_s: int | None = None,
) -> str:
    """One offline page.

    Args:
        title: of the page.
        titles: of its sections, for the contents.
        parts: its sections; a chart goes into the element ``chart-NAME``.
        specs: the charts by name.
        footer: who wrote it.
        notice: what stands before everything else.
        refresh_s: seconds after which the page loads itself again; None where it is finished.
    """
    themes = {name: vega_config(dark=name == "dark") for name in ("light", "dark")}
    scripts = [_script(name) for name in SCRIPTS]
    head = tag(
        "head",
        Markup('<meta charset="utf-8">'),
        Markup(f'<meta http-equiv="Content-Security-Policy" content="{_policy(scripts)}">'),
        Markup('<meta name="viewport" content="width=device-width, initial-scale=1">'),
        Markup(f'<meta http-equiv="refresh" content="{refresh_s}">') if refresh_s else Markup(""),
        Markup('<link rel="icon" href="data:,">'),
        tag("title", f"{title}: Shapewright"),
        tag("style", Markup(_static("page.css"))),
    )
    contents = tag(
        "nav", bullets(tag("a", name, href=f"#{name.lower()}") for name in titles), aria_label="Contents"
    )
    licences = details("Licences of the chart code in this file", tag("pre", _static("LICENSES.md")))
    body = tag(
        "body",
        tag("a", "Skip to the content", class_="skip", href="#content"),
        tag("header", tag("h1", title), contents, notice),
        tag("main", *parts, id="content"),
        tag("footer", tag("p", footer, class_="note"), licences),
        data_block("chart-specs", specs),
        data_block("chart-themes", themes),
        *(Markup(f"<script>{script}</script>") for script in scripts),
    )
    return f'<!doctype html>\n<html lang="en">\n{head}\n{body}\n</html>\n'


def _next(design: Design) -> Markup:
    data = base64.b64encode(design.to_json().encode()).decode()
    link = tag("a", "design.json", download="design.json", href=f"data:application/json;base64,{data}")
    return sections.section(
        "Next",
        tag("p", "The whole document of this report: ", link, "."),
        bullets([tag("code", "shapewright explain design.json")]),
    )


def _policy(scripts: list[str]) -> Markup:
    digests = (base64.b64encode(hashlib.sha256(script.encode()).digest()).decode() for script in scripts)
    allowed = " ".join(f"'sha256-{digest}'" for digest in digests)
    return Markup(
        f"default-src 'none'; script-src {allowed}; style-src 'unsafe-inline'; img-src data: blob:; "
        "base-uri 'none'; form-action 'none'"
    )


@cache
def _static(name: str) -> str:
    return (files("shapewright.report") / "static" / name).read_text(encoding="utf-8")


@cache
def _script(name: str) -> str:
    """A script as it can stand in a page: without the reference to its source map, and unable to end its element."""
    source = re.sub(r"^//# sourceMappingURL=.*$", "", _static(name), flags=re.MULTILINE)
    return source.replace("</script", "<\\/script").replace("<!--", "<\\!--")
