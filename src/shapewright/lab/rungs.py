"""What a ladder runs: sizes, sweeps, branches, and how much of them fits some minutes.

Decisions: the rate is tuned at the smallest rungs and follows a power of size above them. Every rung trains once at
a constant rate; at 80 % of each of its lengths (10, 20, 40... tokens per parameter) a branch decays to zero over the
last 20 % and is judged (Haegele et al. 2024, arXiv 2405.18392), so one run gives several points. The longest length
of every rung has about as many tokens as the top rung's. Beside the rungs stand shapes of about the same size but
other width over depth, for the shape factor.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from shapewright.architecture.graph import num_params
from shapewright.architecture.shape import Block, DenseFFN, SelfAttention, Shape
from shapewright.lab.corpus import VOCAB_SIZE
from shapewright.lab.energy import Power
from shapewright.scaling.ladder_recipe import RateLaw, fit_rate_law

Role = Literal["tune", "rung", "shape"]
Layout = tuple[int, int, int]
"""(width, depth, head_dim)."""
Row = dict[str, Any]
"""A finished branch, by column."""

RUNGS: tuple[Layout, ...] = (
    (24, 3, 8), (32, 4, 16), (48, 4, 16), (64, 5, 32), (96, 4, 32), (128, 5, 64), (160, 6, 32), (192, 9, 64),
    (256, 9, 64),
)  # fmt: skip
"""Sizes about a factor of two apart, 27 thousand to 7 million parameters."""
SWEEP = ((0.004, 0.008, 0.016), (0.0025, 0.005, 0.01), (0.0015, 0.003, 0.006))
"""Learning rates tried at the lowest rungs, for batches of 1,024 tokens."""
OTHER_SHAPES: tuple[Layout, ...] = ((24, 7, 8), (40, 3, 8), (48, 2, 16), (64, 1, 32))
"""Shapes near the size of the second rung with other width over depth."""
TUNE_RATIO = 20
SHORTEST, BRANCH_FACTOR = 10, 2
"""Tokens per parameter of the shortest branch, and the factor between branches."""
TOP_RATIOS = (10, 20)
"""Tokens per parameter of the longest branch of the top rung, the shorter ladder first; other rungs see about as
many tokens as the top rung."""
DECAY = 0.2
JUDGED = 512 * 256
"""Held-out tokens that judge a branch (``lab.corpus.judged_windows``); a forward pass costs a third of a step."""
SEQ_LEN, BATCH = 256, 4
"""Small batches, since small models are short of steps (benchmarks/LOG.md)."""
MOST_WIDER = 3
"""Times a sweep whose best rate is its first or last is widened by one rate."""
LEAST_RUNGS = 4
"""Fewer sizes than this fix no law."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Job:
    """One run at a constant rate with its branches."""

    name: str
    role: Role
    layout: Layout
    learning_rate: float
    ratios: tuple[float, ...]
    """Tokens per parameter (of the base at this layout) of each branch, ascending."""
    seed: int = 0
    arm: str = "transformer"
    """What is built at the layout: a name of ``lab.arms``."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Pace:
    """How fast one arm trains at one layout, in seconds of its process."""

    arm: str
    layout: Layout
    tokens_per_s: float


PaceOf = Callable[[str, Layout], Pace]
"""The pace of an arm at a layout."""


class TooShortError(Exception):
    """Not even the smallest ladder fits."""

    def __init__(self, what: str, needed: float) -> None:
        """``what`` the smallest is, and the seconds it needs."""
        super().__init__(what)
        self.what, self.needed = what, needed


@dataclass(frozen=True, kw_only=True, slots=True)
class Plan:
    """What a ladder will run; kept in its folder, so that it can go on."""

    top: int
    """Index of the largest rung."""
    top_ratio: int
    """Tokens per parameter of its longest branch."""
    data: str | None
    """The corpus: a path, or None for the standard library."""
    digest: str
    """Of the corpus."""
    expected_seconds: float
    """Process-seconds that the runs were expected to take."""
    minutes: float
    arms: tuple[str, ...] = ()
    """Arms that are compared, the base first; none where the ladder is for a law."""
    seeds: int = 1
    """Seeds of every rung but the top one, where arms are compared."""
    swept: int = 2
    """Sizes at which each arm's rate is swept."""
    most_seeds: int = 1
    """Seeds that were asked for at most."""
    paces: tuple[Pace, ...] = ()
    """What was timed before the ladder began."""
    power: Power | None = None
    """Where joules come from; None where they are unknown."""
    device: str = "cpu"
    """Where its runs are: ``cpu``, one thread each, or ``cuda``, one device each."""
    settled: bool = False
    """Whether the rungs are fixed; before the sweeps are done they may still change with the time that is left."""
    note: str = ""
    """What changed since the ladder was planned, and why; empty where nothing did."""


def ladder_shape(layout: Layout) -> Shape:
    """A byte model of the layout: rotary, RMSNorm, SwiGLU of 8/3 width, tied embedding."""
    width, depth, head_dim = layout
    heads = width // head_dim
    return Shape(
        name=f"{width}x{depth}", vocab_size=VOCAB_SIZE, hidden_size=width, tied_embeddings=True,
        blocks=(
            Block(mixer=SelfAttention(heads=heads, kv_heads=heads, head_dim=head_dim),
                  channel=DenseFFN(ffn_size=max(round(width * 8 / 3 / 8), 1) * 8), count=depth),
        ),
    )  # fmt: skip


def size_of(layout: Layout) -> int:
    """Parameters of a layout."""
    return int(num_params(ladder_shape(layout)))


def inner_size(layout: Layout) -> int:
    """Parameters outside the embedding, by which learning rates follow."""
    return size_of(layout) - VOCAB_SIZE * layout[0]


def ratios_of(layout: Layout, top: Layout, top_ratio: int) -> tuple[float, ...]:
    """Tokens per parameter of a rung's branches: doubling up to about the top rung's tokens."""
    longest = top_ratio * size_of(top) / size_of(layout)
    found, ratio = [], float(SHORTEST)
    # Somewhat more than the top's tokens is let through: sizes are not exactly a factor of two apart.
    while ratio <= 1.15 * longest:
        found.append(ratio)
        ratio *= BRANCH_FACTOR
    return tuple(found)


def tuning_jobs() -> list[Job]:
    """The sweeps of the learning rate."""
    return [_tuning_job(layout, rate) for layout, rates in zip(RUNGS, SWEEP, strict=False) for rate in rates]


def _tuning_job(layout: Layout, rate: float) -> Job:
    name = f"tune_{layout[0]}x{layout[1]}_{rate:g}"
    return Job(name=name, role="tune", layout=layout, learning_rate=rate, ratios=(float(TUNE_RATIO),))


def wider_jobs(rows: Sequence[Row]) -> list[Job]:
    """One more rate for every sweep whose best is the first or last that was tried."""
    jobs = []
    for layout in RUNGS[: len(SWEEP)]:
        mine = [row for row in rows if row["role"] == "tune" and row["params"] == size_of(layout)]
        tried = sorted(row["lr"] for row in mine)
        best = min(mine, key=lambda row: row["loss"])["lr"]
        if best in (tried[0], tried[-1]):
            jobs.append(_tuning_job(layout, best / 2 if best == tried[0] else best * 2))
    return jobs


def rung_jobs(top: int, top_ratio: int, rates: RateLaw | None) -> list[Job]:
    """The rungs and the other shapes; without ``rates`` only their lengths matter."""

    def job(layout: Layout, role: Role, ratios: tuple[float, ...]) -> Job:
        rate = rates.rate(inner_size(layout)) if rates else 0.0
        return Job(
            name=f"{role}_{layout[0]}x{layout[1]}",
            role=role,
            layout=layout,
            learning_rate=rate,
            ratios=ratios,
        )

    rungs = [job(layout, "rung", ratios_of(layout, RUNGS[top], top_ratio)) for layout in RUNGS[: top + 1]]
    return [*rungs, *(job(layout, "shape", (float(TUNE_RATIO),)) for layout in OTHER_SHAPES)]


def tokens_of(job: Job) -> float:
    """Tokens that a job trains on: the constant phase, and every branch's decay."""
    size = size_of(job.layout)
    return size * ((1 - DECAY) * max(job.ratios) + DECAY * sum(job.ratios))


def ordered(jobs: Sequence[Job]) -> list[Job]:
    """First seeds before second ones, and the longest first: what time cuts off is what is missed least."""
    return sorted(jobs, key=lambda job: (job.seed, -tokens_of(job) * size_of(job.layout)))


def seconds_of(job: Job, pace: PaceOf) -> float:
    """Process-seconds that a job is expected to take: its steps, and the judging of every branch."""
    judged = JUDGED / 3.0 * len(job.ratios)
    return (tokens_of(job) + judged) / pace(job.arm, job.layout).tokens_per_s


def makespan(seconds: Sequence[float], workers: int) -> float:
    """Seconds until ``workers`` have done the jobs, begun in this order."""
    loads = [0.0] * workers
    for one in seconds:
        loads[loads.index(min(loads))] += one
    return max(loads)


def span_of(jobs: Sequence[Job], pace: PaceOf, workers: int) -> tuple[float, float]:
    """Seconds until the jobs are done, and process-seconds of all."""
    seconds = [seconds_of(job, pace) for job in ordered(jobs)]
    return makespan(seconds, workers), sum(seconds)


def choose_top(seconds: float, pace: PaceOf, workers: int, *, swept: bool = False) -> tuple[int, int, float]:
    """The largest rung whose ladder fits, its tokens per parameter, and the process-seconds.

    Args:
        seconds: time for all of it.
        pace: of the base at each layout.
        workers: processes.
        swept: whether the sweeps are done already.

    Raises:
        TooShortError: not even the shortest ladder fits.
    """
    tuning, own = (0.0, 0.0) if swept else span_of(tuning_jobs(), pace, workers)
    best: tuple[int, int, float] | None = None
    needed = 0.0
    for top, ratio in itertools.product(range(LEAST_RUNGS - 1, len(RUNGS)), TOP_RATIOS):
        rungs, total = span_of(rung_jobs(top, ratio, None), pace, workers)
        needed = needed or tuning + rungs
        if tuning + rungs > seconds:
            break
        best = (top, ratio, own + total)
    if best is None:
        raise TooShortError(
            f"{LEAST_RUNGS} sizes up to {size_of(RUNGS[LEAST_RUNGS - 1]):,} parameters", needed
        )
    return best


def rates_of(rows: Sequence[Row]) -> RateLaw:
    """The rate over the size outside the embedding, from the tuning rows."""
    sweeps = {}
    swept = [row for row in rows if row["role"] == "tune"]
    for size in sorted({row["params"] - row["embedding_params"] for row in swept}):
        mine = [row for row in swept if row["params"] - row["embedding_params"] == size]
        sweeps[float(size)] = (np.array([r["lr"] for r in mine]), np.array([r["loss"] for r in mine], float))
    return fit_rate_law(sweeps)
