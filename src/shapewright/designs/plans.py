"""The plans of a given model as a document: the front, what binds, and the command that looks closer."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from shapewright.architecture.shape import Shape
from shapewright.designs.breakdown import price_plan, step_parts
from shapewright.designs.estimate import usual_batch
from shapewright.designs.figures import step_figure
from shapewright.hardware.catalog import parse_cluster
from shapewright.plan.pairs import Workload
from shapewright.plan.parallel import plan_options
from shapewright.plan.stages import stages_text
from shapewright.search.arm import memory_limit
from shapewright.search.joint import Options, workload_for
from shapewright.search.plans import PlanSearch, search_plans
from shapewright.units import format_quantity


def search_for(
    shape: Shape, hardware: str, options: Options, *, settings: Sequence[str] = ()
) -> dict[str, Any]:
    """Search all plans and describe what came out, as plain data.

    Raises:
        InfeasibleError: no plan can split the shape, or none fits.
    """
    cluster = parse_cluster(hardware, settings)
    workload = workload_for(cluster, options, hidden_size=float(shape.hidden_size))
    batch = options.global_batch or usual_batch(shape, cluster, options, None)
    limit = memory_limit(workload)
    found = search_plans(shape, workload, global_batch=batch, memory_limit=limit, fixed=dict(options.plan))
    best = found.plans.row(found.fastest)
    priced = price_plan(shape, best, workload, global_batch=batch)
    figure = step_figure(priced, workload)
    return {
        "request": {
            "model": shape.name,
            "hardware": hardware,
            "global_batch_sequences": batch,
            "sequence_length": workload.seq_len,
            "precision": workload.precision.name,
            "optimizer": options.modes.optimizer,
            "framework": workload.framework.name,
            "fixed": dict(options.plan),
        },
        "num_plans": found.num_plans,
        "num_priced": len(found.plans),
        "num_fit": int(found.fits.sum()),
        "axes": ["time", "memory"] + (["energy"] if found.joules is not None else []),
        "front": [_row(found, int(index), batch * workload.seq_len) for index in found.front],
        "binds": _binds(found, shape, workload, batch),
        "rejected": found.rejected,
        "trust": f"step of the fastest {figure}; kernels and framework: {figure.source}",
        "next": f"shapewright estimate {shape.name} --on {hardware} --batch {batch} {plan_options(best)}",
    }


def _row(found: PlanSearch, index: int, tokens: int) -> dict[str, Any]:
    plan, seconds = found.plans.row(index), float(found.step_time[index])
    return {
        "plan": {name: int(getattr(plan, name)) for name in type(plan).__slots__},
        "describe": " · ".join(
            filter(None, (plan.describe(), stages_text(found.num_layers, int(plan.pp), int(plan.vpp))))
        ),
        "step_time_s": seconds,
        "tokens_per_s": tokens / seconds,
        "memory_bytes": float(found.memory[index]),
        "energy_j": None if found.joules is None else float(found.joules[index]),
    }


def _binds(found: PlanSearch, shape: Shape, workload: Workload, batch: int) -> list[str]:
    """What keeps the fastest plan from being faster: its causes, the memory, the batch."""
    best = found.fastest
    parts = step_parts(price_plan(shape, found.plans.row(best), workload, global_batch=batch))
    causes: dict[str, float] = {}
    for part in parts:
        causes[part.cause] = causes.get(part.cause, 0.0) + part.share
    first = sorted(causes.items(), key=lambda item: -item[1])[:3]
    lines = ["the fastest spends its step on " + ", ".join(f"{cause} {share:.0%}" for cause, share in first)]
    free = found.unlimited
    if found.step_time[free] < found.step_time[best] * (1 - 1e-9):
        gain = 1 - found.step_time[free] / found.step_time[best]
        lines.append(
            f"memory binds: {found.plans.row(free).describe()} would be {gain:.1%} faster, and is "
            f"{format_quantity(float(found.memory[free] - found.memory_limit), 'B')} over"
        )
    else:
        spare = found.memory_limit - float(found.memory[best])
        lines.append(f"memory does not bind: {format_quantity(spare, 'B')} of it stay free")
    unit = int(found.plans.row(best).dp) * int(found.plans.row(best).micro_batch)
    if batch == unit:
        lines.append("the batch binds: every copy runs a single micro-batch")
    return lines
