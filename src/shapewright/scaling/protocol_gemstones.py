"""The shape-aware law: which rows of the Gemstones files, how tokens and schedules count, what is held out.

Decisions: tokens are those logged at the row's step. Constant-rate, decayed and half-rate rows are fitted together,
with one coefficient for decay (on the size term: decay lets a model use what it learned) and one for half the
rate (on the token term: it learns more slowly). All rows of a shape are one cluster, so an interval reflects 16
shapes, not 840 rows. Tried and left (median error on left-out
shapes): size alone 1.0 %, width and depth as two powers .68 %, no growth of the token term with size .36 %, a ridge
that bends with depth .27 %; this form leaves .21 % (benchmarks/LOG.md).
"""

from __future__ import annotations

from functools import cache
from pathlib import Path

import numpy as np

from shapewright.scaling.forms import FORMS, Array
from shapewright.scaling.law import Law
from shapewright.scaling.runs import Runs, read_runs
from shapewright.scaling.study import DRAWS, Identity, study

SHAPE_COLUMNS = ("params", "tokens", "loss", "width", "depth", "run")
"""Columns that the shape form needs."""
GEMSTONES_VOCAB = 50304
"""Vocabulary of the Gemstones models, embedding and head untied: the counts of all shapes follow exactly from
15 l w^2 + (2 l + 1) w + 2 x 50,304 w (14 2/3 at width 384, whose three heads share one key head);
mcleish7/gemstone-scaling-laws, arXiv 2502.06857."""
GEMSTONES_SEQ_LEN = 2048
"""Training context of the Gemstones models (arXiv 2502.06857, section 3)."""
GEMSTONES_SUBSETS = ("hot_100b+", "cool_end", "lr_ablation_hot")
"""Every measurement once: constant rate (each 10 B tokens to 350 B), decayed to zero, and at half the rate. The
other subsets repeat these, or sample the first 10 B tokens more densely (``*_477``), where a constant-rate loss
at batch 4 M says more about warm-up than about the model."""


def schedule_of_subset(subset: str) -> tuple[float, float]:
    """(decayed, lr_halvings) of a Gemstones subset: ``cool_end`` is decayed, ``lr_ablation*`` is at half the rate."""
    return (1.0 if subset == "cool_end" else 0.0), (1.0 if subset.startswith("lr_ablation") else 0.0)


def gemstones_inputs(runs: Runs) -> dict[str, Array]:
    """Inputs of the ``shape`` form from rows in the columns of the Gemstones files."""
    assert runs.width is not None
    assert runs.depth is not None
    inner = runs.params - 2.0 * GEMSTONES_VOCAB * runs.width
    size = inner + GEMSTONES_VOCAB * runs.width + GEMSTONES_SEQ_LEN * runs.width * runs.depth
    schedule = np.array([schedule_of_subset(subset) for subset in runs.subset])
    return {
        "size": size, "tokens": runs.tokens, "width": runs.width, "depth": runs.depth,
        "decayed": schedule[:, 0], "lr_halvings": schedule[:, 1],
    }  # fmt: skip


@cache
def fit_gemstones(folder: Path) -> Law:
    """The shape-aware law on the Gemstones training shapes."""
    runs = read_runs(folder / "gemstones_train.csv", need=SHAPE_COLUMNS, where={"subset": GEMSTONES_SUBSETS})
    assert runs.width is not None
    assert runs.depth is not None
    inputs = gemstones_inputs(runs)
    return study(
        FORMS["shape"], inputs, runs.loss, draws=DRAWS, groups=runs.shape,
        fitted_range={"params": runs.params, "width": runs.width, "depth": runs.depth, "aspect": runs.width / runs.depth},
        cuts=[inputs["size"] > limit for limit in (9e8, 4e8)], scattered_by=("decayed", "lr_halvings"),
        identity=Identity(
            name="gemstones", dataset="Dolma 1.7, Pythia tokenizer (50,304)", licence="MIT",
            source="16 of the 22 Gemstones shapes, McLeish et al. 2025 (arXiv 2502.06857; "
            "mcleish7/gemstone-scaling-laws@5f42047)",
            param_convention="compute",
            flop_convention="6 M D, M = parameters outside the embeddings + head + causal attention",
            constants={"head_vocab": GEMSTONES_VOCAB, "attention_span": GEMSTONES_SEQ_LEN},
            command="shapewright fit law --shipped gemstones --data FOLDER",
            notes=(
                f"Rows: subsets {', '.join(GEMSTONES_SUBSETS)}; tokens as logged; all rows of a shape are one cluster.",
                "Held out for the drift: the three 1 B shapes, then also the three of half a billion.",
            ),
        ),
    ).law  # fmt: skip
