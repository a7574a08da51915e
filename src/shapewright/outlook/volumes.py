"""What a device sends in a training step under a split, and the least that any split could make it send.

The bound adds, over the operators of the step, what each alone forces: products by :func:`products_bound` with the
memory of a device, experts by their tokens or their weights, attention by :func:`attention_bound`, a scan by its state.
Each bound lets the operator's inputs and outputs lie as it likes, a share on every device. The backward pass counts as
much as the forward pass and not twice, since what was gathered forward can be kept.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from shapewright.architecture.graph import build_graph
from shapewright.architecture.operator import Attention, GroupedMatmul, Matmul, Operator, Scan
from shapewright.cost.distributed.attention import attention_bound
from shapewright.cost.distributed.products import products_bound

if TYPE_CHECKING:
    from shapewright.outlook.scale import _Grid, _Table

Array = NDArray[Any]


def step_volumes(grid: _Grid, table: _Table, rows: Array, cols: Array) -> Array:
    """(N,) bytes that a device sends in a step."""
    p, shape = grid.problem, grid.shape
    width = p.precision.activation_bytes
    place = grid.local[cols]
    tp, cp, ep, mb = (x[place].astype(float) for x in (grid.tp, grid.cp, grid.ep, grid.micro_batch))
    count, dp, pp = table.micro_batches[rows, cols], table.dp[rows, cols], grid.pp[cols].astype(float)
    tensor = mb * p.seq_len * float(shape.hidden_size) * width / cp
    inside = np.zeros(rows.size)
    for op, weight in _layers(shape, p.seq_len):
        if isinstance(op, Matmul) and op.split == "row":
            inside += weight * 4.0 * (tp - 1) / tp * tensor
        elif isinstance(op, GroupedMatmul) and op.over == "experts":
            routed = mb * p.seq_len / (cp * tp) * float(op.topk) * float(shape.hidden_size) * width
            inside += weight * 2.0 * (ep - 1) / ep * routed
        elif isinstance(op, Attention):
            kv = mb * float(op.kv_len * op.kv_heads * (op.head_dim + np.asarray(op.v_head_dim))) / tp * width
            inside += weight * 3.0 * (cp - 1) / cp * kv
        elif isinstance(op, Scan):
            inside += weight * 2.0 * (np.ceil(np.log2(cp)) + (cp > 1)) * mb * float(op.passed) / tp * 4.0
    share = float(shape.num_layers) / pp
    weights = grid.costs.layer.params_split + grid.costs.layer.params_expert
    held = weights[0][place] * share + grid.costs.head.params_split[0][place]
    copies = np.maximum(dp * cp, 1.0)
    every = {"all-reduce": 1.0, "compressed": 1.0 / 32.0}.get(p.sync, 1.0 / p.every)
    synchronised = 2.0 * (copies - 1) / copies * held * 2.0 * every
    passed = np.where(pp > 1, 2.0 * tensor / tp, 0.0)
    return count * (share * inside + passed) + synchronised


def step_bounds(grid: _Grid, rows: Array, cols: Array, counts: Array, tokens: Array) -> Array:
    """(N,) bytes that some device must send in a step, whatever the split of the layers of its stage."""
    p, shape = grid.problem, grid.shape
    devices = counts[rows] / grid.pp[cols].astype(float)
    capacity = p.cluster.accelerator.memory_capacity
    memory = np.inf if capacity is None else capacity.value
    sequences = tokens / p.seq_len
    width = p.precision.activation_bytes
    total = np.zeros(rows.size)
    for op, weight in _layers(shape, p.seq_len):
        if isinstance(op, Matmul):
            bound = products_bound(op.m * sequences, op.n, op.k, devices, word=width, memory=memory)
        elif isinstance(op, GroupedMatmul):
            bound = _experts_bound(op, devices, sequences, width)
        elif isinstance(op, Attention):
            # Sequences are independent: only devices that share one need each other's keys.
            sharing = np.maximum(devices / sequences, 1.0)
            kv = float(op.kv_len * op.kv_heads * (op.head_dim + np.asarray(op.v_head_dim))) * width
            qo = float(op.q_len * op.heads * (op.head_dim + np.asarray(op.v_head_dim))) * width
            bound = attention_bound(kv, qo, sharing) * np.maximum(sequences / devices, 1.0)
        elif isinstance(op, Scan):
            alone = devices <= sequences * float(op.heads)
            bound = np.where(alone, 0.0, float(op.passed) / float(op.heads) * 4.0)
        else:
            continue
        total += weight * 2.0 * bound
    return total * float(shape.num_layers) / grid.pp[cols]


def _experts_bound(op: GroupedMatmul, devices: Array, sequences: Array, width: float) -> Array:
    """Weights come to the tokens, or tokens to the weights, whichever is less; with more devices than experts the
    devices of one expert split its product."""
    experts, rows = float(op.experts), op.tokens * sequences * float(op.topk)
    many = devices > experts
    inside = products_bound(rows / experts, op.n, op.k, np.maximum(devices / experts, 1.0), word=width)
    tokens, weights = rows * (op.n + op.k) / devices, experts * op.n * op.k * np.ones_like(devices)
    moved = np.minimum(tokens, weights) * width * (1.0 - 1.0 / devices)
    return np.where(many, inside, moved if op.over == "experts" else 0.0)


def _layers(shape: Any, seq_len: int) -> list[tuple[Operator, float]]:
    """The operators of the average layer for one sequence."""
    graph = build_graph(shape, batch=1, seq_len=seq_len)
    total = float(shape.num_layers)
    return [(op, float(n) / total) for ops, n in zip(graph.blocks, graph.counts, strict=True) for op in ops]
