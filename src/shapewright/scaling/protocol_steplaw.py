"""Dense models and mixtures of experts on one corpus: how much of a mixture's idle parameters counts.

Decisions: each (size, tokens) cell of the learning rate x batch grid gives one row, its lowest smoothed loss, so
that no arm is judged by its tuning. Dense and mixture cells share every coefficient but ``share``, the power with
which total over active parameters multiplies the active size; it hardly moves with the value that E is held at, which is
why it may be used with other laws although E itself is not identified here. Granularity comes from elsewhere
(:mod:`experts`).
"""

from __future__ import annotations

from functools import cache
from pathlib import Path

import numpy as np

from shapewright.scaling.forms import FORMS
from shapewright.scaling.law import Law
from shapewright.scaling.runs import read_columns
from shapewright.scaling.study import DRAWS, Identity, compute_cuts, study

Cell = tuple[float, float, float, float, float, float]
"""(active and total parameters, granularity, tokens, share of the experts seen, twice the width over an expert's)."""


DENSE = ("N", "N", "D", "smooth loss")
MIXTURE = ("Na", "N", "D", "smooth loss", "topk", "sed", "moeh", "nume", "h")
"""Columns of active and total parameters, tokens and loss; then experts per token, width of the shared and of a routed
expert, routed experts and width."""


def best_of_cells(folder: Path) -> dict[Cell, float]:
    """Lowest smoothed loss of every cell of the dense and the mixture grid."""
    best: dict[Cell, float] = {}
    for file, names in (("steplaw_dense_lr_bs_loss.csv", DENSE), ("steplaw_moe_lr_bs_loss.csv", MIXTURE)):
        columns = read_columns(folder / file, dict.fromkeys(names))
        for row in zip(*(columns[name] for name in names), strict=True):
            active, total, tokens, loss, *experts = (float(value) for value in row)
            if np.isfinite(loss):
                seen, activation, fineness = _experts(*experts) if experts else (1.0, 1.0, 1.0)
                cell = (active, total, seen, tokens, activation, fineness)
                best[cell] = min(best.get(cell, np.inf), float(loss))
    return best


def _experts(
    topk: float, shared: float, wide: float, count: float, width: float
) -> tuple[float, float, float]:
    """Granularity, share of the experts seen, and twice the width over an expert's."""
    # Shared experts are as wide as the routed ones of a token together (column ``sed``).
    return topk + shared / wide, (topk * wide + shared) / (count * wide + shared), 2.0 * width / wide


@cache
def fit_steplaw(folder: Path) -> Law:
    """One law for the 17 dense and 16 mixture cells of Step Law."""
    best = best_of_cells(folder)
    active, total, seen, tokens, *_ = (np.array(column) for column in zip(*best, strict=True))
    inputs = {"size": active, "total": total, "granularity": seen, "tokens": tokens}
    flops = 6.0 * active * tokens
    return study(
        FORMS["routed"], inputs, np.array(list(best.values())), draws=DRAWS, cuts=compute_cuts(flops, (0.3, 0.5)),
        groups=[f"{a:.0f}" for a in active],
        fitted_range={"params": total, "active_share": active / total, "granularity": seen},
        identity=Identity(
            name="steplaw", dataset="StepFun's in-house corpus, 65k tokenizer", licence="none",
            source="Li et al. 2025 (arXiv 2503.04715; step-law/steplaw@32a8f4c): lowest smoothed loss of 17 dense and "
            "16 mixture-of-experts cells",
            param_convention="non_embedding", flop_convention="6 N D, active parameters outside the embeddings",
            constants={}, command="shapewright fit law --shipped steplaw --data FOLDER",
            notes=(
                "Mixtures: one backbone (2.15 B in all, 9 to 58 % active, 8 to 89 experts, 1 to 3 per token and shared "
                "ones as wide, 2 to 20 B tokens).",
                "cut(G) is the granularity of Krajewski et al. 2024 (arXiv 2402.07871), 1 to 16 experts per token; these "
                "cells, with 2 to 6, fit as well without it, with a share of .44.",
                "share is robust (.29 to .25 for E held at .9 to 1.7); E and the other exponents are less so.",
            ),
        ),
    ).law  # fmt: skip
