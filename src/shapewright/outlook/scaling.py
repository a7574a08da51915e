"""Several architectures from one device to a million: curves, crossings, break-even wires, and why.

Decisions: architectures are compared by the time of a token under each one's best split. A crossing lies between two
device counts, where the ratio of times passes one (interpolated in logarithms). A break-even is the factor on every
latency, or on every bandwidth, at which one overtakes the first at a given count.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations, pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

from shapewright.architecture.shape import Shape
from shapewright.errors import InfeasibleError
from shapewright.outlook.scale import Curve, Point, curve, step_seconds
from shapewright.outlook.scale_parts import Parts
from shapewright.outlook.scale_problem import Problem, with_wires

Array = NDArray[Any]
FACTORS = np.logspace(-2.0, 2.0, 9)
"""Factors on latency and bandwidth that are tried."""
LEAST = 0.02
"""Difference of times, in logarithms, below which two architectures count as equally fast."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Crossing:
    """Where one architecture becomes the faster one."""

    before: str
    """The faster one on fewer devices."""
    after: str
    devices: float


@dataclass(frozen=True, kw_only=True, slots=True)
class BreakEven:
    """What the wires must be for one architecture to overtake another."""

    name: str
    over: str
    devices: int
    ratio: float
    """Time of ``name`` over that of ``over`` on today's wires; above 1 it is the slower [1]."""
    latency_s: float | None
    """Latency between nodes at which both are as fast [s]; None where none within 100 times either way is."""
    bandwidth: float | None
    """The same for the bandwidth between nodes [B/s]."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Scaling:
    """The answer of ``shapewright scale``."""

    hardware: str
    seq_len: int
    tokens: float
    weak: bool
    sync: str
    precision: str
    critical_batch: float | None
    wires: tuple[tuple[str, float, float], ...]
    """Name, latency [s] and bandwidth [B/s] of each tier."""
    curves: tuple[Curve, ...]
    left_out: dict[str, str]
    """Architectures that no device count can run, with the reason."""
    crossings: tuple[Crossing, ...]
    break_evens: tuple[BreakEven, ...]
    why: tuple[str, ...]


def scaling(shapes: Sequence[Shape], problem: Problem, counts: Array, *, at: int | None = None) -> Scaling:
    """Price all ``shapes`` on all ``counts``; break-even wires on ``at`` devices (None: see :func:`_common`).

    Raises:
        InfeasibleError: no architecture runs on any count.
    """
    curves: list[Curve] = []
    left_out: dict[str, str] = {}
    last: InfeasibleError | None = None
    for shape in shapes:
        try:
            curves.append(curve(shape, problem, counts))
        except InfeasibleError as error:
            left_out[shape.name] = str(error).replace("\n", "; ")
            last = error
    if not curves:
        assert last is not None
        raise last
    by_name = {shape.name: shape for shape in shapes}
    where = at if at is not None else _common(curves)
    even = (
        () if where is None or where < 2 or len(curves) < 2 else _break_evens(curves, by_name, problem, where)
    )
    tiers = problem.cluster.tiers
    return Scaling(
        hardware=problem.cluster.accelerator.name, seq_len=problem.seq_len, tokens=problem.tokens, weak=problem.weak,
        sync=problem.sync, precision=problem.precision.name, critical_batch=problem.critical_batch,
        wires=tuple((t.name, t.latency.value, t.bandwidth.value) for t in tiers), curves=tuple(curves),
        left_out=left_out, crossings=crossings(curves), break_evens=even, why=tuple(_why(curves)),
    )  # fmt: skip


def crossings(curves: Sequence[Curve]) -> tuple[Crossing, ...]:
    """Where the order of two architectures turns, on the device counts that both run on."""
    found = []
    for a, b in combinations(curves, 2):
        times = {p.devices: 1.0 / p.tokens_per_s for p in a.points}
        both = [(p.devices, times[p.devices] * p.tokens_per_s) for p in b.points if p.devices in times]
        # Ratios this near to one are no order: kernels alone are not known better.
        both = [(n, ratio) for n, ratio in both if abs(np.log(ratio)) > LEAST]
        for (low, before), (high, after) in pairwise(both):
            if (before - 1.0) * (after - 1.0) < 0:
                share = np.log(before) / (np.log(before) - np.log(after))
                devices = float(np.exp(np.log(low) + share * (np.log(high) - np.log(low))))
                # A ratio above one: the second was the faster one before.
                first, second = (b.name, a.name) if before > 1 else (a.name, b.name)
                found.append(Crossing(before=first, after=second, devices=devices))
    return tuple(sorted(found, key=lambda c: c.devices))


def _common(curves: Sequence[Curve]) -> int | None:
    """The count for break-evens: the largest that all run on while the first is at least a quarter efficient."""
    shared = set.intersection(*({p.devices for p in c.points} for c in curves))
    good = [p.devices for p in curves[0].points if p.devices in shared and p.efficiency >= 0.25]
    return max(good, default=max(shared, default=None))


def _break_evens(
    curves: Sequence[Curve], shapes: dict[str, Shape], problem: Problem, devices: int
) -> tuple[BreakEven, ...]:
    tiers = problem.cluster.tiers
    if not tiers:
        return ()
    outer = tiers[-1]
    kinds = {
        kind: [with_wires(problem, **{kind: float(factor)}) for factor in FACTORS]
        for kind in ("alpha", "beta")
    }
    times = {
        (c.name, kind): np.array([step_seconds(shapes[c.name], p, devices) for p in problems])
        for c in curves
        for kind, problems in kinds.items()
    }
    base = curves[0].name
    now = int(np.argmin(np.abs(np.log(FACTORS))))
    found = []
    for other in curves[1:]:
        factor = {
            kind: _balance(times[other.name, kind] / times[base, kind]) if devices > 1 else None
            for kind in ("alpha", "beta")
        }
        found.append(
            BreakEven(
                name=other.name, over=base, devices=devices,
                ratio=float(times[other.name, "alpha"][now] / times[base, "alpha"][now]),
                latency_s=None if factor["alpha"] is None else factor["alpha"] * outer.latency.value,
                bandwidth=None if factor["beta"] is None else factor["beta"] * outer.bandwidth.value,
            )
        )  # fmt: skip
    return tuple(found)


def _balance(ratio: Array) -> float | None:
    """The factor nearest to 1 at which ``ratio`` over the factors passes one."""
    good = np.isfinite(ratio) & (ratio > 0)
    log, x = np.log(np.where(good, ratio, 1.0)), np.log(FACTORS)
    turns = [
        float(np.exp(x[i] - log[i] * (x[i + 1] - x[i]) / (log[i + 1] - log[i])))
        for i in range(len(x) - 1)
        if good[i] and good[i + 1] and log[i] * log[i + 1] < 0
    ]
    return min(turns, key=lambda f: abs(np.log(f)), default=None)


def _why(curves: Sequence[Curve]) -> list[str]:
    """What the curves show, in words."""
    lines = []
    for c in curves:
        first = c.points[0]
        waiting = first.parts.get("span roof", 0.0) / first.seconds
        half = next((p for p in c.points if p.efficiency < 0.5), None)
        text = f"{c.name}: on {first.devices:,} device{'s' * (first.devices > 1)} the {first.binds} takes "
        text += f"{first.parts[first.binds] / first.seconds:.0%} of the step"
        if 0.05 < waiting < 1 and first.binds != "span roof":
            text += f", the span roof {waiting:.0%}"
        if half is None:
            text += f"; still {c.points[-1].efficiency:.0%} efficient on {c.points[-1].devices:,}"
        elif half is first:
            text += f"; {first.efficiency:.0%} efficient already there"
        else:
            text += f"; below half on {half.devices:,}, most lost to {half.loses or half.binds}"
        lines.append(text)
    base = curves[0]
    rates = {p.devices: p for p in base.points}
    for c in curves[1:]:
        both = [(rates[p.devices], p) for p in c.points if p.devices in rates]
        if both:
            a, b = both[0]
            end_a, end_b = both[-1]
            lines.append(
                f"{c.name} against {base.name}: {_times(b, a)} the speed on {a.devices:,}, {_times(end_b, end_a)} on "
                f"{end_a.devices:,}"
            )
            spans = [p.parts.get("span roof", 0.0) / p.seconds for p in (b, end_b)]
            if max(spans) > 0.3:
                lines.append(
                    f"{c.name} waits for its own steps ({max(spans):.0%} of the time): more devices, like a faster "
                    "device, shorten everything but that"
                )
    return lines


def _times(a: Point, b: Point) -> str:
    ratio = a.tokens_per_s / b.tokens_per_s
    return f"{ratio:.2g}x" if ratio < 100 else f"{ratio:.0f}x"


def roofs(point: Point) -> dict[str, float]:
    """The shares of a step under each roof, and what is lost beside them, which add to one."""
    found = {name: point.parts.get(name, 0.0) / point.seconds for name in Parts.ROOFS}
    return {**found, "lost": 1.0 - sum(found.values())}
