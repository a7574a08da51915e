"""``shapewright fit``: laws, calibrations, frameworks and engines from measurements."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from typer.core import TyperGroup

from shapewright.cli import fit_law
from shapewright.cli import options as o

if TYPE_CHECKING:
    from shapewright.hardware.accelerator import Accelerator
    from shapewright.hardware.calibration import Fit


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


app.command("law")(fit_law.command)


@app.callback()
def group() -> None:
    """Fit laws and calibrations to measurements."""


@app.command("calibrations")
def calibrations(
    gpu: Annotated[
        list[str] | None, typer.Option(help="One accelerator; repeat for more; all by default.")
    ] = None,
    out: Annotated[Path, typer.Option("--out", "-o", help="Folder of the TOML files.")] = Path(
        "calibrations"
    ),
    shipped: o.Shipped = False,
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
    shipped: o.Shipped = False,
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
