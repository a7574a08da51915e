"""``shapewright fit run``: let training runs move this machine's calibration and a local law."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from shapewright.cli import options as o
from shapewright.cli.common import out, print_json, talk, write_text
from shapewright.errors import UsageError

if TYPE_CHECKING:
    from shapewright.lab.learn import Ran


def command(
    runs: Annotated[list[Path], typer.Argument(help="Folders of finished runs of shapewright train.")],
    on: Annotated[
        Path | None, typer.Option("--on", help="This machine's file; its step times follow the runs'.")
    ] = None,
    law: Annotated[
        Path | None,
        typer.Option(
            "--law",
            help="Local law; begun from the first run's law where it is not there. Follows the runs' losses.",
        ),
    ] = None,
    json: o.Json = False,
) -> None:
    """Let finished runs move this machine's calibration and a local law.

    What was measured is weighed against how well each was known. The file
    before is kept beside the new one, with a number. A run counts once.

    Example: shapewright fit run run --on this.toml --law local.toml
    """
    from shapewright.lab.learn import read_run

    if on is None and law is None:
        raise UsageError(
            "neither --on nor --law was given", "a run moves a machine's file, a law, or both",
            "for example: shapewright fit run run --on this.toml --law local.toml",
        )  # fmt: skip
    on = _machine_file(on)
    found = [read_run(folder) for folder in runs]
    told: list[dict[str, Any]] = [{"run": str(ran.folder), "name": ran.name} for ran in found]
    # Both are worked out before either is written: a run that one refuses moves neither.
    texts = {}
    if on is not None:
        texts[on] = _steps(found, on, told)
    if law is not None:
        texts[law] = _losses(found, law, told)
    written = []
    for path, text in texts.items():
        kept = _keep(path)
        write_text(path, text, overwrite=True)
        written.append({"path": str(path), "kept_as": str(kept) if kept else None})
        talk().print(
            f"wrote {path}" + (f"; the one before is {kept}" if kept else ""), markup=False, soft_wrap=True
        )
    if on is not None:
        from shapewright.lab.learn import predicted_step

        for each, ran in zip(told, found, strict=True):
            each["step_time_s"]["predicted_after"] = predicted_step(ran, str(on))
    if json:
        print_json({"runs": told, "written": written})
    else:
        _show(told, on, law)


def _machine_file(on: Path | None) -> Path | None:
    """The file that ``--on`` names, ``this`` for ``this.toml``; catalogue entries are nobody's machine."""
    if on is None or on.is_file():
        return on
    if (named := on.with_name(f"{on.name}.toml")).is_file():
        return named
    raise UsageError(
        f"--on (={str(on)!r}) is not a file here", "runs move the file of the machine that ran them",
        "name the one that shapewright measure wrote: --on this.toml",
    )  # fmt: skip


def _steps(found: list[Ran], on: Path, told: list[dict[str, Any]]) -> str:
    """The machine's file after the runs; what each measured is added to ``told``."""
    import tempfile

    from shapewright.hardware.accelerator_file import save_accelerator
    from shapewright.hardware.catalog import load_accelerator, load_calibration
    from shapewright.lab.learn import learn_step

    accelerator = load_accelerator(str(on))
    fits = load_calibration(accelerator).fits
    text = ""
    with tempfile.TemporaryDirectory() as folder:
        now = on
        for i, (ran, each) in enumerate(zip(found, told, strict=True)):
            accelerator, fits, before = learn_step(ran, str(now), accelerator, fits)
            text = save_accelerator(accelerator, fits)
            now = Path(folder) / f"{on.stem}_{i}.toml"
            now.write_text(text, encoding="utf-8")
            each["step_time_s"] = {"measured": ran.result["step_time_s"], "predicted_before": before}
    return text


def _losses(found: list[Ran], path: Path, told: list[dict[str, Any]]) -> str:
    """The law after the runs; what each measured is added to ``told``."""
    from shapewright.lab.learn import observation, plain_loss
    from shapewright.scaling.law import BYTES_LAW, load_law
    from shapewright.scaling.lawfile import write_law
    from shapewright.scaling.local import updated

    law = load_law(str(path) if path.exists() else found[0].design.run.law or BYTES_LAW)
    seen = []
    for ran, each in zip(found, told, strict=True):
        observed = observation(ran, law)
        before = plain_loss(ran.design, law, observed.tokens) * observed.expected
        command = f"shapewright fit run {ran.folder} --law {path}"
        law = updated(law, observed, name=path.stem, command=command)
        each["loss"] = {"unit": law.unit, "measured": observed.loss, "predicted_before": before}
        seen.append(observed)
    for ran, observed, each in zip(found, seen, told, strict=True):
        each["loss"]["predicted_after"] = plain_loss(ran.design, law, observed.tokens) * observed.expected
    return write_law(law)


def _keep(path: Path) -> Path | None:
    """Copy a file that is about to be replaced to the first free number beside it."""
    if not path.exists():
        return None
    number = 1
    while (kept := path.with_name(f"{path.stem}.{number}{path.suffix}")).exists():
        number += 1
    write_text(kept, path.read_text(encoding="utf-8"), overwrite=False)
    return kept


def _show(told: list[dict[str, Any]], on: Path | None, law: Path | None) -> None:
    from rich.table import Table

    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0))
    for title in ("run", "", "measured", "predicted then", "now"):
        table.add_column(title, justify="left" if title in ("run", "") else "right")
    for each in told:
        for key, label, scale, digits in (("step_time_s", "step, ms", 1e3, 2), ("loss", "nat/byte", 1.0, 4)):
            if key in each:
                values = (
                    each[key][name] * scale for name in ("measured", "predicted_before", "predicted_after")
                )
                table.add_row(each["name"], label, *(f"{value:.{digits}f}" for value in values))
    console = out()
    console.print(table)
    hardware = "HARDWARE" if on is None else "this" if on == Path("this.toml") else str(on)
    option = f" --law {law}" if law is not None else ""
    console.print(f"next: shapewright design {hardware} --minutes 10{option}", markup=False, soft_wrap=True)
