"""The least time a step can take: what lets a search leave shapes and plans out without pricing them.

Decisions: the bound keeps what a layer costs under each local split (kernels and the collectives inside the layer), the
forward pass that full recompute repeats, the idle slots of a 1F1B pipeline, and the layers of its fullest stage; it drops
what a plan can only add: exposed data parallelism, the optimizer, selective recompute, sends, and embedding and head of a
pipeline. No plan is faster; DualPipe, whose passes overlap, is not bounded. A shape whose loss would be too high even so
cannot win, nor can a plan that is slower than one already priced; leaving them out changes no choice and no tie.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from shapewright.plan.pairs import LocalCosts, Workload
from shapewright.plan.parallel import RECOMPUTE, SCHEDULES, Plan
from shapewright.plan.stages import stage_layers
from shapewright.search.lattice import Candidates

Array = NDArray[Any]
FULL, DUAL = RECOMPUTE.index("full"), SCHEDULES.index("DualPipe")


@dataclass(frozen=True, kw_only=True, slots=True)
class Floor:
    """What a step of each shape takes at least under each local split [s]; (S, L) arrays."""

    layers: Array
    """Forward and backward passes of the layers, spread evenly over all devices."""
    forward: Array
    """The forward part of it."""
    ends: Array
    """Embedding and head."""

    @property
    def least(self) -> Array:
        """(S,) Least step of each shape under any plan [s]."""
        return np.min(self.layers + self.ends, axis=1)

    def take(self, rows: Array) -> Floor:
        """The floor of some of the shapes."""
        return Floor(layers=self.layers[rows], forward=self.forward[rows], ends=self.ends[rows])


@dataclass(frozen=True, kw_only=True, slots=True)
class Bound:
    """What a sweep may leave out."""

    floor: Floor
    most: Array
    """(S,) longest step of each shape that still matters [s]."""

    def least_of(self, shapes: Array, plans: Plan, splits: Array, *, depth: int, global_batch: int) -> Array:
        """(S, P) Least step of each pair of one depth; ``splits`` is each plan's place in the floor [s]."""
        stretch = _stretch(plans, depth, global_batch)
        pipelined, again = np.asarray(plans.pp) > 1, _repeats(plans)
        index = shapes[:, None] * self.floor.layers.shape[1] + splits
        least = np.take(self.floor.layers, index)
        if again.any():
            least += np.take(self.floor.forward, index) * again.astype(float)
        least *= stretch
        # In a pipeline the first and the last stage need not be the ones that pace it.
        least += np.take(self.floor.ends, index) * ~pipelined
        return least * (np.asarray(plans.schedule) != DUAL)

    def within(self, shapes: Array, plans: Plan, splits: Array, *, depth: int, global_batch: int) -> Array:
        """(P,) Which pipelines can be fast enough for one of the shapes: the same bound, for all of them at once."""
        most, layers = self.most[shapes, None], self.floor.layers[shapes]
        room = np.max(most / layers, axis=0, initial=0.0)[splits]
        again = _repeats(plans)
        if again.any():
            repeated = np.max(most / (layers + self.floor.forward[shapes]), axis=0, initial=0.0)
            room = np.where(again, repeated[splits], room)
        return (_stretch(plans, depth, global_batch) < room) | (np.asarray(plans.schedule) == DUAL)


def _repeats(plans: Plan) -> Array:
    """(P,) Whether the whole forward pass runs again."""
    return (np.asarray(plans.recompute) == FULL) & (np.asarray(plans.recompute_layers) == 0)


def _stretch(plans: Plan, depth: int, global_batch: int) -> Array:
    """(P,) Least time of the layers under each plan, over that of the same layers spread evenly without idle slots."""
    schedule, stages = np.asarray(plans.schedule), np.asarray(plans.pp, float)
    micro_batches = global_batch / (np.asarray(plans.dp, float) * plans.micro_batch)
    layers, short = stage_layers(depth, stages, plans.vpp)
    # Only zero-bubble and DualPipe have fewer idle slots; a short stage may fill one.
    idle = 1.0 + np.where(
        schedule <= 1, np.maximum(stages - 1.0 - short, 0.0) / (plans.vpp * micro_batches), 0.0
    )
    return layers * stages / depth * idle


def floor_of(
    candidates: Candidates, plans: Plan, local: LocalCosts, workload: Workload, *, global_batch: int
) -> Floor:
    """The floor of a table of shapes."""
    _, first = np.unique(local.split_of_plan, return_index=True)
    split = plans.take(first)
    # Devices that one micro-batch keeps busy, per sequence of it; stages share the layers between them.
    share = np.asarray(split.tp, float) * split.cp / np.asarray(split.micro_batch, float)
    share = share * global_batch / workload.cluster.num_devices
    layer, embedding, head = local.costs.layer, local.costs.embedding, local.costs.head
    at, depth = candidates.layer, candidates.depth[:, None]
    ends = (embedding.forward + embedding.backward + head.forward + head.backward) * share
    return Floor(
        layers=depth * ((layer.forward + layer.backward) * share)[at],
        forward=depth * (layer.forward * share)[at],
        ends=ends[at],
    )


def slowest_useful(loss_at: Callable[[Array], Array], fastest: Array, bar: float) -> Array:
    """(S,) Longest step with which each shape still reaches the loss ``bar``; 0 where not even ``fastest`` does.

    ``loss_at`` is the loss at a step time, which more time per step can only raise; bisection to a thousandth, from
    above, so that nothing that reaches the bar is lost.
    """
    low, high = fastest, fastest * 64.0
    for _ in range(16):
        middle = np.sqrt(low * high)
        reaches = loss_at(middle) <= bar
        low, high = np.where(reaches, middle, low), np.where(reaches, high, middle)
    return np.where(loss_at(fastest) <= bar, np.where(loss_at(fastest * 64.0) <= bar, np.inf, high), 0.0)
