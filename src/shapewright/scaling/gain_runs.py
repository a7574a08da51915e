"""Runs of several arms from a CSV file or a ladder's folder, for the gain of one over another.

Decisions: a run counts with every cost that its row states; seconds and joules are compared only where all rows have
them. Diverged runs (no finite loss) are left out and counted. A ladder's own sweeps are not runs of its arms, and its
folder says whether their learning rates were tuned.
"""

from __future__ import annotations

import csv
import json
import math
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from shapewright.errors import DocumentError, UnknownNameError, UsageError
from shapewright.scaling.gain import Arm, Tuning

COSTS = ("flops", "seconds", "joules")


@dataclass(frozen=True, kw_only=True, slots=True)
class Runs:
    """Rows of finished runs."""

    source: str
    """Where they come from, for people."""
    rows: tuple[tuple[str, float, dict[str, float]], ...]
    """Arm, final loss, and the costs by name."""
    costs: tuple[str, ...]
    """Costs that every row states."""
    tuning: Tuning
    """How their learning rates were chosen."""
    dropped: int
    """Runs without a finite loss."""

    def arm(self, name: str, cost: str) -> Arm:
        """The runs of one arm over one cost.

        Raises:
            UnknownNameError: no run has this arm.
        """
        mine = [(costs[cost], loss) for arm, loss, costs in self.rows if arm == name]
        if not mine:
            raise UnknownNameError("arm", name, {arm for arm, _, _ in self.rows})
        return Arm(name=name, cost=np.array([c for c, _ in mine]), loss=np.array([y for _, y in mine]))


def read_gain_runs(
    path: Path, *, by: str = "arm", loss: str = "loss", flops: str = "flops", least_flops: float | None = None
) -> Runs:
    """Read ``path``: a CSV file, or a folder that holds a ladder's ``runs.csv``.

    Raises:
        UsageError: nothing is there.
        DocumentError: a column is missing, or a value is no number.
    """
    tuning: Tuning = "untuned"
    if path.is_dir():
        tuning = _ladder_tuning(path)
        path = path / "runs.csv"
    try:
        with path.open(newline="", encoding="utf-8") as handle:
            rows = list(csv.DictReader(handle))
    except OSError as error:
        raise UsageError(
            f"--runs (={str(path)!r}) cannot be read", error.strerror or str(error),
            "give a ladder's folder or a CSV file; make one: shapewright ladder run --arm A --arm B",
        ) from error  # fmt: skip
    except (UnicodeDecodeError, csv.Error) as error:
        raise DocumentError(f"{path} is no CSV file", str(error), "give one row per run") from error
    columns = list(rows[0]) if rows else []
    for name in (by, loss, flops):
        if name not in columns:
            raise DocumentError(
                f"{path} has no column {name!r}", f"columns: {', '.join(columns[:12]) or 'none'}",
                "name them: --by, --loss, --flops",
            )  # fmt: skip
    names = {"flops": flops, "seconds": "seconds", "joules": "joules"}
    costs = tuple(c for c in COSTS if names[c] in columns and all(row[names[c]] for row in rows))
    found, dropped = [], 0
    for number, row in enumerate(rows, start=2):
        if row.get("role", "rung") != "rung":
            continue
        try:
            values = {c: float(row[names[c]]) for c in costs}
            final = float(row[loss])
        except ValueError as error:
            raise DocumentError(
                f"{path}, line {number}: {error}", "loss and costs are numbers", "mend the row"
            ) from error
        if least_flops is not None and values["flops"] < least_flops:
            continue
        if not math.isfinite(final) or min(values.values()) <= 0:
            dropped += 1
            continue
        found.append((row[by], final, values))
    return Runs(source=str(path), rows=tuple(found), costs=costs, tuning=tuning, dropped=dropped)


def _ladder_tuning(folder: Path) -> Tuning:
    """Tuned at the rungs that were swept and carried upward, if no sweep ended on its first or last rate."""
    try:
        told = json.loads((folder / "rates.json").read_text(encoding="utf-8"))
        tuned = bool(told) and not any(rates["at_end"] for rates in told.values())
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return "untuned"
    return "transferred" if tuned else "untuned"
