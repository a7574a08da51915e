"""Runs of several arms from a CSV file or a ladder's folder, for the gain of one over another.

Decisions: a run counts with every cost that its row states; seconds and joules are compared only where all rows have
them. Rows of one name are branches of one run where the file states their lengths (``ratio``, tokens per parameter),
as a ladder's does. Diverged runs (no finite loss) are left out and counted; an arm that lost runs of a ladder that way
was not tuned, and what is left of it flatters it. A ladder's own sweeps are not runs of its arms, and its folder says
whether their learning rates were tuned.
"""

from __future__ import annotations

import csv
import json
import math
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from shapewright.errors import DocumentError, UnknownNameError, UsageError
from shapewright.scaling.gain_fit import Arm
from shapewright.scaling.gain_verdict import Tuning

COSTS = ("flops", "seconds", "joules")


@dataclass(frozen=True, kw_only=True, slots=True)
class Branch:
    """One judged model."""

    arm: str
    loss: float
    """Final [nat/token]."""
    costs: dict[str, float]
    """By name."""
    run: str
    """The run it is a branch of."""
    length: float | None
    """Tokens per parameter; None where the file does not state them."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Runs:
    """Rows of finished runs."""

    source: str
    """Where they come from, for people."""
    rows: tuple[Branch, ...]
    costs: tuple[str, ...]
    """Costs that every row states."""
    tuning: Tuning
    """How their learning rates were chosen."""
    folder: bool
    """Whether they are a ladder's."""
    energy: str
    """Kind and source of the joules; empty where the file does not say."""
    dropped: tuple[str, ...]
    """Arms of the rows without a finite loss, one each."""

    def arm(self, name: str, cost: str) -> Arm:
        """The runs of one arm over one cost.

        Raises:
            UsageError: no run counts.
            UnknownNameError: no run has this arm.
        """
        if not self.rows:
            raise UsageError(
                f"{self.source} holds no run of an arm",
                "sweeps of the learning rate do not count, nor do runs without a finite loss",
                "finish the ladder (shapewright ladder resume FOLDER), or give other --runs",
            )
        mine = [row for row in self.rows if row.arm == name]
        if not mine:
            raise UnknownNameError("arm", name, {row.arm for row in self.rows})
        runs = {run: number for number, run in enumerate(dict.fromkeys(row.run for row in mine))}
        stated = all(row.length is not None for row in mine)
        return Arm(
            name=name, cost=np.array([row.costs[cost] for row in mine]), loss=np.array([row.loss for row in mine]),
            length=np.array([row.length for row in mine], float) if stated else None,
            run=np.array([runs[row.run] for row in mine]),
        )  # fmt: skip


def read_gain_runs(
    path: Path, *, by: str = "arm", loss: str = "loss", flops: str = "flops", least_flops: float | None = None
) -> Runs:
    """Read ``path``: a CSV file, or a folder that holds a ladder's ``runs.csv``.

    Raises:
        UsageError: nothing is there.
        DocumentError: a column is missing, or a value is no number.
    """
    tuning: Tuning = "untuned"
    folder = path.is_dir()
    if folder:
        tuning = _ladder_tuning(path)
        path = path / "runs.csv"
    try:
        with path.open(newline="", encoding="utf-8") as handle:
            reader = csv.DictReader(handle)
            rows, columns = list(reader), list(reader.fieldnames or ())
    except OSError as error:
        raise UsageError(
            f"--runs (={str(path)!r}) cannot be read", error.strerror or str(error),
            "give a ladder's folder or a CSV file; make one: shapewright ladder run --arm A --arm B",
        ) from error  # fmt: skip
    except (UnicodeDecodeError, csv.Error) as error:
        raise DocumentError(f"{path} is no CSV file", str(error), "give one row per run") from error
    for name in (by, loss, flops):
        if name not in columns:
            raise DocumentError(
                f"{path} has no column {name!r}", f"columns: {', '.join(columns[:12]) or 'none'}",
                "name them: --by, --loss, --flops",
            )  # fmt: skip
    names = {"flops": flops, "seconds": "seconds", "joules": "joules"}
    costs = tuple(c for c in COSTS if names[c] in columns and all(row[names[c]] for row in rows))
    branched = "name" in columns and "ratio" in columns
    found, dropped = [], []
    for number, row in enumerate(rows, start=2):
        if row.get("role", "rung") != "rung":
            continue
        try:
            values = {c: float(row[names[c]]) for c in costs}
            final = float(row[loss])
            length = float(row["ratio"]) if branched else None
        except ValueError as error:
            raise DocumentError(
                f"{path}, line {number}: {error}", "loss and costs are numbers", "mend the row"
            ) from error
        if final <= 0:
            raise DocumentError(
                f"{path}, line {number}: {loss} (={final:g}) is not positive", "a power law over a floor is fitted to it",
                "give losses in nats; leave out rows of other tasks",
            )  # fmt: skip
        if least_flops is not None and values["flops"] < least_flops:
            continue
        if not math.isfinite(final) or min(values.values()) <= 0:
            dropped.append(row[by])
            continue
        run = row["name"] if branched else str(number)
        found.append(Branch(arm=row[by], loss=final, costs=values, run=run, length=length))
    # A rate that was carried upward and diverged there is not tuned.
    tuning = "untuned" if folder and dropped else tuning
    energy = ", ".join(sorted({row.get("energy") or "" for row in rows} - {""}))
    return Runs(
        source=str(path), rows=tuple(found), costs=costs, tuning=tuning, folder=folder, energy=energy,
        dropped=tuple(dropped),
    )  # fmt: skip


def _ladder_tuning(folder: Path) -> Tuning:
    """Tuned at the rungs that were swept and carried upward, if no sweep ended on its first or last rate."""
    try:
        told = json.loads((folder / "rates.json").read_text(encoding="utf-8"))
        tuned = bool(told) and not any(rates["at_end"] for rates in told.values())
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return "untuned"
    return "transferred" if tuned else "untuned"
