"""Tables of training runs: read from CSV, with every bad row named before anything is fitted.

Decisions: a column may have one of several names in use (``params`` or ``params_active_precise``); a missing
one is an error that lists what is there. Rows that cannot be fitted (empty, not a number, not positive) are an
error unless the caller asks to drop them, and then the count is reported. Exact duplicates within the chosen
subsets are dropped and counted: the same measurement listed under several subsets must not weigh more.
"""

from __future__ import annotations

import csv
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from shapewright.errors import UnknownNameError, UsageError
from shapewright.scaling.forms import Array

ALIASES: dict[str, tuple[str, ...]] = {
    "params": ("params", "params_active_precise", "n", "N"),
    "tokens": ("tokens", "t", "D"),
    "loss": ("loss", "final_loss", "val_loss"),
    "width": ("width", "hidden_size", "d_model"),
    "depth": ("depth", "layers", "num_layers"),
    "run": ("run_name", "run", "name", "id"),
    "subset": ("subset",),
    "flops": ("flops", "training_flop", "budget"),
    "embedding_params": ("embedding_params",),
    "decayed": ("decayed",),
    "lr_halvings": ("lr_halvings",),
}
"""Names under which each column is looked for, in order."""

CONVENTIONS = (
    "param_count", "param_convention", "flop_convention", "convention", "dataset", "corpus", "tokenizer", "unit",
)  # fmt: skip
"""Columns in which a file says how its rows were counted or what they were trained on."""
_LINE = "line of the file"


@dataclass(frozen=True, kw_only=True, slots=True)
class Runs:
    """Columns of a table of runs."""

    params: Array
    """Parameters of the model, all of them."""
    tokens: Array
    """Training tokens."""
    loss: Array
    """Measured loss [nat/token]."""
    width: Array | None
    """Width of the residual stream, where the file has it."""
    depth: Array | None
    """Number of layers, where the file has it."""
    subset: tuple[str, ...]
    """Which part of the file a row belongs to; empty strings where it has none."""
    run: tuple[str, ...]
    """Run that a row belongs to; rows of one run are not independent."""
    flops: Array | None
    """Training FLOP as the file counts them, where it does."""
    embedding_params: Array | None
    """Parameters of the embeddings counted in ``params``, where the file says so."""
    decayed: Array
    """1 where the learning rate was decayed to the end, 0 where constant; 1 where the file does not say."""
    lr_halvings: Array
    """Factors of two that the learning rate lies below the common one; 0 where the file does not say."""
    warnings: tuple[str, ...]
    """What a reader must know about the table."""

    @property
    def shape(self) -> tuple[str, ...]:
        """``width x depth`` of each row."""
        if self.width is None or self.depth is None:
            return self.run
        return tuple(f"{int(w)}x{int(d)}" for w, d in zip(self.width, self.depth, strict=True))

    def select(self, rows: NDArray[Any]) -> Runs:
        """The rows where ``rows`` is true, or with those indices."""
        index = np.flatnonzero(rows) if np.asarray(rows).dtype == bool else np.asarray(rows, int)
        taken: dict[str, Any] = {}
        for field in fields(self):
            value = getattr(self, field.name)
            if isinstance(value, np.ndarray):
                taken[field.name] = value[index]
            elif field.name in ("subset", "run"):
                taken[field.name] = tuple(value[i] for i in index)
        return replace(self, **taken)


def read_runs(
    path: Path,
    *,
    need: Sequence[str] = ("params", "tokens", "loss"),
    where: Mapping[str, Sequence[str]] | None = None,
    drop_bad: bool = False,
) -> Runs:
    """Read a CSV of runs.

    Args:
        path: the file.
        need: columns that must be there (keys of ``ALIASES``).
        where: keep only rows whose column has one of these values: ``{"subset": ("hot", "cool_end")}``.
        drop_bad: drop rows that cannot be fitted instead of refusing the file.

    Raises:
        UsageError: the file cannot be read, a needed column is missing, or rows cannot be fitted.
    """
    header, records = _read_csv(path, where)
    names: dict[str, str] = {}
    for column, spellings in ALIASES.items():
        found = [spelling for spelling in spellings if spelling in header]
        if found:
            names[column] = found[0]
        elif column in need:
            raise UsageError(
                f"{path} has no column {column!r}",
                f"accepted names: {', '.join(spellings)}; the file has: {', '.join(header)}",
                "rename the column, or choose a form that does not need it",
            )
    numeric = [c for c in names if c not in ("run", "subset")]
    columns: dict[str, Array] = {
        c: np.array([_number(record.get(names[c])) for record in records]) for c in numeric
    }
    good = np.ones(len(records), bool)
    needed = [column for column in need if column in columns]
    for column in needed:
        good &= (columns[column] > 0) & (columns[column] < np.inf)
    warnings = []
    if not good.all():
        first = int(np.flatnonzero(~good)[0])
        column = next(c for c in needed if not 0 < columns[c][first] < np.inf)
        what = f"{path}: {int((~good).sum())} of {len(records)} rows cannot be fitted"
        text = records[first].get(names[column])
        why = f"first: line {records[first][_LINE]}, {column} (={text!r}) is not a positive number"
        if not drop_bad:
            raise UsageError(what, why, "mend them, or add --drop-bad to leave them out")
        warnings.append(f"{what} and were left out; {why}")
    run = tuple(record.get(names["run"], "") if "run" in names else "" for record in records)
    subset = tuple(record.get(names["subset"], "") if "subset" in names else "" for record in records)
    count = len(records)
    table = Runs(
        params=columns["params"], tokens=columns["tokens"], loss=columns["loss"], width=columns.get("width"),
        depth=columns.get("depth"), subset=subset, run=run, flops=columns.get("flops"),
        embedding_params=columns.get("embedding_params"), decayed=columns.get("decayed", np.ones(count)),
        lr_halvings=columns.get("lr_halvings", np.zeros(count)), warnings=(),
    ).select(good)  # fmt: skip
    table, duplicates = drop_duplicates(table)
    if duplicates:
        warnings.append(f"{path}: {duplicates} rows repeat another row exactly and were counted once")
    return replace(table, warnings=(*warnings, *_mixed(path, header, records)))


def _mixed(path: Path, header: Sequence[str], records: Sequence[Mapping[str, str]]) -> list[str]:
    """Columns that say of themselves that the rows were counted, or trained, in several ways."""
    found = []
    for column in CONVENTIONS:
        values = (
            sorted({record[column] for record in records if record.get(column)}) if column in header else []
        )
        if len(values) > 1:
            named = ", ".join(values[:4]) + (", ..." if len(values) > 4 else "")
            found.append(
                f"{path}: column {column} has {named}: rows of several conventions or corpora are fitted as one; keep one "
                f"with --where {column}={values[0]}"
            )
    return found


def read_columns(
    path: Path, columns: Iterable[str], *, where: Mapping[str, Sequence[str]] | None = None
) -> dict[str, Array]:
    """Some columns of a CSV as numbers; what is not a number is nan.

    Raises:
        UsageError: the file cannot be read or lacks a column.
    """
    header, records = _read_csv(path, where)
    for column in columns:
        if column not in header:
            raise UnknownNameError(f"column of {path}", column, header)
    return {column: np.array([_number(record[column]) for record in records]) for column in columns}


def drop_duplicates(runs: Runs) -> tuple[Runs, int]:
    """Keep the first of rows that agree in everything that is fitted (whatever their subset)."""
    seen: set[tuple[object, ...]] = set()
    keep = []
    for i in range(len(runs.loss)):
        key = (runs.run[i], runs.params[i], runs.tokens[i], runs.loss[i], runs.shape[i])
        keep.append(key not in seen)
        seen.add(key)
    kept = np.array(keep, bool)
    return runs.select(kept), int((~kept).sum())


def _chosen(
    path: Path, header: list[str], records: list[dict[str, str]], column: str, values: Sequence[str]
) -> list[dict[str, str]]:
    if column not in header:
        raise UnknownNameError(f"column of {path}", column, header)
    known = {record[column] for record in records}
    for value in values:
        if value not in known:
            raise UnknownNameError(f"{column} of {path}", value, known)
    return [record for record in records if record[column] in values]


def _number(text: str | None) -> float:
    try:
        return float(text) if text else np.nan
    except ValueError:
        return np.nan


def _read_csv(
    path: Path, where: Mapping[str, Sequence[str]] | None
) -> tuple[list[str], list[dict[str, str]]]:
    if not path.is_file():
        raise UsageError(f"{path} is not a file", "fit reads a CSV file with a header line", "check the path")
    try:
        with path.open(newline="", encoding="utf-8") as handle:
            reader = csv.DictReader(handle)
            records = [{**record, _LINE: str(reader.line_num)} for record in reader]
            header = [name.strip() for name in reader.fieldnames or []]
    except (UnicodeDecodeError, csv.Error) as error:
        raise UsageError(
            f"{path} is not a CSV file", str(error), "give comma-separated text in UTF-8"
        ) from error
    if not records:
        raise UsageError(f"{path} holds no rows", "a fit needs a header line and rows", "check the file")
    for column, values in (where or {}).items():
        records = _chosen(path, header, records, column, values)
    return header, records
