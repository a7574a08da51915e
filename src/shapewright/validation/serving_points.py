"""Measured serving points, priced: the passes that each of them runs, before any engine's constants.

Decisions: a point is predicted from its row alone. Prices do not depend on the engine's constants, so they are taken
once and both the fit and the report read them. Steps are priced at the running batch, at fractions of it where the
batch depends on how fast prompts arrive (disaggregated), and once more with drafted tokens for engines whose runs
drafted them. Weights that exceed the stated capacity were measured all the same: their cache is taken to be unbounded.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np
from numpy.typing import NDArray

from shapewright.architecture.catalog import resolve_model
from shapewright.cost.price import CostModel, cost_model
from shapewright.errors import NotCoveredError, ShapewrightError
from shapewright.hardware.accelerator import Accelerator
from shapewright.hardware.catalog import parse_cluster
from shapewright.plan.engine import Engine
from shapewright.plan.serving import Served, closed_loop, decode_step, disaggregated, prefill_seconds
from shapewright.plan.serving_formats import ServingFormats, serving_formats
from shapewright.plan.serving_memory import sequence_bytes, weight_bytes
from shapewright.plan.serving_step import CAUSES, Layout, PassCost, price_pass
from shapewright.validation.serving_rows import Pool, ServedRow, grouped

Array = NDArray[np.float64]
DRAFTS = (0, 1, 3)
"""Drafted tokens that steps are priced with: none, TensorRT-LLM's and SGLang's settings of multi-token prediction."""
FRACTIONS = (1.0 / 64.0, 1.0 / 8.0, 1.0)
"""Of the largest batch, at which a disaggregated worker's step is priced."""
DRAFTING = ("deepseek-v3", "glm-5", "qwen3.5-397b-a17b")
"""Shapes whose checkpoints hold modules for multi-token prediction."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Point:
    """A number of rows of one model, system, engine and precision, priced together."""

    rows: tuple[ServedRow, ...]
    formats: ServingFormats
    decode: dict[int, PassCost]
    """By drafted tokens: passes of shape (rows, batches)."""
    batches: Array
    """Requests per decode worker that the passes were priced at, (rows, batches)."""
    prefill: PassCost
    room: Array
    """Bytes left for the cache per device at a memory share of 1, over bytes of one sequence [1]."""
    lost: Array
    """What a memory share below 1 takes away, per unit of share [1]."""

    def column(self, name: str) -> Array:
        """A number of the rows as an array."""
        return np.array([float(getattr(row, name)) for row in self.rows])


def price_rows(
    rows: Sequence[ServedRow], engines: Mapping[str, Engine]
) -> tuple[list[Point], list[tuple[str, str]]]:
    """Price every row with the settings of its engine; those that cannot be are returned with the reason."""
    points, failed = [], []
    models: dict[str, tuple[CostModel, Accelerator]] = {}
    for _, places in grouped(list(rows)):
        chosen = [rows[i] for i in places]
        if chosen[0].engine not in engines:
            failed += [(row.id, f"engine (={row.engine!r}) has no constants") for row in chosen]
            continue
        try:
            points.append(_price(chosen, engines[chosen[0].engine], models))
        except ShapewrightError as error:
            failed += [(row.id, error.what) for row in chosen]
    return points, failed


def cache_of(row: ServedRow, accelerator: Accelerator) -> str:
    """Format of the cache that an engine takes by itself: fp8 beside 8-bit and 4-bit weights, SGLang's on Hopper bf16."""
    if row.precision not in ("fp8", "fp4") or (row.engine == "sglang" and accelerator.generation == "hopper"):
        return "bf16"
    return "fp8"


def _price(rows: list[ServedRow], engine: Engine, models: dict[str, tuple[CostModel, Accelerator]]) -> Point:
    first = rows[0]
    shape = resolve_model(first.model)
    size = max(_span(row) for row in rows)
    cluster = parse_cluster(f"{size}x{first.system}")
    if first.system not in models:
        models[first.system] = (cost_model(cluster.accelerator), cluster.accelerator)
    model, accelerator = models[first.system]
    formats = serving_formats(first.precision, shape, accelerator, cache=cache_of(first, accelerator))
    layout, workers = _pool([row.decode for row in rows])
    isl, osl, load = (np.array([float(getattr(r, n)) for r in rows]) for n in ("isl", "osl", "concurrency"))
    if accelerator.memory_capacity is None:
        raise NotCoveredError(f"{first.system} has no published memory capacity")
    total = accelerator.memory_capacity.value
    weights = weight_bytes(shape, layout, formats)
    each = sequence_bytes(shape, layout, formats, isl + osl)
    groups = np.asarray(layout.adp, float)
    room, lost = (total - weights) / each * groups, total / each * groups
    unbounded = weights > TIGHT * total
    room = np.where(unbounded, np.inf, room)
    limit = np.where(unbounded, np.inf, np.maximum(np.floor(room - (1 - engine.memory_share) * lost), 1.0))
    running = np.maximum(np.minimum(load / workers, limit), 1.0)
    fractions = np.array(FRACTIONS if any(row.prefill for row in rows) else (1.0,))
    batches = np.maximum(running[:, None] * fractions, 1.0)
    spread = Layout(**{n: np.asarray(getattr(layout, n), float)[:, None] for n in ("tp", "pp", "ep", "adp")})
    past = np.round(isl + osl / 2.0)[:, None]
    drafts = DRAFTS if first.model in DRAFTING else (0,)
    price = partial(price_pass, shape, formats=formats, model=model, cluster=cluster, backend=engine.backend)
    decode = {
        k: price(
            layout=spread,
            batch=np.maximum(batches / groups[:, None], 1.0),
            new=1 + k,
            past=past,
            decode=True,
        )
        for k in drafts
    }
    prefill_layout, _ = _pool([row.prefill or row.decode for row in rows])
    chunks = np.maximum(np.ceil(isl / engine.chunk), 1.0)
    prefill = price(
        layout=prefill_layout,
        batch=1,
        new=np.ceil(isl / chunks),
        past=np.round(isl * (1 - 1 / chunks) / 2),
        decode=False,
    )
    prefill = PassCost(**{cause: getattr(prefill, cause) * chunks for cause in CAUSES})
    return Point(rows=tuple(rows), formats=formats, decode=decode, batches=batches, prefill=prefill,
                 room=room, lost=lost)  # fmt: skip


TIGHT = 0.9
"""Share of the memory beyond which weights leave no room by this count, although the point was measured."""


def _span(row: ServedRow) -> int:
    pools = [row.decode, *([row.prefill] if row.prefill else [])]
    return max(int(pool.layout.num_devices) for pool in pools)


def _pool(pools: Sequence[Pool]) -> tuple[Layout, Array]:
    fields = {n: np.array([float(getattr(p.layout, n)) for p in pools]) for n in ("tp", "pp", "ep", "adp")}
    return Layout(**fields), np.array([float(p.workers) for p in pools])


def predict(point: Point, engine: Engine) -> tuple[Array, Array]:
    """Seconds to first token and per output token of every row, by an engine's constants."""
    drafted = np.array([engine.speculates.get(r.run, 0) if r.model in DRAFTING else 0 for r in point.rows])
    osl, load = point.column("osl"), point.column("concurrency")
    groups = np.array([float((r.prefill or r.decode).layout.adp) for r in point.rows])
    workers = np.array([float(r.decode.workers) for r in point.rows])
    apart = np.array([r.prefill is not None for r in point.rows])
    decode_groups = np.array([float(r.decode.layout.adp) for r in point.rows])
    capacity = np.where(
        np.isinf(point.room),
        np.inf,
        np.maximum(np.floor(point.room - (1 - engine.memory_share) * point.lost), 1.0),
    )
    capacity = np.minimum(
        capacity, engine.max_sequences * np.array([float(r.decode.layout.adp) for r in point.rows])
    )
    prefill = prefill_seconds(point.prefill, engine, point.formats)
    sequences = np.maximum(point.batches / decode_groups[:, None], 1.0)
    priced = {
        k: decode_step(cost, engine, point.formats, sequences=sequences, drafted=k)
        for k, cost in point.decode.items()
    }
    steps = priced[0]
    for k, times in priced.items():
        steps = np.where((drafted == k)[:, None], times, steps)
    if len(priced) > 1:
        # Nothing tells whether these runs drafted tokens: some did.
        unknown = np.array(["decode_num_workers" in r.defaults for r in point.rows])[:, None]
        mean = priced[0] ** (1.0 - engine.drafting_share) * priced[DRAFTS[-1]] ** engine.drafting_share
        steps = np.where(unknown, mean, steps)
    together = closed_loop(engine, step=steps[:, -1], prefill=prefill, groups=groups, concurrency=load / workers,
                           capacity=np.minimum(capacity, np.maximum(point.batches[:, -1], 1.0)), osl=osl)  # fmt: skip
    found: Served = together
    if apart.any():
        split = disaggregated(
            engine, step=lambda batch: _between(batch, point.batches, steps), prefill=prefill, groups=groups,
            prefill_workers=np.array([float(r.prefill.workers if r.prefill else 1) for r in point.rows]),
            decode_workers=workers, concurrency=load, capacity=np.where(np.isinf(capacity), 1e9, capacity), osl=osl,
        )  # fmt: skip
        return np.where(apart, split.ttft, found.ttft), np.where(apart, split.tpot, found.tpot)
    return found.ttft, found.tpot


def _between(batch: Array, batches: Array, steps: Array) -> Array:
    """Steps at a batch, straight lines between the logarithms of those priced."""
    out = steps[:, -1].copy()
    x, grid, logs = np.log(batch), np.log(batches), np.log(steps)
    for i in range(grid.shape[1] - 1):
        low, high = grid[:, i], grid[:, i + 1]
        share = np.clip((x - low) / np.maximum(high - low, 1e-9), 0.0, 1.0)
        value = np.exp(logs[:, i] * (1 - share) + logs[:, i + 1] * share)
        out = np.where((x < high) & ((x >= low) | (i == 0)), value, out)
    return out
