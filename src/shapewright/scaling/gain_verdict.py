"""The verdict on two arms: what the tests allow, and what more would take.

Decisions: a verdict is refused where the ladder is too short or its rates are not tuned. Arms that are not told
apart are a null only where the interval of the gain leaves no room for one worth having. Growth counts only where
every length (tokens per parameter) that was trained says the same: a gain that appears with training is not one that
grows with scale.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np

from shapewright.scaling.forms import Array

MIN_RUNGS = 5
"""Fewest sizes per arm for a verdict."""
MIN_RANGE = 30.0
"""Least ratio of the largest common cost to the smallest for a verdict."""
NULL_WITHIN = 1.5
"""A gain whose interval leaves this factor about 1 is not told to be none."""
WORTH_SLOPE, WORTH_GAIN = 0.1, 1.2
"""What a ladder should be able to see: without, a gain is not called constant, and the advice says what would."""
Tuning = Literal["tuned", "transferred", "untuned"]
Verdict = Literal[
    "null", "constant gain", "constant loss", "growing", "shrinking", "crossing", "inconclusive"
]


@dataclass(frozen=True, kw_only=True, slots=True)
class Found:
    """What a verdict is made of."""

    rungs: int
    """Sizes that both arms have."""
    range: float
    """Largest common cost of one length over the smallest."""
    runs: int
    gain_low: Array
    gain_high: Array
    slope: float
    slope_low: float
    slope_high: float
    middle: float
    """Gain at the middle of the range."""
    middle_low: float
    middle_high: float
    slopes: tuple[tuple[float, float], ...]
    """Length and slope, where there are several lengths."""
    difference_p: float
    gain_p: float
    slope_p: float
    detectable_slope: float
    detectable_gain: float


def judge(found: Found, tuning: Tuning, false_rate: float) -> tuple[Verdict, tuple[str, ...]]:
    """The verdict, and why; what would be needed where there is none."""
    refused = []
    if found.rungs < MIN_RUNGS:
        refused.append(
            f"{found.rungs} rungs in an arm; a verdict needs {MIN_RUNGS}: add sizes, each twice the last"
        )
    if found.range < MIN_RANGE:
        refused.append(
            f"the arms share a range of {found.range:.0f}x; a verdict needs {MIN_RANGE:.0f}x: add larger rungs"
        )
    if tuning == "untuned":
        refused.append("learning rates were not tuned per arm: mistuning alone can fake a growing gain; sweep them, or "
                       "run: shapewright ladder run --arm A --arm B")  # fmt: skip
    if refused:
        return "inconclusive", tuple(refused)
    if found.difference_p > false_rate:
        widest = float(np.max(np.maximum(found.gain_high, 1.0 / found.gain_low)))
        if widest <= NULL_WITHIN:
            return "null", (f"the arms are not told apart (p = {found.difference_p:.2g}), and the interval leaves room for "
                            f"no gain of more than {widest:.2f}x",)  # fmt: skip
        return "inconclusive", (
            f"the arms are not told apart (p = {found.difference_p:.2g}), but a gain of {widest:.2f}x is not excluded",
            advice(found),
        )
    if found.slope_p <= false_rate:
        return _sloped(found)
    if found.gain_p <= false_rate:
        return _level(found)
    return "inconclusive", ("the arms differ, but neither in level nor in slope for sure", advice(found))


def _level(found: Found) -> tuple[Verdict, tuple[str, ...]]:
    """Arms that differ in level: a constant factor only where a slope worth seeing would have shown."""
    if not found.slope_low <= 0.0 <= found.slope_high or found.detectable_slope > WORTH_SLOPE:
        return "inconclusive", (
            f"the arms differ in level (p = {found.gain_p:.2g}): {found.middle:.2f}x ({found.middle_low:.2f} to "
            f"{found.middle_high:.2f}) at the middle of the range; whether that holds with scale is not told, for the slope "
            f"may be {found.slope_low:+.2f} to {found.slope_high:+.2f}",
            advice(found),
        )
    kind: Verdict = "constant gain" if found.middle > 1.0 else "constant loss"
    return kind, (
        f"the arms differ in level (p = {found.gain_p:.2g}) and their exponents are not told apart (p = {found.slope_p:.2g};"
        f" a slope of {found.detectable_slope:.2f} would be, in four ladders of five)",
    )


def _sloped(found: Found) -> tuple[Verdict, tuple[str, ...]]:
    why = f"the exponents differ (p = {found.slope_p:.2g}): d ln gain / d ln cost is {found.slope:+.3f}"
    low, high = found.gain_low, found.gain_high
    if (low[0] > 1.0 and high[-1] < 1.0) or (high[0] < 1.0 and low[-1] > 1.0):
        return "crossing", ("which arm is better changes inside the range", why)
    others = [f"{slope:+.3f} at {length:g}" for length, slope in found.slopes if slope * found.slope <= 0]
    if others:
        return "inconclusive", (
            why, f"but it has the other sign by tokens per parameter: {', '.join(others)}; train longer branches",
        )  # fmt: skip
    return ("growing" if found.slope > 0.0 else "shrinking"), (why,)


def advice(found: Found) -> str:
    """How many runs would see what is worth seeing, the error falling with the root of their number."""
    factor = (
        max(np.log(found.detectable_gain) / np.log(WORTH_GAIN), found.detectable_slope / WORTH_SLOPE) ** 2
    )
    needed = int(np.ceil(max(factor, 1.0) * found.runs))
    return (
        f"four of five ladders like this one of {found.runs} runs would tell a gain of {found.detectable_gain:.2f}x and "
        f"a slope of {found.detectable_slope:.2f}; {WORTH_GAIN}x and {WORTH_SLOPE} take about {needed} runs of this range, "
        "or fewer over a wider one"
    )
