"""What a training precision means: the format of each product and the bytes of each kind of state.

Source of the byte counts: mixed-precision AdamW as in Megatron-LM's distributed optimizer (16-bit weights,
fp32 gradients, fp32 master weights and two moments) and, with sharded parameters, as in FSDP2 (fp32 weights
sharded, 16-bit copies gathered layer by layer). The measured 8-bit products are those of a framework's linear
layer, its casts included, so an 8-bit or 4-bit recipe has no extra term for them. Recipes: ``fp8`` scales tensors (or blocks
of 32, which cost the same), ``fp8-block`` blocks of 128, ``fp8-weights`` keeps and gathers the weights in 8 bits as well;
``nvfp4`` multiplies in 4 bits throughout, ``nvfp4-tail`` leaves the last 15 % of the layers in bf16 (NVIDIA 2025,
arXiv 2509.25149).
"""

from __future__ import annotations

from dataclasses import dataclass

from shapewright.errors import NotCoveredError, UsageError
from shapewright.hardware.accelerator import Accelerator

FULL_WIDTH = ("bf16", "fp16", "fp32")
"""Formats whose products are measured as kernels; narrower ones as layers with their casts."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Precision:
    """One training precision."""

    name: str
    matmul_format: str
    """Format of the products inside the layers."""
    other_format: str
    """Format of attention and of the output head."""
    activation_bytes: float
    weight_bytes: float
    """Of the copy that the products read."""
    gradient_bytes: float
    optimizer_bytes: float
    """Master weights and moments."""
    wide_share: float = 0.0
    """Share of the layers whose products stay in ``other_format`` [1]."""
    loss_bytes: float = 4.0
    """Bytes per logit that exist at the loss: fp32 logits, or 16-bit logits and their gradient."""


PRECISIONS = {
    p.name: p
    for p in (
        Precision(
            name="bf16",
            matmul_format="bf16",
            other_format="bf16",
            activation_bytes=2,
            weight_bytes=2,
            gradient_bytes=4,
            optimizer_bytes=12,
        ),
        Precision(
            name="fp16",
            matmul_format="fp16",
            other_format="fp16",
            activation_bytes=2,
            weight_bytes=2,
            gradient_bytes=4,
            optimizer_bytes=12,
        ),
        Precision(
            name="fp8",
            matmul_format="fp8",
            other_format="bf16",
            activation_bytes=2,
            weight_bytes=2,
            gradient_bytes=4,
            optimizer_bytes=12,
        ),
        Precision(
            name="nvfp4",
            matmul_format="nvfp4",
            other_format="bf16",
            activation_bytes=2,
            weight_bytes=2,
            gradient_bytes=4,
            optimizer_bytes=12,
        ),
        Precision(
            name="nvfp4-tail",
            matmul_format="nvfp4",
            other_format="bf16",
            activation_bytes=2,
            weight_bytes=2,
            gradient_bytes=4,
            optimizer_bytes=12,
            wide_share=0.15,
        ),
        Precision(
            name="fp8-block",
            matmul_format="fp8_block",
            other_format="bf16",
            activation_bytes=2,
            weight_bytes=2,
            gradient_bytes=4,
            optimizer_bytes=12,
        ),
        Precision(
            name="fp8-weights",
            matmul_format="fp8",
            other_format="bf16",
            activation_bytes=2,
            weight_bytes=1,
            gradient_bytes=4,
            optimizer_bytes=12,
        ),
        Precision(
            name="fp32",
            matmul_format="fp32",
            other_format="fp32",
            activation_bytes=4,
            weight_bytes=4,
            gradient_bytes=4,
            optimizer_bytes=8,
        ),
    )
}


def find_precision(name: str) -> Precision:
    """A precision by name.

    Raises:
        UsageError: there is no such precision.
    """
    if name not in PRECISIONS:
        raise UsageError(
            f"precision (={name!r}) is not known", f"known: {', '.join(PRECISIONS)}", "try: --precision bf16"
        )
    return PRECISIONS[name]


def default_precision(accelerator: Accelerator) -> Precision:
    """bf16 where the device has it, else fp16 on matrix units, else fp32.

    Raises:
        NotCoveredError: the device has no published peak in any of them.
    """
    for name in ("bf16", "fp16", "fp32"):
        if name in accelerator.peak_flops:
            return PRECISIONS[name]
    raise NotCoveredError(
        f"{accelerator.name} has no published peak in bf16, fp16 or fp32",
        "training needs one of them",
        "state one: --set peak_flops.fp32=1TFLOP/s",
    )
