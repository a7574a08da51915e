"""Least squares of two arms over one floor, for many resampled ladders at once.

The model: ``ln L = ln(E + exp(a_arm + d_length - b_arm x))`` with ``x = ln(C / C0)``, C0 the middle of all costs. The
runs of a ladder are branched: one run is judged at several lengths (tokens per parameter). Lengths shift the
amplitude (``d``, 0 for the longest) and leave the exponent alone, which is exact where loss falls as equal powers of
size and tokens; at equal length the shift cancels out of the gain.

Decisions: branches of one run share its seed and its constant phase, so they weigh as one run together and are
drawn together. All draws are fitted at once by a projected Levenberg-Marquardt over the rows' weights: a draw is the
same rows weighed otherwise. ``scipy.optimize.least_squares`` is its oracle in the tests.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from shapewright.errors import UsageError
from shapewright.scaling.forms import Array

Model = Literal["separate", "one exponent", "one arm"]
SHARED: dict[Model, tuple[int, ...]] = {
    "separate": (0, 1, 2, 3, 4), "one exponent": (0, 1, 2, 3, 3), "one arm": (0, 1, 1, 2, 2),
}  # fmt: skip
"""Which free parameter each of (E, a_new, a_base, b_new, b_base) is."""
MOST_STEPS, SETTLED = 100, 1e-12
LEAST_COSTS = 3
"""Distinct costs of an arm that fix an exponent."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Arm:
    """Runs of one architecture or recipe over cost."""

    name: str
    cost: Array
    """Training cost of each row: FLOP counted exactly for this arm (head and attention included), or [s], or [J]."""
    loss: Array
    """Final loss of each row [nat/token], on the same data and tokenizer as the other arm."""
    length: Array | None = None
    """Tokens per parameter of each row; None where all are alike."""
    run: NDArray[np.int64] | None = None
    """The run of which each row is a branch; None where every row is a run of its own."""

    @property
    def runs(self) -> NDArray[np.int64]:
        """The run of each row, counted from 0."""
        if self.run is None:
            return np.arange(len(self.loss))
        return np.unique(self.run, return_inverse=True)[1]

    def at(self, rows: NDArray[np.bool_]) -> Arm:
        """Some of the rows."""
        return Arm(
            name=self.name, cost=self.cost[rows], loss=self.loss[rows],
            length=None if self.length is None else self.length[rows], run=self.runs[rows],
        )  # fmt: skip


@dataclass(frozen=True, kw_only=True, slots=True)
class Pair:
    """The rows of two arms side by side."""

    x: Array
    """ln of cost over the middle cost."""
    y: Array
    """ln of loss."""
    is_new: NDArray[np.bool_]
    run: NDArray[np.int64]
    """Runs of the new arm first."""
    shift: Array
    """(rows, lengths - 1) 1 where a row has a length that is not the longest."""
    lengths: tuple[float, ...]
    """Ascending."""
    scale: float
    """The middle cost, so that any unit serves."""
    limit: float
    """Upper bound of the floor."""

    @property
    def num_runs(self) -> int:
        """Runs of both arms."""
        return int(self.run.max()) + 1

    @property
    def weight(self) -> Array:
        """Of each row: its run's share."""
        return 1.0 / np.bincount(self.run)[self.run]


def pair_of(new: Arm, base: Arm, limit: float) -> Pair:
    """Both arms for the fit.

    Raises:
        UsageError: one arm states lengths and the other does not.
    """
    if (new.length is None) != (base.length is None):
        raise UsageError(
            f"only one of {new.name!r} and {base.name!r} states tokens per parameter",
            "arms are compared at equal lengths", "give the column ratio to both or to none",
        )  # fmt: skip
    cost = np.concatenate([new.cost, base.cost])
    scale = float(np.exp(np.mean(np.log(cost))))
    count = len(cost)
    length = (
        np.ones(count)
        if new.length is None or base.length is None
        else np.concatenate([new.length, base.length])
    )
    lengths = np.unique(length)
    return Pair(
        x=np.log(cost / scale), y=np.log(np.concatenate([new.loss, base.loss])), is_new=np.arange(count) < len(new.cost),
        run=np.concatenate([new.runs, base.runs + new.runs.max() + 1]), lengths=tuple(map(float, lengths)),
        shift=(length[:, None] == lengths[None, :-1]).astype(float), scale=scale, limit=limit,
    )  # fmt: skip


def fit_all(
    pair: Pair, weights: Array, model: Model, *, floor: float | None = None, start: Array | None = None
) -> tuple[Array, Array]:
    """Fits of ``model`` under each row of ``weights``.

    Args:
        pair: the rows.
        weights: (draws, rows).
        model: what the arms share.
        floor: E, where it is not fitted.
        start: (E, a_new, a_base, b_new, b_base, d...) to begin from.

    Returns:
        (draws, 5 + lengths - 1) E, a_new, a_base, b_new, b_base and the shifts; (draws,) weighed squares of ln loss.
    """
    columns, extra = SHARED[model], pair.shift.shape[1]
    owners = [*columns, *range(max(columns) + 1, max(columns) + 1 + extra)]
    firsts = [owners.index(free) for free in range(max(owners) + 1)]
    gather = np.zeros((len(owners), len(firsts)))
    gather[np.arange(len(owners)), owners] = 1.0
    low = np.array([0.0, -20.0, -20.0, 1e-4, 1e-4, *[-20.0] * extra])[firsts]
    high = np.array([pair.limit, 20.0, 20.0, 2.0, 2.0, *[20.0] * extra])[firsts]
    if floor is not None:
        low[0] = high[0] = floor
    whole = _begin(pair) if start is None else start
    begin = np.clip(whole[firsts], low, high)
    begin[0] = np.clip(begin[0], low[0] + 1e-6 * (high[0] - low[0]), high[0] - 1e-6 * (high[0] - low[0]))
    theta, squares = _descend(pair, weights, np.tile(begin, (len(weights), 1)), low, high, gather)
    return theta @ gather.T, squares


def resampled(pair: Pair, draws: int, rng: np.random.Generator) -> Array:
    """(draws, rows) weights of runs drawn with repetition within each arm, branches with their run.

    A draw in which an arm has fewer than ``LEAST_COSTS`` costs is drawn again.
    """
    found = np.zeros((draws, len(pair.x)))
    for arm in (pair.is_new, ~pair.is_new):
        runs = np.unique(pair.run[arm])
        _, place = np.unique(pair.x[arm], return_inverse=True)
        missing = np.arange(draws)
        while missing.size:
            times = rng.multinomial(len(runs), np.full(len(runs), 1.0 / len(runs)), size=missing.size)
            rows = times[:, pair.run[arm] - runs[0]]
            costs = np.stack([rows[:, place == cost].any(axis=1) for cost in range(place.max() + 1)])
            good = costs.sum(axis=0) >= LEAST_COSTS
            found[np.ix_(missing[good], np.flatnonzero(arm))] = rows[good]
            missing = missing[~good]
    return found * pair.weight


def predicted(pair: Pair, theta: Array, x: Array, is_new: NDArray[np.bool_], shift: Array) -> Array:
    """ln loss of rows at ``x`` by one fit."""
    level = np.where(is_new, theta[1] - theta[3] * x, theta[2] - theta[4] * x) + shift @ theta[5:]
    return np.log(theta[0] + np.exp(level))


def gain_at(theta: Array, cost: Array | float, pair: Pair) -> Array:
    """Gain at ``cost``, by the parameters of one fit or of many (draws, ...)."""
    t = np.moveaxis(np.atleast_2d(theta), 1, 0)[:, :, None]
    x = np.log(np.atleast_1d(cost) / pair.scale)
    found = np.exp((t[2] - t[1] + t[3] * x) / t[4] - x)
    return found[0] if np.ndim(theta) == 1 else found


def _begin(pair: Pair) -> Array:
    level = np.log(max(float(np.exp(np.mean(pair.y))) - 0.6 * pair.limit, 1e-3))
    return np.array([0.6 * pair.limit, level, level, 0.1, 0.1, *[0.0] * pair.shift.shape[1]])


def _descend(
    pair: Pair, weights: Array, theta: Array, low: Array, high: Array, gather: Array
) -> tuple[Array, Array]:
    """Levenberg-Marquardt on all draws; a parameter on its bound that would leave it stays there for the step."""
    root = np.sqrt(weights)
    damping = np.full(len(theta), 1e-3)
    residual, jacobian = _terms(pair, theta, root, gather)
    squares = np.sum(residual**2, axis=1)
    open_ = np.arange(len(theta))
    for _ in range(MOST_STEPS):
        slope = np.einsum("bnp,bn->bp", jacobian, residual)
        curve = np.einsum("bnp,bnq->bpq", jacobian, jacobian)
        now = theta[open_]
        held = ((now <= low) & (slope > 0)) | ((now >= high) & (slope < 0)) | (low >= high)
        keep = (~held).astype(float)
        curve *= keep[:, :, None] * keep[:, None, :]
        diagonal = np.einsum("bpp->bp", curve)
        diagonal += damping[open_, None] * diagonal + held + 1e-14
        step = -np.linalg.solve(curve, (slope * keep)[:, :, None])[:, :, 0]
        tried = np.clip(now + step, low, high)
        residual_tried, jacobian_tried = _terms(pair, tried, root[open_], gather)
        squares_tried = np.sum(residual_tried**2, axis=1)
        better = squares_tried <= squares[open_]
        gained = squares[open_] - squares_tried
        settled = (better & (gained <= SETTLED * squares_tried)) | (damping[open_] > 1e12)
        theta[open_[better]], squares[open_[better]] = tried[better], squares_tried[better]
        damping[open_] = np.where(better, damping[open_] / 5.0, damping[open_] * 4.0)
        residual[better], jacobian[better] = residual_tried[better], jacobian_tried[better]
        residual, jacobian, open_ = residual[~settled], jacobian[~settled], open_[~settled]
        if not open_.size:
            break
    return theta, squares


def _terms(pair: Pair, theta: Array, root: Array, gather: Array) -> tuple[Array, Array]:
    """Weighed residuals (draws, rows) and their slopes (draws, rows, free parameters)."""
    t = theta @ gather.T
    e, a_new, a_base, b_new, b_base = (t[:, i, None] for i in range(5))
    level = np.where(pair.is_new, a_new - b_new * pair.x, a_base - b_base * pair.x) + t[:, 5:] @ pair.shift.T
    term = np.exp(np.clip(level, -60.0, 60.0))
    whole = e + term
    share = term / whole
    new, old = pair.is_new, ~pair.is_new
    slopes: Sequence[Array] = (
        1.0 / whole, share * new, share * old, -share * pair.x * new, -share * pair.x * old,
        *(share * column for column in pair.shift.T),
    )  # fmt: skip
    jacobian = np.stack(slopes, axis=2) @ gather
    return root * (np.log(whole) - pair.y), root[:, :, None] * jacobian
