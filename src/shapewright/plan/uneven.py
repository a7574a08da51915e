"""Closed forms of pipelines whose stages differ by a layer (``plan.stages`` says which are short).

A step is the longest path through its passes, and each form is the longest of the few paths that can win: through the first
stage, through the full stages, or through the last one, m micro-batches at the one and the ramps that lead there and back.
With F and B the passes of a full stage, T = F + B, T1 and Tp all of the first and the last stage, f full stages between
them, then q short ones of Tq, R = q Tq + Tp the way from the last full stage to the end and back, c a send (part of F, B
and T in plain schedules):

- 1F1B:  the longest of  T1 + f T + q Tq + m Tp,  m T1 + [f T + Rf - (p - 1) F1] + [f T + Rb - (p - 1) B1], brackets not
  below 0, and  T1 + (f - 1 + m) T + Rf + Rb - (q + 1) T, where Rf = max(R, (q + 1) max(F, F1)), Rb likewise: forward passes
  that a stage has in hand fill the wait for the first gradient.
- GPipe:  T1 + f T + q Tq + Tp + (m - 1) (longest F + longest B).
- interleaved (only the ends are short):  the longer of  m Tp + (p - 1) T / v + 2 (p v - 1) c + the ends' ramp  and
  m max(T, T1) + (p - 2) (T / v + 2 c) + 2 p (v - 1) c + max(Tc - 2 F / v + 2 c, 0) + max(Tc - 2 B / v + 2 c, 0) + the
  first's ramp, Tc being the last chunk.

The first two are exact; the third is where the embedding takes no time, and within 2.5 % otherwise. Zero-bubble and DualPipe
take their ramps at the mean number of layers: within 9 % from two micro-batches a stage on
(``tests/unit/test_timeline.py``).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from shapewright.plan.passes import Passes
from shapewright.plan.stages import short_ends

Array = NDArray[Any]


@dataclass(frozen=True, kw_only=True, slots=True)
class _Stage:
    """The passes of one micro-batch on one stage [s]."""

    forward: Any
    backward: Any
    weight: Any
    """The part of ``backward`` that makes weights' gradients."""

    @property
    def whole(self) -> Any:
        return self.forward + self.backward

    @property
    def inputs(self) -> Any:
        return self.backward - self.weight


def uneven_seconds(p: Passes) -> tuple[Array, Array, Array]:
    """(work, bubble, waiting for sends) of the busiest stage, as ``plan.schedules`` gives them for equal stages [s]."""
    m, schedule = np.asarray(p.micro_batches, float), np.asarray(p.schedule)
    stage, (first, last) = p.forward + p.backward, _ends(p)
    work = m * (stage + np.maximum(np.maximum(first, last), 0.0))
    pieces = _pieces(p, p.send)
    total = _one_forward_one_backward(p, *pieces)
    waits = 2 * (m + p.stages - 1) * p.send
    if np.any(p.chunks > 1):
        total = np.where(p.chunks > 1, _interleaved(p), total)
        waits = np.where(p.chunks > 1, 2 * (p.stages * p.chunks - 1) * p.send, waits)
    if np.any(schedule == 1):
        total = np.where(schedule == 1, _gpipe(p, *pieces), total)
    if np.any(schedule == 2):
        total, waits = (
            np.where(schedule == 2, _zero_bubble(p, *pieces), total),
            np.where(schedule == 2, 2 * m * p.send, waits),
        )
    if np.any(schedule == 3):
        busy, ramp = _dual_pipe(p)
        work, total = np.where(schedule == 3, busy, work), np.where(schedule == 3, busy + ramp, total)
        waits = np.where(schedule == 3, 0.0, waits)
    waits = np.minimum(waits, total - work)
    return work, total - work - waits, waits


def pacing(p: Passes) -> tuple[Array, Array, Array]:
    """(layers, embeddings, heads) that the busiest device runs per micro-batch: those whose times add up to its work."""
    first, last = _ends(p)
    shorts, dual = short_ends(p.short), (np.asarray(p.schedule) == 3) & (np.asarray(p.stages) > 1)
    alone = np.asarray(p.stages) == 1
    by_first, by_last = (first >= last) & (first > 0), (last > first) & (last > 0)
    layers = p.layers - np.where(by_first, shorts[0], np.where(by_last, shorts[1], 0.0))
    # A device of DualPipe holds two stages, each for half of the micro-batches.
    at_ends, inner, lacking = _dual_devices(p)
    by_ends = at_ends > inner
    halves = np.where(by_ends, (shorts[0] * 1.0 + shorts[1]) / 2, lacking)
    return (
        np.where(dual, p.layers - halves, np.where(alone, p.layers, layers)),
        np.where(dual, by_ends / 2, np.where(alone, 1.0, by_first)),
        np.where(dual, by_ends / 2, np.where(alone, 1.0, by_last)),
    )


def _ends(p: Passes) -> tuple[Array, Array]:
    """What the first and the last stage take more than a full one; negative where less."""
    layer = (p.forward + p.backward) / p.layers
    first_short, last_short = short_ends(p.short)
    return (
        p.first_forward + p.first_backward - layer * first_short,
        p.last_forward + p.last_backward - layer * last_short,
    )


def _dual_devices(p: Passes) -> tuple[Array, Array, Array]:
    """Seconds per micro-batch of DualPipe's device with both ends, of the slowest other one, and layers that that one lacks.

    Where more than half of the stages are short, every device holds one.
    """
    first_short, last_short = short_ends(p.short)
    ends = p.first_forward + p.first_backward + p.last_forward + p.last_backward
    lacking = np.where(p.short > p.stages / 2, 0.5, 0.0)
    layer = p.pair / p.layers
    return p.pair - layer * (first_short * 1.0 + last_short) / 2 + ends / 2, p.pair - layer * lacking, lacking


def _counts(p: Passes) -> tuple[Array, Array]:
    """(full stages between the first and the short ones, short ones before the last)."""
    inner = np.maximum(p.short - 2, 0)
    return p.stages - 2 - inner, inner


def _pieces(p: Passes, send: Any) -> tuple[_Stage, _Stage, _Stage, _Stage]:
    """(full, short, first, last) stage, with the sends that a pass waits for."""
    first_short, last_short = short_ends(p.short)

    def stage(less: Any, forward: Any = 0.0, backward: Any = 0.0) -> _Stage:
        share = 1.0 - less / p.layers
        return _Stage(
            forward=p.forward * share + send + forward,
            backward=p.backward * share + send + backward,
            weight=p.weight * share,
        )

    return (
        stage(0.0),
        stage(1.0),
        stage(first_short, p.first_forward, p.first_backward),
        stage(last_short, p.last_forward, p.last_backward),
    )


def _one_forward_one_backward(p: Passes, full: _Stage, short: _Stage, first: _Stage, last: _Stage) -> Array:
    m, (between, inner) = p.micro_batches, _counts(p)
    rest = inner * short.whole + last.whole

    def ramp(mine: Any, of_first: Any) -> Array:
        return np.where(between > 0, np.maximum(rest, (inner + 1) * np.maximum(mine, of_first)), rest)

    there, back = ramp(full.forward, first.forward), ramp(full.backward, first.backward)
    by_last = first.whole + between * full.whole + inner * short.whole + m * last.whole
    by_first = (
        m * first.whole
        + np.maximum(between * full.whole + there - (p.stages - 1) * first.forward, 0.0)
        + np.maximum(between * full.whole + back - (p.stages - 1) * first.backward, 0.0)
    )
    by_full = first.whole + (between - 1 + m - inner - 1) * full.whole + there + back
    return np.maximum(np.maximum(by_last, by_first), np.where(between > 0, by_full, 0.0))


def _gpipe(p: Passes, full: _Stage, short: _Stage, first: _Stage, last: _Stage) -> Array:
    between, inner = _counts(p)
    slowest = [
        np.maximum(np.maximum(getattr(full, way), getattr(first, way)), getattr(last, way))
        for way in ("forward", "backward")
    ]
    once = first.whole + between * full.whole + inner * short.whole + last.whole
    return once + (p.micro_batches - 1) * (slowest[0] + slowest[1])


def _zero_bubble(p: Passes, full: _Stage, short: _Stage, first: _Stage, last: _Stage) -> Array:
    between, inner = _counts(p)
    inward = first.inputs + between * full.inputs + inner * short.inputs
    # The last stage ends with its late weights' gradients, or the first one when the last inputs' gradient reached it.
    by_last = first.forward + between * full.forward + inner * short.forward + p.micro_batches * last.whole
    by_last = by_last + np.maximum(inward + first.weight - p.stages * last.weight, 0.0)
    slower = np.where(short_ends(p.short)[0], full.whole, np.maximum(full.whole, first.whole))
    ramp = (p.stages - 1 - p.short / p.layers) * (full.forward + np.maximum(full.inputs - full.weight, 0.0))
    return np.maximum(by_last, p.micro_batches * slower + ramp)


def _interleaved(p: Passes) -> Array:
    m, stages, chunks = p.micro_batches, p.stages, p.chunks
    (first, last), stage = _ends(p), p.forward + p.backward
    chunk, lighter = stage / chunks, np.minimum(first, last)
    last_chunk = chunk + last
    ramp = np.where(lighter > 0, stages * lighter, np.minimum(first, 0.0))
    by_last = m * (stage + np.where(last >= 0, np.maximum(first, last), last)) + (stages - 1) * chunk + ramp
    by_full = (
        m * (stage + np.maximum(first, 0.0)) + (stages - 2) * (chunk + 2 * p.send) + np.minimum(first, 0.0)
    )
    for part in (p.forward, p.backward):
        by_full = by_full + np.maximum(last_chunk - 2 * part / chunks + 2 * p.send, 0.0)
    return np.maximum(
        by_last + 2 * (stages * chunks - 1) * p.send, by_full + 2 * (chunks - 1) * stages * p.send
    )


def _dual_pipe(p: Passes) -> tuple[Array, Array]:
    """(work, ramp)."""
    m, stages = p.micro_batches, p.stages
    inputs, alone = p.backward - p.weight, p.forward + p.backward - p.pair
    ramp = (stages + 1) * alone + (stages / 2 - 1) * (
        p.pair + p.backward - 3 * p.weight - np.maximum(inputs - p.forward, 0.0)
    )
    at_ends, inner, _ = _dual_devices(p)
    work = m * np.maximum(at_ends, inner)
    return work, ramp * (1.0 - p.short / stages / p.layers)
