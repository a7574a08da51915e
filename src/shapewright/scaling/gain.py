"""Compute-equivalent gain: how much compute an idea is worth, and whether that grows with scale.

Both arms follow ``L = E + exp(a - b ln(C / C0))`` with one floor E; the gain at cost C (FLOP, seconds or joules) is the
cost that the base needs for the new arm's loss, over C, and its slope is ``s = d ln gain / d ln C = b_new / b_base - 1``
(Davidson et al. 2023, arXiv 2312.07413, for the gain; Gundlach et al. 2025 for its growth).

Decisions: exponents fitted over different floors cannot be compared, so E is shared and a floor that ends on its
bound is reported. The fit is least squares on ln L (few, clean points); intervals resample runs within each arm.
Whether the arms differ at all, and whether their exponents do, is told by F-tests of nested fits, which keep their
rate of false verdicts with few runs where resampled intervals do not (benchmarks/LOG.md). A point gain is never the
verdict: the slope is, and only where both arms were tuned, because a mistuned learning rate alone makes a constant gain
look like a growing one. No difference is a null only where a difference would have shown. Neglected: a floor that
differs between arms.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal, cast

import numpy as np
from scipy.optimize import least_squares
from scipy.stats import f as f_distribution
from scipy.stats import t as t_distribution

from shapewright.errors import UsageError
from shapewright.scaling.forms import Array
from shapewright.scaling.law import Z90

MIN_RUNGS = 5
"""Fewest distinct costs per arm for a verdict."""
MIN_RUNS = 8
"""Fewest runs of both arms together for a fit with its errors."""
MIN_RANGE = 30.0
"""Least ratio of the largest common cost to the smallest for a verdict."""
FALSE_RATE = 0.025
"""Chance of telling two equal arms apart, over all comparisons that are made at once."""
NULL_WITHIN = 1.5
"""A gain whose interval leaves this factor about 1 is not told to be none."""
WORTH_SLOPE, WORTH_GAIN = 0.1, 1.2
"""What a ladder should be able to see, for the advice where it cannot."""
Tuning = Literal["tuned", "transferred", "untuned"]
Verdict = Literal[
    "null", "constant gain", "constant loss", "growing", "shrinking", "crossing", "inconclusive"
]


@dataclass(frozen=True, kw_only=True, slots=True)
class Arm:
    """Runs of one architecture or recipe over cost."""

    name: str
    cost: Array
    """Training cost of each run: FLOP counted exactly for this arm (head and attention included), or [s], or [J]."""
    loss: Array
    """Final loss of each run [nat/token], on the same data and tokenizer as the other arm."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Gain:
    """The comparison of two arms."""

    floor: float
    """Shared floor E [nat/token]."""
    floor_on_bound: bool
    """True where E ended on its bound: the exponents are then not measured."""
    exponent_new: float
    exponent_base: float
    slope: float
    """s = b_new / b_base - 1."""
    slope_low: float
    slope_high: float
    difference_p: float
    """Probability of this difference of the arms where both are one."""
    f_test_p: float
    """Probability of this difference of exponents where both are equal."""
    aicc_difference: float
    """AICc with separate exponents minus AICc with one; below -2 separate exponents are worth their parameter."""
    detectable_slope: float
    """Smallest |s| that these runs could tell from 0."""
    detectable_gain: float
    """Smallest constant factor that these runs could tell from 1 at the middle of the range."""
    cost: Array
    """Costs at which the gain is given."""
    gain: Array
    """Compute-equivalent gain at each."""
    gain_low: Array
    gain_high: Array
    beyond_cost: Array
    """Ten and a hundred times the largest common cost: extrapolated."""
    beyond_gain: Array
    beyond_low: Array
    beyond_high: Array
    held_out_inside: bool
    """The largest run of each arm lay inside the 90 % band of a fit without both."""
    verdict: Verdict
    reasons: tuple[str, ...]
    """Why the verdict is what it is, what caps it, and what more would take."""


def compare(
    new: Arm,
    base: Arm,
    *,
    at_cost: Array | None = None,
    tuning: Tuning = "untuned",
    floor_max: float | None = None,
    comparisons: int = 1,
    draws: int = 200,
    seed: int = 0,
) -> Gain:
    """Gain of ``new`` over ``base``.

    Args:
        new: the arm with the idea.
        base: the arm without it.
        at_cost: costs at which the gain is wanted; None for seven over the common range.
        tuning: how the learning rate was chosen in both arms; untuned arms never get a verdict.
        floor_max: upper bound of E; None for the lowest loss seen.
        comparisons: ideas tested at once; intervals and tests share their chance of error among them (Bonferroni).
        draws: bootstrap resamples.
        seed: of the resampling.

    Raises:
        UsageError: an arm has fewer than three costs, there are too few runs, or the arms do not overlap in cost.
    """
    for arm in (new, base):
        if len(np.unique(arm.cost)) < 3:
            raise UsageError(
                f"arm {arm.name!r} has {len(np.unique(arm.cost))} distinct computes",
                f"an exponent needs 3, a verdict {MIN_RUNGS}", "add rungs with twice the size each",
            )  # fmt: skip
    if len(new.loss) + len(base.loss) < MIN_RUNS:
        raise UsageError(
            f"{len(new.loss) + len(base.loss)} runs in both arms",
            f"five numbers are fitted to them, so {MIN_RUNS} are the least", "add rungs or seeds",
        )  # fmt: skip
    low, high = max(new.cost.min(), base.cost.min()), min(new.cost.max(), base.cost.max())
    if not low < high:
        raise UsageError(
            "the arms do not overlap in compute",
            "a gain is read at equal compute",
            "run both at common rungs",
        )
    inside_at = np.geomspace(low, high, 7) if at_cost is None else np.asarray(at_cost, float)
    beyond = np.array([10.0, 100.0]) * high
    at = np.concatenate((inside_at, beyond, [np.sqrt(low * high)]))
    limit = float(min(new.loss.min(), base.loss.min()) * 0.999) if floor_max is None else floor_max
    theta, squares = _fit(new, base, limit, "separate")
    _, squares_shared = _fit(new, base, limit, "one exponent")
    _, squares_one = _fit(new, base, limit, "one arm")
    count = len(new.loss) + len(base.loss)
    freedom = count - 5
    spread = squares / freedom
    rng = np.random.default_rng(seed)
    resampled = [
        _fit(_resample(new, rng), _resample(base, rng), limit, "separate", start=theta)[0]
        for _ in range(draws)
    ]
    slopes = np.array([t[3] / t[4] - 1.0 for t in resampled])
    scale = _scale(new, base)
    gains = np.log([_gain_at(t, at / scale) for t in resampled])
    # Resampling n runs understates the spread of p parameters by sqrt((n - p) / n).
    widen = np.sqrt(count / freedom)
    tails = [0.05 / comparisons, 1.0 - 0.05 / comparisons]
    slope = float(theta[3] / theta[4] - 1.0)
    slope_low, slope_high = (float(slope + widen * (v - slope)) for v in np.quantile(slopes, tails))
    log_gain = np.log(_gain_at(theta, at / scale))
    gain_low, gain_high = np.exp(log_gain + widen * (np.quantile(gains, tails, axis=0) - log_gain))
    wanted = len(inside_at)
    found = _Found(
        gain_low=gain_low[:wanted], gain_high=gain_high[:wanted], slope=slope,
        middle=float(np.exp(log_gain[-1])), range=float(high / low),
        difference_p=_f_test(squares_one - squares, 2, spread, freedom),
        gain_p=_f_test(squares_one - squares_shared, 1, squares_shared / (count - 4), count - 4),
        slope_p=_f_test(squares_shared - squares, 1, spread, freedom),
        detectable_slope=float(Z90 * widen * np.std(slopes)),
        detectable_gain=float(np.exp(Z90 * widen * np.std(gains[:, -1]))),
    )  # fmt: skip
    largest = _largest_inside(new, base, limit)
    on_bound = bool(theta[0] > limit - 1e-3 or theta[0] < 1e-3)
    verdict, reasons = _judge(new, base, found, tuning, FALSE_RATE / comparisons)
    cautions = []
    if verdict != "inconclusive" or not reasons:
        if on_bound:
            cautions.append("the shared floor ended on its bound: give a wider one, exponents depend on it")
        if not largest:
            cautions.append("the largest run lies outside what the smaller ones predict: do not extrapolate")
    return Gain(
        floor=float(theta[0]), floor_on_bound=on_bound, exponent_new=float(theta[3]), exponent_base=float(theta[4]),
        slope=slope, slope_low=slope_low, slope_high=slope_high, difference_p=found.difference_p, f_test_p=found.slope_p,
        aicc_difference=_aicc(squares, count, 5) - _aicc(squares_shared, count, 4),
        detectable_slope=found.detectable_slope, detectable_gain=found.detectable_gain, cost=inside_at,
        gain=np.exp(log_gain[:wanted]), gain_low=found.gain_low, gain_high=found.gain_high, beyond_cost=beyond,
        beyond_gain=np.exp(log_gain[wanted:-1]), beyond_low=gain_low[wanted:-1], beyond_high=gain_high[wanted:-1],
        held_out_inside=largest, verdict=verdict, reasons=(*cautions, *reasons),
    )  # fmt: skip


def gain_from_minima(new_flops: Array, new_loss: Array, base_flops: Array, base_loss: Array) -> Array:
    """Gain at each compute of the new arm from best losses at equal compute (isoFLOP minima), without a fit.

    The base is interpolated in ln loss over ln compute, and extrapolated by its last two points.
    """
    order = np.argsort(base_flops)
    x, y = np.log(base_flops[order]), np.log(base_loss[order])
    wanted = np.log(new_loss)
    segment = np.clip(np.searchsorted(-y, -wanted) - 1, 0, len(x) - 2)
    slope = (x[segment + 1] - x[segment]) / (y[segment + 1] - y[segment])
    return np.exp(x[segment] + slope * (wanted - y[segment]) - np.log(new_flops))


def hardware_adjusted(gain: Array, mfu_new: float, mfu_base: float) -> Array:
    """Gain in device-time instead of FLOP: an idea that runs at half the utilisation is worth half."""
    return np.asarray(gain, float) * mfu_new / mfu_base


def slope_between(gain_small: float, gain_large: float, compute_ratio: float) -> float:
    """d ln gain / d ln compute from the gains at two scales whose base compute differs by ``compute_ratio``."""
    return float(np.log(gain_large / gain_small) / np.log(compute_ratio))


@dataclass(frozen=True, kw_only=True, slots=True)
class _Found:
    """What a verdict is made of."""

    gain_low: Array
    gain_high: Array
    slope: float
    middle: float
    range: float
    difference_p: float
    gain_p: float
    slope_p: float
    detectable_slope: float
    detectable_gain: float


def _f_test(more: float, parameters: int, spread: float, freedom: int) -> float:
    return float(f_distribution.sf(max(more, 0.0) / parameters / spread, parameters, freedom))


def _scale(new: Arm, base: Arm) -> float:
    """The cost at which the amplitudes stand: the middle of all, so that any unit serves."""
    return float(np.exp(np.mean(np.log(np.concatenate([new.cost, base.cost])))))


Model = Literal["separate", "one exponent", "one arm"]


def _fit(
    new: Arm, base: Arm, limit: float, model: Model, *, start: Array | None = None
) -> tuple[Array, float]:
    """(E, a_new, a_base, b_new, b_base) at the middle cost, and the sum of squares of ln loss."""
    x = np.log(np.concatenate([new.cost, base.cost]) / _scale(new, base))
    y = np.log(np.concatenate([new.loss, base.loss]))
    is_new = np.arange(len(x)) < len(new.cost)
    # Which of the five parameters each free one stands for.
    columns = {"separate": (0, 1, 2, 3, 4), "one exponent": (0, 1, 2, 3, 3), "one arm": (0, 1, 1, 2, 2)}[
        model
    ]

    def parts(t: Array) -> tuple[float, Array]:
        e, a_new, a_base, b_new, b_base = t[list(columns)]
        return e, np.exp(np.where(is_new, a_new - b_new * x, a_base - b_base * x))

    def residuals(t: Array) -> Array:
        e, term = parts(t)
        return np.log(e + term) - y

    def jacobian(t: Array) -> Array:
        e, term = parts(t)
        share = term / (e + term)
        full = (1.0 / (e + term), share * is_new, share * ~is_new, -share * x * is_new, -share * x * ~is_new)
        return np.stack(
            [sum(full[i] for i, c in enumerate(columns) if c == free) for free in range(max(columns) + 1)],
            axis=1,
        )

    if start is None:
        level = np.log(max(float(np.exp(np.mean(y))) - 0.6 * limit, 1e-3))
        start = np.array([0.6 * limit, level, level, 0.1, 0.1])
    first = start[[columns.index(free) for free in range(max(columns) + 1)]]
    kinds = [columns.index(free) for free in range(max(columns) + 1)]
    low = np.array([0.0, -20.0, -20.0, 1e-4, 1e-4])[kinds]
    high = np.array([limit, 20.0, 20.0, 2.0, 2.0])[kinds]
    found = least_squares(
        residuals, np.clip(first, low + 1e-6, high - 1e-6), jac=cast(Any, jacobian), bounds=(low, high)
    )
    return found.x[list(columns)], float(2.0 * found.cost)


def _gain_at(theta: Array, cost: Array) -> Array:
    """Gain at ``cost`` in units of the middle one."""
    _, a_new, a_base, b_new, b_base = theta
    x = np.log(cost)
    return np.exp((a_base - a_new + b_new * x) / b_base - x)


def _resample(arm: Arm, rng: np.random.Generator) -> Arm:
    while True:
        rows = rng.integers(0, len(arm.loss), len(arm.loss))
        if len(np.unique(arm.cost[rows])) >= 3:
            return Arm(name=arm.name, cost=arm.cost[rows], loss=arm.loss[rows])


def _aicc(squares: float, count: int, parameters: int) -> float:
    return (
        count * np.log(squares / count)
        + 2 * parameters
        + 2 * parameters * (parameters + 1) / (count - parameters - 1)
    )


def _largest_inside(new: Arm, base: Arm, limit: float) -> bool:
    """Whether all runs at the largest cost of each arm lie in a joint 90 % band of a fit to the rest."""
    kept = []
    for arm in (new, base):
        rest = arm.cost < arm.cost.max()
        kept.append(Arm(name=arm.name, cost=arm.cost[rest], loss=arm.loss[rest]))
    if any(len(np.unique(arm.cost)) < 3 for arm in kept):
        return False
    theta, squares = _fit(kept[0], kept[1], limit, "separate")
    scale = _scale(kept[0], kept[1])
    freedom = max(len(kept[0].loss) + len(kept[1].loss) - 5, 1)
    tops = sum(int(np.sum(arm.cost == arm.cost.max())) for arm in (new, base))
    # A prediction one rung ahead carries the scatter of a run and about as much again from the fit.
    band = t_distribution.ppf(0.5 + 0.5 * 0.9 ** (1.0 / tops), freedom) * np.sqrt(2.0 * squares / freedom)
    for arm, (a, b) in ((new, theta[[1, 3]]), (base, theta[[2, 4]])):
        top = arm.cost == arm.cost.max()
        told = np.log(theta[0] + np.exp(a - b * np.log(arm.cost[top] / scale)))
        if np.any(np.abs(told - np.log(arm.loss[top])) > band):
            return False
    return True


def _judge(
    new: Arm, base: Arm, found: _Found, tuning: Tuning, false_rate: float
) -> tuple[Verdict, tuple[str, ...]]:
    """The verdict, and why; what would be needed where there is none."""
    refused = []
    rungs = min(len(np.unique(new.cost)), len(np.unique(base.cost)))
    if rungs < MIN_RUNGS:
        refused.append(
            f"{rungs} rungs in an arm; a verdict needs {MIN_RUNGS}: add sizes, each twice the last"
        )
    if found.range < MIN_RANGE:
        refused.append(
            f"the arms share a range of {found.range:.0f}x; a verdict needs {MIN_RANGE:.0f}x: add larger rungs"
        )
    if tuning == "untuned":
        refused.append("learning rates were not tuned per arm: mistuning alone can fake a growing gain")
    if refused:
        return "inconclusive", tuple(refused)
    if found.difference_p > false_rate:
        widest = float(np.max(np.maximum(found.gain_high, 1.0 / found.gain_low)))
        if widest <= NULL_WITHIN:
            return "null", (f"the arms are not told apart (p = {found.difference_p:.2g}), and a gain of more than "
                            f"{widest:.2f}x would have shown",)  # fmt: skip
        return "inconclusive", (
            "the arms are not told apart, but the runs are too few to exclude a gain",
            _advice(new, base, found),
        )
    if found.slope_p <= false_rate:
        low, high = found.gain_low, found.gain_high
        if (low[0] > 1.0 and high[-1] < 1.0) or (high[0] < 1.0 and low[-1] > 1.0):
            return "crossing", ("which arm is better changes inside the range",)
        direction: Verdict = "growing" if found.slope > 0.0 else "shrinking"
        return direction, (
            f"the exponents differ (p = {found.slope_p:.2g}): d ln gain / d ln cost is {found.slope:+.3f}",
        )
    if found.gain_p <= false_rate:
        kind: Verdict = "constant gain" if found.middle > 1.0 else "constant loss"
        return kind, (f"the arms differ (p = {found.gain_p:.2g}) and their exponents are not told apart "
                      f"(p = {found.slope_p:.2g}; a slope of {found.detectable_slope:.3f} would have shown)",)  # fmt: skip
    return "inconclusive", (
        "the arms differ, but neither in level nor in slope for sure",
        _advice(new, base, found),
    )


def _advice(new: Arm, base: Arm, found: _Found) -> str:
    """How many runs would see what is worth seeing, the error falling with the root of their number."""
    count = len(new.loss) + len(base.loss)
    factor = (
        max(np.log(found.detectable_gain) / np.log(WORTH_GAIN), found.detectable_slope / WORTH_SLOPE) ** 2
    )
    return (
        f"these {count} runs can tell a gain of {found.detectable_gain:.2f}x and a slope of {found.detectable_slope:.2f}; "
        f"{WORTH_GAIN}x and {WORTH_SLOPE} take about {int(np.ceil(max(factor, 1.0) * count))} runs of this range, or fewer "
        "over a wider one"
    )
