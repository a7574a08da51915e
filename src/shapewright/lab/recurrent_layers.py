"""Layers that carry a state: gated DeltaNet, Mamba-2, mLSTM, LSTM, and the gated short convolution.

Decisions: each projects all its inputs by one product, in the order that its docstring states. Numbers that the
operators count with the norm (decays, step sizes, skips) are parameters of the layer. Scans run in fp32.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn import functional

from shapewright.architecture.shape import LSTM, MLSTM, Convolution, DeltaNet, Mamba2, Norm
from shapewright.lab.norms import EPSILON, NormLayer, ShortConvolution
from shapewright.lab.scans import CHUNK, delta_scan, mlstm_scan, ssd_scan

GATE_CAP = 15.0
"""Gates of mLSTM before their exponential are capped softly at this (xLSTM 7B, arXiv 2503.13427, section 3.2)."""
SLOWEST, FASTEST = 1e-3, 0.1
"""Step sizes at the start are log-uniform between these (Mamba, arXiv 2312.00752, section 3.6)."""


class DeltaLayer(nn.Module):
    """Gated DeltaNet (arXiv 2412.06464): queries, keys, values, output gate, beta, decay."""

    def __init__(self, a: DeltaNet, width: int) -> None:
        super().__init__()
        self.chunk = CHUNK["delta"]
        self.key_heads, self.heads = int(a.key_heads), int(a.value_heads)
        self.key_dim, self.value_dim = int(a.key_dim), int(a.value_dim)
        keys, values = self.key_heads * self.key_dim, self.heads * self.value_dim
        self.mixed = (keys, keys, values)
        self.sizes = (sum(self.mixed), values, self.heads, self.heads)
        self.into = nn.Linear(width, sum(self.sizes), bias=False)
        self.conv = ShortConvolution(sum(self.mixed), int(a.conv_kernel))
        self.decay = nn.Parameter(torch.linspace(1.0, 16.0, self.heads).log())
        self.step = nn.Parameter(_step_offsets(self.heads))
        self.norm = NormLayer(Norm(), self.value_dim)
        self.out = nn.Linear(values, width, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """``x`` (batch, tokens, width) to the same shape."""
        return self.out(self.mix(self.into(x)))

    def mix(self, projected: Tensor) -> Tensor:
        """What lies between the two products: (batch, tokens, all inputs) to (batch, tokens, values)."""
        batch, tokens, _ = projected.shape
        mixed, gate, beta, step = projected.split(self.sizes, dim=-1)
        q, k, v = self.conv(mixed).split(self.mixed, dim=-1)
        q, k = (t.reshape(batch, tokens, self.key_heads, self.key_dim) for t in (q, k))
        q, k = (functional.normalize(t.float(), dim=-1, eps=1e-6) for t in (q, k))
        q, k = (t.repeat_interleave(self.heads // self.key_heads, dim=2) for t in (q * self.key_dim**-0.5, k))
        v = v.reshape(batch, tokens, self.heads, self.value_dim)
        log_decay = -self.decay.exp() * functional.softplus(step.float() + self.step)
        with torch.autocast(projected.device.type, enabled=False):
            y = delta_scan(q, k, v, log_decay, torch.sigmoid(beta.float()), chunk=self.chunk)
        y = self.norm(y) * functional.silu(gate.view_as(y).float())
        return y.reshape(batch, tokens, -1).to(mixed.dtype)


class Mamba2Layer(nn.Module):
    """Mamba-2 (arXiv 2405.21060): output gate, values, keys, queries, step sizes."""

    def __init__(self, a: Mamba2, width: int) -> None:
        super().__init__()
        self.chunk = CHUNK["ssd"]
        self.heads, self.head_dim = int(a.heads), int(a.head_dim)
        self.state, self.groups = int(a.state_size), int(a.groups)
        values = self.heads * self.head_dim
        self.mixed = (values, self.groups * self.state, self.groups * self.state)
        self.sizes = (values, sum(self.mixed), self.heads)
        self.into = nn.Linear(width, sum(self.sizes), bias=a.bias)
        self.conv = ShortConvolution(sum(self.mixed), int(a.conv_kernel), bias=a.conv_bias)
        self.decay = nn.Parameter(torch.arange(1.0, self.heads + 1.0).log())
        self.step = nn.Parameter(_step_offsets(self.heads))
        self.skip = nn.Parameter(torch.ones(self.heads))
        # A scale over all heads, but the variance is that of one group.
        self.norm = nn.Parameter(torch.ones(values))
        self.out = nn.Linear(values, width, bias=a.bias)

    def forward(self, x: Tensor) -> Tensor:
        """``x`` (batch, tokens, width) to the same shape."""
        batch, tokens, _ = x.shape
        gate, mixed, step = self.into(x).split(self.sizes, dim=-1)
        values, keys, queries = self.conv(mixed).split(self.mixed, dim=-1)
        values = values.reshape(batch, tokens, self.heads, self.head_dim).float()
        keys, queries = (t.reshape(batch, tokens, self.groups, self.state) for t in (keys, queries))
        dt = functional.softplus(step.float() + self.step)
        with torch.autocast(x.device.type, enabled=False):
            y = ssd_scan(values * dt.unsqueeze(-1), keys, queries, -self.decay.exp() * dt, chunk=self.chunk)
        y = (y + values * self.skip.unsqueeze(-1)).reshape(batch, tokens, -1)
        y = (y * functional.silu(gate.float())).view(batch, tokens, self.groups, -1)
        y = functional.rms_norm(y, (y.shape[-1],), None, EPSILON).reshape(batch, tokens, -1) * self.norm
        return self.out(y.to(mixed.dtype))


class MLSTMLayer(nn.Module):
    """mLSTM as in xLSTM 7B (arXiv 2503.13427): queries, keys, values, output gate; input and forget gates."""

    def __init__(self, a: MLSTM, width: int) -> None:
        super().__init__()
        self.chunk = CHUNK["mlstm"]
        self.heads, self.key_dim, self.value_dim = int(a.heads), int(a.key_dim), int(a.value_dim)
        keys, values = self.heads * self.key_dim, self.heads * self.value_dim
        self.sizes = (keys, keys, values, values, self.heads, self.heads)
        self.into = nn.Linear(width, sum(self.sizes), bias=False)
        # Input gates start nearly shut, forget gates nearly open (arXiv 2503.13427, section 3.2).
        self.gate_bias = nn.Parameter(
            torch.cat((torch.full((self.heads,), -10.0), torch.linspace(3.0, 6.0, self.heads)))
        )
        self.norm = nn.Parameter(torch.ones(values))
        self.out = nn.Linear(values, width, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """``x`` (batch, tokens, width) to the same shape."""
        batch, tokens, _ = x.shape
        q, k, v, gate, enter, forget = self.into(x).split(self.sizes, dim=-1)
        q, k = (t.reshape(batch, tokens, self.heads, self.key_dim) for t in (q, k))
        v = v.reshape(batch, tokens, self.heads, self.value_dim)
        enter, forget = (
            GATE_CAP * torch.tanh((t.float() + bias) / GATE_CAP)
            for t, bias in zip((enter, forget), self.gate_bias.chunk(2), strict=True)
        )
        with torch.autocast(x.device.type, enabled=False):
            y = mlstm_scan(q, k, v, enter, functional.logsigmoid(forget), chunk=self.chunk)
        y = functional.layer_norm(y, (self.value_dim,), None, None, EPSILON).reshape(batch, tokens, -1)
        return self.out((torch.sigmoid(gate.float()) * (y * self.norm)).to(v.dtype))


class LSTMLayer(nn.Module):
    """LSTM with forget gates, and a product back to the model's width; the library's own kernel, in fp32."""

    def __init__(self, a: LSTM, width: int) -> None:
        super().__init__()
        self.cell = nn.LSTM(width, int(a.cell_size), bias=a.bias, batch_first=True)
        self.out = nn.Linear(int(a.cell_size), width, bias=False) if a.projection else None

    def forward(self, x: Tensor) -> Tensor:
        """``x`` (batch, tokens, width) to the same shape."""
        with torch.autocast(x.device.type, enabled=False):
            y, _ = self.cell(x.float())
        return y if self.out is None else self.out(y)


class ConvolutionLayer(nn.Module):
    """A depthwise convolution between two products, gated on both sides or activated (LFM2, arXiv 2511.23404)."""

    def __init__(self, a: Convolution, width: int) -> None:
        super().__init__()
        self.channels, self.gated = int(a.channels), a.gated
        self.into = nn.Linear(width, self.channels * (3 if a.gated else 1), bias=a.bias)
        self.conv = ShortConvolution(self.channels, int(a.kernel), bias=a.bias, activate=not a.gated)
        self.out = nn.Linear(self.channels, width, bias=a.bias)

    def forward(self, x: Tensor) -> Tensor:
        """``x`` (batch, tokens, width) to the same shape."""
        if not self.gated:
            return self.out(self.conv(self.into(x)))
        before, after, y = self.into(x).chunk(3, dim=-1)
        return self.out(after * self.conv(before * y))


def _step_offsets(heads: int) -> Tensor:
    """Offsets whose softplus runs log-evenly from the slowest to the fastest step."""
    steps = torch.logspace(math.log10(SLOWEST), math.log10(FASTEST), heads)
    return steps + torch.log(-torch.expm1(-steps))
