"""``shapewright ladder``: train a family of small models here, for a law, or to tell whether an idea is worth it."""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from shapewright.cli import options as o
from shapewright.cli.common import out, print_json, talk
from shapewright.errors import UnknownNameError, UsageError
from shapewright.lab.needs import require_torch

if TYPE_CHECKING:
    from shapewright.lab.corpus import Corpus
    from shapewright.lab.rungs import Plan

app = typer.Typer(
    name="ladder",
    help="Train small models of growing size: for a law of your own corpus, or to compare ideas.",
    no_args_is_help=True,
    rich_markup_mode="rich",
)
Workers = Annotated[
    int | None, typer.Option(help="Processes, one thread each; by default one per core, or per CUDA device.")
]
BUSY = 1.2
"""A machine on which a second of work takes longer than this on the wall is said to be busy."""
Engine = Annotated[
    str, typer.Option(help="local, or ray: the machines of a Ray cluster that share the folder.")
]


@app.command("run")
def run(
    minutes: Annotated[float, typer.Option(help="Time for the whole ladder, on the wall.")] = 30.0,
    folder: Annotated[Path, typer.Option("--out", help="Folder of the ladder.")] = Path("ladder"),
    data: Annotated[
        Path | None,
        typer.Option(help="A text file or a folder of them; by default Python's standard library."),
    ] = None,
    arm: Annotated[
        list[str] | None,
        typer.Option("--arm", help="Compare this with others, the base first; see: ladder arms."),
    ] = None,
    seeds: Annotated[int, typer.Option(help="Most seeds of each rung, where arms are compared.")] = 3,
    workers: Workers = None,
    engine: Engine = "local",
    json: o.Json = False,
) -> None:
    """Tune the rate, climb the rungs, and write runs.csv and report.html.

    Alone: as many sizes as fit the minutes, each trained to several lengths,
    for a law. With --arm: every arm at every rung and seed, each with rates of
    its own, then the verdict. Finished runs are kept at once; what time cuts
    off is named, and done by: ladder resume.

    Example: shapewright ladder run --minutes 10 --arm transformer --arm lstm
    """
    began = time.monotonic()
    if not 0 < minutes < float("inf"):
        raise UsageError(
            f"--minutes (={minutes:g}) is not positive", "a ladder takes time", "try: --minutes 30"
        )
    require_torch("shapewright ladder")
    device, count = _where(workers)
    arms = _arms(arm, seeds, engine)
    if (folder / "ladder.json").exists():
        raise UsageError(
            f"{folder} holds a ladder already", "nothing on disk is overwritten without being asked",
            f"go on with it: shapewright ladder resume {folder}",
        )  # fmt: skip
    import torch

    from shapewright.cli.ladder_watch import climb_and_show
    from shapewright.lab.comparison import LAYOUTS
    from shapewright.lab.corpus import read_corpus
    from shapewright.lab.ladder import Clock, save_plan
    from shapewright.lab.rungs import RUNGS
    from shapewright.lab.state import only_one
    from shapewright.scaling.gain_verdict import MIN_RUNGS

    torch.set_num_threads(1)
    corpus = read_corpus(data)
    clock = Clock(began=began, seconds=60.0 * minutes)
    plan, slower = _plan(clock, corpus, arms, seeds, count, str(data.resolve()) if data else None, device)
    what = f"{', '.join(arms)} at " if arms else ""
    several = f", {plan.seeds} seed{'s' * (plan.seeds > 1)}" if arms else ""
    sizes = LAYOUTS if arms else RUNGS
    smallest, largest = sizes[0], sizes[plan.top]
    talk().print(
        f"{what}{plan.top + 1} sizes{several}, {smallest[0]}x{smallest[1]} to {largest[0]}x{largest[1]}, to "
        f"{plan.top_ratio} tokens per parameter, on {corpus.name}: about {plan.expected_seconds / 60:.1f} core-minutes in "
        f"{count} process{'es' * (count > 1)}", markup=False,
    )  # fmt: skip
    if slower > BUSY:
        late = plan.expected_seconds / count * slower > clock.left
        more = ": not all will be done in time, and ladder resume does the rest" if late else ""
        talk().print(f"this machine is busy, a second of work takes {slower:.1f} on the wall{more}")
    if arms and plan.top + 1 < MIN_RUNGS:
        talk().print(
            f"{plan.top + 1} sizes bring no verdict, only slopes: {MIN_RUNGS} do; give more --minutes"
        )
    with only_one(folder):
        save_plan(plan, folder)
    climb_and_show(plan, folder, count, engine, json, clock)


@app.command("arms")
def arms(json: o.Json = False) -> None:
    """List what a ladder can compare.

    Example: shapewright ladder arms
    """
    from shapewright.lab.arms import ARMS, BASE

    if json:
        print_json({name: text for name, (text, _) in ARMS.items()})
        return
    for name, (text, _) in ARMS.items():
        out().print(f"{name:18} {text}{' (the base)' if name == BASE else ''}", markup=False)


@app.command("resume")
def resume(
    folder: Annotated[Path, typer.Argument(help="Folder of a ladder.")],
    minutes: Annotated[
        float | None, typer.Option(help="Stop after this time; without it when all is done.")
    ] = None,
    workers: Workers = None,
    engine: Engine = "local",
    json: o.Json = False,
) -> None:
    """Go on with a ladder that was cut, from its last checkpoints.

    Example: shapewright ladder resume ladder
    """
    began = time.monotonic()
    if minutes is not None and not 0 < minutes < float("inf"):
        raise UsageError(f"--minutes (={minutes:g}) is not positive", "runs take time", "leave it out")
    _engine(engine)
    require_torch("shapewright ladder")
    device, count = _where(workers)
    from shapewright.cli.ladder_watch import climb_and_show
    from shapewright.lab.corpus import read_corpus
    from shapewright.lab.ladder import Clock, load_plan

    plan = load_plan(folder)
    if plan.device != device:
        raise UsageError(
            f"the ladder in {folder} was begun on {plan.device}", f"this machine would go on with it on {device}",
            "resume it on a machine as before, or start a new ladder",
        )  # fmt: skip
    if read_corpus(Path(plan.data) if plan.data else None).digest != plan.digest:
        raise UsageError(
            f"the corpus of {folder} has changed", "runs on other text cannot be joined with those that are finished",
            "restore the text, or start a new ladder",
        )  # fmt: skip
    clock = None if minutes is None else Clock(began=began, seconds=60.0 * minutes)
    climb_and_show(plan, folder, count, engine, json, clock)


def _plan(
    clock: Any,
    corpus: Corpus,
    arms: tuple[str, ...],
    seeds: int,
    workers: int,
    data: str | None,
    device: str,
) -> tuple[Plan, float]:
    """The largest plan for the time that is left, and how much longer a second of work takes here."""
    from shapewright.lab.arms import BASE
    from shapewright.lab.comparison import LAYOUTS, choose_comparison, sweeps_for
    from shapewright.lab.energy import power_here
    from shapewright.lab.ladder_run import pace_of
    from shapewright.lab.rungs import Layout, Pace, Plan, TooShortError, choose_top

    known: dict[tuple[str, Layout], Pace] = {}
    clocks: list[tuple[float, float]] = []

    def pace(name: str, layout: Layout) -> Pace:
        if (name, layout) not in known:
            known[name, layout], *both = pace_of(layout, corpus, name, device)
            clocks.append((both[0], both[1]))
        return known[name, layout]

    # Processes load their libraries and the text as this one just did.
    start = time.monotonic() - clock.began
    for layout in LAYOUTS[:4]:
        pace(arms[0] if arms else BASE, layout)
    slower = max(sum(wall for _, wall in clocks) / sum(own for own, _ in clocks), 1.0)
    # The wall's seconds that are left, in seconds of work.
    seconds = max(clock.left - 2 * start, 1.0) / slower
    told: dict[str, Any] = dict(data=data, digest=corpus.digest, minutes=clock.seconds / 60, most_seeds=seeds,
                                device=device)  # fmt: skip

    def choose(seconds: float) -> dict[str, Any]:
        if arms:
            rungs, several, longest, total = choose_comparison(seconds, arms, seeds, pace, workers)
            return dict(top=rungs - 1, top_ratio=longest, expected_seconds=total, arms=arms, seeds=several,
                        swept=sweeps_for(rungs))  # fmt: skip
        top, ratio, total = choose_top(seconds, pace, workers)
        return dict(top=top, top_ratio=ratio, expected_seconds=total)

    try:
        found = choose(seconds)
    except TooShortError as error:
        if error.needed > clock.left - 2 * start:
            needed = error.needed * slower + 2 * start
            raise UsageError(
                f"--minutes (={clock.seconds / 60:g}) is too short for a ladder here",
                f"{error.what} take about {needed / 60:.1f} minutes in {workers} process{'es' * (workers > 1)} on this "
                f"machine{f', of which it is at work {1 / slower:.0%}' if slower > BUSY else ''}",
                f"give at least --minutes {int(1.2 * needed / 60) + 1}",
            ) from error  # fmt: skip
        # It would fit were the machine idle: what the clock then cuts off is said, and can be resumed.
        found = choose(error.needed)
    return Plan(**told, **found, power=power_here(device=device), paces=tuple(known.values())), slower


def _arms(arm: list[str] | None, seeds: int, engine: str) -> tuple[str, ...]:
    """The arms, each once."""
    if seeds < 1:
        raise UsageError(f"--seeds (={seeds}) must be at least 1", "every run has a seed", "leave it out")
    _engine(engine)
    if not arm:
        return ()
    if len(set(arm)) < 2:
        raise UsageError(
            f"--arm was given {len(set(arm))} name", "a comparison has a base and at least one other",
            f"for example: --arm transformer --arm {'lstm' if 'lstm' not in arm else 'delta'}",
        )  # fmt: skip
    from shapewright.lab.arms import arm_shape
    from shapewright.lab.rungs import RUNGS

    for name in arm:
        arm_shape(name, RUNGS[0])
    return tuple(dict.fromkeys(arm))


def _engine(engine: str) -> None:
    if engine not in ("local", "ray"):
        raise UnknownNameError("--engine", engine, ("local", "ray"))


def _where(workers: int | None) -> tuple[str, int]:
    """The device of the runs, and how many run at once: CUDA devices where there are any, else cores."""
    if workers is not None and workers < 1:
        raise UsageError(f"--workers (={workers}) must be at least 1", "something has to run", "leave it out")
    from shapewright.lab.pools import cuda_devices
    from shapewright.lab.training import default_device

    device = default_device(False)
    return device, workers or len(cuda_devices() if device == "cuda" else os.sched_getaffinity(0))
