"""What a measurement of this machine times, one record per kernel and size.

Decisions: sizes are those of training small models (256 to 8,192 tokens, widths 48 to 2,048), log-spread, with
odd sizes among them and in the three layouts of a training step: ``x w^T`` forward, ``g w`` for the input's
gradient, ``g^T x`` for the weight's. Memory-bound kernels are those between the products of a layer, each forward
and backward where the library has a backward. The order is shuffled by a fixed seed, so that a budget that runs
out leaves a fair sample, and goes round and round, so that a busy second does not fall on one size.
"""

from __future__ import annotations

import random
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

DIMENSIONS: Mapping[str, tuple[str, ...]] = {
    "gemm": ("m", "n", "k", "layout"),
    "attention": ("batch", "heads", "tokens", "head_dim"),
    "decode": ("batch", "heads", "keys", "head_dim"),
    "delta": ("batch", "heads", "tokens", "head_dim"),
    "norm": ("tokens", "width"),
    "rotary": ("tokens", "width"),
    "residual": ("tokens", "width"),
    "gated": ("tokens", "width"),
    "copy": ("bytes",),
    "overhead": (),
}
"""The dimensions of each kind. ``layout`` is 0 forward, 1 input gradient, 2 weight gradient; the ``width`` of
``gated`` is that of the feed-forward layer; ``bytes`` counts what a copy reads and what it writes."""

POINTWISE: Mapping[str, tuple[float, float]] = {
    "norm": (2.0, 2.0), "rotary": (2.0, 2.0), "residual": (3.0, 1.0), "gated": (3.0, 2.0),
}  # fmt: skip
"""Elements moved per token and feature in the forward pass, and the backward pass over it, as
``architecture.operator`` counts them for fused kernels: what the calibration relates measured time to."""
LAYER = {"norm": 2, "rotary": 1, "residual": 2, "gated": 1}
"""Memory-bound kernels of one decoder layer; rotary turns queries and keys, twice the model's width."""


@dataclass(frozen=True, slots=True)
class Case:
    """One kernel at one size."""

    kind: str
    """A key of :data:`DIMENSIONS`."""
    number_format: str
    dims: tuple[int, ...] = ()
    """The values of its dimensions."""

    @property
    def named(self) -> dict[str, int]:
        """The dimensions by name."""
        return dict(zip(DIMENSIONS[self.kind], self.dims, strict=True))

    @property
    def flops(self) -> float:
        """FLOP of a product; 0 for other kinds."""
        return 2.0 * self.dims[0] * self.dims[1] * self.dims[2] if self.kind == "gemm" else 0.0

    @property
    def odd(self) -> bool:
        """True for a product with a dimension of rows that is not a multiple of 16 bytes."""
        return self.kind == "gemm" and any(size % 8 for size in self.dims[:3])


@dataclass(frozen=True, kw_only=True, slots=True)
class Sizes:
    """The sizes that suit a kind of device."""

    widths: tuple[int, ...]
    """Model widths of the products."""
    tokens: tuple[int, ...]
    """Tokens of the products."""
    squares: tuple[int, ...]
    """Sizes of square products."""
    head_dims: tuple[int, ...]
    sequences: tuple[int, ...]
    """Tokens of a sequence of attention."""
    heads: tuple[int, ...]
    batches: tuple[int, ...]
    rows: tuple[tuple[int, int], ...]
    """Tokens and model widths of the memory-bound kernels."""


PROCESSOR = Sizes(
    widths=(48, 64, 96, 128, 192, 256, 384, 512, 768, 1024), tokens=(256, 512, 1024, 2048, 4096, 8192),
    squares=(64, 128, 256, 512, 1024, 2048), head_dims=(16, 32, 64, 128), sequences=(128, 192, 256, 384, 512, 1024),
    heads=(2, 3, 4, 6, 8), batches=(1, 2, 4, 8, 16),
    rows=((256, 64), (1024, 64), (4096, 64), (2048, 96), (512, 128), (2048, 128), (8192, 128), (1024, 192), (4096, 192),
          (2048, 256), (4096, 256), (512, 384), (2048, 384), (1024, 512), (4096, 384), (2048, 512), (512, 768),
          (1024, 768)),
)  # fmt: skip
GPU = Sizes(
    widths=(512, 768, 1024, 1536, 2048, 3072, 4096, 5120), tokens=(512, 1024, 2048, 4096, 8192, 16384),
    squares=(256, 512, 1024, 2048, 4096, 8192), head_dims=(64, 128), sequences=(512, 1024, 2048, 4096, 8192),
    heads=(8, 12, 16, 32), batches=(1, 2, 4, 8),
    rows=((1024, 512), (4096, 512), (2048, 1024), (8192, 1024), (1024, 2048), (4096, 2048), (16384, 1024), (8192, 2048),
          (2048, 4096), (4096, 4096), (1024, 5120), (8192, 4096)),
)  # fmt: skip
_ODD = ((65, 65), (100, 300), (255, 255), (257, 1028), (301, 100), (500, 1334), (770, 257))
RACE = (("gemm", 1024, 64, 64, 0), ("gemm", 2048, 256, 256, 0), ("gemm", 4096, 512, 128, 0), ("gemm", 384, 128, 2048, 2),
        ("residual", 2048, 256), ("norm", 2048, 256), ("gated", 1024, 512))  # fmt: skip
"""Kernels of a training step on which numbers of threads race."""
COPIES = (32, 128, 256, 512, 1024, 4096, 8192, 16384)
"""Working sets in cache [KiB]; those in memory depend on the size of the last cache."""


def ffn_width(width: int) -> int:
    """Width of a gated feed-forward layer: 8/3 of the model's, in multiples of 8."""
    return round(width * 8 / 3 / 8) * 8


def race_cases(number_format: str) -> tuple[Case, ...]:
    """The cases on which the number of threads is chosen."""
    return tuple(Case(str(kind), number_format, tuple(int(d) for d in dims)) for kind, *dims in RACE)


def gemm_cases(number_format: str, sizes: Sizes, *, most_flops: float) -> tuple[Case, ...]:
    """Products of at most ``most_flops`` FLOP: square ones, those of training steps, and odd ones."""
    draw = random.Random(2)
    found = [(size, size, size, 0) for size in sizes.squares]
    for width in sizes.widths:
        for features in sorted({width, 3 * width, 2 * ffn_width(width)}):
            for layout in range(3):
                tokens = draw.choice(sizes.tokens)
                passes = ((tokens, features, width), (tokens, width, features), (features, width, tokens))
                found.append((*passes[layout], layout))
    found += [(draw.choice(sizes.tokens[:5]), n, k, i % 3) for i, (n, k) in enumerate(_ODD)]
    found += [(draw.choice((301, 777, 1023)), n, k, 0) for n, k in _ODD[::2]]
    cases = (Case("gemm", number_format, dims) for dims in dict.fromkeys(found))
    return tuple(case for case in cases if case.flops <= most_flops)


def attention_cases(number_format: str, sizes: Sizes, *, most_flops: float) -> tuple[Case, ...]:
    """Causal self-attention, and one query per sequence against many keys."""
    draw = random.Random(3)
    found = []
    for head_dim in sizes.head_dims:
        for tokens in sizes.sequences * 2:
            heads, batch = draw.choice(sizes.heads), draw.choice(sizes.batches)
            found.append(Case("decode", number_format, (batch, heads, tokens, head_dim)))
            # Forward and backward are 3.5 forward passes of 4 b h t^2 d / 2, at about a third of a product's rate.
            if 3 * 3.5 * 2.0 * batch * heads * tokens**2 * head_dim <= most_flops:
                found.append(Case("attention", number_format, (batch, heads, tokens, head_dim)))
    return tuple(dict.fromkeys(found))


def delta_cases(sizes: Sizes) -> tuple[Case, ...]:
    """Gated DeltaNet between its two products, forward and backward, in fp32 as the scan always is."""
    draw = random.Random(5)
    found = [
        Case(
            "delta", "fp32", (draw.choice(sizes.batches[:4]), draw.choice(sizes.heads[:4]), tokens, head_dim)
        )
        for head_dim in (16, 32, 48, 64)
        for tokens in (128, 256, 512)
    ]
    return tuple(dict.fromkeys(found))


def pointwise_cases(number_format: str, sizes: Sizes) -> tuple[Case, ...]:
    """The memory-bound kernels of a layer at every (tokens, width)."""
    return tuple(case for tokens, width in sizes.rows for case in layer_cases(number_format, tokens, width))


def layer_cases(number_format: str, tokens: int, width: int) -> tuple[Case, ...]:
    """The distinct memory-bound kernels of one layer."""
    widths = {"norm": width, "rotary": 2 * width, "residual": width, "gated": ffn_width(width)}
    return tuple(Case(kind, number_format, (tokens, size)) for kind, size in widths.items())


def copy_cases(last_cache: int, memory: int) -> tuple[Case, ...]:
    """Copies by working set: in each cache, and far beyond the last one (but in an eighth of the memory)."""
    beyond = min(max(4 * last_cache, 2**27), memory // 8)
    sizes = [*(size * 1024 for size in COPIES), last_cache, beyond // 2, beyond]
    return tuple(Case("copy", "fp32", (size // 64 * 64,)) for size in sorted(set(sizes)) if size <= beyond)


def shuffled(cases: Iterable[Case]) -> tuple[Case, ...]:
    """The cases in a fixed random order, without repetition."""
    found = list(dict.fromkeys(cases))
    random.Random(1).shuffle(found)
    return tuple(found)
