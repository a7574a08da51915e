"""A Shape as a torch module: what the operators of its graph describe, ready to train.

Decisions: one plain module, written for reading, with the products that the graph has (queries, keys and values at
once; gate and up projection at once), so that parameters and FLOP are the graph's exactly. Where a Shape leaves a
choice open, it is the usual one: SiLU in a gated feed-forward layer and GELU in a plain one, rotary embedding in
halves with base 10,000, epsilon 1e-5. What is not written here is refused by name, never approximated.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from shapewright.architecture.shape import Block, DenseFFN, Norm, SelfAttention, Shape
from shapewright.errors import NotCoveredError, UsageError
from shapewright.lab.attend import attend

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
        """``x`` (..., width) to the same shape."""
        weight, scale = (self.weight, None) if self.fused else (None, self.weight)
        if self.rms:
            out = functional.rms_norm(x, (self.width,), weight, EPSILON)
        else:
            out = functional.layer_norm(x, (self.width,), weight, None, EPSILON)
        out = out if scale is None else out * scale
        return out if self.bias is None else out + self.bias


class AttentionLayer(nn.Module):
    """Multi-head, grouped-query or multi-query attention."""

    def __init__(self, a: SelfAttention, norm: Norm, width: int) -> None:
        super().__init__()
        self.heads, self.kv_heads, self.head_dim = int(a.heads), int(a.kv_heads), int(a.head_dim)
        self.value_dim = int(a.head_dim if a.v_head_dim is None else a.v_head_dim)
        self.window = None if a.window is None else int(a.window)
        self.causal, self.turned = a.causal, 2 * (round(self.head_dim * a.rotary_fraction) // 2)
        self.sizes = (
            self.heads * self.head_dim,
            self.kv_heads * self.head_dim,
            self.kv_heads * self.value_dim,
        )
        self.qkv = nn.Linear(width, sum(self.sizes), bias=a.qkv_bias)
        self.out = nn.Linear(self.heads * self.value_dim, width, bias=a.out_bias)
        self.full_norm = a.qk_norm == "full"
        self.q_norm = self.k_norm = None
        if a.qk_norm != "none":
            kind = Norm(kind=norm.kind, scale=a.qk_norm_scale, bias=a.qk_norm_bias)
            self.q_norm, self.k_norm = (
                self._qk_norm(kind, a.qk_norm, heads) for heads in (self.heads, self.kv_heads)
            )

    def _qk_norm(self, norm: Norm, over: str, heads: int) -> NormLayer:
        if over == "full":
            return NormLayer(norm, heads * self.head_dim)
        shape = (heads, self.head_dim) if over == "heads" else (self.head_dim,)
        return NormLayer(norm, self.head_dim, scale_shape=shape)

    def forward(self, x: Tensor, rotary: tuple[Tensor, Tensor] | None) -> Tensor:
        """``x`` (batch, tokens, width) to the same shape."""
        batch, tokens, _ = x.shape
        q, k, v = self.qkv(x).split(self.sizes, dim=-1)
        if self.full_norm and self.q_norm is not None and self.k_norm is not None:
            q, k = self.q_norm(q), self.k_norm(k)
        q = q.view(batch, tokens, self.heads, self.head_dim)
        k = k.view(batch, tokens, self.kv_heads, self.head_dim)
        v = v.view(batch, tokens, self.kv_heads, self.value_dim)
        if not self.full_norm and self.q_norm is not None and self.k_norm is not None:
            q, k = self.q_norm(q), self.k_norm(k)
        if rotary is not None and self.turned:
            q, k = _turn(q, rotary, self.turned), _turn(k, rotary, self.turned)
        y = attend(q, k, v, causal=self.causal, window=self.window)
        return self.out(y.reshape(batch, tokens, self.heads * self.value_dim))


class FFNLayer(nn.Module):
    """SwiGLU, or two matrices with GELU between them."""

    def __init__(self, ffn: DenseFFN, width: int) -> None:
        super().__init__()
        size = int(ffn.ffn_size)
        self.gated = ffn.gated
        self.up = nn.Linear(width, size * (1 + int(ffn.gated)), bias=ffn.bias)
        self.down = nn.Linear(size, width, bias=ffn.bias)

    def forward(self, x: Tensor) -> Tensor:
        """``x`` (..., width) to the same shape; the first half of ``up`` is the gate."""
        if self.gated:
            gate, up = self.up(x).chunk(2, dim=-1)
            return self.down(functional.silu(gate) * up)
        return self.down(functional.gelu(self.up(x)))


class Layer(nn.Module):
    """One layer of a block: sublayers joined to the residual stream as the Shape says."""

    def __init__(self, block: Block, width: int) -> None:
        super().__init__()
        self.place, self.parallel = block.norm_placement, block.parallel
        assert isinstance(block.mixer, SelfAttention)
        assert isinstance(block.channel, DenseFFN)
        self.attention = AttentionLayer(block.mixer, block.norm, width)
        self.ffn = FFNLayer(block.channel, width)
        self.norms = nn.ModuleList([NormLayer(block.norm, width)])
        if not (block.parallel and block.shared_norm):
            self.norms.append(NormLayer(block.norm, width))
        if self.place == "sandwich":
            self.norms.extend(NormLayer(block.norm, width) for _ in range(2))

    def forward(self, x: Tensor, rotary: tuple[Tensor, Tensor] | None) -> Tensor:
        """``x`` (batch, tokens, width) to the same shape."""
        n = self.norms
        if self.parallel:
            return x + self.attention(n[0](x), rotary) + self.ffn(n[-1](x))
        if self.place == "pre":
            x = x + self.attention(n[0](x), rotary)
            return x + self.ffn(n[1](x))
        if self.place == "post":
            x = n[0](x + self.attention(x, rotary))
            return n[1](x + self.ffn(x))
        if self.place == "output":
            x = x + n[0](self.attention(x, rotary))
            return x + n[1](self.ffn(x))
        x = x + n[2](self.attention(n[0](x), rotary))
        return x + n[3](self.ffn(n[1](x)))


class Net(nn.Module):
    """A whole model: token numbers to logits."""

    def __init__(self, shape: Shape) -> None:
        """Raises NotCoveredError where the Shape holds what is not written here."""
        super().__init__()
        refuse_uncovered(shape)
        self.shape, width = shape, int(shape.hidden_size)
        vocab, positions = int(shape.vocab_size), int(shape.learned_positions)
        self.embedding = nn.Embedding(vocab, width)
        self.positions = nn.Parameter(torch.zeros(positions, width)) if positions else None
        self.embedding_norm = NormLayer(shape.embedding_norm, width) if shape.embedding_norm else None
        self.layers = nn.ModuleList(Layer(b, width) for b in shape.blocks for _ in range(int(b.count)))
        self.final_norm = NormLayer(shape.final_norm, width) if shape.final_norm else None
        self.head = None if shape.tied_embeddings else nn.Linear(width, vocab, bias=False)
        self.head_bias = nn.Parameter(torch.zeros(vocab)) if shape.head_bias else None
        self._angles: dict[tuple[Any, ...], tuple[Tensor, Tensor]] = {}

    def forward(self, tokens: Tensor) -> Tensor:
        """``tokens`` (batch, tokens) int64 to logits (batch, tokens, vocabulary)."""
        x = self.embedding(tokens)
        if self.positions is not None:
            if tokens.shape[1] > self.positions.shape[0]:
                raise UsageError(
                    f"{tokens.shape[1]} tokens per sequence exceed the {self.positions.shape[0]} learned positions",
                    "a learned table has one row per position", "train with shorter sequences",
                )  # fmt: skip
            x = x + self.positions[: tokens.shape[1]]
        if self.embedding_norm is not None:
            x = self.embedding_norm(x)
        for layer in self.layers:
            assert isinstance(layer, Layer)
            x = layer(x, self._rotary(layer.attention.turned, tokens.shape[1], tokens.device))
        if self.final_norm is not None:
            x = self.final_norm(x)
        return functional.linear(
            x, self.embedding.weight if self.head is None else self.head.weight, self.head_bias
        )

    def _rotary(self, turned: int, tokens: int, device: torch.device) -> tuple[Tensor, Tensor] | None:
        """Cosines and sines (tokens, 1, turned) for ``turned`` features of a head."""
        if not turned:
            return None
        key = (turned, tokens, device)
        if key not in self._angles:
            rates = ROTARY_BASE ** (-torch.arange(0, turned, 2, dtype=torch.float64) / turned)
            angles = torch.arange(tokens, dtype=torch.float64)[:, None] * rates
            both = torch.cat((angles, angles), dim=-1)[:, None, :]
            self._angles[key] = (both.cos().float().to(device), both.sin().float().to(device))
        return self._angles[key]


def _turn(x: Tensor, rotary: tuple[Tensor, Tensor], turned: int) -> Tensor:
    """Rotary embedding of the first ``turned`` features of (batch, tokens, heads, head_dim)."""
    cos, sin = (t.to(x.dtype) for t in rotary)
    part, rest = x[..., :turned], x[..., turned:]
    first, second = part.chunk(2, dim=-1)
    out = part * cos + torch.cat((-second, first), dim=-1) * sin
    return out if turned == x.shape[-1] else torch.cat((out, rest), dim=-1)


def refuse_uncovered(shape: Shape) -> None:
    """Raises NotCoveredError naming the first thing in ``shape`` that cannot be built."""
    missing = []
    if shape.patches is not None:
        missing.append("image patches")
    for block in shape.blocks:
        mixer, channel = block.mixer, block.channel
        if not isinstance(mixer, SelfAttention):
            missing.append(type(mixer).__name__)
        elif mixer.chunk is not None:
            missing.append("chunked attention")
        elif mixer.gate != "none" or mixer.sinks or mixer.values_are_keys:
            missing.append("gated attention, sinks or shared keys and values")
        if not isinstance(channel, DenseFFN):
            missing.append(type(channel).__name__)
    if missing:
        raise NotCoveredError(
            f"{shape.name}: {missing[0]} cannot be trained here",
            "attention over all tokens and dense feed-forward layers can", "export the design to a framework that does",
        )  # fmt: skip


def initialise(net: Net, *, std: float, output_std: float, seed: int) -> None:
    """Normal weights: ``std`` everywhere but ``output_std`` in the matrices that write to the residual stream."""
    generator = torch.Generator().manual_seed(seed)
    for name, parameter in net.named_parameters():
        if parameter.dim() < 2 or "norm" in name:
            continue
        writes = name.endswith(("attention.out.weight", "ffn.down.weight"))
        with torch.no_grad():
            parameter.normal_(0.0, output_std if writes else std, generator=generator)
