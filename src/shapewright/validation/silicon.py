"""Reading the measured kernel tables of aiconfigurator-core where they are installed.

Decisions: the tables are read, never copied; the package version is pinned. Of each backend (vLLM, SGLang,
TensorRT-LLM) only the current version counts (``query_versions.yaml``), and the row of a shape is the fastest
kernel among the backends unless one is asked for. A table that cannot be read, lacks a column or holds values that
are no times is skipped or thinned, and that is counted and said in one line.
"""

from __future__ import annotations

import re
from collections import Counter
from dataclasses import dataclass
from importlib import metadata
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from shapewright.cost.families import family_of
from shapewright.cost.family import Family, Measurements
from shapewright.cost.library import BACKENDS, library_name
from shapewright.errors import MissingPackageError, NotCoveredError
from shapewright.validation.tables import MODES, NOT_READ, TABLES, TableSpec

PACKAGE, VERSION = "aiconfigurator-core", "0.12.0"
FOLDERS = {
    "a100_sxm": "a100_sxm", "h100_sxm": "h100_sxm", "h200_sxm": "h200_sxm", "b200_sxm": "b200_sxm",
    "b300_sxm": "b300_sxm", "gb200": "gb200", "gb300": "gb300", "l40s": "l40s",
    "rtx_pro_6000_server": "rtx_pro_6000", "b60": "b60",
}  # fmt: skip
"""The tables' folder of each accelerator, to its name here."""
CURRENT = {"vllm": "0.24.0", "sglang": "0.5.14", "trtllm": "1.3.0rc20"}
CURRENT_OF = {
    "a100_sxm": {"vllm": "0.14.0", "sglang": "0.5.10", "trtllm": "1.0.0"},
    "b60": {"vllm": "0.26.0"},
}
"""Current version of each backend, from the package's ``query_versions.yaml``."""
COLLECTIVES = ("nccl", "oneccl")
"""Folders of libraries beside those of the backends."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Skipped:
    """Something that was left out of a reading."""

    where: str
    reason: str
    count: int = 1


_ELEMENT_BYTES = {"half": 2.0, "int8": 1.0}
"""NCCL's sizes are counted in elements (inferred: int8 is 1.5 to 2 times faster at equal size)."""


def tables_root() -> Path:
    """The folder of the measured tables.

    Raises:
        MissingPackageError: the package or pyarrow is not installed.
    """
    spec = find_spec("aiconfigurator_core")
    if spec is None or not spec.submodule_search_locations or find_spec("pyarrow") is None:
        missing = "pyarrow" if spec is not None else f"{PACKAGE} {VERSION}"
        raise MissingPackageError("the table of measured kernels", missing, extra="silicon")
    return Path(next(iter(spec.submodule_search_locations))) / "systems" / "data"


def version_remark() -> str | None:
    """One line where the installed package is another version than the one the readers were written for."""
    try:
        installed = metadata.version(PACKAGE)
    except metadata.PackageNotFoundError:
        return None
    if installed == VERSION:
        return None
    return f"{PACKAGE} {installed} is installed, these readers know {VERSION}: tables that differ are skipped"


def read_measurements(
    folder: str, spec: TableSpec, *, root: Path | None = None, backend: str | None = None
) -> tuple[list[Measurements], list[Skipped]]:
    """The rows of one table on one accelerator, one Measurements per format, and what was skipped.

    ``folder`` is a key of :data:`FOLDERS`; ``backend`` keeps one backend's kernels, None the fastest of all.
    """
    root = tables_root() if root is None else root
    family, skipped = family_of(spec.family), []
    parts: list[dict[str, Any]] = []
    for name, path in _current_tables(root / folder / spec.folder, folder, spec.file):
        if backend not in (None, name.split()[0]):
            continue
        try:
            part = _read(path, family, spec)
        except _BadTableError as error:
            skipped.append(Skipped(where=str(path.relative_to(root)), reason=str(error)))
            continue
        parts.append({**part, "backend": name})
        for reason, count in part["unknown"].items():
            skipped.append(Skipped(where=str(path.relative_to(root)), reason=reason, count=count))
    found = []
    for fmt in dict.fromkeys(spec.formats.values() if spec.format_column else (spec.only_format,)):
        rows, dropped = _join(parts, fmt, family.dimensions)
        if dropped:
            where = f"{folder}/{family.label}/{fmt}"
            skipped.append(Skipped(where=where, reason="the latency is no positive number", count=dropped))
        if rows is None:
            continue
        columns, seconds, kernels, backends = rows
        fastest = "" if len(backends) == 1 or "library" in columns else "fastest of "
        libraries: tuple[str, ...] = ()
        if "library" in columns:
            names, places = np.unique(columns["library"].astype(str), return_inverse=True)
            libraries = tuple(names.tolist())
            columns = {**columns, "library": places.ravel().astype(np.float64)}
        found.append(
            Measurements(
                accelerator=FOLDERS.get(folder, folder), family=spec.family, number_format=fmt, columns=columns,
                seconds=seconds, kernels=kernels, source=f"{PACKAGE} {VERSION}, {fastest}{', '.join(backends)}",
                libraries=libraries,
            )
        )  # fmt: skip
    return found, skipped


def kernel_tables(folder: str, spec: TableSpec, *, root: Path | None = None) -> list[Measurements]:
    """The rows of one family on one accelerator apart by the kernel that was measured, one per backend and format.

    Tables that cannot be read are left out; :func:`read_measurements` says why.
    """
    root = tables_root() if root is None else root
    family = family_of(spec.family)
    found = []
    for backend, path in _current_tables(root / folder / spec.folder, folder, spec.file):
        try:
            part = _read(path, family, spec)
        except _BadTableError:
            continue
        for fmt in dict.fromkeys(spec.formats.values() if spec.format_column else (spec.only_format,)):
            for kernel in np.unique(part["kernels"][part["formats"] == fmt].astype(str)).tolist():
                mine = {
                    **part,
                    "formats": np.where(part["kernels"] == kernel, part["formats"], ""),
                    "backend": backend,
                }
                rows, _ = _join([mine], fmt, family.dimensions)
                if rows is not None:
                    columns, seconds, kernels, _ = rows
                    found.append(
                        Measurements(accelerator=FOLDERS.get(folder, folder), family=spec.family, number_format=fmt,
                                     columns=columns, seconds=seconds, kernels=kernels, source=backend)
                    )  # fmt: skip
    return found


def _current_tables(place: Path, folder: str, file: str) -> list[tuple[str, Path]]:
    """The current version of each backend's table; the newest where the current one does not hold the table."""
    found = []
    backends = (
        [place]
        if place.name in COLLECTIVES
        else sorted(p for p in place.glob("*") if p.is_dir() and p.name not in COLLECTIVES)
    )
    for backend in backends:
        tables = {path.parent.name: path for path in backend.glob(f"*/{file}.parquet")}
        if tables:
            current = CURRENT_OF.get(folder, {}).get(backend.name, CURRENT.get(backend.name, ""))
            version = current if current in tables else max(tables, key=version_key)
            found.append((f"{backend.name} {version}", tables[version]))
    return found


def measured_tables(
    accelerator: str | None = None, *, family: str | None = None, root: Path | None = None
) -> tuple[list[Measurements], list[Skipped]]:
    """The measured rows of one accelerator (by its name here) or of all, of one family or of all.

    Raises:
        MissingPackageError: no tables are installed.
        NotCoveredError: none is of this accelerator.
        UnknownNameError: there is no such family.
    """
    root = tables_root() if root is None else root
    wanted = None if family is None else family_of(family).name
    folders = [folder for folder, name in FOLDERS.items() if accelerator in (None, name)]
    if not folders:
        raise NotCoveredError(
            f"{accelerator} has no measured tables", f"{PACKAGE} holds {', '.join(FOLDERS.values())}",
            "name one of those, or your own measurements: --data FILE",
        )  # fmt: skip
    tables, skipped = [], []
    for folder in folders:
        for spec in TABLES:
            if wanted in (None, spec.family):
                found, left = read_measurements(folder, spec, root=root)
                tables += found
                skipped += left
        if wanted is None:
            skipped += unread(folder, root)
    known = set(FOLDERS)
    for path in sorted(root.glob("*")) if accelerator is None else ():
        if path.is_dir() and path.name not in known and any(path.rglob("*.parquet")):
            skipped.append(Skipped(where=path.name, reason="a device whose name is not ours"))
    return tables, skipped


def version_key(text: str) -> tuple[tuple[int, ...], str]:
    """A version in the order of its numbers: 2.9 comes before 2.27."""
    return tuple(int(n) for n in re.findall(r"\d+", text)), text


class _BadTableError(Exception):
    """A table that cannot be used, with the reason."""


def _read(path: Path, family: Family, spec: TableSpec) -> dict[str, Any]:
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        table = pq.read_table(path)
    except (pa.ArrowInvalid, OSError) as error:
        raise _BadTableError(f"cannot be read: {str(error).splitlines()[0]}") from error
    names = table.column_names
    if spec.family == "exchange":
        table = table.append_column("mode", pa.array(_modes(table)))
    derived = ("backend", "library", *spec.constants)
    wanted = {name: spec.rename.get(name, name) for name in family.dimensions if name not in derived}
    absent = [name for name, theirs in wanted.items() if theirs not in table.column_names]
    missing = [wanted[name] for name in absent if name not in family.defaults]
    missing += [name for name in (spec.latency, spec.format_column) if name and name not in names]
    if missing:
        raise _BadTableError(f"lacks the column {', '.join(missing)}")
    count, backend = table.num_rows, path.parents[1].name
    kernels = _words(table, "kernel_source")
    try:
        times = table[spec.latency].to_numpy().astype(np.float64)
        columns: dict[str, NDArray[Any]] = {}
        for name in family.dimensions:
            if name == "library":
                columns[name] = _library(table, backend, kernels, spec)
            elif name == "backend":
                columns[name] = np.full(count, float(BACKENDS.index(backend)))
            elif name in spec.constants or name in absent:
                columns[name] = np.full(count, spec.constants.get(name, family.defaults.get(name, 0.0)))
            elif name in spec.parts:
                words = _words(table, wanted[name])
                place = {word: _place(word, spec.parts[name]) for word in set(words)}
                columns[name] = np.array([place[word] for word in words])
            elif name in spec.codes:
                code = spec.codes[name]
                columns[name] = np.array(
                    [code.get(word, np.nan) for word in _words(table, wanted[name])], float
                )
            else:
                columns[name] = table[wanted[name]].to_numpy().astype(np.float64) * spec.scales.get(name, 1.0)
    except (ValueError, TypeError) as error:
        raise _BadTableError(f"holds text where a number belongs: {error}") from error
    if "nccl_dtype" in names:
        columns["num_bytes"] *= np.array([_ELEMENT_BYTES.get(d, np.nan) for d in _words(table, "nccl_dtype")])
    # A row whose word is not in our codes is another operator; it is left out, and counted, before times are judged.
    known, unknown = np.ones(count, bool), Counter()
    for name in spec.codes:
        strange = ~np.isfinite(columns[name])
        known &= ~strange
        words = np.array(_words(table, wanted[name]), dtype=object)[strange]
        unknown.update(f"{wanted[name]} {word} is not known here" for word in words.tolist())
    formats = _words(table, spec.format_column) if spec.format_column else [""] * count
    ours = [spec.formats.get(name, "") if spec.format_column else spec.only_format for name in formats]
    unknown.update(
        f"{spec.format_column} {name} is not known here"
        for name, our in zip(formats, ours, strict=True)
        if not our
    )
    return {
        "columns": columns, "seconds": times * spec.unit_s, "kernels": np.array(kernels, dtype=object),
        "formats": np.where(known, np.array(ours, dtype=object), ""), "unknown": unknown,
    }  # fmt: skip


def _words(table: Any, column: str) -> list[str]:
    """A column of words; empty ones where the table does not have it."""
    if column not in table.column_names:
        return [""] * table.num_rows
    return [str(word) for word in table[column].to_pylist()]


def _library(table: Any, backend: str, kernels: list[str], spec: TableSpec) -> NDArray[Any]:
    """The name of each row's kernel."""
    if spec.also == "exchange":
        kernels, also = _words(table, "comm_backend"), _words(table, "comm_dtype")
    else:
        also = _words(table, spec.also)
    queries = _words(table, "attn_dtype")
    keys = list(zip(kernels, also, queries, strict=True))
    names = {
        (kernel, word, query): library_name(
            backend, f"{kernel}_{word}" if word else kernel, fp8=query == "fp8"
        )
        for kernel, word, query in set(keys)
    }
    return np.array([names[key] for key in keys], dtype=object)


def unread(folder: str, root: Path) -> list[Skipped]:
    """The tables of one accelerator that no reader takes: named, with their rows and the reason."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    taken = {
        path for spec in TABLES for _, path in _current_tables(root / folder / spec.folder, folder, spec.file)
    }
    files = {spec.file for spec in TABLES}
    found = []
    for path in sorted((root / folder).rglob("*.parquet")):
        if path in taken:
            continue
        reason = NOT_READ.get(path.stem, "no reader knows this table")
        if path.stem in files:
            reason = "another version of it is the current one"
        try:
            count = pq.read_metadata(path).num_rows
        except (pa.ArrowInvalid, OSError) as error:
            reason, count = f"cannot be read: {str(error).splitlines()[0]}", 1
        found.append(Skipped(where=str(path.relative_to(root)), reason=reason, count=count))
    return found


def _place(word: str, parts: tuple[str, ...]) -> float:
    return next((float(i) for i, part in enumerate(parts) if part and part in word), 0.0)


def _modes(table: Any) -> list[str]:
    """The way of an exchange: its library and its phase."""
    ways = zip(table["comm_backend"].to_pylist(), table["phase"].to_pylist(), strict=True)
    return [f"{way if f'{way}/{phase}' in MODES else 'other'}/{phase}" for way, phase in ways]


def _join(parts: list[dict[str, Any]], fmt: str, dimensions: tuple[str, ...]) -> tuple[Any, int]:
    """The rows of a format over all backends, the fastest of each shape; and how many had no valid time."""
    chosen = [(part, part["formats"] == fmt) for part in parts]
    chosen = [(part, mask) for part, mask in chosen if mask.any()]
    if not chosen:
        return None, 0
    columns = {name: np.concatenate([p["columns"][name][m] for p, m in chosen]) for name in dimensions}
    seconds = np.concatenate([p["seconds"][m] for p, m in chosen])
    kernels = np.concatenate([p["kernels"][m] for p, m in chosen])
    good = np.isfinite(seconds) & (seconds > 0)
    for column in columns.values():
        if column.dtype.kind == "f":
            good &= np.isfinite(column)
    dropped = int((~good).sum())
    columns, seconds, kernels = {n: c[good] for n, c in columns.items()}, seconds[good], kernels[good]
    # Fastest first, so that the first of equal shapes is the best kernel.
    keys = [
        c if c.dtype.kind == "f" else np.unique(c.astype(str), return_inverse=True)[1]
        for c in columns.values()
    ]
    order = np.lexsort((seconds, *reversed(keys)))
    keep = np.ones(order.size, bool)
    if order.size > 1:
        same: NDArray[np.bool_] = np.ones(order.size - 1, bool)
        for key in keys:
            same &= key[order][1:] == key[order][:-1]
        keep[1:] = ~same
    order = order[keep]
    names, counts = np.unique(kernels[order].astype(str), return_counts=True)
    by_share = tuple(str(names[i]) for i in np.argsort(-counts))
    return (
        {n: c[order] for n, c in columns.items()},
        seconds[order],
        by_share,
        [p["backend"] for p, _ in chosen],
    ), dropped
