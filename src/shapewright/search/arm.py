"""One arm of a search: a family of shapes in one number format, every plan priced, every loss predicted.

Decisions: full attention with dense layers is priced exhaustively. The other families are bounded by a loss that some
candidate is known to reach: a shape that would miss it by more than a tie even at its least step time (:mod:`bound`),
and a plan under which no shape would come near it, are left out and counted, so the choice and its ties are those of
the exhaustive search (a gap of zero). A search that only wants the choice, to guess again from it, bounds every arm.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from shapewright.errors import InfeasibleError
from shapewright.plan.pairs import LocalCosts, Workload, price_local
from shapewright.plan.parallel import Plan
from shapewright.plan.power import cluster_power
from shapewright.plan.table import enumerate_plans
from shapewright.scaling.law import Law, LossPrediction
from shapewright.scaling.repetition import largest_checked
from shapewright.search.bound import Bound, Floor, floor_of, slowest_useful
from shapewright.search.budget import Budget, tokens_bought
from shapewright.search.families import FAMILIES, Family
from shapewright.search.lattice import FFN_RATIOS, NARROW_FFN_RATIOS, Candidates, lattice
from shapewright.search.learning import learned_loss
from shapewright.search.ranking import Arm, tie_width
from shapewright.search.sweep import BOUNDED, Sweep, sweep_plans

Array = NDArray[Any]

SIZE_WINDOW, BOUNDED_WINDOW = 10.0, 4.0
"""Shapes from the guessed best size divided by this to times this are laid out; around the plain family's best size,
which is known by then, the bounded families need less."""
MEMORY_HEADROOM = 0.05
"""Share of the device memory that a design leaves free (kind: assumed)."""
LEAST_WEIGHT_BYTES = 1.0
"""Bytes of a weight in the narrowest format that a run keeps it in."""
TOO_LARGE = "weights and optimizer state alone exceed the memory of all devices"
"""Why a shape of a bounded family was left out that no plan can hold."""
SCOUTS = 12
"""Shapes of a bounded family, the most promising by the bound, that are priced first to find the bar."""


def memory_limit(workload: Workload) -> float:
    """Bytes of a device that a design may use."""
    capacity = workload.cluster.accelerator.memory_capacity
    assert capacity is not None
    return capacity.value * (1 - MEMORY_HEADROOM)


@dataclass(frozen=True, kw_only=True, slots=True)
class Table:
    """What an arm lays out, and what its layers cost."""

    window: float
    """Of the job that it was laid out for."""
    candidates: Candidates
    plans: Plan
    local: LocalCosts


@dataclass(frozen=True, kw_only=True, slots=True)
class Job:
    """What one arm is to price."""

    workload: Workload
    law: Law
    budget: Budget
    batch: int
    """Sequences per step."""
    centre: float
    """Size around which shapes are laid out (active parameters)."""
    vocab: int
    tied: bool
    shape: Mapping[str, int]
    """Pins of the lattice."""
    plan: Mapping[str, int]
    """Pins of the plan."""
    family: Family = FAMILIES["dense"]
    bar: float = float("inf")
    """Best loss known so far."""
    unique_tokens: float | None = None
    """Tokens of the corpus; None where all tokens are fresh."""
    reach: float = SIZE_WINDOW
    """Largest factor around ``centre``."""
    most_params: float = float("inf")
    """Most parameters, all experts counted, that are laid out."""
    hasty: bool = False
    """Only the choice is wanted, not its ties and neighbours."""
    table: Table | None = None
    """Its table, where it was laid out before."""

    @property
    def sizes(self) -> tuple[float, float]:
        """Fewest and most active parameters laid out. Where data repeat, no more than the law of repetition was checked
        for, unless a width is pinned: beyond that models overfit, which the law does not say."""
        top = self.centre * self.window
        if self.unique_tokens is not None and "width" not in self.shape:
            top = min(top, largest_checked(self.unique_tokens))
        return min(self.centre / self.window, top / self.window), top

    @property
    def exhaustive(self) -> bool:
        """Every shape is priced."""
        return self.family.name == "dense" and not self.hasty

    @property
    def window(self) -> float:
        """Factor around ``centre``. A pinned width says what size is wanted; otherwise the law's best size does."""
        if "width" in self.shape:
            return np.inf
        bounded = self.family.name != "dense" and np.isfinite(self.bar)
        return min(self.reach, BOUNDED_WINDOW) if bounded else self.reach


def price_arm(job: Job) -> Arm:
    """Price every pair of the arm that can matter, and ask the law what each shape learns."""
    table = lay_out(job)
    candidates = table.candidates
    if job.exhaustive or not candidates.layer.size:
        return learn(job, candidates, _sweep(job, candidates, table))
    floor = _floor(job, table)
    bar = job.bar if np.isfinite(job.bar) else _scouted(job, table, floor)
    bar += 0.0 if job.hasty else tie_width(bar, job.law)
    useful = slowest_useful(
        lambda step: _losses(job, candidates, _tokens(job, candidates, step)).loss, floor.least, bar
    )
    holds = _can_hold(job, candidates)
    kept = np.flatnonzero((useful > 0) & holds)
    bound = Bound(floor=floor.take(kept), most=useful[kept])
    arm = learn(job, candidates.take(kept), _sweep(job, candidates.take(kept), table, bound))
    too_large = int(np.count_nonzero(~holds)) * len(table.plans)
    left_out = int(np.count_nonzero(holds & (useful <= 0))) * len(table.plans)
    rejected = {
        **arm.sweep.rejected, TOO_LARGE: too_large, BOUNDED: arm.sweep.rejected.get(BOUNDED, 0) + left_out,
    }  # fmt: skip
    return replace(
        arm,
        sweep=replace(
            arm.sweep,
            rejected={rule: count for rule, count in rejected.items() if count},
            num_pairs=candidates.layer.size * len(table.plans),
        ),
    )


def scout(job: Job) -> float:
    """A loss that the arm reaches for certain: the best of its most promising shapes."""
    table = lay_out(job)
    return _scouted(job, table, _floor(job, table)) if table.candidates.layer.size else float("inf")


def _scouted(job: Job, table: Table, floor: Floor) -> float:
    candidates = table.candidates
    best_case = _losses(job, candidates, _tokens(job, candidates, floor.least)).loss
    best_case = np.where(_can_hold(job, candidates), best_case, np.inf)
    rows = np.argsort(best_case, kind="stable")[:SCOUTS]
    few, bound = candidates.take(rows), Bound(floor=floor.take(rows), most=np.full(rows.size, np.inf))
    return float(np.min(learn(job, few, _sweep(job, few, table, bound)).loss))


def _can_hold(job: Job, candidates: Candidates) -> Array:
    """(S,) Whether all devices together have room for the weights in 8 bits and the optimizer's state, which no plan splits
    further; of shapes that are all too large the smallest counts as held, so that what it lacks is said."""
    workload = job.workload
    per_param = LEAST_WEIGHT_BYTES
    if not job.plan.get("offload"):
        per_param += workload.precision.optimizer_bytes * workload.trainable
    holds = candidates.params * per_param <= memory_limit(workload) * workload.cluster.num_devices
    if not holds.any():
        holds[np.argmin(candidates.params)] = True
    return holds


def _floor(job: Job, table: Table) -> Floor:
    return floor_of(table.candidates, table.plans, table.local, job.workload, global_batch=job.batch)


def lay_out(job: Job) -> Table:
    """The table of a job.

    Raises:
        InfeasibleError: no plan satisfies the fixed axes.
    """
    if job.table is not None and job.table.window == job.window:
        return job.table
    workload = job.workload
    smallest, largest = job.sizes
    candidates = lattice(
        workload.cluster.accelerator,
        job.family,
        min_params=smallest,
        max_params=largest,
        vocab_size=job.vocab,
        tied_embeddings=job.tied,
        fixed=job.shape,
        ffn_ratios=(*NARROW_FFN_RATIOS, *FFN_RATIOS) if "mlp_ratio" in job.law.form.inputs else FFN_RATIOS,
    )
    small = np.flatnonzero(candidates.params <= job.most_params)
    if small.size < candidates.layer.size:
        candidates = candidates.compact(small) if small.size else candidates.take(small)
    plans = enumerate_plans(
        workload.cluster, seq_len=workload.seq_len, experts=job.family.experts, fixed=dict(job.plan)
    )
    if not len(plans):
        fixed = ", ".join(f"{name} = {value}" for name, value in job.plan.items())
        raise InfeasibleError(
            f"no plan of {workload.cluster.num_devices:,} devices satisfies {fixed}",
            "the product of the axes must equal the number of devices",
            "free one of the axes, or change the number of devices",
        )
    local = price_local(candidates.layers, plans, workload)
    return Table(window=job.window, candidates=candidates, plans=plans, local=local)


def _sweep(job: Job, candidates: Candidates, table: Table, bound: Bound | None = None) -> Sweep:
    return sweep_plans(
        candidates,
        table.plans,
        job.workload,
        global_batch=job.batch,
        memory_limit=memory_limit(job.workload),
        local=table.local,
        bound=bound,
    )


def learn(job: Job, candidates: Candidates, sweep: Sweep) -> Arm:
    """The tokens that the budget buys each candidate under its fastest plan, and what it learns from them."""
    found = sweep.best >= 0
    tokens = np.where(found, _tokens(job, candidates, sweep.step_time, sweep.model_flops), 0.0)
    prediction = _losses(job, candidates, tokens)
    enough = tokens >= job.batch * job.workload.seq_len
    return Arm(
        family=job.family.name,
        workload=job.workload,
        candidates=candidates,
        sweep=sweep,
        tokens=tokens,
        prediction=prediction,
        loss=np.where(found & enough, prediction.loss, np.inf),
    )


def _tokens(job: Job, candidates: Candidates, step_time: Array, model_flops: Array | None = None) -> Array:
    """Tokens that the budget buys; without ``model_flops`` at least 6 FLOP per active inner parameter and token."""
    batch_size = float(job.batch * job.workload.seq_len)
    power = cluster_power(job.workload.cluster)
    least = 6.0 * (candidates.active_params - candidates.embedding_params)
    return tokens_bought(
        job.budget,
        job.workload.cluster,
        step_time=step_time,
        batch_tokens=np.asarray(batch_size),
        flops_per_token=least if model_flops is None else model_flops / batch_size,
        power=np.asarray(power.value if power else np.inf),
    )


def _losses(job: Job, candidates: Candidates, tokens: Array) -> LossPrediction:
    return learned_loss(
        job.law,
        candidates.traits,
        tokens=np.maximum(tokens, 1.0),
        number_format=job.workload.precision.matmul_format,
        unique_tokens=job.unique_tokens,
    )
