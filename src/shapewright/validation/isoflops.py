"""The best size at each compute budget: predicted by a law fitted to the other budgets, against measured minima.

Decisions: the corpora are those of Porian et al. (formll) with every correction, Llama 3 and Marin; each is its own law.
Porian's runs reach far from the best size of their budget, where a sum of two powers leaves them: as for the shipped law
``porian``, the fit sees the runs within a factor of two of the best size of *their own* budget. The budget that is
predicted is judged by its measured minimum, which all of its runs give, and by the losses of its near runs. The baseline
is 20 tokens per parameter for the size (Hoffmann et al. 2022), and for the loss the straight line of ln loss over ln
compute through the other budgets' minima.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from shapewright.scaling.fit import fit
from shapewright.scaling.forms import FORMS
from shapewright.scaling.isoflop import isoflop_minimum
from shapewright.scaling.protocol_isoflop import EXPERIMENTS
from shapewright.scaling.protocol_sizes import PORIAN_NEAR, PORIAN_RUNS
from shapewright.scaling.runs import Runs, read_runs

GRID = 20000
"""Sizes at which a law's curve is searched for its minimum."""
TOKENS_PER_PARAMETER = 20.0
"""Hoffmann et al. 2022 (arXiv 2203.15556), table 3, rounded as is usual."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Minimum:
    """One budget, measured and predicted."""

    corpus: str
    flops: float
    """[FLOP]"""
    size: float
    size_predicted: float
    size_baseline: float
    loss: float
    """[nat/token]"""
    loss_predicted: float
    loss_baseline: float
    residuals: tuple[float, ...]
    """ln(predicted) - ln(measured) of the budget's runs that are near enough to be fitted for the others."""
    baseline_residuals: tuple[float, ...]
    """The same with the baseline's lowest loss for every run."""


def corpora(folder: Path) -> dict[str, tuple[Runs, float]]:
    """Each corpus: its runs, and how far from their budget's best size they may lie to be fitted."""
    found = {}
    for name, dataset in (("formll_refinedweb", "rw"), ("formll_openwebtext2", "owt2")):
        where = {**PORIAN_RUNS, "dataset": (dataset,)}
        runs = read_runs(folder / "formll_isoflop_points.csv", where=where, drop_bad=True)
        found[name] = (runs, PORIAN_NEAR)
    for name, (experiment, _, _) in EXPERIMENTS.items():
        if name.startswith(("llama3", "marin")):
            where = {"experiment": (experiment,), "outlier": ("False",)}
            found[name] = (read_runs(folder / "isoflops_open_athena.csv", where=where), np.inf)
    return found


def left_out_minima(corpus: str, runs: Runs, near: float) -> list[Minimum]:
    """Every budget that has an inner minimum, predicted from the others."""
    assert runs.flops is not None
    form, budget = FORMS["chinchilla"], runs.flops
    measured = {
        float(value): isoflop_minimum(runs.params[budget == value], runs.loss[budget == value])
        for value in np.unique(budget)
    }
    inner = {value: best for value, best in measured.items() if best is not None}
    best_size = np.array([inner[v][0] if v in inner else np.nan for v in budget])
    close = np.abs(np.log(runs.params / best_size)) <= np.log(near) if np.isfinite(near) else budget > 0
    grid = np.geomspace(runs.params.min() / 10.0, runs.params.max() * 10.0, GRID)
    found = []
    for value, (size, loss) in inner.items():
        seen = close & (budget != value)
        theta = fit(form, {"size": runs.params[seen], "tokens": runs.tokens[seen]}, runs.loss[seen]).theta
        out = budget == value
        flops = float(np.median(6.0 * runs.params[out] * runs.tokens[out]))
        curve, _ = form.evaluate(theta, {"size": grid, "tokens": flops / (6.0 * grid)}, False)
        judged = out & close
        told, _ = form.evaluate(theta, {"size": runs.params[judged], "tokens": runs.tokens[judged]}, False)
        line = _line(inner, value)
        best = int(np.argmin(curve))
        found.append(
            Minimum(
                corpus=corpus, flops=value, size=size, size_predicted=float(grid[best]),
                size_baseline=float(np.sqrt(flops / (6.0 * TOKENS_PER_PARAMETER))), loss=loss,
                loss_predicted=float(curve[best]), loss_baseline=line,
                residuals=tuple(float(r) for r in np.log(told / runs.loss[judged])),
                baseline_residuals=tuple(float(r) for r in np.log(line / runs.loss[judged])),
            )
        )  # fmt: skip
    return found


def _line(inner: dict[float, tuple[float, float]], value: float) -> float:
    """Loss at a budget by the straight line of logarithms through the minima of the others."""
    others = [(v, loss) for v, (_, loss) in inner.items() if v != value]
    x, y = (np.log(np.array(column)) for column in zip(*others, strict=True))
    return float(np.exp(np.polyval(np.polyfit(x, y, 1), np.log(value))))
