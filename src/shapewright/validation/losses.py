"""Predicted against measured loss of runs whose shape the law has not seen.

Decisions: a shape that the shipped law ``gemstones`` was fitted on is predicted by the same law fitted again to the
*other* fitted shapes of the file, with the interval's width from their left-out errors; where the file holds too few
of them the shape is skipped. Every other shape is predicted by the law as it ships. The baseline is the Chinchilla
law, which knows neither shape nor corpus: the corpus is forgiven by one factor on its losses, chosen with hindsight.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from shapewright.scaling.assess import HoldOut, spread_of_parameters, take
from shapewright.scaling.fit import fit
from shapewright.scaling.forms import Array
from shapewright.scaling.law import Law, LossPrediction, load_law, predict_from_inputs
from shapewright.scaling.protocol_gemstones import GEMSTONES_SUBSETS
from shapewright.validation.gemstones import FITTED_SHAPES, Row, distinct, law_inputs
from shapewright.validation.published import Skip

MIN_SHAPES = 10
"""A law of ten parameters, four of them about shape and schedule, is fitted again to no fewer shapes than this."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Predictions:
    """Rows with their predicted losses."""

    rows: tuple[Row, ...]
    loss: Array
    """[nat/token]"""
    low: Array
    high: Array
    baseline: Array
    """By the Chinchilla law, corpus forgiven [nat/token]."""

    @property
    def measured(self) -> Array:
        """[nat/token]"""
        return np.array([row.loss for row in self.rows])

    def where(self, keep: Sequence[bool]) -> Predictions:
        """Some of the rows."""
        index = np.flatnonzero(keep)
        return Predictions(
            rows=tuple(self.rows[i] for i in index), loss=self.loss[index], low=self.low[index],
            high=self.high[index], baseline=self.baseline[index],
        )  # fmt: skip


def laws_by_shape(rows: Sequence[Row]) -> tuple[dict[str, Law], list[Skip]]:
    """The law that may predict each shape, and the shapes that none may."""
    shipped = load_law("gemstones")
    present = {row.shape for row in rows}
    laws = dict.fromkeys(sorted(present - FITTED_SHAPES), shipped)
    seen = sorted(present & FITTED_SHAPES)
    if not seen:
        return laws, []
    if len(seen) <= MIN_SHAPES:
        reason = (
            f"the law was fitted on this shape, and the file holds {len(seen) - 1} of the others to fit it again "
            f"without (at least {MIN_SHAPES})"
        )
        return laws, [Skip(row=shape, reason=reason) for shape in seen]
    return laws | _left_out_laws(rows, seen, shipped), []


def _left_out_laws(rows: Sequence[Row], seen: Sequence[str], shipped: Law) -> dict[str, Law]:
    """For each shape the law fitted to the others, with the width that their own left-out errors give."""
    chosen = distinct(row for row in rows if row.shape in seen and row.subset in GEMSTONES_SUBSETS)
    inputs = {name: np.array(column) for name, column in law_inputs(shipped, chosen).items()}
    loss, shapes = np.array([row.loss for row in chosen]), np.array([row.shape for row in chosen])
    thetas, residuals = {}, np.empty(len(chosen))
    for shape in seen:
        out = shapes == shape
        # From scratch: a start at the shipped law would know the shape that is left out.
        thetas[shape] = fit(shipped.form, take(inputs, ~out), loss[~out]).theta
        told, _ = shipped.form.evaluate(thetas[shape], take(inputs, out), False)
        residuals[out] = np.log(told) - np.log(loss[out])
    held = HoldOut(residuals=residuals, groups=tuple(shapes))
    known = spread_of_parameters(shipped.form, shipped.theta, np.array(shipped.covariance), inputs)
    plain = np.all([inputs[name] == 0 for name in shipped.residual_scale], axis=0)
    laws = {}
    for shape in seen:
        others = shapes != shape
        spread = held.where(others & plain).spread(known[others & plain])
        marked = {name: others & (inputs[name] == 1) for name in shipped.residual_scale}
        laws[shape] = replace(
            shipped, name=f"gemstones without {shape}", parameters=shipped.form.from_theta(thetas[shape]),
            residual_sd=spread,
            residual_scale={
                name: held.where(mask).spread(known[mask]) / spread for name, mask in marked.items() if mask.any()
            },
        )  # fmt: skip
    return laws


def predict_row_losses(rows: Sequence[Row], laws: Mapping[str, Law]) -> LossPrediction:
    """Predicted losses of the rows, each by the law of its shape."""
    loss, low, high, beyond = (np.empty(len(rows)) for _ in range(4))
    shapes = np.array([row.shape for row in rows])
    for shape in np.unique(shapes):
        mine = np.flatnonzero(shapes == shape)
        told = predict_from_inputs(laws[shape], **law_inputs(laws[shape], [rows[int(i)] for i in mine]))
        loss[mine], low[mine], high[mine], beyond[mine] = told.loss, told.low, told.high, told.extrapolation
    return LossPrediction(loss=loss, low=low, high=high, extrapolation=beyond, law="gemstones")


def chinchilla_losses(params: Array, tokens: Array) -> Array:
    """Losses by the Chinchilla law, on its own corpus [nat/token]."""
    return predict_from_inputs(load_law("chinchilla"), size=params, tokens=tokens).loss


def predict_losses(rows: Sequence[Row], laws: Mapping[str, Law]) -> Predictions:
    """Predict every row, its interval and its baseline."""
    told = predict_row_losses(rows, laws)
    baseline = chinchilla_losses(
        np.array([row.params for row in rows]), np.array([row.tokens for row in rows])
    )
    measured = np.array([row.loss for row in rows])
    forgiven = float(np.median(measured / baseline))
    return Predictions(
        rows=tuple(rows), loss=told.loss, low=told.low, high=told.high, baseline=baseline * forgiven
    )
