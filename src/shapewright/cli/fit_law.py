"""``shapewright fit law``: a scaling law from a file of training runs, or a shipped law fitted again."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from shapewright.cli import options as o
from shapewright.errors import UsageError

if TYPE_CHECKING:
    from shapewright.scaling.law import Law
    from shapewright.scaling.study import Study


def command(
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

    from shapewright.scaling.law import Z90

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
        f"90 % interval of one run: +-{100 * Z90 * found.residual_sd:.2f} %, and {100 * found.drift_per_decade:.2f} % "
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
