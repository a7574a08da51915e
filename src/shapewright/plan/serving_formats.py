"""Which number format each part of a served model runs in, and what one element of it weighs.

Decisions: checkpoints are quantised by part. Published 4-bit checkpoints of mixtures (DeepSeek, Kimi, MiniMax, Qwen3.5,
gpt-oss) hold only the experts in 4 bits and leave the attention's products in 16; 8-bit ones quantise all products in
the layers; embeddings, norms, routers and the head stay in bf16 everywhere. The cache of keys and values has a format
of its own; recurrent states are kept in fp32.
"""

from __future__ import annotations

from dataclasses import dataclass

from shapewright.architecture.shape import ExpertsFFN, Shape
from shapewright.cost.formats import kernel_format
from shapewright.errors import NotCoveredError, UnknownNameError
from shapewright.hardware.accelerator import Accelerator

CACHES = {"bf16": 2.0, "fp8": 1.0}
"""Bytes of one cached element by format."""
STATE_BYTES = 4.0
"""Of one element of a recurrent state."""
HEAD_FORMAT = "bf16"


@dataclass(frozen=True, kw_only=True, slots=True)
class ServingFormats:
    """The formats of one deployment; ``name`` is what a user asks for."""

    name: str
    products: str
    """Kernel format of the products of attention and of dense feed-forward layers."""
    experts: str
    """Kernel format of routed experts."""
    cache: str = "bf16"
    """Format of cached keys and values: ``bf16`` or ``fp8``."""

    @property
    def product_bytes(self) -> float:
        """Bytes of one weight of a product in the layers."""
        return kernel_format(self.products).weight_bytes

    @property
    def expert_bytes(self) -> float:
        """Bytes of one weight of a routed expert."""
        return kernel_format(self.experts).weight_bytes

    @property
    def cache_bytes(self) -> float:
        """Bytes of one cached element."""
        return CACHES[self.cache]


_DENSE = {
    "bf16": "bf16", "fp8": "fp8", "fp8_block": "fp8_block", "fp4": "nvfp4", "int4": "int4_wo", "int8": "int8_wo",
}  # fmt: skip
PRECISIONS = tuple(_DENSE)
"""What a user may ask for: ``fp8_block`` scales blocks of 128, ``int4`` and ``int8`` are weight-only."""


def serving_formats(
    name: str, shape: Shape, accelerator: Accelerator, *, cache: str | None = None
) -> ServingFormats:
    """The formats that a published checkpoint of this precision has, on this accelerator.

    The cache follows the weights unless it is named: fp8 beside fp8 and fp4 weights where the device computes in fp8.

    Raises:
        UnknownNameError: no such precision or cache.
        NotCoveredError: the device has no published peak for it, nor for what stands in.
    """
    if name not in _DENSE:
        raise UnknownNameError("--precision", name, PRECISIONS, "try: --precision fp8")
    if cache is not None and cache not in CACHES:
        raise UnknownNameError("--cache", cache, CACHES, "try: --cache fp8")
    sparse = any(isinstance(block.channel, ExpertsFFN) for block in shape.blocks)
    fp8 = "fp8" in accelerator.peak_flops
    products = experts = _DENSE[name]
    if sparse:
        if name == "fp8":
            products = experts = "fp8_block"
        elif name in ("fp4", "int4"):
            products = "bf16"
        if name == "fp4" and "fp4" not in accelerator.peak_flops:
            experts = "w4a16_mxfp4"
        if name == "fp4" and shape.name.startswith("gpt-oss"):
            experts = "w4a8_mxfp4_mxfp8" if "fp4" in accelerator.peak_flops else "w4a16_mxfp4"
    elif name == "fp4" and "fp4" not in accelerator.peak_flops:
        products = experts = "int4_wo"
    for wanted in {products, experts}:
        peaks = kernel_format(wanted).peak
        if not set(peaks) & set(accelerator.peak_flops):
            raise NotCoveredError(
                f"precision (={name!r}) has no published peak on {accelerator.name}",
                f"it multiplies in {' or '.join(peaks)}; published: {', '.join(sorted(accelerator.peak_flops))}",
                "try: --precision bf16",
            )
    chosen = cache or ("fp8" if fp8 and name.startswith(("fp8", "fp4")) else "bf16")
    return ServingFormats(name=name, products=products, experts=experts, cache=chosen)
