"""What a layer does to each token by itself: dense feed-forward layers and mixtures of experts.

Decisions: SiLU in a gated layer, GELU in a plain one. A mixture routes by the softmax of its scores, weighs the chosen
experts by their share among the chosen, and drops no token; every expert runs its tokens at once, so the products are
those of the routed tokens. The loss that would balance the experts is left out: runs of minutes do not need it.
"""

from __future__ import annotations

from importlib.util import find_spec

import torch
from torch import Tensor, nn
from torch.nn import functional

from shapewright.architecture.shape import DenseFFN, ExpertsFFN
from shapewright.lab.norms import project

TRITON = find_spec("triton") is not None
"""Whether the fused activation can run on a CUDA device."""


class FFNLayer(nn.Module):
    """SwiGLU, or two matrices with GELU between them."""

    def __init__(self, ffn: DenseFFN, width: int) -> None:
        super().__init__()
        size = int(ffn.ffn_size)
        self.gated, self.size, self.shares = ffn.gated, size, 1
        self.tile: int | None = None
        """Of the fused activation on CUDA devices; None for the usual one."""
        self.up = nn.Linear(width, size * (1 + int(ffn.gated)), bias=ffn.bias)
        self.down = nn.Linear(size, width, bias=ffn.bias)

    def share(self, count: int) -> None:
        """Be one of ``count`` processes that have as many columns each; who calls cuts the weights."""
        self.size, self.shares = self.size // count, count

    def forward(self, x: Tensor) -> Tensor:
        """``x`` (..., width) to the same shape; the first half of ``up`` is the gate."""
        if not self.gated:
            return self.down(functional.gelu(self.up(x)))
        if x.device.type == "cuda" and TRITON:
            from shapewright.lab.triton_kernels import TILE, gated

            return self.down(gated(self.up(x), self.tile or TILE))
        gate, up = project(self.up, x, (self.size,) * 2, shared=self.shares > 1)
        return self.down(functional.silu(gate) * up)


class ExpertsLayer(nn.Module):
    """``topk`` of ``experts`` per token, and shared experts that see all of them."""

    def __init__(self, moe: ExpertsFFN, width: int) -> None:
        super().__init__()
        count, size = int(moe.experts), int(moe.ffn_size)
        self.topk, self.gated = int(moe.topk), moe.gated
        seen = width if moe.latent_size is None else int(moe.latent_size)
        wide = size * (1 + int(moe.gated))
        self.router = nn.Linear(width, count, bias=moe.router_bias)
        self.up = nn.Parameter(torch.zeros(count, wide, seen))
        self.down = nn.Parameter(torch.zeros(count, seen, size))
        self.up_bias = nn.Parameter(torch.zeros(count, wide)) if moe.bias else None
        self.down_bias = nn.Parameter(torch.zeros(count, seen)) if moe.bias else None
        self.latent_down = self.latent_up = None
        if moe.latent_size is not None:
            self.latent_down = nn.Linear(width, seen, bias=False)
            self.latent_up = nn.Linear(seen, width, bias=False)
        shared = int(moe.shared_ffn_size)
        self.shared = FFNLayer(DenseFFN(ffn_size=shared, gated=moe.gated), width) if shared else None
        self.shared_gate = nn.Linear(width, 1, bias=False) if shared and moe.shared_gate else None

    def forward(self, x: Tensor) -> Tensor:
        """``x`` (batch, tokens, width) to the same shape."""
        flat = x.flatten(0, 1)
        shares, chosen = torch.softmax(self.router(flat).float(), -1).topk(self.topk, dim=-1)
        shares = shares / shares.sum(-1, keepdim=True)
        rows = flat if self.latent_down is None else self.latent_down(flat)
        order = chosen.flatten().argsort(stable=True)
        counts = torch.bincount(chosen.flatten(), minlength=self.up.shape[0]).tolist()
        routed = rows[order // self.topk].split(counts)
        parts = [self._expert(i, part) for i, part in enumerate(routed) if counts[i]]
        weighed = torch.cat(parts) * shares.flatten()[order].unsqueeze(-1).to(parts[0].dtype)
        out = torch.zeros(rows.shape, dtype=weighed.dtype, device=x.device).index_add(
            0, order // self.topk, weighed
        )
        out = out if self.latent_up is None else self.latent_up(out)
        if self.shared is not None:
            beside = self.shared(flat)
            out = out + (
                beside if self.shared_gate is None else torch.sigmoid(self.shared_gate(flat)) * beside
            )
        return out.view(x.shape)

    def _expert(self, i: int, rows: Tensor) -> Tensor:
        up = functional.linear(rows, self.up[i], None if self.up_bias is None else self.up_bias[i])
        down = None if self.down_bias is None else self.down_bias[i]
        return functional.linear(_activate(up, self.gated), self.down[i], down)


def _activate(up: Tensor, gated: bool) -> Tensor:
    if not gated:
        return functional.gelu(up)
    gate, value = up.chunk(2, dim=-1)
    return functional.silu(gate) * value
