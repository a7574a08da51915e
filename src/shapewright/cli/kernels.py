"""``shapewright kernels``: the kernel book of a model, and which kernel to rewrite first."""

from __future__ import annotations

from typing import Annotated

import typer

from shapewright.cli import options as o
from shapewright.cli.answer import Charts, Report, deliver


def command(
    model: Annotated[
        str,
        typer.Argument(help="A design.json, a known model, a config file, or a primitive (kda, lstm, ...)."),
    ],
    on: Annotated[str, typer.Option("--on", help="Accelerator, e.g. b200_sxm.")] = "b200_sxm",
    tokens: Annotated[
        str | None, typer.Option(help="Tokens of the run (default: the design's, else 1T).")
    ] = None,
    size: Annotated[str, typer.Option(help="Parameters, for a primitive.")] = "7B",
    seq_len: Annotated[
        int | None, typer.Option("--seq-len", help="Tokens per sequence (default: the design's, else 8192).")
    ] = None,
    tp: Annotated[int | None, typer.Option("--tp", help="Tensor parallelism.")] = None,
    micro_batch: Annotated[int | None, typer.Option("--micro-batch", help="Sequences per device.")] = None,
    precision: o.PrecisionName = None,
    settings: o.Settings = None,
    report: Report = None,
    charts: Charts = None,
    force: o.Force = False,
    json: o.Json = False,
) -> None:
    """Show the measured kernels behind each operator, their share of the roof, and what rewriting saves.

    Example: shapewright kernels llama-3-8b --on b200_sxm
    """
    from dataclasses import asdict

    from shapewright.outlook.kernels import kernel_book, slopes
    from shapewright.outlook.requests import kernel_request
    from shapewright.report.kernels_view import kernels_view
    from shapewright.units import parse_quantity

    o.positive({"seq_len": seq_len, "tp": tp, "micro_batch": micro_batch})
    asked = kernel_request(
        model, on, params=parse_quantity(size, "1", "--size"),
        tokens=o.tokens_of(tokens, "--tokens"), seq_len=seq_len, tp=tp,
        micro_batch=micro_batch, precision=precision, settings=tuple(settings or ()),
    )  # fmt: skip
    answer = kernel_book(
        asked.shape, asked.workload, tokens=asked.tokens, tp=asked.tp, micro_batch=asked.micro_batch
    )
    lines = slopes()
    if json:
        from shapewright.cli.answer import document
        from shapewright.cli.common import print_json

        print_json({**document(answer), "generations": [asdict(line) for line in lines]})
        if report is None and charts is None:
            return
    deliver(answer, lambda: kernels_view(answer, lines), json=json, report=report, charts=charts, force=force)
