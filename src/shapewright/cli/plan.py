"""``shapewright plan``: every plan of a model on a cluster, those that nothing beats, and what binds."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from shapewright.cli import options as o
from shapewright.cli.common import out, print_json
from shapewright.cli.plan_options import Axes, Modes, Run, grouped


@grouped
def command(
    *,
    model: Annotated[str, typer.Argument(help="A config.json, its folder, or the name of a known model.")],
    on: Annotated[str, typer.Option("--on", help="Hardware, e.g. 64xh100_sxm.")],
    seq_len: o.SeqLen = None,
    batch: o.Batch = None,
    precision: o.PrecisionName = None,
    framework: o.FrameworkName = None,
    axes: Axes,
    modes: Modes,
    run: Run,
    show: Annotated[int, typer.Option(min=1, help="Plans of the front to show.")] = 12,
    settings: o.Settings = None,
    json: o.Json = False,
) -> None:
    """Price every valid plan of a model on a cluster; show those that no other beats in time, memory and energy.

    Example: shapewright plan llama-3-8b --on 64xh100_sxm --batch 256
    """
    from shapewright.architecture.catalog import resolve_model
    from shapewright.designs.plans import search_for
    from shapewright.search.joint import Options

    o.positive({"seq_len": seq_len, "batch": batch})
    pins = axes.pins() | modes.pins()
    options = Options(
        seq_len=seq_len,
        precision=precision,
        framework=framework,
        global_batch=batch,
        plan=pins,
        modes=run.modes(),
    )
    found = search_for(resolve_model(model), on, options, settings=tuple(settings or ()))
    if json:
        print_json(found)
        return
    _print(found, show)


def _print(found: dict[str, Any], show: int) -> None:
    from rich.markup import escape
    from rich.table import Table

    from shapewright.units import format_quantity

    console = out()
    request = found["request"]
    console.print(f"[bold]Request[/bold]  {escape(request['model'])} on {escape(request['hardware'])}")
    console.print(
        f"[bold]Assumed[/bold]  {request['global_batch_sequences']:,} sequences of {request['sequence_length']:,} tokens, "
        f"{request['precision']}, {request['optimizer']}, framework {request['framework']}"
    )
    console.print(
        f"[bold]Answer[/bold]   {found['num_plans']:,} plans: {found['num_priced']:,} priced, {found['num_fit']:,} fit, "
        f"{len(found['front'])} that no other beats in {', '.join(found['axes'])}"
    )
    table = Table(box=None, pad_edge=False)
    for column in ("step", "memory", "energy", "plan"):
        table.add_column(column, justify="left" if column == "plan" else "right", overflow="fold")
    for row in found["front"][:show]:
        energy = "-" if row["energy_j"] is None else format_quantity(row["energy_j"], "J")
        table.add_row(
            format_quantity(row["step_time_s"], "s"),
            format_quantity(row["memory_bytes"], "B"),
            energy,
            row["describe"],
        )
    console.print(table)
    if len(found["front"]) > show:
        console.print(f"{len(found['front']) - show} more with --show {len(found['front'])}")
    console.print("[bold]Why[/bold]")
    for line in found["binds"]:
        console.print(f"  {line}")
    for rule, count in sorted(found["rejected"].items(), key=lambda item: -item[1]):
        console.print(f"  {count:,} rejected: {rule}")
    console.print("[bold]Trust[/bold]")
    console.print(f"  {found['trust']}")
    console.print("[bold]Next[/bold]")
    console.print(f"  {escape(found['next'])}", soft_wrap=True)
