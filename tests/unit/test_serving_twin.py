"""The closed forms against their discrete-event twin, up to 80 % of the largest stable rate."""

from __future__ import annotations

import numpy as np
import pytest

from shapewright.plan.engine import Engine
from shapewright.plan.serving import open_loop
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
