"""Norms, rotary embedding and short convolutions: the parts that several layers of a net share."""

from __future__ import annotations

from functools import lru_cache

import torch
from torch import Tensor, nn
from torch.nn import functional

from shapewright.architecture.shape import Norm

EPSILON = 1e-5
"""Added to the variance in norms (Llama 2's)."""
ROTARY_BASE = 10_000.0
"""Base of the rotary angles (Su et al. 2021, arXiv 2104.09864)."""


class NormLayer(nn.Module):
    """RMSNorm or LayerNorm over the last axis, with the scale and bias that the Shape names."""

    def __init__(self, norm: Norm, width: int, *, scale_shape: tuple[int, ...] | None = None) -> None:
        super().__init__()
        self.rms, self.width = norm.kind == "rmsnorm", width
        shape = scale_shape or (width,)
        self.fused = len(shape) == 1
        self.weight = nn.Parameter(torch.ones(shape)) if norm.scale else None
        self.bias = nn.Parameter(torch.zeros(shape)) if norm.bias else None

    def forward(self, x: Tensor) -> Tensor:
        """``x`` (..., width) to the same shape and format."""
        weight, bias = (None if p is None else p.to(x.dtype) for p in (self.weight, self.bias))
        inside = weight if self.fused else None
        if self.rms:
            out = functional.rms_norm(x, (self.width,), inside, EPSILON)
        else:
            out = functional.layer_norm(x, (self.width,), inside, bias if self.fused else None, EPSILON)
            bias = None if self.fused else bias
        out = out if self.fused or weight is None else out * weight
        return out if bias is None else out + bias


def project(
    linear: nn.Linear, x: Tensor, sizes: tuple[int, ...], *, shared: bool = False
) -> tuple[Tensor, ...]:
    """``linear`` of ``x`` in parts of ``sizes``: one product, but on a processor one for each part.

    Parts of one product lie apart in memory, and what reads them costs a processor more than more products do. Where
    the product is ``shared`` by processes, it runs as a whole, for they meet at its borders.
    """
    if shared or x.device.type != "cpu":
        return linear(x).split(sizes, dim=-1)
    biases = (None,) * len(sizes) if linear.bias is None else linear.bias.split(sizes)
    return tuple(functional.linear(x, w, b) for w, b in zip(linear.weight.split(sizes), biases, strict=True))


class ShortConvolution(nn.Module):
    """A causal depthwise convolution with an activation, by shifts: torch's own is slow for a few taps on a processor."""

    def __init__(self, channels: int, taps: int, *, bias: bool = False, activate: bool = True) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(channels, taps).uniform_(-(taps**-0.5), taps**-0.5))
        self.bias = nn.Parameter(torch.zeros(channels)) if bias else None
        self.activate = activate

    def forward(self, x: Tensor) -> Tensor:
        """``x`` (batch, tokens, channels) to the same shape."""
        taps, tokens = self.weight.shape[1], x.shape[1]
        weight = self.weight.to(x.dtype)
        padded = functional.pad(x, (0, 0, taps - 1, 0))
        out = padded[:, taps - 1 :] * weight[:, taps - 1]
        for tap in range(taps - 1):
            out = torch.addcmul(out, padded[:, tap : tap + tokens], weight[:, tap])
        out = out if self.bias is None else out + self.bias.to(x.dtype)
        return functional.silu(out) if self.activate else out


@lru_cache(maxsize=64)
def rotary_angles(turned: int, tokens: int, device: torch.device) -> tuple[Tensor, Tensor]:
    """Cosines and sines (tokens, 1, turned) for ``turned`` features of a head."""
    rates = ROTARY_BASE ** (-torch.arange(0, turned, 2, dtype=torch.float64) / turned)
    angles = torch.arange(tokens, dtype=torch.float64)[:, None] * rates
    both = torch.cat((angles, angles), dim=-1)[:, None, :]
    return both.cos().float().to(device), both.sin().float().to(device)


def turn(x: Tensor, turned: int) -> Tensor:
    """Rotary embedding, in halves, of the first ``turned`` features of (batch, tokens, heads, head_dim)."""
    if not turned:
        return x
    cos, sin = (t.to(x.dtype) for t in rotary_angles(turned, x.shape[1], x.device))
    part, rest = x[..., :turned], x[..., turned:]
    first, second = part.chunk(2, dim=-1)
    out = part * cos + torch.cat((-second, first), dim=-1) * sin
    return out if turned == x.shape[-1] else torch.cat((out, rest), dim=-1)
