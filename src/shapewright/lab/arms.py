"""The arms that a ladder can compare: one change each to the same byte Transformer, at every size.

Decisions: an arm is a function from a layout (width, depth, width of a head) to a Shape, so that the same name means
the same idea at every rung. What is not the idea is left alone: the width, the depth, the feed-forward layer, the norms.
So arms differ in parameters and FLOP, and both are counted exactly for each. The first is the base of them all.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

from shapewright.architecture.graph import build_graph
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
from shapewright.errors import NotCoveredError, UnknownNameError
from shapewright.lab.rungs import SEQ_LEN, Layout, ladder_shape, size_of
from shapewright.outlook.gain_on import Sized

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


GROWN: tuple[Layout, ...] = ((256, 9, 64), (512, 12, 64), (1024, 16, 64), (2048, 24, 128))
"""The layouts of the rungs, grown to a billion parameters: what other hardware is asked about."""


def priced_sizes(new: str, base: str, costs: tuple[float, float], longest: float) -> tuple[Sized, ...]:
    """Both arms at the lowest and the highest rung inside ``costs`` [FLOP] of the new one, and at the grown layouts.

    Args:
        new: the arm with the idea.
        base: the other.
        costs: training compute that the ladder covers [FLOP].
        longest: tokens per parameter of the base.

    Raises:
        NotCoveredError: an arm is none of :data:`ARMS`, so nobody knows its shape.
    """
    from shapewright.lab.comparison import LAYOUTS

    for name in (new, base):
        if name not in ARMS:
            raise NotCoveredError(
                f"what the arm {name!r} is made of is not known", f"--on prices the arms of ladders: {', '.join(ARMS)}",
                "leave --on out, or compare shapes: shapewright compare --help",
            )  # fmt: skip

    def cost(layout: Layout) -> float:
        flops = 3.0 * float(build_graph(arm_shape(new, layout), batch=1, seq_len=SEQ_LEN).flops()) / SEQ_LEN
        return flops * longest * size_of(layout)

    inside = [
        layout
        for layout in LAYOUTS
        if costs[0] <= cost(layout) * (1 + 1e-6) and cost(layout) <= costs[1] * (1 + 1e-6)
    ]
    chosen = dict.fromkeys((*inside[:1], *inside[-1:], *GROWN))
    return tuple(
        Sized(name=f"{layout[0]}x{layout[1]}", new=arm_shape(new, layout), base=arm_shape(base, layout),
              tokens=longest * size_of(layout))
        for layout in chosen
    )  # fmt: skip


def arm_shape(name: str, layout: Layout) -> Shape:
    """The model of an arm at a layout.

    Raises:
        UnknownNameError: no such arm.
    """
    if name not in ARMS:
        raise UnknownNameError("--arm", name, ARMS)
    return ARMS[name][1](layout)
