"""The question of scale: what is computed at every device count, which counts, and on wires how fast."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from shapewright.cost.price import CostModel
from shapewright.errors import UsageError
from shapewright.hardware.cluster import Cluster
from shapewright.plan.precision import Precision

Array = NDArray[Any]
Sync = Literal["all-reduce", "diloco", "streaming", "gossip", "compressed"]
SYNCS: tuple[Sync, ...] = ("all-reduce", "diloco", "streaming", "gossip", "compressed")


@dataclass(frozen=True, kw_only=True, slots=True)
class Problem:
    """What is computed at every device count."""

    cluster: Cluster
    """As large as the largest count."""
    model: CostModel
    precision: Precision
    seq_len: int
    tokens: float
    """Tokens of a step; with ``weak``, of a step and device."""
    weak: bool = False
    critical_batch: float | None = None
    """Batch at which progress per token is half [token]; None where batches do not count."""
    sync: Sync = "all-reduce"
    every: int = 100
    """Steps between two exchanges of a seldom ``sync``."""


def device_counts(text: str) -> Array:
    """``1..1e6`` as powers of two, ``8,64,512`` as they are.

    Raises:
        UsageError: no numbers, or numbers that are no powers of two.
    """
    low, dots, high = text.partition("..")
    try:
        values = [float(x) for x in (low, high)] if dots else [float(x) for x in text.split(",")]
    except ValueError:
        values = []
    if not values or not all(1 <= value <= 2**24 for value in values):
        raise UsageError(f"--devices (={text!r}) is not a range", "it is FIRST..LAST or N,N,N, from 1 to 16,777,216",
                         "for example --devices 1..1e6")  # fmt: skip
    if dots:
        first, last = (round(np.log2(v)) for v in values)
        if last < first:
            raise UsageError(f"--devices (={text!r}) runs backwards", "the first number is the smaller",
                             f"try --devices {high}..{low}")  # fmt: skip
        return 2 ** np.arange(first, last + 1)
    for value in values:
        near = 2 ** round(np.log2(value))
        if value != near:
            raise UsageError(f"--devices (={value:g}) is no power of two", "splits halve",
                             f"nearest that works: {near}")  # fmt: skip
    return np.array(sorted({int(v) for v in values}))


def with_wires(problem: Problem, *, alpha: float = 1.0, beta: float = 1.0) -> Problem:
    """``problem`` with every latency times ``alpha`` and every bandwidth times ``beta``."""
    tiers = tuple(
        replace(tier, latency=replace(tier.latency, value=tier.latency.value * alpha),
                bandwidth=replace(tier.bandwidth, value=tier.bandwidth.value * beta))
        for tier in problem.cluster.tiers
    )  # fmt: skip
    model = problem.model
    fits = tuple(
        replace(fit, coefficients={name: value * (alpha if name in ("hop_s", "launch_s", "bulk_s", "mid_s") else 1.0)
                                   for name, value in fit.coefficients.items()})
        if fit.family == "collective" else fit
        for fit in model.calibration.fits
    )  # fmt: skip
    scale_up = model.accelerator.scale_up
    accelerator = model.accelerator if scale_up is None else replace(
        model.accelerator,
        scale_up=replace(scale_up, bandwidth=replace(scale_up.bandwidth, value=scale_up.bandwidth.value * beta)),
    )  # fmt: skip
    model = replace(model, calibration=replace(model.calibration, fits=fits), accelerator=accelerator)
    return replace(
        problem, model=model, cluster=replace(problem.cluster, tiers=tiers, accelerator=accelerator)
    )
