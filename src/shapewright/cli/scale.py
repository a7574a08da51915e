"""``shapewright scale``: any architecture from one device to a million."""

from __future__ import annotations

from typing import Annotated

import typer

from shapewright.cli import options as o
from shapewright.cli.answer import Charts, Report, deliver
from shapewright.errors import UsageError


def command(
    architectures: Annotated[
        list[str],
        typer.Argument(help="Primitives (transformer, lstm, kda, ...), known models or config files."),
    ],
    on: Annotated[str, typer.Option("--on", help="Accelerator, e.g. h100_sxm.")] = "h100_sxm",
    devices: Annotated[str, typer.Option(help="FIRST..LAST or N,N,N.")] = "1..1e6",
    size: Annotated[str, typer.Option(help="Parameters of the primitives' models.")] = "7B",
    seq_len: Annotated[str, typer.Option("--seq-len", help="Tokens per sequence.")] = "8192",
    tokens: Annotated[
        str | None, typer.Option(help="Tokens of a step (default: 4M; with --weak 16k, of a device).")
    ] = None,
    weak: Annotated[bool, typer.Option("--weak", help="The batch grows with the devices.")] = False,
    critical_batch: Annotated[
        str | None, typer.Option("--critical-batch", help="With --weak: tokens at which progress halves.")
    ] = None,
    sync: Annotated[
        str, typer.Option(help="all-reduce, diloco, streaming, gossip or compressed.")
    ] = "all-reduce",
    every: Annotated[int, typer.Option(help="Steps between exchanges of a seldom --sync.")] = 100,
    at: Annotated[int | None, typer.Option(help="Devices for the break-even of wires.")] = None,
    alpha: Annotated[
        str | None, typer.Option(help="Latency between nodes, e.g. 2us, or INNER,OUTER.")
    ] = None,
    beta: Annotated[
        str | None, typer.Option(help="Bandwidth between nodes, e.g. 100GB/s, or INNER,OUTER.")
    ] = None,
    precision: o.PrecisionName = None,
    settings: o.Settings = None,
    report: Report = None,
    charts: Charts = None,
    force: o.Force = False,
    json: o.Json = False,
) -> None:
    """Show time, efficiency, energy and price per token over device counts, and what binds where.

    Example: shapewright scale transformer lstm gated_deltanet --on h100_sxm
    """
    from shapewright.outlook.requests import architecture, scale_problem
    from shapewright.outlook.scale_problem import SYNCS, device_counts
    from shapewright.outlook.scaling import scaling
    from shapewright.report.scale_view import scale_view
    from shapewright.units import parse_quantity

    o.positive({"every": every, "at": at})
    if sync not in SYNCS:
        raise UsageError(
            f"--sync (={sync!r}) is not known", f"known: {', '.join(SYNCS)}", "try --sync diloco"
        )
    counts = device_counts(devices)
    if at is not None:
        (at,) = device_counts(str(at))
    params = parse_quantity(size, "1", "--size")
    problem = scale_problem(
        on, int(counts.max()), seq_len=int(parse_quantity(seq_len, "1", "--seq-len")),
        tokens=parse_quantity(tokens, "1", "--tokens") if tokens is not None else 16_384.0 if weak else 2.0**22, weak=weak,
        critical_batch=o.tokens_of(critical_batch, "--critical-batch"),
        sync=sync, every=every, precision=precision, alpha=alpha, beta=beta, settings=tuple(settings or ()),
    )  # fmt: skip
    shapes = [architecture(name, params) for name in dict.fromkeys(architectures)]
    answer = scaling(shapes, problem, counts, at=None if at is None else int(at))
    deliver(answer, lambda: scale_view(answer), json=json, report=report, charts=charts, force=force)
