"""The passes that a pipeline's schedule orders: what its closed forms take."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, kw_only=True, slots=True)
class Passes:
    """The passes of one micro-batch on a stage; numbers or arrays over pairs [s]."""

    stages: Any
    chunks: Any
    micro_batches: Any
    schedule: Any
    """Index into ``plan.parallel.SCHEDULES``."""
    layers: Any
    """Of a full stage."""
    short: Any
    """Chunks that are one layer short (``plan.stages`` says which)."""
    forward: Any
    """Of the layers of a full stage."""
    backward: Any
    """The same, gradients of inputs and weights, recompute included."""
    weight: Any
    """The part of ``backward`` that makes weights' gradients."""
    pair: Any
    """A forward and a backward pass that overlap (DualPipe)."""
    first_forward: Any
    first_backward: Any
    last_forward: Any
    last_backward: Any
    """What the embedding adds to the first stage, and the head to the last."""
    send: Any
    """From one stage to the next."""
