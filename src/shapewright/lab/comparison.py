"""What a ladder of several arms runs: each arm's rates at the lowest rungs, then all rungs, seeds and arms.

Decisions: at a rung all arms see the same bytes in the same order, for the tokens per parameter of the base, so that
differences are paired. Every arm's rate is swept at its lowest rungs and carried upward by a power of size fitted to its
own sweeps. A run is judged at several lengths, each a cooldown of its own off the constant phase (``lab/rungs.py``):
half the length costs a tenth more and says whether a gain holds for models trained less. The top rung is run once, the
others with every seed. More rungs come before more seeds until a verdict is possible at all, for the slope is what is
asked; then lengths of twice the tokens.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from shapewright.errors import UsageError
from shapewright.lab.rungs import (
    BATCH,
    BRANCH_FACTOR,
    RUNGS,
    SEQ_LEN,
    SHORTEST,
    SWEEP,
    TUNE_RATIO,
    Job,
    Layout,
    PaceOf,
    RateLaw,
    Row,
    inner_size,
    rates_of,
    size_of,
    span_of,
)

LAYOUTS: tuple[Layout, ...] = ((16, 2, 8), *RUNGS)
SWEPT = 2
"""Lowest rungs at which each arm's rate is swept."""
RATES = ((0.006, 0.012, 0.024), *SWEEP)
LEAST_STEPS = 150
"""A branch of fewer steps says more about the warm-up than about the model, and is left out."""
CHOICES = (
    (4, 1, 20), (5, 1, 20), (5, 2, 20), (5, 3, 20), (6, 2, 20), (6, 3, 20), (6, 3, 40), (7, 2, 20), (7, 3, 20),
    (7, 3, 40), (8, 2, 20), (8, 3, 40), (9, 3, 20), (9, 3, 40), (10, 3, 40),
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


def sweep_jobs(arms: Sequence[str]) -> list[Job]:
    """The sweeps of the learning rate of every arm."""
    pairs = list(zip(LAYOUTS[:SWEPT], RATES, strict=False))
    return [_sweep_job(arm, layout, rate) for arm in arms for layout, rates in pairs for rate in rates]


def _sweep_job(arm: str, layout: Layout, rate: float) -> Job:
    name = f"{arm}_tune_{layout[0]}x{layout[1]}_{rate:g}"
    return Job(
        name=name, role="tune", layout=layout, learning_rate=rate, ratios=(float(TUNE_RATIO),), arm=arm
    )


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
        UsageError: not even the smallest fits.
    """
    tuning, own = (0.0, 0.0) if swept else span_of(sweep_jobs(arms), pace, workers)
    best: tuple[int, int, int, float] | None = None
    needed = 0.0
    for rungs, wanted, longest in CHOICES:
        if rungs > len(LAYOUTS):
            break
        seeds = min(wanted, most_seeds)
        runs, total = span_of(arm_jobs(arms, rungs, seeds, longest, None), pace, workers)
        needed = needed or tuning + runs
        if tuning + runs > seconds:
            break
        best = (rungs, seeds, longest, own + total)
    if best is None:
        raise UsageError(
            f"--minutes (={seconds / 60:.3g}) is too short to compare {len(arms)} arms here",
            f"{CHOICES[0][0]} sizes up to {size_of(LAYOUTS[CHOICES[0][0] - 1]):,} parameters take about "
            f"{needed / 60:.1f} minutes", f"give at least --minutes {int(1.2 * needed / 60) + 1}",
        )  # fmt: skip
    return best
