"""The first question: what model should this budget train. The second, what a model would cost, is ``designs.estimate``."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import fields

import numpy as np

from shapewright.designs.alternatives import candidates, left_out, loss_curve, reasons, rejected
from shapewright.designs.compose import Context, compose, overrides
from shapewright.designs.document import Assumption, Design, Request
from shapewright.designs.picks import elasticities, picks, tie_family
from shapewright.designs.serving import Serve, choose_served
from shapewright.errors import UsageError
from shapewright.evidence import Figure
from shapewright.hardware.catalog import parse_cluster
from shapewright.plan.modes import Modes
from shapewright.scaling.experts import (
    BEYOND_SD,
    EXPERTS_SOURCE,
    MEASURED_RATIO,
    SHARE,
    SHARE_SD,
    effective_size,
    ln_cut,
)
from shapewright.scaling.mixers import PRIORS
from shapewright.scaling.repetition import REPETITION_SOURCE, largest_checked
from shapewright.search.budget import UNITS, Budget
from shapewright.search.joint import Options, rank
from shapewright.search.learning import granularity_of, mixer_shares
from shapewright.search.ranking import Ranking
from shapewright.units import format_count, format_quantity


def make_design(
    hardware: str,
    budget: Budget,
    options: Options,
    settings: Sequence[str] = (),
    *,
    serve: Serve | None = None,
    aside: bool = True,
) -> Design:
    """The shape, plan and recipe with the lowest predicted loss; with ``serve`` the cheapest to serve of its ties.

    Args:
        aside: with the named picks and what ten per cent more of a resource would buy. They change nothing else and
            take half of the time or more, so who shows an answer at once asks for them afterwards.

    Raises:
        InfeasibleError, NotCoveredError, UsageError: see ``errors``.
    """
    cluster = parse_cluster(hardware, settings)
    _check_expert_axes(options)
    if options.modes.adapter_rank:
        raise UsageError(
            f"adapter_rank (={options.modes.adapter_rank}) freezes the weights of a model that is given",
            "a design is trained from scratch",
            "price it with: shapewright estimate MODEL --lora RANK",
        )
    ranking = rank(cluster, budget, options)
    asked, serving = options, None
    if serve is not None:
        serving = choose_served(ranking, cluster, budget, options, serve)
        ranking, options = serving.ranking, serving.options
    best = ranking.best
    request = Request(
        hardware=hardware,
        budget_kind=budget.kind,
        settings=tuple(settings),
        constraints=constraints_of(asked),
        budget=Figure(value=budget.value, unit=UNITS[budget.kind], kind="assumed", source="asked for"),
    )
    context = Context(
        reasons=(*(serving.reasons if serving else ()), *reasons(ranking)),
        candidates=candidates(ranking),
        rejected=rejected(ranking),
        num_candidates=ranking.num_pairs,
        loss_curve=loss_curve(ranking),
        ties=tie_family(ranking),
        picks=picks(ranking, budget, options.plan) if aside else (),
        elasticities=elasticities(ranking, budget, options.plan) if aside else (),
        assumptions=(
            *overrides(settings),
            *_design_assumptions(ranking, options, budget),
            *(serving.assumptions if serving else ()),
        ),
        warnings=left_out(ranking),
    )
    return compose(
        request,
        ranking.shape(best),
        ranking.plan(best),
        ranking.workload,
        global_batch=ranking.global_batch,
        law=ranking.law,
        tokens=float(ranking.tokens[best]),
        fixed_tokens=budget.kind == "flops",
        context=context,
        unique_tokens=options.unique_tokens,
    )


def _check_expert_axes(options: Options) -> None:
    """Refuse axes that would split nothing: they would stand in the request and do nothing."""
    for axis in ("ep", "etp"):
        if options.plan.get(axis, 1) > 1 and options.family == "dense":
            raise UsageError(
                f"--{axis} (={options.plan[axis]}) splits experts, and a dense model has none",
                "dense models are what is laid out without a word",
                f"leave --{axis} out, or add --search moe",
            )


def constraints_of(options: Options) -> tuple[str, ...]:
    """What was asked for besides hardware and budget, line by line."""
    pins = {**options.shape, **options.plan}
    rows = [f"{name} = {value}" for name, value in pins.items()]
    for name in ("seq_len", "vocab_size", "tied_embeddings", "precision", "framework", "law", "global_batch"):
        if getattr(options, name) is not None:
            rows.append(f"{name} = {getattr(options, name)}")
    if options.unique_tokens is not None:
        rows.append(f"{format_count(options.unique_tokens)} unique tokens")
    if options.serving is not None and options.serving.tpot is not None:
        rows.append(f"at most {format_quantity(options.serving.tpot, 's')} per token when served")
    if options.serving is not None and options.serving.dollars_per_million is not None:
        rows.append(f"at most ${options.serving.dollars_per_million:g} per million tokens when served")
    if options.family != "dense":
        rows.append(f"search = {options.family}")
    if options.level != "physics":
        rows.append(f"level = {options.level}")
    usual = Modes()
    for field in fields(Modes):
        value = getattr(options.modes, field.name)
        if value != getattr(usual, field.name):
            rows.append(
                f"{field.name} = {format_quantity(value, 's') if field.name.endswith('_s') else value}"
            )
    return tuple(rows)


def _design_assumptions(ranking: Ranking, options: Options, budget: Budget) -> tuple[Assumption, ...]:
    layers = ranking.arm_of(ranking.best).candidates.layers
    rows = []
    if options.vocab_size is None:
        rows.append(
            Assumption(
                name="vocabulary",
                text=f"{layers.vocab_size:,} tokens, embeddings "
                f"{'tied' if layers.tied_embeddings else 'not tied'}",
                kind="assumed",
                source="search.guess.default_vocab",
            )
        )
    rows.append(
        Assumption(
            name="sequence",
            text=f"{ranking.workload.seq_len:,} tokens",
            kind="assumed",
            source="asked for" if options.seq_len else "search.guess.default_seq_len",
        )
    )
    if options.unique_tokens is not None and "width" not in options.shape:
        rows.append(
            Assumption(
                name="sizes",
                text=f"at most {format_count(largest_checked(options.unique_tokens))} active parameters: as far as the "
                f"law of repetition was checked for {format_count(options.unique_tokens)} unique tokens",
                kind="assumed",
                source=REPETITION_SOURCE,
            )
        )
    if budget.kind == "energy":
        rows.append(
            Assumption(
                name="energy budget",
                text="spent as if every device ran at its power limit, so the run may end below it",
                kind="assumed",
                source="plan.power",
            )
        )
    rows.append(
        Assumption(
            name="candidates",
            kind="assumed",
            source="search.lattice, search.families",
            text=f"{_searched(ranking)}; {ranking.num_shapes:,} shapes, {ranking.num_pairs:,} (shape, plan) pairs, all "
            "priced, rejected by a rule or left out by a bound (gap 0)",
        )
    )
    arm = ranking.arm_of(ranking.best)
    rows += [
        Assumption(
            name=f"loss of {name}",
            text=f"{PRIORS[name].shift:+.1%} ({PRIORS[name].low:+.1%} to {PRIORS[name].high:+.1%}) at equal size and "
            f"tokens, on {share:.0%} of the layers",
            kind=PRIORS[name].kind,
            source=PRIORS[name].evidence,
        )
        for name, share in mixer_shares(arm.candidates.layers).items()
        if name != "attention"
    ]
    ratio = float(ranking.params[ranking.best] / ranking.active_params[ranking.best])
    if ratio > 1.0:
        seen = float(granularity_of(ranking.shape(ranking.best)))
        cut, size = float(np.exp(ln_cut(seen))), float(effective_size(1.0, ratio, seen))
        rows.append(
            Assumption(
                name="loss of experts",
                text=f"as a dense model of {size:.2g} times the active parameters: (total/active)^{SHARE:g}, power "
                f"+-{SHARE_SD:g} (beyond {MEASURED_RATIO:g} +-{BEYOND_SD:g}), times {cut:.2f} for {seen:.3g} experts of a "
                "token",
                kind="fitted",
                source=EXPERTS_SOURCE,
            )
        )
    return tuple(rows)


def _searched(ranking: Ranking) -> str:
    names = list(dict.fromkeys(arm.family for arm in ranking.arms))
    formats = list(dict.fromkeys(arm.workload.precision.name for arm in ranking.arms))
    what = "dense decoders" if names == ["dense"] else f"decoders ({'; '.join(names)})"
    return f"{what}, SwiGLU, grouped-query attention, in {' and '.join(formats)}"
