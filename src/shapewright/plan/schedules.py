"""Closed forms of pipeline schedules: what a sweep uses instead of laying every pass on a stream.

``plan.timeline`` simulates the same schedules pass by pass; ``tests/unit/test_timeline.py`` holds the two equal. Sources:
Huang et al. 2019 (GPipe, arXiv 1811.06965), Narayanan et al. 2021 (1F1B, interleaving, arXiv 2104.04473), Qi et al. 2024
(zero-bubble H1, arXiv 2401.10241), DeepSeek-V3 (DualPipe, arXiv 2412.19437).

With m micro-batches on p stages of v chunks, F, I and W the forward pass, the gradient of inputs and that of weights of a
stage, B = I + W, e and h what embedding and head add, c a send:

- 1F1B, GPipe:  m (F + B + 2c + max(e, h)) + (p - 1) (F + B + 2c) + min(e, h). Sends are waited for.
- interleaved:  m (F + B + max(e, h)) + (p - 1) (F + B) / v + p min(e, h) + 2 (p v - 1) c. Sends run behind other chunks.
- zero-bubble:  m (F + B + 2c + max(e, h)) + (p - 1) (F + c + max(I + c - W, 0)) + min(e, h).
- DualPipe:     m X + (p + 1) (F + B - X) + (p / 2 - 1) (X + B - 3 W - max(I - F, 0)) + m / 2 (e + h), X a forward and a
  backward pass that overlap. Its sends run behind the other direction.

Stages that differ by a layer have their own forms in ``plan.uneven``. These are exact where all stages are equal, and for
the first three where the head outweighs the embedding; where the embedding does, warm-up hides some of it and they are upper
bounds (by at most p - 1 of its passes). DualPipe is exact for W <= I = F, for F < I up to eight stages, and elsewhere within
3 %; its ends, which fill bubbles of their devices, make it an upper bound (5 % for a model of 8 B on 8 stages).
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from shapewright.plan.passes import Passes
from shapewright.plan.uneven import uneven_seconds

Array = NDArray[Any]


def pipeline_seconds(p: Passes) -> tuple[Array, Array, Array]:
    """(work, bubble, waiting for sends) of the busiest stage; they add up to the pipeline's time [s]."""
    m, stages, chunks = (np.asarray(x, float) for x in (p.micro_batches, p.stages, p.chunks))
    schedule, pipelined = np.asarray(p.schedule), stages > 1
    first, last = p.first_forward + p.first_backward, p.last_forward + p.last_backward
    stage = p.forward + p.backward
    lighter, heavier = np.minimum(first, last), np.maximum(np.maximum(first, last), 0.0)
    interleaved = pipelined & (chunks > 1)
    work = m * np.where(pipelined, stage + heavier, stage + first + last)
    bubble = (stages - 1) * stage / chunks + np.where(
        interleaved, stages * np.maximum(lighter, 0.0), first + last - heavier
    )
    waits = np.where(interleaved, 2 * (stages * chunks - 1), 2 * (m + stages - 1)) * p.send
    if np.any(schedule == 2):
        split = pipelined & (schedule == 2)
        inputs = p.backward - p.weight
        fill = (stages - 1) * (p.forward + p.send + np.maximum(inputs + p.send - p.weight, 0.0))
        bubble = np.where(split, fill + first + last - heavier, bubble)
        waits = np.where(split, 2 * m * p.send, waits)
    if np.any(schedule == 3):
        both = pipelined & (schedule == 3)
        inputs = p.backward - p.weight
        alone = stage - p.pair
        busy = m * p.pair + m / 2 * (first + last)
        fill = (stages + 1) * alone + (stages / 2 - 1) * (
            p.pair + p.backward - 3 * p.weight - np.maximum(inputs - p.forward, 0.0)
        )
        work, bubble, waits = (np.where(both, a, b) for a, b in ((busy, work), (fill, bubble), (0.0, waits)))
    bubble, waits = np.where(pipelined, bubble, 0.0), np.where(pipelined, waits, 0.0)
    if np.any(p.short):
        short, uneven = np.asarray(p.short) > 0, uneven_seconds(p)
        work, bubble, waits = (
            np.where(short, mine, equal) for mine, equal in zip(uneven, (work, bubble, waits), strict=True)
        )
    return work, bubble, waits
