"""Predicted against published training steps, slice by slice, with what a constant MFU would have said."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import asdict, dataclass, field, replace
from functools import cache
from typing import Any

import numpy as np

from shapewright.cost.price import CostModel, cost_model
from shapewright.designs.breakdown import PricedPlan, price_plan, step_parts
from shapewright.designs.figures import MEMORY_SPREAD, step_figure
from shapewright.errors import ShapewrightError
from shapewright.hardware.catalog import load_accelerator
from shapewright.plan.framework import KERNELS_ALONE, Framework, frameworks, regime
from shapewright.plan.memory import FRAGMENTATION, physical_memory, read_by
from shapewright.plan.pairs import Workload
from shapewright.plan.parallel import RECOMPUTE
from shapewright.plan.precision import FULL_WIDTH, find_precision
from shapewright.validation.published import Row, Skip, is_held_out

BF16_GRADIENTS = ("megatron-core", "megatron-core-26.06")
"""Generations whose published recipes keep and reduce gradients in bf16 (NVIDIA's performance recipes set
``grad_reduce_in_fp32`` to false)."""


HEAVIEST = RECOMPUTE.index("full")
"""Where a row states no recompute, levels up to this one are tried until it fits."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Point:
    """One row with its prediction."""

    row: Row
    predicted: float
    """[s]"""
    low: float
    high: float
    flops_per_device: float
    """Model FLOP of the step per device."""
    recompute: int
    causes: Mapping[str, float] = field(default_factory=dict)
    """Shares of the predicted step by cause."""
    memory: float = 0.0
    """Predicted peak of the fullest device, as the source's meter reads it [B]."""

    @property
    def error(self) -> float:
        """predicted / measured - 1."""
        return self.predicted / self.row.step_time - 1.0


@dataclass(frozen=True, kw_only=True, slots=True)
class Slice:
    """The errors of one slice, as fractions."""

    name: str
    count: int
    covered: int
    median_ape: float
    p90_ape: float
    bias: float
    """Median of the signed error."""
    coverage_90: float
    """Share of rows inside their 90 % interval."""
    baseline_median_ape: float
    """The same rows under one constant MFU per hardware and format, chosen with hindsight."""
    baseline_p90_ape: float


def predict(rows: Iterable[Row], framework_of: Callable[[Row], Framework]) -> tuple[list[Point], list[Skip]]:
    """Predict every row from its stated configuration only."""
    points, skips = [], []
    for row in rows:
        try:
            points.append(predict_row(row, replace(workload_of(row), framework=framework_of(row))))
        except (ShapewrightError, ValueError) as error:
            skips.append(Skip(row=row.id, reason=str(error).splitlines()[0]))
    return points, skips


def workload_of(row: Row) -> Workload:
    """The cost model, precision and sequence length of a row."""
    precision = replace(find_precision(row.precision), loss_bytes=row.loss_bytes)
    if row.generation in BF16_GRADIENTS:
        precision = replace(precision, gradient_bytes=2)
    return Workload(
        cluster=row.cluster,
        model=_model(row.hardware),
        precision=precision,
        framework=KERNELS_ALONE,
        seq_len=row.seq_len,
        trainable=row.trainable,
    )


@cache
def _model(hardware: str) -> CostModel:
    return cost_model(load_accelerator(hardware))


def framework_of(row: Row) -> Framework:
    """The shipped framework of a row's generation; kernels alone where there is none."""
    return frameworks().get(row.generation or "", KERNELS_ALONE)


def predict_row(row: Row, workload: Workload) -> Point:
    """Predict one row from its stated configuration only."""
    if row.padded_experts:
        workload = replace(workload, framework=replace(workload.framework, host_experts_s=0.0))
    level = int(row.plan.recompute)
    room = physical_memory(row.cluster)
    lighter = priced = price_plan(row.shape, row.plan, workload, global_batch=row.global_batch)
    while not row.fixed_recompute and priced.memory > room and level < HEAVIEST:
        level, lighter = level + 1, priced
        priced = price_plan(
            row.shape, replace(row.plan, recompute=level), workload, global_batch=row.global_batch
        )
    # Only as many layers recompute at the heavier level as must for the rest to fit.
    spare = lighter.memory - priced.memory
    share = 1.0
    if level == HEAVIEST and spare > 0 and priced.memory < room:
        share = min((lighter.memory - room) / spare, 1.0)
    figure = step_figure(priced, workload)
    assert figure.low is not None
    assert figure.high is not None
    scale = (share * priced.step_time + (1 - share) * lighter.step_time) / priced.step_time
    return Point(
        row=row,
        predicted=figure.value * scale,
        low=figure.low * scale,
        high=figure.high * scale,
        recompute=level,
        causes=_causes(priced),
        flops_per_device=priced.model_flops / row.cluster.num_devices,
        memory=share * _metered(priced, row) + (1 - share) * _metered(lighter, row),
    )


def _causes(priced: PricedPlan) -> dict[str, float]:
    shares: dict[str, float] = {}
    for part in step_parts(priced):
        shares[part.cause] = shares.get(part.cause, 0.0) + part.share
    return shares


def _metered(priced: PricedPlan, row: Row) -> float:
    tensors = priced.memory * (1 - FRAGMENTATION) - priced.steps.framework
    return read_by(row.meter, tensors, priced.steps.framework)


def regime_of(row: Row) -> str:
    """The regime whose spread a row's interval takes."""
    inner = row.cluster.tiers[0].size if row.cluster.tiers else 1
    return regime(
        moe=row.moe,
        frozen=row.trainable < 1.0,
        number_format=find_precision(row.precision).matmul_format,
        nodes=row.cluster.num_devices / inner,
    )


def constant_mfu(points: list[Point]) -> dict[str, float]:
    """By row: the error of the constant rate per hardware and format that has the lowest median error."""
    groups: dict[tuple[str, str], list[Point]] = {}
    for point in points:
        groups.setdefault((point.row.hardware, point.row.precision), []).append(point)
    errors = {}
    for members in groups.values():
        rate = np.median([p.flops_per_device / p.row.step_time for p in members])
        for p in members:
            errors[p.row.id] = p.flops_per_device / rate / p.row.step_time - 1.0
    return errors


def slices(points: list[Point], skips: list[Skip], keys: Callable[[Row], Iterable[str]]) -> list[Slice]:
    """Score all points, and each slice that ``keys`` names for a row."""
    baseline = constant_mfu(points)
    groups: dict[str, list[Point]] = {"all": list(points)}
    for point in points:
        for key in keys(point.row):
            groups.setdefault(key, []).append(point)
    return [
        _score(name, members, baseline, len(skips) if name == "all" else 0)
        for name, members in groups.items()
    ]


def _score(name: str, members: list[Point], baseline: dict[str, float], missed: int) -> Slice:
    errors = np.array([p.error for p in members])
    other = np.abs([baseline[p.row.id] for p in members])
    inside = [p.low <= p.row.step_time <= p.high for p in members]
    return Slice(
        name=name,
        count=len(members) + missed,
        covered=len(members),
        median_ape=float(np.median(np.abs(errors))),
        p90_ape=float(np.quantile(np.abs(errors), 0.9)),
        bias=float(np.median(errors)),
        coverage_90=float(np.mean(inside)),
        baseline_median_ape=float(np.median(other)),
        baseline_p90_ape=float(np.quantile(other, 0.9)),
    )


def natural_keys(row: Row) -> tuple[str, ...]:
    """Slices of a row: its source, hardware / format / kind, and for rows that no fit saw the regimes they belong to."""
    kind = "moe" if row.moe else "dense"
    held_out = [f"held-out/{name}" for name in ("all", *regimes(row))] if is_held_out(row) else []
    return (
        row.source.split(":")[0].split(" ")[0],
        f"{row.hardware}/{row.precision}/{kind}",
        f"{kind}/{row.precision}",
        *held_out,
    )


def regimes(row: Row) -> tuple[str, ...]:
    """The regimes that err differently: what limits a step there is not the same."""
    if row.cluster.accelerator.vendor != "NVIDIA":
        return ("other-vendors",)
    if "vTrain" in row.source:
        return ("small-shapes",) if row.cluster.num_devices <= 8 else ("small-shapes-multi-node",)
    found = ["moe" if row.moe else "dense-16-bit" if row.precision in FULL_WIDTH else "dense-8-bit"]
    if row.generation == "fsdp":
        found.append("fsdp")
    if row.trainable < 1.0:
        found.append("lora")
    return tuple(found)


def memory_slices(points: list[Point]) -> list[Slice]:
    """Predicted against published peak memory, for all rows that publish it, by source, and for rows that no fit saw.

    The baseline is one constant share of the device's memory per hardware, chosen with hindsight.
    """
    known = [p for p in points if p.row.peak_memory]
    groups: dict[str, list[Point]] = {}
    for p in known:
        names = ["memory/all", f"memory/{p.row.source.split(':')[0].split(' ')[0]}"]
        if is_held_out(p.row):
            names.append("held-out/memory")
        for name in names:
            groups.setdefault(name, []).append(p)
    return [_memory_slice(name, members) for name, members in groups.items()]


def _memory_slice(name: str, members: list[Point]) -> Slice:
    measured = np.array([p.row.peak_memory for p in members], float)
    errors = np.array([p.memory for p in members]) / measured - 1.0
    hardware = np.array([p.row.hardware for p in members])
    usual = np.array([np.median(measured[hardware == h]) for h in hardware])
    other = np.abs(usual / measured - 1.0)
    return Slice(
        name=name,
        count=len(members),
        covered=len(members),
        median_ape=float(np.median(np.abs(errors))),
        p90_ape=float(np.quantile(np.abs(errors), 0.9)),
        bias=float(np.median(errors)),
        coverage_90=float(np.mean(np.abs(np.log1p(errors)) <= MEMORY_SPREAD)),
        baseline_median_ape=float(np.median(other)),
        baseline_p90_ape=float(np.quantile(other, 0.9)),
    )


def as_json(found: list[Slice], skips: list[Skip]) -> dict[str, Any]:
    """The document of ``--json``."""
    return {"slices": [asdict(s) for s in found], "skipped": [asdict(s) for s in skips]}
