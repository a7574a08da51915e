"""The closed forms against their discrete-event twin, up to 80 % of the largest stable rate."""

from __future__ import annotations

import numpy as np
import pytest

from shapewright.plan.engine import Engine
from shapewright.plan.serving import disaggregated, open_apart, open_loop
from shapewright.validation.serving_twin import Arrival, poisson, simulate

pytest.importorskip("simpy")
ENGINE = Engine(name="x", label="x", request_s=0.0, own=1.0, wait_steps=0.5, queue=1.0, interleave=1.0)


@pytest.mark.parametrize("share", [0.2, 0.5, 0.8])
@pytest.mark.parametrize(
    ("fixed", "each", "prefill", "osl"), [(0.01, 1e-4, 0.05, 200), (0.02, 4e-4, 0.2, 400)]
)
def test_open_loop_against_the_twin(share: float, fixed: float, each: float, prefill: float, osl: int):
    batches = np.unique(np.round(2 ** np.arange(0, 8.01, 0.25)))
    steps = fixed + each * batches
    _, largest = open_loop(ENGINE, batches=batches, steps=steps, prefill=prefill, groups=1, rate=0.0, osl=osl)
    rate = share * largest
    closed, _ = open_loop(ENGINE, batches=batches, steps=steps, prefill=prefill, groups=1, rate=rate, osl=osl)
    twins = [
        simulate(poisson(rate, 2000, isl=1.0, osl=osl, seed=seed), step=lambda b: fixed + each * b,
                 prefill=lambda _: prefill, capacity=256, warm_up=0.3)
        for seed in range(4)
    ]  # fmt: skip
    tpot, ttft = np.mean([t.tpot for t in twins]), np.mean([t.ttft for t in twins])
    print(f"{share:.0%}: tpot {closed.tpot / tpot - 1:+.1%}, ttft {closed.ttft / ttft - 1:+.1%}")
    assert closed.tpot == pytest.approx(tpot, rel=0.05)
    assert closed.ttft == pytest.approx(ttft, rel=0.15)


@pytest.mark.parametrize("share", [0.3, 0.8])
def test_separate_workers_against_the_twin(share: float):
    batches = np.unique(np.round(2 ** np.arange(0, 8.01, 0.25)))
    engine = Engine(name="x", label="x", apart_request_s=0.0, apart_own=1.0, apart_wait_steps=0.5)
    pools = dict(prefill_workers=np.array([1.0]), decode_workers=np.array([3.0]))
    common = dict(batches=batches, steps=0.01 + 1e-4 * batches, prefill=0.05, groups=1.0, osl=200)
    _, largest = open_apart(engine, rate=0.0, **common, **pools)
    rate = share * float(largest[0])
    closed, _ = open_apart(engine, rate=rate, **common, **pools)
    twins = [
        simulate(poisson(rate, 1000, isl=1.0, osl=200, seed=seed), step=lambda b: 0.01 + 1e-4 * b,
                 prefill=lambda _: 0.05, capacity=256, warm_up=0.3, prefillers=1, decoders=3)
        for seed in range(3)
    ]  # fmt: skip
    assert closed.tpot[0] == pytest.approx(np.mean([t.tpot for t in twins]), rel=0.05)
    assert closed.ttft[0] == pytest.approx(np.mean([t.ttft for t in twins]), rel=0.15)


def test_clients_that_ask_again_against_the_twin():
    engine = Engine(name="x", label="x", apart_request_s=0.0, apart_own=1.0, apart_wait_steps=0.5)
    lengths = np.random.default_rng(0).integers(80, 121, 600)
    asked = [Arrival(time=0.0, isl=1.0, osl=int(n)) for n in lengths]
    for clients in (8, 40):
        # Forty clients of three decoders with ten places each: ten of them wait outside.
        closed = disaggregated(engine, step=lambda b: 0.01 + 1e-3 * b, prefill=np.array(0.02), groups=1, prefill_workers=1,
                               decode_workers=3, concurrency=float(clients), capacity=10.0, osl=100, burst=0.0)  # fmt: skip
        twin = simulate(asked, step=lambda b: 0.01 + 1e-3 * b, prefill=lambda _: 0.02, capacity=10, prefillers=1, decoders=3,
                        clients=clients, warm_up=0.4)  # fmt: skip
        assert float(closed.tpot) == pytest.approx(twin.tpot, rel=0.05)
        assert float(closed.ttft) == pytest.approx(twin.ttft, rel=0.15)


def test_one_request_takes_its_own_times():
    found = simulate([Arrival(time=1.0, isl=10, osl=11)], step=lambda b: 0.02, prefill=lambda isl: 0.1 * isl,
                     capacity=1, warm_up=0.0)  # fmt: skip
    assert found.ttft == pytest.approx(1.0)
    assert found.tpot == pytest.approx(0.02)


def test_a_full_cache_makes_requests_wait():
    both = [Arrival(time=0.0, isl=1, osl=11), Arrival(time=0.0, isl=1, osl=11)]
    one = simulate(both, step=lambda b: 0.1, prefill=lambda _: 0.0, capacity=1, warm_up=0.0)
    two = simulate(both, step=lambda b: 0.1, prefill=lambda _: 0.0, capacity=2, warm_up=0.0)
    assert one.ttft == pytest.approx(0.5)
    assert two.ttft == pytest.approx(0.0)
