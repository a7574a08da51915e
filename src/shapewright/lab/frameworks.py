"""Fits the handful of constants per framework generation to published training runs.

Rows are split by a fixed hash of model and hardware: seven tenths are fitted on, three tenths are reported.
The objective is a soft-L1 loss on ln(predicted / measured), so that a few odd rows do not decide; rows of one model
on one device share a weight, so that a source of a thousand rows does not either. The spread of the interval is
conformal: each quarter of the fitted (model, hardware) pairs is scored by a fit on the others.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, replace
from hashlib import blake2b
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import least_squares

from shapewright.cost.price import CostModel
from shapewright.errors import ShapewrightError
from shapewright.plan.framework import Framework
from shapewright.plan.pairs import Workload
from shapewright.validation.published import GENERATIONS, Row, is_held_out
from shapewright.validation.training import Point, predict_row, regime_of, workload_of


@dataclass(frozen=True, slots=True)
class Constant:
    """One constant of a framework: where its search starts and where it ends."""

    name: str
    start: float
    low: float
    high: float


CONSTANTS = (
    Constant("matmul", 1.1, 0.9, 1.6),
    Constant("matmul_8bit", 1.0, 0.6, 1.8),
    Constant("experts", 1.3, 0.7, 3.0),
    Constant("attention", 1.3, 0.7, 3.0),
    Constant("attention_newer", 1.5, 1.0, 2.5),
    Constant("score_passes", 4.0, 0.01, 14.0),
    Constant("pointwise", 1.5, 0.7, 4.0),
    Constant("host_s", 2e-5, 1e-6, 2e-4),
    Constant("host_collective_s", 5e-5, 1e-6, 5e-4),
    Constant("host_experts_s", 3e-4, 1e-6, 3e-3),
    Constant("contention", 0.3, 0.01, 1.0),
    Constant("rails", 0.3, 0.02, 1.0),
    Constant("jitter", 0.004, 1e-4, 0.03),
)
"""Bounds are physical: clocks under sustained power and library choice make products 0.9 to 1.6 times their time alone;
pointwise kernels that are not fused move up to four times the bytes; scores that are not fused cross the memory
at most 14 times in the forward pass; nothing hides more than all of a transfer; devices of one kind differ by up to 3 %."""
ONLY = {
    "score_passes": ("megatron-deepspeed",),
    "attention_newer": ("fsdp",),
    "rails": ("megatron-deepspeed",),
    # XLA compiles the exchange of experts with a fixed number of tokens; the runs on AMD are dense.
    "host_experts_s": ("megatron-core", "megatron-core-26.06", "fsdp"),
    # One host's devices are too few to tell; XLA's pods run in lock-step.
    "jitter": ("megatron-core", "megatron-core-26.06", "megatron-deepspeed", "fsdp", "internevo"),
    "contention": (
        "fsdp",
        "megatron-core",
        "megatron-core-26.06",
        "megatron-deepspeed",
        "internevo",
        "maxtext",
    ),
}
"""Constants that only these generations have: fused attention came to Megatron-LM with Megatron-Core, and every
generation but the trainers of 2023 calls kernels written for the device."""
MAX_ROWS = 120
"""Rows of one generation that are fitted on at most: one source of a thousand rows should not take an hour."""
STEPS, FOLD_STEPS = 10, 2
"""Steps of a fit at most; the folds start where the whole fit ended."""
FOLDS = 4
COVERAGE = 0.9
FEWEST_ROWS = 10
"""Rows of a regime below which its spread is that of all."""
FEWEST_SPREAD = 0.02
"""Least half width of a spread: the same run repeated [ln time]."""


@dataclass(frozen=True, kw_only=True, slots=True)
class RememberingModel(CostModel):
    """Prices each call once: a fit asks for the same kernels again with other constants around them."""

    seen: dict[Any, NDArray] = field(default_factory=dict, compare=False)

    def _once(self, name: str, price: Callable[[], NDArray], *arguments: Any) -> NDArray:
        key = (name, *(x if isinstance(x, str | bool) or x is None else _bytes(x) for x in arguments))
        if key not in self.seen:
            self.seen[key] = price()
        return self.seen[key]

    def matmul(self, m: Any, n: Any, k: Any, number_format: str) -> NDArray:
        return self._once(
            "matmul", lambda: CostModel.matmul(self, m, n, k, number_format), m, n, k, number_format
        )

    def attention(self, **sizes: Any) -> NDArray:
        return self._once("attention", lambda: CostModel.attention(self, **sizes), *sizes.values())

    def pointwise(self, num_bytes: Any, activations: str = "bytes") -> NDArray:
        return self._once(
            "pointwise", lambda: CostModel.pointwise(self, num_bytes, activations), num_bytes, activations
        )

    def collective(self, kind: str, num_bytes: Any, group_size: int, tier: Any) -> NDArray:
        return self._once(
            "collective",
            lambda: CostModel.collective(self, kind, num_bytes, group_size, tier),
            kind, num_bytes, group_size, tier.bandwidth.value, tier.latency.value,
        )  # fmt: skip


def _bytes(value: Any) -> Any:
    array = np.asarray(value, float)
    return array.shape, array.tobytes()


def remembering(workload: Workload) -> Workload:
    """The workload with a cost model that prices each call once."""
    model = workload.model
    return replace(
        workload,
        model=RememberingModel(
            accelerator=model.accelerator, calibration=model.calibration, stand_in=model.stand_in
        ),
    )


def fit_generation(name: str, rows: Iterable[Row], progress: Callable[[], None] = lambda: None) -> Framework:
    """Fit one generation's constants.

    Raises:
        ValueError: fewer than four rows can be fitted on.
    """
    mine = [row for row in rows if row.generation == name]
    fitted_on = [row for row in mine if not is_held_out(row)]
    order = _in_turn(fitted_on)
    train, spare = order[:MAX_ROWS], order[MAX_ROWS:]
    workloads = {row.id: remembering(workload_of(row)) for row in train}
    start = _start(name)

    def point(row: Row, candidate: Framework) -> Point | None:
        workload = workloads.get(row.id) or workload_of(row)
        try:
            return predict_row(row, replace(workload, framework=candidate))
        except (ShapewrightError, ValueError):
            return None

    train = [row for row in train if point(row, start) is not None]
    if len(train) < 4:
        raise ValueError(f"{name}: {len(train)} rows to fit on")
    fitted = _least_squares(train, start, start, point, progress)
    scored: list[Point | None] = []
    for fold in range(FOLDS):
        left_out = [row for row in (*train, *spare) if _fold(row) == fold]
        others = [row for row in train if _fold(row) != fold]
        enough = left_out and len(others) >= 8
        candidate = (
            _least_squares(others, start, fitted, point, progress, most=FOLD_STEPS) if enough else fitted
        )
        scored += [point(row, candidate) for row in left_out]
    held = [p for row in mine if is_held_out(row) and (p := point(row, fitted))]
    errors = np.array([abs(p.error) for p in held])
    regimes = _by_regime([p for p in scored if p])
    return replace(
        fitted,
        kind="fitted",
        source=f"{len(train)} published runs",
        num_rows=len(train),
        num_held_out=len(held),
        spread=conformal_spread([p for p in scored if p]),
        spreads={name: conformal_spread(members) for name, members in regimes.items()},
        widths={name: _widths(members) for name, members in regimes.items()},
        hardware=tuple(sorted({row.hardware for row in mine})),
        median_error=float(np.median(errors)) if held else 0.0,
        p90_error=float(np.quantile(errors, 0.9)) if held else 0.0,
    )


def _in_turn(rows: list[Row]) -> list[Row]:
    """The rows in the order of a hash, one of each source after the other: a large source crowds out no small one."""
    taken: Counter[str] = Counter()
    order = []
    for row in sorted(rows, key=lambda row: blake2b(row.id.encode(), digest_size=8).digest()):
        order.append((taken[row.source], row))
        taken[row.source] += 1
    return [row for _, row in sorted(order, key=lambda pair: pair[0])]


def conformal_spread(points: list[Point]) -> float:
    """The half width within which nine tenths of the rows lie [ln time] (split conformal: Vovk et al. 2005)."""
    misses = [abs(np.log(p.row.step_time / p.predicted)) for p in points]
    rank = min(COVERAGE * (len(misses) + 1) / max(len(misses), 1), 1.0)
    return max(float(np.quantile(misses, rank)) if misses else 0.0, FEWEST_SPREAD)


def _by_regime(points: list[Point]) -> dict[str, list[Point]]:
    """The points of each regime that has at least FEWEST_ROWS."""
    groups: dict[str, list[Point]] = {}
    for point in points:
        groups.setdefault(regime_of(point.row), []).append(point)
    return {name: members for name, members in sorted(groups.items()) if len(members) >= FEWEST_ROWS}


def _widths(points: list[Point]) -> tuple[float, float]:
    widths = [float(p.row.shape.hidden_size) for p in points]
    # A few odd rows do not stretch the range.
    low, high = np.quantile(widths, (0.02, 0.98), method="nearest")
    return float(low), float(high)


def _fold(row: Row) -> int:
    key = f"fold|{row.shape.name}|{row.hardware}".encode()
    return blake2b(key, digest_size=1).digest()[0] % FOLDS


def _free(name: str) -> tuple[Constant, ...]:
    return tuple(c for c in CONSTANTS if name in ONLY.get(c.name, (name,)))


def _start(name: str) -> Framework:
    start = Framework(name=name, label=GENERATIONS[name][0])
    return replace(start, **{c.name: c.start for c in _free(name)})


def _least_squares(
    train: list[Row],
    start: Framework,
    first: Framework,
    point: Callable[[Row, Framework], Point | None],
    progress: Callable[[], None],
    most: int = STEPS,
) -> Framework:
    """The constants that fit ``train`` best, pulled to those of ``start``, searched from those of ``first``."""
    constants = _free(start.name)
    per_pair = Counter((row.shape.name, row.hardware) for row in train)
    weights = np.array([per_pair[row.shape.name, row.hardware] ** -0.25 for row in train])

    def framework(x: NDArray) -> Framework:
        return replace(
            start, **{c.name: c.start * float(np.exp(v)) for c, v in zip(constants, x, strict=True)}
        )

    def residuals(x: NDArray) -> NDArray:
        progress()
        candidate = framework(x)
        errors = np.array(
            [
                np.log(found.predicted / row.step_time) if (found := point(row, candidate)) else 0.0
                for row in train
            ]
        )
        # A weak pull to the start keeps constants that the rows do not tell apart from running off.
        return np.concatenate([weights * errors, 0.02 * x])

    low, high = (np.log([getattr(c, end) / c.start for c in constants]) for end in ("low", "high"))
    found = least_squares(
        residuals,
        np.clip([np.log(getattr(first, c.name) / c.start) for c in constants], low + 1e-3, high - 1e-3),
        bounds=[low, high],
        loss="soft_l1",
        f_scale=0.1,
        diff_step=0.02,
        max_nfev=most,
    )
    return framework(found.x)
