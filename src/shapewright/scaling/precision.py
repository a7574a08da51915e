"""Training in low precision as a smaller model.

Decisions: Kumar et al. 2024 (arXiv 2411.04330, section 4) fit training in few bits as a loss of effective
parameters, a factor per tensor kind that multiplies: ``N_eff = N prod_t (1 - exp(-P_t / gamma_t))^n_t`` for weights,
activations and the KV cache in P_t bits. Their coefficients come from 30 to 220 M parameters and per-tensor integer
quantisation; block scaling as in today's FP8 and FP4 recipes loses less, so the factor is a cautious bound and no
law of ours applies it unasked; their coefficients are ``assumed``, not re-derived from open runs. What a design in 8
or 4 bits is charged is what trained models report.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from shapewright.errors import UsageError
from shapewright.evidence import Figure
from shapewright.scaling.forms import Array
from shapewright.scaling.law import Z90

Values = Any
"""A number or an array of numbers."""

KUMAR_SOURCE = "Kumar et al. 2024 (arXiv 2411.04330, section 4), not re-derived"
KUMAR = {"weights": (2.6745, 0.3037), "activations": (2.2102, 1.4072), "kv": (0.9578, 2.4185)}
"""(gamma [bits], n) of each tensor kind."""
FP8_LIMIT = Figure(
    value=0.0025, unit="1", kind="measured",
    source="DeepSeek-V3 (arXiv 2412.19437, section 3.3): FP8 with block scales stays within .25 % of the BF16 loss",
)  # fmt: skip
"""Relative loss that block-scaled FP8 training costs at most, at 16 and 230 B parameters."""
NVFP4_GAP = Figure(
    value=0.0125, unit="1", kind="measured", low=0.005, high=0.02,
    source="NVIDIA 2025 (arXiv 2509.25149, section 3): a 12 B model on 10 T tokens stays within 1 % of the FP8 loss, "
    "1.5 % at the end of the decay",
)  # fmt: skip
"""Relative loss that NVFP4 training costs; one model."""


def format_shift(number_format: str) -> tuple[float, float]:
    """Shift of ln loss where the layers multiply in this format instead of 16 bits, and its standard deviation.

    Halfway to ``FP8_LIMIT`` for 8 bits, its end being one end of the 90 % interval; ``NVFP4_GAP`` for 4 bits; nothing
    for 16 and 32 bits, in which the laws' own runs were trained.
    """
    if number_format in ("fp8", "mxfp8", "fp8_block"):
        half = 0.5 * FP8_LIMIT.value
        return half, half / Z90
    if number_format == "nvfp4":
        gap = NVFP4_GAP
        assert gap.low is not None
        assert gap.high is not None
        return gap.value, (gap.high - gap.low) / (2.0 * Z90)
    return 0.0, 0.0


def effective_fraction(
    *, weight_bits: Values = 16.0, activation_bits: Values = 16.0, kv_bits: Values = 16.0
) -> Array:
    """Effective over actual parameters when training in these bits; 1 at 16 bits to within .3 %.

    Raises:
        UsageError: fewer than 1 bit.
    """
    fraction = np.asarray(1.0)
    for kind, bits in (("weights", weight_bits), ("activations", activation_bits), ("kv", kv_bits)):
        bits = np.asarray(bits, float)
        if np.any(bits < 1.0):
            raise UsageError(
                f"{kind} bits (={float(bits.min()):g}) are below 1", "a number needs a bit", "give 4 to 16"
            )
        gamma, power = KUMAR[kind]
        fraction = fraction * (-np.expm1(-bits / gamma)) ** power
    return fraction
