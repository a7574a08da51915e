"""Predicted against measured loss of mixtures of experts that the law has not seen.

Decisions: the open grid (Step Law, 16 cells of four mixtures beside 17 dense ones) is behind the shipped law ``steplaw``,
so each mixture is predicted by the same law fitted again to the dense cells and the *other* mixtures; the interval has the
width that the others' left-out errors give. The baseline is a law of the active parameters alone, fitted to the dense
cells. A mixture differs from the others in its experts and its active share at once: what is checked is how experts count,
not granularity by itself.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from shapewright.scaling.assess import HoldOut, coverage_of_others, take
from shapewright.scaling.fit import fit
from shapewright.scaling.forms import FORMS, Array
from shapewright.scaling.protocol_steplaw import best_of_cells

CORPUS = "steplaw_moe"


@dataclass(frozen=True, kw_only=True, slots=True)
class Mixtures:
    """Left-out mixtures: one value per cell."""

    active_params: Array
    total_params: Array
    granularity: Array
    tokens: Array
    measured: Array
    """[nat/token]"""
    residuals: Array
    """ln of predicted over measured loss."""
    baseline_residuals: Array
    """The same by the dense law on the active parameters."""

    @property
    def inside(self) -> float:
        """Share of cells inside a 90 % interval whose width the other mixtures give."""
        groups = tuple(f"{size:.0f}" for size in self.active_params)
        return coverage_of_others(HoldOut(residuals=self.residuals, groups=groups))


def left_out_mixtures(folder: Path) -> Mixtures:
    """Every mixture of the grid predicted by the dense cells and the other mixtures.

    Raises:
        UsageError: a file of the grid is missing or lacks a column.
    """
    best = best_of_cells(folder)
    active, total, seen, tokens, *_ = (np.array(column) for column in zip(*best, strict=True))
    inputs = {"size": active, "total": total, "granularity": seen, "tokens": tokens}
    loss, form = np.array(list(best.values())), FORMS["routed"]
    mixed = total > active
    dense = fit(form, take(inputs, ~mixed), loss[~mixed], fixed={"share": 0.0})
    # The dense law reads the active parameters as a model of that size.
    alone, _ = form.evaluate(
        dense.theta, {**inputs, "total": active, "granularity": np.ones_like(seen)}, False
    )
    told = np.empty(len(loss))
    for size in np.unique(active[mixed]):
        out = mixed & (active == size)
        # From scratch: a start at the shipped law would know the mixture that is left out.
        found = fit(form, take(inputs, ~out), loss[~out])
        told[out], _ = form.evaluate(found.theta, take(inputs, out), False)
    return Mixtures(
        active_params=active[mixed], total_params=total[mixed], granularity=seen[mixed], tokens=tokens[mixed],
        measured=loss[mixed], residuals=np.log(told[mixed] / loss[mixed]),
        baseline_residuals=np.log(alone[mixed] / loss[mixed]),
    )  # fmt: skip
