"""How far a fit can be trusted: bootstrap by run, hold-outs, influence, identifiability.

Decisions: rows of one run share its luck, so the bootstrap draws runs, not rows, and hold-outs leave whole
runs (or whole shapes) out. Nothing here changes a fit; it only measures one.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from shapewright.scaling.fit import Fit, fit
from shapewright.scaling.forms import Array, Form, Inputs
from shapewright.scaling.law import Z90

UNIDENTIFIED_SD = 0.25
"""Bootstrap standard deviation of ln E above which E is called unidentified: E itself is then uncertain by 25 %."""
PROFILE_STEP = 1.2
"""Factor by which E is moved to see whether the data notice."""
UNIDENTIFIED_RISE = 0.05
"""Rise of the objective below which they do not."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Bootstrap:
    """Refits on resampled runs."""

    thetas: Array
    """[draws, parameters] fitted vectors."""
    shifts: Array
    """[draws, parameters] the linear change of the vector that best reproduces each refit's change of ln loss on
    the fitted rows. Where parameters trade off (E against the exponents) a refit may walk far along the valley
    without predicting anything else; the shift counts only what it predicts."""

    @property
    def covariance(self) -> Array:
        """Covariance of the fitted vector, from the shifts of the central 98 % of draws.

        A handful of degenerate resamples (a term that vanished) must not widen every interval, so draws beyond
        the 98th percentile of the robust distance are left out.
        """
        centre = np.median(self.shifts, axis=0)
        scale = np.median(np.abs(self.shifts - centre), axis=0) + 1e-12
        distance = np.max(np.abs(self.shifts - centre) / scale, axis=1)
        return np.cov(self.shifts[distance <= np.quantile(distance, 0.98)], rowvar=False)


@dataclass(frozen=True, kw_only=True, slots=True)
class HoldOut:
    """Predictions for rows that the fit did not see."""

    residuals: Array
    """ln(predicted) - ln(observed) of every held-out row."""
    groups: tuple[str, ...]
    """The group (run or shape) each belongs to."""

    def median_error(self) -> float:
        """Median absolute error [fraction of loss]."""
        return float(np.median(np.abs(np.expm1(self.residuals))))

    def group_bias(self) -> dict[str, float]:
        """Median signed error of each group [fraction of loss]."""
        names = np.array(self.groups)
        return {str(g): float(np.median(np.expm1(self.residuals[names == g]))) for g in np.unique(names)}

    def spread(self, parameter_sd: Array | float = 0.0) -> float:
        """Standard deviation [ln loss] with which a 90 % normal interval holds 90 % of the residuals.

        ``parameter_sd`` is what the parameters' covariance says about each row already; the interval adds its variance,
        so it must not be counted again. Residuals of a digitised or spiky curve have long tails: their own standard
        deviation would be too wide for most rows, that of their middle too narrow.
        """
        beyond = np.maximum((self.residuals / Z90) ** 2 - np.square(parameter_sd), 0.0)
        return float(np.sqrt(np.quantile(beyond, 0.9)))

    def where(self, keep: NDArray[Any]) -> HoldOut:
        """Some of the rows."""
        names = np.array(self.groups)
        return HoldOut(residuals=self.residuals[keep], groups=tuple(names[keep]))


def take(inputs: Inputs, rows: NDArray[Any]) -> dict[str, Array]:
    """The chosen rows of every input."""
    return {name: value[rows] for name, value in inputs.items()}


def bootstrap(
    found: Fit,
    inputs: Inputs,
    loss: Array,
    runs: Sequence[str],
    *,
    draws: int = 200,
    seed: int = 0,
    fixed: Mapping[str, float] | None = None,
) -> Bootstrap:
    """Refit on resamples of whole runs, each from the full fit's optimum.

    A table where every row is its own run resamples rows.
    """
    rng = np.random.default_rng(seed)
    names = np.array(runs)
    if len(set(runs)) < len(runs):
        members = [np.flatnonzero(names == name) for name in np.unique(names)]
    else:
        members = [np.array([i]) for i in range(len(runs))]
    before, gradient = found.form.evaluate(found.theta, inputs, True)
    free = [i for i, name in enumerate(found.form.parameters) if name not in (fixed or {})]
    pull = np.linalg.pinv(np.array(gradient)[free].T, rcond=1e-9)
    thetas, shifts = [], np.zeros((draws, len(found.theta)))
    for draw in range(draws):
        rows = np.concatenate([members[i] for i in rng.integers(0, len(members), len(members))])
        thetas.append(fit(found.form, take(inputs, rows), loss[rows], start=found.theta, fixed=fixed).theta)
        after, _ = found.form.evaluate(thetas[-1], inputs, False)
        shifts[draw, free] = pull @ np.log(after / before)
    return Bootstrap(thetas=np.array(thetas), shifts=shifts)


def spread_of_parameters(form: Form, theta: Array, covariance: Array, inputs: Inputs) -> Array:
    """Standard deviation of ln loss at each row that the covariance of ``theta`` gives."""
    _, gradient = form.evaluate(theta, inputs, True)
    stacked = np.array(gradient)
    return np.sqrt(np.einsum("in,ij,jn->n", stacked, covariance, stacked))


def leave_groups_out(
    form: Form,
    inputs: Inputs,
    loss: Array,
    groups: Sequence[str],
    *,
    start: Array,
    fixed: Mapping[str, float] | None = None,
) -> HoldOut:
    """Predict each group by a fit to all other groups."""
    names = np.array(groups)
    residuals = np.empty(len(loss))
    for name in np.unique(names):
        out = names == name
        theta = fit(form, take(inputs, ~out), loss[~out], start=start, fixed=fixed).theta
        predicted, _ = form.evaluate(theta, take(inputs, out), False)
        residuals[out] = np.log(predicted) - np.log(loss[out])
    return HoldOut(residuals=residuals, groups=tuple(groups))


def coverage_of_others(held: HoldOut) -> float:
    """Share of left-out rows inside a 90 % interval whose width comes from the *other* groups' left-out errors."""
    names = np.array(held.groups)
    inside = np.empty(len(names), bool)
    for name in np.unique(names):
        mine = names == name
        others = HoldOut(residuals=held.residuals[~mine], groups=tuple(names[~mine]))
        inside[mine] = np.abs(held.residuals[mine]) <= Z90 * others.spread()
    return float(inside.mean())


def influence(
    found: Fit, inputs: Inputs, loss: Array, *, worst: int = 5, fixed: Mapping[str, float] | None = None
) -> list[tuple[int, float, dict[str, float]]]:
    """What leaving out each of the worst-fitted rows does.

    Returns (row, its residual, change of each shown parameter as a fraction), the largest change first, and
    last of all with row -1 the change when all of them are left out together.
    """
    order = np.argsort(-np.abs(found.residuals))[:worst]
    shown = found.parameters

    def without(rows: NDArray[Any]) -> dict[str, float]:
        keep = np.setdiff1d(np.arange(len(loss)), rows)
        other = fit(found.form, take(inputs, keep), loss[keep], start=found.theta, fixed=fixed).parameters
        return {name: other[name] / shown[name] - 1.0 if shown[name] else 0.0 for name in shown}

    single = [(int(row), float(found.residuals[row]), without(np.array([row]))) for row in order]
    single.sort(key=lambda item: -max(abs(change) for change in item[2].values()))
    return [*single, (-1, float(np.mean(np.abs(found.residuals[order]))), without(order))]


def warnings_about(
    found: Fit, boot: Bootstrap, inputs: Inputs, loss: Array, *, fixed: Mapping[str, float] | None = None
) -> list[str]:
    """Named warnings: a parameter on its bound, an E that the data do not fix.

    The text carries the rise of the objective, which every machine finds to many digits; how far E walks along its
    valley depends on where an optimiser stops, so it decides but is not quoted.
    """
    messages = [
        f"{name} (={found.parameters[name]:.4g}) ended on its bound: that is not a fit; widen the data or fix it"
        for name in found.on_bound
    ]
    sd = float(np.std(boot.thetas[:, found.form.parameters.index("E")]))
    rise = profile_rise(found, inputs, loss, "E", np.log(PROFILE_STEP), fixed=fixed)
    if sd > UNIDENTIFIED_SD or rise < UNIDENTIFIED_RISE:
        messages.append(
            f"E (={found.parameters['E']:.3g}) is not identified: an E {100 * (PROFILE_STEP - 1):.0f} % higher raises "
            f"the objective by {100 * rise:.1f} %; do not read E or the exponents as facts"
        )
    return messages


def profile_rise(
    found: Fit,
    inputs: Inputs,
    loss: Array,
    name: str,
    step: float,
    *,
    fixed: Mapping[str, float] | None = None,
) -> float:
    """Rise of the objective (fraction) when ``name`` is moved by ``step`` in fitted units and the rest refitted."""
    moved = float(found.theta[found.form.parameters.index(name)] + step)
    if name == "E" and np.exp(moved) >= loss.min():
        return np.inf
    other = fit(found.form, inputs, loss, start=found.theta, fixed={**(fixed or {}), name: moved})
    return other.objective / found.objective - 1.0
