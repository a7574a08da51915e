"""``shapewright efficiency``: generations per watt, area, transistor and dollar, decomposed and tested."""

from __future__ import annotations

from typing import Annotated

import typer

from shapewright.cli import options as o
from shapewright.cli.answer import Charts, Report, deliver


def command(
    chips: Annotated[
        list[str] | None,
        typer.Argument(help="a100_sxm..b200_sxm, names, or NAME:FORMAT; none: NVIDIA's line."),
    ] = None,
    precision: Annotated[str, typer.Option(help="16bit, 8bit or 4bit.")] = "16bit",
    mixed: Annotated[bool, typer.Option("--mixed", help="Formats of different width are meant.")] = False,
    model: Annotated[
        str | None, typer.Option(help="Put this model to work on each, re-designed and as it is.")
    ] = None,
    devices: Annotated[int, typer.Option(help="How many of each for --model.")] = 8,
    tokens: Annotated[
        str | None, typer.Option(help="Training tokens for --model (default: 20 per parameter).")
    ] = None,
    law: o.LawName = None,
    report: Report = None,
    charts: Charts = None,
    force: o.Force = False,
    json: o.Json = False,
) -> None:
    """Compare generations of accelerators: gains per watt on four lines of evidence, their parts, and their trend.

    Example: shapewright efficiency a100_sxm..b200_sxm --model llama-3-8b
    """
    from shapewright.architecture.catalog import resolve_model
    from shapewright.outlook.efficiency import efficiency
    from shapewright.report.efficiency_view import efficiency_view

    o.positive({"devices": devices})
    answer = efficiency(
        chips or (),
        precision=precision,
        mixed=mixed,
        model=resolve_model(model) if model else None,
        devices=devices,
        tokens=o.tokens_of(tokens, "--tokens"),
        law=law,
    )
    deliver(answer, lambda: efficiency_view(answer), json=json, report=report, charts=charts, force=force)
