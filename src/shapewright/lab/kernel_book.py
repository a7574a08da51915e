"""The kernel book: what share of its roof each measured kernel reaches, by name, from the installed tables.

Decisions: a kernel is a name in a backend's current version, apart by what is compiled apart (head size, window, step of
a recurrent mixer). Of each the book keeps the best rate of any row and the median share of the binding roof (FLOP over
the dense peak, bytes over the memory's bandwidth, or bytes over the link's, whichever takes longest) among rows whose
roof takes 1 to 10, 10 to 30, 30 to 100, 100 to 300 us and longer: statistics, not rows. Scans and prefill attention are
also predicted: their physics is fitted to the rows that may be fitted, and its best share on held-out rows stands beside
the measured one. The tables are forward kernels of serving frameworks.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Callable, Iterable, Sequence

import numpy as np
from numpy.typing import NDArray

from shapewright.cost.families import family_of, variants
from shapewright.cost.family import Measurements
from shapewright.errors import ShapewrightError
from shapewright.hardware.catalog import load_accelerator
from shapewright.lab.calibrate import calibrate, device_for, format_of
from shapewright.outlook.kernel_book import BUCKETS, Entry, roof_seconds
from shapewright.validation.silicon import FOLDERS, TABLES, kernel_tables, tables_root

WANTED = ("matmul", "attention", "attention_decode", "mla", "mla_decode", "moe", "gdn", "kda", "mamba2",
          "dsa_context_module", "dsa_generation_module", "collective", "exchange")  # fmt: skip
PREDICTED = ("gdn/scan", "kda/scan", "mamba2/scan", "attention/128")
LEAST_ROWS = 30
MAX_FIT_ROWS = 4000
HELD_OUT = (0, 1, 2)


def build_book(
    devices: Iterable[str] | None = None, *, tick: Callable[[str], None] = lambda text: None
) -> list[Entry]:
    """Read the tables of ``devices`` (None: all) and sum them up.

    Raises:
        NotCoveredError: no tables are installed.
    """
    root = tables_root()
    wanted = None if devices is None else set(devices)
    found = []
    for folder, name in FOLDERS.items():
        if wanted is not None and name not in wanted:
            continue
        for spec in TABLES:
            if spec.family not in WANTED:
                continue
            tick(f"{name}/{spec.family}")
            for table in kernel_tables(folder, spec, root=root):
                found += [entry for rows in _apart(table) if (entry := _entry(rows)) is not None]
    return found


def _apart(table: Measurements) -> list[Measurements]:
    """Whole experts only (parted ones count tokens of all ranks), and each compiled variant by itself."""
    if table.family == "moe":
        table = table.take(table.columns["moe_ep_size"] == 1)
    return variants(table) if len(table) else []


def _entry(rows: Measurements) -> Entry | None:
    if len(rows) < LEAST_ROWS:
        return None
    family, device, fmt = (
        family_of(rows.family),
        device_for(load_accelerator(rows.accelerator), rows),
        format_of(rows),
    )
    flops = family.flops(rows.columns)
    roof = roof_seconds(family, device, fmt, rows.columns)
    share = roof / rows.seconds
    rate = flops / rows.seconds
    shares = []
    for low, high in BUCKETS:
        chosen = share[(roof >= low) & (roof < high)]
        shares.append(round(float(np.median(chosen)), 4) if chosen.size >= 5 else None)
    held, predicted = _predicted(rows)
    version = rows.source.partition(" ")
    # TensorRT-LLM compiles decode apart by the size of a group of query heads, under one name.
    group = rows.family.partition(".")[2].partition("_")[2] if family.name == "attention_decode" else ""
    kernel = " ".join(filter(None, (rows.kernels[0], group)))
    return Entry(
        accelerator=rows.accelerator, family=family.label, variant=rows.family.partition("/")[2].partition(".")[0],
        number_format=rows.number_format, backend=version[0], version=version[2], kernel=kernel,
        rows=len(rows), best_flops=float(f"{rate.max():.4g}"), peak_share=round(float(rate.max() / device.peak), 4),
        shares=tuple(shares), held_out_share=held, predicted_share=predicted,
    )  # fmt: skip


def _predicted(rows: Measurements) -> tuple[float | None, float | None]:
    """The highest share of the peak among held-out rows: measured, and by a fit to the other rows."""
    name = rows.family.partition(".")[0]
    if name not in PREDICTED or len(rows) < 100:
        return None, None
    accelerator = load_accelerator(rows.accelerator)
    device, family, fmt = device_for(accelerator, rows), family_of(rows.family), format_of(rows)
    chosen = rows
    if len(rows) > MAX_FIT_ROWS:
        chosen = rows.take(np.random.default_rng(0).permutation(len(rows))[:MAX_FIT_ROWS])
    try:
        fit = calibrate(chosen, device)
    except ShapewrightError:
        return None, None
    held = rows.take(np.isin(rows.part(), HELD_OUT))
    flops = family.flops(held.columns)
    seconds = family.time(fit.coefficients, device, fmt, held.columns)
    top = _best(flops / held.seconds)
    return (
        round(float(np.mean((flops / held.seconds)[top]) / device.peak), 4),
        round(float(np.mean((flops / seconds)[top]) / device.peak), 4),
    )


def _best(rate: NDArray[np.float64]) -> NDArray[np.int64]:
    """The ten fastest rows, so that one lucky row does not speak for a kernel."""
    return np.argsort(rate)[-10:]


def write_book(entries: Sequence[Entry]) -> str:
    """The book as text, one line per kernel."""
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow([*Entry.COLUMNS, *(f"share_{low * 1e6:g}us" for low, _ in BUCKETS)])
    for e in sorted(entries, key=lambda e: e.key):
        cells = [getattr(e, name) for name in Entry.COLUMNS]
        writer.writerow(["" if c is None else c for c in (*cells, *e.shares)])
    return out.getvalue()
