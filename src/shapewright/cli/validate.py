"""``shapewright validate``: predictions against measurements, misses shown."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any

import typer

from shapewright.cli import options as o
from shapewright.cli import validate_lab
from shapewright.errors import UsageError

USUAL_DATA = "../shared/data"
"""Folder of reference data where SHAPEWRIGHT_DATA names none: beside the repository, as the tests look for it."""
app = typer.Typer(
    name="validate",
    help="Score predictions against measurements.",
    no_args_is_help=True,
    rich_markup_mode="rich",
)


app.command("lab")(validate_lab.command)


@app.callback()
def group() -> None:
    """Score predictions against measurements."""


def data_file(given: Path | None, name: str) -> Path:
    """The file to read: the one named, or ``name`` in the folder of reference data.

    Raises:
        UsageError: it is not there.
    """
    folder = os.environ.get("SHAPEWRIGHT_DATA")
    path = given or Path(folder or USUAL_DATA) / name
    if path.exists():
        return path
    raise UsageError(
        f"{path} does not exist"
        if given or folder
        else "neither --data nor SHAPEWRIGHT_DATA names measurements",
        "they are read where they are; the project ships none",
        f"name a file with the same columns: --data FILE, or set SHAPEWRIGHT_DATA to a folder with {name}",
    )


def print_slices(slices: Iterable[Mapping[str, Any]], skipped: int) -> None:
    """Print the table that every sub-command ends with."""
    from rich.table import Table

    from shapewright.cli.common import out

    table = Table(box=None, pad_edge=False)
    for column in ("slice", "rows", "done", "median", "p90", "bias", "in 90 %", "baseline"):
        table.add_column(column, justify="left" if column == "slice" else "right", overflow="fold")
    for row in slices:
        table.add_row(
            row["name"],
            f"{row['count']:,}",
            f"{row['covered']:,}",
            *(f"{row[key]:.1%}" for key in ("median_ape", "p90_ape")),
            f"{row['bias']:+.1%}",
            *(f"{row[key]:.0%}" for key in ("coverage_90", "baseline_median_ape")),
        )
    out().print(table)
    if skipped:
        out().print(f"{skipped:,} rows were not predicted; --json lists each with its reason")


@app.command("training")
def training(
    data: Annotated[Path | None, typer.Option(help="CSV with the columns of published_training.csv.")] = None,
    kernels_alone: Annotated[
        bool, typer.Option("--kernels-alone", help="Leave out the framework constants.")
    ] = False,
    worst: Annotated[int, typer.Option(min=0, help="Rows with the largest errors to list.")] = 10,
    json: o.Json = False,
) -> None:
    """Predict published training steps from their stated configurations only.

    Example: shapewright validate training --data published_training.csv
    """
    from shapewright.cli.common import out, print_json
    from shapewright.plan.framework import KERNELS_ALONE
    from shapewright.validation.order import orders
    from shapewright.validation.published import read_rows
    from shapewright.validation.reasons import reason
    from shapewright.validation.training import as_json as document
    from shapewright.validation.training import framework_of, memory_slices, natural_keys, predict, slices

    rows, unasked = read_rows(data_file(data, "published_training.csv"))
    points, failed = predict(rows, (lambda _: KERNELS_ALONE) if kernels_alone else framework_of)
    found = [*slices(points, [*unasked, *failed], natural_keys), *memory_slices(points)]
    result = document(found, [*unasked, *failed])
    result["order"] = [asdict(order) for order in orders(points)]
    missed = sorted(points, key=lambda p: -abs(p.error))[:worst]
    result["worst"] = [
        {"row": p.row.id, "predicted_s": p.predicted, "measured_s": p.row.step_time, "error": p.error,
         "reason": reason(p)}
        for p in missed
    ]  # fmt: skip
    if json:
        print_json(result)
        return
    print_slices(result["slices"], len(result["skipped"]))
    for order in result["order"]:
        out().print(
            f"order of plans, {order['name']}: {order['right']:.1%} of {order['pairs']:,} pairs right"
        )
    for p in missed:
        out().print(
            f"{p.row.id}: {p.row.shape.name} on {p.row.cluster.name}, predicted {p.predicted:.4g} s, "
            f"measured {p.row.step_time:.4g} s ({p.error:+.0%}): {reason(p)}"
        )


@app.command("kernels")
def kernels(
    gpu: Annotated[str | None, typer.Option(help="One accelerator; all with tables by default.")] = None,
    family: Annotated[
        str | None, typer.Option(help="One family: gemm, context_attention, moe, nccl, ...")
    ] = None,
    number_format: Annotated[str | None, typer.Option("--format", help="One format: bf16, fp8, ...")] = None,
    level: Annotated[
        str, typer.Option(help="physics, or residual (physics and measured neighbours).")
    ] = "physics",
    unmeasured: Annotated[
        bool, typer.Option("--unmeasured", help="Price each device by its relatives, its own fits left out.")
    ] = False,
    by: Annotated[
        str | None, typer.Option(help="A dimension whose values become slices: head_dim, ...")
    ] = None,
    unseen: Annotated[
        str | None,
        typer.Option(help="Dimensions of whose tuples a fifth is left out: n,k. Needs --level residual."),
    ] = None,
    data: Annotated[
        Path | None,
        typer.Option(
            help="CSV: accelerator, family, format, latency_s and the family's dimensions (m, n, k)."
        ),
    ] = None,
    json: o.Json = False,
) -> None:
    """Predict measured kernels that were never fitted, beside a plain roofline.

    Example: shapewright validate kernels --gpu h100_sxm --family gemm
    """
    from shapewright.cli.common import check_file, print_json, talk
    from shapewright.cli.options import level_named
    from shapewright.hardware.catalog import load_accelerator
    from shapewright.lab.calibrate import REPORT_PARTS
    from shapewright.validation import kernels as rows
    from shapewright.validation.silicon import measured_tables, version_remark
    from shapewright.validation.views import View

    level_named(level)
    if (unseen or unmeasured) and (level == "residual") is not bool(unseen):
        raise UsageError(
            f"--{'unseen' if unseen else 'unmeasured'} does not go with --level {level}",
            "unseen sizes are left out of the residual level; an unmeasured device has none",
            "try: --unseen n,k --level residual, or --unmeasured alone",
        )
    view = View(unmeasured=unmeasured, by=by, unseen=tuple(unseen.split(",")) if unseen else ())
    name = load_accelerator(gpu).name if gpu is not None else None
    if data is not None:
        check_file("--data", data, "a CSV file")
        found, skips = rows.read_file(data)
        tables = [table for table in found if name in (None, table.accelerator)]
        parts = None
    else:
        remark = version_remark()
        if remark:
            talk().print(remark)
        tables, left = measured_tables(name, family=family)
        skips = [rows.Skip(row=item.where, reason=item.reason, count=item.count) for item in left]
        parts = REPORT_PARTS
    chosen = rows.only(tables, family=family, number_format=number_format)
    scored, failed = rows.score_all(chosen, held_out=parts, with_residual=level == "residual", view=view)
    unread = len(skips) if data is not None else 0
    result = rows.document(rows.slices(scored, unread), [*skips, *failed])
    if json:
        print_json(result)
    else:
        print_slices(result["slices"], 0)
        lines = [
            f"skipped: {reason}: {count:,} rows"
            for reason, count in rows.by_reason([*skips, *failed]).items()
        ]
        for line in lines:
            talk().print(line, markup=False, soft_wrap=True)


@app.command("designs")
def designs(
    data: Annotated[Path | None, typer.Option(help="CSV with the columns of gemstones_train.csv.")] = None,
    json: o.Json = False,
) -> None:
    """Choose among measured shapes by predictions only, and score what the choice cost.

    Example: shapewright validate designs --data gemstones.csv
    """
    from shapewright.cli.common import out, print_json
    from shapewright.validation.designs import document, validate_designs
    from shapewright.validation.designs_text import lines

    path = data_file(data, "scaling/gemstones_train.csv")
    report = validate_designs(path, folder=None if data else path.parent)
    if json:
        print_json(document(report))
        return
    for line in lines(report):
        out().print(line)


@app.command("serving")
def serving(
    data: Annotated[
        Path | None,
        typer.Option(help="CSV with the columns of silicon_sample.csv; the installed one by default."),
    ] = None,
    worst: Annotated[int, typer.Option(min=0, help="Rows with the largest errors to list.")] = 5,
    peer: Annotated[
        int, typer.Option(min=0, help="Rows to ask aiconfigurator for, where installed (a second each).")
    ] = 0,
    detail: Annotated[
        bool, typer.Option("--detail", help="Slices by system, engine and model together.")
    ] = False,
    stated_only: Annotated[
        bool,
        typer.Option(
            "--stated-only",
            help="Take nothing from the recipes that were published for a run; defaults where a row is silent.",
        ),
    ] = False,
    json: o.Json = False,
) -> None:
    """Predict measured serving points from what they state, and their published recipes where they are silent.

    Example: shapewright validate serving
    """
    from shapewright.cli.common import check_file, out, print_json
    from shapewright.validation.serving import document, predict_file, slices
    from shapewright.validation.serving_rows import installed_sample

    check_file("--data", data, "a CSV file")
    points, skipped, count = predict_file(data or installed_sample(), recipes=not stated_only)
    if peer:
        from shapewright.validation.serving_peer import with_peer

        points = with_peer(points, peer)
    result = document(slices(points, count - len(points)), skipped)
    if json:
        print_json(result)
        return
    shown = [row for row in result["slices"] if detail or row["name"].count("/") <= 2]
    print_slices(shown, len(skipped))
    for row in result["slices"][: 2 if peer else 0]:
        if row["peer_covered"]:
            out().print(f"{row['name']}: aiconfigurator answered {row['peer_covered']} of {peer} rows: "
                        f"{row['peer_median_ape']:.1%} median, ours on them {row['median_ape_there']:.1%}")  # fmt: skip
    for point in sorted(points, key=lambda p: -abs(p.error(0)))[:worst]:
        out().print(
            f"{point.row.id}: predicted {point.predicted[0] * 1e3:.3g} ms per token, measured "
            f"{point.measured[0] * 1e3:.3g} ms; unstated: {', '.join(point.row.defaults) or 'nothing'}"
        )
