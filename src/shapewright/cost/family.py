"""What a kernel family and its measurements are.

A family joins a table of measurements to the physics that explains it. The fit, the validation and the residual
level all go through these records (``cost.families`` holds them), so a family is described once.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from hashlib import blake2b

import numpy as np
from numpy.typing import NDArray

from shapewright.cost.coefficient import Coefficient
from shapewright.cost.device import Device
from shapewright.cost.formats import KernelFormat
from shapewright.cost.library import library_names
from shapewright.hardware.calibration import Fit

Columns = Mapping[str, NDArray[np.float64]]
TimeOf = Callable[[Mapping[str, float], Device, KernelFormat, Columns], NDArray[np.float64]]


@dataclass(frozen=True, kw_only=True, slots=True)
class Measurements:
    """Measured kernels of one accelerator, family and format, one row each."""

    accelerator: str
    family: str
    number_format: str
    columns: Columns
    """The family's dimensions by name, one array each."""
    seconds: NDArray[np.float64]
    """Measured time [s]."""
    kernels: tuple[str, ...] = ()
    """The kernels that were measured, by share of rows."""
    source: str = ""
    libraries: tuple[str, ...] = ()
    """Names that the column ``library`` holds the places of."""

    def __len__(self) -> int:
        return self.seconds.size

    def take(self, index: NDArray) -> Measurements:
        """The rows at ``index`` (positions or a mask)."""
        return Measurements(
            accelerator=self.accelerator, family=self.family, number_format=self.number_format,
            columns={name: column[index] for name, column in self.columns.items()},
            seconds=self.seconds[index], kernels=self.kernels, source=self.source, libraries=self.libraries,
        )  # fmt: skip

    def library(self) -> NDArray[np.str_]:
        """The name of each row's kernel; empty where it does not say."""
        return library_names(self.libraries, self.columns["library"])

    def part(self) -> NDArray[np.int64]:
        """A number from 0 to 9 for each row, fixed by a hash of its key: which part of the split it is in.

        All kernels of one shape (``library``) are in the same part.
        """
        head = f"{self.accelerator}|{self.family}|{self.number_format}|"
        sizes = (column.tolist() for name, column in self.columns.items() if name != "library")
        rows = zip(*sizes, strict=True)
        keys = (head + "|".join(f"{value:g}" for value in row) for row in rows)
        return np.array([int.from_bytes(blake2b(key.encode(), digest_size=4).digest()) % 10 for key in keys])


@dataclass(frozen=True, kw_only=True, slots=True)
class Family:
    """One kernel family."""

    name: str
    """Name of its fits, for example ``matmul``."""
    label: str
    """Its name in measured files and in the slices of a validation, for example ``gemm``."""
    dimensions: tuple[str, ...]
    """The columns that identify a row."""
    coefficients: tuple[Coefficient, ...]
    time: TimeOf
    """Seconds as the benchmark measured them (caches in the benchmark's state)."""
    flops: Callable[[Columns], NDArray[np.float64]]
    """FLOP of a row, for the plain roofline."""
    num_bytes: Callable[[KernelFormat, Columns], NDArray[np.float64]]
    """Bytes a row moves at least, for the plain roofline."""
    link_bytes: Callable[[Columns], NDArray[np.float64]] | None = None
    """Bytes a row sends to other devices, for the plain roofline; None for none."""
    variant: Callable[[Measurements], NDArray[np.str_]] | None = None
    """Which compiled kernel serves a row, where one family holds several; each gets its own fit."""
    variant_coefficients: Mapping[str, tuple[Coefficient, ...]] = field(default_factory=dict)
    """Coefficients of variants that another function prices."""
    defaults: Mapping[str, float] = field(default_factory=dict)
    """Values of dimensions that a file may leave out."""
    serves: Callable[[Fit, Columns], NDArray[np.bool_]] = lambda fit, x: np.ones(
        next(iter(x.values())).shape, bool
    )
    """Which rows a kernel is run for, where rows do not say their kernel."""
    own_peak: bool = False
    """Whether its products run at the peak of its format; else they multiply in 16 bits whatever a cache holds."""
    prepare: Callable[[Columns], Columns] = lambda x: x
    """Adds what ``time`` would compute from the sizes alone, for many calls on the same rows."""

    def coefficients_of(self, name: str) -> tuple[Coefficient, ...]:
        """The coefficients of a fit's full name: the variant's own where it has some."""
        return self.variant_coefficients.get(name.partition("/")[2].partition(".")[0], self.coefficients)
