"""``shapewright portfolio``: what ideas are worth at the target budget, against scaling further."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from shapewright.cli import options as o
from shapewright.cli.answer import Charts, Report, deliver
from shapewright.errors import UsageError


def command(
    flops: Annotated[
        float | None, typer.Option(help="The target's training compute [FLOP], e.g. 1e24.")
    ] = None,
    design: Annotated[Path | None, typer.Option(help="Take the target from this design.json.")] = None,
    ideas: Annotated[
        list[Path] | None,
        typer.Option(
            "--ideas", help="A TOML of ideas, or what gain --json printed; repeatable (default: our list)."
        ),
    ] = None,
    test_share: Annotated[float, typer.Option(help="Cost of a test over the budget.")] = 0.02,
    law: o.LawName = None,
    report: Report = None,
    charts: Charts = None,
    force: o.Force = False,
    json: o.Json = False,
) -> None:
    """Value ideas with a measured or published compute-equivalent gain at the target budget, with their risk.

    Example: shapewright portfolio --flops 1e24
    """
    from shapewright.outlook.ideas import read_ideas
    from shapewright.outlook.portfolio import portfolio
    from shapewright.report.portfolio_view import portfolio_view

    if (flops is None) == (design is None):
        raise UsageError(
            "the target is given by --flops or by --design", "exactly one of them", "for example --flops 1e24"
        )
    if design is not None:
        from shapewright.designs.files import load_design

        found = load_design(design).predicted.train_flops
        if found is None:
            raise UsageError(
                f"{design} has no training compute", "it estimates one step only", "give --flops"
            )
        flops = found.value
    assert flops is not None
    listed = [idea for path in ideas or () for idea in read_ideas(path)]
    answer = portfolio(flops, ideas=listed or None, test_share=test_share, law=law)
    deliver(answer, lambda: portfolio_view(answer), json=json, report=report, charts=charts, force=force)
