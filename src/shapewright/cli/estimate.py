"""``shapewright estimate``: what training a given model costs on given hardware."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from shapewright.cli import options as o
from shapewright.cli.common import out, print_text, refuse_existing, talk, write_text
from shapewright.cli.plan_options import Axes, Modes, Run, grouped


@grouped
def command(
    *,
    model: Annotated[str, typer.Argument(help="A config.json, its folder, or the name of a known model.")],
    on: Annotated[str, typer.Option("--on", help="Hardware, e.g. 64xh100_sxm.")],
    tokens: Annotated[
        str | None, typer.Option(help="Training tokens, e.g. 15T: adds time, energy, dollars and loss.")
    ] = None,
    seq_len: o.SeqLen = None,
    batch: o.Batch = None,
    precision: o.PrecisionName = None,
    framework: o.FrameworkName = None,
    law: o.LawName = None,
    unique_tokens: o.UniqueTokens = None,
    level: o.LevelName = "physics",
    axes: Axes,
    modes: Modes,
    run: Run,
    settings: o.Settings = None,
    output: Annotated[
        Path | None, typer.Option("--out", help="Write the estimate as a design document.")
    ] = None,
    force: o.Force = False,
    json: o.Json = False,
) -> None:
    """Estimate the training step of a model under a plan, or under the best plan when none is given.

    Example: shapewright estimate llama-3-8b --on 64xh100_sxm --tp 4 --pp 2
    """
    from shapewright.architecture.catalog import resolve_model
    from shapewright.designs.estimate import make_estimate
    from shapewright.search.joint import Options

    o.positive({"seq_len": seq_len, "batch": batch})
    plan = axes.pins() | modes.pins()
    refuse_existing(output, overwrite=force)
    amount = o.tokens_of(tokens, "--tokens")
    options = Options(
        seq_len=seq_len,
        precision=precision,
        framework=framework,
        law=law,
        unique_tokens=o.tokens_of(unique_tokens, "--unique-tokens"),
        global_batch=batch,
        plan=plan,
        level=o.level_named(level),
        modes=run.modes(),
    )
    found = make_estimate(resolve_model(model), on, options, tokens=amount, settings=tuple(settings or ()))
    if json:
        print_text(found.to_json())
    else:
        from shapewright.report.console import print_design

        print_design(found, out())
    if output is not None:
        write_text(output, found.to_json(), overwrite=force)
        talk().print(f"wrote {output}")
