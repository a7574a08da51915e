"""A step by roof and by wire: which of the four roofs its operators stand under, and which wires it waits for."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from shapewright.errors import NotCoveredError
from shapewright.outlook.scale_problem import Problem
from shapewright.plan.costs import ModelCost, OperatorCost

Array = NDArray[Any]
KINDS = {"matmul": "matmul", "moe": "matmul", "attention": "attention", "scan": "memory", "memory": "memory"}
"""Which measured kind of kernel speaks for an operator's power."""
WIRES = {"(tp)": "tensor-parallel wires", "(cp)": "context-parallel wires", "(ep)": "expert wires"}


@dataclass(frozen=True, kw_only=True, slots=True)
class Parts:
    """Seconds, FLOP and bytes of the operators of a step at several device counts (N,)."""

    ROOFS: ClassVar[tuple[str, ...]] = ("compute roof", "memory roof", "span roof", "launches")
    seconds: dict[str, Array]
    work: tuple[tuple[OperatorCost, Array, Array, Array], ...]
    """Each operator that computes, with its seconds forward, backward, and how often."""


def roof_of(item: OperatorCost, problem: Problem, place: Array) -> Array:
    """(N,) which roof an operator stands under: 0 compute, 1 memory, 2 span."""
    accelerator = problem.cluster.accelerator
    bandwidth = accelerator.memory_bandwidth
    peak = problem.model.device(problem.precision.other_format).peak
    seconds = np.maximum(item.forward[0][place], 1e-30)
    busy = item.flops[0][place] / peak
    moved = item.bytes[0][place] / (bandwidth.value if bandwidth is not None else np.inf)
    if item.family == "scan":
        # A scan that keeps neither the units nor the memory half busy waits for its own chunks or tokens.
        waiting = np.maximum(busy, moved) < 0.5 * seconds
        return np.where(waiting, 2, np.where(busy >= moved, 0, 1))
    return np.where(busy >= moved, 0, 1) if item.family != "memory" else np.ones(place.shape, int)


def parts_of(
    costs: ModelCost, problem: Problem, *, place: Array, layers: Array, ends: Array, again: Array
) -> Parts:
    """Sum the operators at the local splits ``place`` (N,), ``layers`` layers and ``ends`` heads of each a step.

    ``again`` is 1 where the forward pass of the layers runs twice.
    """
    seconds: dict[str, Array] = {}
    work: list[tuple[OperatorCost, Array, Array, Array]] = []

    def add(name: str, value: Array) -> None:
        seconds[name] = seconds.get(name, np.zeros(place.shape)) + value

    for group, times, twice in (
        (costs.layer, layers, again),
        (costs.embedding, ends, 0),
        (costs.head, ends, 0),
    ):
        for item in group.items:
            forward, backward = item.forward[0][place] * (1.0 + twice), item.backward[0][place]
            total = (forward + backward) * times
            if item.cause == "communication":
                add(next((label for mark, label in WIRES.items() if mark in item.name), "other wires"), total)
            elif item.cause == "launch":
                add("launches", total)
            else:
                roof = roof_of(item, problem, place)
                for code, label in enumerate(Parts.ROOFS[:3]):
                    add(label, np.where(roof == code, total, 0.0))
                work.append((item, forward, backward, times))
    return Parts(seconds=seconds, work=tuple(work))


def joules(parts: Parts, problem: Problem, step: Array) -> Array | None:
    """Energy of one step per device with host and site [J]; None where no power is known.

    Kernels draw what the fitted energy model says of their FLOP, bytes and time; whatever else fills the step draws
    what an idle board does.
    """
    model, cluster = problem.model, problem.cluster
    fmt = problem.precision.other_format
    try:
        total = busy = np.zeros(step.shape)
        for item, forward, backward, times in parts.work:
            if item.family not in KINDS:
                continue
            flops, moved = (np.max(x[0]) * np.ones(step.shape) for x in (item.flops, item.bytes))
            share = np.divide(forward, np.max(item.forward[0]), out=np.zeros(step.shape), where=forward > 0)
            for taken, work in ((forward, share), (backward, 2.0 * share)):
                safe = np.maximum(taken, 1e-12)
                energy = model.joules(seconds=safe, flops=flops * work, num_bytes=moved * work, number_format=fmt,
                                      kind=KINDS[item.family])  # fmt: skip
                total = total + np.where(taken > 0, energy, 0.0) * times
                busy = busy + taken * times
        idle = float(model.joules(seconds=1.0, flops=0.0, num_bytes=0.0, number_format=fmt, kind="memory"))
    except NotCoveredError:
        return None
    total = total + np.maximum(step - busy, 0.0) * idle
    host, site = cluster.host_power_per_device, cluster.power_usage_effectiveness
    return (total + (host.value if host else 0.0) * step) * (site.value if site else 1.0)
