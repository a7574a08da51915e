"""What a ladder of several arms runs: each arm's rates at the lowest rungs, then all rungs, seeds and arms.

Decisions: at a rung all arms see the same bytes in the same order, for the tokens per parameter of the base, so that
differences are paired. Every arm's rate is swept at lower rungs and carried upward from its own best rates by one power
of size for all arms. A run is judged at several lengths, each a cooldown off the constant phase (``lab/rungs.py``):
half the length costs a tenth more and says whether a gain holds for models trained less. The top rung is run once, the
others with every seed. More rungs come before more seeds until a verdict is possible at all, for the slope is what is
asked; then lengths of twice the tokens.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np

from shapewright.lab.rungs import (
    BATCH,
    BRANCH_FACTOR,
    SEQ_LEN,
    SHORTEST,
    TUNE_RATIO,
    Job,
    Layout,
    PaceOf,
    RateLaw,
    Row,
    TooShortError,
    inner_size,
    rates_of,
    size_of,
    span_of,
)

LAYOUTS: tuple[Layout, ...] = (
    (16, 2, 8), (20, 2, 10), (24, 3, 8), (32, 3, 16), (40, 4, 20), (56, 4, 28), (64, 5, 32), (96, 4, 32), (128, 5, 64),
    (160, 6, 32), (192, 9, 64), (256, 9, 64),
)  # fmt: skip
"""Sizes 1.5 to 2.2 times apart, 10 thousand to 7 million parameters: five span the range that a verdict needs."""
RATES: dict[Layout, tuple[float, ...]] = {
    LAYOUTS[0]: (0.006, 0.012, 0.024), LAYOUTS[2]: (0.004, 0.008, 0.016), LAYOUTS[4]: (0.002, 0.004, 0.008),
}  # fmt: skip
"""Where each arm's rate is swept, and what is tried first."""
MANY_RUNGS = 8
"""From so many sizes on, the middle one of three is swept too: it costs little beside the largest."""
LEAST_STEPS = 150
"""A branch of fewer steps says more about the warm-up than about the model, and is left out."""
CHOICES = (
    (4, 1, 20), (5, 1, 20), (5, 2, 20), (5, 3, 20), (6, 1, 20), (6, 2, 20), (6, 3, 20), (7, 2, 20), (7, 3, 20), (8, 2, 20),
    (8, 3, 20), (8, 3, 40), (9, 3, 20), (9, 3, 40), (10, 3, 40), (11, 3, 20), (11, 3, 40), (12, 3, 40),
)  # fmt: skip
"""Rungs, seeds of the lower ones, and tokens per parameter (of the base) of the longest branch, as the time grows."""


def lengths_of(layout: Layout, longest: int) -> tuple[float, ...]:
    """Tokens per parameter of the base of each branch of a rung, ascending."""
    found, length = [], float(SHORTEST)
    while length <= longest:
        if length == longest or length * size_of(layout) >= LEAST_STEPS * SEQ_LEN * BATCH:
            found.append(length)
        length *= BRANCH_FACTOR
    return tuple(found)


def swept_layouts(count: int) -> list[Layout]:
    """The first ``count`` layouts at which rates are swept."""
    return list(RATES)[:count]


def sweep_jobs(arms: Sequence[str], swept: int) -> list[Job]:
    """The sweeps of the learning rate of every arm."""
    return [
        _sweep_job(arm, layout, rate)
        for arm in arms
        for layout in swept_layouts(swept)
        for rate in RATES[layout]
    ]


def _sweep_job(arm: str, layout: Layout, rate: float) -> Job:
    name = f"{arm}_tune_{layout[0]}x{layout[1]}_{rate:g}"
    return Job(
        name=name, role="tune", layout=layout, learning_rate=rate, ratios=(float(TUNE_RATIO),), arm=arm
    )


def wider_sweeps(arms: Sequence[str], swept: int, rows: Sequence[Row]) -> list[Job]:
    """One more rate for every sweep whose best is the first or last that was tried."""
    jobs = []
    for arm in arms:
        for layout in swept_layouts(swept):
            mine = [r for r in rows if r["arm"] == arm and r["role"] == "tune" and r["width"] == layout[0]]
            tried = sorted(r["lr"] for r in mine)
            best = min(mine, key=lambda r: r["loss"])["lr"]
            if best in (tried[0], tried[-1]):
                jobs.append(_sweep_job(arm, layout, best / 2 if best == tried[0] else best * 2))
    return jobs


def rates_by_arm(arms: Sequence[str], rows: Sequence[Row]) -> dict[str, RateLaw]:
    """Each arm's rate over the base's size outside the embedding: a level of its own, one power for all.

    Two or three sweeps do not fix an arm's own power: a best rate is known to a factor of about 1.4, and the difference of
    two noisy powers, carried up ten times in size, would mistune the top rung of one arm and fake a slope.
    """
    base_size = {layout[0]: float(inner_size(layout)) for layout in LAYOUTS}
    own = {
        arm: rates_of(
            [{**r, "params": base_size[r["width"]], "embedding_params": 0.0} for r in rows if r["arm"] == arm]
        )
        for arm in arms
    }
    power = float(np.mean([law.power for law in own.values()]))
    return {
        arm: replace(
            law, power=power,
            scale=float(np.exp(np.mean([np.log(rate) + power * np.log(size) for size, rate in law.tuned.items()]))),
        )
        for arm, law in own.items()
    }  # fmt: skip


def arm_jobs(
    arms: Sequence[str], rungs: int, seeds: int, longest: int, rates: Mapping[str, RateLaw] | None
) -> list[Job]:
    """Every arm at every rung with every seed; without ``rates`` only their lengths matter."""
    return [
        Job(
            name=f"{arm}_{layout[0]}x{layout[1]}_seed{seed}", role="rung", layout=layout, arm=arm, seed=seed,
            ratios=lengths_of(layout, longest),
            learning_rate=rates[arm].rate(inner_size(layout)) if rates else 0.0,
        )
        for number, layout in enumerate(LAYOUTS[:rungs])
        for seed in range(1 if number == rungs - 1 and rungs > 1 else seeds)
        for arm in arms
    ]  # fmt: skip


def sweeps_for(rungs: int) -> int:
    """At how many sizes rates are swept for a ladder of ``rungs``."""
    return len(RATES) if rungs >= MANY_RUNGS else len(RATES) - 1


def choose_comparison(
    seconds: float, arms: Sequence[str], most_seeds: int, pace: PaceOf, workers: int, *, swept: bool = False
) -> tuple[int, int, int, float]:
    """Rungs, seeds, longest branch and process-seconds of the largest comparison that fits.

    Args:
        seconds: time for all of it.
        arms: what is compared.
        most_seeds: of each rung.
        pace: of each arm at each layout.
        workers: processes.
        swept: whether the sweeps are done already.

    Raises:
        TooShortError: not even the smallest fits.
    """
    best: tuple[int, int, int, float] | None = None
    needed = 0.0
    for rungs, wanted, longest in CHOICES:
        if rungs > len(LAYOUTS):
            break
        seeds = min(wanted, most_seeds)
        tuning, own = (0.0, 0.0) if swept else span_of(sweep_jobs(arms, sweeps_for(rungs)), pace, workers)
        runs, total = span_of(arm_jobs(arms, rungs, seeds, longest, None), pace, workers)
        needed = needed or tuning + runs
        if tuning + runs > seconds:
            break
        best = (rungs, seeds, longest, own + total)
    if best is None:
        smallest = CHOICES[0][0]
        raise TooShortError(
            f"{len(arms)} arms at {smallest} sizes up to {size_of(LAYOUTS[smallest - 1]):,} parameters",
            needed,
        )
    return best
