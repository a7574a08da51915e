"""Time to first token, time per output token and throughput of a model being served, in closed form.

Continuous batching: in the time in which every running request gets one token, a replica with ``b`` of them does one
decode step and, on average, ``b / osl`` prefills. With ``D(b)`` the step and ``P`` the prefill of one prompt::

    tpot = D(b) + interleave (b - 1) P / osl
    ttft = request + own P + wait_steps tpot + waiting for other prompts + waiting for memory

*Closed loop* (a benchmark of constant concurrency C): ``b = min(C, what the cache holds)``; those that do not fit wait
``(C - b) / b`` times a request's stay; others' prompts cost a share ``burst`` of ``(b - 1) P``, because the benchmark
starts all at once, beside the queue of its steady state. *Open loop* (Poisson arrivals at rate r): by Little's law
``b = r osl tpot(b)``, which has a solution up to the largest stable rate; the queue for prefill is that of one server,
``rho P (ca^2 + cv^2) / (2 (1 - rho))`` with ``rho = r P``, exact for Poisson arrivals (``ca = 1``: Pollaczek and
Khinchine), and corrected for a trace's, whose gaps have a spread of their own (Kraemer and Langenbach-Belz 1976).
*Disaggregated*: prompts queue for ``w`` prefill workers, decoding is not disturbed: a closed network of a queueing and
a delay station, whose rate is the smallest of its bounds: no queue and prefill workers, joined by a norm, and the
requests that the decoders hold, beyond which the rest wait outside.

A time per output token is ``(end - first token) / (osl - 1)``, a mean over requests. Speculative decoding drafts ``k``
tokens a step: the step verifies ``k + 1`` and yields ``(1 - a^(k+1)) / (1 - a)`` of them at acceptance ``a``.

Everything takes arrays that broadcast. Neglected: eviction and recomputation, uneven groups, and of a trace all that
outlives one gap, as hours of the day (the twin in ``validation`` replays it). References: Orca (Yu et al., OSDI 2022),
Sarathi-Serve (arXiv 2403.02310), DistServe (arXiv 2401.09670), Leviathan et al. 2023 (arXiv 2211.17192, equation 1).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from shapewright.architecture.operator import Size
from shapewright.errors import InfeasibleError
from shapewright.plan.engine import Engine
from shapewright.plan.serving_formats import ServingFormats
from shapewright.plan.serving_step import PassCost

Array = NDArray[np.float64]
HIDDEN = 0.3
"""A pass takes at least this share of its kernels' sum, whatever overlaps."""
FOUR_BIT = ("nvfp4", "int4_wo", "w4a16_mxfp4", "w4a8_mxfp4_mxfp8")


@dataclass(frozen=True, kw_only=True, slots=True)
class Served:
    """What clients and the operator see; one entry per deployment."""

    ttft: Array
    """Mean time to first token [s]."""
    tpot: Array
    """Mean time per output token after the first [s]."""
    rate: Array
    """Requests finished per second by the whole deployment [1/s]."""
    batch: Array
    """Requests that one decoding replica runs [1]."""
    waiting: Array
    """Part of the time to first token spent waiting for other requests [s]."""
    prefill_share: Array
    """Share of a replica's time (or of the prefill workers') that goes to prompts [1]."""


def kernel_seconds(cost: PassCost, engine: Engine, formats: ServingFormats) -> Array:
    """Seconds of a pass as the engine runs it: its kernels by family, and what is between them."""
    four = engine.experts_4bit if formats.experts in FOUR_BIT else 1.0
    work = (
        engine.products * cost.products + engine.attention * cost.attention + engine.experts * four * cost.experts
        + engine.state * cost.state + engine.memory * cost.memory + engine.reduce * cost.reduce
        + engine.exchange * cost.exchange
    )  # fmt: skip
    return np.maximum(work + engine.kernel_s * cost.kernels, HIDDEN * work)


def decode_step(
    cost: PassCost, engine: Engine, formats: ServingFormats, *, sequences: Size, drafted: Size = 0
) -> Array:
    """Seconds per token of each running sequence, without prompts: one step over the tokens it yields.

    ``cost`` is of a pass with ``drafted + 1`` new tokens per sequence; ``sequences`` are those of one attention group,
    which has a scheduler of its own.
    """
    step = (
        kernel_seconds(cost, engine, formats)
        + engine.step_s
        + engine.sequence_s * np.asarray(sequences, float)
    )
    return step * (1.0 + engine.draft * np.asarray(drafted)) / accepted(engine.acceptance, drafted)


def accepted(acceptance: float, drafted: Size) -> Array:
    """Tokens that one verified draft yields on average [1]."""
    return (1.0 - acceptance ** (np.asarray(drafted, float) + 1.0)) / (1.0 - acceptance)


def prefill_seconds(cost: PassCost, engine: Engine, formats: ServingFormats, *, passes: Size = 1) -> Array:
    """Seconds of one prompt's prefill in ``passes`` equal chunks, ``cost`` being that of the mean chunk."""
    return kernel_seconds(cost, engine, formats) * np.asarray(passes, float)


def closed_loop(
    engine: Engine, *, step: Array, prefill: Array, groups: Size, concurrency: Size, capacity: Size, osl: Size,
    crowd: Array | None = None, hold: Any = 0.0, replicas: Size = 1, burst: Size | None = None,
) -> Served:  # fmt: skip
    """A deployment of equal replicas under constant concurrency.

    ``step`` is that of the running batch, ``min(concurrency, capacity)``; ``prefill`` that of one prompt in each of
    ``groups`` attention groups at once, ``crowd`` the same per prompt where a step takes as many as it may (by default
    the former); ``hold`` are the steps for which the scheduler may hold a prompt back; ``concurrency`` and ``capacity``
    count requests of one replica.
    """
    c, limit, osl = (np.asarray(x, float) for x in (concurrency, capacity, osl))
    batch = np.maximum(np.minimum(c, limit), 1.0)
    each = prefill / np.asarray(groups, float)
    tpot = step + engine.interleave * (batch - 1.0) * each / osl
    # Of a closed loop a request meets only the others' prompts: alone it never queues.
    share = np.minimum(each * (batch - 1.0) / (osl * tpot + prefill), BUSIEST)
    dense = each if crowd is None else crowd / np.asarray(groups, float)
    share_first = engine.burst if burst is None else burst
    first = share_first * (batch - 1.0) * dense
    queue = engine.queue * share / (1.0 - share) * each
    stay = osl * tpot
    # Of the first requests as many as fit do not wait for room.
    held_up = np.maximum(c - batch, 0.0) / batch * stay * (1.0 - 2.0 * share_first * batch / c)
    held = engine.hold * np.asarray(hold, float) * tpot
    waiting = first + queue + held_up + held
    ttft = engine.request_s + engine.own * prefill + engine.wait_steps * tpot + waiting
    rate = replicas * np.where(c > batch, batch / stay, c / (ttft + stay))
    return Served(ttft=ttft, tpot=tpot, rate=rate, batch=batch, waiting=waiting, prefill_share=share)


BUSIEST = 0.95
"""Utilisation by prompts at which the queue's formula is held: beyond it decoding starves first."""


def open_loop(
    engine: Engine, *, batches: Array, steps: Array, prefill: float, groups: float, rate: float, osl: float,
    spread: float = 0.0, gaps: float = 1.0,
) -> tuple[Served, float]:  # fmt: skip
    """One replica under open arrivals, and the largest rate it can keep up with [1/s].

    ``steps`` are those of ``batches`` running requests, up to what the cache holds; ``spread`` and ``gaps`` are squared
    coefficients of variation, of the prompts' work and of the time between arrivals (1 is Poisson). Between a request's
    tokens every arrival's prompt passes, so ``tpot = D / (1 - rho)``; a prompt waits for those before it and for half of
    the step that runs when it comes.

    Raises:
        InfeasibleError: arrivals are faster than service.
    """
    each = prefill / groups
    work = engine.interleave * each
    # What one batch answers to: b = r osl D / (1 - r work).
    rates = batches / (osl * steps + batches * work)
    largest = float(rates.max())
    if rate >= largest:
        raise InfeasibleError(
            f"arrivals (={rate:.3g} requests/s per replica) are faster than service",
            f"one replica answers at most {largest:.3g} requests/s: {batches[int(rates.argmax())]:.0f} at a time",
            "lower --rate, shorten the answers, or use more devices",
        )
    batch = _running(rate, rates, batches)
    busy = rate * work
    step = float(np.interp(max(batch, 1.0), batches, steps))
    tpot = np.asarray(step / (1.0 - busy))
    queue = busy * work * _unevenness(gaps, spread, busy) / (1.0 - busy)
    ttft = engine.request_s + engine.own * prefill + engine.wait_steps * tpot + queue
    served = Served(ttft=np.asarray(ttft), tpot=tpot, rate=np.asarray(rate), batch=np.asarray(batch),
                    waiting=np.asarray(queue), prefill_share=np.asarray(busy))  # fmt: skip
    return served, largest


def _running(rate: Any, rates: Array, batches: Array) -> Array:
    """Requests that run where a batch of each size answers to one of ``rates``: the smallest batch that keeps up."""
    top = int(rates.argmax()) + 1
    return np.interp(rate, np.append(0.0, rates[:top]), np.append(0.0, batches[:top]))


def _unevenness(gaps: float, spread: float, busy: Any) -> Array:
    """What uneven arrivals and prompts make of a queue: half the sum of their squared spreads, corrected where arrivals
    are not Poisson (Kraemer and Langenbach-Belz 1976)."""
    total = max(gaps + spread, 1e-9)
    idle = 1.0 - np.asarray(busy, float)
    if gaps >= 1.0:
        damped = np.exp(-idle * (gaps - 1.0) / (gaps + 4.0 * spread))
    else:
        damped = np.exp(-2.0 * idle * (1.0 - gaps) ** 2 / (3.0 * np.maximum(1.0 - idle, 1e-9) * total))
    return 0.5 * total * damped


def open_apart(
    engine: Engine, *, batches: Array, steps: Array, prefill: float, groups: float, prefill_workers: Array,
    decode_workers: Array, rate: float, osl: float, transfer: float = 0.0, spread: float = 0.0, gaps: float = 1.0,
) -> tuple[Served, Array]:  # fmt: skip
    """Separate workers under open arrivals, and the largest rates that each split keeps up with [1/s].

    ``steps`` are those of ``batches`` requests of one decoder; other arguments as of ``open_loop`` and ``disaggregated``.
    Prompts wait as at a queue of ``c`` servers, ``(ca^2 + cv^2) / 2 rho^(sqrt(2 (c + 1)) - 1) P / (c (1 - rho))``
    (Sakasegawa 1977, doi 10.1007/BF02870319), where one server is corrected for arrivals that are not Poisson as in
    ``open_loop``. Splits that do not keep up have infinite times.
    """
    servers = np.asarray(prefill_workers, float) * groups
    decoders = np.asarray(decode_workers, float)
    rates = batches / (osl * steps)
    largest = np.minimum(servers / prefill, decoders * float(rates.max()))
    stable = rate < largest
    batch = _running(rate / decoders, rates, batches)
    tpot = np.where(stable, np.interp(np.maximum(batch, 1.0), batches, steps), np.inf)
    busy = np.minimum(rate * prefill / servers, 1.0 - 1e-9)
    crowded = busy ** (np.sqrt(2.0 * (servers + 1.0)) - 1.0)
    # Several servers even bursts out by themselves: there the twin asks for no correction.
    uneven = np.where(servers > 1.0, 0.5 * (gaps + spread), _unevenness(gaps, spread, busy))
    queue = uneven * crowded * prefill / (servers * (1.0 - busy))
    own = engine.apart_request_s + engine.apart_own * prefill + transfer + engine.apart_wait_steps * tpot
    ttft = np.where(stable, own + queue, np.inf)
    served = Served(ttft=ttft, tpot=tpot, rate=np.full(servers.shape, float(rate)), batch=batch, waiting=queue,
                    prefill_share=busy)  # fmt: skip
    return served, largest


def disaggregated(
    engine: Engine, *, step: Any, prefill: Array, groups: Size, prefill_workers: Size, decode_workers: Size,
    concurrency: Size, capacity: Size, osl: Size, crowd: Array | None = None, transfer: Size = 0.0,
    burst: Size | None = None,
) -> Served:  # fmt: skip
    """Separate workers for prompts and for decoding, under constant concurrency of the whole deployment.

    ``step`` is a function of the requests per decode worker; ``prefill``, ``crowd`` and ``groups`` as above, per prefill
    worker; ``transfer`` the time in which the cache moves from one to the other [s]. No prefill workers (0) means as many
    as the load needs.
    """
    c, workers, osl = (np.asarray(x, float) for x in (concurrency, decode_workers, osl))
    asked = np.asarray(prefill_workers, float)
    alone = engine.apart_request_s + engine.apart_own * prefill + np.asarray(transfer, float)
    each = (prefill if crowd is None else crowd) / np.asarray(groups, float)
    batch = np.maximum(np.minimum(c / workers, capacity), 1.0)
    tpot = step(batch)

    def network(tpot: Array) -> tuple[Array, Array, Array, Array]:
        own, stay = alone + engine.apart_wait_steps * tpot, osl * tpot
        free = c / (own + stay)
        servers = np.where(asked > 0, asked, np.ceil(free * each / BUSY))
        ready = (free**-CORNER + (servers / each) ** -CORNER) ** (-1.0 / CORNER)
        return np.minimum(ready, workers * capacity / stay), own, stay, servers

    for _ in range(ROUNDS):
        rate, _, stay, _ = network(tpot)
        batch = np.clip(rate * stay / workers, 1.0, capacity)
        tpot = 0.5 * (tpot + step(batch))
    rate, own, stay, servers = network(tpot)
    share = engine.apart_burst if burst is None else burst
    first = share * np.maximum(c - servers, 0.0) * each / servers
    # Of the first requests as many as fit do not wait for room.
    full = workers * capacity / c
    waiting = (
        np.maximum(c / rate - stay - own, 0.0) * np.where(full < 1.0, 1.0 - 2.0 * share * full, 1.0) + first
    )
    return Served(
        ttft=own + waiting, tpot=tpot, rate=rate, batch=batch, waiting=waiting,
        prefill_share=np.minimum(rate * each / servers, 1.0),
    )  # fmt: skip


CORNER = 6.0
"""Norm that joins the bounds of a closed network: none of them is reached where two meet."""
BUSY = 0.8
"""Utilisation that prefill workers of unstated number are taken to be sized for."""
ROUNDS = 6
"""Rounds between the batch and its step; the damped iteration changes by under 1 % after five."""
