"""The command line: one file per verb, registered here.

Heavy imports stay inside the verbs, so that ``shapewright --help`` answers at once. Every error that
Shapewright raises on purpose becomes a short message and the exit code of its class; nothing else is caught.
"""

from __future__ import annotations

import os
import sys

import typer

from shapewright.cli import (
    compare,
    design,
    efficiency,
    estimate,
    explain,
    export,
    fit,
    fit_run,
    fit_serving,
    gain,
    hardware,
    history,
    kernels,
    ladder,
    lint,
    measure,
    models,
    plan,
    portfolio,
    scale,
    schema,
    serve_plan,
    studio,
    train,
    tune,
    validate,
    whatif,
)
from shapewright.cli.common import NobodyReadsError, print_error
from shapewright.errors import ShapewrightError

app = typer.Typer(
    name="shapewright",
    help="Designs neural networks for the hardware that will run them.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode="rich",
    context_settings={"help_option_names": ["-h", "--help"]},
)
app.command("compare")(compare.command)
app.command("design")(design.command)
app.command("efficiency")(efficiency.command)
app.command("estimate")(estimate.command)
app.command("explain")(explain.command)
app.command("export")(export.command)
app.command("gain")(gain.command)
app.command("hardware")(hardware.command)
app.command("history")(history.command)
app.command("kernels")(kernels.command)
app.command("lint")(lint.command)
app.command("measure")(measure.command)
app.command("models")(models.command)
app.command("scale")(scale.command)
app.command("plan")(plan.command)
app.command("portfolio")(portfolio.command)
app.command("schema")(schema.command)
app.command("serve-plan")(serve_plan.command)
app.command("studio")(studio.command)
app.command("train")(train.command)
app.command("whatif")(whatif.command)
app.command("tune")(tune.command)
fit.app.command("run")(fit_run.command)
fit.app.command("engines")(fit_serving.engines)
fit.app.command("recipes")(fit_serving.recipes)
app.add_typer(fit.app, name="fit")
app.add_typer(ladder.app, name="ladder")
app.add_typer(validate.app, name="validate")


def main() -> None:
    """Entry point of the ``shapewright`` command."""
    try:
        app()
    except ShapewrightError as error:
        print_error(error)
        sys.exit(error.exit_code)
    except NobodyReadsError:
        # What is left in the buffer has nowhere to go; Python would complain of it when it ends.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(0)
