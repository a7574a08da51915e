"""``shapewright lint``: where a shape does not fall on the hardware's tiles and waves."""

from __future__ import annotations

from typing import Annotated

import typer

from shapewright.cli import options as o
from shapewright.cli.common import out, print_json


def command(
    model: Annotated[str, typer.Argument(help="A config.json, its folder, or the name of a known model.")],
    on: Annotated[str, typer.Option("--on", help="Hardware, e.g. h100_sxm.")],
    seq_len: o.SeqLen = None,
    micro_batch: o.MicroBatch = None,
    tp: o.Tp = None,
    pp: o.Pp = None,
    vpp: o.Vpp = None,
    precision: o.PrecisionName = None,
    level: o.LevelName = "physics",
    settings: o.Settings = None,
    json: o.Json = False,
) -> None:
    """Name every number of a shape that costs time on this hardware, with a better value.

    Example: shapewright lint falcon-7b --on h100_sxm
    """
    from dataclasses import asdict

    from rich.markup import escape

    from shapewright.api import lint

    o.positive({"seq_len": seq_len})
    pins = o.positive({"micro_batch": micro_batch, "tp": tp, "pp": pp, "vpp": vpp})
    report = lint(
        model,
        on,
        seq_len=seq_len,
        precision=precision,
        level=o.level_named(level),
        settings=tuple(settings or ()),
        **pins,
    )
    if json:
        print_json(
            {
                "model": report.model,
                "hardware": report.hardware,
                "plan": report.plan,
                "step_time_s": report.step_time_s,
                "findings": [asdict(finding) for finding in report.findings],
            }
        )
        return
    console = out()
    console.print(f"[bold]Request[/]   {escape(report.model)} on {escape(report.hardware)}")
    console.print(f"[bold]Assumed[/]   {report.plan}")
    if not report.findings:
        console.print("[bold]Findings[/]  none: every number falls on the tiles of this device")
        return
    for finding in report.findings:
        loss = "" if finding.loss_change is None else f", loss {finding.loss_change:+.4f}"
        console.print(
            f"[bold]{finding.severity:<8}[/]  {finding.parameter} {finding.value:,} -> {finding.better:,}: "
            f"costs {finding.cost:.1%} of the step"
        )
        console.print(f"          rule: {finding.rule}")
        console.print(
            f"          change: {finding.params_change / 1e6:+,.2f} M parameters{loss} at equal tokens"
        )
    console.print("[bold]Next[/]      shapewright estimate MODEL --on HARDWARE, with the numbers changed")
