"""``shapewright gain``: is an idea worth compute, and does its worth grow with scale?"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, cast

import typer

from shapewright.cli import options as o
from shapewright.cli.answer import Charts, Report, deliver
from shapewright.errors import UnknownNameError, UsageError

if TYPE_CHECKING:
    from shapewright.outlook.gain_on import OnHardware
    from shapewright.scaling.gain import Gain
    from shapewright.scaling.gain_runs import Runs
    from shapewright.scaling.gain_verdict import Tuning


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
    on: Annotated[
        str | None,
        typer.Option("--on", help="Tell the gain in seconds and joules of this hardware, e.g. h100_sxm."),
    ] = None,
    settings: o.Settings = None,
    report: Report = None,
    charts: Charts = None,
    force: o.Force = False,
    json: o.Json = False,
) -> None:
    """Compute-equivalent gain of NEW over BASE, in FLOP, seconds and joules.

    The verdict is a slope, not a point: null, constant, growing, shrinking,
    crossing, or inconclusive. Several new arms share the chance of error.

    On other hardware than the ladder's: --on prices both arms there.

    Example: shapewright gain lstm transformer --runs ladder --on h100_sxm
    """
    if len(arms) < 2:
        raise UsageError(
            f"{len(arms)} arm was named", "a gain compares a new arm with a base", "name the base last"
        )
    if len(set(arms)) < len(arms):
        raise UsageError(
            f"an arm was named twice: {' '.join(arms)}", "an arm has no gain over itself", "name each once"
        )
    if tuning not in (None, "tuned", "transferred", "untuned"):
        raise UnknownNameError("--tuning", str(tuning), ("tuned", "transferred", "untuned"))
    for option, value in (("--least", least), ("--floor-max", floor_max)):
        if value is not None and not 0 < value < float("inf"):
            raise UsageError(
                f"{option} (={value:g}) must be positive and finite", "it is a bound", "leave it out"
            )
    from shapewright.report.gain_view import gain_view
    from shapewright.scaling.gain_runs import read_gain_runs

    found = read_gain_runs(runs, by=by, loss=loss, flops=flops, least_flops=least)
    how: Tuning = cast("Tuning", tuning or found.tuning)
    gains = gains_of(found, arms, how, floor_max)
    asked = f"shapewright gain {' '.join(arms)} --runs {runs}"
    priced = None
    if on:
        priced = {n: _priced(found, g["flops"], n, arms[-1], on, settings) for n, g in gains.items()}
    deliver(
        {**document(found, arms[-1], how, gains), "hardware": on, "on_hardware": _plain(priced)},
        lambda: gain_view(found, arms[-1], how, gains, asked, hardware=on or "", priced=priced),
        json=json, report=report, charts=charts, force=force,
    )  # fmt: skip


def _priced(
    found: Runs, gain: Gain, new: str, base: str, on: str, settings: list[str] | None
) -> tuple[OnHardware, ...]:
    """The gain of one arm on other hardware."""
    from shapewright.lab.arms import priced_sizes
    from shapewright.lab.rungs import SEQ_LEN, TUNE_RATIO
    from shapewright.outlook.gain_on import gain_on

    lengths = [row.length for row in found.rows if row.arm == new and row.length is not None]
    costs = (float(gain.cost[0]), float(gain.cost[-1]))
    sizes = priced_sizes(new, base, costs, max(lengths, default=float(TUNE_RATIO)))
    return gain_on(gain, sizes, on, seq_len=SEQ_LEN, settings=tuple(settings or ()))


def _plain(priced: dict[str, tuple[OnHardware, ...]] | None) -> Any:
    from dataclasses import asdict

    return priced and {name: [asdict(each) for each in sizes] for name, sizes in priced.items()}


def gains_of(
    found: Runs, arms: list[str], tuning: Tuning, floor_max: float | None = None
) -> dict[str, dict[str, Gain]]:
    """The gain of every arm but the last over the last, by arm and unit of cost.

    Raises:
        UsageError: there are too few runs.
    """
    from shapewright.scaling.gain import compare

    return {
        name: {
            unit: compare(found.arm(name, unit), found.arm(arms[-1], unit), tuning=tuning, floor_max=floor_max,
                          comparisons=len(arms) - 1)
            for unit in found.costs
        }
        for name in arms[:-1]
    }  # fmt: skip


def document(
    found: Runs, base: str, tuning: Tuning, gains: Mapping[str, Mapping[str, Gain]]
) -> dict[str, Any]:
    """The answer as plain values."""
    from dataclasses import asdict

    import numpy as np

    def plain(value: Any) -> Any:
        if isinstance(value, dict):
            return {key: plain(each) for key, each in value.items()}
        if isinstance(value, (list, tuple)):
            return [plain(each) for each in value]
        return value.tolist() if isinstance(value, (np.ndarray, np.generic)) else value

    return {
        "source": found.source, "base": base, "tuning": tuning, "comparisons": len(gains), "diverged": found.dropped,
        "gains": {
            name: {unit: {**plain(asdict(gain)), "held_out_inside": gain.held_out_inside} for unit, gain in by_unit.items()}
            for name, by_unit in gains.items()
        },
    }  # fmt: skip
