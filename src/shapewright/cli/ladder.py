"""``shapewright ladder``: train a family of small models here, from which a law is fitted."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from shapewright.cli import options as o
from shapewright.cli.common import out, print_json, talk
from shapewright.errors import MeasurementError, UnknownNameError, UsageError

if TYPE_CHECKING:
    from shapewright.lab.rungs import Plan

app = typer.Typer(
    name="ladder",
    help="Train small models of growing size, for a law of your own corpus.",
    no_args_is_help=True,
    rich_markup_mode="rich",
)
Workers = Annotated[int | None, typer.Option(help="Processes, one thread each; by default one per core.")]
Engine = Annotated[
    str, typer.Option(help="local, or ray: the machines of a Ray cluster that share the folder.")
]


@app.command("run")
def run(
    minutes: Annotated[float, typer.Option(help="Time for the whole ladder on an idle machine.")] = 30.0,
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
    """Tune the rate, climb the rungs, and write runs.csv.

    Alone: as many sizes as fit the minutes, each trained to several lengths,
    for a law. With --arm: every arm at every rung and seed, each with rates of
    its own, then the verdict. Finished runs are kept at once; go on after a
    cut with: ladder resume.

    Example: shapewright ladder run --minutes 10 --arm transformer --arm lstm
    """
    if not 0 < minutes < float("inf"):
        raise UsageError(
            f"--minutes (={minutes:g}) is not positive", "a ladder takes time", "try: --minutes 30"
        )
    count = _workers(workers)
    arms = _arms(arm, seeds, engine)
    if (folder / "ladder.json").exists():
        raise UsageError(
            f"{folder} holds a ladder already", "nothing on disk is overwritten without being asked",
            f"go on with it: shapewright ladder resume {folder}",
        )  # fmt: skip
    _require_torch()
    import torch

    from shapewright.lab.arms import BASE
    from shapewright.lab.comparison import LAYOUTS, RATIO, choose_comparison
    from shapewright.lab.corpus import read_corpus
    from shapewright.lab.ladder import save_plan, tokens_per_second
    from shapewright.lab.rungs import RUNGS, Layout, Plan, choose_top
    from shapewright.lab.state import only_one
    from shapewright.scaling.gain import MIN_RUNGS

    torch.set_num_threads(1)
    corpus = read_corpus(data)
    known: dict[tuple[str, Layout], float] = {}

    def rate(name: str, layout: Layout) -> float:
        if (name, layout) not in known:
            known[name, layout] = tokens_per_second(layout, corpus, name)
        return known[name, layout]

    told: dict[str, Any] = dict(
        data=str(data.resolve()) if data else None, digest=corpus.digest, minutes=minutes
    )
    if arms:
        rungs, seeds, seconds = choose_comparison(minutes, arms, seeds, rate, count)
        plan = Plan(top=rungs - 1, top_ratio=RATIO, expected_seconds=seconds, arms=arms, seeds=seeds, **told)
        sizes, what = LAYOUTS, f"{', '.join(arms)} at {rungs} sizes, {seeds} seed{'s' * (seeds > 1)}"
    else:
        top, ratio, seconds = choose_top(minutes, lambda layout: rate(BASE, layout), count)
        plan = Plan(top=top, top_ratio=ratio, expected_seconds=seconds, **told)
        sizes, what = RUNGS, f"{top + 1} sizes"
    smallest, largest = sizes[0], sizes[plan.top]
    talk().print(
        f"{what}, {smallest[0]}x{smallest[1]} to {largest[0]}x{largest[1]}, on {corpus.name}: about "
        f"{seconds / 60:.0f} core-minutes in {count} processes", markup=False,
    )  # fmt: skip
    if arms and plan.top + 1 < MIN_RUNGS:
        talk().print(
            f"{plan.top + 1} sizes bring no verdict, only slopes: {MIN_RUNGS} do; give more --minutes"
        )
    with only_one(folder):
        save_plan(plan, folder)
    _climb(plan, folder, count, engine, json)


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
    workers: Workers = None,
    engine: Engine = "local",
    json: o.Json = False,
) -> None:
    """Go on with a ladder that was cut, from its last checkpoints.

    Example: shapewright ladder resume ladder
    """
    count = _workers(workers)
    _require_torch()
    from shapewright.lab.corpus import read_corpus
    from shapewright.lab.ladder import load_plan

    plan = load_plan(folder)
    if read_corpus(Path(plan.data) if plan.data else None).digest != plan.digest:
        raise UsageError(
            f"the corpus of {folder} has changed", "runs on other text cannot be joined with those that are finished",
            "restore the text, or start a new ladder",
        )  # fmt: skip
    _climb(plan, folder, count, engine, json)


def _arms(arm: list[str] | None, seeds: int, engine: str) -> tuple[str, ...]:
    """The arms, each once."""
    if seeds < 1:
        raise UsageError(f"--seeds (={seeds}) must be at least 1", "every run has a seed", "leave it out")
    if engine not in ("local", "ray"):
        raise UnknownNameError("--engine", engine, ("local", "ray"))
    if not arm:
        return ()
    if len(set(arm)) < 2:
        raise UsageError(
            f"--arm was given {len(set(arm))} name", "a comparison has a base and at least one other",
            f"for example: --arm transformer --arm {'lstm' if 'lstm' not in arm else 'delta'}",
        )  # fmt: skip
    _require_torch()
    from shapewright.lab.arms import arm_shape
    from shapewright.lab.rungs import RUNGS

    for name in arm:
        arm_shape(name, RUNGS[0])
    return tuple(dict.fromkeys(arm))


def _climb(plan: Plan, folder: Path, workers: int, engine: str, json: bool) -> None:
    from shapewright.lab.ladder import climb, finished
    from shapewright.lab.state import only_one

    talker = talk()
    try:
        with only_one(folder):
            rates = climb(
                plan,
                folder,
                workers=workers,
                tell=lambda name: talker.print(f"finished {name}", markup=False),
                engine=engine,
            )
    except KeyboardInterrupt:
        raise MeasurementError(
            "the ladder was interrupted",
            f"what is finished stays in {folder}",
            f"go on: shapewright ladder resume {folder}",
        ) from None
    rows = finished(folder)
    if json:
        told = {
            arm: {"scale": r.scale, "power": r.power, "at_end": list(r.at_end)} for arm, r in rates.items()
        }
        print_json({"folder": str(folder), "rates": told, "runs": rows})
        return
    console = out()
    for arm, law in rates.items():
        console.print(
            f"{arm}: learning rate {law.scale:.3g} N^-{law.power:.3f}, N = parameters outside the embedding",
            markup=False,
        )
        if law.at_end:
            console.print("the best rate of some sweep is its first or last: rates are not tuned there")
    console.print(f"{len(rows)} runs in {folder / 'runs.csv'}", markup=False, soft_wrap=True)
    if plan.arms:
        _verdict(plan, folder)
    else:
        console.print(
            f"next: shapewright fit law {folder / 'runs.csv'} --where role=rung", markup=False, soft_wrap=True
        )


def _verdict(plan: Plan, folder: Path) -> None:
    from shapewright.cli.gain import show_gains
    from shapewright.scaling.gain_runs import read_gain_runs

    found = read_gain_runs(folder)
    out().print()
    show_gains(found, [*plan.arms[1:], plan.arms[0]])


def _workers(workers: int | None) -> int:
    if workers is not None and workers < 1:
        raise UsageError(f"--workers (={workers}) must be at least 1", "something has to run", "leave it out")
    return workers or len(os.sched_getaffinity(0))


def _require_torch() -> None:
    import importlib.util

    if importlib.util.find_spec("torch") is None:
        raise UsageError(
            "torch is not installed", "training runs on it", "install it: pip install 'shapewright[lab]'"
        )
