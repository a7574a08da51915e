"""``shapewright whatif``: the best design on hardware that does not exist, and which hardware to wish for."""

from __future__ import annotations

from typing import Annotated

import typer

from shapewright.cli import options as o
from shapewright.cli.answer import Charts, Report, deliver

_BUDGET = "Budget (one of)"


def command(
    hardware: Annotated[str, typer.Option("--on", help="The real hardware, e.g. 8xb200_sxm.")],
    settings: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="NAME=VALUE", help="Change a property, e.g. sram=2x; repeatable."),
    ] = None,
    sweep: Annotated[
        list[str] | None,
        typer.Option(
            "--sweep", metavar="NAME=VALUES", help="e.g. memory=0.5x..2x:5 or sram=1x,2x,4x; repeatable."
        ),
    ] = None,
    elasticities: Annotated[
        bool, typer.Option("--elasticities", help="What each property is worth, at fixed dollars and power.")
    ] = False,
    wish: Annotated[
        list[str] | None, typer.Option("--wish", help="The chip wanted at equal cost: dollars or power.")
    ] = None,
    scenario: Annotated[
        list[str] | None, typer.Option("--scenario", help="A chip that may come, or all.")
    ] = None,
    primitives: Annotated[
        bool,
        typer.Option("--primitives", help="Where another token mixer becomes the best, along the sweep."),
    ] = False,
    share: Annotated[
        list[str] | None, typer.Option("--share", help="Replace a share of cost, e.g. dollars.memory=0.3.")
    ] = None,
    days: Annotated[
        float | None,
        typer.Option(help="Wall time in days; 30 where nothing is given.", rich_help_panel=_BUDGET),
    ] = None,
    hours: Annotated[float | None, typer.Option(help="Wall time in hours.", rich_help_panel=_BUDGET)] = None,
    dollars: Annotated[str | None, typer.Option(help="Money, e.g. 2M.", rich_help_panel=_BUDGET)] = None,
    energy: Annotated[str | None, typer.Option(help="Energy, e.g. 50MWh.", rich_help_panel=_BUDGET)] = None,
    seq_len: o.SeqLen = None,
    precision: o.PrecisionName = None,
    law: o.LawName = None,
    report: Report = None,
    charts: Charts = None,
    force: o.Force = False,
    json: o.Json = False,
) -> None:
    """Design for hardware that does not exist: scaled properties, sweeps, scenarios, and the chip a model wants.

    Example: shapewright whatif --on 8xb200_sxm --set sram=2x --set memory=1.5x --days 30
    """
    from shapewright.api import budget_from
    from shapewright.outlook.whatif import whatif
    from shapewright.report.whatif_view import whatif_view
    from shapewright.search.joint import Options

    o.positive({"seq_len": seq_len})
    if days is None and hours is None and dollars is None and energy is None:
        days = 30.0
    budget = budget_from(days=days, hours=hours, minutes=None, dollars=dollars, energy=energy, flops=None)
    answer = whatif(
        hardware,
        budget,
        Options(seq_len=seq_len, precision=precision, law=law),
        settings=settings or (),
        sweeps=sweep or (),
        scenario=scenario or (),
        slopes=elasticities,
        wish=wish or (),
        primitives=primitives,
        shares=share or (),
    )
    deliver(answer, lambda: whatif_view(answer), json=json, report=report, charts=charts, force=force)
