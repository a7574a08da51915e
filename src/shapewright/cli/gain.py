"""``shapewright gain``: is an idea worth compute, and does its worth grow with scale?"""

from __future__ import annotations

import textwrap
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, cast

import typer

from shapewright.cli import options as o
from shapewright.cli.common import out, print_json, talk, write_text
from shapewright.errors import NotCoveredError, UnknownNameError, UsageError

if TYPE_CHECKING:
    from shapewright.scaling.gain import Gain, Tuning
    from shapewright.scaling.gain_runs import Runs

MEANING = {
    "null": "no gain", "constant gain": "a constant factor", "constant loss": "a constant factor below 1",
    "growing": "a step-change candidate", "shrinking": "worth less with scale", "crossing": "better or worse by scale",
    "inconclusive": "these runs cannot tell",
}  # fmt: skip
UNITS = {"flops": "FLOP", "seconds": "s", "joules": "J"}


def command(
    arms: Annotated[
        list[str], typer.Argument(help="One or more new arms, then the base.", metavar="NEW... BASE")
    ],
    runs: Annotated[
        Path, typer.Option("--runs", help="A ladder's folder, or a CSV file with one run per row.")
    ] = Path("ladder"),
    by: Annotated[str, typer.Option(help="Column that names the arm.")] = "arm",
    loss: Annotated[str, typer.Option(help="Column of the final loss.")] = "loss",
    flops: Annotated[str, typer.Option(help="Column of the training FLOP.")] = "flops",
    least: Annotated[float | None, typer.Option(help="Leave out runs of less than so many FLOP.")] = None,
    tuning: Annotated[
        str | None,
        typer.Option(
            help="tuned, transferred or untuned learning rates (default: the ladder's, else untuned)."
        ),
    ] = None,
    floor_max: Annotated[
        float | None, typer.Option(help="Upper bound of the shared floor of the loss.")
    ] = None,
    chart: Annotated[
        Path | None, typer.Option(help="Draw the gain over compute: a .svg, .png or .json file.")
    ] = None,
    force: o.Force = False,
    json: o.Json = False,
) -> None:
    """Compute-equivalent gain of NEW over BASE, in FLOP, seconds and joules.

    The verdict is a slope, not a point: null, constant, growing, shrinking,
    crossing, or inconclusive. Several new arms share the chance of error.

    Example: shapewright gain lstm transformer --runs ladder
    """
    if len(arms) < 2:
        raise UsageError(
            f"{len(arms)} arm was named", "a gain compares a new arm with a base", "name the base last"
        )
    if tuning not in (None, "tuned", "transferred", "untuned"):
        raise UnknownNameError("--tuning", str(tuning), ("tuned", "transferred", "untuned"))
    from shapewright.scaling.gain_runs import read_gain_runs

    found = read_gain_runs(runs, by=by, loss=loss, flops=flops, least_flops=least)
    how: Tuning = cast("Tuning", tuning or found.tuning)
    gains = _gains(found, arms, how, floor_max)
    if json:
        print_json(_document(found, arms[-1], how, gains))
    else:
        _show(found, arms[-1], how, gains)
    if chart is not None:
        _draw(chart, arms[-1], gains, force)


def show_gains(found: Runs, arms: list[str]) -> None:
    """What the verb says of a ladder's runs: every arm but the last over the last."""
    _show(found, arms[-1], found.tuning, _gains(found, arms, found.tuning, None))


def _gains(
    found: Runs, arms: list[str], tuning: Tuning, floor_max: float | None
) -> dict[str, dict[str, Gain]]:
    from shapewright.scaling.gain import compare

    return {
        name: {
            unit: compare(found.arm(name, unit), found.arm(arms[-1], unit), tuning=tuning, floor_max=floor_max,
                          comparisons=len(arms) - 1)
            for unit in found.costs
        }
        for name in arms[:-1]
    }  # fmt: skip


def _draw(path: Path, base: str, gains: dict[str, dict[str, Gain]], force: bool) -> None:
    import json as library

    from shapewright.report.charts import chart_png, chart_svg
    from shapewright.report.gains import gain_chart

    spec = gain_chart(base, {name: by["flops"] for name, by in gains.items()})
    if path.suffix == ".json":
        write_text(path, library.dumps(spec, indent=1), overwrite=force)
    elif path.suffix == ".svg":
        write_text(path, chart_svg(spec), overwrite=force)
    elif path.suffix == ".png":
        if path.exists() and not force:
            raise UsageError(
                f"{path} exists already", "nothing is overwritten without being asked", "add --force"
            )
        path.write_bytes(chart_png(spec))
    else:
        raise NotCoveredError(
            f"--chart (={path}) ends in {path.suffix!r}", "known: .svg, .png, .json", "try: gain.svg"
        )
    talk().print(f"wrote {path}", markup=False)


def _show(found: Runs, base: str, tuning: str, gains: dict[str, dict[str, Gain]]) -> None:
    from rich.table import Table

    from shapewright.units import format_quantity

    console = out()
    console.print(f"[bold]Request[/bold]    {', '.join(gains)} over {base} · {Path(found.source).name}")
    console.print(f"[bold]Assumed[/bold]    learning rates {tuning}; one floor of the loss for both arms")
    if len(gains) > 1:
        console.print(f"           {len(gains)} comparisons share the chance of error (Bonferroni)")
    for name, by_unit in gains.items():
        console.print()
        first = by_unit["flops"]
        console.print(f"[bold]{name}: {first.verdict}[/bold], {MEANING[first.verdict]}")
        for reason in first.reasons:
            for line in textwrap.wrap(reason, 66):
                console.print(f"           {line}", markup=False)
        table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0))
        for title in ("at", "gain", "90 % interval", ""):
            table.add_column(title, justify="left" if not title else "right")
        for unit, gain in by_unit.items():
            inside = list(zip(gain.cost, gain.gain, gain.gain_low, gain.gain_high, strict=True))
            for cost, value, low, high in (inside[0], inside[len(inside) // 2], inside[-1]):
                table.add_row(
                    format_quantity(float(cost), UNITS[unit]), f"{value:.2f}x", f"{low:.2f} to {high:.2f}", ""
                )
            if gain.held_out_inside and gain.verdict != "inconclusive":
                for cost, value, low, high in zip(
                    gain.beyond_cost, gain.beyond_gain, gain.beyond_low, gain.beyond_high, strict=True
                ):
                    table.add_row(format_quantity(float(cost), UNITS[unit]), f"{value:.2f}x", f"{low:.2f} to {high:.2f}",
                                  "extrapolated")  # fmt: skip
        console.print(table)
        console.print(
            f"slope      {first.slope:+.3f} ({first.slope_low:+.3f} to {first.slope_high:+.3f}) d ln gain / d ln FLOP"
        )
        console.print(
            f"power      a gain of {first.detectable_gain:.2f}x and a slope of {first.detectable_slope:.3f} would show; "
            f"floor {first.floor:.3f}"
        )
        for unit in ("seconds", "joules"):
            if unit in by_unit and by_unit[unit].verdict != first.verdict:
                console.print(f"in {unit}: {by_unit[unit].verdict}, {MEANING[by_unit[unit].verdict]}")
    console.print()
    missing = [unit for unit in UNITS if unit not in found.costs]
    if missing:
        console.print(f"[bold]Unknown[/bold]    gain in {' and '.join(missing)}: the runs do not state them")
    if "seconds" in found.costs:
        console.print(
            "[bold]Trust[/bold]      seconds are those of the machine that ran the ladder, and of no other"
        )
    console.print("[bold]Next[/bold]       see it: --chart gain.svg")


def _document(found: Runs, base: str, tuning: str, gains: dict[str, dict[str, Gain]]) -> dict[str, Any]:
    from dataclasses import asdict

    import numpy as np

    def plain(value: Any) -> Any:
        if isinstance(value, np.ndarray):
            return [float(v) if np.isfinite(v) else None for v in value]
        if isinstance(value, np.generic):
            return value.item()
        return value

    return {
        "source": found.source, "base": base, "tuning": tuning, "comparisons": len(gains),
        "gains": {
            name: {unit: {k: plain(v) for k, v in asdict(gain).items()} for unit, gain in by_unit.items()}
            for name, by_unit in gains.items()
        },
    }  # fmt: skip
