"""``shapewright fit engines`` and ``fit recipes``: what predictions of serving rest on, written again."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from shapewright.cli import options as o
from shapewright.errors import UsageError


def engines(
    data: Annotated[
        Path | None,
        typer.Option(help="CSV with the columns of silicon_sample.csv; the installed one by default."),
    ] = None,
    out: Annotated[Path, typer.Option("--out", "-o", help="Folder of the TOML files.")] = Path("engines"),
    shipped: o.Shipped = False,
    force: o.Force = False,
    json: o.Json = False,
) -> None:
    """Fit the constants of vLLM, SGLang and TensorRT-LLM again, on the rows that are not held out.

    Example: shapewright fit engines --out engines
    """
    from importlib.resources import files

    from shapewright.cli.common import check_file, print_json, refuse_existing, talk, write_text
    from shapewright.cli.common import out as console
    from shapewright.lab.engines import NAMES, fit_engines, starts
    from shapewright.plan.engine import to_toml
    from shapewright.validation.serving_points import price_rows
    from shapewright.validation.serving_rows import installed_sample, read_serving

    check_file("--data", data, "a CSV file")
    folder = Path(str(files("shapewright"))) / "data" / "engines" if shipped else out
    paths = {name: folder / f"{name}.toml" for name in NAMES}
    refuse_existing(*paths.values(), overwrite=force or shipped)
    rows, _ = read_serving(data or installed_sample())
    points, _ = price_rows(rows, starts())
    talk().print(f"fitting {sum(not row.held_out for row in rows):,} of {len(rows):,} rows: some minutes")
    found = fit_engines(points)
    for name, engine in found.items():
        write_text(paths[name], to_toml(engine), overwrite=force or shipped)
    summary = [
        {"engine": name, "num_rows": engine.num_rows, "tpot_median_error": engine.tpot_median_error,
         "ttft_median_error": engine.ttft_median_error, "path": str(paths[name])}
        for name, engine in found.items()
    ]  # fmt: skip
    if json:
        print_json({"engines": summary})
        return
    for row in summary:
        console().print(
            f"{row['engine']}: {row['num_rows']:,} rows, output tokens {row['tpot_median_error']:.1%}, first token "
            f"{row['ttft_median_error']:.1%} median error; {row['path']}"
        )


def recipes(
    inferencex: Annotated[
        Path, typer.Option(help="Clone of github.com/SemiAnalysisAI/InferenceX, with its history.")
    ],
    srt_slurm: Annotated[
        Path, typer.Option("--srt-slurm", help="Clone of github.com/NVIDIA/srt-slurm, with its history.")
    ],
    out: Annotated[Path, typer.Option("--out", "-o", help="The CSV to write.")] = Path("inferencex.csv"),
    shipped: o.Shipped = False,
    force: o.Force = False,
    json: o.Json = False,
) -> None:
    """Write the table of published serving recipes again, from the histories of what publishes them.

    Example: shapewright fit recipes --inferencex InferenceX --srt-slurm srt-slurm
    """
    from importlib.resources import files

    from shapewright.cli.common import out as console
    from shapewright.cli.common import print_json, refuse_existing, talk, write_text
    from shapewright.lab.recipes import recipe_table

    for option, folder in (("--inferencex", inferencex), ("--srt-slurm", srt_slurm)):
        if not folder.is_dir():
            raise UsageError(
                f"{option} (={folder}) is not a folder", f"{option} names a clone", "check the path"
            )
    path = Path(str(files("shapewright"))) / "data" / "recipes" / "inferencex.csv" if shipped else out
    refuse_existing(path, overwrite=force or shipped)
    talk().print("reading every day's settings and the recipes that they name: some minutes")
    text = recipe_table(inferencex, srt_slurm)
    write_text(path, text, overwrite=force or shipped)
    count = len(text.splitlines()) - 1
    if json:
        print_json({"recipes": count, "path": str(path)})
        return
    console().print(f"{count:,} recipes; {path}")
