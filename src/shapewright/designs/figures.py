"""From a priced plan to figures: value, 90 % interval, kind and source."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from shapewright.architecture.shape import ExpertsFFN
from shapewright.cost.interval import WIDENING as KERNEL_WIDENING
from shapewright.designs.breakdown import PricedPlan, family_shares
from shapewright.evidence import Figure, Kind
from shapewright.plan.framework import regime
from shapewright.plan.goodput import goodput
from shapewright.plan.pairs import Workload
from shapewright.scaling.law import Law
from shapewright.search.arm import memory_limit
from shapewright.search.learning import Traits, learned_loss

COMPOSITION_SPREAD = 0.12
"""Half width of the 90 % interval, in ln time, where no framework fit states one. Kind: assumed; one identical recipe
moved 6 % between framework releases, and planners calibrated on kernels miss multi-node runs by about 10 %."""

MEMORY_SPREAD = 0.12
"""Half width of the 90 % interval of the peak memory, in ln bytes. Kind: assumed (allocator, workspaces, buffers)."""


WIDENING = float(np.log1p(KERNEL_WIDENING))
"""How much wider, in ln time, the interval of a step becomes per doubling outside the widths that its spread was read off
(kind: assumed, the rate of kernels)."""


def _doublings_outside(ends: tuple[float, float] | None, width: float) -> float:
    if ends is None:
        return 0.0
    return max(float(np.log2(ends[0] / width)), float(np.log2(width / ends[1])), 0.0)


def step_figure(priced: PricedPlan, workload: Workload) -> Figure:
    """The step time with its interval [s].

    The framework's spread in this regime is conformal on whole steps, so on the devices it was measured on it is the
    interval. Elsewhere the kernels' own intervals join it as independent: weighted by the time they carry and taken as fully
    dependent (one calibration is high or low for all its operators).
    """
    low, high = 0.0, 0.0
    for (family, number_format), share in family_shares(priced).items():
        down, up = workload.model.interval(family, number_format)
        low, high = low + share * np.log(down), high + share * np.log(up)
    value = priced.step_time
    framework, cluster = workload.framework, workload.cluster
    inner = cluster.tiers[0].size if cluster.tiers else 1
    here = regime(
        moe=any(isinstance(block.channel, ExpertsFFN) for block in priced.shape.blocks),
        frozen=workload.trainable < 1.0,
        number_format=workload.precision.matmul_format,
        nodes=cluster.num_devices / inner,
    )
    composition = framework.spreads.get(here, framework.spread) or COMPOSITION_SPREAD
    composition += WIDENING * _doublings_outside(framework.widths.get(here), float(priced.shape.hidden_size))
    if cluster.accelerator.name in framework.hardware:
        low = high = 0.0
    kind, source = _kernel_evidence(workload)
    return Figure(
        value=value,
        unit="s",
        kind=kind,
        source=source,
        low=value * float(np.exp(-np.hypot(low, composition))),
        high=value * float(np.exp(np.hypot(high, composition))),
    )


def _kernel_evidence(workload: Workload) -> tuple[Kind, str]:
    fit = workload.model.evidence("matmul", workload.precision.matmul_format)
    framework = workload.framework
    return fit.kind, f"kernels: {fit.source}; framework {framework.name}: {framework.source}"


def scaled(
    figure: Figure, factor: float, unit: str, *, inverse: bool = False, kind: Kind | None = None
) -> Figure:
    """``factor * figure`` or ``factor / figure`` with its interval carried along."""
    ends = [end for end in (figure.low, figure.high) if end is not None]
    move = (lambda x: factor / x) if inverse else (lambda x: factor * x)
    moved = sorted(move(end) for end in ends)
    return Figure(
        value=move(figure.value),
        unit=unit,
        kind=kind or figure.kind,
        source=figure.source,
        low=moved[0] if moved else None,
        high=moved[-1] if moved else None,
    )


def not_below(figure: Figure, least: float) -> Figure:
    """The figure with an interval that does not reach below what cannot be: no step takes less than its FLOP at the peak."""
    if figure.low is None:
        return figure
    return replace(figure, low=min(max(figure.low, least), figure.value))


def product(a: Figure, b: Figure, unit: str) -> Figure:
    """``a * b`` of two figures whose errors are independent."""
    value = a.value * b.value

    def spread(end: str) -> float:
        logs = [
            np.log(getattr(x, end) / x.value) for x in (a, b) if getattr(x, end) is not None and x.value > 0
        ]
        return float(np.hypot.reduce(logs)) if logs else 0.0

    known = any(x.low is not None and x.high is not None for x in (a, b))
    return Figure(
        value=value,
        unit=unit,
        kind="derived",
        source=f"{a.source}; {b.source}",
        low=value * float(np.exp(-spread("low"))) if known else None,
        high=value * float(np.exp(spread("high"))) if known else None,
    )


def memory_figure(priced: PricedPlan) -> Figure:
    """Peak memory of the fullest device [B]."""
    spread = float(np.exp(MEMORY_SPREAD))
    return Figure(
        value=priced.memory,
        unit="B",
        kind="derived",
        source="operator graph and plan (plan.training)",
        low=priced.memory / spread,
        high=priced.memory * spread,
    )


def goodput_figure(priced: PricedPlan, workload: Workload) -> Figure | None:
    """Share of the wall-clock time that is progress [1]; None on one device, which nobody restarts a run for.

    The interval is that of the mean time between failures, taken as known to a factor of two.
    """
    devices = workload.cluster.num_devices
    if devices < 2:
        return None
    state = float(np.ravel(priced.steps.optimizer_state)[0] + np.ravel(priced.steps.weights)[0])
    value, low, high = (
        goodput(state_bytes=state, num_devices=devices, device_mtbf_s=workload.device_mtbf_s * factor).share
        for factor in (1.0, 0.5, 2.0)
    )
    return Figure(
        value=value,
        unit="1",
        kind="derived",
        source=f"plan.goodput: a failure per device in {workload.device_mtbf_s / 3600:,.0f} h (unless --mtbf says "
        "so: Llama 3, arXiv 2407.21783, table 5), best checkpoint interval (Young, Daly)",
        low=low,
        high=high,
    )


def limit_figure(workload: Workload) -> Figure:
    """Memory of a device that a design may use [B]."""
    capacity = workload.cluster.accelerator.memory_capacity
    assert capacity is not None
    return Figure(
        value=memory_limit(workload),
        unit="B",
        kind=capacity.kind,
        source=f"{capacity.source}, less 5 % headroom",
    )


def loss_figure(
    law: Law,
    traits: Traits,
    *,
    tokens: Figure,
    number_format: str,
    unique_tokens: float | None = None,
) -> tuple[Figure, float]:
    """The predicted loss, and the factor of compute outside the law's range (1 inside).

    The interval joins the law's own with that of the tokens, which follow the step time.
    """
    ends = np.array([tokens.value, tokens.low or tokens.value, tokens.high or tokens.value])
    found = learned_loss(law, traits, tokens=ends, number_format=number_format, unique_tokens=unique_tokens)
    value = float(found.loss[0])
    up = np.hypot(np.log(found.high[0] / value), np.log(found.loss[1] / value))
    down = np.hypot(np.log(found.low[0] / value), np.log(found.loss[2] / value))
    figure = Figure(
        value=value,
        unit=law.unit,
        kind="fitted",
        source=f"law {law.name}: {law.source}",
        low=value * float(np.exp(-down)),
        high=value * float(np.exp(up)),
    )
    return figure, float(found.extrapolation[0])
