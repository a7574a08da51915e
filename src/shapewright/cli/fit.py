"""``shapewright fit law``: a scaling law from a file of training runs, or a shipped law fitted again."""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from typer.core import TyperGroup

from shapewright.cli import options as o
from shapewright.errors import UsageError

if TYPE_CHECKING:
    from shapewright.hardware.accelerator import Accelerator
    from shapewright.hardware.calibration import Fit
    from shapewright.scaling.law import Law
    from shapewright.scaling.study import Study


class FileIsLaw(TyperGroup):
    """``fit FILE`` is ``fit law FILE``: a first word that ends in .csv, or is a file, names no command."""

    def resolve_command(self, ctx: Any, args: list[str]) -> Any:
        """The command and its arguments."""
        named = bool(args) and args[0] not in self.commands
        if named and (args[0].endswith(".csv") or Path(args[0]).is_file()):
            args = ["law", *args]
        return super().resolve_command(ctx, args)


app = typer.Typer(
    name="fit",
    cls=FileIsLaw,
    help="Fit laws and calibrations to measurements. fit FILE.csv is fit law FILE.csv.",
    no_args_is_help=True,
    rich_markup_mode="rich",
)


@app.callback()
def group() -> None:
    """Fit laws and calibrations to measurements."""


@app.command("law")
def law(
    file: Annotated[
        Path | None, typer.Argument(help="CSV of runs with params, tokens, loss (width, depth).")
    ] = None,
    form: Annotated[str, typer.Option(help="Loss family: chinchilla, overtrained or shape.")] = "chinchilla",
    name: Annotated[str, typer.Option(help="Name of the law; the file's by default.")] = "",
    where: Annotated[list[str] | None, typer.Option(help="Keep rows: column=value[,value].")] = None,
    drop_bad: Annotated[
        bool, typer.Option("--drop-bad", help="Leave out rows that cannot be fitted.")
    ] = False,
    vocab: Annotated[int | None, typer.Option(help="Vocabulary of the runs (form shape).")] = None,
    seq_len: Annotated[int, typer.Option(help="Training context of the runs (form shape).")] = 2048,
    bootstraps: Annotated[int, typer.Option(min=10, help="Resamples behind the intervals.")] = 200,
    shipped: Annotated[str, typer.Option(help="Fit a shipped law again, by name.")] = "",
    data: Annotated[Path | None, typer.Option(help="Folder of the shipped law's data files.")] = None,
    out: Annotated[Path | None, typer.Option("--out", "-o", help="Write the law as TOML.")] = None,
    force: o.Force = False,
    json: o.Json = False,
) -> None:
    """Fit a scaling law and say how far to trust it.

    Example: shapewright fit law runs.csv --form chinchilla --out mylaw.toml
    """
    from shapewright.cli.common import out as console
    from shapewright.cli.common import print_json, refuse_existing, talk, write_text
    from shapewright.scaling.lawfile import write_law

    refuse_existing(out, overwrite=force)
    if shipped:
        if file is not None or data is None:
            raise UsageError(
                "--shipped needs --data FOLDER and no file", "a shipped law has its own file and form",
                "shapewright fit law --shipped chinchilla --data FOLDER",
            )  # fmt: skip
        from shapewright.scaling.shipped import fit_shipped

        found, study = fit_shipped(shipped, data), None
    elif file is None:
        raise UsageError(
            "no file of runs",
            "fit law reads a CSV file",
            "shapewright fit law runs.csv, or --shipped NAME --data FOLDER",
        )
    else:
        from shapewright.scaling.userfile import study_file

        study = study_file(
            file, form=form, name=name, where=_conditions(where or []), drop_bad=drop_bad, vocab_size=vocab,
            seq_len=seq_len, draws=bootstraps, command="shapewright " + " ".join(sys.argv[1:]),
        )  # fmt: skip
        found = study.law
    if out is not None:
        write_text(out, write_law(found), overwrite=force)
        talk().print(f"wrote {out}")
    if json:
        print_json(_document(found, study))
    else:
        _show(console(), found, study)


@app.command("calibrations")
def calibrations(
    gpu: Annotated[
        list[str] | None, typer.Option(help="One accelerator; repeat for more; all by default.")
    ] = None,
    out: Annotated[Path, typer.Option("--out", "-o", help="Folder of the TOML files.")] = Path(
        "calibrations"
    ),
    shipped: Annotated[
        bool, typer.Option("--shipped", help="Write over the calibrations that ship with the package.")
    ] = False,
    power: Annotated[
        Path | None,
        typer.Option(help="Folder of kernels with measured power; without it power stays as shipped."),
    ] = None,
    force: o.Force = False,
    json: o.Json = False,
) -> None:
    """Fit the kernels of every measured accelerator again, from the installed tables.

    Example: shapewright fit calibrations --gpu h100_sxm --out calibrations
    """
    from rich.progress import Progress, TextColumn, TimeElapsedColumn

    from shapewright.cli.common import out as console
    from shapewright.cli.common import print_json, refuse_existing, talk, write_text
    from shapewright.hardware.calibration_file import save_calibration
    from shapewright.hardware.catalog import DATA, load_accelerator
    from shapewright.lab.calibrate import calibrate_accelerator
    from shapewright.validation.silicon import FOLDERS, measured_tables, tables_root, version_remark

    tables_root()
    names = [load_accelerator(name).name for name in gpu] if gpu else list(FOLDERS.values())
    folder = DATA / "calibrations" if shipped else out
    refuse_existing(*(folder / f"{name}.toml" for name in names), overwrite=force or shipped)
    talker = talk()
    remark = version_remark()
    if remark:
        talker.print(remark)
    results, notes = [], []
    columns = (*Progress.get_default_columns()[:2], TextColumn("{task.description}"), TimeElapsedColumn())
    with Progress(*columns, console=talker) as progress:
        task = progress.add_task("reading", total=len(names))
        for name in names:
            progress.update(task, description=f"{name}: reading")
            tables, skipped = measured_tables(name)
            notes += [f"{item.where}: {item.reason} ({item.count})" for item in skipped]
            accelerator = load_accelerator(name)
            found, failed = calibrate_accelerator(
                accelerator, tables, tick=lambda text: progress.update(task, description=text)
            )
            notes += failed
            found = replace(found, fits=(*found.fits, *_power_fits(accelerator, power, notes)))
            write_text(folder / f"{name}.toml", save_calibration(found), overwrite=True)
            results += [
                {"accelerator": name, "family": fit.family, "format": fit.number_format, "rows": fit.num_rows,
                 "held_out": fit.num_held_out, "median_ape": fit.median_error, "p90_ape": fit.p90_error}
                for fit in found.fits
            ]  # fmt: skip
            progress.advance(task)
    for note in notes:
        talker.print(f"skipped: {note}", markup=False)
    talker.print(f"wrote {len(names)} files to {folder}")
    if json:
        print_json({"fits": results, "skipped": notes})
        return
    for row in results:
        name = f"{row['accelerator']}/{row['family']}/{row['format']}"
        errors = f"median {row['median_ape']:.1%}, p90 {row['p90_ape']:.1%} on {row['held_out']} held out"
        console().print(f"{name}: {row['rows']} rows, {errors}", markup=False, soft_wrap=True)


def _power_fits(accelerator: Accelerator, folder: Path | None, notes: list[str]) -> tuple[Fit, ...]:
    """The fit of the board's power: from ``folder``, or as shipped where no folder is named."""
    from shapewright.errors import NotCoveredError
    from shapewright.hardware.catalog import load_calibration

    try:
        if folder is None:
            return (load_calibration(accelerator).find("energy", "board"),)
        from shapewright.lab.calibrate_power import fit_power, read_power

        return (fit_power(read_power(folder, accelerator)),)
    except NotCoveredError as error:
        if folder is not None:
            notes.append(error.what)
        return ()


def _conditions(texts: list[str]) -> dict[str, list[str]]:
    conditions = {}
    for text in texts:
        column, sign, values = text.partition("=")
        if not sign or not column or not values:
            raise UsageError(
                f"--where (={text!r}) is not column=value",
                "rows are kept by equality",
                "--where subset=hot,cool_end",
            )
        conditions[column.strip()] = [value.strip() for value in values.split(",")]
    return conditions


def _document(found: Law, study: Study | None) -> dict[str, Any]:
    from dataclasses import asdict

    document = asdict(found)
    document["covariance"] = {
        "axes": list(found.form.axes()),
        "rows": [list(row) for row in found.covariance],
    }
    document["formula"] = found.form.formula
    document["parameter_sd"] = _spread(found)
    if study is not None:
        document["warnings"] = list(study.warnings)
        document["influence"] = [
            {"row": row if row >= 0 else None, "residual": residual, "change": change}
            for row, residual, change in study.influence
        ]
    return document


def _spread(found: Law) -> dict[str, float]:
    """Standard deviation of each fitted number; for a logarithm it is a fraction of the parameter."""
    return {axis: float(found.covariance[i][i] ** 0.5) for i, axis in enumerate(found.form.axes())}


def _show(console: Any, found: Law, study: Study | None) -> None:
    from rich.markup import escape
    from rich.table import Table

    console.print(f"[bold]{escape(found.name)}[/bold]  {escape(found.form.formula)}")
    console.print(
        f"rows {found.rows}, runs {found.runs}, size {_range(found, 'size')}, tokens {_range(found, 'tokens')}"
    )
    table = Table(show_edge=False)
    for title in ("parameter", "value", "sd of", ""):
        table.add_column(title, justify="right" if title == "value" else "left")
    for (parameter, value), (axis, sd) in zip(found.parameters.items(), _spread(found).items(), strict=True):
        table.add_row(parameter, f"{value:.5g}", axis, f"{sd:.3g}")
    console.print(table)
    for check in found.checks:
        shown = f"{100 * check.value:.2f} %" if check.unit == "fraction" else f"{check.value:.4g}"
        console.print(f"{check.name}: {shown}  ({check.how})")
    console.print(
        f"90 % interval of one run: +-{100 * 1.645 * found.residual_sd:.2f} %, and {100 * found.drift_per_decade:.2f} % "
        "(one sd) more per factor of ten of compute beyond"
    )
    if study is not None:
        _show_influence(console, study)
    for note in found.notes:
        console.print(f"- {escape(note)}")


def _show_influence(console: Any, study: Study) -> None:
    row, residual, change = study.influence[-1]
    moved = max(change, key=lambda name: abs(change[name]))
    count = len(study.influence) - 1
    console.print(
        f"without the {count} worst-fitted rows {moved} changes by {100 * change[moved]:+.1f} % "
        f"(they lie {100 * residual:.1f} % off on average)"
    )
    row, residual, change = study.influence[0]
    moved = max(change, key=lambda name: abs(change[name]))
    console.print(
        f"most influential: row {row + 1} ({-100 * residual:+.1f} %), without it {moved} {100 * change[moved]:+.1f} %"
    )


def _range(found: Law, name: str) -> str:
    from shapewright.units import format_count

    low, high = found.fitted_range[name]
    return f"{format_count(low)} to {format_count(high)}"


@app.command("frameworks")
def frameworks(
    data: Annotated[Path | None, typer.Option(help="CSV with the columns of published_training.csv.")] = None,
    out: Annotated[Path, typer.Option("--out", help="Folder for one TOML per framework.")] = Path(
        "frameworks"
    ),
    only: Annotated[str, typer.Option(help="Fit this generation only.")] = "",
    force: o.Force = False,
    json: o.Json = False,
) -> None:
    """Fit the handful of constants per framework generation to published training runs.

    Example: shapewright fit frameworks --data published_training.csv --out frameworks
    """
    from rich.progress import Progress

    from shapewright.cli.common import out as console
    from shapewright.cli.common import print_json, refuse_existing, talk, write_text
    from shapewright.cli.validate import data_file
    from shapewright.errors import UnknownNameError
    from shapewright.lab.frameworks import fit_generation
    from shapewright.plan.framework import to_toml
    from shapewright.validation.published import GENERATIONS, read_rows

    if only and only not in GENERATIONS:
        raise UnknownNameError("--only", only, GENERATIONS)
    rows, _ = read_rows(data_file(data, "published_training.csv"))
    names = [only] if only else list(GENERATIONS)
    refuse_existing(*(out / f"{name}.toml" for name in names), overwrite=force)
    fitted: list[dict[str, Any]] = []
    skipped: list[str] = []
    with Progress(console=talk(), transient=True) as progress:
        task = progress.add_task("fitting", total=None)
        for name in names:
            progress.update(task, description=name)
            try:
                found = fit_generation(name, rows, lambda: progress.advance(task))
            except ValueError as reason:
                talk().print(f"skipped: {reason}")
                skipped.append(str(reason))
                continue
            write_text(out / f"{name}.toml", to_toml(found), overwrite=force)
            fitted.append(
                {"framework": name, "rows": found.num_rows, "held_out": found.num_held_out,
                 "median_ape": found.median_error, "p90_ape": found.p90_error, "path": str(out / f"{name}.toml")}
            )  # fmt: skip
    if json:
        print_json({"frameworks": fitted, "skipped": skipped})
        return
    for row in fitted:
        console().print(
            f"{row['framework']}: {row['rows']} rows, held out {row['held_out']}: median error {row['median_ape']:.1%}, "
            f"90th percentile {row['p90_ape']:.1%}"
        )


@app.command("kernels")
def kernels(
    gpu: Annotated[
        list[str] | None, typer.Option(help="One accelerator; repeat for more; all by default.")
    ] = None,
    out: Annotated[Path, typer.Option("--out", "-o", help="The CSV to write.")] = Path("book.csv"),
    shipped: Annotated[
        bool, typer.Option("--shipped", help="Write over the book that ships with the package.")
    ] = False,
    force: o.Force = False,
    json: o.Json = False,
) -> None:
    """Write the kernel book again: the share of its roof that each measured kernel reaches, by name.

    Example: shapewright fit kernels --gpu h100_sxm --out book.csv
    """
    from shapewright.cli.common import print_json, refuse_existing, talk, write_text
    from shapewright.hardware.catalog import load_accelerator
    from shapewright.lab.kernel_book import build_book, write_book
    from shapewright.outlook.kernel_book import BOOK

    path = BOOK if shipped else out
    refuse_existing(path, overwrite=force or shipped)
    names = [load_accelerator(name).name for name in gpu] if gpu else None
    found = build_book(names, tick=lambda text: talk().print(text, markup=False))
    write_text(path, write_book(found), overwrite=force or shipped)
    talk().print(f"wrote {len(found)} kernels to {path}")
    if json:
        print_json({"path": str(path), "kernels": len(found)})
