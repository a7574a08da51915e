"""How the verbs of the outlook hand over their answer: console or JSON, a page, and pictures."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from shapewright.cli.common import out, print_json, refuse_existing, talk, write_bytes, write_text

if TYPE_CHECKING:
    from shapewright.report.view import View

Report = Annotated[
    Path | None, typer.Option("--report", help="Write the charts and tables, one offline HTML file.")
]
Charts = Annotated[
    Path | None, typer.Option("--charts", help="Write every chart as SVG and PNG into a folder.")
]


def deliver(
    answer: Any,
    view: Callable[[], View],
    *,
    json: bool,
    report: Path | None,
    charts: Path | None,
    force: bool,
) -> None:
    """Print an answer and write what was asked for.

    Args:
        answer: a dataclass; with ``json`` it is printed as it is.
        view: turns it into words and charts.
        json: one JSON document instead of words.
        report: path of the page.
        charts: folder of the pictures.
        force: overwrite files that exist.

    Raises:
        UsageError: a file exists and ``force`` is false.
        MissingPackageError: pictures are wanted and the package that draws is not installed.
    """
    shown = view() if report or charts or not json else None
    refuse_existing(report, overwrite=force)
    pictures = _pictures(charts, shown, overwrite=force) if charts is not None and shown is not None else {}
    if json:
        print_json(document(answer))
    elif shown is not None:
        from shapewright.report.view import print_view

        print_view(shown, out())
    if report is not None and shown is not None:
        from shapewright.report.view import html_view

        write_text(report, html_view(shown), overwrite=force)
        talk().print(f"wrote {report}")
    write_pictures(charts, pictures, overwrite=force)


def _pictures(folder: Path, shown: View, *, overwrite: bool) -> dict[Path, bytes]:
    """The pictures by the file they go to, drawn before anything is written."""
    from shapewright.report.pictures import SUFFIXES, draw

    specs = {each.name: each.spec for each in shown.charts}
    refuse_existing(
        *(folder / f"{name}.{suffix}" for name in specs for suffix in SUFFIXES), overwrite=overwrite
    )
    return {
        folder / f"{name}.{suffix}": draw(spec, suffix) for name, spec in specs.items() for suffix in SUFFIXES
    }


def write_pictures(folder: Path | None, pictures: Mapping[Path, bytes], *, overwrite: bool) -> None:
    """Write pictures and say so; nothing where no ``folder`` was named."""
    for path, content in pictures.items():
        write_bytes(path, content, overwrite=overwrite)
    if folder is not None:
        talk().print(f"wrote {len(pictures)} pictures to {folder}", markup=False)


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
