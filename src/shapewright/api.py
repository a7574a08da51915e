"""The Python interface: the verbs of the command line as functions.

>>> import shapewright as sw
>>> d = sw.design("64xh100_sxm", days=30)  # doctest: +SKIP
>>> d.plan.tp, d.why()  # doctest: +SKIP
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from shapewright.architecture.catalog import resolve_model
from shapewright.architecture.shape import Shape
from shapewright.cost.price import Level
from shapewright.designs.build import make_design
from shapewright.designs.document import Design
from shapewright.designs.estimate import make_estimate
from shapewright.designs.files import load_design
from shapewright.designs.lint import Finding, loss_change_of
from shapewright.designs.lint import lint as lint_shape
from shapewright.designs.serving import Serve, parse_serve
from shapewright.errors import UsageError
from shapewright.hardware.catalog import load_accelerator, parse_cluster
from shapewright.plan.parallel import Plan
from shapewright.plan.rules import attention_heads
from shapewright.scaling.law import default_law
from shapewright.search.budget import Budget, BudgetKind, check_amount
from shapewright.search.joint import Options, workload_for
from shapewright.units import format_quantity, parse_quantity

__all__ = [
    "Budget",
    "Design",
    "LintReport",
    "Options",
    "design",
    "estimate",
    "lint",
    "load_accelerator",
    "load_design",
    "parse_cluster",
    "resolve_model",
]


def budget_from(
    *,
    days: float | None = None,
    hours: float | None = None,
    minutes: float | None = None,
    dollars: str | float | None = None,
    energy: str | float | None = None,
    flops: str | float | None = None,
) -> Budget:
    """The one budget that was given.

    Raises:
        UsageError: none or several were given, or it is not positive.
    """
    given: list[tuple[str, BudgetKind, float]] = []
    for name, value, scale in (("days", days, 86400.0), ("hours", hours, 3600.0), ("minutes", minutes, 60.0)):
        if value is not None:
            check_amount(f"--{name}", f"{value:g}", value)
            given.append((name, "time", float(value) * scale))
    amounts: tuple[tuple[str, str | float | None, BudgetKind, str], ...] = (
        ("dollars", dollars, "dollars", "USD"),
        ("energy", energy, "energy", "J"),
        ("flops", flops, "flops", "FLOP"),
    )
    for name, value, kind, unit in amounts:
        if value is not None:
            amount = parse_quantity(value, unit, f"--{name}")
            check_amount(f"--{name}", str(value), amount)
            given.append((name, kind, amount))
    if len(given) != 1:
        names = ", ".join(name for name, _, _ in given) or "nothing"
        raise UsageError(
            f"budget (={names}) must be exactly one of days, hours, minutes, dollars, energy, flops",
            "the design spends one budget",
            "for example: --days 30",
        )
    return Budget(kind=given[0][1], value=given[0][2])


def design(
    hardware: str,
    *,
    days: float | None = None,
    hours: float | None = None,
    minutes: float | None = None,
    dollars: str | float | None = None,
    energy: str | float | None = None,
    flops: str | float | None = None,
    options: Options | None = None,
    settings: Sequence[str] = (),
    serve: str | Serve | None = None,
) -> Design:
    """Design the model with the lowest predicted loss for a hardware and one budget.

    With ``serve`` (``"isl=4000 osl=1000 tokens=1e13 tpot=20ms"``, or a ``Serve``) the cheapest to serve of those that
    train as well.

    Raises:
        UsageError: the budget or ``serve`` cannot be read.
        InfeasibleError: no design fits, or none can be served within the goals.
    """
    budget = budget_from(days=days, hours=hours, minutes=minutes, dollars=dollars, energy=energy, flops=flops)
    workload = parse_serve(serve) if isinstance(serve, str) else serve
    return make_design(hardware, budget, options or Options(), settings, serve=workload)


def estimate(
    model: str | Path | Shape,
    on: str,
    *,
    tokens: float | None = None,
    options: Options | None = None,
    settings: Sequence[str] = (),
) -> Design:
    """Estimate the training of a model: under the plan in ``options``, or under the best one."""
    shape = model if isinstance(model, Shape) else resolve_model(str(model))
    return make_estimate(shape, on, options or Options(), tokens=tokens, settings=settings)


@dataclass(frozen=True, kw_only=True, slots=True)
class LintReport:
    """The findings about one model on one device."""

    model: str
    hardware: str
    plan: str
    """The plan they were priced under."""
    step_time_s: float
    """Of the model as it is [s]."""
    findings: tuple[Finding, ...]


def lint(
    model: str | Path | Shape,
    on: str,
    *,
    seq_len: int | None = None,
    precision: str | None = None,
    level: Level = "physics",
    settings: Sequence[str] = (),
    tp: int = 1,
    pp: int = 1,
    vpp: int = 1,
    micro_batch: int = 1,
) -> LintReport:
    """Price every number of a shape against its aligned neighbours.

    The step is that of ``tp * pp`` devices without data parallelism, with eight micro-batches per stage where there are
    stages (fewer would hide in the ramp what unequal stages cost), and without regard to memory: what is asked is how the
    shape falls on the device, not whether it fits one.

    Raises:
        UsageError: ``tp`` does not divide the heads.
    """
    from shapewright.designs.breakdown import price_plan

    shape = model if isinstance(model, Shape) else resolve_model(str(model))
    for heads, _ in attention_heads(shape):
        if heads % tp:
            good = [t for t in range(1, int(heads) + 1) if heads % t == 0]
            raise UsageError(
                f"--tp (={tp}) does not divide {heads} heads",
                "a rank holds whole heads",
                f"nearest that works: --tp {min(good, key=lambda t: abs(t - tp))}",
            )
    cluster = parse_cluster(on, settings)
    if tp * pp > 1 and cluster.num_devices == 1:
        cluster = parse_cluster(f"{tp * pp}x{on}", settings)
    workload = workload_for(cluster, Options(seq_len=seq_len, precision=precision, level=level))
    plan = Plan(tp=tp, pp=pp, vpp=vpp, micro_batch=micro_batch)
    batch = micro_batch * (8 * pp if pp > 1 else 1)
    findings = lint_shape(
        shape,
        workload,
        plan=plan,
        global_batch=batch,
        loss_change=loss_change_of(
            shape,
            default_law(flops=120.0 * _params(shape) ** 2),
            20.0 * _params(shape),
            workload.precision.matmul_format,
        ),
    )
    priced = price_plan(shape, plan, workload, global_batch=batch)
    return LintReport(
        model=shape.name,
        hardware=cluster.accelerator.name,
        findings=findings,
        step_time_s=priced.step_time,
        plan=f"tp {tp}, pp {pp}, micro-batch {micro_batch}, {workload.seq_len:,} tokens per sequence; "
        f"step {format_quantity(priced.step_time, 's')}",
    )


def _params(shape: Shape) -> float:
    from shapewright.architecture.graph import num_active_params

    return float(num_active_params(shape))
