"""``shapewright measure``: this machine as an accelerator that every verb accepts as ``this``."""

from __future__ import annotations

import re
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from shapewright.cli import options as o
from shapewright.cli.common import (
    check_folder,
    out,
    print_json,
    print_text,
    refuse_existing,
    talk,
    write_text,
)
from shapewright.errors import MeasurementError, UsageError

if TYPE_CHECKING:
    from rich.console import Console

    from shapewright.hardware.accelerator import Accelerator
    from shapewright.hardware.calibration import Fit
    from shapewright.lab.bench import Measured, Progress

BUSY = 0.25
"""Typical spread beyond which the machine is called busy."""
_SQUARES = (64, 128, 256, 512, 1024, 2048, 4096, 8192)


def command(
    out_path: Annotated[Path, typer.Option("--out", help="The TOML to write.")] = Path("this.toml"),
    seconds: Annotated[float, typer.Option("--seconds", help="About how long to measure, 10 to 600.")] = 40.0,
    threads: Annotated[
        int | None,
        typer.Option(min=1, help="CPU threads; by default as many as each do four fifths of one's work."),
    ] = None,
    cpu: Annotated[
        bool, typer.Option("--cpu", help="Measure the processor even where a GPU exists.")
    ] = False,
    force: o.Force = False,
    json: o.Json = False,
) -> None:
    """Measure this machine and write it as an accelerator with its calibration.

    Times products by format and size, attention, memory-bound kernels, copies
    and launches, on as many threads as are worth their cores. NumPy suffices.
    torch is timed where it is installed, because training runs on it, with
    whole training steps and the collectives of several processes (gloo, NCCL),
    and a CUDA device in place of the processor.

    Example: shapewright measure && shapewright design this --minutes 10
    """
    from shapewright.hardware.accelerator_file import save_accelerator
    from shapewright.lab.bench import check_seconds

    check_seconds(seconds)
    _check_threads(threads)
    refuse_existing(out_path, overwrite=force)
    check_folder(out_path.absolute().parent)
    try:
        with _progress() as progress:
            measured, accelerator, fits = _measure(_name(out_path), seconds, threads, cpu, progress)
    except KeyboardInterrupt:
        kept = f"{out_path} is as it was" if out_path.exists() else "nothing was written"
        raise MeasurementError(
            "the measurement was interrupted", kept, "run it again: shapewright measure"
        ) from None
    text = save_accelerator(accelerator, fits)
    try:
        write_text(out_path, text, overwrite=force)
    except UsageError as error:
        # The disk filled up or was taken away meanwhile: the minute of measuring is not thrown away.
        if not json:
            print_text(text)
        raise UsageError(
            error.what, error.why, "the file's text is on stdout: keep it as this.toml"
        ) from error
    if json:
        print_json(_document(measured, accelerator, fits, out_path))
    else:
        _print(out(), measured, accelerator, fits, out_path)


def _check_threads(threads: int | None) -> None:
    from shapewright.lab.machine import read_machine

    cores = read_machine().threads
    if threads is not None and threads > cores:
        raise UsageError(
            f"--threads (={threads}) is more than this process may use",
            f"it has {cores}",
            f"try: --threads {cores}",
        )


def _measure(
    name: str, seconds: float, threads: int | None, cpu: bool, progress: Progress
) -> tuple[Measured, Accelerator, tuple[Fit, ...]]:
    from shapewright.lab.accelerator import describe
    from shapewright.lab.bench import measure_cpu
    from shapewright.lab.cuda import cuda_properties, describe_cuda, measure_cuda
    from shapewright.lab.machine import read_machine

    machine = read_machine()
    properties = None if cpu else cuda_properties()
    if properties is not None:
        measured = measure_cuda(machine, properties, seconds=seconds, progress=progress)
        accelerator, fits = describe_cuda(measured, properties, name=name)
        accelerator, links = _links(accelerator, properties["count"], "cuda", 1, progress)
        return measured, accelerator, (*fits, *links)
    measured = measure_cpu(machine, seconds=seconds, threads=threads, progress=progress)
    accelerator, fits = describe(measured, name=name)
    if measured.report.library.startswith("torch"):
        progress(1.0, "whole training steps")
        fits = (*fits, *_step_fit(accelerator, fits, measured.threads))
        devices = machine.cores // measured.threads
        accelerator, links = _links(accelerator, devices, "cpu", measured.threads, progress)
        fits = (*fits, *links)
    return measured, accelerator, fits


def _links(
    accelerator: Accelerator, devices: int, device: str, threads: int, progress: Progress
) -> tuple[Accelerator, tuple[Fit, ...]]:
    """The accelerator with its link to others of this machine; as it was where there are none, or they do not talk."""
    from shapewright.lab.collectives import describe_links, measure_collectives

    progress(1.0, "collectives")
    try:
        samples = measure_collectives(devices, device=device, threads=threads)
    except MeasurementError as error:
        talk().print(
            f"remark: {error.what}: {error.why}; several processes are predicted from a relative's links",
            markup=False,
        )
        return accelerator, ()
    return describe_links(accelerator, samples, device=device) if samples else (accelerator, ())


def _step_fit(accelerator: Accelerator, fits: tuple[Fit, ...], threads: int) -> tuple[Fit, ...]:
    """What whole steps take over the sum of their kernels; nothing where they cannot be timed."""
    from shapewright.hardware.accelerator_file import save_accelerator
    from shapewright.lab.steps import CALIBRATION, fit_steps, measure_steps

    source = f"{len(CALIBRATION)} whole training steps, {accelerator.sources['measurement']}"
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / f"{accelerator.name}.toml"
        path.write_text(save_accelerator(accelerator, fits), encoding="utf-8")
        try:
            seconds = measure_steps(CALIBRATION, threads=threads)
            found = fit_steps(CALIBRATION, seconds, str(path), source=source)
        except MeasurementError as error:
            talk().print(
                f"remark: {error.what}: {error.why}; steps are predicted from kernels alone", markup=False
            )
            return ()
    return () if found is None else (found,)


def _name(path: Path) -> str:
    from shapewright.hardware.catalog import normal_name

    name = normal_name(path.stem)
    return name if re.fullmatch(r"[a-z0-9_]+", name) else "this"


@contextmanager
def _progress() -> Iterator[Progress]:
    """A bar on stderr; silent where stderr is no terminal."""
    from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

    console = talk()
    columns = (
        TextColumn("measuring"),
        BarColumn(bar_width=30),
        TimeElapsedColumn(),
        TextColumn("{task.description}"),
    )
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as bar:
        task = bar.add_task("", total=1.0)
        yield lambda share, text: bar.update(task, completed=share, description=text)


def _print(
    console: Console, measured: Measured, accelerator: Accelerator, fits: tuple[Fit, ...], path: Path
) -> None:
    from rich.table import Table

    from shapewright.lab.accelerator import best_rates, copy_rates, typical_spread
    from shapewright.units import format_quantity

    def table(*columns: str) -> Table:
        made = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0))
        for i, column in enumerate(columns):
            made.add_column(column, justify="left" if i == 0 else "right")
        return made

    machine, report = measured.machine, measured.report
    facts = Table(box=None, show_header=False, pad_edge=False, padding=(0, 2, 0, 0))
    facts.add_row("machine", accelerator.label if measured.device == "cuda" else machine.label)
    if measured.device == "cpu":
        caches = " / ".join(format_quantity(cache.size, "B") for cache in machine.caches) or "unknown"
        memory = format_quantity(machine.memory, "B") if machine.memory else "unknown"
        facts.add_row("", f"{machine.cores} cores, {memory} of memory, caches {caches}")
        facts.add_row("instructions", " ".join(machine.instruction_sets) or "unknown")
        speeds = ", ".join(f"{n}: {speed:.2f}x" for n, speed in measured.race.items())
        facts.add_row("threads", f"{measured.threads} (speed on kernels of a training step: {speeds})")
    spread = typical_spread(report.timings)
    facts.add_row("library", report.library)
    facts.add_row(
        "time",
        f"{measured.seconds:.0f} s; best of all rounds; the median on the clock is {100 * spread:.0f} % longer",
    )
    watts = measured.watts
    limit = accelerator.power_cap
    power = f"{limit}" if limit else "unknown: nothing here states it, so energy is unknown too"
    facts.add_row("power limit", power + (f"; {watts:.0f} W while measuring" if watts else ""))
    console.print(facts)
    dropped = [fmt for fmt in best_rates(measured) if fmt not in accelerator.peak_flops]
    few = [f"{fmt} is left out: too few of its kernels were timed; give it more --seconds" for fmt in dropped]
    for remark in (*machine.remarks, *measured.remarks, *few):
        talk().print(f"remark: {remark}", markup=False)
    if spread > BUSY:
        talk().print(
            "warning: the machine is busy, so the best times are uncertain; measure it again when it is quiet"
        )

    console.print()
    squares = [size for size in _SQUARES if any(t.case.dims[:3] == (size,) * 3 for t in report.timings)]
    products = table("products", *(str(size) for size in squares), "best", "odd sizes")
    for fmt in accelerator.peak_flops:
        products.add_row(fmt, *_product_row(measured, fmt, squares, accelerator.peak_flops[fmt].value))
    console.print(products)
    console.print("[dim]FLOP/s; square products, 10^9; odd: median of sizes that are no multiple of 8[/dim]")
    console.print()
    copies = copy_rates(report.timings)
    shown = _thinned(copies)
    rates = table("copies", *(_size(size) for size in shown))
    rates.add_row("GB/s", *(f"{copies[size] / 1e9:.0f}" for size in shown))
    console.print(rates)
    overhead = [t.best for t in report.timings if t.case.kind == "overhead"]
    if overhead:
        console.print(f"smallest kernel: {format_quantity(overhead[0], 's')}")
    starts = [fit.coefficients["launch_s"] for fit in fits if fit.family == "collective"]
    if starts and (link := accelerator.scale_up) is not None:
        rate = format_quantity(link.bandwidth.value, "B/s")
        console.print(
            f"{link.link}, {link.domain_size} processes: {rate}, collectives start in {format_quantity(min(starts), 's')}",
            markup=False,
        )

    console.print()
    errors = table("calibration", "fitted", "held out", "median error", "p90", "90 % interval")
    for fit in fits:
        if (fit.family, fit.number_format) == ("memory", "bytes"):
            continue
        errors.add_row(
            f"{fit.family} {fit.number_format}", str(fit.num_rows), str(fit.num_held_out),
            f"{100 * fit.median_error:.1f} %", f"{100 * fit.p90_error:.0f} %", f"{fit.low:.2f}x to {fit.high:.2f}x",
        )  # fmt: skip
    console.print(errors)
    console.print("[dim]errors on held-out sizes, which took no part in the fit[/dim]")
    console.print()
    console.print(f"wrote {path}", markup=False)
    hardware = "this" if path == Path("this.toml") else str(path)
    console.print(f"next: shapewright design {hardware} --minutes 10", markup=False)
    if (link := accelerator.scale_up) is not None:
        console.print(
            f"      or {link.domain_size} processes: shapewright design {link.domain_size}x{hardware} --minutes 10",
            markup=False,
        )


def _product_row(measured: Measured, fmt: str, squares: list[int], best: float) -> list[str]:
    import statistics

    timings = [t for t in measured.report.timings if t.case.kind == "gemm" and t.case.number_format == fmt]
    by_size = {
        t.case.dims[0]: t.case.flops / t.best for t in timings if t.case.dims[:3] == (t.case.dims[0],) * 3
    }
    odd = [t.case.flops / t.best for t in timings if t.case.odd]
    cells = [f"{by_size[size] / 1e9:.0f}" if size in by_size else "-" for size in squares]
    return [*cells, f"{best / 1e9:.0f}", f"{statistics.median(odd) / 1e9:.0f}" if odd else "-"]


def _thinned(copies: dict[int, float], most: int = 7) -> list[int]:
    """At most ``most`` working sets, the smallest and the largest among them."""
    sizes = list(copies)
    if len(sizes) <= most:
        return sizes
    return [sizes[round(i * (len(sizes) - 1) / (most - 1))] for i in range(most)]


def _size(num_bytes: int) -> str:
    return f"{num_bytes / 2**20:.0f}MiB" if num_bytes >= 2**20 else f"{num_bytes / 2**10:.0f}KiB"


def _document(
    measured: Measured, accelerator: Accelerator, fits: tuple[Fit, ...], path: Path
) -> dict[str, Any]:
    from dataclasses import asdict

    from shapewright.hardware.accelerator_file import all_figures
    from shapewright.lab.accelerator import typical_spread

    return {
        "path": str(path),
        "machine": asdict(measured.machine),
        "device": measured.device,
        "library": measured.report.library,
        "num_threads": measured.threads,
        "race": {str(threads): speed for threads, speed in measured.race.items()},
        "duration_s": measured.seconds,
        "median_spread": typical_spread(measured.report.timings),
        "mean_power_w": measured.watts,
        "remarks": list(measured.remarks),
        "absent": dict(measured.report.absent),
        "accelerator": {key: asdict(figure) for key, figure in all_figures(accelerator).items()},
        "fits": [{**asdict(fit), "coefficients": dict(fit.coefficients), "ranges": dict(fit.ranges)} for fit in fits],
        "timings": [
            {"kind": t.case.kind, "number_format": t.case.number_format, **t.case.named, "best_s": t.best,
             "median_s": t.median, "num_samples": len(t.samples)}
            for t in measured.report.timings
        ],
    }  # fmt: skip
