"""Launch geometry from the four roofs: what tiles, waves, heads, chunks and batches make of the operators of a model.

Every line compares the cost model with itself at another size, so it says what the calibrated kernels do and not what a
rule of thumb would. Lines that would change an operator by less than :data:`WORTH` are left out.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import numpy as np

from shapewright.architecture.operator import Attention, GroupedMatmul, Matmul, Operator, Recurrence, Scan
from shapewright.cost.recurrence import step_time
from shapewright.plan.pairs import Workload
from shapewright.plan.shard import Split, shard

WORTH = 0.04
TILE = 128
"""Rows of the usual tile of a product."""


def advice(ops: tuple[Operator, ...], workload: Workload, tp: int) -> Iterator[str]:
    """One line per operator whose launch could be better."""
    slots = workload.model.device(
        "bf16" if "bf16" in workload.cluster.accelerator.peak_flops else "fp32"
    ).slots
    for op in ops:
        local = shard(op, Split(tp=tp))
        if isinstance(local, Matmul):
            yield from _product(local, workload)
        elif isinstance(local, GroupedMatmul):
            yield from _experts(local)
        elif isinstance(local, Attention):
            yield from _heads(local, workload)
        elif isinstance(local, Scan):
            yield from _chains(local, slots)
        elif isinstance(local, Recurrence):
            yield from _steps(local, workload)


def _product(op: Matmul, workload: Workload) -> Iterator[str]:
    """More rows fill waves and tiles: the time of a row at two and four times as many."""
    fmt = workload.precision.matmul_format
    m, n, k = (float(np.ravel(x)[0]) for x in (op.m, op.n, op.k))
    sizes = np.array([1.0, 2.0, 4.0])
    per_row = np.asarray(workload.model.matmul(m * sizes, n, k, fmt)) / sizes
    best = int(np.argmin(per_row))
    gain = 1.0 - float(per_row[best] / per_row[0])
    if gain > WORTH:
        yield (f"{op.name}: {sizes[best]:.0f} x {m:,.0f} rows cost {gain:.0%} less per row "
               "(tiles fill, waves run full): raise the micro-batch")  # fmt: skip
    wide = np.ceil(n / TILE) * TILE
    if (
        wide != n
        and 1.0 - float(workload.model.matmul(m, wide, k, fmt)) / float(workload.model.matmul(m, n, k, fmt))
        > 0
    ):
        yield f"{op.name}: {n:,.0f} columns cost no less than {wide:,.0f}, the next whole tile"


def _experts(op: GroupedMatmul) -> Iterator[str]:
    rows = float(np.ravel(op.tokens * op.topk / op.experts)[0])
    padded = np.ceil(rows / TILE) * TILE
    if op.over == "experts" and op.name.endswith("up") and 1.0 - rows / padded > WORTH:
        need = TILE * float(np.ravel(op.experts)[0]) / float(np.ravel(op.topk)[0])
        yield (f"{op.name}: {rows:,.0f} rows per expert leave {1 - rows / padded:.0%} of a tile of {TILE} empty; "
               f"{need:,.0f} tokens per device fill one each")  # fmt: skip


def _heads(op: Attention, workload: Workload) -> Iterator[str]:
    """The same width in heads of 128: fewer, wider heads keep the tensor cores ahead of the exponentials."""
    dim = float(np.ravel(op.head_dim)[0])
    if dim >= TILE or op.window is not None:
        return
    ratio = TILE / dim
    now, wide = (
        float(np.ravel(workload.model.attention(
            batch=o.batch, q_len=o.q_len, kv_len=o.kv_len, heads=o.heads, kv_heads=o.kv_heads, head_dim=o.head_dim,
            v_head_dim=o.v_head_dim, causal=o.causal, number_format="bf16"))[0])
        for o in (op, replace(op, heads=np.maximum(op.heads / ratio, 1), kv_heads=np.maximum(op.kv_heads / ratio, 1),
                              head_dim=float(TILE), v_head_dim=float(TILE)))
    )  # fmt: skip
    if 1.0 - wide / now > WORTH:
        yield f"{op.name}: heads of {dim:.0f} cost {now / wide - 1:.0%} more than the same width in heads of {TILE}"


def _chains(op: Scan, slots: float) -> Iterator[str]:
    """Heads of all sequences in waves over the multiprocessors."""
    chains = float(np.ravel(op.independent)[0])
    waves = float(np.ceil(chains / slots))
    fill = chains / (waves * slots)
    per = float(np.ravel(op.heads)[0])
    steps = float(np.ravel(op.span)[0])
    if fill < 1.0 - WORTH:
        full = max(int(slots * waves // per), 1)
        more = f"{full} sequences would run in the same {waves:.0f} wave{'s' * (waves > 1)}"
        if full <= float(np.ravel(op.batch)[0]):
            more = "split the heads or the sequence less, or take another batch"
        yield (f"{op.name}: {chains:,.0f} chains of {steps:,.0f} chunks fill {fill:.0%} of {slots:.0f} multiprocessors; "
               f"{more}")  # fmt: skip
    if chains < slots / 2:
        yield (f"{op.name}: tensor parallelism takes chains away and shortens nothing; more sequences, or the sequence "
               "split by passing states, do")  # fmt: skip


def _steps(op: Recurrence, workload: Workload) -> Iterator[str]:
    """The batch until which a step costs the same."""
    device = workload.model.device("bf16" if "bf16" in workload.cluster.accelerator.peak_flops else "fp32")
    accelerator = workload.cluster.accelerator
    batches = 2.0 ** np.arange(12)
    times = step_time(device, accelerator, batch=batches, units=op.units, gates=op.gates, heads=op.heads)
    free = float(batches[np.ravel(times) <= 1.1 * np.ravel(times)[0]][-1])
    now = float(np.ravel(op.batch)[0])
    tokens = float(np.ravel(op.seq_len)[0])
    yield (f"{op.name}: {tokens:,.0f} dependent steps of {np.ravel(times)[0] * 1e6:.1f} us, whatever the batch up to "
           f"{free:,.0f} sequences (here {now:,.0f})")  # fmt: skip
