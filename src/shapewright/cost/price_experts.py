"""Pricing layers of experts with the fastest measured kernel, or the one that is named."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from shapewright.cost.choice import base_of, formats_for, variant_of
from shapewright.cost.device import Device
from shapewright.cost.formats import KernelFormat
from shapewright.cost.moe import moe_time
from shapewright.cost.price_attention import Correct
from shapewright.hardware.calibration import Calibration, Fit

BACKWARD = 2.0
"""The gradients by the tokens and by the weights are grouped products of the same FLOP as the forward pass (Rumelhart
et al. 1986); the routing in between is counted twice as well."""


def expert_fits(calibration: Calibration, number_format: str) -> tuple[Fit, ...]:
    """All measured kernels of experts in a format, or in the first fallback that has some."""
    fits = [fit for fit in calibration.fits if base_of(fit) == "moe"]
    for name in formats_for(number_format):
        found = tuple(fit for fit in fits if fit.number_format == name)
        if found:
            return found
    return ()


def kernel_name(fit: Fit) -> str:
    """Backend and library of an expert kernel's fit: ``vllm.triton`` of ``moe/whole_plain.vllm.triton``."""
    return variant_of(fit).partition(".")[2]


def experts_time(
    kernels: tuple[Fit, ...], device: Device, fmt: KernelFormat, correct: Correct, *flat: NDArray
) -> NDArray[np.float64]:
    """Seconds of rows of tokens, hidden, inter, topk, experts, ep, distribution, matrices.

    They are infinite where no kernel serves.
    """
    best = np.full(flat[0].size, np.inf)
    for fit in kernels:
        shape = variant_of(fit).partition(".")[0]
        served = (flat[5] > 1) == shape.startswith("parted")
        served &= (flat[7] < 3) == shape.endswith("_plain")
        if not served.any():
            continue
        t, d, f, top, e, p, kind, num = (column[served] for column in flat)
        seconds = moe_time(
            fit.coefficients, device, fmt, tokens=t, hidden=d, inter=f, topk=top, experts=e, ep=p, distribution=kind,
            matrices=num,
        )  # fmt: skip
        seconds = correct(
            seconds, fit, num_tokens=t, hidden_size=d, inter_size=f, topk=top, num_experts=e,
            moe_tp_size=np.ones_like(t), moe_ep_size=p, distribution=kind,
        )  # fmt: skip
        best[served] = np.minimum(best[served], seconds)
    return best
