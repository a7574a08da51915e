"""How the verbs of the outlook hand over their answer: console or JSON, a page, and pictures."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from shapewright.cli.common import out, print_json, refuse_existing, talk, write_text

if TYPE_CHECKING:
    from shapewright.report.view import View

Report = Annotated[
    Path | None, typer.Option("--report", help="Write the charts and tables, one offline HTML file.")
]
Svg = Annotated[Path | None, typer.Option("--svg", help="Write each chart as NAME.svg into this folder.")]


def deliver(
    answer: Any,
    view: Callable[[], View],
    *,
    json: bool,
    report: Path | None,
    svg: Path | None,
    force: bool,
) -> None:
    """Print an answer and write what was asked for.

    Args:
        answer: a dataclass; with ``json`` it is printed as it is.
        view: turns it into words and charts.
        json: one JSON document instead of words.
        report: path of the page.
        svg: folder of the pictures.
        force: overwrite files that exist.

    Raises:
        UsageError: a file exists and ``force`` is false.
        NotCoveredError: pictures are wanted and the package that draws is not installed.
    """
    shown = view() if report or svg or not json else None
    pictures = (
        [] if svg is None or shown is None else [(svg / f"{each.name}.svg", each) for each in shown.charts]
    )
    refuse_existing(report, *(path for path, _ in pictures), overwrite=force)
    if json:
        print_json(document(answer))
    elif shown is not None:
        from shapewright.report.view import print_view

        print_view(shown, out())
    if report is not None and shown is not None:
        from shapewright.report.view import html_view

        write_text(report, html_view(shown), overwrite=force)
        talk().print(f"wrote {report}")
    for path, each in pictures:
        from shapewright.report.charts import chart_svg

        write_text(path, chart_svg(each.spec), overwrite=force)
        talk().print(f"wrote {path}")


def document(answer: Any) -> Any:
    """An answer as plain JSON values; what has no finite value is null."""
    import math

    from pydantic import TypeAdapter

    def plain(value: Any) -> Any:
        if isinstance(value, dict):
            return {str(key): plain(item) for key, item in value.items()}
        if isinstance(value, (list, tuple)):
            return [plain(item) for item in value]
        return None if isinstance(value, float) and not math.isfinite(value) else value

    return plain(TypeAdapter(type(answer)).dump_python(answer, mode="python"))
