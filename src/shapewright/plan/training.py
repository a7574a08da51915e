"""The training step: micro-batches, pipeline stages, data parallelism and memory on top of layer costs.

One set of formulas serves one plan and a table of (shape, plan) pairs; ``plan.timeline`` lays the same passes on streams.
Sources: schedules, see ``plan.schedules``; sharded data parallelism, Rajbhandari et al. 2020 (ZeRO, arXiv 1910.02054) and
Zhao et al. 2023 (FSDP, arXiv 2304.11277); low-communication training, Douillard et al. 2023 (DiLoCo, arXiv 2311.08105).

Communication that kernels hide slows them by the framework's ``contention``; a step waits for its slowest device by the
framework's ``jitter``. How layers are dealt to stages says ``plan.stages``. Neglected: data loading; restarts, see
``plan.goodput``.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from shapewright.architecture.operator import Size
from shapewright.cost.price import CostModel
from shapewright.hardware.cluster import Cluster
from shapewright.plan.costs import ModelCost
from shapewright.plan.framework import Framework
from shapewright.plan.memory import framework_bytes
from shapewright.plan.offload import activation_wait, optimizer_wait
from shapewright.plan.parallel import Plan
from shapewright.plan.passes import Passes
from shapewright.plan.precision import Precision
from shapewright.plan.schedules import pipeline_seconds
from shapewright.plan.stage_memory import (
    Lookup,
    costs_at,
    held_by,
    kept_per_layer,
    on_device,
    peak_of,
    recomputed_share,
    state_of_run,
)
from shapewright.plan.stages import stage_layers
from shapewright.plan.uneven import pacing
from shapewright.plan.wires import Wires

Array = NDArray[Any]

OUTER_GRADIENT_BYTES = 4.0
"""Bytes per parameter that copies exchange when they drift apart in between (fp32)."""


@dataclass(frozen=True, kw_only=True, slots=True)
class StepTable:
    """The training step of every (shape, plan) pair; arrays of one common shape."""

    step_time: Array
    """[s]"""
    compute: Array
    """Forward, backward and recompute of the busiest stage, communication inside layers included [s]."""
    recompute: Array
    """The recomputed part of it [s]."""
    bubble: Array
    """Pipeline idle time [s]."""
    exposed_dp: Array
    """Data-parallel communication that nothing hides [s]."""
    optimizer: Array
    """[s]"""
    pipeline_send: Array
    """Sends between stages on the critical path [s]."""
    offload: Array
    """Waiting for the host's memory [s]."""
    jitter: Array
    """Waiting for the slowest device [s]."""
    model_flops: Array
    """Model FLOP of one step over all devices, without recompute."""
    memory: Array
    """Peak of the fullest device [B]."""
    weights: Array
    gradients: Array
    optimizer_state: Array
    activations: Array
    logits: Array
    buffers: Array
    """The six parts of ``memory`` besides the framework's [B]."""
    framework: float
    num_micro_batches: Array
    passes: Passes
    """The passes of one micro-batch on a stage, for the timeline."""
    inward: Array
    outward: Array
    """Weights that come before the first forward pass and gradients that leave behind the last backward pass [s]."""
    exposed_inward: Array
    """The part of ``exposed_dp`` before the first pass [s]."""
    waiting: Array
    """The part of ``exposed_dp`` inside the passes of one micro-batch [s]."""
    host: Array
    """The part of ``offload`` after the passes [s]."""


def training_steps(
    costs: ModelCost,
    *,
    w: Any,
    p: Any,
    depth: Size,
    plan: Plan,
    wires: Wires,
    global_batch: Size,
    precision: Precision,
    framework: Framework,
    model: CostModel,
    cluster: Cluster,
    trainable: float = 1.0,
    optimizer_traffic: float = 30.0,
) -> StepTable:
    """Compose the steps of (shape, plan) pairs.

    Args:
        costs: layer costs on a grid of layer shapes and local splits.
        w, p: indices into that grid; broadcast to the pairs.
        depth: layers of each pair.
        plan, wires: the plans and their large collectives, broadcast to the pairs.
        global_batch: sequences per step; a multiple of ``dp * micro_batch``.
        precision: the bytes of each kind of state.
        framework: what hidden communication and many devices add.
        trainable: share of the parameters that have gradients and optimizer state.
        optimizer_traffic: bytes moved per parameter by one optimizer step.
        model, cluster: price the optimizer; tell the kind of device.
    """

    layer, embedding, head = costs_at(costs, w, p)
    precision = state_of_run(precision, trainable)
    kappa = framework.contention
    depth = np.asarray(depth, float)
    pp, vpp, dp = (np.asarray(x, float) for x in (plan.pp, plan.vpp, plan.dp))
    sharding = np.asarray(plan.sharding)
    micro_batches = np.asarray(global_batch, float) / (dp * plan.micro_batch)
    layers, short = stage_layers(depth, pp, vpp)

    # Passes of one micro-batch.
    forward, backward = layer("forward"), layer("backward")
    share = recomputed_share(plan, layers)
    again, kept = _again(layer, np.asarray(plan.recompute)) * share, kept_per_layer(layer, plan, share)
    held_back = activation_wait(kept, forward, plan)
    layer_params = layer("params_split") + layer("params_expert")
    gathered = sharding == 3
    gather = wires.layer_gather.seconds(layer_params * precision.weight_bytes)
    scatter = wires.layer_scatter.seconds(layer_params * precision.gradient_bytes)
    # Fully sharded weights are fetched one layer ahead: a layer takes the longer of compute and wire.
    forward_paced = np.where(gathered, _overlapped(forward, gather, kappa), forward) + held_back
    backward_paced = np.where(
        gathered, _overlapped(backward + again, gather + scatter, kappa), backward + again
    )
    backward_paced = backward_paced + held_back
    waits = layer("communication_forward"), layer("communication_backward")
    passes = Passes(
        stages=pp,
        chunks=vpp,
        micro_batches=micro_batches,
        schedule=np.asarray(plan.schedule),
        layers=layers,
        short=short,
        forward=layers * forward_paced,
        backward=layers * backward_paced,
        weight=layers * layer("weight"),
        # Two passes of opposite directions hide each other's communication.
        pair=layers
        * np.maximum(
            forward_paced + backward_paced - (1 - kappa) * (waits[0] + waits[1]), waits[0] + waits[1]
        ),
        first_forward=embedding("forward"),
        first_backward=embedding("backward"),
        last_forward=head("forward"),
        last_backward=head("backward"),
        send=wires.send.seconds(layer("input_bytes")),
    )
    work, bubble, sending = pipeline_seconds(passes)
    # Layers of the stage that paces the pipeline.
    paced = pacing(passes)[0] if np.any(short) else layers
    waiting = paced * (forward_paced + backward_paced - forward - backward - again - 2 * held_back)

    # Gradients leave while the last micro-batch's backward pass runs; sharded weights come back with the next forward.
    held, split_params, expert_params = held_by(
        layer, embedding, head, plan, layers, short, kept, experts=costs.has_experts
    )
    inward, outward = _gradients(wires, split_params, expert_params, plan, precision, trainable)
    owned = held[0].owned if len(held) == 1 else np.maximum(held[0].owned, held[1].owned)
    rounds = np.where((sharding == 2) & (pp == 1), micro_batches, 1.0)
    exposed_inward = _uncovered(inward, layers * forward, kappa)
    # The first gather of a step has nothing to hide behind.
    exposed = exposed_inward + rounds * _uncovered(outward, layers * backward, kappa) + gather
    if np.max(plan.sync_every) > 1:
        outer = wires.outer.seconds(owned * OUTER_GRADIENT_BYTES) / np.asarray(plan.sync_every, float)
        exposed = exposed + np.where(np.asarray(plan.sync_every) > 1, outer, 0.0)
    optimizer = np.asarray(model.pointwise(owned * (optimizer_traffic * trainable)))
    offloading = micro_batches * paced * 2 * held_back
    if np.any(np.asarray(plan.offload) == 1):
        on_host = optimizer_wait(owned * trainable, precision, optimizer_traffic)
        optimizer = np.where(np.asarray(plan.offload) == 1, 0.0, optimizer)
        offloading = offloading + np.where(np.asarray(plan.offload) == 1, on_host, 0.0)
        late = np.where(np.asarray(plan.offload) == 1, on_host, 0.0)
    else:
        late = 0.0
    steady = work + bubble + sending + exposed + optimizer + late
    slowest = framework.jitter * np.sqrt(2.0 * np.log(max(cluster.num_devices, 1)))
    step_time = steady * (1.0 + slowest)

    memory = peak_of(held, short, plan, precision, micro_batches)
    reserved = framework_bytes(cluster)
    total_memory = on_device(memory, cluster)
    # Frozen weights have no gradient: a forward pass and the gradients of the inputs remain.
    passes_per_step = 3.0 if trainable == 1.0 else 2.0
    model_flops = passes_per_step * (costs.flops[w, p] * depth + costs.head_flops[w, p]) * micro_batches * dp
    shape = np.broadcast_shapes(np.shape(step_time), np.shape(total_memory))

    def spread(value: Any) -> Array:
        return np.broadcast_to(value, shape)

    return StepTable(
        step_time=spread(step_time),
        compute=spread(work - micro_batches * (waiting + paced * 2 * held_back)),
        recompute=spread(micro_batches * paced * again),
        bubble=spread(bubble),
        exposed_dp=spread(exposed + micro_batches * waiting),
        optimizer=spread(optimizer),
        pipeline_send=spread(sending),
        offload=spread(offloading),
        jitter=spread(steady * slowest),
        model_flops=spread(model_flops),
        memory=spread(total_memory),
        framework=reserved,
        num_micro_batches=spread(micro_batches),
        passes=passes,
        inward=spread(inward),
        outward=spread(outward),
        exposed_inward=spread(exposed_inward + gather),
        waiting=spread(waiting),
        host=spread(late),
        **{name: spread(value) for name, value in memory.items()},
    )


def _again(layer: Lookup, level: Array) -> Array:
    """Seconds that a layer which recomputes at ``level`` computes again."""
    again = 0.0 * layer("forward")
    for index, seconds in ((1, "pointwise_forward"), (2, "forward"), (3, "alternate_forward")):
        if np.any(level == index):
            again = np.where(level == index, layer(seconds), again)
    return again


def _overlapped(work: Array, wire: Array, contention: float) -> Array:
    """The longer of the two, and what hidden communication costs the kernels that hide it [s]."""
    return np.maximum(work, wire) + contention * np.minimum(work, wire)


def _uncovered(wire: Array, work: Array, contention: float) -> Array:
    """What a transfer behind ``work`` adds to it: what outlasts it, and the slowing of what it overlaps with [s]."""
    return np.maximum(wire - work, 0.0) + contention * np.minimum(wire, work)


def _gradients(
    wires: Wires, split: Array, expert: Array, plan: Plan, precision: Precision, trainable: float
) -> tuple[Array, Array]:
    """(weights that come in, gradients that go out) of a step, as seconds on the wire.

    Plain data parallelism all-reduces gradients during the last backward pass; ZeRO-1 reduce-scatters them there and
    gathers weights during the next forward pass; ZeRO-2 keeps no whole gradient, so without a pipeline it scatters after
    every micro-batch. Copies along context parallelism reduce together with data parallelism. With sharded parameters only
    the replicas of a shard all-reduce here; the rest is in the layers' pace.
    """
    gradients, weights = split * precision.gradient_bytes, split * precision.weight_bytes
    outward = (
        wires.reduce.seconds(gradients)
        + wires.scatter.seconds(gradients)
        + wires.replica_reduce.seconds(gradients / (np.asarray(plan.dp_shard) * plan.cp))
    )
    inward = wires.gather.seconds(weights)
    if np.any(expert > 0):
        gradients, weights = expert * precision.gradient_bytes, expert * precision.weight_bytes
        outward = outward + wires.expert_reduce.seconds(gradients) + wires.expert_scatter.seconds(gradients)
        inward = inward + wires.expert_gather.seconds(weights)
    # Weights that did not change need not come back.
    return inward * trainable, outward
