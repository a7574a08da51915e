"""How far the closed forms of serving lie from their discrete-event twin, over a grid of loads.

Engines of straw (a step with a fixed part and a part per request, a prompt, an answer's length), arrivals of Poisson or
in bursts, at 20 to 80 % of the largest stable rate; mean of four seeds. ``errors`` gives one line per point.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import product

import numpy as np

from shapewright.plan.engine import Engine
from shapewright.plan.serving import open_apart, open_loop
from shapewright.validation.serving_twin import Arrival, poisson, simulate

ENGINE = Engine(name="straw", label="straw", request_s=0.0, own=1.0, wait_steps=0.5, queue=1.0, interleave=1.0,
                apart_request_s=0.0, apart_own=1.0, apart_wait_steps=0.5)  # fmt: skip
STRAWS = ((0.01, 1e-4, 0.05, 200), (0.02, 4e-4, 0.2, 400), (0.005, 1e-4, 0.01, 300), (0.03, 1e-3, 0.4, 800))
"""Seconds of a step and more per request, of a prompt, and tokens of an answer."""
SHARES = (0.2, 0.35, 0.5, 0.65, 0.8)
SPLITS = ((0, 1), (1, 1), (1, 3), (3, 2))
"""Replicas that prefill (none: one does both) and that decode."""
COUNT, SEEDS = 2000, 4
STEADY = 25
"""Requests of a run over those that it serves at once, at least."""


def bursts(rate: float, count: int, *, osl: int, seed: int, gaps: float) -> list[Arrival]:
    """Arrivals whose gaps have a squared coefficient of variation above 1: exponential with one of two means."""
    draw = np.random.default_rng(seed)
    often = 0.5 * (1.0 + np.sqrt((gaps - 1.0) / (gaps + 1.0)))
    mean = np.where(draw.random(count) < often, 0.5 / often, 0.5 / (1.0 - often))
    times = np.cumsum(draw.exponential(1.0, count) * mean)
    times *= count / rate / times[-1]
    return [Arrival(time=float(t), isl=1.0, osl=osl) for t in times]


def errors(
    straws: tuple[tuple[float, float, float, int], ...] = STRAWS, shares: tuple[float, ...] = SHARES,
    splits: tuple[tuple[int, int], ...] = SPLITS, gaps: float = 1.0,
) -> Iterator[tuple[str, float, float]]:  # fmt: skip
    """(point, closed form over twin less one) of the time per output token and of the time to first token."""
    batches = np.unique(np.round(2 ** np.arange(0, 9.01, 0.25)))
    for (fixed, each, prefill, osl), (first, rest), share in product(straws, splits, shares):
        steps = fixed + each * batches
        common = dict(batches=batches, steps=steps, prefill=prefill, groups=1.0, osl=osl, gaps=gaps)
        pools = dict(prefill_workers=np.array([float(first)]), decode_workers=np.array([float(rest)]))

        def closed(rate: float, first: int = first, common: dict = common, pools: dict = pools) -> tuple:
            return (
                open_apart(ENGINE, rate=rate, **common, **pools)
                if first
                else open_loop(ENGINE, rate=rate, **common)
            )

        rate = share * float(np.ravel(closed(0.0)[1])[0])
        served = closed(rate)[0]
        # A full replica forgets slowly: the more it runs at once, the more requests until it is steady.
        count = max(COUNT, int(STEADY * float(np.ravel(served.batch)[0]) * max(rest, 1)))
        found = [
            simulate(
                poisson(rate, count, isl=1.0, osl=osl, seed=seed) if gaps == 1.0
                else bursts(rate, count, osl=osl, seed=seed, gaps=gaps),
                step=lambda b, fixed=fixed, each=each: fixed + each * b, prefill=lambda _, p=prefill: p,
                capacity=float(batches[-1]), warm_up=0.3, prefillers=first, decoders=rest,
            )
            for seed in range(SEEDS)
        ]  # fmt: skip
        tpot, ttft = (float(np.mean([getattr(f, name) for f in found])) for name in ("tpot", "ttft"))
        ours = (float(np.ravel(served.tpot)[0]), float(np.ravel(served.ttft)[0]))
        # Apart, the twin's first token is the prefiller's; the closed form waits for half a step of the decoder.
        yield (
            f"step {fixed:g}+{each:g}b, prompt {prefill:g} s, {first}+{rest} at {share:.0%}",
            ours[0] / tpot - 1.0,
            (ours[1] / ttft - 1.0),
        )


def run() -> Iterator[str]:
    """The worst and the median error over the grid, of Poisson arrivals and of bursts."""
    for gaps in (1.0, 3.0):
        found = list(errors(gaps=gaps))
        for which, name in ((1, "per output token"), (2, "to first token")):
            size = [abs(row[which]) for row in found]
            worst = found[int(np.argmax(size))]
            yield (
                f"twin, squared spread of gaps {gaps:g}, time {name}: median {np.median(size):.1%}, worst "
                f"{worst[which]:+.1%} ({worst[0]}) of {len(found)} points"
            )
