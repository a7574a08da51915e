"""Any architecture from one device to a million: time, efficiency, joules and dollars per token, and what binds.

Every device count is given the best of all splits (tensor, context, expert, pipeline and data parallelism, micro-batch,
recompute) of a training step, priced by the same cost model and wires as a plan; nothing is fitted here. Two problems: a
*fixed* step of so many tokens (strong scaling), or so many tokens *per device* (weak scaling), where the batch grows with
the devices and the efficiency of the critical batch multiplies that of the machine. Efficiency is the time that the
products, attention, scans and memory traffic of the step take on one device without any wire, over devices times time.

Decisions: device counts are powers of two. State is sharded over data parallelism as ZeRO-1 does; gradients and weights
travel in 16 bits, behind one micro-batch. Ranks lie as in :mod:`shapewright.plan.network`. Neglected: stragglers,
failures, congestion between jobs, and the loss that stale or seldom exchanges cost.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from shapewright.architecture.shape import ExpertsFFN, Shape
from shapewright.cost.distributed.pipeline import critical_batch_efficiency
from shapewright.errors import InfeasibleError, UsageError
from shapewright.outlook.scale_parts import Parts, joules, parts_of
from shapewright.outlook.scale_problem import Problem
from shapewright.outlook.volumes import step_bounds, step_volumes
from shapewright.plan.costs import ModelCost
from shapewright.plan.framework import KERNELS_ALONE
from shapewright.plan.layer import price_model
from shapewright.plan.network import collective_seconds
from shapewright.plan.shard import Split

Array = NDArray[Any]
EXCHANGE_BYTES = 2.0
"""Gradients and weights travel in 16 bits [B]."""
UPDATE_BYTES = 28.0
"""Traffic of the optimizer per parameter it owns: master weight and two moments there and back, the gradient [B]."""
USABLE = 0.92
"""Share of the device memory that a step can fill."""
FRAGMENTS, BEHIND = 8, 5
"""Fragments and delay in steps of streaming exchanges (arXiv 2501.18512, table 1)."""
RATIO = 32.0
"""Compression of gradients: about one bit for 32 (arXiv 2102.02888)."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Point:
    """One architecture on one number of devices, under its best split."""

    devices: int
    seconds: float
    """One step [s]."""
    tokens_per_s: float
    efficiency: float
    """Of the machine, and with ``weak`` of the batch [1]."""
    batch_efficiency: float
    """Progress per token at this batch, over that at a small one [1]."""
    joules_per_token: float | None
    dollars_per_token: float | None
    split: dict[str, int]
    parts: dict[str, float]
    """Seconds of the step by roof, wire, bubble and update; they add up."""
    binds: str
    """The largest part."""
    loses: str
    """The largest part that one device would not have; empty on one device."""
    sent_over_bound: float | None
    """Bytes a device sends over the least that it must; None where nothing must be sent."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Curve:
    """One architecture over all device counts."""

    name: str
    params: float
    points: tuple[Point, ...]
    """Counts that cannot hold it, or that it cannot be split over, are left out."""
    smallest: int
    """Devices that can hold its state at all."""
    largest: int
    """Devices beyond which the split is finer than the work."""


def curve(shape: Shape, problem: Problem, counts: Array) -> Curve:
    """Price ``shape`` on every number of devices of ``counts``.

    Raises:
        InfeasibleError: none of the counts can hold it and be filled by it; the message says the nearest that works.
    """
    grid = _Grid.of(shape, problem, counts)
    table = grid.table(counts)
    best = np.argmin(table.seconds, axis=1)
    rows = np.arange(counts.size)
    fits = np.isfinite(table.seconds[rows, best])
    smallest, largest = _ends(table, counts)
    if not fits.any():
        raise _refusal(shape, problem, counts, table)
    chosen = [(int(i), int(best[i])) for i in rows if fits[i]]
    points = grid.points(table, counts, chosen)
    params = float(np.ravel(grid.params)[0])
    return Curve(name=shape.name, params=params, points=points, smallest=smallest, largest=largest)


def _refusal(shape: Shape, problem: Problem, counts: Array, table: _Table) -> InfeasibleError:
    """Why no count works, and the nearest that does."""
    low, high = int(counts.min()), int(counts.max())
    every = 2 ** np.arange(25)
    seconds = _Grid.of(shape, problem, every).table(every).seconds.min(axis=1)
    good = every[np.isfinite(seconds)]
    near = min(good.tolist(), key=lambda n: abs(np.log2(n) - np.log2(min(max(n, low), high))), default=None)
    finer = not table.filled.any()
    return InfeasibleError(
        f"devices (={low:,}{'' if low == high else f' to {high:,}'}) cannot run {shape.name}",
        "the split would be finer than the work" if finer else "weights, optimizer state and activations do not fit",
        "choose a smaller model or a longer step" if near is None else f"nearest that works: {near:,} devices",
    )  # fmt: skip


def step_seconds(shape: Shape, problem: Problem, devices: int) -> float:
    """Seconds of one step on ``devices`` under the best split; infinite where none works."""
    counts = np.array([devices])
    table = _Grid.of(shape, problem, counts).table(counts)
    return float(table.seconds.min())


@dataclass(frozen=True, kw_only=True, slots=True)
class _Table:
    """Seconds of every device count (rows) under every candidate (columns), with what they are made of."""

    seconds: Array
    held: Array
    """Memory fits, whatever the rest."""
    filled: Array
    """The split is not finer than the work, whatever the memory."""
    dp: Array
    micro_batches: Array
    stage: Array
    """Forward and backward of one micro-batch on one stage [s]."""
    bubble: Array
    sync: Array
    update: Array
    hops: Array
    repeated: Array
    """Passes over a layer's forward beside the first: 1 with full recompute."""


@dataclass(frozen=True, kw_only=True, slots=True)
class _Grid:
    """The local splits of one shape with their costs, and the candidates made of them."""

    shape: Shape
    problem: Problem
    costs: ModelCost
    tp: Array
    cp: Array
    ep: Array
    micro_batch: Array
    local: Array
    """(K,) place of each candidate in the local splits."""
    pp: Array
    recompute: Array
    params: Array
    ideal: float
    """Seconds per token on one device without wires [s]."""

    @classmethod
    def of(cls, shape: Shape, problem: Problem, counts: Array) -> _Grid:
        tp, cp, ep, mb = _local_splits(shape, problem, int(counts.max()))
        costs = price_model(
            shape, Split(tp=tp[None], cp=cp[None], ep=ep[None]), micro_batch=mb[None], seq_len=problem.seq_len,
            precision=problem.precision, framework=KERNELS_ALONE, model=problem.model, cluster=problem.cluster,
        )  # fmt: skip
        layers = float(shape.num_layers)
        stages = np.array([p for p in _powers(64) if layers % p == 0 and p <= counts.max()])
        local, pp, recompute = (
            x.ravel() for x in np.meshgrid(np.arange(tp.size), stages, np.array([0, 1]), indexing="ij")
        )
        work = sum((i.forward + i.backward) * layers for i in costs.layer.items if i.cause != "communication")
        ends = costs.head.forward + costs.head.backward + costs.embedding.forward + costs.embedding.backward
        per_token = (np.asarray(work) + ends)[0] / (mb * problem.seq_len)
        whole = costs.layer.params_split + costs.layer.params_expert
        params = whole * layers + costs.head.params_split + costs.embedding.params_split
        alone = (tp == 1) & (cp == 1) & (ep == 1)
        return cls(shape=shape, problem=problem, costs=costs, tp=tp, cp=cp, ep=ep, micro_batch=mb, local=local, pp=pp,
                   recompute=recompute, params=params[0][alone], ideal=float(per_token[alone].min()))  # fmt: skip

    def pick(self, values: Array) -> Array:
        """(K,) values of the local splits at every candidate."""
        return np.asarray(values)[0][self.local]

    def table(self, counts: Array) -> _Table:
        """Compose steps from layers: stages, bubbles, exchanges, memory."""
        p, shape, layer = self.problem, self.shape, self.costs.layer
        tp, cp, ep, mb = (x[self.local] for x in (self.tp, self.cp, self.ep, self.micro_batch))
        devices = counts[:, None].astype(float)
        dp = devices / (tp * cp * self.pp)
        sequences = (p.tokens * devices if p.weak else p.tokens) / p.seq_len
        micro_batches = np.ceil(sequences / (np.maximum(dp, 1.0) * mb) - 1e-9)
        filled = (dp >= 1) & (sequences / np.maximum(dp, 1.0) >= mb) & ((dp * cp * tp) % ep == 0)
        share = float(shape.num_layers) / self.pp
        ends = self.pick(self.costs.head.forward + self.costs.head.backward
                         + self.costs.embedding.forward + self.costs.embedding.backward)  # fmt: skip
        forward, backward = self.pick(layer.forward) * share, self.pick(layer.backward) * share
        stage = forward * (1.0 + self.recompute) + backward
        bubble = (self.pp - 1) * stage
        width = p.precision.activation_bytes
        passed = mb * p.seq_len * float(shape.hidden_size) * width / (cp * tp)
        several = self.pp > 1
        hop = collective_seconds(p.model, p.cluster, "send", np.broadcast_to(passed, dp.shape),
                                 size=np.where(several, 2, 1), stride=np.maximum(devices // 2, 1).astype(int))  # fmt: skip
        hops = 2.0 * (self.pp - 1) * hop
        sync, shards = self._sync(dp, stage, micro_batches)
        weights = self.pick(layer.params_split) * share + self.pick(
            self.costs.head.params_split + self.costs.embedding.params_split
        )
        experts = self.pick(layer.params_expert) * share
        owned = weights / shards + experts / np.maximum(shards * tp / ep, 1.0)
        update = np.asarray(p.model.pointwise(owned * UPDATE_BYTES))
        state = (weights + experts) * (p.precision.weight_bytes + EXCHANGE_BYTES)
        flight = np.minimum(micro_batches, self.pp)
        kept = np.where(
            self.recompute > 0,
            self.pick(layer.input_bytes) * share * flight + self.pick(layer.saved),
            self.pick(layer.saved) * share * flight,
        )
        memory = state + owned * p.precision.optimizer_bytes + kept + self.pick(self.costs.head.saved)
        capacity = p.cluster.accelerator.memory_capacity
        held = memory <= USABLE * (capacity.value if capacity is not None else np.inf)
        seconds = micro_batches * (stage + ends) + bubble + hops + sync + update
        seconds = np.where(held & filled, seconds, np.inf)
        return _Table(seconds=seconds, held=held, filled=filled, dp=dp, micro_batches=micro_batches, stage=stage,
                      bubble=np.broadcast_to(bubble, dp.shape), sync=sync, update=update, hops=hops,
                      repeated=self.recompute.astype(float))  # fmt: skip

    def _sync(self, dp: Array, stage: Array, micro_batches: Array) -> tuple[Array, Array]:
        """Exposed seconds of keeping copies together, and over how many devices their state is sharded."""
        p, share = self.problem, float(self.shape.num_layers) / self.pp
        tp, cp, ep = (x[self.local] for x in (self.tp, self.cp, self.ep))
        copies = np.maximum(dp * cp, 1.0)
        weights = self.pick(self.costs.layer.params_split) * share + self.pick(self.costs.head.params_split)
        experts = self.pick(self.costs.layer.params_expert) * share

        def exchange(kind: str, scale: float) -> Array:
            total = np.zeros(dp.shape)
            for size, group, stride in (
                (weights, copies, tp),
                (experts, np.maximum(copies * tp / ep, 1.0), ep),
            ):
                if np.any(size):
                    moved = np.broadcast_to(size * EXCHANGE_BYTES * scale, dp.shape)
                    wide = np.minimum(group, p.cluster.num_devices / stride).astype(int)
                    total = total + collective_seconds(
                        p.model, p.cluster, kind, moved, size=wide, stride=stride
                    )
            return total

        step = micro_batches * stage
        if p.sync == "all-reduce":
            return np.maximum(exchange("all_reduce", 1.0) - stage, 0.0), copies
        if p.sync == "compressed":
            coded = np.asarray(p.model.pointwise((weights + experts) * 6.0))
            return np.maximum(exchange("all_reduce", 1.0 / RATIO) - stage, 0.0) + coded, copies
        alone = np.ones_like(copies)
        if p.sync == "diloco":
            return exchange("all_reduce", 1.0) / p.every, alone
        if p.sync == "gossip":
            return np.where(copies > 1, exchange("send", 1.0), 0.0) / p.every, alone
        piece = exchange("all_reduce", 1.0 / FRAGMENTS)
        return np.maximum(piece - BEHIND * step, 0.0) * FRAGMENTS / p.every, alone

    def points(self, table: _Table, counts: Array, chosen: list[tuple[int, int]]) -> tuple[Point, ...]:
        """The best candidate of each count, itemised."""
        p = self.problem
        rows = np.array([row for row, _ in chosen])
        cols = np.array([col for _, col in chosen])
        place, stages = self.local[cols], float(self.shape.num_layers) / self.pp[cols]
        count = table.micro_batches[rows, cols]
        parts = parts_of(
            self.costs, p, place=place, layers=stages * count, ends=count, again=self.recompute[cols]
        )
        extra = {"bubble": table.bubble, "stage hops": table.hops, "data-parallel wires": table.sync,
                 "optimizer": table.update}  # fmt: skip
        seconds = table.seconds[rows, cols]
        devices = counts[rows].astype(float)
        tokens = p.tokens * devices if p.weak else np.full(devices.shape, p.tokens)
        efficiency = self.ideal * tokens / (devices * seconds)
        critical = p.critical_batch if p.weak and p.critical_batch is not None else np.inf
        progress = critical_batch_efficiency(tokens, critical)
        efficiency = efficiency * progress
        energy = joules(parts, p, seconds)
        price = p.cluster.price_per_device_hour
        volumes, bounds = step_volumes(self, table, rows, cols), step_bounds(self, rows, cols, counts, tokens)
        found = []
        for i, (row, col) in enumerate(chosen):
            named = {name: float(value[i]) for name, value in parts.seconds.items()}
            named |= {
                name: float(np.broadcast_to(value, table.seconds.shape)[row, col])
                for name, value in extra.items()
            }
            named = {name: value for name, value in named.items() if value > 0}
            lost = {name: value for name, value in named.items() if name not in Parts.ROOFS}
            rate = tokens[i] / seconds[i]
            loses = max(lost, key=lost.__getitem__) if lost and devices[i] > 1 else ""
            if 1.0 - progress[i] > lost.get(loses, 0.0) / seconds[i]:
                loses = "critical batch"
            local = self.local[col]
            split = {"tp": int(self.tp[local]), "cp": int(self.cp[local]), "ep": int(self.ep[local]),
                     "pp": int(self.pp[col]), "dp": int(table.dp[row, col]),
                     "micro_batch": int(self.micro_batch[local]), "recompute": int(self.recompute[col])}  # fmt: skip
            bound = float(bounds[i])
            found.append(
                Point(
                    devices=int(devices[i]), seconds=float(seconds[i]), tokens_per_s=float(rate),
                    efficiency=float(efficiency[i]),
                    joules_per_token=None if energy is None else float(energy[i] * devices[i] / tokens[i]),
                    dollars_per_token=None if price is None else price.value / 3600.0 * float(devices[i] / rate),
                    split=split, parts=named, binds=max(named, key=named.__getitem__),
                    loses=loses, batch_efficiency=float(progress[i]),
                    sent_over_bound=float(volumes[i] / bound) if bound > 0 else None,
                )
            )  # fmt: skip
        return tuple(found)


def _powers(most: int) -> list[int]:
    return [2**i for i in range(40) if 2**i <= most]


def _local_splits(shape: Shape, problem: Problem, most: int) -> tuple[Array, ...]:
    """Tensor parallelism inside a node and within the heads, context parallelism down to a tile, experts, micro-batches."""
    inner = problem.cluster.tiers[0].size if problem.cluster.tiers else 1
    heads = [(int(b.mixer.heads), int(b.mixer.kv_heads)) for b in shape.blocks]
    experts = max(
        (int(b.channel.experts) for b in shape.blocks if isinstance(b.channel, ExpertsFFN)), default=1
    )
    tps = [
        t
        for t in _powers(min(inner, most))
        if all(h % t == 0 and (kv % t == 0 or t % kv == 0) for h, kv in heads)
    ]
    cps = [c for c in _powers(most) if c * 128 <= problem.seq_len]
    eps = [e for e in _powers(min(experts, most)) if experts % e == 0] if experts > 1 else [1]
    whole = problem.tokens * (most if problem.weak else 1) / problem.seq_len
    if whole < 1:
        raise UsageError(
            f"tokens (={problem.tokens:,.0f}) are less than one sequence of {problem.seq_len:,}",
            "a step trains on whole sequences", f"nearest that works: {problem.seq_len:,} tokens",
        )  # fmt: skip
    batches = [b for b in (1, 2, 4, 8, 16, 64, 256) if b <= whole]
    table = [(t, c, e, b) for t in tps for c in cps for e in eps for b in batches]
    return tuple(np.array(column) for column in zip(*table, strict=True))


def _ends(table: _Table, counts: Array) -> tuple[int, int]:
    """The smallest count that holds the state, and the largest that the work fills."""
    held = (table.held & (table.dp >= 1)).any(axis=1)
    filled = table.filled.any(axis=1)
    smallest = int(counts[held].min()) if held.any() else 0
    return smallest, int(counts[filled].max()) if filled.any() else 0
