"""Token mixers that are convolutions: short ones with a gate, and long ones through the Fourier transform."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from shapewright.architecture.operator import Size


@dataclass(frozen=True, kw_only=True, slots=True)
class Convolution:
    """A depthwise convolution between two products, by default gated on both sides as in LFM2 (arXiv 2511.23404).

    Gated: the input product makes three streams b, c and x, and the output is ``product(c * convolution(b * x))``.
    Not gated: one stream and an activation after the convolution.
    """

    kind: Literal["convolution"] = "convolution"
    channels: Size
    """Width of each stream."""
    kernel: Size = 3
    """Taps along one dimension."""
    dims: Literal[1, 2] = 1
    """1 for sequences (causal), 2 for the patches of an image: ``kernel ** dims`` weights per channel."""
    gated: bool = True
    bias: bool = False
    """Biases of both products and of the convolution."""

    @property
    def taps(self) -> Size:
        """Weights per channel."""
        return self.kernel**self.dims

    @property
    def heads(self) -> Size:
        """What tensor parallelism can spread: channels."""
        return self.channels

    @property
    def kv_heads(self) -> Size:
        """Heads that groups of ``heads`` share."""
        return self.channels

    @property
    def head_dim(self) -> Size:
        """Width of one channel."""
        return 1

    @property
    def state_elements(self) -> Size:
        """The last inputs of the convolution."""
        return (self.taps - 1) * self.channels

    def cached(self, context: Size) -> Size:
        """Elements that grow with the context: none."""
        return 0


@dataclass(frozen=True, kw_only=True, slots=True)
class LongConvolution:
    """A Hyena operator (arXiv 2302.10866): ``order`` convolutions as long as the sequence, each with a gate.

    The filters are made by a small network from positions, so that parameters do not grow with the length; the
    convolutions run through the Fourier transform.
    """

    kind: Literal["long_convolution"] = "long_convolution"
    channels: Size
    order: Size = 2
    """Long convolutions, each followed by a gate."""
    short_kernel: Size = 3
    """Taps of the short convolution over the projected streams."""
    filter_width: Size = 64
    """Width of the network that makes the filters."""
    position_dim: Size = 3
    """Width of the positions that this network reads."""

    @property
    def heads(self) -> Size:
        """What tensor parallelism can spread: channels."""
        return self.channels

    @property
    def kv_heads(self) -> Size:
        """Heads that groups of ``heads`` share."""
        return self.channels

    @property
    def head_dim(self) -> Size:
        """Width of one channel."""
        return 1

    @property
    def state_elements(self) -> Size:
        """The last inputs of the short convolution."""
        return (self.short_kernel - 1) * (self.order + 1) * self.channels

    def cached(self, context: Size) -> Size:
        """Exact decoding keeps the inputs of every long convolution."""
        return context * self.order * self.channels
