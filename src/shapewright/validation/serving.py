"""Predicted against measured serving points, times to first token and per output token apart.

Decisions: every row of the file counts; one without a prediction is named, with the reason. Slices are
``tpot/...`` and ``ttft/...`` of all rows, of the rows that no fit saw (``held-out``: three tenths of the pairs of
architecture and system, by a fixed hash), and of each system, engine, model, dense or mixture, aggregated or not. The
baseline is a plain roofline of the same passes, without launches, communication or queues.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from shapewright.architecture.catalog import resolve_model
from shapewright.architecture.graph import num_active_params
from shapewright.architecture.shape import ExpertsFFN
from shapewright.hardware.catalog import load_accelerator
from shapewright.plan.engine import Engine, engines
from shapewright.validation.serving_points import Point, intervals, predict, price_rows
from shapewright.validation.serving_rows import ServedRow, read_serving

Array = NDArray[np.float64]
MEASURES = ("tpot", "ttft")


@dataclass(frozen=True, kw_only=True, slots=True)
class ServedPoint:
    """One row with its prediction; times in the order of ``MEASURES``."""

    row: ServedRow
    measured: tuple[float, float]
    """[s]"""
    predicted: tuple[float, float]
    """[s]"""
    low: tuple[float, float]
    high: tuple[float, float]
    baseline: tuple[float, float]
    """Of the plain roofline [s]."""
    dense: bool
    peer: tuple[float, float] | None = None
    """Of aiconfigurator, where it was asked and answered [s]."""

    def error(self, which: int) -> float:
        """Predicted over measured, less one."""
        return self.predicted[which] / self.measured[which] - 1.0


@dataclass(frozen=True, kw_only=True, slots=True)
class ServingSlice:
    """Errors of one slice, as fractions."""

    name: str
    count: int
    covered: int
    median_ape: float
    p90_ape: float
    bias: float
    coverage_90: float
    """Share of points inside their 90 % interval."""
    baseline_median_ape: float
    peer_covered: int = 0
    """Points that aiconfigurator predicted."""
    peer_median_ape: float | None = None
    """Of aiconfigurator on them."""
    median_ape_there: float | None = None
    """Ours on the same points."""


def predict_file(path: Path, *, recipes: bool = True) -> tuple[list[ServedPoint], list[tuple[str, str]], int]:
    """Predict every row of a file: the points, (row, reason) of the others, and how many rows there were.

    Args:
        path: CSV with the columns of silicon_sample.csv.
        recipes: where a row is silent, take what was published for its run; else defaults alone.

    Raises:
        DocumentError: the file has not the columns.
    """
    rows, skipped = read_serving(path, recipes=recipes)
    count = len(rows) + len(skipped)
    priced, failed = price_rows(rows, engines())
    points = [point for group in priced for point in score_group(group, engines()[group.rows[0].engine])]
    return points, [*skipped, *failed], count


def score_group(group: Point, engine: Engine) -> list[ServedPoint]:
    """The points of rows that were priced together."""
    ttft, tpot = predict(group, engine)
    ends = intervals(group, engine)[::-1]
    shape = resolve_model(group.rows[0].model)
    dense = not any(isinstance(block.channel, ExpertsFFN) for block in shape.blocks)
    active = float(num_active_params(shape))
    found = []
    for i, row in enumerate(group.rows):
        low, high = ((float(ends[0, k, i]), float(ends[1, k, i])) for k in (0, 1))
        found.append(
            ServedPoint(row=row, measured=(row.tpot_s, row.ttft_s), predicted=(float(tpot[i]), float(ttft[i])),
                        low=low, high=high, baseline=_roofline(row, active, group.formats.expert_bytes), dense=dense)
        )  # fmt: skip
    return found


def _roofline(row: ServedRow, active: float, weight: float) -> tuple[float, float]:
    """Both times by the peaks alone: active weights read once a token's step, FLOP of the prompt."""
    device = load_accelerator(row.system)
    assert device.memory_bandwidth is not None
    peak = max(device.peak_flops[name].value for name in ("bf16", "fp8") if name in device.peak_flops)
    pool = row.prefill or row.decode
    tpot = active * weight / (row.decode.layout.num_devices * device.memory_bandwidth.value)
    return float(tpot), float(2.0 * active * row.isl / (pool.layout.num_devices * peak))


def natural_keys(point: ServedPoint) -> Iterable[str]:
    """The slices of a point, beside ``all``."""
    row = point.row
    mode = "disaggregated" if row.prefill else "aggregated"
    kind = "dense" if point.dense else "moe"
    yield from (
        row.system,
        row.engine,
        row.model,
        kind,
        mode,
        f"{row.system}/{row.engine}/{row.model}/{kind}/{mode}",
    )
    if row.held_out:
        yield from ("held-out/all", f"held-out/{mode}", f"held-out/{row.engine}", f"held-out/{kind}")


def slices(
    points: Sequence[ServedPoint], missed: int, keys: Callable[[ServedPoint], Iterable[str]] = natural_keys
) -> list[ServingSlice]:
    """Score all points and each slice; ``missed`` rows have no prediction and count under ``all``."""
    groups: dict[str, list[ServedPoint]] = {"all": list(points)}
    for point in points:
        for key in keys(point):
            groups.setdefault(key, []).append(point)
    names = ["all", *sorted(name for name in groups if name != "all")]
    return [
        _slice(f"{measure}/{name}", groups[name], which, missed if name == "all" else 0)
        for name in names for which, measure in enumerate(MEASURES)
    ]  # fmt: skip


def _slice(name: str, members: Sequence[ServedPoint], which: int, missed: int) -> ServingSlice:
    errors = np.array([point.error(which) for point in members])
    if not errors.size:
        return ServingSlice(name=name, count=missed, covered=0, median_ape=0.0, p90_ape=0.0, bias=0.0, coverage_90=0.0,
                            baseline_median_ape=0.0)  # fmt: skip
    base = np.array([point.baseline[which] / point.measured[which] - 1.0 for point in members])
    inside = [point.low[which] <= point.measured[which] <= point.high[which] for point in members]
    asked = [point for point in members if point.peer is not None]
    peer = [abs(point.peer[which] / point.measured[which] - 1.0) for point in asked if point.peer]
    return ServingSlice(
        name=name, count=len(members) + missed, covered=len(members), median_ape=float(np.median(np.abs(errors))),
        p90_ape=float(np.quantile(np.abs(errors), 0.9)), bias=float(np.median(errors)),
        coverage_90=float(np.mean(inside)), baseline_median_ape=float(np.median(np.abs(base))), peer_covered=len(peer),
        peer_median_ape=float(np.median(peer)) if peer else None,
        median_ape_there=float(np.median([abs(point.error(which)) for point in asked])) if asked else None,
    )  # fmt: skip


def document(found: Sequence[ServingSlice], skipped: Sequence[tuple[str, str]]) -> dict[str, Any]:
    """The JSON document of the validation."""
    return {
        "slices": [asdict(item) for item in found],
        "skipped": [{"row": row, "reason": reason} for row, reason in skipped],
    }
