"""Steps and prompts of one model on many layouts, priced once on a grid and then read for any number of configurations.

Decisions: times are straight lines between grid points in the logarithms of batch, context and prompt, spaced by
``RATIO``; layouts are never interpolated. A configuration (layout, concurrency or rate, lengths) then costs a few array
look-ups, so that a sweep sees all of them. The batch of an open loop is found on the same grid: Little's law gives the
rate that each batch answers to, and the wanted rate is read between two of them.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from shapewright.architecture.operator import Size
from shapewright.architecture.shape import Shape
from shapewright.cost.price import CostModel
from shapewright.hardware.cluster import Cluster
from shapewright.plan.engine import Engine
from shapewright.plan.serving import (
    Served,
    closed_loop,
    decode_step,
    open_apart,
    open_loop,
    prefill_seconds,
)
from shapewright.plan.serving_formats import ServingFormats
from shapewright.plan.serving_memory import sequence_bytes, weight_bytes
from shapewright.plan.serving_step import CAUSES, Layout, PassCost, price_pass

Array = NDArray[Any]
RATIO = 2.0
"""Between two grid points of batch and length."""


@dataclass(frozen=True, kw_only=True, slots=True)
class StepTable:
    """Prices of ``L`` layouts of one model, engine and set of formats."""

    layouts: Layout
    """Of ``L`` entries."""
    engine: Engine
    formats: ServingFormats
    shape: Shape
    batches: Array
    """Requests of one replica at the grid points, the same for all layouts."""
    contexts: Array
    """Tokens in the cache at the grid points."""
    prompts: Array
    """Tokens of a prompt at the grid points."""
    steps: Array
    """Seconds per token of every running request, (L, batches, contexts)."""
    alone: Array
    """The same of a worker that only decodes."""
    prefills: Array
    """Seconds of a prompt in each attention group, (L, prompts)."""
    crowds: Array
    """The same per prompt where as many go together as a step takes."""
    costs: PassCost
    """The decode pass by cause, without the engine's constants, (L, batches, contexts)."""
    weights: Array
    """Bytes of weights per device, (L,)."""
    budget: float
    """Bytes that weights and cache may take on a device."""
    drafted: int

    def __len__(self) -> int:
        return int(self.weights.size)

    def step(self, layout: Any, batch: Size, context: Size) -> Array:
        """Seconds per token at a batch and context."""
        return _bilinear(self.steps, layout, (self.batches, batch), (self.contexts, context))

    def step_alone(self, layout: Any, batch: Size, context: Size) -> Array:
        """Seconds per token of a worker that only decodes, at a batch and context."""
        return _bilinear(self.alone, layout, (self.batches, batch), (self.contexts, context))

    def prefill(self, layout: Any, isl: Size) -> Array:
        """Seconds of one prompt of ``isl`` tokens in each attention group at once."""
        return self._prompts(self.prefills, layout, isl)

    def crowd(self, layout: Any, isl: Array, cached: Size) -> Array:
        """Seconds per prompt in each attention group, where as many go together as a step takes."""
        return self.prompt(layout, isl, cached) * self._prompts(self.crowds / self.prefills, layout, isl)

    def _prompts(self, table: Array, layout: Any, isl: Size) -> Array:
        i, share = _place(self.prompts, isl)
        logs = np.log(table)
        return np.exp(logs[layout, i] * (1 - share) + logs[layout, i + 1] * share)

    def capacity(self, layout: Any, context: Size) -> Array:
        """Requests of ``context`` tokens that the cache of one replica holds; 0 where the weights alone do not fit."""
        chosen = Layout(
            **{n: np.asarray(getattr(self.layouts, n))[layout] for n in ("tp", "pp", "ep", "adp")}
        )
        room = np.maximum(self.budget - self.weights[layout], 0.0)
        held = np.floor(room / sequence_bytes(self.shape, chosen, self.formats, context))
        return np.minimum(held, self.engine.max_sequences) * np.asarray(chosen.adp)

    def closed(
        self, layout: Any, *, concurrency: Size, isl: Size, osl: Size, cached: Size = 0.0, replicas: Size = 1,
        burst: Size | None = None,
    ) -> Served:  # fmt: skip
        """Served under constant concurrency per replica; ``cached`` is the share of a prompt found in the cache."""
        isl, osl = np.asarray(isl, float), np.asarray(osl, float)
        capacity = self.capacity(layout, isl + osl)
        batch = np.maximum(np.minimum(concurrency, capacity), 1.0)
        return closed_loop(
            self.engine, step=self.step(layout, batch, isl + osl / 2), prefill=self.prompt(layout, isl, cached),
            groups=np.asarray(self.layouts.adp, float)[layout], concurrency=concurrency, capacity=capacity, osl=osl,
            replicas=replicas, burst=burst,
        )  # fmt: skip

    def opened(
        self, layout: int, *, rate: float, isl: float, osl: float, cached: float = 0.0, spread: float = 0.0,
        gaps: float = 1.0,
    ) -> tuple[Served, float]:  # fmt: skip
        """Served under open arrivals per replica and second, with the largest stable rate [1/s].

        ``spread`` and ``gaps`` are squared coefficients of variation, of the prompts' lengths and of the time between
        arrivals.
        """
        limit = max(float(self.capacity(layout, isl + osl)), 1.0)
        batches = np.unique(np.append(self.batches[self.batches < limit], limit))
        steps = self.step(layout, batches, isl + osl / 2)
        prefill = float(self.prompt(layout, np.asarray(isl), cached))
        return open_loop(self.engine, batches=batches, steps=steps, prefill=prefill,
                         groups=float(np.asarray(self.layouts.adp)[layout]), rate=rate, osl=osl, spread=spread,
                         gaps=gaps)  # fmt: skip

    def opened_apart(
        self, layout: int, first: Array, rest: Array, *, rate: float, isl: float, osl: float, cached: float = 0.0,
        spread: float = 0.0, gaps: float = 1.0, transfer: float = 0.0,
    ) -> tuple[Served, Array]:  # fmt: skip
        """The same of a deployment whose ``first`` replicas prefill and whose ``rest`` decode."""
        limit = max(float(self.capacity(layout, isl + osl)), 1.0)
        batches = np.unique(np.append(self.batches[self.batches < limit], limit))
        return open_apart(
            self.engine, batches=batches, steps=self.step_alone(layout, batches, isl + osl / 2),
            prefill=float(self.prompt(layout, np.asarray(isl), cached)), prefill_workers=first, decode_workers=rest,
            groups=float(np.asarray(self.layouts.adp)[layout]), rate=rate, osl=osl, spread=spread, gaps=gaps,
            transfer=transfer,
        )  # fmt: skip

    def prompt(self, layout: Any, isl: Array, cached: Size) -> Array:
        """Seconds of a prompt of which a share is cached."""
        # A cached prefix is not computed again, but the rest attends to it: a difference of two prompts.
        whole = self.prefill(layout, isl)
        if not np.any(cached):
            return whole
        kept = np.asarray(cached) * isl
        rest = np.maximum(isl - kept, 1.0)
        return np.maximum(self.prefill(layout, rest), whole - self.prefill(layout, np.maximum(kept, 1.0)))


def step_table(
    shape: Shape, layouts: Layout, *, engine: Engine, formats: ServingFormats, model: CostModel, cluster: Cluster,
    longest: float, largest: float = 1024.0, drafted: int = 0,
) -> StepTable:  # fmt: skip
    """Price the grid: batches up to ``largest`` and contexts and prompts up to ``longest`` tokens.

    Raises:
        NotCoveredError: a kernel of the model is not calibrated here, or the memory's size is unknown.
    """
    batches = _grid(1.0, largest)
    contexts = _grid(min(256.0, longest), longest)
    prompts = _grid(16.0, longest)
    count = np.asarray(layouts.tp).size
    row = {
        n: np.broadcast_to(np.asarray(getattr(layouts, n), float), count) for n in ("tp", "pp", "ep", "adp")
    }
    cube = Layout(**{n: v[:, None, None] for n, v in row.items()})
    # Pipeline stages work on different parts of the batch at the same time.
    per_group = np.maximum(batches[None, :, None] / (cube.adp * cube.pp), 1.0)
    common: dict[str, Any] = dict(formats=formats, model=model, cluster=cluster, backend=engine.backend)
    costs = price_pass(shape, cube, batch=per_group, new=1 + drafted, past=contexts[None, None, :], decode=True,
                       **common)  # fmt: skip
    flat = Layout(**{n: v[:, None] for n, v in row.items()})
    chunks = np.maximum(np.ceil(prompts / engine.chunk), 1.0)
    together = np.maximum(np.floor(engine.chunk / prompts), 1.0)
    prefill, crowd = (
        price_pass(shape, flat, batch=count, new=np.ceil(prompts / chunks)[None, :],
                   past=np.round(prompts * (1 - 1 / chunks) / 2)[None, :], decode=False, **common)
        for count in (1, together[None, :])
    )  # fmt: skip
    whole = Layout(**row)
    capacity = cluster.accelerator.memory_capacity
    assert capacity is not None
    return StepTable(
        layouts=whole, engine=engine, formats=formats, shape=shape, batches=batches, contexts=contexts, prompts=prompts,
        steps=decode_step(costs, engine, formats, sequences=per_group, drafted=drafted),
        alone=decode_step(costs, engine.decoding(), formats, sequences=per_group, drafted=drafted),
        prefills=prefill_seconds(prefill, engine, formats, passes=chunks),
        crowds=prefill_seconds(crowd, engine, formats, passes=chunks / together), costs=costs,
        weights=np.broadcast_to(weight_bytes(shape, whole, formats), count).astype(float),
        budget=capacity.value * engine.memory_share, drafted=drafted,
    )  # fmt: skip


def _grid(low: float, high: float) -> Array:
    count = max(int(np.ceil(np.log(max(high / low, 1.0)) / np.log(RATIO))), 1)
    return np.ceil(low * RATIO ** np.arange(count + 1))


def _place(grid: Array, value: Size) -> tuple[NDArray[np.int64], Array]:
    """The grid interval of a value and its share of it, in the logarithm; ends are extended."""
    x = np.log(np.maximum(np.asarray(value, float), 1e-9))
    logs = np.log(grid)
    i = np.clip(np.searchsorted(logs, x, side="right") - 1, 0, grid.size - 2)
    return i, (np.maximum(x, logs[0]) - logs[i]) / (logs[i + 1] - logs[i])


def _bilinear(table: Array, layout: Any, first: tuple[Array, Size], second: tuple[Array, Size]) -> Array:
    i, u = _place(*first)
    j, v = _place(*second)
    low = table[layout, i, j] * (1 - u) + table[layout, i + 1, j] * u
    high = table[layout, i, j + 1] * (1 - u) + table[layout, i + 1, j + 1] * u
    return low * (1 - v) + high * v


def by_cause(table: StepTable, layout: Any, batch: Size, context: Size) -> dict[str, Array]:
    """Seconds of a decode pass by cause as the engine runs them, at a batch and context; broadcasts."""
    factors = {
        "products": table.engine.products, "attention": table.engine.attention, "experts": table.engine.experts,
        "state": table.engine.state, "memory": table.engine.memory, "reduce": table.engine.reduce,
        "exchange": table.engine.exchange,
    }  # fmt: skip
    found = {
        cause: factors[cause]
        * _bilinear(getattr(table.costs, cause), layout, (table.batches, batch), (table.contexts, context))
        for cause in CAUSES if cause in factors
    }  # fmt: skip
    groups = np.asarray(table.layouts.adp, float)[layout]
    found["host"] = table.engine.step_s + table.engine.sequence_s * batch / groups
    return found
