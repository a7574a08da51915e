"""Turns one priced plan, with or without a ranking behind it, into a Design."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

import shapewright
from shapewright.architecture.graph import num_active_params, num_embedding_params, num_params
from shapewright.architecture.shape import Shape
from shapewright.cost.device import peak_of
from shapewright.designs import breakdown
from shapewright.designs.breakdown import PricedPlan, price_plan
from shapewright.designs.corpora import corpus_trust, elsewhere
from shapewright.designs.document import (
    SCHEMA_VERSION,
    Assumption,
    Candidate,
    Design,
    Elasticity,
    LossPoint,
    Pick,
    Prediction,
    Reason,
    Rejected,
    Repetition,
    Request,
    Run,
    TieFamily,
    Trust,
)
from shapewright.designs.energy import mean_power
from shapewright.designs.figures import (
    goodput_figure,
    limit_figure,
    loss_figure,
    memory_figure,
    not_below,
    product,
    scaled,
    step_figure,
)
from shapewright.designs.pacing import pace_of
from shapewright.designs.repeated import data_assumption, repetition, repetition_warnings
from shapewright.designs.siblings import (
    conditional_sibling,
    leverage_sibling,
    outside_shapes,
    outside_sparsity,
)
from shapewright.evidence import Figure, moved_by
from shapewright.hardware.checks import check_mfu
from shapewright.plan.memory import FRAGMENTATION
from shapewright.plan.pairs import ADAMW, Workload
from shapewright.plan.parallel import Plan
from shapewright.scaling.law import FAR_COMPUTE, Law
from shapewright.scaling.recipe import Recipe, default_recipe_law, recipe
from shapewright.search.arm import MEMORY_HEADROOM
from shapewright.search.learning import traits_of
from shapewright.units import format_quantity

FEW_TOKENS = 1024
"""A vocabulary below this is of bytes or characters, and no tokenizer of a law."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Context:
    """What a search adds to the document; empty for an estimate."""

    reasons: tuple[Reason, ...] = ()
    candidates: tuple[Candidate, ...] = ()
    rejected: tuple[Rejected, ...] = ()
    num_candidates: int = 1
    loss_curve: tuple[LossPoint, ...] = ()
    ties: TieFamily | None = None
    picks: tuple[Pick, ...] = ()
    elasticities: tuple[Elasticity, ...] = ()
    assumptions: tuple[Assumption, ...] = ()
    warnings: tuple[str, ...] = ()


def compose(
    request: Request,
    shape: Shape,
    plan: Plan,
    workload: Workload,
    *,
    global_batch: int,
    law: Law | None,
    tokens: float | None,
    fixed_tokens: bool,
    context: Context,
    unique_tokens: float | None = None,
) -> Design:
    """Build the document.

    Args:
        tokens: training tokens at the predicted step time; None where only a step is estimated.
        fixed_tokens: True where the tokens were given and the time follows, False where a time or money budget
            fixes the time and the tokens follow the step time (then they share its interval).
        unique_tokens: tokens of the corpus; None where all are fresh.
    """
    priced = price_plan(shape, plan, workload, global_batch=global_batch)
    cluster = workload.cluster
    peak = cluster.num_devices * peak_of(cluster.accelerator, workload.precision.matmul_format)
    step = not_below(step_figure(priced, workload), priced.model_flops / peak)
    mfu = scaled(step, priced.model_flops / peak, "1", inverse=True)
    check_mfu(mfu.value)
    batch_tokens = global_batch * workload.seq_len
    params, active = float(num_params(shape)), float(num_active_params(shape))
    count = lambda value: Figure(value=value, unit="1", kind="derived", source="operator graph")  # noqa: E731

    factor = 1.0
    token_figure = train_time = energy = dollars = loss = flops = None
    chosen_recipe: Recipe | None = None
    repeated: Repetition | None = None
    beside: list[Trust] = []
    warnings: list[str] = [*context.warnings]
    power = mean_power(priced, workload)
    if tokens is not None:
        given = Figure(value=tokens, unit="1", kind="assumed", source="given")
        token_figure = given if fixed_tokens else scaled(step, tokens * step.value, "1", inverse=True)
        steps = tokens / batch_tokens
        train_time = (
            scaled(step, steps, "s")
            if fixed_tokens
            else Figure(value=steps * step.value, unit="s", kind="derived", source="the budget")
        )
        flops = scaled(token_figure, priced.model_flops / batch_tokens, "FLOP", kind="derived")
        flops = replace(flops, source="operator graph and tokens")
        if power is not None:
            energy = product(train_time, power, "J")
        price = cluster.price_per_device_hour
        if price is not None:
            dollars = scaled(train_time, price.value * cluster.num_devices / 3600, "USD", kind=price.kind)
            dollars = replace(dollars, source=f"{train_time.source}; {price.source}")
        embedding = float(num_embedding_params(shape))
        inner = max(active - embedding, 1.0)
        recipe_law, schedule = default_recipe_law(law)
        # The laws of batch and rate are of training from scratch, every weight.
        if not workload.adapter_rank:
            chosen_recipe = recipe(
                recipe_law,
                schedule=schedule,
                params=inner,
                tokens=tokens,
                width=float(shape.hidden_size),
                depth=float(shape.num_layers),
                batch=min(float(batch_tokens), tokens),
                epochs=tokens / unique_tokens if unique_tokens else 1.0,
            )
        if workload.optimizer != ADAMW and chosen_recipe is not None:
            warnings.append(
                f"the recipe's learning rate, betas and weight decay are AdamW's: no law here tunes {workload.optimizer}"
            )
        if unique_tokens is not None:
            repeated = repetition(
                unique_tokens,
                tokens=token_figure,
                shape=shape,
                law=law,
                number_format=workload.precision.matmul_format,
            )
            warnings += repetition_warnings(repeated, shape)
        if law is not None:
            traits = traits_of(shape)
            loss, factor = loss_figure(
                law,
                traits,
                tokens=token_figure,
                number_format=workload.precision.matmul_format,
                unique_tokens=unique_tokens,
            )
            if factor > 1.0:
                warnings.append(_extrapolation(law, factor))
            warnings += (*outside_shapes(law, traits), *outside_sparsity(law, traits))
            asked = {"tokens": tokens, "number_format": workload.precision.matmul_format}
            siblings = (conditional_sibling(law, traits, **asked), leverage_sibling(law, traits, **asked))
            beside += [row for row in (*siblings, corpus_trust(law, elsewhere(law, traits, **asked))) if row]
            if float(shape.vocab_size) < FEW_TOKENS and law.unit != "nat/byte":
                warnings.append(_bytes(law, float(shape.vocab_size), loss))
    return Design(
        schema_version=SCHEMA_VERSION,
        shapewright_version=shapewright.__version__,
        request=request,
        assumptions=(
            *context.assumptions,
            *((data_assumption(repeated),) if tokens is not None else ()),
            *_assumptions(workload, law if tokens is not None else None, priced.steps.framework),
        ),
        shape=shape,
        plan=plan,
        run=Run(
            tokens=token_figure,
            global_batch_sequences=global_batch,
            sequence_length=workload.seq_len,
            precision=workload.precision.name,
            optimizer=workload.optimizer,
            law=law.name if loss is not None and law else None,
            adapter_rank=workload.adapter_rank,
        ),
        recipe=chosen_recipe,
        predicted=Prediction(
            params=count(params),
            active_params=count(active),
            step_time_s=step,
            tokens_per_s=scaled(step, batch_tokens, "1", inverse=True),
            mfu=mfu,
            train_time_s=train_time,
            train_flops=flops,
            memory_bytes=memory_figure(priced),
            memory_limit_bytes=limit_figure(workload),
            power_w=power,
            energy_j=energy,
            dollars=dollars,
            loss=loss,
            extrapolation=factor if loss is not None else None,
            goodput=goodput_figure(priced, workload),
        ),
        step_parts=breakdown.step_parts(priced),
        memory_parts=breakdown.memory_parts(priced),
        memory_bandwidth=breakdown.memory_bandwidth(workload),
        roofline=breakdown.roofline(priced, workload),
        movers=breakdown.movers(priced),
        reasons=(*_shares(priced), *context.reasons),
        candidates=context.candidates,
        rejected=context.rejected,
        num_candidates=context.num_candidates,
        loss_curve=context.loss_curve,
        trust=(
            *_trust(priced, workload, law if loss is not None else None),
            *beside,
        ),
        warnings=tuple(warnings),
        ties=context.ties,
        picks=context.picks,
        elasticities=context.elasticities,
        repetition=repeated,
        pace=pace_of(priced),
    )


def _bytes(law: Law, vocab: float, loss: Figure) -> str:
    guess = (
        ""
        if loss.value < np.log(vocab)
        else f" (guessing uniformly among {vocab:.0f} would give {np.log(vocab):.2f})"
    )
    return (
        f"the law {law.name} counts nats per token of {law.dataset}; this model reads {vocab:.0f} symbols, so its loss "
        f"will read lower: take the predicted loss as an index for ranking{guess}"
    )


def _extrapolation(law: Law, factor: float) -> str:
    far = "FAR EXTRAPOLATION: " if factor > FAR_COMPUTE else ""
    low, high = law.fitted_range["flops"]
    return (
        f"{far}the loss law {law.name} was fitted on {low:.1e} to {high:.1e} FLOP; this run is a factor of "
        f"{factor:.3g} outside. Take the loss as an index for ranking, not as a figure."
    )


def _shares(priced: PricedPlan) -> tuple[Reason, ...]:
    parts = breakdown.step_parts(priced)
    causes = ("compute", "memory", "communication", "bubble", "recompute", "launch")
    shares = sorted(((breakdown.share_of(parts, cause), cause) for cause in causes), reverse=True)
    text = " · ".join(f"{cause} {share:.0%}" for share, cause in shares if share >= 0.005)
    largest = max(parts, key=lambda part: part.value)
    return (
        Reason(topic="step", text=f"{text}; the largest part is {largest.name} with {largest.share:.0%}"),
    )


def _assumptions(workload: Workload, law: Law | None, framework_bytes: float) -> tuple[Assumption, ...]:
    cluster, p = workload.cluster, workload.precision
    rows = [
        Assumption(
            name="precision",
            text=f"{p.name}: {p.weight_bytes:g} B weights, {p.gradient_bytes:g} B gradients, "
            f"{p.optimizer_bytes:g} B optimizer state per parameter",
            kind="assumed",
            source="plan.precision",
        )
    ]
    f = workload.framework
    rows.append(
        Assumption(
            name="framework",
            text=f"{f.label}: products x{f.matmul:.2f} (8 bits x{f.matmul_8bit:.2f}), "
            f"attention x{f.attention:.2f}, pointwise x{f.pointwise:.2f} of the fastest kernels alone, "
            f"{format_quantity(f.host_s, 's')} of host per operator",
            kind=f.kind,
            source=f.source,
        )
    )
    for tier in cluster.tiers:
        rows.append(
            Assumption(
                name=f"network {tier.name}",
                text=f"{tier.size} devices, {format_quantity(tier.bandwidth.value, 'B/s')} per device and direction, "
                f"{format_quantity(tier.latency.value, 's')}",
                kind=tier.bandwidth.kind,
                source=tier.bandwidth.source,
            )
        )
    rows.append(
        Assumption(
            name="memory",
            text=f"{MEMORY_HEADROOM:.0%} headroom, {FRAGMENTATION:.0%} fragmentation, "
            f"{format_quantity(framework_bytes, 'B')} framework",
            kind="assumed",
            source="plan.training",
        )
    )
    host, site = cluster.host_power_per_device, cluster.power_usage_effectiveness
    for name, figure, text in (
        ("host power", host, f"{host.value:.0f} W per device" if host else "left out: unknown"),
        ("site power", site, f"power usage effectiveness {site.value:g}" if site else "left out: unknown"),
    ):
        rows.append(
            Assumption(
                name=name,
                text=text,
                kind=figure.kind if figure else "assumed",
                source=figure.source if figure else "no source",
            )
        )
    price = cluster.price_per_device_hour
    rows.append(
        Assumption(
            name="price",
            text=f"${price.value:.2f} per device-hour" if price else "unknown",
            kind=price.kind if price else "assumed",
            source=price.source if price else "no source",
        )
    )
    if law is not None:
        rows.append(
            Assumption(
                name="loss law",
                text=f"{law.name}, {law.unit}, on {law.dataset}"
                + (f"; moved by {runs}" if (runs := moved_by(law.source)) else ""),
                kind="fitted",
                source=law.source,
            )
        )
    return tuple(rows)


def _trust(priced: PricedPlan, workload: Workload, law: Law | None) -> tuple[Trust, ...]:
    rows = []
    for (family, number_format), share in sorted(
        breakdown.family_shares(priced).items(), key=lambda x: -x[1]
    ):
        fit = workload.model.evidence(family, number_format)
        how = (
            f"median error {fit.median_error:.1%}, 90th percentile {fit.p90_error:.1%} on "
            f"{fit.num_held_out:,} rows {'each left out in turn' if fit.kind == 'measured' else 'not fitted on'}"
            if fit.num_held_out
            else "not checked on held-out rows"
        )
        rows.append(
            Trust(
                name=f"{family}/{number_format}",
                kind=fit.kind,
                text=f"{share:.0%} of the layers' time; {how}",
                source=fit.source,
            )
        )
    if law is not None:
        checks = "; ".join(
            f"{check.name} {check.value:.3g}{'' if check.unit == '1' else f' {check.unit}'}"
            for check in law.checks[:3]
        )
        rows.append(
            Trust(
                name=f"law {law.name}",
                kind="fitted",
                text=f"{law.rows:,} rows, {law.runs} runs; {checks}",
                source=law.source,
            )
        )
    return tuple(rows)


def overrides(settings: Sequence[str]) -> tuple[Assumption, ...]:
    """The user's own figures as assumptions."""
    return tuple(
        Assumption(name="set", text=text, kind="assumed", source="set by the user") for text in settings
    )
