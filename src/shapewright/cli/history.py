"""``shapewright history``: where compute came from, and which year's frontier a design equals."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from shapewright.cli import options as o
from shapewright.cli.answer import Charts, Report, deliver
from shapewright.errors import UsageError


def command(
    domain: Annotated[str | None, typer.Option(help="One modality, e.g. vision.")] = None,
    since: Annotated[str, typer.Option(help="First year, or YYYY-MM.")] = "2012-09",
    data: Annotated[
        Path | None, typer.Option(help="Epoch AI's CSV of notable models instead of our table.")
    ] = None,
    model: Annotated[
        list[str] | None, typer.Option(help="Compare this model with AlexNet; repeatable.")
    ] = None,
    design: Annotated[Path | None, typer.Option(help="Place this design.json on the line.")] = None,
    flops: Annotated[
        float | None, typer.Option(help="Place this training compute [FLOP] on the line.")
    ] = None,
    report: Report = None,
    charts: Charts = None,
    force: o.Force = False,
    json: o.Json = False,
) -> None:
    """Show how the training compute of notable models grew, and where a design stands.

    Example: shapewright history --domain vision --since 2012
    """
    from shapewright.outlook.history import history
    from shapewright.outlook.milestones import read_epoch
    from shapewright.report.history_view import history_view

    what = ""
    if design is not None:
        from shapewright.designs.files import load_design

        if flops is not None:
            raise UsageError(
                "--design and --flops were both given", "one compute is placed", "drop one of them"
            )
        found = load_design(design)
        if found.predicted.train_flops is None:
            raise UsageError(
                f"{design} has no training compute", "it estimates one step only",
                "write it with a budget: shapewright design, or estimate --tokens",
            )  # fmt: skip
        flops, what = found.predicted.train_flops.value, found.shape.name
    answer = history(
        read_epoch(data) if data else None,
        domain=domain,
        since=_year(since),
        models=model or (),
        flop=flops,
        flop_of=what,
    )
    deliver(answer, lambda: history_view(answer), json=json, report=report, charts=charts, force=force)


def _year(text: str) -> float:
    year, dash, month = text.partition("-")
    told = year.isdigit() and len(year) == 4 and int(year) >= 1900
    if not told or (dash and not (month.isdigit() and 1 <= int(month) <= 12)):
        raise UsageError(f"--since (={text!r}) is not a year", "it is YYYY or YYYY-MM", "for example 2012-09")
    return int(year) + (int(month) - 1) / 12 if month else float(year)
