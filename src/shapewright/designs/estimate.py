"""The second question: what would this model cost here, under a plan or under the best one."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from shapewright.architecture.graph import num_active_params
from shapewright.architecture.shape import ExpertsFFN, Shape
from shapewright.designs.build import constraints_of
from shapewright.designs.compose import Context, compose, overrides
from shapewright.designs.document import Assumption, Design, Rejected, Request
from shapewright.designs.relief import reliefs
from shapewright.errors import InfeasibleError, UsageError
from shapewright.evidence import Figure
from shapewright.hardware.catalog import parse_cluster
from shapewright.hardware.cluster import Cluster
from shapewright.plan.pairs import Workload
from shapewright.plan.parallel import Plan, default_plan
from shapewright.plan.rules import check_batch, check_plan
from shapewright.plan.table import enumerate_plans
from shapewright.scaling.law import Law, default_law, load_law
from shapewright.scaling.recipe import batch_tokens, default_recipe_law
from shapewright.search.arm import memory_limit
from shapewright.search.guess import USUAL_SEQ_LEN, round_batch
from shapewright.search.joint import Options, workload_for
from shapewright.search.lattice import single
from shapewright.search.sweep import sweep_plans
from shapewright.units import format_quantity


def make_estimate(
    shape: Shape,
    hardware: str,
    options: Options,
    *,
    tokens: float | None = None,
    settings: Sequence[str] = (),
) -> Design:
    """What training a given shape costs: under the plan in ``options``, or under the best one when it has none.

    Raises:
        UsageError: tokens are not positive, or unique ones are stated without them.
        InfeasibleError: the plan, or every plan, needs more memory than there is.
    """
    if tokens is not None and not 1 <= tokens < float("inf"):
        raise UsageError(
            f"tokens (={tokens:g}) must be at least 1 and finite",
            "a run reads some",
            "for example: --tokens 1T",
        )
    if 2 * options.modes.adapter_rank >= shape.hidden_size:
        raise UsageError(
            f"lora rank (={options.modes.adapter_rank}) must be below half the width (={shape.hidden_size})",
            "adapters of more are no smaller than the weights that they stand beside",
            "try: --lora 16",
        )
    if options.unique_tokens is not None and tokens is None:
        raise UsageError(
            f"unique_tokens (={options.unique_tokens:g}) without tokens",
            "epochs are training tokens over unique ones",
            "give --tokens, too",
        )
    options = _of_images(shape, options)
    cluster = parse_cluster(hardware, settings)
    workload = workload_for(cluster, options, hidden_size=float(shape.hidden_size))
    law = _law_for(shape, options, tokens)
    batch = options.global_batch or usual_batch(shape, cluster, options, tokens)
    complete = (
        options.plan.get("tp")
        or options.plan.get("pp")
        or options.plan.get("dp_shard")
        or options.plan.get("dp_replicate")
    )
    request = Request(
        hardware=hardware,
        budget_kind="tokens" if tokens else "plan",
        model=shape.name,
        settings=tuple(settings),
        budget=Figure(value=tokens, unit="1", kind="assumed", source="asked for") if tokens else None,
        constraints=constraints_of(options),
    )
    context = Context(assumptions=(*overrides(settings), *_unknown_loss(shape, options)))
    if complete:
        plan = _completed(shape, cluster, options, batch)
        check_plan(plan, shape, cluster)
        check_batch(plan, batch)
    else:
        plan, context = _best_plan(shape, cluster, workload, options, batch, context)
    design = compose(
        request,
        shape,
        plan,
        workload,
        global_batch=batch,
        law=law,
        tokens=tokens,
        fixed_tokens=True,
        context=context,
        unique_tokens=options.unique_tokens,
    )
    if complete:
        _refuse_overfull(design, shape, workload)
    return design


def _law_for(shape: Shape, options: Options, tokens: float | None) -> Law | None:
    if tokens is None or options.modes.adapter_rank or (shape.patches is not None and not options.law):
        return None
    flops = 6.0 * float(num_active_params(shape)) * tokens
    return (
        load_law(options.law) if options.law else default_law(flops=flops, vocab_size=int(shape.vocab_size))
    )


def _of_images(shape: Shape, options: Options) -> Options:
    """The options with the sequence that an image of the shape is; as they were for text.

    Raises:
        UsageError: another length was asked for.
    """
    if shape.patches is None:
        return options
    length = shape.patches.num_tokens
    if options.seq_len not in (None, length):
        raise UsageError(
            f"seq_len (={options.seq_len}) is not that of an image (={length})",
            f"{shape.name} reads images of {shape.patches.image_size} pixels in patches of {shape.patches.patch_size}",
            "leave --seq-len out",
        )
    return replace(options, seq_len=length)


def _unknown_loss(shape: Shape, options: Options) -> tuple[Assumption, ...]:
    """What is said where nothing predicts the loss: of adapters, and of images."""
    if options.modes.adapter_rank:
        return (
            Assumption(
                name="loss law",
                text="none: no law here says what adapters beside frozen weights learn, nor at which rate",
                kind="assumed",
                source="plan.modes",
            ),
        )
    if shape.patches is None or options.law:
        return ()
    return (
        Assumption(
            name="loss law",
            text="none: no shipped law is of images, so no loss is predicted",
            kind="assumed",
            source="--law FILE names one of your own",
        ),
    )


def _completed(shape: Shape, cluster: Cluster, options: Options, batch: int) -> Plan:
    numbers = dict(options.plan)
    used = int(np.prod([numbers.get(axis, 1) for axis in ("tp", "pp", "cp")]))
    if "dp_shard" not in numbers:
        copies = cluster.num_devices // max(used * numbers.get("dp_replicate", 1), 1)
        numbers["dp_shard"] = max(copies, 1)
    return default_plan(**numbers)


def usual_batch(shape: Shape, cluster: Cluster, options: Options, tokens: float | None) -> int:
    """That of the batch law which belongs to the model's loss law, at the tokens given or at 20 per active parameter."""
    tokens = tokens or 20.0 * float(num_active_params(shape))
    batch_law, _ = default_recipe_law(_law_for(shape, options, tokens))
    best = float(batch_tokens(tokens=tokens, law=batch_law))
    return round_batch(best / (options.seq_len or USUAL_SEQ_LEN), cluster)


def _best_plan(
    shape: Shape, cluster: Cluster, workload: Workload, options: Options, batch: int, context: Context
) -> tuple[Plan, Context]:
    experts = max(
        (int(b.channel.experts) for b in shape.blocks if isinstance(b.channel, ExpertsFFN)), default=0
    )
    plans = enumerate_plans(cluster, seq_len=workload.seq_len, experts=experts, fixed=dict(options.plan))
    if not len(plans):
        raise InfeasibleError(
            f"no plan of {cluster.num_devices} devices satisfies the fixed axes",
            f"fixed: {dict(options.plan)}",
            "free one of them",
        )
    sweep = sweep_plans(
        single(shape), plans, workload, global_batch=batch, memory_limit=memory_limit(workload)
    )
    if sweep.best[0] < 0:
        counts = "\n".join(
            f"{count:>10,} {rule}" for rule, count in sorted(sweep.rejected.items(), key=lambda x: -x[1])
        )
        near = ""
        if sweep.leanest[0] >= 0:
            plan = sweep.plans.row(int(sweep.leanest[0]))
            near = (
                f"nearest: {plan.describe()} needs {format_quantity(float(sweep.memory[0]), 'B')} of "
                f"{format_quantity(memory_limit(workload), 'B')} per device\n"
            )
        raise InfeasibleError(
            f"{shape.name} fits under none of {len(plans):,} plans on {cluster.name}",
            counts,
            near + "try: more devices, another --batch, or a shorter --seq-len",
            sweep.rejected,
        )
    rejected = tuple(
        Rejected(reason=rule, count=count)
        for rule, count in sorted(sweep.rejected.items(), key=lambda x: -x[1])
    )
    return sweep.plans.row(int(sweep.best[0])), replace(
        context, rejected=rejected, num_candidates=sweep.num_pairs
    )


def _refuse_overfull(design: Design, shape: Shape, workload: Workload) -> None:
    """Refuse a plan that does not fit, with the cheapest changes that make it fit."""
    need, limit = design.predicted.memory_bytes.value, design.predicted.memory_limit_bytes.value
    if need <= limit:
        return
    parts = sorted(design.memory_parts, key=lambda part: -part.value)
    listing = ", ".join(f"{part.name} {format_quantity(part.value, 'B')}" for part in parts[:4])
    found = reliefs(
        shape,
        design.plan,
        workload,
        global_batch=design.run.global_batch_sequences,
        memory_limit=limit,
    )
    fixes = [
        f"fits with {relief.change}: step {relief.slowdown:+.1%}, {format_quantity(relief.memory, 'B')} per device"
        for relief in found
    ]
    raise InfeasibleError(
        f"the plan needs {format_quantity(need, 'B')} per device, {need - limit:,.0f} B "
        f"({format_quantity(need - limit, 'B')}) more than the {format_quantity(limit, 'B')} that may be used",
        listing,
        "\n".join(fixes)
        or "no change of two axes fits: use more devices, or leave the plan out to search all",
        {"memory of the fullest device": 1},
    )
