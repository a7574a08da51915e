"""``shapewright design``: from hardware and budget to a model."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from shapewright.cli import options as o
from shapewright.cli.common import out, print_text, refuse_existing, talk, write_text
from shapewright.cli.plan_options import Axes, grouped
from shapewright.errors import UsageError

if TYPE_CHECKING:
    from shapewright.designs.document import Design
    from shapewright.search.serve import ServingLimits


@grouped
def command(
    *,
    hardware: Annotated[
        str, typer.Argument(help="For example 64xh100_sxm, dgx_b200, this, or a .toml file.")
    ],
    days: Annotated[
        float | None, typer.Option(help="Wall time in days.", rich_help_panel="Budget (one of)")
    ] = None,
    hours: Annotated[
        float | None, typer.Option(help="Wall time in hours.", rich_help_panel="Budget (one of)")
    ] = None,
    minutes: Annotated[
        float | None, typer.Option(help="Wall time in minutes.", rich_help_panel="Budget (one of)")
    ] = None,
    dollars: Annotated[
        str | None, typer.Option(help="Money, e.g. 2M.", rich_help_panel="Budget (one of)")
    ] = None,
    energy: Annotated[
        str | None, typer.Option(help="Energy, e.g. 50MWh.", rich_help_panel="Budget (one of)")
    ] = None,
    flops: Annotated[
        float | None, typer.Option(help="Training FLOP, e.g. 1e23.", rich_help_panel="Budget (one of)")
    ] = None,
    seq_len: o.SeqLen = None,
    vocab: Annotated[int | None, typer.Option(help="Vocabulary.", rich_help_panel="Shape")] = None,
    width: Annotated[int | None, typer.Option(help="Width.", rich_help_panel="Shape")] = None,
    depth: Annotated[int | None, typer.Option(help="Layers.", rich_help_panel="Shape")] = None,
    heads: Annotated[int | None, typer.Option(help="Query heads.", rich_help_panel="Shape")] = None,
    kv_heads: Annotated[int | None, typer.Option(help="Key-value heads.", rich_help_panel="Shape")] = None,
    head_dim: Annotated[int | None, typer.Option(help="Width of a head.", rich_help_panel="Shape")] = None,
    ffn_size: Annotated[int | None, typer.Option(help="Feed-forward width.", rich_help_panel="Shape")] = None,
    search: Annotated[
        str,
        typer.Option(
            help="dense, moe, hybrid, all, or families by name: '64 experts+mla'.", rich_help_panel="Shape"
        ),
    ] = "dense",
    max_tpot: Annotated[
        str | None,
        typer.Option(
            "--max-tpot", help="Longest time per token when served, e.g. 10ms.", rich_help_panel="Serving"
        ),
    ] = None,
    max_token_price: Annotated[
        float | None,
        typer.Option(
            "--max-token-price", help="USD per million tokens when served.", rich_help_panel="Serving"
        ),
    ] = None,
    engine: Annotated[
        str, typer.Option(help="Where candidates are priced: local or ray.", rich_help_panel=o.RUN)
    ] = "local",
    serve: Annotated[
        str | None,
        typer.Option(
            help="Count lifetime serving, too: 'isl=4000 osl=1000 tokens=1e13 tpot=20ms'.",
            rich_help_panel=o.RUN,
        ),
    ] = None,
    precision: o.PrecisionName = None,
    framework: o.FrameworkName = None,
    law: o.LawName = None,
    unique_tokens: o.UniqueTokens = None,
    level: o.LevelName = "physics",
    batch: o.Batch = None,
    axes: Axes,
    settings: o.Settings = None,
    output: Annotated[
        Path | None, typer.Option("--out", help="Write the design, and its schema beside it.")
    ] = None,
    report: Annotated[Path | None, typer.Option(help="Write the report, one offline HTML file.")] = None,
    force: o.Force = False,
    json: o.Json = False,
) -> None:
    """Design the model with the lowest predicted loss for a hardware and a budget.

    Example: shapewright design 64xh100_sxm --days 30 --out design.json --report report.html
    """
    from shapewright.api import budget_from
    from shapewright.designs.build import make_design
    from shapewright.designs.serving import parse_serve
    from shapewright.search.joint import Options

    budget = budget_from(days=days, hours=hours, minutes=minutes, dollars=dollars, energy=energy, flops=flops)
    o.positive({"seq_len": seq_len, "vocab": vocab, "batch": batch})
    shape = o.positive(
        {
            "width": width,
            "depth": depth,
            "heads": heads,
            "kv_heads": kv_heads,
            "head_dim": head_dim,
            "ffn_size": ffn_size,
        }
    )
    plan = axes.pins()
    if width and heads and width % heads and not head_dim:
        raise UsageError(
            f"--heads (={heads}) must divide --width (={width})",
            "every head has the same width",
            "give --head-dim too, or another number of heads",
        )
    refuse_existing(output, _schema_path(output), report, overwrite=force)
    found = make_design(
        hardware,
        budget,
        Options(
            seq_len=seq_len,
            vocab_size=vocab,
            precision=precision,
            framework=framework,
            law=law,
            unique_tokens=o.tokens_of(unique_tokens, "--unique-tokens"),
            global_batch=batch,
            shape=shape,
            plan=plan,
            family=search,
            engine=engine,
            serving=_limits(max_tpot, max_token_price),
            level=o.level_named(level),
        ),
        tuple(settings or ()),
        serve=parse_serve(serve) if serve is not None else None,
    )
    if json:
        print_text(found.to_json())
    else:
        from shapewright.report.console import NEXT, print_design

        print_design(found, out(), next_commands=NEXT if output is None else _next(found, output, report))
    if output is not None:
        from shapewright.cli.schema import schema_text

        write_text(output, found.to_json(), overwrite=force)
        schema = _schema_path(output)
        assert schema is not None
        write_text(schema, schema_text(), overwrite=force)
        talk().print(f"wrote {output} and {schema}")
    if report is not None:
        from shapewright.report.html import html_report

        write_text(report, html_report(found), overwrite=force)
        talk().print(f"wrote {report}")


def _next(found: Design, output: Path, report: Path | None) -> tuple[str, ...]:
    """What to do with a design that was kept: train it where it is for this machine, and look closer."""
    from shapewright.hardware.catalog import parse_cluster

    cluster = parse_cluster(found.request.hardware)
    look = f"shapewright explain {output}" + ("" if report else " --report report.html")
    if cluster.accelerator.path is None or "measurement" not in cluster.accelerator.sources:
        return (look,)
    train, devices = f"shapewright train {output}", int(found.plan.num_devices)
    if devices > 1:
        train = f"torchrun --nproc-per-node {devices} --no-python {train}"
    return (train, look)


def _schema_path(output: Path | None) -> Path | None:
    return output.with_suffix(".schema.json") if output is not None else None


def _limits(tpot: str | None, price: float | None) -> ServingLimits | None:
    from shapewright.search.serve import ServingLimits
    from shapewright.units import parse_quantity

    if price is not None and not 0 < price < float("inf"):
        raise UsageError(
            f"--max-token-price (={price:g}) must be positive and finite", "it is a limit", "for example: 1.5"
        )
    if tpot is None and price is None:
        return None
    seconds = None if tpot is None else parse_quantity(tpot, "s", "--max-tpot")
    if seconds is not None and not seconds > 0:
        raise UsageError(
            f"--max-tpot (={tpot}) must be positive", "a token takes time", "for example: --max-tpot 10ms"
        )
    return ServingLimits(tpot=seconds, dollars_per_million=price)
