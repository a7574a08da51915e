"""Fitting the constants of serving engines to published serving points.

Decisions: least squares on the logarithms of predicted over measured time with a soft-L1 loss and a prior at the value
that physics suggests; cells (model, system, engine) with many rows count as ``CELL`` rows each, so that no campaign
outvotes the rest. Factors on kernels are common to all engines. First times per output token with everything they
depend on, then times to first token, which read the former. Rows held out by the hash of model and system are never
seen; the intervals are quantiles of errors on shapes left out of the fit in turn (on systems where prefill is apart,
since nearly all of those rows are of one shape), since that is how a user's model meets it. Whether a published run
drafted tokens is decided before the fit, by the median of its fitted rows.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import least_squares

from shapewright.errors import MeasurementError
from shapewright.plan.engine import Engine
from shapewright.validation.serving_points import DRAFTS, Point, predict

Array = NDArray[np.float64]
NAMES = ("vllm", "sglang", "trtllm")
CELL = 60
"""Rows that one cell counts as, at most."""
TPOT_SCALE, TTFT_SCALE = 0.08, 0.15
"""Errors beyond these are counted linearly [ln time]."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Free:
    """One constant to fit: its prior in the transformed unit, and how far it may stray."""

    name: str
    start: float
    width: float
    linear: bool = False
    """True where it may be negative: fitted as it is, in multiples of ``start``'s unit; else its logarithm."""

    def value(self, x: float) -> float:
        """The constant of a fitted coordinate."""
        return x if self.linear else float(np.exp(x))

    def coordinate(self, value: float) -> float:
        """The fitted coordinate of a constant."""
        if self.linear:
            return value
        return float(np.log(value if value > 0 else self.start))


COMMON = (
    Free(name="products", start=1.0, width=0.15), Free(name="attention", start=1.0, width=0.15),
    Free(name="experts", start=1.0, width=0.15), Free(name="experts_4bit", start=1.0, width=0.2),
    Free(name="state", start=1.0, width=0.15), Free(name="memory", start=1.0, width=0.15),
    Free(name="reduce", start=1.0, width=0.15), Free(name="exchange", start=1.0, width=0.3),
    Free(name="acceptance", start=0.65, width=0.2),
)  # fmt: skip
OWN = (
    Free(name="kernel_s", start=0.0, width=1e-6, linear=True), Free(name="step_s", start=8e-4, width=1.0),
    Free(name="sequence_s", start=5e-6, width=1.0), Free(name="interleave", start=1.0, width=0.2),
    Free(name="draft", start=0.05, width=0.7),
    Free(name="apart_kernel_s", start=0.0, width=1e-6, linear=True), Free(name="apart_step_s", start=5e-4, width=1.0),
    Free(name="apart_sequence_s", start=5e-6, width=1.0),
)  # fmt: skip
FIRST = (
    Free(name="request_s", start=0.05, width=1.0), Free(name="own", start=1.0, width=0.3),
    Free(name="wait_steps", start=1.0, width=1.0), Free(name="burst", start=0.05, width=0.4),
    Free(name="hold", start=0.5, width=0.5),
    Free(name="queue", start=0.5, width=1.0),
)  # fmt: skip
APART = (
    Free(name="apart_request_s", start=0.1, width=1.0), Free(name="apart_own", start=1.0, width=0.3),
    Free(name="apart_wait_steps", start=1.0, width=1.0), Free(name="apart_burst", start=0.05, width=0.5),
)  # fmt: skip


def starts() -> dict[str, Engine]:
    """The engines before any fit: what their documentation states."""
    return {
        "vllm": Engine(name="vllm", label="vLLM 0.11 to 0.19", backend="vllm"),
        "sglang": Engine(name="sglang", label="SGLang 0.5", backend="sglang"),
        "trtllm": Engine(name="trtllm", label="TensorRT-LLM 1.0 to 1.3", backend="trtllm"),
    }


def fit_engines(points: Sequence[Point], *, intervals: bool = True) -> dict[str, Engine]:
    """Engines fitted to the rows that are not held out.

    Raises:
        MeasurementError: an engine has fewer rows than constants.
    """
    data = _Data(points)
    engines = starts()
    for name in NAMES:
        if np.sum(data.fitted & (data.engine == name)) < 3 * (len(OWN) + len(FIRST)):
            raise MeasurementError(
                f"{name} has too few fitted rows", "its constants need more", "add rows of it"
            )
    engines = _fit(data, engines, data.fitted)
    engines = _find_drafts(data, engines)
    engines = _fit(data, engines, data.fitted)
    errors = data.errors(engines)
    for name, engine in engines.items():
        mine = data.fitted & (data.engine == name)
        engines[name] = replace(
            engine, kind="fitted", num_rows=int(mine.sum()), source="silicon_sample.csv of aiconfigurator-core 0.12.0",
            tpot_median_error=float(np.median(np.abs(np.expm1(errors[1][mine])))),
            ttft_median_error=float(np.median(np.abs(np.expm1(errors[0][mine])))),
        )  # fmt: skip
    return _with_intervals(data, engines) if intervals else engines


class _Data:
    """The rows of all points side by side."""

    def __init__(self, points: Sequence[Point]) -> None:
        self.points = points
        rows = [row for point in points for row in point.rows]
        self.engine = np.array([row.engine for row in rows])
        self.rows = {str(name): np.flatnonzero(self.engine == name) for name in np.unique(self.engine)}
        self.kept: dict[str, deque[tuple[Engine, Array]]] = {name: deque(maxlen=3) for name in self.rows}
        self.model = np.array([row.model for row in rows])
        # Rows whose deployment is a guess say nothing about an engine.
        self.fitted = np.array([not row.held_out and not row.setups[0].weight for row in rows])
        self.run = np.array([row.run for row in rows])
        self.apart = np.array([row.prefill is not None for row in rows])
        self.known = np.array([len({setup.drafted for setup in row.setups}) == 1 for row in rows])
        self.single = np.array([len(row.setups) == 1 for row in rows])
        self.system = np.array([row.system for row in rows])
        self.measured = np.log([[row.ttft_s for row in rows], [row.tpot_s for row in rows]])
        cells = np.array([f"{row.model}|{row.system}|{row.engine}" for row in rows])
        _, inverse, counts = np.unique(cells, return_inverse=True, return_counts=True)
        self.weight = np.sqrt(CELL / np.maximum(counts, CELL))[inverse]

    def errors(self, engines: dict[str, Engine]) -> Array:
        """Logarithms of predicted over measured, (first token, output token) by row."""
        found = np.empty(self.measured.shape)
        for name, rows in self.rows.items():
            found[:, rows] = self._predicted(name, engines[name])
        return found - self.measured

    def _predicted(self, name: str, engine: Engine) -> Array:
        # A constant of one engine moves only its rows: the last few results of each are kept.
        kept = self.kept[name]
        for known, value in kept:
            if known == engine:
                return value
        parts = [np.log(predict(point, engine)) for point in self.points if point.rows[0].engine == name]
        kept.appendleft((engine, np.concatenate(parts, axis=1)))
        return kept[0][1]


def _fit(data: _Data, engines: dict[str, Engine], use: NDArray[np.bool_]) -> dict[str, Engine]:
    engines = _solve(data, engines, COMMON, OWN, 1, use & data.known, TPOT_SCALE)
    engines = _solve(data, engines, (), FIRST, 0, use & ~data.apart, TTFT_SCALE)
    engines = _share(data, engines, use & ~data.known)
    return _solve(data, engines, (), APART, 0, use & data.apart, TTFT_SCALE)


def _solve(
    data: _Data, engines: dict[str, Engine], common: tuple[Free, ...], own: tuple[Free, ...], which: int,
    use: NDArray[np.bool_], scale: float,
) -> dict[str, Engine]:  # fmt: skip
    free = [*common, *(item for _ in NAMES for item in own)]
    start = np.array([f.start if f.linear else np.log(f.start) for f in free])
    width = np.array([f.width for f in free])

    def engines_at(z: Array) -> dict[str, Engine]:
        x = start + z * width
        shared = {f.name: f.value(v) for f, v in zip(common, x, strict=False)}
        found = {}
        for i, name in enumerate(NAMES):
            part = x[len(common) + i * len(own) :][: len(own)]
            each = {f.name: f.value(v) for f, v in zip(own, part, strict=True)}
            found[name] = replace(engines[name], **shared, **each)
        return found

    def residuals(z: Array) -> Array:
        return np.concatenate(
            [(data.errors(engines_at(z))[which] * data.weight)[use] / scale, z * PRIOR / scale]
        )

    owners = [*(NAMES[0] for _ in common), *(name for name in NAMES for _ in own)]
    now = [f.coordinate(getattr(engines[name], f.name)) for f, name in zip(free, owners, strict=True)]
    first = (np.array(now) - start) / width
    solution = least_squares(residuals, first, loss="soft_l1", diff_step=1e-3, max_nfev=ROUNDS)
    return engines_at(solution.x)


def _share(data: _Data, engines: dict[str, Engine], unknown: NDArray[np.bool_]) -> dict[str, Engine]:
    """How often runs that may have drafted or not, by their recipes, are nearer to those that did."""
    if not unknown.any():
        return engines
    miss = [
        np.abs(data.errors({name: replace(e, drafting=share) for name, e in engines.items()})[1])
        for share in (0.0, 1.0)
    ]
    share = float(np.mean((miss[1] < miss[0])[unknown]))
    return {name: replace(engine, drafting=share) for name, engine in engines.items()}


ROUNDS = 16
"""Steps of one least-squares fit at most."""
PRIOR = 1.0
"""Weight of the prior against one row of the data, times the width."""


def _find_drafts(data: _Data, engines: dict[str, Engine]) -> dict[str, Engine]:
    """Runs whose rows are better explained by drafted tokens, by the median error of their fitted rows."""
    tables: dict[str, dict[str, int]] = {name: {} for name in NAMES}
    errors = {}
    for k in DRAFTS:
        runs = {name: dict.fromkeys(np.unique(data.run), k) for name in NAMES}
        errors[k] = data.errors({n: replace(engines[n], speculates=runs[n]) for n in NAMES})[1]
    for name in NAMES:
        for run in np.unique(data.run[(data.engine == name) & data.fitted]):
            rows = (
                (data.engine == name)
                & (data.run == run)
                & data.fitted
                & (errors[1] != errors[0])
                & ~data.apart
            )
            if rows.sum() < FEWEST:
                continue
            typical = {k: float(np.median(np.abs(errors[k][rows]))) for k in DRAFTS}
            best = min(typical, key=lambda k: typical[k])
            if best and typical[best] < CLEAR * typical[0]:
                tables[name][str(run)] = best
    return {name: replace(engine, speculates=tables[name]) for name, engine in engines.items()}


FOLDS = 4
"""Parts of the models (and systems) that are left out in turn; each is in one."""
FEWEST = 5
CLEAR = 0.7
"""A run is said to have drafted where that brings its median error below this share of what it is without."""


def _with_intervals(data: _Data, engines: dict[str, Engine]) -> dict[str, Engine]:
    left = np.full(data.measured.shape, np.nan)
    models, systems = np.unique(data.model[data.fitted]), np.unique(data.system[data.fitted & data.apart])
    for fold in range(FOLDS):
        away = np.where(
            data.apart, np.isin(data.system, systems[fold::FOLDS]), np.isin(data.model, models[fold::FOLDS])
        )
        out = data.fitted & away
        fitted = _fit(data, engines, data.fitted & ~out)
        left[:, out] = data.errors(fitted)[:, out]
    found = {}
    for name, engine in engines.items():
        mine = data.fitted & (data.engine == name) & np.isfinite(left[1])
        ends: dict[str, Any] = {}
        for which, label in ((0, "ttft"), (1, "tpot")):
            # What is not known of a deployment widens its row's interval by itself (``Mixture.ends``).
            for rows, prefix in (
                (mine & ~data.apart, ""),
                (data.fitted & data.apart & data.single, "apart_"),
            ):
                low, high = np.quantile(
                    -left[which][rows], (0.05, 0.95), weights=data.weight[rows] ** 2, method="inverted_cdf"
                )
                ends |= {
                    f"{prefix}{label}_low": float(np.exp(low)),
                    f"{prefix}{label}_high": float(np.exp(high)),
                }
        found[name] = replace(engine, **ends)
    return found
