"""The arms that a ladder can compare: one change each to the same byte Transformer, at every size.

Decisions: an arm is a function from a layout (width, depth, width of a head) to a Shape, so that the same name means
the same idea at every rung. What is not the idea is left alone: the width, the depth, the feed-forward layer, the norms.
So arms differ in parameters and FLOP, and both are counted exactly for each. The first is the base of them all.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

from shapewright.architecture.shape import (
    LSTM,
    MLSTM,
    Convolution,
    DeltaNet,
    DenseFFN,
    ExpertsFFN,
    Mamba2,
    Norm,
    Shape,
)
from shapewright.errors import UnknownNameError
from shapewright.lab.rungs import Layout, ladder_shape

BASE = "transformer"


def _mixer(make: Callable[[int, int], Any]) -> Callable[[Layout], Shape]:
    def build(layout: Layout) -> Shape:
        width, _, head_dim = layout
        shape = ladder_shape(layout)
        return replace(shape, blocks=(replace(shape.blocks[0], mixer=make(width, head_dim)),))

    return build


def _attention(**changes: Any) -> Callable[[Layout], Shape]:
    def build(layout: Layout) -> Shape:
        shape = ladder_shape(layout)
        return replace(
            shape, blocks=(replace(shape.blocks[0], mixer=replace(shape.blocks[0].mixer, **changes)),)
        )

    return build


def _layernorm(layout: Layout) -> Shape:
    shape, norm = ladder_shape(layout), Norm(kind="layernorm")
    return replace(shape, final_norm=norm, blocks=(replace(shape.blocks[0], norm=norm),))


def _learned_positions(layout: Layout) -> Shape:
    from shapewright.lab.rungs import SEQ_LEN

    return replace(_attention(rotary_fraction=0.0)(layout), learned_positions=SEQ_LEN)


def _plain(layout: Layout) -> Shape:
    shape = ladder_shape(layout)
    return replace(
        shape, blocks=(replace(shape.blocks[0], channel=DenseFFN(ffn_size=4 * layout[0], gated=False)),)
    )


def _experts(layout: Layout) -> Shape:
    shape = ladder_shape(layout)
    size = int(shape.blocks[0].channel.ffn_size)
    return replace(
        shape, blocks=(replace(shape.blocks[0], channel=ExpertsFFN(ffn_size=size, experts=4, topk=1)),)
    )


ARMS: dict[str, tuple[str, Callable[[Layout], Shape]]] = {
    BASE: ("rotary attention, RMSNorm, SwiGLU, tied embedding", ladder_shape),
    "layernorm": ("LayerNorm in place of RMSNorm", _layernorm),
    "learned-positions": ("a learned table in place of rotary embedding", _learned_positions),
    "gelu": ("four times the width and GELU in place of SwiGLU", _plain),
    "qk-norm": ("RMSNorm on the queries and keys of each head", _attention(qk_norm="head")),
    "multi-query": ("one key and value head", _attention(kv_heads=1)),
    "window": ("attention to the last 64 bytes", _attention(window=64)),
    "experts": ("four experts, one for each byte", _experts),
    "delta": (
        "gated DeltaNet in place of attention",
        _mixer(lambda w, h: DeltaNet(key_heads=w // h, value_heads=w // h, key_dim=h, value_dim=h)),
    ),
    "mamba2": (
        "Mamba-2 of twice the width in place of attention",
        _mixer(lambda w, h: Mamba2(heads=2 * w // h, head_dim=h, state_size=16, groups=1)),
    ),
    "mlstm": (
        "mLSTM in place of attention",
        _mixer(lambda w, h: MLSTM(heads=w // h, key_dim=h, value_dim=h)),
    ),
    "lstm": (
        "an LSTM of the model's width in place of attention",
        _mixer(lambda w, h: LSTM(cell_size=w, projection=False)),
    ),
    "convolution": (
        "gated convolutions of three bytes in place of attention",
        _mixer(lambda w, h: Convolution(channels=w)),
    ),
}
"""Name to what it is and how it is built."""


def arm_shape(name: str, layout: Layout) -> Shape:
    """The model of an arm at a layout.

    Raises:
        UnknownNameError: no such arm.
    """
    if name not in ARMS:
        raise UnknownNameError("--arm", name, ARMS)
    return ARMS[name][1](layout)
