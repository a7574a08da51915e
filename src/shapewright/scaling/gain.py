"""Compute-equivalent gain: how much compute an idea is worth, and whether that grows with scale.

Both arms follow ``L = E + exp(a - b ln(C / C0))`` with one floor E; the gain at cost C (FLOP, seconds or joules) is the
cost that the base needs for the new arm's loss, over C, and its slope is ``s = d ln gain / d ln C = b_new / b_base - 1``
(Davidson et al. 2023, arXiv 2312.07413, for the gain; Gundlach et al. 2025 for its growth). Branches of one run, judged
at several lengths, share its exponent and shift its amplitude (``scaling/gain_fit.py``).

Decisions: exponents fitted over different floors cannot be compared, so E is shared and a floor that ends on its
bound is reported. The fit is least squares on ln L (few, clean points); intervals resample runs within each arm, a run
with all its branches. Whether the arms differ at all, and whether their exponents do, is told by F-tests of nested
fits that count runs and not branches, which keep their rate of false verdicts with few runs where resampled intervals
do not (benchmarks/LOG.md). A point gain is never the verdict: the slope is, and only where both arms were tuned,
because a mistuned learning rate alone makes a constant gain look like a growing one. What a ladder could have told is
what four of five like it would tell. Neglected: a floor that differs between arms.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.stats import f as f_distribution
from scipy.stats import t as t_distribution

from shapewright.errors import UsageError
from shapewright.scaling.forms import Array
from shapewright.scaling.gain_fit import (
    LEAST_COSTS,
    Arm,
    Pair,
    fit_all,
    gain_at,
    pair_of,
    predicted,
    resampled,
)
from shapewright.scaling.gain_verdict import MIN_RUNGS, Found, Tuning, Verdict, judge

MIN_RUNS = 8
"""Fewest runs of both arms together for a fit with its errors."""
FALSE_RATE = 0.025
"""Chance of telling two equal arms apart, over all comparisons that are made at once."""
POWER = 0.8
"""Share of ladders that would tell what is called detectable."""
HIGH_FLOOR = 0.8
"""Of the lowest loss: the highest floor under which the gain is told beside the fitted one."""
PARAMETERS = 5
"""Fitted to the runs: one floor, and an amplitude and an exponent of each arm."""


@dataclass(frozen=True, kw_only=True, slots=True)
class AtLength:
    """The gain among the branches of one length."""

    length: float
    """Tokens per parameter."""
    gain: float
    """At the middle of the range."""
    gain_low: float
    gain_high: float
    slope: float
    slope_low: float
    slope_high: float


@dataclass(frozen=True, kw_only=True, slots=True)
class Top:
    """The largest runs of an arm against a fit that saw neither arm's."""

    arm: str
    cost: float
    loss: float
    """Measured; of several runs the one farthest from the fit [nat/token]."""
    told: float
    """What the smaller runs predict [nat/token]."""
    low: float
    """Joint 90 % band of all held-out runs [nat/token]."""
    high: float

    @property
    def inside(self) -> bool:
        """Whether the measured loss lies in the band."""
        return self.low <= self.loss <= self.high


@dataclass(frozen=True, kw_only=True, slots=True)
class Gain:
    """The comparison of two arms."""

    runs: int
    """Runs of both arms."""
    points: int
    """Branches of them that were judged."""
    floor: float
    """Shared floor E [nat/token]."""
    floor_on_bound: bool
    """True where E ended on its bound: the exponents are then not measured."""
    other_floors: tuple[tuple[float, float, float], ...]
    """Floors that the runs do not exclude by themselves, with the slope and the gain at the middle under each."""
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
    """|s| that four of five such ladders would tell from 0."""
    detectable_gain: float
    """Constant factor that four of five such ladders would tell from 1."""
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
    by_length: tuple[AtLength, ...]
    """The same by tokens per parameter, where runs were judged at several."""
    tops: tuple[Top, ...]
    """Largest runs against the fit of the others; empty where those fix no exponent."""
    verdict: Verdict
    reasons: tuple[str, ...]
    """Why the verdict is what it is, what caps it, and what more would take."""

    @property
    def held_out_inside(self) -> bool:
        """Whether the largest runs of both arms lay inside the 90 % band of a fit without them."""
        return bool(self.tops) and all(top.inside for top in self.tops)

    @property
    def extrapolates(self) -> bool:
        """Whether the gain may be shown beyond the range that was run."""
        return self.held_out_inside and self.verdict != "inconclusive"


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
    low, high = _common(new, base)
    inside_at = np.geomspace(low, high, 7) if at_cost is None else np.asarray(at_cost, float)
    at = np.concatenate((inside_at, np.array([10.0, 100.0]) * high, [np.sqrt(low * high)]))
    wanted = len(inside_at)
    limit = float(min(new.loss.min(), base.loss.min()) * 0.999) if floor_max is None else floor_max
    pair = pair_of(new, base, limit)
    once, count = pair.weight[None], pair.num_runs
    thetas, squares = fit_all(pair, once, "separate")
    theta, separate = thetas[0], float(squares[0])
    one_exponent, one_arm = (float(fit_all(pair, once, m)[1][0]) for m in ("one exponent", "one arm"))
    freedom = count - PARAMETERS
    draw = resampled(pair, draws, np.random.default_rng(seed))
    boots = fit_all(pair, draw, "separate", start=theta)[0]
    band = _Band(draws=boots, theta=theta, count=count, comparisons=comparisons)
    slope, log_gain = float(theta[3] / theta[4] - 1.0), np.log(gain_at(theta, at, pair))
    gain_low, gain_high = np.exp(band.of(np.log(gain_at(boots, at, pair)), log_gain))
    slope_low, slope_high = map(float, band.of(boots[:, 3] / boots[:, 4] - 1.0, slope))
    false_rate = FALSE_RATE / comparisons
    told_apart = float(t_distribution.ppf(1.0 - false_rate / 2, freedom) + t_distribution.ppf(POWER, freedom))
    by_length = _by_length(pair, draw, float(theta[0]), float(at[-1]), comparisons)
    sizes, span = _rungs(new, base)
    found = Found(
        rungs=sizes, range=span, runs=count, gain_low=gain_low[:wanted], gain_high=gain_high[:wanted], slope=slope,
        slope_low=slope_low, slope_high=slope_high, middle=float(np.exp(log_gain[-1])), middle_low=float(gain_low[-1]),
        middle_high=float(gain_high[-1]), slopes=tuple((each.length, each.slope) for each in by_length),
        difference_p=_f_test(one_arm - separate, 2, separate, freedom),
        gain_p=_f_test(one_arm - one_exponent, 1, one_exponent, freedom + 1),
        slope_p=_f_test(one_exponent - separate, 1, separate, freedom),
        detectable_slope=told_apart * band.sd(boots[:, 3] / boots[:, 4]),
        detectable_gain=float(np.exp(told_apart * band.sd(np.log(gain_at(boots, at[-1], pair)[:, 0])))),
    )  # fmt: skip
    tops = _tops(new, base, limit)
    on_bound = bool(theta[0] > limit - 1e-3 or theta[0] < 1e-3)
    verdict, reasons = judge(found, tuning, false_rate)
    return Gain(
        runs=count, points=len(pair.x), floor=float(theta[0]), floor_on_bound=on_bound,
        other_floors=_other_floors(pair, float(at[-1])),
        exponent_new=float(theta[3]),
        exponent_base=float(theta[4]), slope=slope, slope_low=slope_low, slope_high=slope_high,
        difference_p=found.difference_p, f_test_p=found.slope_p,
        aicc_difference=_aicc(separate, count, PARAMETERS) - _aicc(one_exponent, count, PARAMETERS - 1),
        detectable_slope=found.detectable_slope, detectable_gain=found.detectable_gain, cost=inside_at,
        gain=np.exp(log_gain[:wanted]), gain_low=found.gain_low, gain_high=found.gain_high, beyond_cost=at[wanted:-1],
        beyond_gain=np.exp(log_gain[wanted:-1]), beyond_low=gain_low[wanted:-1], beyond_high=gain_high[wanted:-1],
        by_length=by_length, tops=tops, verdict=verdict,
        reasons=(*_cautions(on_bound, tops, verdict, reasons), *reasons),
    )  # fmt: skip


def gain_from_minima(new_flops: Array, new_loss: Array, base_flops: Array, base_loss: Array) -> Array:
    """Gain at each compute of the new arm from best losses at equal compute (isoFLOP minima), without a floor.

    The base follows a power law, ln compute over ln loss by least squares: with the few budgets of such studies a floor
    is not identified. It is extrapolated where the new arm's loss is lower than any of the base.
    """
    line = np.polyfit(np.log(base_loss), np.log(base_flops), 1)
    return np.exp(np.polyval(line, np.log(new_loss)) - np.log(new_flops))


def hardware_adjusted(gain: Array, mfu_new: float, mfu_base: float) -> Array:
    """Gain in device-time instead of FLOP: an idea that runs at half the utilisation is worth half."""
    return np.asarray(gain, float) * mfu_new / mfu_base


def slope_between(gain_small: float, gain_large: float, compute_ratio: float) -> float:
    """d ln gain / d ln compute from the gains at two scales whose base compute differs by ``compute_ratio``."""
    return float(np.log(gain_large / gain_small) / np.log(compute_ratio))


@dataclass(frozen=True, kw_only=True, slots=True)
class _Band:
    """Intervals from resampled fits."""

    draws: Array
    theta: Array
    count: int
    comparisons: int

    @property
    def widen(self) -> float:
        """Resampling n runs understates the spread of p parameters by sqrt((n - p) / n)."""
        return float(np.sqrt(self.count / (self.count - PARAMETERS)))

    def of(self, values: Array, centre: Array | float) -> Array:
        """Ends of the interval about ``centre``, one row each."""
        tails = [0.05 / self.comparisons, 1.0 - 0.05 / self.comparisons]
        return centre + self.widen * (np.quantile(values, tails, axis=0) - centre)

    def sd(self, values: Array) -> float:
        """Standard error."""
        return self.widen * float(np.std(values))


def _common(new: Arm, base: Arm) -> tuple[float, float]:
    """The range of cost that both arms cover."""
    for arm in (new, base):
        if len(np.unique(arm.cost)) < LEAST_COSTS:
            raise UsageError(
                f"arm {arm.name!r} has {len(np.unique(arm.cost))} distinct computes",
                f"an exponent needs {LEAST_COSTS}, a verdict {MIN_RUNGS}", "add rungs with twice the size each",
            )  # fmt: skip
    runs = sum(len(np.unique(arm.runs)) for arm in (new, base))
    if runs < MIN_RUNS:
        raise UsageError(
            f"{runs} runs in both arms",
            f"five numbers are fitted to them, so {MIN_RUNS} are the least", "add rungs or seeds",
        )  # fmt: skip
    low, high = max(new.cost.min(), base.cost.min()), min(new.cost.max(), base.cost.max())
    if not low < high:
        raise UsageError(
            "the arms do not overlap in compute",
            "a gain is read at equal compute",
            "run both at common rungs",
        )
    return float(low), float(high)


def _rungs(new: Arm, base: Arm) -> tuple[int, float]:
    """Sizes of the poorer arm and the common range of cost, both of the one length that has most of them."""
    best = (0, 1.0)
    lengths = [None] if new.length is None else np.unique(new.length)
    for length in lengths:
        costs = [arm.cost if length is None else arm.cost[arm.length == length] for arm in (new, base)]
        if min(map(len, costs)):
            span = min(c.max() for c in costs) / max(c.min() for c in costs)
            best = max(best, (min(len(np.unique(c)) for c in costs), float(span)))
    return best


def _f_test(more: float, parameters: int, squares: float, freedom: int) -> float:
    return float(f_distribution.sf(max(more, 0.0) / parameters / (squares / freedom), parameters, freedom))


def _aicc(squares: float, count: int, parameters: int) -> float:
    return (
        count * np.log(squares / count)
        + 2 * parameters
        + 2 * parameters * (parameters + 1) / (count - parameters - 1)
    )


def _by_length(
    pair: Pair, draw: Array, floor: float, middle: float, comparisons: int
) -> tuple[AtLength, ...]:
    """Each length's own branches over the common floor, where they fix exponents in both arms."""
    if len(pair.lengths) < 2:
        return ()
    found = []
    for number, length in enumerate(pair.lengths):
        last = number == len(pair.lengths) - 1
        rows = pair.shift.sum(axis=1) == 0 if last else pair.shift[:, number] == 1
        arms = [rows & pair.is_new, rows & ~pair.is_new]
        if any(len(np.unique(pair.x[arm])) < MIN_RUNGS for arm in arms):
            continue
        theta = fit_all(pair, rows.astype(float)[None], "separate", floor=floor)[0][0]
        # A draw may leave too few costs of this length: its exponents are then anything, and it is left out.
        kept = draw * rows
        good = np.all([(kept[:, arm] > 0).sum(axis=1) >= LEAST_COSTS for arm in arms], axis=0)
        boots = fit_all(pair, kept[good], "separate", floor=floor, start=theta)[0]
        band = _Band(draws=boots, theta=theta, count=len(np.unique(pair.run[rows])), comparisons=comparisons)
        slope, gain = float(theta[3] / theta[4] - 1.0), float(np.log(gain_at(theta, middle, pair)[0]))
        low, high = band.of(boots[:, 3] / boots[:, 4] - 1.0, slope)
        gain_low, gain_high = np.exp(band.of(np.log(gain_at(boots, middle, pair)[:, 0]), gain))
        found.append(AtLength(length=length, gain=float(np.exp(gain)), gain_low=float(gain_low), gain_high=float(gain_high),
                              slope=slope, slope_low=float(low), slope_high=float(high)))  # fmt: skip
    return tuple(found)


def _other_floors(pair: Pair, middle: float) -> tuple[tuple[float, float, float], ...]:
    """Slope and gain over floors of none and of most of the lowest loss: what rests on the fitted floor."""
    found = []
    for floor in (0.0, HIGH_FLOOR * float(np.exp(pair.y.min()))):
        theta = fit_all(pair, pair.weight[None], "separate", floor=floor)[0][0]
        found.append((floor, float(theta[3] / theta[4] - 1.0), float(gain_at(theta, middle, pair)[0])))
    return tuple(found)


def _tops(new: Arm, base: Arm, limit: float) -> tuple[Top, ...]:
    """The runs that reach the largest cost of each arm against a fit to the other runs."""
    held = [np.isin(arm.runs, arm.runs[arm.cost == arm.cost.max()]) for arm in (new, base)]
    rest = [arm.at(~rows) for arm, rows in zip((new, base), held, strict=True)]
    if any(len(np.unique(arm.cost)) < LEAST_COSTS for arm in rest):
        return ()
    pair = pair_of(rest[0], rest[1], limit)
    freedom = pair.num_runs - PARAMETERS
    if freedom < 1:
        return ()
    thetas, squares = fit_all(pair, pair.weight[None], "separate")
    shift = np.zeros((1, pair.shift.shape[1]))
    tops = sum(int(np.sum(arm.cost == arm.cost.max())) for arm in (new, base))
    # A prediction one rung ahead carries the scatter of a run and about as much again from the fit.
    width = float(
        t_distribution.ppf(0.5 + 0.5 * 0.9 ** (1.0 / tops), freedom) * np.sqrt(2.0 * squares[0] / freedom)
    )
    found = []
    for arm, is_new in ((new, True), (base, False)):
        rows = arm.cost == arm.cost.max()
        x = np.log(arm.cost[rows][:1] / pair.scale)
        told = float(predicted(pair, thetas[0], x, np.array([is_new]), shift)[0])
        farthest = arm.loss[rows][np.argmax(np.abs(np.log(arm.loss[rows]) - told))]
        found.append(Top(arm=arm.name, cost=float(arm.cost.max()), loss=float(farthest), told=float(np.exp(told)),
                         low=float(np.exp(told - width)), high=float(np.exp(told + width))))  # fmt: skip
    return tuple(found)


def _cautions(
    on_bound: bool, tops: tuple[Top, ...], verdict: Verdict, reasons: tuple[str, ...]
) -> tuple[str, ...]:
    if verdict == "inconclusive" and reasons:
        return ()
    found = []
    if on_bound:
        found.append("the shared floor ended on its bound: give a wider one, exponents depend on it")
    if not tops:
        found.append("without the largest runs too few are left to predict them: do not extrapolate")
    elif not all(top.inside for top in tops):
        found.append("the largest run lies outside what the smaller ones predict: do not extrapolate")
    return tuple(found)
