"""What a ladder of several arms runs: each arm's rates at the lowest rungs, then all rungs, seeds and arms.

Decisions: at a rung all arms see the same bytes in the same order, for the tokens per parameter of the base, so that
differences are paired. Every arm's rate is swept at its lowest rungs and carried upward by a power of size fitted to its
own sweeps. The top rung is run once, the others with every seed. More rungs come before more seeds until a verdict is
possible at all, for the slope is what is asked.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from shapewright.errors import UsageError
from shapewright.lab.rungs import (
    RUNGS,
    SWEEP,
    Job,
    Layout,
    RateLaw,
    Row,
    expected_seconds,
    inner_size,
    makespan,
    rates_of,
    size_of,
)

LAYOUTS: tuple[Layout, ...] = ((16, 2, 8), *RUNGS)
SWEPT = 2
"""Lowest rungs at which each arm's rate is swept."""
RATES = ((0.006, 0.012, 0.024), *SWEEP)
RATIO = 20
"""Tokens per parameter of the base, at every rung."""
CHOICES = ((4, 1), (5, 1), (5, 2), (6, 2), (7, 2), (7, 3), (8, 3), (9, 3), (10, 3))
"""Rungs and seeds of the lower ones, as the time grows."""


def sweep_jobs(arms: Sequence[str]) -> list[Job]:
    """The sweeps of the learning rate of every arm."""
    pairs = list(zip(LAYOUTS[:SWEPT], RATES, strict=False))
    return [_sweep_job(arm, layout, rate) for arm in arms for layout, rates in pairs for rate in rates]


def _sweep_job(arm: str, layout: Layout, rate: float) -> Job:
    name = f"{arm}_tune_{layout[0]}x{layout[1]}_{rate:g}"
    return Job(name=name, role="tune", layout=layout, learning_rate=rate, ratios=(float(RATIO),), arm=arm)


def wider_sweeps(arms: Sequence[str], rows: Sequence[Row]) -> list[Job]:
    """One more rate for every sweep whose best is the first or last that was tried."""
    jobs = []
    for arm in arms:
        for layout in LAYOUTS[:SWEPT]:
            mine = [r for r in rows if r["arm"] == arm and r["role"] == "tune" and r["width"] == layout[0]]
            tried = sorted(r["lr"] for r in mine)
            best = min(mine, key=lambda r: r["loss"])["lr"]
            if best in (tried[0], tried[-1]):
                jobs.append(_sweep_job(arm, layout, best / 2 if best == tried[0] else best * 2))
    return jobs


def rates_by_arm(arms: Sequence[str], rows: Sequence[Row]) -> dict[str, RateLaw]:
    """Each arm's rate over the base's size outside the embedding."""
    base_size = {layout[0]: float(inner_size(layout)) for layout in LAYOUTS}
    return {
        arm: rates_of(
            [{**r, "params": base_size[r["width"]], "embedding_params": 0.0} for r in rows if r["arm"] == arm]
        )
        for arm in arms
    }


def arm_jobs(arms: Sequence[str], rungs: int, seeds: int, rates: Mapping[str, RateLaw] | None) -> list[Job]:
    """Every arm at every rung with every seed; without ``rates`` only their lengths matter."""
    return [
        Job(
            name=f"{arm}_{layout[0]}x{layout[1]}_seed{seed}", role="rung", layout=layout, ratios=(float(RATIO),), arm=arm,
            learning_rate=rates[arm].rate(inner_size(layout)) if rates else 0.0, seed=seed,
        )
        for number, layout in enumerate(LAYOUTS[:rungs])
        for seed in range(1 if number == rungs - 1 and rungs > 1 else seeds)
        for arm in arms
    ]  # fmt: skip


def choose_comparison(
    minutes: float, arms: Sequence[str], most_seeds: int, rate: Callable[[str, Layout], float], workers: int
) -> tuple[int, int, float]:
    """Rungs, seeds and process-seconds of the largest comparison that fits the minutes.

    Raises:
        UsageError: not even the smallest fits.
    """

    def seconds(jobs: Sequence[Job]) -> list[float]:
        return [expected_seconds([job], lambda layout, arm=job.arm: rate(arm, layout))[0] for job in jobs]

    tuning = seconds(sweep_jobs(arms))
    best: tuple[int, int, float] | None = None
    needed = 0.0
    for rungs, seeds in CHOICES:
        if rungs > len(LAYOUTS):
            break
        runs = seconds(arm_jobs(arms, rungs, min(seeds, most_seeds), None))
        wall = makespan(tuning, workers) + makespan(runs, workers)
        needed = needed or wall
        if wall > 60.0 * minutes:
            break
        best = (rungs, min(seeds, most_seeds), sum(tuning) + sum(runs))
    if best is None:
        raise UsageError(
            f"--minutes (={minutes:g}) is too short to compare {len(arms)} arms here",
            f"{CHOICES[0][0]} sizes up to {size_of(LAYOUTS[CHOICES[0][0] - 1]):,} parameters take about "
            f"{needed / 60:.0f} minutes", f"give at least --minutes {int(1.2 * needed / 60) + 1}",
        )  # fmt: skip
    return best
