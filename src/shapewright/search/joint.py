"""Shape, plan and tokens together: the lowest predicted loss that a budget buys.

The loop: guess the compute, lay out shapes around the size that the law finds best for it, price every
(shape, plan) pair, let each shape's fastest plan say how many tokens the budget buys, and ask the law for
the loss. The batch size depends on the tokens and the tokens on the step, so the loop runs again with the
batch of its own answer until that stands.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

import numpy as np

from shapewright.cost.price import cost_model
from shapewright.errors import InfeasibleError, NotCoveredError
from shapewright.hardware.cluster import Cluster
from shapewright.plan.framework import default_framework, find_framework
from shapewright.plan.pairs import Workload
from shapewright.plan.parallel import Plan, enumerate_plans
from shapewright.plan.power import cluster_power
from shapewright.plan.precision import PRECISIONS, Precision, default_precision, find_precision
from shapewright.scaling.law import Law, default_law, load_law
from shapewright.scaling.recipe import batch_tokens, default_recipe_law
from shapewright.search.budget import Budget, tokens_bought
from shapewright.search.guess import (
    USUAL_SEQ_LEN,
    best_size,
    default_seq_len,
    default_vocab,
    guess_flops,
    round_batch,
)
from shapewright.search.lattice import Candidates, dense_lattice
from shapewright.search.learning import learned_loss, mixer_shares
from shapewright.search.ranking import Arm, Ranking
from shapewright.search.sweep import sweep_plans
from shapewright.units import format_count, format_quantity

SIZE_WINDOW = 10.0
"""Shapes from the guessed best size divided by this to times this are laid out."""
MEMORY_HEADROOM = 0.05
"""Share of the device memory that a design leaves free (kind: assumed)."""
MAX_ROUNDS = 4
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
    shape: Mapping[str, int] = field(default_factory=dict)
    """Pins of the lattice: width, depth, heads, kv_heads, head_dim, ffn_size."""
    plan: Mapping[str, int] = field(default_factory=dict)
    """Pins of the plan."""


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
        return (find_precision(options.precision),)
    names = [usual.name]
    if accelerator.device_class == "cpu" and usual.name != "fp32":
        names.append("fp32")
    if options.precision == AUTO:
        names += [
            name
            for name, p in PRECISIONS.items()
            if p.matmul_format in accelerator.peak_flops
            and accelerator.peak(p.matmul_format) > accelerator.peak(usual.matmul_format)
        ]
    return tuple(PRECISIONS[name] for name in names)


def workload_for(cluster: Cluster, options: Options) -> Workload:
    """The cost model, precision and sequence length of a request."""
    accelerator = cluster.accelerator
    named = options.precision not in (None, AUTO)
    precision = find_precision(str(options.precision)) if named else default_precision(accelerator)
    accelerator.peak(precision.matmul_format)
    if accelerator.memory_capacity is None:
        raise NotCoveredError(
            f"the memory of {accelerator.name} is unknown",
            "a design must fit it",
            "state it: --set memory_capacity=80GB",
        )
    return Workload(
        cluster=cluster,
        model=cost_model(accelerator),
        precision=precision,
        framework=find_framework(options.framework) if options.framework else default_framework(accelerator),
        seq_len=options.seq_len or USUAL_SEQ_LEN,
    )


def memory_limit(workload: Workload) -> float:
    """Bytes of a device that a design may use."""
    capacity = workload.cluster.accelerator.memory_capacity
    assert capacity is not None
    return capacity.value * (1 - MEMORY_HEADROOM)


def rank(cluster: Cluster, budget: Budget, options: Options) -> Ranking:
    """Rank every aligned shape by the loss that the budget buys.

    Raises:
        InfeasibleError: no (shape, plan) pair fits; with counts by reason.
    """
    workload = workload_for(cluster, options)
    flops = guess_flops(budget, workload)
    workload = replace(workload, seq_len=options.seq_len or default_seq_len(flops))
    workloads = [replace(workload, precision=p) for p in search_precisions(cluster, options)]
    vocab = options.vocab_size or default_vocab(flops)
    law = load_law(options.law) if options.law else default_law(flops=flops, vocab_size=vocab)
    batch_law, _ = default_recipe_law(law)
    centre = best_size(law, flops)
    plans = enumerate_plans(cluster, seq_len=workload.seq_len, fixed=dict(options.plan))
    tokens_guess, batch = flops / (6 * centre), 0
    ranking: Ranking | None = None
    for _ in range(MAX_ROUNDS):
        wanted = options.global_batch or round_batch(
            float(batch_tokens(tokens=tokens_guess, law=batch_law)) / workload.seq_len, cluster
        )
        if ranking is not None and wanted == batch:
            break
        batch = wanted
        candidates = _lay_out(workload, options, centre, vocab)
        arms = tuple(_arm(item, law, budget, candidates, plans, batch) for item in workloads)
        ranking = Ranking(law=law, arms=arms, global_batch=batch)
        if not ranking.order.size:
            raise _infeasible(ranking)
        tokens_guess = float(ranking.tokens[ranking.best])
        centre = float(ranking.params[ranking.best])
    assert ranking is not None
    return ranking


def _lay_out(workload: Workload, options: Options, centre: float, vocab: int) -> Candidates:
    # A pinned width says what size is wanted; otherwise the law's best size does.
    window = np.inf if "width" in options.shape else SIZE_WINDOW
    tied = options.tied_embeddings if options.tied_embeddings is not None else centre < 1e9
    candidates = dense_lattice(
        workload.cluster.accelerator,
        min_params=centre / window,
        max_params=centre * window,
        vocab_size=vocab,
        tied_embeddings=tied,
        fixed=dict(options.shape),
    )
    if not candidates.layer.size:
        raise InfeasibleError(
            "no shape satisfies the constraints",
            f"fixed: {dict(options.shape)}; sizes from {format_count(centre / window)} to "
            f"{format_count(centre * window)} parameters",
            "free one of them, or fix the width too",
        )
    return candidates


def _arm(
    workload: Workload, law: Law, budget: Budget, candidates: Candidates, plans: Plan, batch: int
) -> Arm:
    """Price every pair of one family in one number format, and ask the law what each learns."""
    cluster, batch_size = workload.cluster, batch * workload.seq_len
    sweep = sweep_plans(candidates, plans, workload, global_batch=batch, memory_limit=memory_limit(workload))
    found = sweep.best >= 0
    power = cluster_power(cluster)
    bought = tokens_bought(
        budget,
        cluster,
        step_time=sweep.step_time,
        batch_tokens=np.asarray(batch_size, float),
        flops_per_token=sweep.model_flops / batch_size,
        power=np.asarray(power.value if power else np.inf),
    )
    tokens = np.where(found, bought, 0.0)
    prediction = learned_loss(
        law,
        params=candidates.params,
        active_params=candidates.active_params,
        embedding_params=candidates.embedding_params,
        tokens=np.maximum(tokens, 1.0),
        width=candidates.column(candidates.layers.hidden_size),
        depth=candidates.depth,
        shares=mixer_shares(candidates.layers),
        precision=workload.precision.name,
    )
    return Arm(
        family="dense",
        workload=workload,
        candidates=candidates,
        sweep=sweep,
        tokens=tokens,
        prediction=prediction,
        loss=np.where(found & (tokens >= batch_size), prediction.loss, np.inf),
    )


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
