"""Shape, plan and tokens together: the lowest predicted loss that a budget buys.

The loop: guess the compute, lay out shapes around the size that the law finds best for it, price every
(shape, plan) pair, let each shape's fastest plan say how many tokens the budget buys, and ask the law for
the loss. The batch size depends on the tokens and the tokens on the step, so the loop runs again with the
batch of its own answer until that stands; where two batches lead to each other, the one with the lower loss is taken.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from shapewright.cost.device import peak_of
from shapewright.cost.price import Level, cost_model
from shapewright.errors import InfeasibleError, UnknownFigureError, UsageError
from shapewright.hardware.cluster import Cluster
from shapewright.plan.framework import default_framework, find_framework
from shapewright.plan.modes import Modes, with_modes, with_optimizer
from shapewright.plan.pairs import Workload
from shapewright.plan.precision import PRECISIONS, Precision, default_precision, find_precision
from shapewright.scaling.law import default_law, load_law
from shapewright.scaling.recipe import batch_tokens, default_recipe_law
from shapewright.search.arm import SIZE_WINDOW, Job, lay_out, memory_limit, price_arm, scout
from shapewright.search.budget import Budget
from shapewright.search.coverage import covered
from shapewright.search.engine import run_tasks, session
from shapewright.search.families import families
from shapewright.search.guess import (
    USUAL_SEQ_LEN,
    best_size,
    default_seq_len,
    default_vocab,
    guess_flops,
    round_batch,
)
from shapewright.search.ranking import Ranking
from shapewright.search.serve import ServingLimits, within
from shapewright.units import format_count, format_quantity

Found = tuple[Ranking, list[Job]]
"""What a round found, and its jobs with their tables."""
MAX_ROUNDS = 6
"""Rounds whose batches all differ before the last is taken as it is; a batch that comes again ends the search."""
UNTIED_FROM = 1e9
"""Best size from which on embedding and head are two tables (kind: assumed; below it a second table is a large part of the
model). Laws that count all parameters take the second table for size: .016 to .02 of loss where it begins."""
NEAR_WINDOW = 4.0
"""As ``SIZE_WINDOW`` where similar hardware gave the guess; a best size off by a factor of two widens it again."""
AUTO = "auto"
"""A number format that the search chooses."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Options:
    """What the user may fix; None leaves it to the search or to a stated default."""

    seq_len: int | None = None
    """Tokens per sequence; None for ``default_seq_len``."""
    vocab_size: int | None = None
    tied_embeddings: bool | None = None
    precision: str | None = None
    """A number format, or ``auto`` for every one that the device multiplies in; None for ``search_precisions``."""
    framework: str | None = None
    """Whose overheads a step carries; None for ``default_framework``."""
    law: str | None = None
    global_batch: int | None = None
    """Sequences per step."""
    level: Level = "physics"
    """``residual`` corrects the physics of kernels by the installed measured tables."""
    shape: Mapping[str, int] = field(default_factory=dict)
    """Pins of the lattice: width, depth, heads, kv_heads, head_dim, ffn_size."""
    plan: Mapping[str, int] = field(default_factory=dict)
    """Pins of the plan."""
    family: str = "dense"
    """What to lay out: ``dense``, ``moe``, ``hybrid``, ``all``, or one family (``families.FAMILIES``)."""
    modes: Modes = field(default_factory=Modes)
    """How the run trains: optimizer, adapters, imbalance of experts, CUDA graphs."""
    serving: ServingLimits | None = None
    """What the design must not exceed when it is served; None for no limit."""
    engine: str = "local"
    """Where arms are priced: ``local`` or ``ray``; the answer is the same."""
    unique_tokens: float | None = None
    """Tokens of the corpus, which training repeats where it reads more of them; None where all tokens are fresh."""

    def __post_init__(self) -> None:
        if self.unique_tokens is not None and not 0 < self.unique_tokens < float("inf"):
            raise UsageError(
                f"unique_tokens (={self.unique_tokens:g}) must be positive and finite",
                "a corpus has tokens",
                "for example: --unique-tokens 300B; leave it out where data do not repeat",
            )


def search_precisions(cluster: Cluster, options: Options) -> tuple[Precision, ...]:
    """Number formats that a search prices.

    The one asked for; with ``auto`` every one that the device has a peak for and that is no slower than its default on
    paper. Without a word the device's default, and on a processor fp32 beside it: there narrow formats cost small
    products more than they save.
    """
    accelerator = cluster.accelerator
    usual = default_precision(accelerator) if options.precision in (None, AUTO) else None
    if usual is None:
        assert options.precision is not None
        return (with_optimizer(find_precision(options.precision), options.modes.optimizer),)
    names = [usual.name]
    if accelerator.device_class == "cpu" and usual.name != "fp32":
        names.append("fp32")
    if options.precision == AUTO:
        names += [
            name
            for name, p in PRECISIONS.items()
            # Recipes of one format differ in more than speed; the plain one stands for it.
            if name == p.matmul_format
            and name in accelerator.peak_flops
            and accelerator.peak(p.matmul_format) > accelerator.peak(usual.matmul_format)
        ]
    return tuple(with_optimizer(PRECISIONS[name], options.modes.optimizer) for name in names)


def workload_for(cluster: Cluster, options: Options, *, hidden_size: float | None = None) -> Workload:
    """The cost model, precision, sequence length and modes of a request; adapters need the ``hidden_size`` of the model."""
    accelerator = cluster.accelerator
    named = options.precision not in (None, AUTO)
    precision = find_precision(str(options.precision)) if named else default_precision(accelerator)
    peak_of(accelerator, precision.matmul_format)
    if accelerator.memory_capacity is None:
        raise UnknownFigureError("memory", accelerator.name, "a design must fit it", "memory_capacity=80GB")
    workload = Workload(
        cluster=cluster,
        model=cost_model(accelerator, options.level),
        precision=precision,
        framework=find_framework(options.framework) if options.framework else default_framework(accelerator),
        seq_len=options.seq_len or USUAL_SEQ_LEN,
    )
    return with_modes(workload, options.modes, hidden_size)


def rank(cluster: Cluster, budget: Budget, options: Options, *, near: Ranking | None = None) -> Ranking:
    """Rank every aligned shape by the loss that the budget buys.

    Args:
        cluster: the hardware.
        budget: what is spent.
        options: what the user fixes.
        near: the ranking of similar hardware, whose tokens and size are the first guess: such searches look less far
            around and most end after one round. Where the guess was poor the search starts again without it.

    Raises:
        InfeasibleError: no (shape, plan) pair fits; with counts by reason.
        NotCoveredError: no family that was asked for can be priced on this hardware.
    """
    with session(options.engine):
        return _rank(cluster, budget, options, near)


def _rank(cluster: Cluster, budget: Budget, options: Options, near: Ranking | None) -> Ranking:
    workload = workload_for(cluster, options)
    flops = guess_flops(budget, workload)
    workload = replace(workload, seq_len=options.seq_len or default_seq_len(flops))
    vocab = options.vocab_size or default_vocab(flops)
    law = load_law(options.law) if options.law else default_law(flops=flops, vocab_size=vocab)
    batch_law, _ = default_recipe_law(law)
    centre = best_size(law, flops, options.unique_tokens)
    # By the law's best size, so that it hangs on the request alone: the rounds and a neighbour's answer may differ.
    tied = options.tied_embeddings if options.tied_embeddings is not None else centre < UNTIED_FROM
    workloads = [replace(workload, precision=each) for each in search_precisions(cluster, options)]
    pairs, left_out = covered(families(options.family), workloads)
    first = [pair for pair in pairs if pair[0] is pairs[0][0]]
    tokens = flops / (6 * centre)
    if near is not None:
        # Size and tokens both grow about as the root of compute (Hoffmann et al. 2022).
        grown = (flops / guess_flops(budget, near.workload)) ** 0.5
        tokens, centre = float(near.tokens[near.best]) * grown, float(near.active_params[near.best]) * grown
    ranking, jobs = None, []
    # The plain family first: it is quick, finds the batch, and bounds what the others must reach.
    for chosen in [first, pairs] if len(pairs) > len(first) else [pairs]:
        tried: dict[int, Found] = {}
        while True:
            batch = options.global_batch or round_batch(
                float(batch_tokens(tokens=tokens, law=batch_law)) / workload.seq_len, cluster
            )
            most = MAX_ROUNDS if chosen is first or len(pairs) == len(first) else 2
            if _settled(tried, batch, near=near is not None, most=most):
                break
            job = Job(
                workload=workload, law=law, budget=budget, batch=batch, centre=centre, vocab=vocab, tied=tied,
                shape=options.shape, plan=options.plan, unique_tokens=options.unique_tokens,
                reach=SIZE_WINDOW if near is None else NEAR_WINDOW,
            )  # fmt: skip
            jobs = [replace(job, family=family, workload=one) for family, one in chosen]
            tried[batch] = _rank_once(jobs, options.engine, hasty=near is None)
            tokens, centre = _of_choice(tried[batch][0])
            if near is not None and not 0.5 < centre / job.centre < 2.0:
                # The neighbour was no guide: look everywhere.
                return _rank(cluster, budget, options, None)
        ranking, jobs = best_of_cycle(tried, batch)
        tokens, centre = _of_choice(ranking)
    assert ranking is not None
    if near is None:
        # Until the guess stood only the choice was wanted; now its ties and neighbours are.
        ranking, _ = _rank_once(jobs, options.engine, known=float(ranking.loss[ranking.best]))
    ranking = replace(ranking, left_out={name: error.what for name, error in left_out.items()})
    return within(ranking, options.serving) if options.serving else ranking


def _of_choice(ranking: Ranking) -> tuple[float, float]:
    """Tokens and size of the choice, from which the next round is guessed."""
    return float(ranking.tokens[ranking.best]), float(ranking.active_params[ranking.best])


def _settled(tried: dict[int, Found], batch: int, *, near: bool, most: int) -> bool:
    """No further round is wanted: this batch was tried, or enough were.

    Beside a neighbour's answer a batch a step or two from the law's own will do: it costs nothing that the law sees, and
    spares a search.
    """
    if not tried:
        return False
    last = next(reversed(tried))
    return batch in tried or len(tried) >= most or (near and 2 / 3 <= batch / last <= 1.5)


def best_of_cycle(tried: dict[int, Found], wanted: int) -> Found:
    """The round that answers itself; where rounds lead to each other in a circle, the one of them with the lowest loss.

    Args:
        tried: the rounds in their order, by batch.
        wanted: the batch that the last of them asks for.
    """
    order = list(tried)
    circle = order[order.index(wanted) :] if wanted in tried else order[-1:]
    return min((tried[key] for key in circle), key=lambda found: float(found[0].loss[found[0].best]))


def _rank_once(
    jobs: Sequence[Job], engine: str, *, hasty: bool = False, known: float = np.inf
) -> tuple[Ranking, list[Job]]:
    """Price the jobs; they come back with their tables.

    Args:
        jobs: one for each family and format.
        engine: where they are priced.
        hasty: only the choice is wanted.
        known: a loss that one of them is known to reach.
    """
    plain, other = (
        [item for item in jobs if (item.family.name == "dense") is dense] for dense in (True, False)
    )
    plain = _with_tables([replace(item, hasty=hasty) for item in plain], engine)
    arms = run_tasks(engine, price_arm, plain)
    scouted = np.isfinite(known)
    known = min([known, *(float(np.min(arm.loss, initial=np.inf)) for arm in arms)])
    other = _with_tables([replace(item, hasty=hasty, bar=known) for item in other], engine)
    bar = known if scouted else min([known, *run_tasks(engine, scout, other)])
    arms += run_tasks(engine, price_arm, [replace(item, bar=bar) for item in other])
    job = jobs[0]
    ranking = Ranking(law=job.law, arms=tuple(arms), global_batch=job.batch, unique_tokens=job.unique_tokens)
    if not ranking.num_shapes:
        raise InfeasibleError(
            "no shape satisfies the constraints",
            f"fixed: {dict(job.shape)}; sizes from {' to '.join(map(format_count, job.sizes))} parameters",
            "free one of them, or fix the width too",
        )
    if not ranking.order.size:
        if hasty:
            # The counts of what was refused are those of every pair.
            return _rank_once(jobs, engine)
        raise _infeasible(ranking)
    return ranking, [*plain, *other]


def _with_tables(jobs: Sequence[Job], engine: str) -> list[Job]:
    """The jobs with their tables; elsewhere a table is laid out where it is priced, not sent there."""
    return [replace(item, table=lay_out(item)) if engine == "local" else item for item in jobs]


def _infeasible(ranking: Ranking) -> InfeasibleError:
    fitting = [arm for arm in ranking.arms if np.any(arm.sweep.best >= 0)]
    if fitting:
        return InfeasibleError(
            f"the budget ends before one step of {format_count(ranking.global_batch * fitting[0].workload.seq_len)} tokens",
            f"the fastest step takes {format_quantity(min(float(np.min(a.sweep.step_time)) for a in fitting), 's')}",
            "give a larger budget, or a smaller --batch",
        )
    rejected = ranking.rejected
    counts = "\n".join(
        f"{count:>12,} {rule}" for rule, count in sorted(rejected.items(), key=lambda x: -x[1])
    )
    fix = "free a fixed axis of the plan, change the number of devices, or the batch with --batch"
    reachable = [arm for arm in ranking.arms if np.any(arm.sweep.leanest >= 0)]
    if reachable:
        arm = min(reachable, key=lambda a: float(np.min(a.sweep.memory)))
        near = int(np.argmin(arm.sweep.memory))
        candidates, sweep = arm.candidates, arm.sweep
        fix = (
            f"nearest: {candidates.shape(near).name} ({format_count(float(candidates.params[near]))} parameters) under "
            f"{sweep.plans.row(int(sweep.leanest[near])).describe()}: needs "
            f"{format_quantity(float(sweep.memory[near]), 'B')} of "
            f"{format_quantity(memory_limit(arm.workload), 'B')} per device\n"
            "try: more devices, --precision, or a smaller model"
        )
    return InfeasibleError(
        f"no design fits: {ranking.num_pairs:,} (shape, plan) pairs", counts, fix, rejected
    )
