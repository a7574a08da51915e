"""Number formats of matrix products as kernels run them: bytes moved, peak used, extra passes.

Decisions: a *kernel format* names what a measured kernel does, not only a storage type: ``fp8_block`` scales
blocks of 128, ``int4_wo`` stores weights in 4 bits and multiplies in 16. The output is 16 bits wide in all of
them. ``fp16`` runs on the same units at the same rate as ``bf16`` on every device described here that has both.
"""

from __future__ import annotations

from dataclasses import dataclass

from shapewright.errors import UnknownNameError


@dataclass(frozen=True, kw_only=True, slots=True)
class KernelFormat:
    """What a matrix product in this format moves and which peak it runs against."""

    name: str
    peak: tuple[str, ...]
    """Keys of :attr:`Accelerator.peak_flops`, the first that is published counts."""
    activation_bytes: float
    """Bytes per element of the left operand as the multiply reads it."""
    weight_bytes: float
    """Bytes per element of the weight, scales included."""
    quantises: bool = False
    """True where the measured layer first quantises a 16-bit activation."""
    block: int = 1
    """Sizes of n and k must be multiples of it, or the product takes a slower path."""


FORMATS: dict[str, KernelFormat] = {
    f.name: f
    for f in (
        KernelFormat(name="bf16", peak=("bf16", "fp16"), activation_bytes=2.0, weight_bytes=2.0),
        KernelFormat(name="fp16", peak=("fp16", "bf16"), activation_bytes=2.0, weight_bytes=2.0),
        KernelFormat(name="tf32", peak=("tf32",), activation_bytes=4.0, weight_bytes=4.0),
        KernelFormat(name="fp32", peak=("fp32",), activation_bytes=4.0, weight_bytes=4.0),
        KernelFormat(
            name="fp8", peak=("fp8", "int8"), activation_bytes=1.0, weight_bytes=1.0, quantises=True
        ),
        KernelFormat(
            name="fp8_block",
            peak=("fp8", "bf16"),
            block=128,
            activation_bytes=1.03125,
            weight_bytes=1.0,
            quantises=True,
        ),
        KernelFormat(
            name="nvfp4", peak=("fp4",), activation_bytes=0.5625, weight_bytes=0.5625, quantises=True
        ),
        KernelFormat(name="int8", peak=("int8",), activation_bytes=1.0, weight_bytes=1.0, quantises=True),
        KernelFormat(name="int8_wo", peak=("bf16", "fp16"), activation_bytes=2.0, weight_bytes=1.0),
        KernelFormat(name="w4a16_mxfp4", peak=("bf16", "fp16"), activation_bytes=2.0, weight_bytes=0.53125),
        KernelFormat(
            name="w4a8_mxfp4_mxfp8",
            peak=("fp8", "bf16"),
            activation_bytes=1.03125,
            weight_bytes=0.53125,
            quantises=True,
        ),
        # Two bits a weight, unpacked beside the multiply; one scale per matrix (BitNet b1.58).
        KernelFormat(name="ternary", peak=("bf16", "fp16"), activation_bytes=2.0, weight_bytes=0.25),
        KernelFormat(name="int4_wo", peak=("bf16", "fp16"), activation_bytes=2.0, weight_bytes=0.53125),
    )
}
"""Scales: fp8_block one fp32 per 128 activations, nvfp4 one byte per 16, int4_wo one 16-bit scale per 64."""


def kernel_format(name: str) -> KernelFormat:
    """The kernel format of a name.

    Raises:
        UnknownNameError: there is none.
    """
    if name not in FORMATS:
        raise UnknownNameError("number format", name, FORMATS)
    return FORMATS[name]
