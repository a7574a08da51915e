"""Predicted against measured kernels, per accelerator, family and format, on rows that were never fitted.

Decisions: rows of the installed tables count only where their hash puts them in the report's part; a file of somebody
else's is scored whole. The plain roofline (peaks from the catalogue, no coefficient) is scored on the same rows. A row
that cannot be predicted is counted and named, never dropped from the count. Slices are ``accelerator/family/format``,
the families under their names in the tables.
"""

from __future__ import annotations

import csv
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from shapewright.cost.choice import attention_fits, candidates, kernels_of
from shapewright.cost.device import Device, device_of
from shapewright.cost.families import family_of, variants
from shapewright.cost.family import Family, Measurements
from shapewright.cost.formats import FORMATS, KernelFormat
from shapewright.cost.interval import multipliers, roofline
from shapewright.cost.price import CostModel, Level, cost_model
from shapewright.cost.residual import Residual
from shapewright.errors import DocumentError, NotCoveredError, ShapewrightError, UnknownNameError
from shapewright.hardware.calibration import Fit
from shapewright.hardware.catalog import load_accelerator
from shapewright.validation.views import View, unmeasured_model

Array = NDArray[np.float64]
PLAIN = View()


@dataclass(frozen=True, kw_only=True, slots=True)
class Skip:
    """A row, or several of one kind, without a prediction."""

    row: str
    reason: str
    count: int = 1
    """Rows."""

    def entry(self) -> dict[str, str]:
        """Its line in the JSON document."""
        return {
            "row": self.row if self.count == 1 else f"{self.row}, {self.count} rows",
            "reason": self.reason,
        }


@dataclass(frozen=True, kw_only=True, slots=True)
class Scored:
    """Rows of one slice with their predictions."""

    name: str
    measured: Array
    predicted: Array
    low: Array
    high: Array
    baseline: Array
    missed: int = 0
    """Rows of the slice that could not be predicted."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Slice:
    """The errors of one slice, as fractions."""

    name: str
    count: int
    covered: int
    median_ape: float
    p90_ape: float
    bias: float
    """Median of predicted over measured, less one."""
    coverage_90: float
    """Share of rows inside their 90 % interval."""
    baseline_median_ape: float
    """Of the plain roofline."""


def kernel_device(model: CostModel, rows: Measurements) -> Device:
    """The nominal numbers that the rows run against.

    Raises:
        NotCoveredError: the peak of their format is unknown.
    """
    own = rows.number_format if family_of(rows.family).own_peak else "bf16"
    return device_of(model.accelerator, own, slots=model.stand_in.slots, cache=model.stand_in.cache)


def fits_for(model: CostModel, rows: Measurements) -> tuple[Fit, ...]:
    """The fits that price the rows of one variant: its own, or every kernel that it may be.

    Rows that do not say their kernel are priced with the fastest of those that serve them; so are rows of a kernel
    with too few rows for a fit of its own.

    Raises:
        NotCoveredError: no such kernel is calibrated on this accelerator.
    """
    base, _, variant = rows.family.partition("/")
    own = tuple(
        fit for fit in model.calibration.fits
        if fit.family == rows.family and fit.number_format == rows.number_format
    )  # fmt: skip
    if own:
        return own
    if base in ("attention", "attention_decode") and variant:
        size = variant.partition(".")[0]
        fits = attention_fits(
            model.calibration, base, rows.number_format, float(size.rstrip("w")), size.endswith("w")
        )
        return candidates(fits)
    found = kernels_of(model.calibration, base, variant, rows.number_format)
    found = found or kernels_of(model.calibration, base, variant.partition(".")[0], rows.number_format)
    if found:
        return candidates(found)
    return (model.fit(rows.family, rows.number_format),)


def score(model: CostModel, rows: Measurements, residual: Residual | None = None) -> Scored:
    """Predict the rows of one variant as their benchmark measured them, by the fastest kernel that may be theirs.

    Raises:
        NotCoveredError: family or format is not calibrated here, or has no published peak.
    """
    family, fmt = family_of(rows.family), kernel_format_of(rows)
    device, columns = kernel_device(model, rows), family.prepare(rows.columns)
    fits = fits_for(model, rows)
    predicted = np.full(len(rows), np.inf)
    low, high = np.ones(len(rows)), np.ones(len(rows))
    for number, fit in enumerate(fits):
        seconds = family.time(fit.coefficients, device, fmt, columns)
        seconds = model.corrected(seconds, fit, **rows.columns)
        served = family.serves(fit, rows.columns) | (number == 0)
        better = served & (seconds < predicted)
        ends = multipliers(fit, family, device, fmt, rows.columns)
        near = model.residual(fit)
        if near is not None:
            ends = (np.full(len(rows), near.low), np.full(len(rows), near.high))
        predicted, low, high = (
            np.where(better, new, old)
            for new, old in zip((seconds, *ends), (predicted, low, high), strict=True)
        )
    if residual is not None:
        predicted = predicted * residual.factor(rows.columns)
        low, high = np.full(len(rows), residual.low), np.full(len(rows), residual.high)
    return Scored(
        name=f"{rows.accelerator}/{family.label}/{rows.number_format}", measured=rows.seconds, predicted=predicted,
        low=predicted * low, high=predicted * high, baseline=roofline(family, device, fmt, rows.columns),
    )  # fmt: skip


def kernel_format_of(rows: Measurements) -> KernelFormat:
    """The kernel format of the rows; 16 bits where their format names another thing (bytes, a collective)."""
    return FORMATS.get(rows.number_format, FORMATS["bf16"])


def score_all(
    tables: Iterable[Measurements],
    *,
    held_out: tuple[int, ...] | None,
    with_residual: bool = False,
    view: View = PLAIN,
) -> tuple[list[Scored], list[Skip]]:
    """Predict all tables; ``held_out`` keeps the rows whose hash is in these parts, None keeps all.

    ``with_residual`` corrects the physics by the residuals of the rows outside ``held_out``; of somebody else's rows by
    those of all installed ones.

    Raises:
        UsageError: the view names a dimension that a table has not.
    """
    scored, skips, models = [], [], {}
    for table in tables:
        for rows in variants(table):
            part = rows.part()
            out = view.left_out(rows) if view.unseen else np.ones(len(rows), bool)
            kept = rows.take(out if held_out is None else out & np.isin(part, held_out))
            name = f"{rows.accelerator}/{family_of(rows.family).label}/{rows.number_format}"
            if not len(kept):
                continue
            pieces = list(view.pieces(kept))
            try:
                if rows.accelerator not in models:
                    level: Level = "residual" if with_residual and held_out is None else "physics"
                    models[rows.accelerator] = (
                        unmeasured_model(rows.accelerator)
                        if view.unmeasured
                        else cost_model(load_accelerator(rows.accelerator), level)
                    )
                model, residual = models[rows.accelerator], None
                if with_residual and held_out is not None:
                    known = rows.take(~out) if view.unseen else rows
                    residual = residual_of(model, known, held_out)
                for suffix, piece in pieces:
                    found = score(model, piece, residual)
                    scored.append(replace(found, name=found.name + suffix))
            except ShapewrightError as error:
                skips.append(Skip(row=name, reason=error.what, count=len(kept)))
                scored.append(_nothing(name, len(kept)))
    return scored, skips


def residual_of(model: CostModel, rows: Measurements, held_out: tuple[int, ...]) -> Residual:
    """The residuals of the rows that are not held out, for rows like them.

    Raises:
        NotCoveredError: the rows' family or format is not calibrated.
    """
    family, fmt = family_of(rows.family), kernel_format_of(rows)
    known = rows.take(~np.isin(rows.part(), held_out))
    fit, device = fits_for(model, known)[0], kernel_device(model, known)
    predicted = family.time(fit.coefficients, device, fmt, family.prepare(known.columns))
    return Residual.of(known, np.log(known.seconds / predicted))


def _nothing(name: str, count: int) -> Scored:
    empty = np.zeros(0)
    return Scored(
        name=name, measured=empty, predicted=empty, low=empty, high=empty, baseline=empty, missed=count
    )


def slices(scored: Iterable[Scored], unread: int = 0) -> list[Slice]:
    """One slice named ``all``, then one per family and format, and one per accelerator, family and format.

    ``unread`` rows of a file, which belong to no slice, are counted under ``all``.
    """
    groups: dict[str, list[Scored]] = {"all": [_nothing("all", unread)]}
    for item in scored:
        for name in ("all", item.name.partition("/")[2], item.name):
            groups.setdefault(name, []).append(item)
    return [_slice(name, members) for name, members in groups.items()]


def _slice(name: str, members: list[Scored]) -> Slice:
    def joined(attribute: str) -> Array:
        return np.concatenate([getattr(item, attribute) for item in members]) if members else np.zeros(0)

    measured, predicted, baseline = joined("measured"), joined("predicted"), joined("baseline")
    missed = sum(item.missed for item in members)
    if not measured.size:
        return Slice(name=name, count=missed, covered=0, median_ape=0.0, p90_ape=0.0, bias=0.0, coverage_90=0.0,
                     baseline_median_ape=0.0)  # fmt: skip
    error = predicted / measured - 1.0
    inside = (joined("low") <= measured) & (measured <= joined("high"))
    return Slice(
        name=name, count=measured.size + missed, covered=measured.size, median_ape=float(np.median(np.abs(error))),
        p90_ape=float(np.quantile(np.abs(error), 0.9)), bias=float(np.median(error)), coverage_90=float(inside.mean()),
        baseline_median_ape=float(np.median(np.abs(baseline / measured - 1.0))),
    )  # fmt: skip


def document(found: Iterable[Slice], skips: Iterable[Skip]) -> dict[str, Any]:
    """The JSON document of a validation."""
    return {"slices": [asdict(item) for item in found], "skipped": [item.entry() for item in skips]}


def by_reason(skips: Iterable[Skip]) -> dict[str, int]:
    """How many rows were left out for each reason, most first."""
    counts: Counter[str] = Counter()
    for item in skips:
        counts[item.reason] += item.count
    return dict(counts.most_common())


def read_file(path: Path) -> tuple[list[Measurements], list[Skip]]:
    """Somebody's measured kernels: columns ``accelerator, family, format, latency_s`` and the family's dimensions.

    Rows that cannot be used are returned with their reason.

    Raises:
        DocumentError: it is no CSV file with these columns.
    """
    try:
        with path.open(newline="", encoding="utf-8") as handle:
            reader = csv.DictReader(handle)
            header = reader.fieldnames or []
            missing = [
                name for name in ("accelerator", "family", "format", "latency_s") if name not in header
            ]
            if missing:
                raise DocumentError(
                    f"{path}: no column {', '.join(missing)}", "a kernel file has accelerator, family, format, latency_s"
                    " and the family's dimensions", "see: shapewright validate kernels --help",
                )  # fmt: skip
            lines = list(reader)
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise DocumentError(f"{path} cannot be read", str(error), "give a CSV file in UTF-8") from error
    groups: dict[tuple[str, str, str], list[tuple[dict[str, float], float]]] = {}
    skips = []
    for number, line in enumerate(lines, start=2):
        try:
            key, values, seconds = _row(line)
        except (ValueError, ShapewrightError) as error:
            what = error.what if isinstance(error, ShapewrightError) else str(error)
            skips.append(Skip(row=f"line {number}", reason=what))
            continue
        groups.setdefault(key, []).append((values, seconds))
    tables = [
        Measurements(
            accelerator=accelerator, family=family, number_format=fmt, source=str(path),
            columns={name: np.array([values[name] for values, _ in rows]) for name in family_of(family).dimensions},
            seconds=np.array([seconds for _, seconds in rows]),
        )
        for (accelerator, family, fmt), rows in groups.items()
    ]  # fmt: skip
    return tables, skips


def _row(line: Mapping[str, str | None]) -> tuple[tuple[str, str, str], dict[str, float], float]:
    """One line as its group, its dimensions and its time; a value that is none raises ValueError."""
    family = family_of((line["family"] or "").strip())
    accelerator = load_accelerator(line["accelerator"] or "")
    seconds = float(line["latency_s"] or "nan")
    if not (np.isfinite(seconds) and seconds > 0):
        raise ValueError(f"latency_s (={line['latency_s']!r}) is no positive number")
    values = {}
    for name in family.dimensions:
        text = line.get(name)
        if text in (None, ""):
            if name not in family.defaults:
                raise ValueError(f"{name} is missing")
            values[name] = family.defaults[name]
            continue
        values[name] = float(text or "nan")
        if not np.isfinite(values[name]) or values[name] < 0:
            raise ValueError(f"{name} (={text!r}) is no size")
    return (accelerator.name, family.name, _format(family, (line["format"] or "").strip())), values, seconds


def _format(family: Family, text: str) -> str:
    """A format by its name here, or as the tables call it."""
    name = {"bfloat16": "bf16", "float16": "fp16", "half": "fp16", "sq": "int8"}.get(text, text)
    if family.name in ("matmul", "moe") and name not in FORMATS:
        raise NotCoveredError(f"format (={text!r}) has no kernel format", f"known: {', '.join(FORMATS)}")
    return name


def only(
    tables: Iterable[Measurements], *, family: str | None, number_format: str | None
) -> list[Measurements]:
    """The tables of one family and format; None keeps all.

    Raises:
        UnknownNameError: no such family, or none of its tables is of this format.
    """
    wanted = None if family is None else family_of(family).name
    kept = [table for table in tables if wanted is None or table.family == wanted]
    if number_format is None:
        return kept
    found = [table for table in kept if table.number_format == number_format]
    if kept and not found:
        raise UnknownNameError("--format", number_format, {table.number_format for table in kept})
    return found
