"""An answer that is no Design: sections of text and tables with charts, on the console and as an offline page.

Decisions: a verb's answer is turned into a :class:`View` once, in the fixed order of the console; both outputs show the
same words and numbers, and every chart stands beside the table of its numbers with their sources.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from textwrap import wrap

from rich.console import Console
from rich.text import Text

import shapewright
from shapewright.report.console import INDENT, plain, print_sections
from shapewright.report.html import page
from shapewright.report.markup import Markup, bullets, details, table, tag
from shapewright.report.sections import section
from shapewright.report.vega import Spec

GAP = "  "
"""Between two columns on the console."""
LEAST_ROOM = 12
"""Narrowest last column that is wrapped rather than left to run on."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Grid:
    """A table; every row has a cell for each header."""

    headers: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    numbers: tuple[str, ...] = ()
    """Headers of the columns that are set flush right."""
    caption: str = ""


def grid(
    caption: str, columns: Mapping[str, str], rows: Iterable[Spec], *, numbers: tuple[str, ...] = ()
) -> Grid:
    """The table of a chart's data: ``columns`` are its headers with the fields that they show."""
    cells = tuple(tuple(str(row[name]) for name in columns.values()) for row in rows)
    return Grid(caption=caption, headers=tuple(columns), rows=cells, numbers=numbers)


@dataclass(frozen=True, kw_only=True, slots=True)
class Chart:
    """A chart with its caption and the numbers behind it."""

    name: str
    """Name of its file and its element."""
    title: str
    caption: str
    spec: Spec
    grid: Grid
    """Every plotted point with its source."""


@dataclass(frozen=True, kw_only=True, slots=True)
class View:
    """The answer of a verb, ready to be shown."""

    title: str
    sections: tuple[tuple[str, tuple[str | Grid, ...]], ...]
    """Name and lines of each section, in the order request, assumed, answer, why, trust, next."""
    charts: tuple[Chart, ...] = field(default_factory=tuple)


def print_view(view: View, console: Console) -> None:
    """Print the sections; charts are for the page."""
    print_sections(console, *((name, _lines(items, console.width - INDENT)) for name, items in view.sections))


def _lines(items: Iterable[str | Grid], width: int) -> list[Text]:
    lines: list[Text] = []
    for item in items:
        if isinstance(item, str):
            lines.append(plain(item))
        else:
            lines += [plain("")] * bool(lines) + grid_lines(item, width)
    return lines


def grid_lines(grid: Grid, width: int) -> list[Text]:
    """A table in columns; the last column wraps below itself where it is too long."""
    rows = (grid.headers, *grid.rows)
    wide = [max(len(row[column]) for row in rows) for column in range(len(grid.headers))]
    flush = [name in grid.numbers for name in grid.headers]
    lines = [plain(grid.caption, "bold")] if grid.caption else []
    start = sum(wide[:-1]) + len(GAP) * (len(wide) - 1)
    for at, row in enumerate(rows):
        style = "" if at else "dim"
        cells = [f"{cell:>{w}}" if right else f"{cell:<{w}}"
                 for cell, w, right in zip(row, wide, flush, strict=True)]  # fmt: skip
        whole = GAP.join(cells).rstrip()
        if len(whole) <= width or width - start < LEAST_ROOM:
            lines.append(plain(whole, style))
            continue
        pieces = wrap(row[-1], width - start, break_long_words=False)
        lines.append(plain(GAP.join([*cells[:-1], pieces[0]]), style))
        lines += [plain(" " * start + piece, style) for piece in pieces[1:]]
    return lines


def html_view(view: View, *, refresh_s: int | None = None) -> str:
    """The answer as one offline HTML document; ``refresh_s`` seconds after which it loads itself again."""
    parts = [section(name, *_blocks(items)) for name, items in view.sections]
    parts.insert(
        _after_answer(view), section("Charts", *map(_figure, view.charts)) if view.charts else Markup("")
    )
    titles = [name for name, _ in view.sections]
    if view.charts:
        titles.insert(_after_answer(view), "Charts")
    specs = {chart.name: chart.spec for chart in view.charts}
    footer = f"Written by Shapewright {shapewright.__version__}."
    return page(view.title, titles, parts, specs, footer=footer, refresh_s=refresh_s)


def _after_answer(view: View) -> int:
    names = [name for name, _ in view.sections]
    return names.index("Answer") + 1 if "Answer" in names else len(names)


def _blocks(items: Sequence[str | Grid]) -> list[Markup]:
    """Neighbouring lines become one list."""
    blocks: list[Markup] = []
    texts: list[str] = []
    for item in items:
        if isinstance(item, str):
            texts.append(item)
            continue
        blocks += [bullets(texts)] if texts else []
        texts = []
        blocks.append(_table(item))
    return [*blocks, bullets(texts)] if texts else blocks


def _table(grid: Grid) -> Markup:
    return table(grid.caption or grid.headers[0], grid.headers, grid.rows, numbers=grid.numbers)


def _figure(chart: Chart) -> Markup:
    return tag(
        "figure",
        tag("figcaption", tag("h3", chart.title), tag("p", chart.caption)),
        tag("div", id=f"chart-{chart.name}", class_="chart"),
        tag("noscript", tag("p", chart.spec["description"])),
        details("The numbers and their sources", _table(chart.grid)),
    )
