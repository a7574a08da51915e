"""A ladder's gain on hardware that did not run it: the hardware's half is what the cost model says of both arms."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from shapewright.api import Options, estimate
from shapewright.architecture.graph import build_graph
from shapewright.errors import NotCoveredError, UnknownNameError
from shapewright.lab.arms import arm_shape, priced_sizes
from shapewright.outlook.gain_on import STEP_TOKENS, gain_on
from shapewright.scaling.gain import Gain, compare
from shapewright.scaling.gain_fit import Arm

COSTS = np.repeat(np.geomspace(1e10, 1e13, 6), 2)


def made(name: str, level: float, seed: int) -> Arm:
    rng = np.random.default_rng(seed)
    loss = (1.0 + np.exp(level - 0.12 * np.log(COSTS / 3e11))) * np.exp(
        0.001 * rng.standard_normal(len(COSTS))
    )
    return Arm(name=name, cost=COSTS, loss=loss)


@pytest.fixture(scope="module")
def gain() -> Gain:
    """A constant 2x."""
    return compare(
        made("lstm", 0.3 - 0.12 * np.log(2), 1), made("transformer", 0.3, 2), tuning="tuned", draws=40
    )


def told(gain: Gain, new: str, hardware: str):
    sizes = priced_sizes(new, "transformer", (float(gain.cost[0]), float(gain.cost[-1])), 20.0)
    return sizes, gain_on(gain, sizes, hardware, seq_len=256)


def test_the_hardware_s_half_is_the_ratio_of_two_steps(gain):
    sizes, found = told(gain, "lstm", "h100_sxm")
    assert [s.size for s in found][2:] == ["256x9", "512x12", "1024x16", "2048x24"]
    options = Options(seq_len=256, global_batch=STEP_TOKENS // 256)
    for size, each in zip(sizes, found, strict=True):
        rates, joules = [], []
        for shape in (size.new, size.base):
            step = estimate(shape, "h100_sxm", options=options).predicted
            flops = float(build_graph(shape, batch=1, seq_len=256).flops())
            rates.append(flops / step.step_time_s.value)
            joules.append(flops / step.step_time_s.value / step.power_w.value)
        assert each.speed.value == pytest.approx(rates[0] / rates[1], rel=1e-9)
        assert each.thrift.value == pytest.approx(joules[0] / joules[1], rel=1e-9)
        assert each.speed.low < each.speed.value < each.speed.high
    # A recurrence waits for itself at every byte: on a GPU the LSTM loses what it gains.
    assert all(each.speed.value < 1 for each in found)


def test_gains_multiply_and_their_intervals_add_in_squares(gain):
    _, found = told(gain, "lstm", "h100_sxm")
    inside = [each for each in found if each.range == "inside the runs"]
    assert len(inside) == 2
    for each in inside:
        assert each.gain_flops.value == pytest.approx(2.0, rel=0.1)
        for factor, product in ((each.speed, each.gain_seconds), (each.thrift, each.gain_joules)):
            assert product.value == pytest.approx(each.gain_flops.value * factor.value)
            for side in ("low", "high"):
                parts = [np.log(getattr(f, side) / f.value) for f in (each.gain_flops, factor)]
                wanted = np.sqrt(np.sum(np.square(parts)))
                assert abs(np.log(getattr(product, side) / product.value)) == pytest.approx(wanted)


def test_a_gain_is_not_told_where_the_ladder_says_nothing(gain):
    assert gain.extrapolates
    _, found = told(gain, "lstm", "h100_sxm")
    ranges = {each.size: each.range for each in found}
    assert ranges["256x9"] == "not known", "a thousand times beyond the runs"
    capped = replace(gain, verdict="inconclusive")
    _, found = told(capped, "lstm", "h100_sxm")
    for each in found:
        assert (each.gain_seconds is None) == (each.range == "not known")
        assert each.range != "extrapolated"
        assert each.speed.value > 0, "the hardware's half is told all the same"


def test_an_arm_over_itself_gains_nothing_from_hardware(gain):
    _, found = told(gain, "transformer", "mi300x")
    for each in found:
        assert each.speed.value == pytest.approx(1.0)
        assert each.thrift.value == pytest.approx(1.0)


def test_what_cannot_be_priced_is_refused(gain):
    with pytest.raises(NotCoveredError, match="'base' is made of is not known"):
        priced_sizes("lstm", "base", (1e10, 1e13), 20.0)
    with pytest.raises(UnknownNameError, match="h100_sxm"):
        told(gain, "lstm", "h100_sxn")
    assert (
        arm_shape("lstm", (16, 2, 8)).blocks[0].mixer != arm_shape("transformer", (16, 2, 8)).blocks[0].mixer
    )
