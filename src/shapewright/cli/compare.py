"""``shapewright compare``: one budget spent on several architectures."""

from __future__ import annotations

from typing import Annotated

import typer

from shapewright.cli import options as o
from shapewright.cli.answer import Charts, Report, deliver


def command(
    architectures: Annotated[
        list[str], typer.Argument(help="Primitives (transformer, kda, ...), known models or config files.")
    ],
    on: Annotated[str, typer.Option("--on", help="Hardware, e.g. 64xh100_sxm.")],
    budget: Annotated[str, typer.Option(help="30d, 2M USD, 1e22 FLOP, 5 GWh or 1T tokens.")],
    size: Annotated[str, typer.Option(help="Parameters of the primitives' models.")] = "7B",
    seq_len: o.SeqLen = None,
    context: Annotated[int, typer.Option(help="Tokens of a sequence while serving.")] = 32_768,
    precision: o.PrecisionName = None,
    framework: o.FrameworkName = None,
    law: o.LawName = None,
    settings: o.Settings = None,
    report: Report = None,
    charts: Charts = None,
    force: o.Force = False,
    json: o.Json = False,
) -> None:
    """Show what each architecture makes of a budget, and what its kernel must reach for it to pay.

    Example: shapewright compare transformer gated_deltanet --on 64xh100_sxm --budget 30d
    """
    from shapewright.outlook.requests import architecture, parse_budget
    from shapewright.outlook.versus import compare
    from shapewright.report.compare_view import compare_view
    from shapewright.search.joint import Options
    from shapewright.units import parse_quantity

    o.positive({"seq_len": seq_len, "context": context})
    params = parse_quantity(size, "1", "--size")
    shapes = [architecture(name, params) for name in dict.fromkeys(architectures)]
    options = Options(seq_len=seq_len, precision=precision, framework=framework, law=law)
    answer = compare(
        shapes,
        on,
        parse_budget(budget),
        options,
        text=budget,
        context=context,
        settings=tuple(settings or ()),
    )
    deliver(answer, lambda: compare_view(answer), json=json, report=report, charts=charts, force=force)
