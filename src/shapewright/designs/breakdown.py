"""One plan of one model, taken apart: where the step goes, where the memory goes, where on the roofline."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from shapewright.architecture.shape import Shape
from shapewright.designs.document import Mover, Part, RooflinePoint
from shapewright.evidence import Figure
from shapewright.plan.costs import OperatorCost
from shapewright.plan.memory import FRAGMENTATION
from shapewright.plan.pairs import LocalCosts, Pairs, Workload, price_local
from shapewright.plan.parallel import Plan
from shapewright.plan.training import StepTable
from shapewright.plan.uneven import pacing
from shapewright.search.lattice import single


@dataclass(frozen=True, kw_only=True, slots=True)
class PricedPlan:
    """One (shape, plan) pair with everything that went into its step."""

    shape: Shape
    plan: Plan
    global_batch: int
    local: LocalCosts
    steps: StepTable

    @property
    def step_time(self) -> float:
        """[s]"""
        return _scalar(self.steps.step_time)

    @property
    def model_flops(self) -> float:
        """Of one step over all devices."""
        return _scalar(self.steps.model_flops)

    @property
    def memory(self) -> float:
        """Of the fullest device [B]."""
        return _scalar(self.steps.memory)


def _scalar(value: Any) -> float:
    return float(np.asarray(value).ravel()[0])


def price_plan(shape: Shape, plan: Plan, workload: Workload, *, global_batch: int) -> PricedPlan:
    """Price one shape under one plan."""
    one = single(shape)
    local = price_local(one.layers, plan, workload)
    pair = Pairs(
        local=local,
        plans=plan,
        workload=workload,
        layer=one.layer[:, None],
        plan=np.array([0]),
        depth=one.depth[:, None],
        global_batch=global_batch,
    )
    return PricedPlan(shape=shape, plan=plan, global_batch=global_batch, local=local, steps=pair.steps())


def step_parts(priced: PricedPlan) -> tuple[Part, ...]:
    """The step time of the busiest stage, part by part; the parts add up to the step [s]."""
    costs, steps, plan = priced.local.costs, priced.steps, priced.plan
    micro_batches = _scalar(steps.num_micro_batches)
    passes = steps.passes
    both = plan.pp > 1 and int(plan.schedule) == 3
    of_places = (costs.layer, costs.embedding, costs.head)
    places = [(place, _scalar(times)) for place, times in zip(of_places, pacing(passes), strict=True)]
    hidden = _scalar(passes.forward + passes.backward - passes.pair) if both else 0.0
    waits = _scalar(passes.layers) * _scalar(
        costs.layer.communication_forward + costs.layer.communication_backward
    )
    rows: list[tuple[str, str, float]] = []
    for place, times in places:
        for item in place.items if times else ():
            seconds = micro_batches * times * (_scalar(item.forward) + _scalar(item.backward))
            if hidden and place is costs.layer and item.cause == "communication":
                seconds *= 1.0 - hidden / waits
            rows.append((item.name, item.cause, seconds))
    rows += [
        ("recomputed forward pass", "recompute", _scalar(steps.recompute)),
        ("stage boundary sends (pp)", "communication", _scalar(steps.pipeline_send)),
        ("gradients and weights (dp)", "communication", _scalar(steps.exposed_dp)),
        ("pipeline bubble", "bubble", _scalar(steps.bubble)),
        ("optimizer", "memory", _scalar(steps.optimizer)),
        ("host memory", "communication", _scalar(steps.offload)),
        ("waiting for the slowest device", "jitter", _scalar(steps.jitter)),
    ]
    return _parts(rows, priced.step_time)


def memory_parts(priced: PricedPlan) -> tuple[Part, ...]:
    """The memory of the fullest device, part by part [B]."""
    s = priced.steps
    rows = [
        ("weights", "weights", _scalar(s.weights)),
        ("gradients", "gradients", _scalar(s.gradients)),
        ("optimizer state", "optimizer", _scalar(s.optimizer_state)),
        ("activations", "activations", _scalar(s.activations)),
        ("logits", "logits", _scalar(s.logits)),
        ("communication buffers", "buffers", _scalar(s.buffers)),
        ("framework", "framework", s.framework),
        ("fragmentation", "framework", FRAGMENTATION * priced.memory),
    ]
    return _parts(rows, priced.memory)


def _parts(rows: list[tuple[str, str, float]], total: float) -> tuple[Part, ...]:
    merged: dict[tuple[str, str], float] = {}
    for name, cause, value in rows:
        merged[name, cause] = merged.get((name, cause), 0.0) + value
    return tuple(
        Part(name=name, cause=cause, value=value, share=value / total)
        for (name, cause), value in merged.items()
        if value > 0
    )


def share_of(parts: tuple[Part, ...], cause: str) -> float:
    """Share of a breakdown that has this cause."""
    return sum(part.share for part in parts if part.cause == cause)


def roofline(priced: PricedPlan, workload: Workload) -> tuple[RooflinePoint, ...]:
    """Forward pass of every operator that computes, against the roofs of the device."""
    bandwidth = memory_bandwidth(workload).value
    points = []
    for item, times in _operators(priced):
        flops, num_bytes, seconds = (_scalar(x) for x in (item.flops, item.bytes, item.forward))
        if flops <= 0 or seconds <= 0:
            continue
        intensity = flops / num_bytes
        number_format = workload.precision.other_format if item.family == "scan" else item.number_format
        peak = workload.model.device(number_format).peak
        points.append(
            RooflinePoint(
                name=item.name,
                intensity=intensity,
                achieved_flops=flops / seconds,
                peak_flops=peak,
                roof_flops=min(peak, intensity * bandwidth),
                seconds=seconds * times,
            )
        )
    return tuple(points)


def movers(priced: PricedPlan) -> tuple[Mover, ...]:
    """Forward pass of every operator that moves bytes and multiplies nothing."""
    return tuple(
        Mover(
            name=item.name,
            bandwidth=_scalar(item.bytes) / _scalar(item.forward),
            seconds=_scalar(item.forward) * times,
        )
        for item, times in _operators(priced)
        if item.cause == "memory"
        and _scalar(item.flops) <= 0 < min(_scalar(item.bytes), _scalar(item.forward))
    )


def _operators(priced: PricedPlan) -> list[tuple[OperatorCost, float]]:
    """The operators of a stage and its head, each with how often a step runs it."""
    costs, micro_batches = priced.local.costs, _scalar(priced.steps.num_micro_batches)
    layers = int(priced.shape.num_layers) / int(priced.plan.pp)
    return [
        *((item, layers * micro_batches) for item in costs.layer.items),
        *((item, micro_batches) for item in costs.head.items),
    ]


def memory_bandwidth(workload: Workload) -> Figure:
    """Peak of one device [B/s]."""
    figure = workload.cluster.accelerator.memory_bandwidth
    assert figure is not None, "the cost model refuses devices without one"
    return figure


def family_shares(priced: PricedPlan) -> dict[tuple[str, str], float]:
    """Share of the layers' time by operator family and number format; waiting for the host is no family."""
    shares: dict[tuple[str, str], float] = {}
    for item in (*priced.local.costs.layer.items, *priced.local.costs.head.items):
        if item.family == "host":
            continue
        key = (item.family, item.number_format)
        shares[key] = shares.get(key, 0.0) + _scalar(item.forward) + _scalar(item.backward)
    total = sum(shares.values())
    return {key: value / total for key, value in shares.items()}
