"""Known models against our choice for the same hardware and the same time: a comparison of predictions.

Decisions: the budget is the time that *our* cost model gives their shape under its fastest plan on their hardware, so an
error that both share cancels; published hours stand beside it. Vocabulary, sequence length and number format are the same
for both, since a loss per token has no meaning across vocabularies. Ours is searched twice: freely, and no larger than
theirs (all and active parameters), which is the fair one for models that were made small for those who serve them. Models
with experts are met by dense shapes and by mixtures as sparse as they are, latent attention by its family, Mamba-2 by
hybrids. What a choice saves is the device time with which it reaches *their predicted* loss.

Not seen: their data (one law's corpus for all), repeated data, loss spikes, restarts, their own kernels, schedules (both are
priced under 1F1B, plain or interleaved) and formats (fp8 of DeepSeek-V3), the wishes of serving beyond size, and everything
that a loss does not measure. Most lie far outside the law's range.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from shapewright.architecture.catalog import load_model
from shapewright.architecture.graph import num_active_params, num_params
from shapewright.architecture.shape import DenseFFN, ExpertsFFN, LatentAttention, Mamba2, Shape
from shapewright.designs.breakdown import price_plan
from shapewright.designs.estimate import usual_batch
from shapewright.designs.figures import step_figure
from shapewright.errors import InfeasibleError, ShapewrightError
from shapewright.hardware.catalog import parse_cluster
from shapewright.plan.pairs import Workload
from shapewright.plan.parallel import Plan
from shapewright.plan.power import cluster_power
from shapewright.plan.table import enumerate_plans
from shapewright.scaling.experts import MEASURED_RATIO
from shapewright.scaling.law import Z90, Law, LossPrediction, default_law
from shapewright.search.arm import Job, lay_out, memory_limit, price_arm
from shapewright.search.budget import Budget
from shapewright.search.contrast import contrast_sd
from shapewright.search.families import BOTH, EXPERTS, families
from shapewright.search.guess import default_seq_len
from shapewright.search.joint import Options, rank, workload_for
from shapewright.search.lattice import single
from shapewright.search.learning import learned_loss, traits_of
from shapewright.search.ranking import Ranking
from shapewright.search.reach import device_hours
from shapewright.search.sweep import sweep_plans
from shapewright.validation.published import Skip
from shapewright.validation.rivals import Rival, rivals

MOST = 30.0
"""Multiples of the budget up to which device time at equal loss is looked for."""
AS_LARGE = 1.005
"""A choice within this factor of their size is no larger."""
SPARSE_FROM = 16.0
"""Experts in all over those of a token from which a mixture counts as sparse: about ``MEASURED_RATIO`` in parameters."""
REACH = 1.4
"""Sizes from theirs divided by twice its square are laid out for the choice that is no larger."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Side:
    """One of the two models of a comparison."""

    shape: str
    """Width x depth."""
    kind: str
    """Family of ours; ``published`` for theirs."""
    width: int
    depth: int
    heads: int
    kv_heads: int
    ffn_ratio: float
    """Width of the feed-forward layer that a token passes through, over the model's."""
    experts: int
    """Routed experts of a layer; 0 for a dense model."""
    topk: int
    vocab: int
    params: float
    active_params: float
    tokens: float
    plan: str
    step_s: float
    mfu: float
    """Of the peak of the number format used here."""
    loss: float
    """Predicted; [nat/token] of the law's corpus."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Gain:
    """One of our choices beside theirs."""

    choice: Side
    """At equal time."""
    loss_change: float
    """ln of our predicted loss over theirs at equal time; negative is better."""
    loss_change_low: float
    loss_change_high: float
    """Its 90 % interval."""
    cheapest: Side
    """The candidate that reaches their loss first; its tokens are those it needs."""
    saved: float
    """Share of the device time that it does without at equal predicted loss; negative where it needs more."""
    saved_low: float
    saved_high: float
    """Its 90 % interval; -29 stands for 30 times their time or more."""
    saved_hours: float
    """[device-hours]"""
    saved_dollars: float | None
    """[USD]; None where nobody states a price."""
    saved_joules: float | None
    """[J] at the power limit; None where it is unknown."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Comparison:
    """One known model and our choices for its hardware and time."""

    model: str
    hardware: str
    devices_assumed: bool
    seq_len: int
    number_format: str
    theirs: Side
    hours: float
    """Device-hours of theirs as predicted: the budget."""
    published_hours: float | None
    flops: float
    """6 x active parameters x tokens [FLOP]."""
    law: str
    extrapolation: float
    """Factor of compute beyond the law's runs; 1 inside."""
    free: Gain | None
    """Any size; None where nothing of ours reaches their loss."""
    no_larger: Gain | None
    """At most their size; None where no candidate of that size reaches their loss in thirty times the time."""


def compare_all(names: Sequence[str] | None = None) -> tuple[list[Comparison], list[Skip]]:
    """Every model whose hardware is published (or of ``names``), smallest compute first, and the others with reasons."""
    found, skipped = rivals()
    done = []
    for rival in found:
        if names is not None and rival.name not in names:
            continue
        try:
            done.append(compare(rival))
        except ShapewrightError as error:
            skipped.append(Skip(row=rival.name, reason=str(error).splitlines()[0]))
    return sorted(done, key=lambda one: one.flops), skipped


def compare(rival: Rival) -> Comparison:
    """One model beside our choices.

    Raises:
        InfeasibleError: no plan of ours fits their model on their hardware.
        NotCoveredError: a mixer without a prior, or hardware that cannot be priced.
    """
    shape, cluster = load_model(rival.name), parse_cluster(rival.hardware)
    flops = 6.0 * float(num_active_params(shape)) * rival.tokens
    law = default_law(flops=flops)
    options = Options(
        seq_len=default_seq_len(flops), vocab_size=int(shape.vocab_size), law=law.name,
        tied_embeddings=shape.tied_embeddings,
    )  # fmt: skip
    workload = workload_for(cluster, options)
    batch = usual_batch(shape, cluster, options, rival.tokens)
    plan = _fastest(shape, workload, batch)
    theirs, told = _side(shape, plan, workload, batch, law, rival.tokens, "published")
    seconds = rival.tokens / (batch * workload.seq_len) * theirs.step_s
    budget = Budget(kind="time", value=seconds)
    kinds = kinds_beside(shape)
    free = [rank(cluster, budget, replace(options, family=kind)) for kind in kinds]
    small = _no_larger(shape, kinds, workload, law, budget, batch, theirs.loss)
    run = (shape, rival.tokens)
    spread = _step_spread(shape, plan, workload, batch)
    return Comparison(
        model=rival.name, hardware=cluster.name, devices_assumed=rival.devices_assumed, seq_len=workload.seq_len,
        number_format=workload.precision.name, theirs=theirs, hours=seconds * cluster.num_devices / 3600.0,
        published_hours=rival.published_hours, flops=flops, law=law.name, extrapolation=float(told.extrapolation),
        free=_best_gain(free, theirs.loss, run, seconds, spread),
        no_larger=_best_gain(small, theirs.loss, run, seconds, spread),
    )  # fmt: skip


def kinds_beside(shape: Shape) -> tuple[str, ...]:
    """What is searched beside this model: mixtures no sparser than the law's own where it is none either."""
    mixers = {type(block.mixer) for block in shape.blocks}
    if Mamba2 in mixers:
        return ("dense", "mamba2")
    if not any(isinstance(block.channel, ExpertsFFN) for block in shape.blocks):
        return ("dense",)
    sparse = float(num_params(shape)) > MEASURED_RATIO * float(num_active_params(shape))
    own = [name for name, (experts, topk, shared, _) in EXPERTS.items()
           if (experts + shared > SPARSE_FROM * (topk + shared)) == sparse]  # fmt: skip
    latent = [f"mla, {name}" for name in own if name in BOTH["mla"]] if LatentAttention in mixers else []
    return ("+".join(["dense", *own, *latent]),)


def _fastest(shape: Shape, workload: Workload, batch: int) -> Plan:
    experts = max(
        (int(b.channel.experts) for b in shape.blocks if isinstance(b.channel, ExpertsFFN)), default=0
    )
    plans = enumerate_plans(workload.cluster, seq_len=workload.seq_len, experts=experts)
    sweep = sweep_plans(
        single(shape), plans, workload, global_batch=batch, memory_limit=memory_limit(workload)
    )
    if sweep.best[0] < 0:
        raise InfeasibleError(
            f"under none of {len(plans):,} plans does it fit {workload.cluster.name} with {batch:,} sequences a step",
            "the rules of stages and of memory", "another batch may",
        )  # fmt: skip
    return sweep.plans.row(int(sweep.best[0]))


def _side(
    shape: Shape, plan: Plan, workload: Workload, batch: int, law: Law, tokens: float, kind: str
) -> tuple[Side, LossPrediction]:
    priced = price_plan(shape, plan, workload, global_batch=batch)
    seen = traits_of(shape)
    params, active = float(seen.params), float(seen.active_params)
    told = learned_loss(law, seen, tokens=tokens, number_format=workload.precision.matmul_format)
    widest = max(shape.blocks, key=lambda block: float(block.count))
    mixed = [b.channel for b in shape.blocks if isinstance(b.channel, ExpertsFFN)]
    cluster = workload.cluster
    peak = cluster.num_devices * cluster.accelerator.peak(workload.precision.matmul_format)
    heads = next((b.mixer for b in shape.blocks if not isinstance(b.mixer, Mamba2)), widest.mixer)
    side = Side(
        shape=f"{shape.hidden_size}x{int(shape.num_layers)}", kind=kind, width=int(shape.hidden_size),
        depth=int(shape.num_layers), heads=int(heads.heads), kv_heads=int(heads.kv_heads),
        ffn_ratio=_ffn_width(mixed[0] if mixed else widest.channel) / int(shape.hidden_size),
        experts=int(mixed[0].experts) if mixed else 0, topk=int(mixed[0].topk) if mixed else 0,
        vocab=int(shape.vocab_size), params=params, active_params=active, tokens=tokens, plan=plan.describe(),
        step_s=priced.step_time, mfu=priced.model_flops / priced.step_time / peak, loss=float(told.loss),
    )  # fmt: skip
    return side, told


def _ffn_width(channel: Any) -> float:
    if isinstance(channel, ExpertsFFN):
        return float(channel.ffn_size) * float(channel.topk) + float(channel.shared_ffn_size)
    return float(channel.ffn_size) if isinstance(channel, DenseFFN) else 0.0


def _no_larger(
    shape: Shape, kinds: Sequence[str], workload: Workload, law: Law, budget: Budget, batch: int, loss: float
) -> list[Ranking]:
    """Candidates of at most their size under the same time and batch: those that tie with ``loss`` or beat it, or all
    where none does."""
    job = Job(
        workload=workload, law=law, budget=budget, batch=batch, vocab=int(shape.vocab_size), tied=shape.tied_embeddings,
        shape={}, plan={}, centre=float(num_active_params(shape)) * AS_LARGE / REACH, reach=REACH,
        most_params=float(num_params(shape)) * AS_LARGE,
    )  # fmt: skip
    jobs = [
        replace(job, family=family) for family in dict.fromkeys(f for kind in kinds for f in families(kind))
    ]
    # Their reach is narrower than either window, so one table serves both bars.
    jobs = [replace(job, table=lay_out(job)) for job in jobs]
    for bar in (loss, np.inf):
        arms = tuple(price_arm(replace(job, bar=bar)) for job in jobs)
        ranking = Ranking(law=law, arms=arms, global_batch=batch)
        if ranking.order.size:
            return [ranking]
    return []


def _best_gain(
    found: Sequence[Ranking], loss: float, run: tuple[Shape, float], seconds: float, spread: float
) -> Gain | None:
    """The gain of the ranking whose choice has the lowest loss; None where none reaches ``loss``."""
    if not found:
        return None
    best = min(found, key=lambda ranking: float(ranking.loss[ranking.best]))
    hours = device_hours(best, loss, most=MOST)
    cheap = int(np.argmin(hours))
    if not np.isfinite(hours[cheap]):
        return None
    workload, law, batch = best.arm_of(cheap).workload, best.law, best.global_batch
    whole = seconds * workload.cluster.num_devices / 3600.0
    tokens = float(best.tokens[cheap]) * float(hours[cheap]) / whole
    choice = _choice(best, best.best, float(best.tokens[best.best]))
    cheapest = _choice(best, cheap, tokens)
    sd = contrast_sd(law, run, (best.shape(best.best), choice.tokens))
    cheap_sd = contrast_sd(law, run, (best.shape(cheap), tokens))
    # Where ours learns less than predicted it must read until it is that much below their loss, and the reverse.
    ends = [
        float(device_hours(best, loss * np.exp(way * Z90 * cheap_sd), most=MOST)[cheap])
        for way in (1.0, -1.0)
    ]
    step = float(np.hypot(spread, _step_spread(best.shape(cheap), best.plan(cheap), workload, batch)))
    share = float(hours[cheap]) / whole
    below = np.exp(-np.hypot(np.log(hours[cheap] / ends[0]), step))
    above = np.exp(np.hypot(np.log(ends[1] / hours[cheap]), step)) if np.isfinite(ends[1]) else np.inf
    change = float(np.log(choice.loss / loss))
    saved = whole - float(hours[cheap])
    price = workload.cluster.price_per_device_hour
    power = cluster_power(workload.cluster)
    return Gain(
        choice=choice, loss_change=change, loss_change_low=change - Z90 * sd, loss_change_high=change + Z90 * sd,
        cheapest=cheapest, saved=1.0 - share, saved_low=max(1.0 - share * float(above), 1.0 - MOST),
        saved_high=1.0 - share * float(below), saved_hours=saved,
        saved_dollars=saved * price.value if price else None,
        saved_joules=saved * 3600.0 * power.value / workload.cluster.num_devices if power else None,
    )  # fmt: skip


def _choice(ranking: Ranking, index: int, tokens: float) -> Side:
    arm = ranking.arm_of(index)
    side, _ = _side(
        ranking.shape(index),
        ranking.plan(index),
        arm.workload,
        ranking.global_batch,
        ranking.law,
        tokens,
        arm.family,
    )
    return side


def _step_spread(shape: Shape, plan: Plan, workload: Workload, batch: int) -> float:
    """Half width of the 90 % interval of ln step time."""
    figure = step_figure(price_plan(shape, plan, workload, global_batch=batch), workload)
    assert figure.low is not None
    assert figure.high is not None
    return float(np.log(figure.high / figure.low) / 2.0)
