"""Bytes of the fullest device of a plan, by kind.

The fullest device is in the first stage, which holds the most micro-batches in flight, or, where that one is a layer short,
in the second; without a pipeline it is the only one, which holds the logits too. Weights, gradients and optimizer state:
Rajbhandari et al. 2020 (ZeRO, arXiv 1910.02054), Zhao et al. 2023 (FSDP, arXiv 2304.11277). Micro-batches in flight:
Narayanan et al. 2021 (arXiv 2104.04473) for 1F1B and interleaving, Huang et al. 2019 (GPipe, arXiv 1811.06965), Qi et al.
2024 (zero-bubble H1, arXiv 2401.10241), DeepSeek-V3 (DualPipe, arXiv 2412.19437, table 2).

Decisions:

- The peak is the larger of two moments: the loss of the last micro-batch in flight, when everything is kept and the logits
  exist; and the end of the backward pass, when every gradient exists and nothing is kept. Frameworks that allocate
  gradients once (Megatron's contiguous buffers) hold them at both; fully sharded trainers free them after every step, so
  that without accumulation the first moment has none.
- What meters read differs: the driver counts context, workspaces and unusable gaps; an allocator's *reserved* leaves out
  the context; *allocated* leaves out the gaps as well (``METERS``).
- Sharded gradients under a pipeline are whole until the last micro-batch and leave then, once: so does
  ``torch.distributed.pipelining`` (``stage.py`` keeps FSDP2 from syncing and resharding before the last backward pass);
  DeepSpeed's ``PipelineEngine`` refuses ZeRO-2, and Megatron shards the optimizer only.
- Fully sharded weights: the sharded master copy is optimizer state; at the loss the head and the next layer are gathered.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from shapewright.hardware.cluster import Cluster
from shapewright.plan.parallel import Plan
from shapewright.plan.precision import Precision

Array = NDArray[Any]

FRAMEWORK_BYTES = 2.5e9
"""Memory of the context, the communication library's buffers and workspaces on an accelerator of a cluster [B].
Kind: assumed. NCCL and CUDA contexts take 1 to 4 GB (aiconfigurator-core's system files state 0.3 to 4 GB of
``nccl_mem`` and ``other_mem`` by number of devices)."""

FRAGMENTATION = 0.04
"""Share of the memory that the allocator cannot use. Kind: assumed (PyTorch's caching allocator with
expandable segments)."""

METERS = ("device", "reserved", "allocated")
"""What a published peak counts: all that the driver sees; what the allocator holds; what tensors take."""

OUTER_BYTES = 8.0
"""Bytes per parameter of low-communication training: the weights of the last exchange and the outer momentum, in fp32
(Douillard et al. 2023, arXiv 2311.08105)."""

KINDS = ("weights", "gradients", "optimizer_state", "activations", "logits", "buffers")


@dataclass(frozen=True, kw_only=True, slots=True)
class Held:
    """What a stage holds, before it is told how many micro-batches are in flight; arrays over pairs."""

    params: Array
    """Parameters of the fullest stage's layers and end, experts included."""
    owned: Array
    """Its share whose optimizer state this device keeps."""
    layer_params: Array
    head_params: Array
    layers: Array
    """Layers of the stage."""
    kept: Array
    """Bytes that one layer keeps per micro-batch under the plan's recompute."""
    whole: Array
    """The same without recompute."""
    embedding: Array
    """Bytes that the embedding keeps."""
    head: Array
    """Bytes that the head and the loss keep."""
    inputs: Array
    """Bytes of a layer's input."""
    stage: int = 0
    """0 for the first stage, 1 for the second."""


def memory_of(held: Held, plan: Plan, precision: Precision, micro_batches: Array) -> dict[str, Array]:
    """Bytes by :data:`KINDS`; they add up to what tensors take at the peak."""
    sharding, schedule = np.asarray(plan.sharding), np.asarray(plan.schedule)
    offload, pp = np.asarray(plan.offload), np.asarray(plan.pp, float)
    full, pipelined = sharding == 3, pp > 1
    offloads, twice = np.any(offload > 0), np.any(schedule == 3)
    # Modes that no plan of the table has cost a sweep nothing.
    params = np.where((schedule == 3) & pipelined, 2.0, 1.0) * held.params if twice else held.params
    weights, gradients = params * precision.weight_bytes, params * precision.gradient_bytes
    if np.any(full):
        gathered = (held.head_params + held.layer_params) * precision.weight_bytes
        weights = np.where(full, gathered, weights)
    cut = full | (sharding == 2) & (pp == 1)
    if np.any(cut):
        gradients = np.where(cut, held.owned * precision.gradient_bytes, gradients)
    optimizer = held.owned * precision.optimizer_bytes
    kept, working = held.kept, np.maximum(held.whole - held.kept, 0.0)
    if offloads:
        optimizer = np.where(offload == 1, 0.0, optimizer)
        kept = np.where(offload == 2, 0.0, kept)
        working = np.where(offload == 2, 2.0 * held.whole, working)
    drifting = np.asarray(plan.sync_every) > 1
    if np.any(drifting):
        optimizer = optimizer + np.where(drifting, held.owned * OUTER_BYTES, 0.0)
    # While a layer runs backward, what recompute dropped of it (or what the host sends back) exists once more.
    of_layers = held.layers * kept
    activations = in_flight(plan, micro_batches, held.stage) * of_layers + held.embedding
    logits = np.where(pipelined, np.maximum(held.head + of_layers - activations, 0.0), held.head)
    # The logits are gone when the first layer runs backward; the larger of the two counts.
    activations = activations + np.maximum(working - logits, 0.0)
    # The gathered input of a split product, the boundary of a stage in and out, and a gradient that is not yet reduced.
    tp = np.asarray(plan.tp, float)
    wide = np.where(np.asarray(plan.sequence_parallel) > 0, tp, 1.0)
    buffers = held.inputs * (np.where(tp > 1, wide, 0.0) + np.where(pipelined, 2.0, 0.0))
    if np.any(full):
        largest = np.maximum(held.layer_params, held.head_params) * precision.weight_bytes
        buffers = buffers + np.where(full, largest, 0.0)
    freed = full & (np.asarray(micro_batches) <= 1)
    if np.any(freed):
        gradients = np.where(freed, np.maximum(gradients - activations - logits, 0.0), gradients)
    parts = (weights, gradients, optimizer, activations, logits, buffers)
    return dict(zip(KINDS, parts, strict=True))


def fullest(first: dict[str, Array], second: dict[str, Array], short: Array) -> dict[str, Array]:
    """The bytes of the fuller of the first and the second stage where the first is ``short``, else of the first."""
    fuller = short & (sum(second.values()) > sum(first.values()))
    return {kind: np.where(fuller, second[kind], first[kind]) for kind in KINDS}


def in_flight(plan: Plan, micro_batches: Array, stage: int = 0) -> Array:
    """Micro-batches whose activations the first or second stage holds at once, as loads of a whole stage."""
    pp, vpp = np.asarray(plan.pp, float), np.asarray(plan.vpp, float)
    schedule = np.asarray(plan.schedule)
    # Interleaving keeps (pp - 1) / vpp more stage-loads in flight than plain 1F1B's pp; DualPipe one more.
    usual = np.where(vpp > 1, pp + (pp - 1) / vpp, pp)
    if stage:
        # A stage further, 1F1B has a micro-batch less in hand, interleaved two chunks less.
        usual = usual - np.where(schedule == 0, np.where(vpp > 1, 2.0 / vpp, 1.0), 0.0)
    usual = np.where(schedule == 3, pp + 1, usual)
    usual = np.where(schedule == 1, micro_batches, usual)
    return np.where(pp > 1, np.minimum(usual, micro_batches), 1.0)


def framework_bytes(cluster: Cluster) -> float:
    """What the framework takes beside tensors [B]."""
    if cluster.accelerator.device_class == "cpu":
        return 0.4e9
    return FRAMEWORK_BYTES if cluster.num_devices > 1 else FRAMEWORK_BYTES / 2


def physical_memory(cluster: Cluster) -> float:
    """Bytes that a device really has: vendors' GB of stacked memory are GiB (an H100 of 80 GB reports 81,559 MiB, a B200 of
    180 GB 183,359 MiB); a design is held to the printed figure."""
    capacity = cluster.accelerator.memory_capacity
    if capacity is None:
        return float("inf")
    stacked = (cluster.accelerator.memory_type or "").startswith("HBM")
    return capacity.value * (2**30 / 1e9 if stacked else 1.0)


def read_by(meter: str, tensors: float, framework: float) -> float:
    """What a meter of :data:`METERS` reads where tensors take ``tensors`` bytes [B]."""
    if meter == "allocated":
        return tensors
    if meter == "reserved":
        return tensors / (1 - FRAGMENTATION)
    return (tensors + framework) / (1 - FRAGMENTATION)
