"""From a table of runs to a law: fit, bootstrap, hold-outs, interval and warnings, one protocol for all.

Decisions: ``residual_sd`` is set so that, with the parameters' covariance, a 90 % interval holds 90 % of rows predicted
by fits that did not see their group; ``drift_per_decade`` so that, with it, the interval holds 90 % of the rows of the
largest compute predicted by fits to the rest (pooled over several cuts). The coverage that a law states is then
measured again across groups, each with the width that the other groups give. A table that cannot answer is refused by
name.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from shapewright.errors import UsageError
from shapewright.scaling.assess import (
    Bootstrap,
    HoldOut,
    bootstrap,
    coverage_of_others,
    influence,
    leave_groups_out,
    spread_of_parameters,
    take,
    warnings_about,
)
from shapewright.scaling.fit import Fit, fit
from shapewright.scaling.forms import Array, Form, Inputs
from shapewright.scaling.law import Z90, Check, Law, ParamConvention

MIN_RATIO = 3.0
"""Sizes and tokens must span at least this factor: below it an exponent is not a measurement."""
ROWS_PER_PARAMETER = 2
"""Fewer rows than this per fitted parameter are refused."""
TYPICAL_DRIFT = 0.01
"""Drift per decade [ln loss] measured on the Chinchilla points, up to 1.8 decades ahead (data/laws/chinchilla.toml);
no law of ours is trusted to drift less."""
DRAWS = 200
"""Bootstrap resamples behind the shipped laws."""
OUTLIER = 10.0
"""Residuals beyond this many robust standard deviations are named as outliers (diverged runs, other units)."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Study:
    """A law and everything that was found while making it."""

    law: Law
    fit: Fit
    boot: Bootstrap
    held_out: HoldOut
    """Every row predicted by a fit that did not see its group."""
    largest: HoldOut
    """The rows of the largest compute, predicted by a fit to the rest."""
    influence: list[tuple[int, float, dict[str, float]]]
    """(row, residual, relative change of each parameter without it); row -1: without all of them."""
    warnings: tuple[str, ...]


@dataclass(frozen=True, kw_only=True, slots=True)
class Identity:
    """What a law is called and where its runs come from."""

    name: str
    dataset: str
    source: str
    licence: str
    param_convention: ParamConvention
    flop_convention: str
    command: str
    constants: Mapping[str, float]
    notes: tuple[str, ...] = ()
    unit: str = "nat/token"


def study(
    form: Form,
    inputs: Inputs,
    loss: Array,
    *,
    identity: Identity,
    groups: Sequence[str],
    fitted_range: Mapping[str, Array],
    cuts: Sequence[NDArray[Any]],
    draws: int = DRAWS,
    fixed: Mapping[str, float] | None = None,
    remarks: Sequence[str] = (),
    scattered_by: Sequence[str] = (),
) -> Study:
    """Fit ``form`` and measure the fit.

    Args:
        form: the family.
        inputs: its inputs, one value per row.
        loss: observed loss, one per row.
        identity: name and provenance.
        groups: the run (or shape) of each row; rows of one group share a run's luck.
        fitted_range: further columns whose range the law states.
        cuts: masks of rows that a hold-out leaves out because their compute is the largest; the first is reported.
        draws: bootstrap resamples.
        fixed: parameters that the table cannot fix, at their value.
        remarks: warnings about the table itself.
        scattered_by: inputs of 0 or 1 whose rows scatter by a factor of their own (``Law.residual_scale``).

    Raises:
        UsageError: too few rows, or one model size, or one number of tokens.
    """
    refuse_unanswerable(form, inputs, loss)
    flops = 6.0 * inputs["size"] * inputs["tokens"]
    found = fit(form, inputs, loss, fixed=fixed)
    boot = bootstrap(found, inputs, loss, groups, draws=draws, fixed=fixed)
    held = leave_groups_out(form, inputs, loss, folds_of(groups), start=found.theta, fixed=fixed)
    known = spread_of_parameters(form, found.theta, boot.covariance, inputs)
    plain = (
        np.all([inputs[name] == 0 for name in scattered_by], axis=0)
        if scattered_by
        else np.ones(len(loss), bool)
    )
    residual_sd = held.where(plain).spread(known[plain])
    scale = {
        name: held.where(inputs[name] == 1).spread(known[inputs[name] == 1]) / residual_sd
        for name in scattered_by
    }
    ahead = [_ahead(form, inputs, loss, flops, cut, found.theta, groups, draws, fixed) for cut in cuts]
    warnings = [*remarks, *warnings_about(found, boot, inputs, loss, fixed=fixed), *_outliers(found)]
    notes = (*identity.notes, *warnings)
    law = Law(
        name=identity.name, family=form.name, parameters=found.parameters,
        covariance=tuple(tuple(float(v) for v in row) for row in boot.covariance),
        residual_sd=residual_sd, residual_scale=scale, drift_per_decade=_drift(ahead, residual_sd), dataset=identity.dataset,
        source=identity.source, licence=identity.licence, rows=len(loss), runs=len(set(groups)),
        fitted_range={
            **{name: _span(values) for name, values in fitted_range.items()},
            "size": _span(inputs["size"]), "tokens": _span(inputs["tokens"]), "flops": _span(flops),
        },
        param_convention=identity.param_convention, flop_convention=identity.flop_convention,
        constants=identity.constants, unit=identity.unit, notes=notes, checks=_checks(found, held, ahead[0]),
        command=identity.command,
    )  # fmt: skip
    return Study(
        law=law, fit=found, boot=boot, held_out=held, largest=ahead[0].held,
        influence=influence(found, inputs, loss, fixed=fixed), warnings=tuple(warnings),
    )  # fmt: skip


def refuse_unanswerable(form: Form, inputs: Inputs, loss: Array) -> None:
    """Refuse tables that no fit can answer, by name of what is missing."""
    need = ROWS_PER_PARAMETER * len(form.parameters)
    if len(loss) < need:
        raise UsageError(
            f"{len(loss)} rows cannot fix the {len(form.parameters)} parameters of form {form.name}",
            f"at least {need} rows are needed", "add runs, or choose a form with fewer parameters",
        )  # fmt: skip
    for column, meaning in (("size", "model sizes"), ("tokens", "numbers of tokens")):
        low, high = _span(inputs[column])
        if high < MIN_RATIO * low:
            count = len(np.unique(inputs[column]))
            raise UsageError(
                f"the {meaning} span only a factor {high / low:.3g} ({count} distinct)",
                f"an exponent needs a factor of {MIN_RATIO:g} at least", f"add runs with other {meaning}",
            )  # fmt: skip
    if "width" in inputs:
        low, high = _span(inputs["width"] / inputs["depth"])
        if high < MIN_RATIO * low:
            raise UsageError(
                f"the shapes span only a factor {high / low:.3g} of width over depth",
                f"form {form.name} needs {MIN_RATIO:g} at least", "add shapes, or use --form chinchilla",
            )  # fmt: skip


def folds_of(groups: Sequence[str], *, most: int = 20) -> tuple[str, ...]:
    """The groups themselves, or ten folds of them where there are more than ``most``.

    A group's fold is its position modulo ten in order of appearance: the same on every machine.
    """
    order = {name: i for i, name in enumerate(dict.fromkeys(groups))}
    if len(order) <= most:
        return tuple(groups)
    return tuple(str(order[name] % 10) for name in groups)


@dataclass(frozen=True, kw_only=True, slots=True)
class _Ahead:
    """A hold-out of the largest compute."""

    held: HoldOut
    decades: Array
    """Decades of compute beyond the largest fitted row, per held-out row; 0 where inside."""
    parameter_sd: Array
    """Standard deviation of ln loss that the smaller fit's own covariance gives."""


def _ahead(
    form: Form, inputs: Inputs, loss: Array, flops: Array, cut: NDArray[Any], start: Array, groups: Sequence[str],
    draws: int, fixed: Mapping[str, float] | None,
) -> _Ahead:  # fmt: skip
    names = np.array(groups)
    found = fit(form, take(inputs, ~cut), loss[~cut], start=start, fixed=fixed)
    boot = bootstrap(
        found,
        take(inputs, ~cut),
        loss[~cut],
        [str(n) for n in names[~cut]],
        draws=max(draws // 4, 20),
        fixed=fixed,
    )
    predicted, _ = form.evaluate(found.theta, take(inputs, cut), False)
    return _Ahead(
        held=HoldOut(residuals=np.log(predicted) - np.log(loss[cut]), groups=tuple(names[cut])),
        decades=np.log10(np.maximum(flops[cut] / flops[~cut].max(), 1.0)),
        parameter_sd=spread_of_parameters(form, found.theta, boot.covariance, take(inputs, cut)),
    )


def _drift(ahead: Sequence[_Ahead], residual_sd: float) -> float:
    """Smallest drift per decade with which the 90 % interval holds 90 % of all held-out rows beyond the fit.

    Never below ``TYPICAL_DRIFT``: a law that was right one decade ahead is not known to be right four ahead.
    """
    residuals = np.concatenate([a.held.residuals for a in ahead])
    decades = np.concatenate([a.decades for a in ahead])
    variance = np.concatenate([a.parameter_sd for a in ahead]) ** 2 + residual_sd**2
    far = decades > 0.1
    if not far.any():
        return TYPICAL_DRIFT
    needed = np.sqrt(np.maximum((residuals[far] / Z90) ** 2 - variance[far], 0.0)) / decades[far]
    return max(float(np.quantile(needed, 0.9)), TYPICAL_DRIFT)


def _checks(found: Fit, held: HoldOut, ahead: _Ahead) -> tuple[Check, ...]:
    kinds = len(set(held.groups))
    return (
        Check(name="objective", value=found.objective, unit="1", how="sum of Huber losses (delta 1e-3) of ln loss"),
        Check(name="rms residual", value=float(np.sqrt(np.mean(found.residuals**2))), unit="ln loss",
              how="on the fitted rows"),
        Check(name="left-out median error", value=held.median_error(), unit="fraction",
              how=f"each of {kinds} groups predicted by a fit to the others"),
        Check(name="left-out coverage", value=coverage_of_others(held), unit="fraction",
              how="share of left-out rows in a 90 % interval whose width the other groups give"),
        Check(name="largest median error", value=ahead.held.median_error(), unit="fraction",
              how=f"largest {len(ahead.held.residuals)} rows left out, up to {10 ** ahead.decades.max():.1f}x beyond"),
    )  # fmt: skip


def _outliers(found: Fit) -> list[str]:
    robust = 1.4826 * float(np.median(np.abs(found.residuals)))
    far = np.flatnonzero(np.abs(found.residuals) > OUTLIER * robust)
    if not far.size:
        return []
    worst = far[np.argmax(np.abs(found.residuals[far]))]
    return [
        f"{far.size} of {len(found.residuals)} rows lie beyond {OUTLIER:g} robust standard deviations (worst: row "
        f"{int(worst) + 1}, {100 * np.expm1(-found.residuals[worst]):+.1f} % against the law): spikes or diverged runs"
    ]


def _span(values: Array) -> tuple[float, float]:
    return float(values.min()), float(values.max())


def compute_cuts(flops: Array, shares: Sequence[float] = (0.2, 0.3, 0.5, 0.7)) -> list[NDArray[Any]]:
    """Masks of the largest ``shares`` of compute."""
    return [flops > np.quantile(flops, 1.0 - share) for share in shares]
