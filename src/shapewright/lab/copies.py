"""Gradients of whole copies of a model, in one stretch of memory that one message carries.

Decisions: on processors FSDP2 costs a small model more than its arithmetic (a 96x2 of two processes took 43 ms a step, of
which 18 were its own), so copies there exchange one sum of everything after the backward pass, and the loss rides along.
Nothing is hidden behind the backward pass, and every process keeps the whole state: on CUDA devices, where that matters,
FSDP2 does both (``lab.spread``).
"""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor


class Gradients:
    """The gradients of a copy's parameters; each parameter's ``grad`` is a window of the whole."""

    def __init__(self, parameters: Iterable[Tensor], copies: int) -> None:
        """``copies`` is how many processes share the batch."""
        owners = list(parameters)
        self._copies = copies
        self._whole = torch.zeros(sum(p.numel() for p in owners) + 1, device=owners[0].device)
        start = 0
        for p in owners:
            p.grad = self._whole[start : start + p.numel()].view_as(p)
            start += p.numel()

    def mean(self, loss: float) -> float:
        """Make every gradient its mean over the copies; the mean of their losses."""
        self._whole[-1] = loss
        torch.distributed.all_reduce(self._whole)
        self._whole /= self._copies
        return float(self._whole[-1])

    def clear(self) -> None:
        """Begin a step."""
        self._whole.zero_()
