"""The training step: micro-batches, pipeline stages, data parallelism and memory on top of layer costs.

One set of formulas serves one plan and a table of (shape, plan) pairs. Sources: 1F1B and interleaved
schedules, Narayanan et al. 2021 (arXiv 2104.04473) section 2.2; activation memory in flight, Korthikanti et
al. 2022 (arXiv 2205.05198) section 4; sharded data parallelism, Rajbhandari et al. 2020 (ZeRO,
arXiv 1910.02054) and Zhao et al. 2023 (FSDP, arXiv 2304.11277).

Communication that kernels hide slows them by the framework's ``contention``. Neglected: jitter between devices,
restarts and data loading; the interval of the step time carries them.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from shapewright.architecture.operator import Size
from shapewright.cost.price import CostModel
from shapewright.hardware.cluster import Cluster
from shapewright.plan.costs import ModelCost, PlaceCost
from shapewright.plan.framework import Framework
from shapewright.plan.parallel import Plan
from shapewright.plan.precision import Precision
from shapewright.plan.wires import Wires

Array = NDArray[Any]

FRAMEWORK_BYTES = 2.5e9
"""Memory of the context, the communication library's buffers and workspaces on an accelerator of a cluster [B].
Kind: assumed. NCCL and CUDA contexts take 1 to 4 GB (aiconfigurator-core's system files state 0.3 to 4 GB of
``nccl_mem`` and ``other_mem`` by number of devices)."""

FRAGMENTATION = 0.04
"""Share of the memory that the allocator cannot use. Kind: assumed (PyTorch's caching allocator with
expandable segments)."""

OPTIMIZER_TRAFFIC = 30.0
"""Bytes moved per parameter by one AdamW step: gradient 4 read; master, m and v 12 read and 12 written;
16-bit weight 2 written. Kind: derived."""


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
    model_flops: Array
    """Model FLOP of one step over all devices, without recompute."""
    memory: Array
    """Peak of the fullest device [B]."""
    weights: Array
    gradients: Array
    optimizer_state: Array
    activations: Array
    logits: Array
    """The five parts of ``memory`` besides the framework's [B]."""
    framework: float
    num_micro_batches: Array


@dataclass(frozen=True, kw_only=True, slots=True)
class _Picked:
    """The fields of a PlaceCost at the (shape, plan) pairs."""

    forward: Array
    backward: Array
    pointwise_forward: Array
    params_split: Array
    params_expert: Array
    saved: Array
    saved_selective: Array
    input_bytes: Array


def _pick(place: PlaceCost, w: Any, p: Any) -> _Picked:
    return _Picked(**{name: getattr(place, name)[w, p] for name in _Picked.__slots__})


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
) -> StepTable:
    """Compose the steps of (shape, plan) pairs.

    Args:
        costs: layer costs on a grid of layer shapes and local splits.
        w, p: indices into that grid; broadcast to the pairs.
        depth: layers of each pair.
        plan, wires: the plans and their large collectives, broadcast to the pairs.
        global_batch: sequences per step; a multiple of ``dp * micro_batch``.
        precision: the bytes of each kind of state.
        framework: tells how much hidden communication slows the kernels that hide it.
        trainable: share of the parameters that have gradients and optimizer state.
        model, cluster: price the optimizer; tell the kind of device.
    """
    layer, embedding, head = (_pick(place, w, p) for place in (costs.layer, costs.embedding, costs.head))
    depth = np.asarray(depth, float)
    pp, vpp, dp = (np.asarray(x, float) for x in (plan.pp, plan.vpp, plan.dp))
    shard, sharding = np.asarray(plan.dp_shard, float), np.asarray(plan.sharding)
    micro_batches = np.asarray(global_batch, float) / (dp * plan.micro_batch)
    selective, full = np.asarray(plan.recompute) == 1, np.asarray(plan.recompute) == 2
    layers = depth / pp
    pipelined = pp > 1

    if trainable < 1.0:
        # Frozen weights stay in the format of the products: no optimizer step needs a wider copy.
        precision = replace(
            precision,
            weight_bytes=1.0 if precision.name == "fp8" else precision.weight_bytes,
            gradient_bytes=precision.gradient_bytes * trainable,
            optimizer_bytes=precision.optimizer_bytes * trainable,
        )
    kappa = framework.contention

    # Time of one micro-batch on a stage of layers, and on the two special stages.
    again = np.where(full, layer.forward, np.where(selective, layer.pointwise_forward, 0.0))
    forward, backward = layer.forward, layer.backward + again
    gathered = sharding == 3
    layer_params = layer.params_split + layer.params_expert
    gather = wires.layer_gather.seconds(layer_params * precision.weight_bytes)
    scatter = wires.layer_scatter.seconds(layer_params * precision.gradient_bytes)
    # Fully sharded weights are fetched one layer ahead: a layer takes the longer of compute and wire.
    forward_paced = np.where(gathered, _overlapped(forward, gather, kappa), forward)
    backward_paced = np.where(gathered, _overlapped(backward, gather + scatter, kappa), backward)
    stack = layers * (forward_paced + backward_paced)
    waiting = stack - layers * (forward + backward)
    first = embedding.forward + embedding.backward
    last = head.forward + head.backward
    send = wires.send.seconds(layer.input_bytes)
    # Interleaved schedules hide their sends behind the other chunks; plain 1F1B waits for two per micro-batch.
    send_per_micro = np.where(pipelined & (vpp == 1), 2 * send, 0.0)
    slowest = np.where(pipelined, stack + np.maximum(first, last), stack + first + last) + send_per_micro
    all_stages = pp * stack + first + last
    fill = np.where(pipelined, (np.maximum(all_stages - slowest, 0.0)) / vpp + 2 * (pp - 1) * vpp * send, 0.0)
    work = micro_batches * slowest

    # Gradients leave while the last micro-batch's backward pass runs; sharded weights come back with the next forward.
    stage_params = (
        layers * layer.params_split + np.where(pipelined, 0.0, embedding.params_split) + head.params_split
    )
    stage_params = np.maximum(stage_params, layers * layer.params_split + embedding.params_split)
    expert_params = layers * layer.params_expert
    exposed = _exposed_gradients(
        wires,
        stage_params,
        expert_params,
        plan,
        precision,
        hidden_backward=layers * backward,
        hidden_forward=layers * forward,
        contention=kappa,
        trainable=trainable,
    )
    # The first gather of a step has nothing to hide behind.
    exposed = exposed + gather
    expert_copies = np.maximum(dp * plan.cp * plan.tp / (np.asarray(plan.ep) * plan.etp), 1)
    # Replicated weights are split by ZeRO over the shard group (and context parallelism, which holds copies too).
    state_share = np.where(sharding >= 1, shard * np.asarray(plan.cp), 1.0)
    expert_share = np.where(sharding >= 1, np.minimum(expert_copies, np.maximum(shard * plan.cp, 1)), 1.0)
    owned = stage_params / state_share + expert_params / expert_share
    optimizer = np.asarray(model.pointwise(owned * (OPTIMIZER_TRAFFIC * trainable)))
    step_time = work + fill + exposed + optimizer

    memory = _memory(
        layer,
        embedding,
        head,
        plan,
        precision,
        layers=layers,
        micro_batches=micro_batches,
        stage_params=stage_params,
        expert_params=expert_params,
        state_share=state_share,
        expert_share=expert_share,
        layer_params=layer_params,
    )
    reserved = FRAMEWORK_BYTES if cluster.num_devices > 1 else FRAMEWORK_BYTES / 2
    if cluster.accelerator.device_class == "cpu":
        reserved = 0.4e9
    parts = sum(memory.values())
    total_memory = (parts + reserved) / (1 - FRAGMENTATION)
    # Frozen weights have no gradient: a forward pass and the gradients of the inputs remain.
    passes = 3.0 if trainable == 1.0 else 2.0
    model_flops = passes * (costs.flops[w, p] * depth + costs.head_flops[w, p]) * micro_batches * dp
    shape = np.broadcast_shapes(np.shape(step_time), np.shape(total_memory))
    spread = {name: np.broadcast_to(value, shape) for name, value in memory.items()}
    return StepTable(
        step_time=np.broadcast_to(step_time, shape),
        compute=np.broadcast_to(micro_batches * (slowest - send_per_micro - waiting), shape),
        recompute=np.broadcast_to(micro_batches * layers * again, shape),
        bubble=np.broadcast_to(fill, shape),
        exposed_dp=np.broadcast_to(exposed + micro_batches * waiting, shape),
        optimizer=np.broadcast_to(optimizer, shape),
        pipeline_send=np.broadcast_to(micro_batches * send_per_micro, shape),
        model_flops=np.broadcast_to(model_flops, shape),
        memory=np.broadcast_to(total_memory, shape),
        framework=reserved,
        num_micro_batches=np.broadcast_to(micro_batches, shape),
        **spread,
    )


def _overlapped(work: Array, wire: Array, contention: float) -> Array:
    """The longer of the two, and what hidden communication costs the kernels that hide it [s]."""
    return np.maximum(work, wire) + contention * np.minimum(work, wire)


def _exposed_gradients(
    wires: Wires,
    split: Array,
    expert: Array,
    plan: Plan,
    precision: Precision,
    *,
    hidden_backward: Array,
    hidden_forward: Array,
    contention: float,
    trainable: float,
) -> Array:
    """Gradient reduction and weight gathering that outlast the passes they overlap with [s].

    Plain data parallelism all-reduces gradients during the last backward pass; ZeRO-1 and ZeRO-2
    reduce-scatter them there and gather weights during the next forward pass. Copies along context
    parallelism reduce together with data parallelism. With sharded parameters only the replicas of a shard
    all-reduce here; the rest is in the layers' pace.
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
    inward = inward * trainable
    slowed = np.minimum(outward, hidden_backward) + np.minimum(inward, hidden_forward)
    return (
        np.maximum(outward - hidden_backward, 0.0)
        + np.maximum(inward - hidden_forward, 0.0)
        + contention * slowed
    )


def _memory(
    layer: _Picked,
    embedding: _Picked,
    head: _Picked,
    plan: Plan,
    precision: Precision,
    *,
    layers: Array,
    micro_batches: Array,
    stage_params: Array,
    expert_params: Array,
    state_share: Array,
    expert_share: Array,
    layer_params: Array,
) -> dict[str, Array]:
    """Bytes of the fullest device by kind: the first stage, which holds the most micro-batches in flight,
    or, without a pipeline, the only one, which holds the logits too."""
    sharding = np.asarray(plan.sharding)
    pp, vpp = np.asarray(plan.pp, float), np.asarray(plan.vpp, float)
    selective, full = np.asarray(plan.recompute) == 1, np.asarray(plan.recompute) == 2
    held = stage_params + expert_params
    owned = stage_params / state_share + expert_params / expert_share
    # FSDP keeps the sharded master copy only (in optimizer state) and two gathered layers.
    weights = np.where(
        sharding == 3, 2 * layer_params * precision.weight_bytes, held * precision.weight_bytes
    )
    gradients = np.where(sharding >= 2, owned, held) * precision.gradient_bytes
    gradients = gradients + np.where(sharding == 3, layer_params * precision.weight_bytes, 0.0)
    optimizer_state = owned * precision.optimizer_bytes
    kept = np.where(full, layer.input_bytes, np.where(selective, layer.saved_selective, layer.saved))
    # Interleaving keeps (pp - 1) / vpp more stage-loads of activations in flight than plain 1F1B's pp.
    in_flight = np.where(vpp > 1, pp + (pp - 1) / vpp, pp)
    in_flight = np.minimum(in_flight, micro_batches)
    working = np.where(full | selective, layer.saved - kept, 0.0)
    activations = in_flight * layers * kept + working + embedding.saved
    last_stage = np.where(pp > 1, layers * kept, 0.0)
    logits = np.where(pp > 1, np.maximum(head.saved + last_stage - activations, 0.0), head.saved)
    return {
        "weights": weights,
        "gradients": gradients,
        "optimizer_state": optimizer_state,
        "activations": activations,
        "logits": logits,
    }
