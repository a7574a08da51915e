"""``shapewright explain``: where a design's time and memory go, what binds it, and what would change it."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from shapewright.cli import options as o
from shapewright.cli.answer import Charts, write_pictures
from shapewright.cli.common import out, print_json, refuse_existing, talk, write_text

if TYPE_CHECKING:
    from shapewright.designs.document import Design


def command(
    design: Annotated[Path, typer.Argument(help="A design.json written by shapewright design or estimate.")],
    report: Annotated[Path | None, typer.Option(help="Write the report, one offline HTML file.")] = None,
    markdown: Annotated[Path | None, typer.Option(help="Write Markdown for a pull request.")] = None,
    charts: Charts = None,
    force: o.Force = False,
    json: o.Json = False,
) -> None:
    """Explain a design: shares by cause, what binds, reasons, what would change, runners-up, trust.

    Example: shapewright explain design.json --report report.html
    """
    from shapewright.designs.files import load_design
    from shapewright.report.explanation import explanation

    refuse_existing(report, markdown, overwrite=force)
    found = load_design(design)
    pictures = _pictures(found, charts, overwrite=force) if charts is not None else {}
    if json:
        print_json(explanation(found))
    else:
        from shapewright.report.console import print_explanation

        next_commands = () if report else (f"shapewright explain {design} --report report.html",)
        print_explanation(found, out(), next_commands=next_commands)
    if report is not None:
        from shapewright.report.html import html_report

        write_text(report, html_report(found), overwrite=force)
        talk().print(f"wrote {report}", markup=False)
    if markdown is not None:
        from shapewright.report.markdown import markdown_report

        write_text(markdown, markdown_report(found), overwrite=force)
        talk().print(f"wrote {markdown}", markup=False)
    write_pictures(charts, pictures, overwrite=force)


def _pictures(design: Design, folder: Path, *, overwrite: bool) -> dict[Path, bytes]:
    """The pictures by the file they go to, drawn before anything is written."""
    from shapewright.report.pictures import picture_names, pictures

    refuse_existing(
        *(folder / f"{name}.{suffix}" for name, suffix in picture_names(design)), overwrite=overwrite
    )
    return {folder / name: content for name, content in pictures(design).items()}
