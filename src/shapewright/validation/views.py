"""Ways to look at kernels again: a device as if nobody had measured it, sizes apart, pairs of sizes that are not there.

Decisions: a device *left out* is priced by its relatives' fits, which its own rows never touched, as hardware without
tables is. *Unseen* sizes concern the level ``residual``: a fifth of the distinct tuples, by a fixed hash, is taken from
the measured kernels that correct the physics, and of the report's rows only theirs are scored.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from shapewright.cost.family import Measurements
from shapewright.cost.price import CostModel
from shapewright.cost.transfer import completed, measured_accelerators, nearest_relatives
from shapewright.errors import UsageError
from shapewright.hardware.catalog import load_accelerator

MOST_VALUES = 64
"""Values of a column that become slices of their own."""
FIFTH = 5


@dataclass(frozen=True, kw_only=True, slots=True)
class View:
    """How the rows are looked at; plainly by default."""

    unmeasured: bool = False
    """Each device as if nobody had measured it."""
    by: str | None = None
    """A dimension whose values become slices."""
    unseen: tuple[str, ...] = ()
    """Dimensions of whose tuples a fifth is left out."""

    def pieces(self, rows: Measurements) -> Iterator[tuple[str, Measurements]]:
        """(suffix of the name, rows) of every slice.

        Raises:
            UsageError: the family has no such dimension, or it has too many values.
        """
        if self.by is None:
            yield "", rows
            return
        column = self._column(rows, self.by)
        values = np.unique(column)
        if values.size > MOST_VALUES:
            raise UsageError(
                f"--by (={self.by}) has {values.size:,} values in {rows.family}",
                f"at most {MOST_VALUES} become slices", "take a dimension with fewer: --by head_dim",
            )  # fmt: skip
        for value in values:
            yield f"/{self.by}={value:g}", rows.take(column == value)

    def left_out(self, rows: Measurements) -> np.ndarray:
        """Rows of the fifth of tuples that is left out."""
        columns = [self._column(rows, name) for name in self.unseen]
        tuples = ["x".join(f"{value:g}" for value in row) for row in zip(*columns, strict=True)]
        return np.array([zlib.crc32(text.encode()) % FIFTH == 0 for text in tuples])

    @staticmethod
    def _column(rows: Measurements, name: str) -> np.ndarray:
        if name not in rows.columns:
            raise UsageError(
                f"dimension (={name}) is not one of {rows.family}",
                f"it has {', '.join(rows.columns)}", "name one of them, and the family: --family gemm",
            )  # fmt: skip
        return rows.columns[name]


def unmeasured_model(name: str) -> CostModel:
    """The cost model of an accelerator by its relatives alone."""
    accelerator = load_accelerator(name)
    calibration, stand_in = completed(
        accelerator, (), nearest_relatives(accelerator, measured_accelerators())
    )
    return CostModel(accelerator=accelerator, calibration=calibration, stand_in=stand_in)
