"""``shapewright tune``: how to run a design's steps on this device, by measurement."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from shapewright.cli import options as o
from shapewright.cli.common import check_folder, out, print_json, refuse_existing, talk, write_text
from shapewright.errors import MeasurementError, UsageError

if TYPE_CHECKING:
    from shapewright.designs.document import Design
    from shapewright.lab.tune import Trial, Tuned


def command(
    design: Annotated[Path, typer.Argument(help="A design.json written by shapewright design.")],
    on: Annotated[
        str | None,
        typer.Option("--on", help="The machine's file, for pruning (default: the design's hardware)."),
    ] = None,
    data: Annotated[
        Path | None, typer.Option(help="A text file or a folder; by default Python's standard library.")
    ] = None,
    threads: Annotated[
        int | None, typer.Option(help="Most threads to try (default: the cores here).")
    ] = None,
    compile: Annotated[
        bool, typer.Option("--compile", help="Try torch.compile too: a minute or more.")
    ] = False,
    output: Annotated[
        Path | None, typer.Option("--out", help="Write the choice as JSON, for train --tuned.")
    ] = None,
    force: o.Force = False,
    json: o.Json = False,
) -> None:
    """Time ways to run the design's steps here, and keep the fastest.

    Number format, micro-batch, attention kernel, chunk of scans, threads,
    compiled or not. What the cost model knows to be slow is not timed.

    Example: shapewright tune design.json --out tuned.json
    """
    from shapewright.lab.needs import require_torch

    require_torch("shapewright tune")
    if threads is not None and threads < 1:
        raise UsageError(f"--threads (={threads}) must be at least 1", "something has to run", "leave it out")
    refuse_existing(output, overwrite=force)
    if output is not None:
        check_folder(output.absolute().parent)
    from shapewright.designs.files import load_design
    from shapewright.lab.corpus import read_corpus
    from shapewright.lab.training import default_device, training_of
    from shapewright.lab.tune import tune

    found = load_design(design)
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    setup = training_of(found).setup
    device = default_device(False)
    cores = threads or len(os.sched_getaffinity(0))
    counts = [n for n in (1, 2, 4, 8, 16, 32) if n <= cores] if device == "cpu" else [1]
    try:
        tuned = tune(setup, read_corpus(data), device=device, threads=counts, compile=compile,
                     predict=_predictor(found, on), tell=_tell)  # fmt: skip
    except KeyboardInterrupt:
        raise MeasurementError(
            "tuning was interrupted", "a choice is one after all trials; nothing was written",
            "run it again: shapewright tune design.json --out tuned.json",
        ) from None  # fmt: skip
    told = _document(tuned, device)
    if json:
        print_json(told)
    else:
        _show(tuned, device, f"{design} --tuned {output or 'tuned.json'}")
    if output is not None:
        import json as library

        write_text(output, library.dumps(told, indent=2) + "\n", overwrite=force)
        talk().print(f"wrote {output}", markup=False)


def _predictor(design: Design, on: str | None) -> Any:
    """Seconds of a step by the cost model for the device at hand."""
    from shapewright.api import Options, estimate

    hardware = on or design.request.hardware

    def predict(setup: Any) -> float:
        return estimate(
            setup.shape, hardware, tokens=1e6,
            options=Options(seq_len=setup.seq_len, global_batch=setup.batch, precision=setup.precision,
                            plan={"micro_batch": setup.micro_batch}),
        ).predicted.step_time_s.value  # fmt: skip

    return predict


def _tell(trial: Trial) -> None:
    seconds = trial.remark if trial.seconds is None else f"{1e3 * trial.seconds:.1f} ms"
    talk().print(f"{trial.choice}: {trial.value}: {seconds}", markup=False)


def _show(tuned: Tuned, device: str, run: str) -> None:
    from rich.table import Table

    console = out()
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0))
    for title in ("choice", "value", "predicted, ms", "step, ms", ""):
        table.add_column(title, justify="right" if "ms" in title else "left")
    for t in tuned.trials:
        table.add_row(t.choice, t.value, "-" if t.predicted is None else f"{1e3 * t.predicted:.1f}",
                      "-" if t.seconds is None else f"{1e3 * t.seconds:.1f}", "taken" if t.taken else t.remark)  # fmt: skip
    console.print(table)
    s = tuned.setup
    attention = "the fused kernel" if s.attention_block is None else f"blocks of {s.attention_block}"
    where = f"{tuned.threads} thread{'s' * (tuned.threads > 1)}" if device == "cpu" else device
    console.print(f"chosen: {s.precision}, micro-batch {s.micro_batch}, attention by {attention}, {where}"
                  f"{', compiled' if s.compiled else ''}")  # fmt: skip
    console.print(
        f"step: {1e3 * tuned.before_s:.1f} ms as designed, {1e3 * tuned.after_s:.1f} ms tuned: {tuned.speedup:.2f}x"
    )
    console.print(f"next: shapewright train {run}", markup=False, soft_wrap=True)


def _document(tuned: Tuned, device: str) -> dict[str, Any]:
    from dataclasses import asdict

    s = tuned.setup
    return {
        "device": device, "precision": s.precision, "micro_batch": s.micro_batch, "attention_block": s.attention_block,
        "scan_chunk": s.scan_chunk, "tiles": s.tiles, "threads": tuned.threads, "compiled": s.compiled,
        "before_s": tuned.before_s, "after_s": tuned.after_s, "trials": [asdict(t) for t in tuned.trials],
    }  # fmt: skip
