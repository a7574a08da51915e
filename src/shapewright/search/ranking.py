"""Every candidate of a search in one order, whichever family, number format and plan it came from.

Decisions: an arm is one family of shapes in one number format with every plan priced; the ranking lays the arms end to
end, so that ties, fronts and picks see one list of candidates. Two candidates share the corpus, the recipe and most of
the law's error, so a tie is a difference inside the scatter of single shapes around the law.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from shapewright.architecture.shape import Shape
from shapewright.plan.pairs import Workload
from shapewright.plan.parallel import Plan
from shapewright.scaling.law import Law, LossPrediction
from shapewright.search.lattice import Candidates
from shapewright.search.sweep import Sweep

Array = NDArray[Any]


@dataclass(frozen=True, kw_only=True, slots=True)
class Arm:
    """One family of shapes in one number format, each with its fastest plan."""

    family: str
    """Name of the family (``families.FAMILIES``)."""
    workload: Workload
    candidates: Candidates
    sweep: Sweep
    tokens: Array
    """(S,) tokens that the budget buys; 0 where no plan fits."""
    prediction: LossPrediction
    """(S,) losses; only those with tokens count."""
    loss: Array
    """(S,) predicted loss; inf where no plan fits or the budget ends before a step."""


@dataclass(frozen=True, kw_only=True)
class Ranking:
    """Every candidate shape with its best plan, tokens and predicted loss."""

    law: Law
    arms: tuple[Arm, ...]
    global_batch: int
    """Sequences per step."""
    unique_tokens: float | None = None
    """Tokens of the corpus; None where all tokens are fresh."""
    refused: Mapping[str, int] = field(default_factory=dict)
    """Shapes, not pairs, that a limit on what comes after training refused, by reason."""
    left_out: Mapping[str, str] = field(default_factory=dict)
    """Families that cannot be priced on this hardware and were not searched, with what they lack."""

    @property
    def workload(self) -> Workload:
        """The workload of the choice."""
        return self.arm_of(self.best).workload

    @cached_property
    def _starts(self) -> Array:
        return np.cumsum([0, *(arm.loss.size for arm in self.arms)])

    def number_of_arm(self, index: int) -> int:
        """Which of the arms a candidate belongs to."""
        return int(np.searchsorted(self._starts, index, side="right")) - 1

    def place(self, index: int) -> tuple[Arm, int]:
        """The arm of a candidate and its row there."""
        arm = self.number_of_arm(index)
        return self.arms[arm], int(index - self._starts[arm])

    def arm_of(self, index: int) -> Arm:
        """The arm of a candidate."""
        return self.place(index)[0]

    def shape(self, index: int) -> Shape:
        """One candidate as a plain shape."""
        arm, row = self.place(index)
        return arm.candidates.shape(row)

    def plan(self, index: int) -> Plan:
        """Its fastest plan."""
        arm, row = self.place(index)
        return arm.sweep.plans.row(int(arm.sweep.best[row]))

    def joined(self, values: Any) -> Array:
        """One array over all candidates; ``values`` takes an arm and returns its own."""
        return np.concatenate([np.broadcast_to(values(arm), arm.loss.shape) for arm in self.arms])

    @cached_property
    def loss(self) -> Array:
        """(S,) predicted loss; inf where no plan fits."""
        return self.joined(lambda arm: arm.loss)

    @cached_property
    def tokens(self) -> Array:
        """(S,) tokens that the budget buys."""
        return self.joined(lambda arm: arm.tokens)

    @cached_property
    def step_time(self) -> Array:
        """(S,) [s]; inf where no plan fits."""
        return self.joined(lambda arm: arm.sweep.step_time)

    @cached_property
    def params(self) -> Array:
        """(S,) parameters."""
        return self.joined(lambda arm: arm.candidates.params)

    @cached_property
    def active_params(self) -> Array:
        """(S,) parameters that one token passes through."""
        return self.joined(lambda arm: arm.candidates.active_params)

    @cached_property
    def order(self) -> Array:
        """Indices of the feasible candidates, lowest loss first."""
        order = np.argsort(self.loss, kind="stable")
        return order[np.isfinite(self.loss[order])]

    @property
    def best(self) -> int:
        """The choice."""
        return int(self.order[0])

    @cached_property
    def tie_width(self) -> float:
        """Differences of predicted loss below this are ties."""
        return tie_width(float(self.loss[self.best]), self.law)

    @cached_property
    def ties(self) -> Array:
        """(S,) True where the loss is within the uncertainty of the best."""
        return self.loss <= self.loss[self.best] + self.tie_width

    @cached_property
    def pareto(self) -> Array:
        """(S,) True where no other has lower loss and less time per token."""
        return front(self.loss, np.where(np.isfinite(self.loss), self.step_time, np.inf))

    @property
    def num_pairs(self) -> int:
        """(shape, plan) pairs considered."""
        return sum(arm.sweep.num_pairs for arm in self.arms)

    @property
    def num_shapes(self) -> int:
        """Candidate shapes considered."""
        return sum(arm.loss.size for arm in self.arms)

    @property
    def rejected(self) -> dict[str, int]:
        """Pairs by the first rule they break."""
        counts: Counter[str] = Counter()
        for arm in self.arms:
            counts.update(arm.sweep.rejected)
        return {**counts, **{f"{reason} (shapes)": count for reason, count in self.refused.items()}}


def tie_width(loss: float, law: Law) -> float:
    """Differences of predicted loss below this are ties: the scatter of two shapes around one law."""
    return loss * law.residual_sd * float(np.sqrt(2.0))


def front(first: Array, second: Array) -> Array:
    """True where no other row is lower in both."""
    found = np.zeros(first.size, bool)
    lowest = np.inf
    for i in np.lexsort((second, first)):
        if np.isfinite(first[i]) and second[i] < lowest:
            found[i], lowest = True, second[i]
    return found
