"""Softmax attention as layers: multi-head, grouped, windowed, gated, and latent.

Decisions: queries, keys and values come from one product, in this order; a latent layer expands its latent into keys
and values of every head, as training does. Rotary features are turned in halves.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from shapewright.architecture.shape import LatentAttention, Norm, SelfAttention
from shapewright.lab.attend import BLOCK, attend
from shapewright.lab.norms import NormLayer, project, turn


class AttentionLayer(nn.Module):
    """Multi-head, grouped-query or multi-query attention, over all tokens, a window or pieces."""

    def __init__(self, a: SelfAttention, norm: Norm, width: int) -> None:
        super().__init__()
        self.block: int | None = BLOCK
        self.shares = 1
        self.heads, self.kv_heads, self.head_dim = int(a.heads), int(a.kv_heads), int(a.head_dim)
        self.value_dim = int(a.head_dim if a.v_head_dim is None else a.v_head_dim)
        self.window = None if a.window is None else int(a.window)
        self.chunk = None if a.chunk is None else int(a.chunk)
        self.causal, self.turned = a.causal, 2 * (round(self.head_dim * a.rotary_fraction) // 2)
        self.sizes: tuple[int, ...] = (
            self.heads * self.head_dim,
            self.kv_heads * self.head_dim,
            self.kv_heads * self.value_dim,
        )
        self.qkv = nn.Linear(width, sum(self.sizes), bias=a.qkv_bias)
        self.out = nn.Linear(self.heads * self.value_dim, width, bias=a.out_bias)
        gates = {"none": 0, "head": self.heads, "element": self.heads * self.value_dim}[a.gate]
        self.gate = nn.Linear(width, gates, bias=a.qkv_bias) if gates else None
        self.sinks = nn.Parameter(torch.zeros(self.heads)) if a.sinks else None
        self.full_norm = a.qk_norm == "full"
        self.q_norm = self.k_norm = None
        if a.qk_norm != "none":
            kind = Norm(kind=norm.kind, scale=a.qk_norm_scale, bias=a.qk_norm_bias)
            self.q_norm, self.k_norm = (
                self._qk_norm(kind, a.qk_norm, heads) for heads in (self.heads, self.kv_heads)
            )

    def share(self, count: int) -> None:
        """Be one of ``count`` processes that have as many heads each; who calls cuts the weights."""
        self.shares = count
        self.heads, self.kv_heads = self.heads // count, self.kv_heads // count
        self.sizes = tuple(size // count for size in self.sizes)

    def _qk_norm(self, norm: Norm, over: str, heads: int) -> NormLayer:
        if over == "full":
            return NormLayer(norm, heads * self.head_dim)
        shape = (heads, self.head_dim) if over == "heads" else (self.head_dim,)
        return NormLayer(norm, self.head_dim, scale_shape=shape)

    def forward(self, x: Tensor) -> Tensor:
        """``x`` (batch, tokens, width) to the same shape."""
        batch, tokens, _ = x.shape
        q, k, v = project(self.qkv, x, self.sizes, shared=self.shares > 1)
        if self.full_norm and self.q_norm is not None and self.k_norm is not None:
            q, k = self.q_norm(q), self.k_norm(k)
        q = q.view(batch, tokens, self.heads, self.head_dim)
        k = k.view(batch, tokens, self.kv_heads, self.head_dim)
        v = v.view(batch, tokens, self.kv_heads, self.value_dim)
        if not self.full_norm and self.q_norm is not None and self.k_norm is not None:
            q, k = self.q_norm(q), self.k_norm(k)
        q, k = turn(q, self.turned), turn(k, self.turned)
        pieces = range(0, tokens, self.chunk or tokens)
        parts = [
            attend(*(t[:, at : at + (self.chunk or tokens)] for t in (q, k, v)), causal=self.causal,
                   window=self.window, sinks=self.sinks, block=self.block)
            for at in pieces
        ]  # fmt: skip
        y = parts[0] if len(parts) == 1 else torch.cat(parts, dim=1)
        if self.gate is not None:
            y = y * torch.sigmoid(self.gate(x)).view(batch, tokens, self.heads, -1)
        return self.out(y.reshape(batch, tokens, self.heads * self.value_dim))


class LatentLayer(nn.Module):
    """Multi-head latent attention (arXiv 2405.04434, section 2.1)."""

    def __init__(self, a: LatentAttention, width: int) -> None:
        super().__init__()
        self.block: int | None = BLOCK
        self.heads, self.nope, self.rope = int(a.heads), int(a.qk_nope_head_dim), int(a.qk_rope_head_dim)
        self.value_dim, self.rank = int(a.v_head_dim), int(a.kv_lora_rank)
        features, norm = self.heads * (self.nope + self.rope), Norm()
        self.q_down = self.q_norm = None
        source = width
        if a.q_lora_rank is not None:
            source = int(a.q_lora_rank)
            self.q_down, self.q_norm = nn.Linear(width, source, bias=a.bias), NormLayer(norm, source)
        self.q_up = nn.Linear(source, features, bias=False)
        self.kv_down = nn.Linear(width, self.rank + self.rope, bias=a.bias)
        self.kv_norm = NormLayer(norm, self.rank)
        self.kv_up = nn.Linear(self.rank, self.heads * (self.nope + self.value_dim), bias=False)
        self.out = nn.Linear(self.heads * self.value_dim, width, bias=a.bias)

    def forward(self, x: Tensor) -> Tensor:
        """``x`` (batch, tokens, width) to the same shape."""
        batch, tokens, _ = x.shape
        q = x if self.q_down is None or self.q_norm is None else self.q_norm(self.q_down(x))
        q = self.q_up(q).view(batch, tokens, self.heads, self.nope + self.rope)
        latent, shared = self.kv_down(x).split((self.rank, self.rope), dim=-1)
        expanded = self.kv_up(self.kv_norm(latent)).view(
            batch, tokens, self.heads, self.nope + self.value_dim
        )
        k, v = expanded.split((self.nope, self.value_dim), dim=-1)
        shared = turn(shared.unsqueeze(2), self.rope).expand(-1, -1, self.heads, -1)
        q = torch.cat((q[..., : self.nope], turn(q[..., self.nope :], self.rope)), dim=-1)
        y = attend(q, torch.cat((k, shared), dim=-1), v, block=self.block)
        return self.out(y.reshape(batch, tokens, self.heads * self.value_dim))
