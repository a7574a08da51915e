"""Measured kernels by name and the share of their roof that they reach; the shipped book and how it is read.

``data/kernels/book.csv`` is written by ``shapewright fit kernels`` from the measured tables; see
:mod:`shapewright.lab.kernel_book` for what its figures are.
"""

from __future__ import annotations

import csv
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from shapewright.cost.device import Device
from shapewright.cost.family import Family
from shapewright.cost.formats import KernelFormat

BOOK = Path(__file__).resolve().parents[1] / "data" / "kernels" / "book.csv"
BUCKETS = ((1e-6, 1e-5), (1e-5, 3e-5), (3e-5, 1e-4), (1e-4, 3e-4), (3e-4, np.inf))
"""Times at the roof that shares are kept for [s]."""
GENERATIONS = ("a100_sxm", "h100_sxm", "b200_sxm", "b300_sxm")
"""Data-centre parts of one maker, one generation after the other."""
BEFORE = {"h100_sxm": "a100_sxm", "h200_sxm": "a100_sxm", "b200_sxm": "h100_sxm", "gb200": "h100_sxm",
          "b300_sxm": "b200_sxm", "gb300": "gb200", "rtx_pro_6000": "l40s"}  # fmt: skip


@dataclass(frozen=True, kw_only=True, slots=True)
class Entry:
    """One kernel on one accelerator."""

    COLUMNS: ClassVar[tuple[str, ...]] = (
        "accelerator", "family", "variant", "number_format", "backend", "version", "kernel", "rows", "best_flops",
        "peak_share", "held_out_share", "predicted_share",
    )  # fmt: skip
    accelerator: str
    family: str
    """Its name in measured files, for example ``context_attention``."""
    variant: str
    """What is compiled apart: head size, window (``128w``), step of a recurrent mixer (``scan``)."""
    number_format: str
    backend: str
    version: str
    kernel: str
    """The name that the tables give it."""
    rows: int
    best_flops: float
    """Highest rate of any row [FLOP/s]."""
    peak_share: float
    """The same over the dense peak of the format [1]."""
    shares: tuple[float | None, ...]
    """Median share of the binding roof by :data:`BUCKETS`; None where fewer than five rows lie [1]."""
    held_out_share: float | None = None
    """Mean share of the peak of the ten fastest held-out rows [1]."""
    predicted_share: float | None = None
    """What the fitted physics says of the same rows [1]."""

    @property
    def key(self) -> tuple[str, ...]:
        """What tells it from all others."""
        return (self.family, self.variant, self.number_format, self.accelerator, self.backend, self.kernel)

    @property
    def name(self) -> str:
        """The kernel with its backend."""
        return f"{self.kernel} ({self.backend} {self.version})"

    def share(self, roof_s: float) -> float | None:
        """Share of the roof where the roof takes this long; of the nearest bucket that was measured."""
        place = next((i for i, (_, high) in enumerate(BUCKETS) if roof_s < high), len(BUCKETS) - 1)
        near = sorted(range(len(BUCKETS)), key=lambda i: abs(i - place))
        return next((self.shares[i] for i in near if self.shares[i] is not None), None)


def roof_seconds(
    family: Family, device: Device, fmt: KernelFormat, columns: Mapping[str, NDArray[np.float64]]
) -> NDArray[np.float64]:
    """Time of the binding roof: FLOP at the dense peak, bytes at the memory's or the link's bandwidth [s]."""
    times = [family.flops(columns) / device.peak, family.num_bytes(fmt, columns) / device.bandwidth]
    if family.link_bytes is not None:
        times.append(family.link_bytes(columns) / device.link)
    return np.maximum(np.maximum.reduce(np.broadcast_arrays(*times)), 1e-12)


@lru_cache(maxsize=1)
def load_book() -> tuple[Entry, ...]:
    """The shipped book."""
    with BOOK.open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    shares = [name for name in rows[0] if name.startswith("share_")]

    def number(text: str) -> float | None:
        return float(text) if text else None

    return tuple(
        Entry(
            accelerator=r["accelerator"], family=r["family"], variant=r["variant"], number_format=r["number_format"],
            backend=r["backend"], version=r["version"], kernel=r["kernel"], rows=int(r["rows"]),
            best_flops=float(r["best_flops"]), peak_share=float(r["peak_share"]),
            shares=tuple(number(r[name]) for name in shares), held_out_share=number(r["held_out_share"]),
            predicted_share=number(r["predicted_share"]),
        )
        for r in rows
    )  # fmt: skip


def entries(
    family: str, variant: str, number_format: str, *, accelerator: str | None = None
) -> tuple[Entry, ...]:
    """The kernels of a kind, on one accelerator or on all."""
    return tuple(
        e
        for e in load_book()
        if (e.family, e.variant, e.number_format) == (family, variant, number_format)
        and accelerator in (None, e.accelerator)
    )
