"""The discrete-event twin of the closed forms: one replica, request by request, step by step (SimPy).

Decisions: the twin knows the same two times as the closed form, a decode step of ``b`` requests and a prompt's prefill,
and nothing of its averages: it starts each waiting prompt as soon as the running step ends and the cache has room, one
at a time before the next decode step, as the engines do. What the closed form adds outside the device (``request_s``,
the steps that a first token waits beside its queue) is added to each request. Arrivals are Poisson or a trace's.
References: SimPy 4 (Team SimPy); Orca (Yu et al., OSDI 2022) for iteration-level scheduling.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Generator, Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np

from shapewright.architecture.shape import Shape
from shapewright.cost.price import cost_model
from shapewright.errors import InfeasibleError, NotCoveredError
from shapewright.hardware.cluster import Cluster
from shapewright.plan.engine import Engine
from shapewright.plan.serving_formats import ServingFormats
from shapewright.plan.serving_search import Deployment, ServingGoal
from shapewright.plan.serving_step import Layout
from shapewright.plan.serving_table import step_table
from shapewright.plan.serving_trace import Trace


@dataclass(frozen=True, kw_only=True, slots=True)
class Arrival:
    """One request: when it comes [s], its prompt and its answer [tokens]."""

    time: float
    isl: float
    osl: int


@dataclass(frozen=True, kw_only=True, slots=True)
class Simulated:
    """Means over the requests of a run."""

    ttft: float
    """[s]"""
    tpot: float
    """[s]"""
    mean_batch: float
    """Requests that ran in a mean decode step [1]."""
    requests: int


def poisson(rate: float, count: int, *, isl: float, osl: int, seed: int = 0) -> list[Arrival]:
    """``count`` arrivals of one length, scaled so that their mean rate is exactly ``rate``: near saturation a draw that
    comes a little faster would wait much longer."""
    times = np.cumsum(np.random.default_rng(seed).exponential(1.0, count))
    times *= count / rate / times[-1]
    return [Arrival(time=float(t), isl=isl, osl=osl) for t in times]


def simulate(
    arrivals: Iterable[Arrival], *, step: Callable[[float], float], prefill: Callable[[float], float], capacity: float,
    warm_up: float = 0.2,
) -> Simulated:  # fmt: skip
    """Run one replica; ``step(b)`` and ``prefill(isl)`` are seconds. The first ``warm_up`` share and the last
    half of as many are not counted.

    Raises:
        NotCoveredError: SimPy is not installed.
    """
    try:
        import simpy
    except ImportError:
        raise NotCoveredError(
            "the discrete-event twin needs SimPy", "it is an extra", "pip install 'shapewright[serving]'"
        ) from None
    requests = list(arrivals)
    environment = simpy.Environment()
    waiting: deque[tuple[int, Arrival]] = deque()
    left: dict[int, int] = {}
    first: dict[int, float] = {}
    last: dict[int, float] = {}
    batches: list[int] = []
    wake = [environment.event()]

    def source() -> Generator[Any, Any, None]:
        for number, request in enumerate(requests):
            yield environment.timeout(max(request.time - environment.now, 0.0))
            waiting.append((number, request))
            if not wake[0].triggered:
                wake[0].succeed()

    def engine() -> Generator[Any, Any, None]:
        done = 0
        while done < len(requests):
            if not waiting and not left:
                wake[0] = environment.event()
                yield wake[0]
            if waiting and len(left) < capacity:
                number, request = waiting.popleft()
                yield environment.timeout(prefill(request.isl))
                first[number] = last[number] = environment.now
                if request.osl > 1:
                    left[number] = request.osl - 1
                else:
                    done += 1
                continue
            batches.append(len(left))
            yield environment.timeout(step(float(len(left))))
            for number in list(left):
                last[number] = environment.now
                left[number] -= 1
                if not left[number]:
                    del left[number]
                    done += 1

    environment.process(source())
    finished = environment.process(engine())
    environment.run(until=finished)
    # Neither those that come to an empty replica nor the last, who leave one behind.
    counted = range(int(warm_up * len(requests)), max(int((1 - warm_up / 2) * len(requests)), 1))
    ttft = np.mean([first[i] - requests[i].time for i in counted])
    tpot = np.mean([(last[i] - first[i]) / max(requests[i].osl - 1, 1) for i in counted])
    mean_batch = float(np.mean(batches[int(warm_up * len(batches)) :])) if batches else 0.0
    return Simulated(ttft=float(ttft), tpot=float(tpot), mean_batch=mean_batch, requests=len(counted))


REQUESTS = 400
"""Requests of a run that ``--simulate`` asks for."""


def simulate_pick(
    shape: Shape, cluster: Cluster, engine: Engine, formats: ServingFormats, goal: ServingGoal, pick: Deployment, *,
    drafted: int = 0, trace: Trace | None = None,
) -> dict[str, Any]:  # fmt: skip
    """One replica of a chosen deployment under its share of the arrivals, or at the rate that it answers.

    Raises:
        InfeasibleError: prefill and decoding are apart, which the twin does not play.
        NotCoveredError: SimPy is not installed.
    """
    if pick.prefill_replicas:
        raise InfeasibleError(
            "the pick prefills and decodes on different replicas, which the twin does not play",
            "it plays one replica that does both", "state arrivals with --rate, or leave out --simulate",
        )  # fmt: skip
    rows = Layout(**{n: np.array([float(getattr(pick.layout, n))]) for n in ("tp", "pp", "ep", "adp")})
    model = cost_model(cluster.accelerator)
    table = step_table(shape, rows, engine=engine, formats=formats, model=model, cluster=cluster,
                       longest=max(goal.isl + goal.osl, 512.0), largest=4096.0, drafted=drafted)  # fmt: skip
    rate = (goal.rate or CALM * pick.rate) / pick.replicas
    context, groups = goal.isl + goal.osl / 2, float(pick.layout.adp)

    def prefill(isl: float) -> float:
        return engine.interleave * float(table.prompt(0, np.asarray(isl), goal.cached)) / groups

    arrivals = poisson(rate, REQUESTS, isl=goal.isl, osl=int(goal.osl))
    if trace is not None:
        arrivals = [
            Arrival(time=t * pick.replicas, isl=float(i), osl=o)
            for t, i, o in zip(trace.arrivals, trace.prompts, trace.answers, strict=True)
        ]
    found = simulate(
        arrivals, step=lambda b: float(table.step(0, b, context)), prefill=prefill, capacity=pick.capacity
    )
    own = (
        engine.request_s
        + engine.own * float(table.prompt(0, np.asarray(goal.isl), goal.cached))
        - prefill(goal.isl)
    )
    outside = own + (engine.wait_steps - 0.5) * found.tpot
    return {"ttft_s": found.ttft + outside, "tpot_s": found.tpot, "mean_batch": found.mean_batch,
            "requests": found.requests, "rate_per_replica": rate}  # fmt: skip


CALM = 0.8
"""Share of the rate of a closed loop that Poisson arrivals of the twin come at: at the whole of it a queue would grow."""
