"""Serving as a constraint of a search: how fast and how dear one token of a candidate would be.

Decisions: a simple estimate stands here, decoding steps of a replica inside one node with 16-bit weights at the training
context, by the kernels and the engine of ``plan.serving``; queues, prompts and whole deployments are the business of
``serve-plan``. Candidates are tried in the order of their loss until one passes, and then as far as its ties reach, so
the answer is the best that passes; those refused are counted by reason. A device whose decoding is not calibrated
refuses the constraint rather than every candidate.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from shapewright.architecture.shape import Shape
from shapewright.errors import InfeasibleError, NotCoveredError, ShapewrightError, UnknownFigureError
from shapewright.plan.engine import DEFAULT, engines
from shapewright.plan.pairs import Workload
from shapewright.plan.serving import decode_step
from shapewright.plan.serving_formats import serving_formats
from shapewright.plan.serving_memory import sequence_bytes, weight_bytes
from shapewright.plan.serving_step import Layout, price_pass
from shapewright.search.ranking import Ranking
from shapewright.units import format_quantity

SHARED = 32
"""Requests that share a replica where a token's price is asked (assumed)."""


@dataclass(frozen=True, kw_only=True, slots=True)
class ServingLimits:
    """What a design must not exceed when it is served on devices of the training cluster."""

    tpot: float | None = None
    """Longest time per output token of one request [s]; None for no limit."""
    dollars_per_million: float | None = None
    """Highest price of a million output tokens, ``SHARED`` requests at once [USD]."""


def decode(shape: Shape, workload: Workload, *, requests: int = 1) -> tuple[float, int]:
    """(Seconds of a decoding step, devices) of the tensor parallelism inside a node with the least seconds, or with
    several ``requests`` the least device-seconds, that holds the model and their caches; (inf, 0) where none does.

    Raises:
        NotCoveredError: a kernel is not calibrated on this device.
    """
    cluster = workload.cluster
    device, engine = cluster.accelerator, engines()[DEFAULT]
    inner = cluster.tiers[0].size if cluster.tiers else 1
    formats = serving_formats("bf16", shape, device)
    best, devices = (np.inf, np.inf), 0
    assert device.memory_capacity is not None
    for tp in (1, 2, 4, 8):
        layout = Layout(tp=tp)
        caches = requests * sequence_bytes(shape, layout, formats, workload.seq_len)
        held = float(np.max(weight_bytes(shape, layout, formats) + caches))
        if tp > inner or held > engine.memory_share * device.memory_capacity.value:
            continue
        cost = price_pass(
            shape, layout, batch=requests, new=1, past=workload.seq_len, decode=True, formats=formats,
            model=workload.model, cluster=cluster, backend=engine.backend,
        )  # fmt: skip
        seconds = float(np.ravel(decode_step(cost, engine, formats, sequences=requests))[0])
        wanted = (seconds if requests == 1 else seconds * tp, seconds)
        if wanted < best:
            best, devices = wanted, tp
    return float(best[1]), devices


def within(ranking: Ranking, limits: ServingLimits) -> Ranking:
    """The ranking without the candidates that exceed ``limits``, as far as the choice and its ties reach.

    Raises:
        InfeasibleError: none of the candidates passes.
        NotCoveredError: decoding is not calibrated on this device.
        UnknownFigureError: its price is unknown.
    """
    price = ranking.workload.cluster.price_per_device_hour
    if limits.dollars_per_million is not None and price is None:
        raise UnknownFigureError(
            "price of an hour", ranking.workload.cluster.accelerator.name, "a limit on the price of a token needs it",
            "price_per_device_hour=2.5",
        )  # fmt: skip
    rate = price.value / 3600.0 if price is not None else 0.0
    refused = np.zeros(ranking.loss.size, bool)
    counts: dict[str, int] = {}
    fastest, edge = np.inf, np.inf
    for index in map(int, ranking.order):
        if ranking.loss[index] > edge:
            break
        shape, workload = ranking.shape(index), ranking.arm_of(index).workload
        try:
            reason, seconds = _exceeds(shape, workload, limits, rate)
        except ShapewrightError as error:
            raise NotCoveredError(
                "serving on this device is not covered", str(error).splitlines()[0], "leave the limit out"
            ) from error
        fastest = min(fastest, seconds)
        if reason is not None:
            refused[index] = True
            counts[reason] = counts.get(reason, 0) + 1
        elif not np.isfinite(edge):
            edge = float(ranking.loss[index]) + ranking.tie_width
    if refused.sum() == ranking.order.size:
        raise InfeasibleError(
            f"none of {ranking.order.size:,} designs can be served within the limits",
            "\n".join(f"{count:>12,} {reason}" for reason, count in counts.items()),
            f"the fastest takes {format_quantity(fastest, 's')} per token: raise the limit",
            counts,
        )
    return without(ranking, refused, counts)


def _exceeds(
    shape: Shape, workload: Workload, limits: ServingLimits, rate: float
) -> tuple[str | None, float]:
    seconds, _ = decode(shape, workload)
    if limits.tpot is not None and seconds > limits.tpot:
        return f"more than {format_quantity(limits.tpot, 's')} per token when served", seconds
    if limits.dollars_per_million is not None:
        step, devices = decode(shape, workload, requests=SHARED)
        dollars = step * devices * rate / SHARED * 1e6 if devices else np.inf
        if dollars > limits.dollars_per_million:
            return f"more than ${limits.dollars_per_million:g} per million tokens when served", seconds
    return None, seconds


def without(ranking: Ranking, refused: np.ndarray, counts: dict[str, int]) -> Ranking:
    """The ranking without the ``refused`` candidates (S,), which count by reason; a shape counts with all its plans."""
    arms, start = [], 0
    for arm in ranking.arms:
        mine = refused[start : start + arm.loss.size]
        start += arm.loss.size
        arms.append(replace(arm, loss=np.where(mine, np.inf, arm.loss)))
    return replace(ranking, arms=tuple(arms), refused={**ranking.refused, **counts})
