"""What the stages of a pipeline hold, and the peak of the fullest device, for a table of (shape, plan) pairs.

The first stage has the most micro-batches in flight, and stands for the last one too, with the larger of their ends; where
it is a layer short, the second may be fuller. ``plan.memory`` turns what a stage holds into bytes by kind.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import reduce
from typing import Any

import numpy as np
from numpy.typing import NDArray

from shapewright.architecture.operator import Size
from shapewright.hardware.cluster import Cluster
from shapewright.plan.costs import ModelCost, PlaceCost
from shapewright.plan.memory import FRAGMENTATION, Held, framework_bytes, fullest, memory_of
from shapewright.plan.parallel import Plan
from shapewright.plan.precision import Precision
from shapewright.plan.stages import short_ends, stage_layers

Array = NDArray[Any]

Lookup = Callable[[str], Array]
"""A cost of one place, by the name of its field, at every pair."""


def costs_at(costs: ModelCost, w: Any, p: Any) -> tuple[Lookup, Lookup, Lookup]:
    """(layer, embedding, head) at the pairs."""
    # One index into the flat table is several times as fast as two into the square one.
    index = np.asarray(w) * costs.layer.forward.shape[1] + p

    def look_up(place: PlaceCost) -> Lookup:
        return lambda name: np.take(getattr(place, name), index)

    return look_up(costs.layer), look_up(costs.embedding), look_up(costs.head)


def step_memory(
    costs: ModelCost,
    *,
    w: Any,
    p: Any,
    depth: Size,
    plan: Plan,
    global_batch: Size,
    precision: Precision,
    cluster: Cluster,
    trainable: float = 1.0,
) -> Array:
    """Peak of the fullest device of (shape, plan) pairs [B]: that of ``plan.training``, without the step.

    The arguments are those of :func:`shapewright.plan.training.training_steps`.
    """
    layer, embedding, head = costs_at(costs, w, p)
    precision = state_of_run(precision, trainable)
    micro_batches = np.asarray(global_batch, float) / (np.asarray(plan.dp, float) * plan.micro_batch)
    layers, short = stage_layers(depth, plan.pp, plan.vpp)
    kept = kept_per_layer(layer, plan, recomputed_share(plan, layers))
    held, _, _ = held_by(layer, embedding, head, plan, layers, short, kept, experts=costs.has_experts)
    return on_device(peak_of(held, short, plan, precision, micro_batches), cluster)


def state_of_run(precision: Precision, trainable: float) -> Precision:
    """The bytes of a run that trains this share of the parameters."""
    if trainable == 1.0:
        return precision
    # Frozen weights stay in the format of the products: no optimizer step needs a wider copy.
    return replace(
        precision,
        weight_bytes=1.0 if precision.matmul_format.startswith("fp8") else precision.weight_bytes,
        gradient_bytes=precision.gradient_bytes * trainable,
        optimizer_bytes=precision.optimizer_bytes * trainable,
    )


def kept_per_layer(layer: Lookup, plan: Plan, share: Array) -> Array:
    """Bytes that a layer keeps, ``share`` of the layers of its stage recomputing."""
    level, whole = np.asarray(plan.recompute), layer("saved")
    kept = whole
    for index, size in ((1, "saved_selective"), (2, "input_bytes"), (3, "saved_alternate")):
        if np.any(level == index):
            kept = np.where(level == index, layer(size), kept)
    return kept * share + whole * (1 - share)


def recomputed_share(plan: Plan, layers: Array) -> Array:
    """Share of a stage's layers that recompute."""
    count = np.asarray(plan.recompute_layers, float)
    return np.where(count > 0, np.minimum(count / layers, 1.0), 1.0)


def held_by(
    layer: Lookup,
    embedding: Lookup,
    head: Lookup,
    plan: Plan,
    layers: Array,
    short: Array,
    kept: Array,
    *,
    experts: bool,
) -> tuple[tuple[Held, ...], Array, Array]:
    """What the stages hold that may be the fullest, and the parameters of the fullest outside and inside experts.

    The first stage stands for the last one too, with the larger of their ends; where it is a layer short, the second, which
    has neither, may be fuller.
    """
    pipelined = np.asarray(plan.pp, float) > 1
    embedding_params, head_params = embedding("params_split"), head("params_split")
    ends = np.where(pipelined, np.maximum(embedding_params, head_params), embedding_params + head_params)
    split, expert = layer("params_split"), layer("params_expert") if experts else np.asarray(0.0)
    nothing, first_short = np.asarray(0.0), short_ends(short)[0]
    dealt = [(layers, ends, embedding("saved"), head("saved"))]
    if np.any(first_short):
        dealt = [(layers - first_short, *dealt[0][1:]), (layers, nothing, nothing, nothing)]
    found, of_each = [], []
    for stage, (own_layers, own_ends, embedding_saved, head_saved) in enumerate(dealt):
        of_split, of_experts = own_layers * split + own_ends, own_layers * expert if experts else expert
        of_each.append((of_split, of_experts))
        found.append(
            Held(
                params=of_split + of_experts if experts else of_split,
                owned=_owned(of_split, of_experts, plan, experts=experts), layer_params=split + expert,
                head_params=head_params, layers=own_layers, kept=kept, whole=layer("saved"), embedding=embedding_saved,
                head=head_saved, inputs=layer("input_bytes"), stage=stage,
            )
        )  # fmt: skip
    split_params, expert_params = (reduce(np.maximum, of) for of in zip(*of_each, strict=True))
    return tuple(found), split_params, expert_params


def _owned(split: Array, expert: Array, plan: Plan, *, experts: bool) -> Array:
    """The share of a stage's parameters whose optimizer state one device keeps."""
    sharding, shard, dp = (
        np.asarray(plan.sharding),
        np.asarray(plan.dp_shard, float),
        np.asarray(plan.dp, float),
    )
    # Replicated weights are split by ZeRO over the shard group (and context parallelism, which holds copies too).
    owned = split / np.where(sharding >= 1, shard * np.asarray(plan.cp), 1.0)
    if experts:
        copies = np.maximum(dp * plan.cp * plan.tp / (np.asarray(plan.ep) * plan.etp), 1)
        owned = owned + expert / np.where(
            sharding >= 1, np.minimum(copies, np.maximum(shard * plan.cp, 1)), 1.0
        )
    return owned


def peak_of(
    held: tuple[Held, ...], short: Array, plan: Plan, precision: Precision, micro_batches: Array
) -> dict[str, Array]:
    """Bytes of the fullest device by kind."""
    stages = [memory_of(one, plan, precision, micro_batches) for one in held]
    return stages[0] if len(stages) == 1 else fullest(stages[0], stages[1], short_ends(short)[0])


def on_device(memory: dict[str, Array], cluster: Cluster) -> Array:
    """Bytes of a device that holds these and its framework."""
    return np.asarray((sum(memory.values()) + framework_bytes(cluster)) / (1 - FRAGMENTATION))
