"""What each candidate needs to reach a loss, at its fastest plan and the batch of the search."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from shapewright.search.learning import learned_loss
from shapewright.search.ranking import Arm, Ranking

Array = NDArray[Any]
HALVINGS = 24
LEAST = 1e-3
"""Share of its tokens below which a candidate is not asked."""


def device_hours(ranking: Ranking, loss: float, *, most: float = 1.0) -> Array:
    """(S,) Device-hours with which each candidate reaches ``loss``; inf where ``most`` times the budget does not."""
    return np.concatenate([_hours(ranking, arm, loss, most) for arm in ranking.arms])


def _hours(ranking: Ranking, arm: Arm, loss: float, most: float) -> Array:
    low, high = np.full(arm.loss.size, LEAST), np.full(arm.loss.size, most)
    for _ in range(HALVINGS):
        middle = np.sqrt(low * high)
        enough = losses_at(ranking, arm, arm.tokens * middle) <= loss
        low, high = np.where(enough, low, middle), np.where(enough, middle, high)
    steps = arm.tokens * high / (ranking.global_batch * arm.workload.seq_len)
    reached = np.isfinite(arm.loss) & (losses_at(ranking, arm, arm.tokens * most) <= loss)
    seconds = np.where(reached, steps * np.where(reached, arm.sweep.step_time, 1.0), np.inf)
    return seconds * arm.workload.cluster.num_devices / 3600.0


def losses_at(ranking: Ranking, arm: Arm, tokens: Array) -> Array:
    """(S,) Predicted loss of every candidate of an arm after ``tokens``."""
    told = learned_loss(
        ranking.law, arm.candidates.traits, tokens=np.maximum(tokens, 1.0),
        number_format=arm.workload.precision.matmul_format, unique_tokens=ranking.unique_tokens,
    )  # fmt: skip
    return np.asarray(told.loss)
