"""Compute-equivalent gain on made arms whose gain and slope are known."""

from __future__ import annotations

import numpy as np
import pytest

from shapewright.errors import UsageError
from shapewright.scaling.gain import Arm, compare, gain_from_minima, hardware_adjusted, slope_between

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
