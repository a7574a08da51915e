"""Compute-equivalent gain on made arms whose gain and slope are known."""

from __future__ import annotations

import numpy as np
import pytest

from shapewright.errors import UsageError
from shapewright.scaling.gain import FALSE_RATE, compare, gain_from_minima, hardware_adjusted, slope_between
from shapewright.scaling.gain_fit import SHARED, Arm, fit_all, pair_of, resampled

FLOPS = np.repeat(np.geomspace(1e15, 1e18, 8), 2)


def arm(name, a, b, seed, floor=2.0, noise=0.002, flops=FLOPS):
    rng = np.random.default_rng(seed)
    loss = (floor + np.exp(a - b * np.log(flops / 1e16))) * np.exp(noise * rng.standard_normal(len(flops)))
    return Arm(name=name, cost=flops, loss=loss)


BASE = arm("base", 0.9, 0.12, seed=0)


def verdicts(a, b):
    """How often each verdict falls in eight pairs of arms with fresh noise: a 90 % interval may miss once."""
    pairs = [(arm("new", a, b, seed=100 + i), arm("base", 0.9, 0.12, seed=200 + i)) for i in range(8)]
    told = [compare(new, base, tuning="tuned", draws=40) for new, base in pairs]
    return [t.verdict for t in told], told


def test_the_same_twice_is_null():
    words, told = verdicts(0.9, 0.12)
    assert words.count("null") >= 5, words
    assert words.count("growing") + words.count("shrinking") <= 2, words
    assert np.mean([np.log(t.gain) for t in told]) == pytest.approx(0.0, abs=0.05)


def test_an_arm_split_at_random_is_null():
    """The placebo: half of the runs against the other half."""
    told = compare(
        Arm(name="odd", cost=BASE.cost[1::2], loss=BASE.loss[1::2]),
        Arm(name="even", cost=BASE.cost[::2], loss=BASE.loss[::2]), tuning="tuned", draws=60,
    )  # fmt: skip
    assert told.verdict in ("null", "inconclusive")
    assert told.gain == pytest.approx(np.ones(7), rel=0.15)


def test_one_arm_split_at_random_in_200_ladders():
    """Ladders of eight rungs and four seeds, halved at random: false verdicts at most 5 %, and null wherever told."""
    rng = np.random.default_rng(7)
    flops = np.repeat(np.geomspace(1e12, 1e15, 8), 4)
    words = []
    for i in range(200):
        whole = arm("one", 0.3, 0.12, seed=1000 + i, floor=1.0, noise=0.004, flops=flops)
        half = rng.permutation(len(flops)) % 2 == 0
        parts = [Arm(name=str(k), cost=whole.cost[k], loss=whole.loss[k]) for k in (half, ~half)]
        words.append(compare(*parts, tuning="tuned", draws=8).verdict)
    false = [w for w in words if w not in ("null", "inconclusive")]
    assert len(false) <= 10, false
    assert words.count("null") >= 180, words


def branched(name, level, seed, *, rungs=6, seeds=3, run_noise=0.004, branch_noise=0.002):
    """A ladder of branches at 10 and 20 tokens per parameter: a run's noise is in both of its branches."""
    rng = np.random.default_rng(seed)
    size = np.repeat(np.geomspace(1e4, 3.2e5, rungs), seeds)
    run = np.tile(np.arange(len(size)), 2)
    length = np.repeat([10.0, 20.0], len(size))
    cost = 6.0 * size[run] ** 2 * length
    told = 1.0 + np.exp(level - 0.13 * np.log(cost / 1e11)) * np.where(length == 10, 1.06, 1.0)
    noise = run_noise * rng.standard_normal(len(size))[run] + branch_noise * rng.standard_normal(len(run))
    return Arm(name=name, cost=cost, loss=told * np.exp(noise), length=length, run=run)


def test_branches_of_one_run_are_not_told_apart_more_often():
    """200 ladders of branched runs, halved by run at random: branches that share a run's noise are no new runs."""
    rng = np.random.default_rng(8)
    words = []
    for i in range(200):
        whole = branched("one", 0.3, 5000 + i, seeds=6)
        half = (rng.permutation(whole.run.max() + 1) % 2 == 0)[whole.run]
        words.append(compare(whole.at(half), whole.at(~half), tuning="tuned", draws=8).verdict)
    false = [w for w in words if w not in ("null", "inconclusive")]
    assert len(false) <= 10, false


def test_a_branched_gain_is_found_at_every_length():
    told = compare(
        branched("new", 0.3 - 0.13 * np.log(2), 1, seeds=4), branched("base", 0.3, 2, seeds=4), tuning="tuned"
    )
    assert told.verdict == "constant gain"
    assert (told.runs, told.points) == (48, 96)
    assert [each.length for each in told.by_length] == [10, 20]
    for each in told.by_length:
        assert each.gain_low < 2.0 < each.gain_high
        assert each.slope_low < 0.0 < each.slope_high
    assert np.exp(np.mean(np.log(told.gain))) == pytest.approx(2.0, rel=0.12)


def test_a_slope_of_two_signs_is_no_growth():
    """The gain rises with size among long branches and falls among short ones: no step change."""
    quiet = {"run_noise": 2e-4, "branch_noise": 2e-4}
    new, base = branched("new", 0.2, 3, **quiet), branched("base", 0.3, 4, **quiet)
    tilt = np.where(new.length == 10, 0.002, -0.02) * np.log(new.cost / 1e11)
    told = compare(
        Arm(name="new", cost=new.cost, loss=new.loss * np.exp(tilt), length=new.length, run=new.run), base,
        tuning="tuned", draws=40,
    )  # fmt: skip
    assert told.verdict == "inconclusive"
    assert any("other sign" in reason for reason in told.reasons)


def test_what_is_called_detectable_is_detected_by_four_of_five():
    """The power that a report states, against ladders that have just that effect."""
    levels = np.repeat(np.geomspace(1e10, 1e13, 6), 3)
    null = [compare(arm("a", 0.3, 0.12, seed=i, flops=levels), arm("b", 0.3, 0.12, seed=500 + i, flops=levels),
                    tuning="tuned", draws=60) for i in range(8)]  # fmt: skip
    effect = float(np.median([np.log(told.detectable_gain) for told in null]))
    steeper = float(np.median([told.detectable_slope for told in null]))
    pairs = [
        (arm("a", 0.3 - 0.12 * effect, 0.12, seed=1000 + i, flops=levels),
         arm("b", 0.3, 0.12, seed=3000 + i, flops=levels)) for i in range(100)
    ]  # fmt: skip
    reasons = [compare(*pair, tuning="tuned", draws=4).reasons for pair in pairs]
    found = sum(any("differ in level" in reason for reason in each) for each in reasons)
    assert 60 <= found <= 97, (found, effect)
    middle = float(np.exp(np.mean(np.log(levels))) / 1e16)
    pairs = [
        (arm("a", 0.3 + 0.12 * steeper * np.log(middle), 0.12 * (1 + steeper), seed=1000 + i, flops=levels),
         arm("b", 0.3, 0.12, seed=3000 + i, flops=levels)) for i in range(100)
    ]  # fmt: skip
    told = [compare(*pair, tuning="tuned", draws=4).f_test_p < FALSE_RATE for pair in pairs]
    assert 60 <= sum(told) <= 97, (sum(told), steeper)


@pytest.mark.parametrize("model", SHARED)
def test_fits_are_those_of_a_general_optimiser(model):
    """scipy's bounded least squares on the same rows, weights and bounds."""
    from scipy.optimize import least_squares

    pair = pair_of(branched("new", 0.2, 5), branched("base", 0.3, 6), 1.5)
    weights = np.vstack([pair.weight, resampled(pair, 5, np.random.default_rng(0))])
    theta, squares = fit_all(pair, weights, model)
    owners = [*SHARED[model], max(SHARED[model]) + 1]

    def residuals(free, weight):
        e, a_new, a_base, b_new, b_base, shift = free[owners]
        level = (
            np.where(pair.is_new, a_new - b_new * pair.x, a_base - b_base * pair.x) + shift * pair.shift[:, 0]
        )
        return np.sqrt(weight) * (np.log(e + np.exp(level)) - pair.y)

    firsts = [owners.index(free) for free in range(max(owners) + 1)]
    low = np.array([0.0, -20.0, -20.0, 1e-4, 1e-4, -20.0])[firsts]
    high = np.array([1.5, 20.0, 20.0, 2.0, 2.0, 20.0])[firsts]
    for weight, mine, sum_of in zip(weights, theta, squares, strict=True):
        begin = np.array([0.7, 0.0, 0.0, 0.1, 0.1, 0.0])[firsts]
        other = least_squares(
            residuals, begin, args=(weight,), bounds=(low, high), xtol=1e-14, ftol=1e-14, gtol=1e-14
        )
        assert sum_of <= 2.0 * other.cost * (1 + 1e-6)
        assert mine == pytest.approx(other.x[owners], abs=2e-3)


def test_several_ideas_share_the_chance_of_error():
    one = compare(arm("new", 0.9, 0.12, seed=11), BASE, tuning="tuned", draws=60)
    of_five = compare(arm("new", 0.9, 0.12, seed=11), BASE, tuning="tuned", draws=60, comparisons=5)
    assert of_five.slope_low < one.slope_low < one.slope_high < of_five.slope_high


def test_too_little_power_is_no_null():
    """Noise of 3 % hides a gain of 1.5x: that is not the same as none."""
    few = np.geomspace(1e15, 1e18, 6)
    pair = [arm("arm", 0.9, 0.12, seed=seed, noise=0.03, flops=few) for seed in (12, 13)]
    told = compare(*pair, tuning="tuned", draws=60)
    assert told.verdict == "inconclusive"
    assert "take about" in told.reasons[-1]


def test_a_short_range_is_no_verdict():
    near = np.repeat(np.geomspace(1e15, 1e16, 6), 2)
    told = compare(
        arm("new", 0.6, 0.12, seed=14, flops=near),
        arm("base", 0.9, 0.12, seed=15, flops=near),
        tuning="tuned",
    )
    assert told.verdict == "inconclusive"
    assert "range of 10x" in told.reasons[0]


def test_the_unit_of_cost_changes_nothing():
    new = arm("new", 0.75, 0.15, seed=3)
    flop = compare(new, BASE, tuning="tuned", draws=20)
    joules = compare(
        *(Arm(name=a.name, cost=a.cost * 1e-11, loss=a.loss) for a in (new, BASE)), tuning="tuned", draws=20
    )
    assert joules.gain == pytest.approx(flop.gain, rel=1e-3)
    assert joules.verdict == flop.verdict


def test_a_constant_factor_is_a_constant_gain():
    """Twice the compute for the same loss at every scale: a smaller by b ln 2."""
    words, told = verdicts(0.9 - 0.12 * np.log(2), 0.12)
    assert words.count("constant gain") >= 6, words
    assert np.exp(np.mean([np.log(t.gain) for t in told])) == pytest.approx(2.0, rel=0.05)


def test_a_level_is_no_constant_factor_where_a_slope_would_not_show():
    """Twice the compute, seen by ten runs of which each is 1 % off: better for sure, constant for all one knows."""
    few = np.geomspace(1e10, 1e12, 5)
    pairs = [[arm("new", 0.3 - 0.12 * np.log(2.5), 0.12, seed=i, noise=0.01, flops=few),
              arm("base", 0.3, 0.12, seed=50 + i, noise=0.01, flops=few)] for i in range(6)]  # fmt: skip
    told = [compare(*pair, tuning="tuned", draws=60) for pair in pairs]
    level = [t for t in told if any("differ in level" in reason for reason in t.reasons)]
    assert level
    for each in level:
        assert each.verdict == "inconclusive"
        assert any("whether that holds with scale is not told" in reason for reason in each.reasons)
        assert "take about" in each.reasons[-1]


def test_what_rests_on_the_floor_is_told():
    told = compare(arm("new", 0.75, 0.15, seed=3), BASE, tuning="tuned", draws=20)
    (none, slope_without, _), (high, slope_high, gain_high) = told.other_floors
    assert none == 0.0 < told.floor < high
    assert slope_without != pytest.approx(slope_high, abs=0.01)
    assert gain_high > 1.0


def test_a_steeper_arm_grows_and_the_slope_is_right():
    told = compare(arm("new", 0.75, 0.15, seed=3), BASE, tuning="tuned", draws=60)
    assert told.verdict == "growing"
    assert told.slope == pytest.approx(0.15 / 0.12 - 1, abs=0.06)
    assert told.f_test_p < 1e-3
    assert told.aicc_difference < -2
    assert told.gain[-1] > told.gain[0] > 1
    assert 0 < told.detectable_slope < told.slope


def test_a_flatter_arm_shrinks_or_crosses():
    assert compare(arm("new", 0.55, 0.105, seed=4), BASE, tuning="tuned", draws=60).verdict in (
        "shrinking",
        "crossing",
    )
    crossing = compare(arm("new", 0.8, 0.06, seed=5), BASE, tuning="tuned", draws=60)
    assert crossing.verdict == "crossing"


def test_untuned_or_short_ladders_get_no_verdict():
    untuned = compare(arm("new", 0.6, 0.15, seed=6), BASE, draws=20)
    assert untuned.verdict == "inconclusive"
    assert "tuned" in untuned.reasons[0]
    few = np.repeat(np.geomspace(1e15, 1e17, 4), 2)
    short = compare(
        arm("new", 0.6, 0.15, seed=7, flops=few),
        arm("base", 0.9, 0.12, seed=8, flops=few),
        tuning="tuned",
        draws=20,
    )
    assert short.verdict == "inconclusive"
    assert "rungs" in short.reasons[0]


def test_a_floor_on_its_bound_is_said():
    told = compare(arm("new", 0.9, 0.12, seed=9), BASE, tuning="tuned", floor_max=1.0, draws=20)
    assert told.floor_on_bound
    assert any("bound" in reason for reason in told.reasons)


def test_a_last_rung_off_the_line_is_said():
    bent = arm("new", 0.8, 0.12, seed=10)
    loss = bent.loss.copy()
    loss[-2:] *= 1.1
    told = compare(Arm(name="new", cost=bent.cost, loss=loss), BASE, tuning="tuned", draws=20)
    assert not told.held_out_inside
    assert compare(arm("new", 0.8, 0.12, seed=10), BASE, tuning="tuned", draws=20).held_out_inside


def test_arms_that_cannot_be_compared_are_refused():
    with pytest.raises(UsageError, match="2 distinct computes"):
        compare(Arm(name="two", cost=FLOPS[[0, 1, 2, 3]], loss=BASE.loss[:4]), BASE)
    with pytest.raises(UsageError, match="do not overlap"):
        compare(arm("far", 0.9, 0.12, seed=1, flops=FLOPS * 1e6), BASE)


def test_gain_from_minima_inverts_the_base():
    flops = np.array([1e18, 1e19, 1e20])
    base = np.exp(2.0 - 0.05 * np.log(flops / 1e16))
    new = np.exp(2.0 - 0.05 * np.log(3 * flops / 1e16))
    assert gain_from_minima(flops, new, flops, base) == pytest.approx([3.0, 3.0, 3.0])
    assert hardware_adjusted(np.array([3.0]), 0.2, 0.4) == pytest.approx([1.5])


def test_public_gains_that_shrink():
    """KellerJordan/modded-nanogpt@f411b3d3: 15.0x on the small track, 11.9x at 7.7x the compute (January 2025);
    23.8x and 20.1x (December 2025): d ln gain / d ln C of -.115 and -.083."""
    assert slope_between(15.0, 11.9, 7.7) == pytest.approx(-0.115, abs=0.003)
    assert slope_between(23.8, 20.1, 7.7) == pytest.approx(-0.083, abs=0.003)
