"""Models of one size that differ in one primitive, by the primitive's name.

Decisions: width and depth follow from the size alone (width over depth near 128, heads of 128, four query heads per
key-value head), and the feed-forward width is what brings every model to the same parameters, so that a comparison is of
primitives and not of sizes. Settings of each mixer are those of its paper. Layers that the mixer needs beside itself
(the attention layers of a hybrid) are named in the preset.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np

from shapewright.architecture.graph import num_params
from shapewright.architecture.shape import (
    LSTM,
    MLSTM,
    RWKV7,
    SLSTM,
    Block,
    Convolution,
    DeltaNet,
    DenseFFN,
    ExpertsFFN,
    GatedLinear,
    KimiDelta,
    LatentAttention,
    LongConvolution,
    Mamba2,
    Mixer,
    SelfAttention,
    Shape,
    SparseAttention,
)
from shapewright.errors import UnknownNameError, UsageError

VOCABULARY = 50_304
HEAD = 128
STEP = 128
"""Feed-forward widths are multiples of this, and width over depth is near it."""
LARGEST = 1e15
"""The most parameters of a preset; the widest lay-out, 65,536, holds 2.6e13 in the usual proportions."""


def _attention(width: int) -> SelfAttention:
    heads = max(width // HEAD, 1)
    return SelfAttention(heads=heads, kv_heads=max(heads // 4, 1), head_dim=HEAD)


def _latent(width: int) -> LatentAttention:
    # Ranks in the proportions of DeepSeek-V2-Lite (arXiv 2405.04434, appendix B).
    return LatentAttention(heads=max(width // HEAD, 1), kv_lora_rank=512, qk_nope_head_dim=128, qk_rope_head_dim=64,
                           v_head_dim=128)  # fmt: skip


MIXERS: dict[str, Callable[[int], Mixer]] = {
    "transformer": _attention,
    "sliding": lambda d: replace(_attention(d), window=1024),
    "mla": _latent,
    "nsa": lambda d: SparseAttention(heads=d // HEAD, kv_heads=max(d // HEAD // 16, 1), head_dim=HEAD),
    "gated_deltanet": lambda d: DeltaNet(key_heads=max(d // HEAD // 2, 1), value_heads=d // HEAD, key_dim=HEAD,
                                         value_dim=HEAD),
    "kda": lambda d: KimiDelta(heads=d // HEAD, head_dim=HEAD),
    "gla": lambda d: GatedLinear(heads=max(d // 512, 1), key_dim=256, value_dim=512),
    "rwkv7": lambda d: RWKV7(heads=d // 64, head_dim=64),
    "mamba2": lambda d: Mamba2(heads=2 * d // 64, head_dim=64, state_size=128, groups=1),
    "mlstm": lambda d: MLSTM(heads=max(d // 512, 1), key_dim=256, value_dim=512),
    "slstm": lambda d: SLSTM(heads=4, head_dim=d // 4),
    "lstm": lambda d: LSTM(cell_size=d),
    "convolution": lambda d: Convolution(channels=d),
    "hyena": lambda d: LongConvolution(channels=d),
}  # fmt: skip
"""Name to mixer of a width."""
HYBRIDS = {"hybrid_deltanet": ("gated_deltanet", 3), "hybrid_kda": ("kda", 3), "hybrid_mamba2": ("mamba2", 7)}
"""Layers of a recurrence for each layer of full attention (Qwen3-Next, Kimi Linear, Nemotron-H)."""
NAMES = (*MIXERS, *HYBRIDS, "moe", "bitnet")


def layout(params: float) -> tuple[int, int]:
    """Width and depth of a model of about ``params`` parameters.

    Raises:
        UsageError: no width of at least 512 makes so small a model, or none of the widths so large a one.
    """
    if not 0 < params <= LARGEST:
        raise UsageError(f"size (={params:g}) is not between 0 and {LARGEST:g}",
                         "it counts parameters", "for example: 7B")  # fmt: skip
    widths = np.array([*range(512, 2048, 256), *range(2048, 65_537, 1024)])
    # Depths and heads that two, four and eight devices can share.
    even = np.where(widths < 2048, 2, 8)
    depths = np.maximum(np.round(widths / STEP / even), 1) * even
    sizes = 12.0 * widths.astype(float) ** 2 * depths
    best = int(np.argmin(np.abs(np.log(sizes / params))))
    if sizes[best] > 2 * params:
        raise UsageError(f"size (={params:,.0f}) is too small for these primitives",
                         "their states need a width of at least 512", f"nearest that works: {sizes[0]:,.0f}")  # fmt: skip
    return int(widths[best]), int(depths[best])


def model_around(
    name: str, mixer: Callable[[int], Mixer], params: float, *, vocab_size: int = VOCABULARY
) -> Shape:
    """A model of about ``params`` parameters with one mixer in all layers.

    Raises:
        UsageError: the size is too small, or the mixer alone is larger.
    """
    width, depth = layout(params)

    def shape(ffn: int) -> Shape:
        block = Block(mixer=mixer(width), channel=DenseFFN(ffn_size=ffn), count=depth)
        return Shape(name=name, vocab_size=vocab_size, hidden_size=width, blocks=(block,))

    return shape(_filled(name, float(num_params(shape(0))) - 2 * vocab_size * width, params, width, depth))


def _filled(name: str, alone: float, params: float, width: int, depth: int) -> int:
    """The feed-forward width that brings mixers of ``alone`` parameters to ``params``."""
    ffn = round((params - alone) / (3 * width * depth) / STEP) * STEP
    if ffn < STEP:
        raise UsageError(f"{name} of {params:,.0f} parameters has no room for a feed-forward layer",
                         f"its mixers alone have {alone:,.0f}", f"nearest that works: {alone * 1.1:,.0f}")  # fmt: skip
    return ffn


def preset(name: str, params: float, *, vocab_size: int = VOCABULARY) -> Shape:
    """A model of about ``params`` parameters outside embedding and head, built on one primitive.

    Raises:
        UnknownNameError: no such primitive.
        UsageError: the size is too small, or the mixer alone is larger.
    """
    if name not in NAMES:
        raise UnknownNameError("architecture", name, NAMES)
    if name == "bitnet":
        plain = preset("transformer", params, vocab_size=vocab_size)
        return replace(plain, name=name, blocks=tuple(replace(b, ternary=True) for b in plain.blocks))
    if name in MIXERS:
        return model_around(name, MIXERS[name], params, vocab_size=vocab_size)
    width, depth = layout(params)

    def shape(ffn: int) -> Shape:
        channel = DenseFFN(ffn_size=ffn)
        if name in HYBRIDS:
            mixer, share = HYBRIDS[name]
            full = max(depth // (share + 1), 1)
            blocks = (
                Block(mixer=MIXERS[mixer](width), channel=channel, count=depth - full),
                Block(mixer=_attention(width), channel=channel, count=full),
            )
        else:
            # As many parameters per token in eight of 64 fine-grained experts (arXiv 2401.06066).
            experts = ExpertsFFN(ffn_size=max(ffn // 8 // 64 * 64, 64), experts=64, topk=8)
            blocks = (Block(mixer=_attention(width), channel=experts, count=depth),)
        return Shape(name=name, vocab_size=vocab_size, hidden_size=width, blocks=blocks)

    fixed = 2 * vocab_size * width
    if name == "moe":
        # Its active parameters are those of the dense model.
        dense = preset("transformer", params, vocab_size=vocab_size).blocks[0].channel
        return shape(int(dense.ffn_size))
    return shape(_filled(name, float(num_params(shape(0))) - fixed, params, width, depth))
