"""Values of rows that may stand for several deployments: the best single one, and the ends of what they may be.

Decisions: a single value is the weighted median, or the one of least expected relative error, ``E |value / truth - 1|``,
which is the median where a deployment weighs its share over its time. Times are compared as logarithms. Around each
deployment's prediction lies a normal with two halves, whose 5th and 95th percentiles are those of a known deployment's
interval; a row's interval is that of the weighted sum of them, so what is not known of its deployment widens it.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray
from scipy.special import ndtr

from shapewright.scaling.law import Z90

Array = NDArray[np.float64]
HALVINGS = 40


@dataclass(frozen=True, kw_only=True, slots=True)
class Mixture:
    """Entries side by side, each of them one deployment of one row; rows in order, none without an entry."""

    owner: NDArray[np.int64]
    """The row of each entry."""
    weight: Array
    """Share of each entry, before they are made to add to one in each row [1]."""

    def least_error(self, values: Array) -> Array:
        """The value of each row with the least expected relative error."""
        return replace(self, weight=self.weight / values).quantile(values, 0.5)

    def quantile(self, values: Array, share: float) -> Array:
        """The value of each row below which ``share`` of its weight lies, straight between neighbours' logarithms."""
        order = np.lexsort((values, self.owner))
        owner, weight, logs = self.owner[order], self.weight[order], np.log(values[order])
        starts = np.flatnonzero(np.diff(owner, prepend=-1))
        total = np.add.reduceat(weight, starts)
        before = np.cumsum(weight) - 0.5 * weight - (np.cumsum(total) - total)[owner]
        # The first entry beyond the share of the weight and the one below it.
        place = np.arange(owner.size)
        last = np.append(starts[1:], owner.size) - 1
        beyond = np.where(before >= share * total[owner], place, owner.size)
        high = np.minimum(np.minimum.reduceat(beyond, starts), last)
        low = np.maximum(high - 1, starts)
        span = np.maximum(before[high] - before[low], 1e-12)
        part = np.clip((share * total - before[low]) / span, 0.0, 1.0)
        return np.exp(logs[low] * (1.0 - part) + logs[high] * part)

    def ends(self, values: Array, reach: Array) -> Array:
        """The 5th and the 95th percentile of each row, (2, rows).

        ``reach`` holds those of a known deployment as multipliers of the prediction, (2, entries).
        """
        spread = np.maximum(np.abs(np.log(reach)), 1e-3) / Z90
        logs, total = np.log(values), np.bincount(self.owner, self.weight)
        found = []
        for share in (0.05, 0.95):
            low = np.full(total.size, np.inf)
            high = -low
            np.minimum.at(low, self.owner, logs - 5.0 * spread[0])
            np.maximum.at(high, self.owner, logs + 5.0 * spread[1])
            for _ in range(HALVINGS):
                middle = 0.5 * (low + high)
                away = middle[self.owner] - logs
                below = ndtr(away / np.where(away < 0, spread[0], spread[1]))
                less = np.bincount(self.owner, self.weight * below) < share * total
                low, high = np.where(less, middle, low), np.where(less, high, middle)
            found.append(np.exp(0.5 * (low + high)))
        return np.array(found)
