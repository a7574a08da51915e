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
from shapewright.plan.serving import closed_loop, decode_step, disaggregated, prefill_seconds
from shapewright.plan.serving_formats import ServingFormats, serving_formats
from shapewright.plan.serving_memory import sequence_bytes, weight_bytes
from shapewright.plan.serving_step import CAUSES, Layout, PassCost, price_pass
from shapewright.validation.serving_mixture import Mixture
from shapewright.validation.serving_recipes import Pool, Setup
from shapewright.validation.serving_rows import ServedRow, grouped

Array = NDArray[np.float64]
DRAFTS = (0, 1, 2, 3)
"""Drafted tokens that steps are priced with: the settings of multi-token prediction that recipes use."""
FRACTIONS = (1.0 / 64.0, 1.0 / 8.0, 1.0)
"""Of the largest batch, at which a disaggregated worker's step is priced."""
DRAFTING = ("deepseek-v3", "glm-5", "qwen3.5-397b-a17b")
"""Shapes whose checkpoints hold modules for multi-token prediction."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Point:
    """A number of rows of one model, system, engine and precision, priced together, one entry per deployment."""

    rows: tuple[ServedRow, ...]
    entries: tuple[tuple[int, Setup], ...]
    """(row, deployment): more than one of a row where the row does not tell them apart."""
    formats: ServingFormats
    decode: dict[int, PassCost]
    """By drafted tokens: passes of shape (entries, batches)."""
    batches: Array
    """Requests per decode worker that the passes were priced at, (entries, batches)."""
    prefill: PassCost
    """One prompt in each attention group."""
    crowd: PassCost
    """The same per prompt where as many go together as a step takes."""
    room: Array
    """Bytes left for the cache per device at a memory share of 1, over bytes of one sequence [1]."""
    lost: Array
    """What a memory share below 1 takes away, per unit of share [1]."""

    def column(self, name: str) -> Array:
        """A number of the rows, by entry."""
        return np.array([float(getattr(self.rows[i], name)) for i, _ in self.entries])

    def pools(self, role: str) -> Array:
        """Workers and attention groups of the pool that prefills or decodes, by entry."""
        found = [s.prefill or s.decode if role == "prefill" else s.decode for _, s in self.entries]
        return np.array([(float(pool.workers), float(pool.layout.adp)) for pool in found]).T


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
    entries = [(i, setup) for i, row in enumerate(rows) for setup in row.setups]
    layout, workers = _pool([setup.decode for _, setup in entries])
    isl, osl, load = (
        np.array([float(getattr(rows[i], n)) for i, _ in entries])
        for n in ("mean_isl", "mean_osl", "concurrency")
    )
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
    slots = np.array([setup.slots or np.inf for _, setup in entries])
    running = np.maximum(np.minimum(np.minimum(load, slots) / workers, limit), 1.0)
    fractions = np.array(FRACTIONS if any(setup.prefill for _, setup in entries) else (1.0,))
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
    prefill_layout, _ = _pool([setup.prefill or setup.decode for _, setup in entries])
    chunks = np.maximum(np.ceil(isl / engine.chunk), 1.0)
    fit = np.maximum(np.floor(engine.chunk / isl), 1.0)
    together = np.array([setup.prompts or fit[i] for i, (_, setup) in enumerate(entries)])
    prompt, crowd = (
        price(layout=prefill_layout, batch=count, new=np.ceil(isl / chunks), past=np.round(isl * (1 - 1 / chunks) / 2),
              decode=False) for count in (1, together)
    )  # fmt: skip
    return Point(
        rows=tuple(rows), entries=tuple(entries), formats=formats, decode=decode, batches=batches, room=room, lost=lost,
        prefill=PassCost(**{cause: getattr(prompt, cause) * chunks for cause in CAUSES}),
        crowd=PassCost(**{cause: getattr(crowd, cause) * chunks / together for cause in CAUSES}),
    )  # fmt: skip


TIGHT = 0.9
"""Share of the memory beyond which weights leave no room by this count, although the point was measured."""


def _span(row: ServedRow) -> int:
    pools = [pool for setup in row.setups for pool in (setup.decode, setup.prefill) if pool is not None]
    return max(int(pool.layout.num_devices) for pool in pools)


def _pool(pools: Sequence[Pool]) -> tuple[Layout, Array]:
    fields = {n: np.array([float(getattr(p.layout, n)) for p in pools]) for n in ("tp", "pp", "ep", "adp")}
    return Layout(**fields), np.array([float(p.workers) for p in pools])


def predict(point: Point, engine: Engine) -> tuple[Array, Array]:
    """Seconds to first token and per output token of every row, by an engine's constants.

    Of the deployments that a row may stand for, the weighted median of times per output token; times to first token, which
    differ by decades among them, are those of least expected relative error.
    """
    ttft, tpot = _predict_entries(point, engine)
    if len(point.entries) == len(point.rows):
        return ttft, tpot
    several = mixture(point, engine)
    return several.least_error(ttft), several.quantile(tpot, 0.5)


def intervals(point: Point, engine: Engine) -> Array:
    """The ends of the 90 % intervals of both times, (first token, output token) by (low, high) by row [s].

    The engine's own spread around each of the deployments that a row may stand for: what is not known of them widens it.
    """
    found = []
    for which, values in enumerate(_predict_entries(point, engine)):
        ends = [engine.intervals(apart=setup.prefill is not None)[1 - which] for _, setup in point.entries]
        found.append(mixture(point, engine).ends(values, np.array(ends).T))
    return np.array(found)


def mixture(point: Point, engine: Engine) -> Mixture:
    """The deployments of each row with their weights: those given, else drafting ones have the engine's share together."""
    owner = np.array([i for i, _ in point.entries])
    given = np.array([setup.weight for _, setup in point.entries])
    drafts = np.array([bool(setup.drafted) for _, setup in point.entries])
    alike = np.bincount(owner, drafts)[owner] * drafts + np.bincount(owner, ~drafts)[owner] * ~drafts
    both = alike < np.bincount(owner)[owner]
    share = np.where(both, np.where(drafts, engine.drafting, 1.0 - engine.drafting), 1.0)
    return Mixture(owner=owner, weight=np.where(given > 0, given, np.maximum(share / alike, 1e-6)))


def _predict_entries(point: Point, engine: Engine) -> tuple[Array, Array]:
    osl, load = point.column("mean_osl"), point.column("concurrency")
    (workers, decode_groups), (servers, groups) = point.pools("decode"), point.pools("prefill")
    apart = np.array([setup.prefill is not None for _, setup in point.entries])
    capacity = np.where(
        np.isinf(point.room),
        np.inf,
        np.maximum(np.floor(point.room - (1 - engine.memory_share) * point.lost), 1.0),
    )
    slots = np.array([setup.slots or np.inf for _, setup in point.entries])
    capacity = np.minimum(np.minimum(capacity, slots / workers), engine.max_sequences * decode_groups)
    prefill, crowd = (prefill_seconds(cost, engine, point.formats) for cost in (point.prefill, point.crowd))
    sequences = np.maximum(point.batches / decode_groups[:, None], 1.0)
    drafted = np.array([_drafted(point.rows[i], setup, engine) for i, setup in point.entries])[:, None]
    steps = np.zeros(point.batches.shape)
    decoding = engine.decoding()
    for k, cost in point.decode.items():
        mixed, alone = (
            decode_step(cost, e, point.formats, sequences=sequences, drafted=k) for e in (engine, decoding)
        )
        steps = np.where(drafted == k, np.where(apart[:, None], alone, mixed), steps)
    found = closed_loop(engine, step=steps[:, -1], prefill=prefill, crowd=crowd, groups=groups,
                        concurrency=load / workers, osl=osl, hold=[setup.hold for _, setup in point.entries],
                        capacity=np.minimum(capacity, np.maximum(point.batches[:, -1], 1.0)))  # fmt: skip
    if not apart.any():
        return found.ttft, found.tpot
    split = disaggregated(
        engine, step=lambda batch: _between(batch, point.batches, steps), prefill=prefill, crowd=crowd, groups=groups,
        prefill_workers=servers, decode_workers=workers, concurrency=load, osl=osl,
        capacity=np.where(np.isinf(capacity), 1e9, capacity),
    )  # fmt: skip
    return np.where(apart, split.ttft, found.ttft), np.where(apart, split.tpot, found.tpot)


def _drafted(row: ServedRow, setup: Setup, engine: Engine) -> int:
    if row.model not in DRAFTING:
        return 0
    return setup.drafted if setup.drafted is not None else engine.speculates.get(row.run, 0)


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
