"""Pipelines of layers over P devices: with a flush at every step, or asynchronous with stale weights."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike

from shapewright.cost.distributed.form import Form, check_split, floats


def synchronous_pipeline(
    step_s: ArrayLike, activation_bytes: ArrayLike, devices: ArrayLike, micro_batches: ArrayLike, layers: ArrayLike, *,
    alpha: ArrayLike, beta: ArrayLike,
) -> Form:  # fmt: skip
    """All forward passes, then all backward ones, then a flush (GPipe, Huang et al. 2019, arXiv 1811.06965).

    ``step_s`` is all micro-batches on one device, two thirds of it backward; ``activation_bytes`` cross each boundary
    once each way per micro-batch. 1F1B has the same bubble ``(P - 1) / (m + P - 1)`` and holds less, while hops are
    free. Exact for equal stages.

    Raises:
        UsageError: more stages than layers.
    """
    check_split(devices, layers, "the layers of a pipeline")
    step, size, p, m, alpha, beta = floats(step_s, activation_bytes, devices, micro_batches, alpha, beta)
    stage = step / (p * m)
    hop = np.where(p > 1, alpha + beta * size, 0.0)
    seconds = sum(
        p * part + (p - 1) * hop + (m - 1) * np.maximum(part, hop)
        for part in (stage / 3.0, stage * 2.0 / 3.0)
    )
    sent = np.where(p > 2, 2.0, np.where(p > 1, 1.0, 0.0)) * m * size
    return Form(name="flushed pipeline", seconds=np.asarray(seconds), compute_s=m * stage, sent_bytes=sent,
                messages=2.0 * (p - 1), held_bytes=m * size, bound_bytes=sent)  # fmt: skip


def asynchronous_pipeline(
    step_s: ArrayLike, activation_bytes: ArrayLike, devices: ArrayLike, micro_batches: ArrayLike, layers: ArrayLike, *,
    alpha: ArrayLike, beta: ArrayLike,
) -> Form:  # fmt: skip
    """PipeDream (Narayanan et al. 2019, doi 10.1145/3341301.3359646): never flushed, so no bubble.

    The first stage works with weights that are P - 1 updates old (:func:`staleness`); a hop only shows where it
    outlasts the work of a stage.

    Raises:
        UsageError: more stages than layers.
    """
    check_split(devices, layers, "the layers of a pipeline")
    step, size, p, m, alpha, beta = floats(step_s, activation_bytes, devices, micro_batches, alpha, beta)
    stage = step / (p * m)
    # A stage in the middle sends twice per micro-batch, the two of a short pipeline once each.
    sends = np.where(p > 2, 2.0, np.where(p > 1, 1.0, 0.0))
    hop, sent = sends * (alpha + beta * size), sends * m * size
    return Form(name="asynchronous pipeline", seconds=m * np.maximum(stage, hop), compute_s=m * stage,
                sent_bytes=sent, messages=sends * m, held_bytes=p * size,
                bound_bytes=sent)  # fmt: skip


def staleness(devices: ArrayLike) -> np.ndarray:
    """Updates by which the weights of the first stage of an asynchronous pipeline lag behind."""
    (p,) = floats(devices)
    return p - 1.0


def critical_batch_efficiency(batch: ArrayLike, critical: ArrayLike) -> np.ndarray:
    """Progress per sample at a batch over that at a tiny one: ``1 / (1 + B / B_crit)`` (arXiv 1812.06162, eq. 2.11).

    It multiplies the efficiency of everything that grows the batch with the devices.
    """
    b, c = floats(batch, critical)
    return 1.0 / (1.0 + b / c)
