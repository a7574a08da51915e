"""A law moved by runs of one's own: the same form, its parameters and covariance after one more measured loss.

Decisions: a run is worth what its scatter lets it be worth. With the law's fitted vector t of covariance C, a run of
ln loss y, predicted f(t) with gradient g, and variance s^2 of a single run around the law (beyond its range, its drift
too), the linearised Bayesian update (Kalman 1960, doi 10.1115/1.3662552) is::

    k = C g / (g' C g + s^2)     t <- t + k (y - f(t))     C <- C - k g' C

A run on another text says little of how fast losses fall and all of their level: then ln E, ln A and ln B may move
together first, by a standard deviation of ``LEVEL_SD``. The range that the law was fitted on stays as it was, so beyond
it the interval goes on widening: a single run is no ladder. How far each run lay from what was predicted before it moved
anything is kept as a check. Neglected: what the run tells about the scatter itself.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from shapewright.errors import UsageError
from shapewright.evidence import MOVED
from shapewright.scaling.law import Check, Law, predict_from_inputs

LEVEL_SD = 0.5
"""Standard deviation of a text's level, ln loss, where the law is of another text. Kind: assumed; bits per byte of code
and of prose differ by up to a factor of two."""
LEVEL = ("E", "A", "B")
"""Amplitudes that set the level of a law."""
MARK = "run "
"""Start of the name of a run's check."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Observation:
    """The loss that one run ended with."""

    name: str
    """What it was, for people; unique."""
    loss: float
    """On held-out text, in the law's unit."""
    expected: float
    """Factor between the law and what was predicted of this run: mixers, repeated text; 1 for neither."""
    size: float
    """As the law counts it."""
    tokens: float
    width: float
    depth: float
    text: str
    """The corpus."""
    same_text: bool
    """Whether the law is of this corpus."""


def updated(law: Law, seen: Observation, *, name: str, command: str) -> Law:
    """``law`` after one more run.

    Args:
        law: before.
        seen: the run.
        name: of the law after.
        command: that writes it.

    Raises:
        UsageError: the run moved it already.
    """
    if any(check.name == MARK + seen.name for check in law.checks):
        raise UsageError(
            f"{seen.name} has moved this law already",
            "a run counts once",
            "give another run, or another --law file",
        )
    inputs = {
        "size": seen.size, "total": seen.size, "tokens": seen.tokens, "width": seen.width, "depth": seen.depth,
        "decayed": 1.0, "lr_halvings": 0.0,
    }  # fmt: skip
    before = predict_from_inputs(law, **inputs)
    flat = {key: np.array([inputs[key]]) for key in law.form.inputs}
    _, gradient = law.form.evaluate(law.theta, flat, True)
    g = np.array([float(part[0]) for part in gradient])
    c = np.array(law.covariance)
    if not seen.same_text:
        along = np.array([float(parameter in LEVEL) for parameter in law.form.parameters])
        c = c + LEVEL_SD**2 * np.outer(along, along)
    variance = law.residual_sd**2 + (law.drift_per_decade * float(np.log10(before.extrapolation))) ** 2
    gain = c @ g / (g @ c @ g + variance)
    missed = float(np.log(seen.loss / (float(before.loss) * seen.expected)))
    c = c - np.outer(gain, g @ c)
    check = Check(
        name=MARK + seen.name, value=float(np.expm1(missed)), unit="fraction",
        how=f"measured over predicted, less one, before it moved the law; {seen.text}",
    )  # fmt: skip
    runs = [check, *(each for each in law.checks)]
    count = sum(each.name.startswith(MARK) for each in runs)
    base = law.source.partition(MOVED)[0]
    return replace(
        law, name=name, parameters=law.form.from_theta(law.theta + gain * missed), rows=law.rows + 1, runs=law.runs + 1,
        covariance=tuple(tuple(float(v) for v in row) for row in (c + c.T) / 2.0), checks=tuple(runs), command=command,
        dataset=law.dataset if seen.same_text else f"{seen.text} (law of {law.dataset} moved to it)",
        source=f"{base}{MOVED}{count} training run{'s' * (count > 1)} on this machine",
    )  # fmt: skip
