"""The discrete-event twin of the closed forms, request by request, step by step (SimPy).

Decisions: the twin knows the same two times as the closed form, a decode step of ``b`` requests and a prompt's prefill,
and nothing of its averages. A replica that does both starts each waiting prompt as soon as the running step ends and the
cache has room, one at a time before the next decode step, as the engines do. Apart, prompts queue for the first free
prefiller and then go to the decoder that holds the fewest. Requests come by themselves (Poisson, or a trace's) or from a
fixed number of clients, each of whom asks again when it was answered. What the closed form adds outside the device
(``request_s``, the steps that a first token waits beside its queue) is added to each request.
References: SimPy 4 (Team SimPy); Orca (Yu et al., OSDI 2022) for iteration-level scheduling; DistServe (arXiv 2401.09670).
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Generator, Iterable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from shapewright.architecture.shape import Shape
from shapewright.cost.price import cost_model
from shapewright.errors import MissingPackageError
from shapewright.hardware.cluster import Cluster
from shapewright.plan.deployment import Deployment, ServingGoal
from shapewright.plan.engine import Engine
from shapewright.plan.serving_formats import ServingFormats
from shapewright.plan.serving_search import transfer_seconds
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


class _Worker:
    """One replica that decodes, and prefills unless others do."""

    def __init__(self, environment: Any) -> None:
        self.environment = environment
        self.waiting: deque[int] = deque()
        self.left: dict[int, int] = {}
        self.batches: list[int] = []
        self.wake = environment.event()

    @property
    def load(self) -> int:
        """Requests that it holds."""
        return len(self.waiting) + len(self.left)

    def give(self, number: int) -> None:
        """A request comes."""
        self.waiting.append(number)
        if not self.wake.triggered:
            self.wake.succeed()


def simulate(
    arrivals: Iterable[Arrival], *, step: Callable[[float], float], prefill: Callable[[float], float], capacity: float,
    warm_up: float = 0.2, prefillers: int = 0, decoders: int = 1, clients: int = 0,
) -> Simulated:  # fmt: skip
    """Run ``decoders`` replicas; ``step(b)`` and ``prefill(isl)`` are seconds, ``capacity`` the requests of one of them.

    ``prefillers`` above 0 take the prompts, each one at a time. ``clients`` above 0 ask in turn, and the arrivals' times
    are not read. The first ``warm_up`` share and the last half of as many are not counted.

    Raises:
        MissingPackageError: SimPy is not installed.
    """
    try:
        import simpy
    except ImportError as error:
        raise MissingPackageError("the discrete-event twin", "simpy", extra="serving") from error
    requests = list(arrivals)
    environment = simpy.Environment()
    workers = [_Worker(environment) for _ in range(decoders)]
    pool = simpy.Resource(environment, capacity=prefillers) if prefillers else None
    came, first, last = (dict[int, float]() for _ in range(3))
    done = environment.event()
    asked = [0]
    ended = [0]

    def come(number: int) -> Generator[Any, Any, None]:
        came[number] = environment.now
        if pool is not None:
            with pool.request() as turn:
                yield turn
                yield environment.timeout(prefill(requests[number].isl))
        min(workers, key=lambda worker: worker.load).give(number)

    def ask() -> None:
        if asked[0] < len(requests):
            environment.process(come(asked[0]))
            asked[0] += 1

    def source() -> Generator[Any, Any, None]:
        while asked[0] < len(requests):
            yield environment.timeout(max(requests[asked[0]].time - environment.now, 0.0))
            ask()

    def end(number: int) -> None:
        ended[0] += 1
        if clients:
            ask()
        if ended[0] == len(requests):
            done.succeed()

    def start(number: int, worker: _Worker) -> None:
        first[number] = last[number] = environment.now
        if requests[number].osl > 1:
            worker.left[number] = requests[number].osl - 1
        else:
            end(number)

    def engine(worker: _Worker) -> Generator[Any, Any, None]:
        while True:
            if not worker.load:
                worker.wake = environment.event()
                yield worker.wake
            if worker.waiting and len(worker.left) < capacity:
                number = worker.waiting.popleft()
                if pool is None:
                    yield environment.timeout(prefill(requests[number].isl))
                start(number, worker)
                continue
            worker.batches.append(len(worker.left))
            yield environment.timeout(step(float(len(worker.left))))
            for number in list(worker.left):
                last[number] = environment.now
                worker.left[number] -= 1
                if not worker.left[number]:
                    del worker.left[number]
                    end(number)

    for worker in workers:
        environment.process(engine(worker))
    if clients:
        for _ in range(clients):
            ask()
    else:
        environment.process(source())
    environment.run(until=done)
    # Neither those that come to an empty replica nor the last, who leave one behind.
    counted = range(int(warm_up * len(requests)), max(int((1 - warm_up / 2) * len(requests)), 1))
    batches = [n for worker in workers for n in worker.batches[int(warm_up * len(worker.batches)) :]]
    return Simulated(
        ttft=float(np.mean([first[i] - came[i] for i in counted])),
        tpot=float(np.mean([(last[i] - first[i]) / max(requests[i].osl - 1, 1) for i in counted])),
        mean_batch=float(np.mean(batches)) if batches else 0.0, requests=len(counted),
    )  # fmt: skip


REQUESTS = 400
"""Requests of a run that ``--simulate`` asks for, at least."""
ROUNDS = 10
"""The same per request that runs at once, or per client: a full replica forgets slowly."""


def simulate_pick(
    shape: Shape, cluster: Cluster, engine: Engine, formats: ServingFormats, goal: ServingGoal, pick: Deployment, *,
    drafted: int = 0, trace: Trace | None = None,
) -> dict[str, Any]:  # fmt: skip
    """A chosen deployment under its arrivals, or with the clients that it was planned for.

    Where every replica does both, one of them is played, with its share of the load; apart, all of them.

    Raises:
        MissingPackageError: SimPy is not installed.
    """
    rows = Layout(**{n: np.array([float(getattr(pick.layout, n))]) for n in ("tp", "pp", "ep", "adp")})
    model = cost_model(cluster.accelerator)
    table = step_table(shape, rows, engine=engine, formats=formats, model=model, cluster=cluster,
                       longest=max(goal.isl + goal.osl, 512.0), largest=4096.0, drafted=drafted)  # fmt: skip
    context, groups, apart = goal.isl + goal.osl / 2, float(pick.layout.adp), pick.prefill_replicas > 0
    decoders = pick.replicas - pick.prefill_replicas if apart else 1
    played = pick.replicas if apart else 1
    step = table.step_alone if apart else table.step
    alone = float(table.prompt(0, np.asarray(goal.isl), goal.cached))

    def prefill(isl: float) -> float:
        seconds = float(table.prompt(0, np.asarray(isl), goal.cached))
        return seconds if apart else engine.interleave * seconds / groups

    clients = 0 if goal.rate else round(pick.concurrency * decoders)
    rate = (goal.rate or pick.rate) * played / pick.replicas
    count = ROUNDS * clients or max(REQUESTS, round(ROUNDS * pick.concurrency * decoders))
    arrivals = poisson(rate, count, isl=goal.isl, osl=int(goal.osl))
    if clients:
        # Answers of one length would keep all clients in step.
        spread = np.random.default_rng(0).uniform(0.8, 1.2, len(arrivals))
        arrivals = [replace(a, osl=max(round(a.osl * x), 1)) for a, x in zip(arrivals, spread, strict=True)]
    if trace is not None:
        arrivals = [
            Arrival(time=t * pick.replicas / played, isl=float(i), osl=o)
            for t, i, o in zip(trace.arrivals, trace.prompts, trace.answers, strict=True)
        ]
    found = simulate(
        arrivals, step=lambda b: float(step(0, b, context)), prefill=prefill, capacity=pick.capacity,
        prefillers=round(pick.prefill_replicas * groups), decoders=decoders, clients=clients, warm_up=0.4,
    )  # fmt: skip
    if apart:
        outside = (
            engine.apart_request_s
            + (engine.apart_own - 1.0) * alone
            + transfer_seconds(table, 0, cluster, goal)
        )
        outside += engine.apart_wait_steps * found.tpot
    else:
        outside = (
            engine.request_s + engine.own * alone - prefill(goal.isl) + (engine.wait_steps - 0.5) * found.tpot
        )
    return {"ttft_s": found.ttft + outside, "tpot_s": found.tpot, "mean_batch": found.mean_batch,
            "requests": found.requests, "rate": rate, "replicas": played}  # fmt: skip
