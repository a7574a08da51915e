"""``shapewright train``: train a design here, and say how its predictions did."""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, replace
from datetime import date
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, cast

import typer

from shapewright.cli import options as o
from shapewright.cli.common import out, print_json, refuse_existing, talk
from shapewright.errors import ShapewrightError, UnknownNameError, UsageError
from shapewright.lab.needs import require_torch

if TYPE_CHECKING:
    from rich.console import Console

    from shapewright.designs.document import Design
    from shapewright.lab.corpus import Corpus
    from shapewright.lab.state import Precision
    from shapewright.lab.team import Team
    from shapewright.lab.train import Outcome, Watch
    from shapewright.lab.training import Training


MOST_THREADS = 4096
"""No processor runs more."""


def command(
    design: Annotated[Path, typer.Argument(help="A design.json written by shapewright design.")],
    minutes: Annotated[
        float | None, typer.Option(help="Train for so long; by default for the design's tokens.")
    ] = None,
    steps: Annotated[int | None, typer.Option(help="Train for so many steps.")] = None,
    data: Annotated[
        Path | None,
        typer.Option(
            help="A text, JSONL or Parquet file, or a folder; by default Python's standard library."
        ),
    ] = None,
    tokenizer: Annotated[
        Path | None, typer.Option(help="A tokenizer.json; by default a byte is a token.")
    ] = None,
    folder: Annotated[Path, typer.Option("--out", help="Folder of log and checkpoints.")] = Path("run"),
    resume: Annotated[bool, typer.Option("--resume", help="Go on with the run in --out.")] = False,
    precision: Annotated[
        str, typer.Option(help="fp32, bf16, design (as predicted) or fastest (both are tried).")
    ] = "design",
    learning_rate: Annotated[float | None, typer.Option(help="Peak, in place of the recipe's.")] = None,
    tuned: Annotated[
        Path | None, typer.Option("--tuned", help="Run as shapewright tune --out FILE found fastest.")
    ] = None,
    threads: Annotated[
        int | None, typer.Option(help="CPU threads; by default those the machine was measured with.")
    ] = None,
    seed: Annotated[int, typer.Option(help="Of the weights and the order of the text.")] = 0,
    log_to: Annotated[
        str | None, typer.Option("--log-to", help="Also log to tensorboard, wandb or trackio.")
    ] = None,
    checkpoint: Annotated[
        Path | None,
        typer.Option("--checkpoint", help="Write the trained model for transformers to this folder."),
    ] = None,
    tp: Annotated[
        int | None, typer.Option("--tp", min=1, help="Processes that share each layer; others share batch.")
    ] = None,
    sharding: Annotated[
        str | None,
        typer.Option(help="What the others cut: none, optimizer, gradients or parameters (FSDP)."),
    ] = None,
    json: o.Json = False,
) -> None:
    """Train a design on text, byte by byte, and compare with what it predicted.

    The log is one JSON object per line. Ctrl-C saves; --resume goes on and
    ends with the same weights as if nothing had happened. Several processes
    or nodes, by the design's plan or --tp and --sharding:
    torchrun --nproc-per-node 2 --no-python shapewright train design.json

    Example: shapewright train design.json --minutes 10 --out run
    """
    _check(minutes, steps, precision, learning_rate, threads)
    if log_to is not None:
        from shapewright.lab.loggers import KNOWN

        if log_to not in KNOWN:
            raise UnknownNameError("--log-to", log_to, KNOWN)
    require_torch("shapewright train")
    from shapewright.lab.team import started

    with _one_voice(started()):
        _train(
            design, minutes, steps, data, tokenizer, folder, resume, precision, learning_rate, tuned, threads, seed,
            log_to, checkpoint, tp, sharding, json,
        )  # fmt: skip


@contextmanager
def _one_voice(processes: int) -> Iterator[None]:
    """What goes wrong is said by the first of several processes only; all end with its exit code."""
    try:
        yield
    except ShapewrightError as error:
        if processes > 1 and os.environ["RANK"] != "0":
            raise typer.Exit(error.exit_code) from error
        raise


def _train(
    design: Path, minutes: float | None, steps: int | None, data: Path | None, tokenizer: Path | None, folder: Path,
    resume: bool, precision: str, learning_rate: float | None, tuned: Path | None, threads: int | None, seed: int,
    log_to: str | None, checkpoint: Path | None, tp: int | None, sharding: str | None, json: bool,
) -> None:  # fmt: skip
    from shapewright.designs.files import load_design

    found = load_design(design)
    choice = None if tuned is None else _choice(tuned)
    if choice is not None:
        precision, threads = choice.pop("precision"), threads or choice.pop("threads")
        choice.pop("threads", None)
    on_cpu, chosen_threads = _where(found, threads)
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    import torch

    from shapewright.lab.corpus import read_corpus
    from shapewright.lab.export import config_of, write_checkpoint
    from shapewright.lab.loggers import both, logger
    from shapewright.lab.state import check_suits, write_atomic
    from shapewright.lab.team import choose_layout, started, team_of
    from shapewright.lab.train import train
    from shapewright.lab.training import default_device, keep_freed_memory
    from shapewright.scaling.protocol_ladder import FEWEST_STEPS

    torch.set_num_threads(chosen_threads)
    keep_freed_memory()
    if choice is not None and started() > 1:
        raise UsageError(
            f"--tuned (={str(tuned)!r}) was measured in one process", f"{started()} run", "leave --tuned out"
        )
    device = default_device(on_cpu)
    layout = choose_layout(found.plan, started(), device=device, tp=tp, sharding=sharding)
    with team_of(layout, device) as team:
        corpus = read_corpus(data, tokenizer)
        check_suits(found.shape, corpus)
        training, remark = _training(found, corpus, minutes, steps, learning_rate, precision, seed, team)
        if choice is not None:
            training = replace(training, setup=replace(training.setup, **choice))
        talker = talk(quiet=not team.first)
        talker.print(f"{found.shape.name}: {_size(found)} parameters on {corpus.name}, {len(corpus.train):,} "
                     f"{_units(corpus)} to train on, {len(corpus.held_out):,} held out", markup=False)  # fmt: skip
        where = (
            f"{chosen_threads} thread{'s' * (chosen_threads > 1)}" if team.device == "cpu" else team.device
        )
        talker.print(
            f"{training.setup.precision} ({remark}), {where}, log and checkpoints in {folder}", markup=False
        )
        if not team.alone:
            talker.print(layout.describe(), markup=False)
        if corpus.skipped:
            talker.print(f"left out as empty or binary: {len(corpus.skipped)} files", markup=False)
        if checkpoint is not None:
            team.from_first(lambda: refuse_existing(checkpoint / "model.safetensors", overwrite=False))
            config_of(training.setup.shape)
        peak = _peak(found, training.setup.precision)
        with (
            _live(training, peak, talker) as watch,
            logger(log_to if team.first else None, folder, found.shape.name, _remark(talker)) as also,
        ):
            about = {
                "precision": training.setup.precision, "micro_batch": training.setup.micro_batch, "corpus": corpus.name,
                "corpus_digest": corpus.digest, "vocab_size": corpus.vocab_size, "processes": layout.processes,
                "device": "cpu" if team.device == "cpu" else "cuda", "threads": chosen_threads, "tuned": choice is not None,
                "learning_rate": training.schedule.peak, "finished": date.today().isoformat(),
            }  # fmt: skip
            outcome = train(
                training, corpus, folder, resume=resume, team=team, watch=both(watch, also), about=about
            )
        if not team.first:
            return
    write_atomic(folder / "design.json", found.to_json().encode())
    if checkpoint is not None:
        write_checkpoint(training.setup.shape, folder, checkpoint)
        talker.print(f"wrote {checkpoint}", markup=False)
    if json:
        print_json({**asdict(outcome), **about, "folder": str(folder)})
    else:
        _show(found, training, outcome, corpus)
        plain = choice is None and layout.processes == 1
        enough = outcome.steps >= FEWEST_STEPS and learning_rate is None
        told = _next(found, training, folder, corpus, on=plain, law=enough)
        out().print(f"next: {told}", markup=False, soft_wrap=True)


def _units(corpus: Corpus) -> str:
    """What a corpus is counted in."""
    from shapewright.lab.corpus import VOCAB_SIZE

    return "images" if corpus.train.ndim > 1 else "bytes" if corpus.vocab_size == VOCAB_SIZE else "tokens"


def _remark(console: Console) -> Callable[[str], None]:
    return lambda text: console.print(f"remark: {text}", markup=False)


def _next(design: Design, training: Training, folder: Path, corpus: Corpus, *, on: bool, law: bool) -> str:
    """The command that lets this machine and a local law learn from the run, where it says anything of either."""
    from shapewright.hardware.catalog import parse_cluster
    from shapewright.lab.corpus import VOCAB_SIZE

    options = ""
    with suppress(ShapewrightError):
        path = parse_cluster(design.request.hardware).accelerator.path
        if on and path is not None and training.predicted_step is not None:
            options += f" --on {os.path.relpath(path)}"
    if law and corpus.vocab_size == VOCAB_SIZE and corpus.train.ndim == 1:
        options += " --law local.toml"
    return (
        f"shapewright fit run {folder}{options}" if options else f"shapewright explain {folder}/design.json"
    )


def _check(
    minutes: float | None, steps: int | None, precision: str, learning_rate: float | None, threads: int | None
) -> None:
    if minutes is not None and steps is not None:
        raise UsageError("--minutes and --steps were both given", "one of them ends the run", "give one")
    for name, value in (
        ("minutes", minutes),
        ("steps", steps),
        ("learning-rate", learning_rate),
        ("threads", threads),
    ):
        if value is not None and not (value > 0 and math.isfinite(value)):
            raise UsageError(
                f"--{name} (={value:g}) is not positive", "nothing could be trained", f"leave --{name} out"
            )
    if threads is not None and threads > MOST_THREADS:
        raise UsageError(
            f"--threads (={threads}) is above {MOST_THREADS:,}",
            "no processor has so many",
            "leave --threads out",
        )
    if precision not in ("fp32", "bf16", "design", "fastest"):
        raise UsageError(
            f"--precision (={precision!r}) is not known",
            "known: fp32, bf16, design, fastest",
            "try: --precision fastest",
        )


def _choice(path: Path) -> dict[str, Any]:
    """What ``shapewright tune`` chose."""
    import json as library

    from shapewright.errors import DocumentError

    names = ("precision", "threads", "micro_batch", "attention_block", "scan_chunk", "tiles", "compiled")
    try:
        told = library.loads(path.read_text(encoding="utf-8"))
        tiles = tuple((int(width), int(tile)) for width, tile in told["tiles"])
        return {**{name: told[name] for name in names}, "tiles": tiles}
    except (OSError, ValueError, KeyError, TypeError, RecursionError) as error:
        raise DocumentError(
            f"--tuned (={str(path)!r}) holds no choice",
            str(error),
            "make one: shapewright tune design.json --out tuned.json",
        ) from error


def _where(design: Design, threads: int | None) -> tuple[bool, int]:
    """Whether the design is for a processor, and the threads to use: those it was measured with, or one."""
    from shapewright.hardware.catalog import parse_cluster

    try:
        accelerator = parse_cluster(design.request.hardware).accelerator
    except ShapewrightError:
        return True, threads or 1
    on_cpu = accelerator.device_class == "cpu"
    measured = accelerator.num_sms if on_cpu else None
    cores = os.cpu_count() or 1
    return on_cpu, threads or (min(int(measured.value), cores) if measured is not None else 1)


def _training(
    design: Design, corpus: Corpus, minutes: float | None, steps: int | None, learning_rate: float | None, precision: str,
    seed: int, team: Team,
) -> tuple[Training, str]:  # fmt: skip
    from shapewright.lab.training import faster_precision, training_of

    options: dict[str, Any] = {
        "steps": steps,
        "minutes": minutes,
        "learning_rate": learning_rate,
        "seed": seed,
        "vocab_size": corpus.vocab_size,
        "layout": team.layout,
    }
    if precision == "design":
        return training_of(design, **options), "the design's"
    if precision != "fastest":
        return training_of(design, **options, precision=cast("Precision", precision)), "as asked"
    training = training_of(design, **options, precision="fp32")
    best, times = faster_precision(training, corpus, team=team)
    told = ", ".join(f"{name} {1e3 * seconds:.1f} ms" for name, seconds in times.items())
    return training_of(design, **options, precision=best), f"faster here: {told} per step"


def _peak(design: Design, precision: str) -> float | None:
    """Peak of the design's device in a format [FLOP/s]; None where it is not known here."""
    from shapewright.hardware.catalog import parse_cluster

    try:
        return float(parse_cluster(design.request.hardware).accelerator.peak(precision))
    except ShapewrightError:
        return None


@contextmanager
def _live(training: Training, peak: float | None, console: Console) -> Iterator[Watch]:
    """A board on stderr that follows the run; silent where stderr is no terminal, or the console is quiet."""
    from rich.live import Live

    from shapewright.lab.board import Board

    if console.quiet or not console.is_terminal:
        yield lambda record: None
        return
    board = Board(training, peak)
    with Live(console=console, transient=True, refresh_per_second=4) as live:
        yield lambda record: live.update(board.show(record))


def _size(design: Design) -> str:
    from shapewright.units import format_count

    return format_count(design.predicted.params.value)


def _show(design: Design, training: Training, outcome: Outcome, corpus: Corpus) -> None:
    from rich.table import Table

    from shapewright.scaling.law import load_law
    from shapewright.units import format_quantity

    console = out()
    units, bits = _units(corpus), outcome.bits_per_byte
    per = f"{outcome.held_out_loss:.4f} nat per {units.removesuffix('s')}"
    console.print(f"held out: {per}" if bits is None else f"held out: {bits:.4f} bits per byte ({per})")
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0))
    for title in ("", "predicted", "90 % interval", "measured", "difference"):
        table.add_column(title, justify="left" if not title else "right")

    def row(name: str, figure: Any, measured: float, scale: float, digits: int) -> None:
        value, low, high = figure.value * scale, figure.low, figure.high
        interval = (
            f"{low * scale:.{digits}f} to {high * scale:.{digits}f}"
            if low is not None and high is not None
            else "-"
        )
        table.add_row(
            name, f"{value:.{digits}f}", interval, f"{measured:.{digits}f}", f"{measured / value - 1:+.1%}"
        )

    if training.predicted_step is not None:
        row("step time, ms", training.predicted_step, 1e3 * outcome.step_time_s, 1e3, 2)
        total = design.predicted.train_time_s
        if training.minutes is None and total is not None and training.predicted_loss is not None:
            row("training time, min", total, outcome.own_seconds / 60, 1 / 60, 2)
    if training.predicted_loss is not None and design.run.law is not None:
        law = load_law(design.run.law)
        if law.unit == "nat/byte" and bits is not None:
            row("bits per byte", training.predicted_loss, bits, 1 / math.log(2.0), 4)
            console.print(f"the law's text: {law.dataset}; this run's: {corpus.name}", markup=False)
        else:
            console.print(
                f"loss not compared: law {law.name} predicts {law.unit} of {law.dataset}", markup=False
            )
    if table.row_count:
        console.print(table)
    own = (
        f", {outcome.own_seconds / 60:.1f} of them its own"
        if outcome.own_seconds < 0.98 * outcome.seconds
        else ""
    )
    read = "bytes" if units == "bytes" else "tokens"
    console.print(
        f"{outcome.steps:,} steps, {outcome.tokens:,} {read}, {outcome.seconds / 60:.1f} minutes{own}"
    )
    if outcome.joules is not None:
        console.print(f"energy: {format_quantity(outcome.joules, 'J')}, {outcome.energy}", markup=False)
