"""Counts against naive twins, tables against their rows, and written configurations against their shapes."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from shapewright.architecture.graph import build_graph, num_active_params, num_params
from shapewright.architecture.huggingface import FAMILIES, read_config, write_config
from shapewright.architecture.operator import Attention
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
    HashedTable,
    KimiDelta,
    LatentAttention,
    LongConvolution,
    Mamba2,
    NoFFN,
    ProductKeyMemory,
    SelfAttention,
    Shape,
    SparseAttention,
)
from shapewright.errors import NotCoveredError, ShapewrightError

_sizes = st.integers(1, 40)


def _naive_pairs(q_len: int, kv_len: int, causal: bool, window: int | None) -> int:
    """Query-key pairs counted one by one: the queries are the last positions of the sequence."""
    pairs = 0
    for query in range(kv_len - q_len, kv_len):
        seen = query + 1 if causal else kv_len
        pairs += seen if window is None else min(seen, window)
    return pairs


@given(q_len=_sizes, past=st.integers(0, 40), causal=st.booleans(), window=st.none() | _sizes)
def test_pairs_are_those_counted_one_by_one(q_len: int, past: int, causal: bool, window: int | None) -> None:
    op = Attention(name="a", place="layer", batch=1, q_len=q_len, kv_len=q_len + past, heads=1, kv_heads=1,
                   head_dim=1, v_head_dim=1, causal=causal, window=window)  # fmt: skip
    assert float(op.pairs) == _naive_pairs(q_len, q_len + past, causal, window)


@st.composite
def _shapes(draw: st.DrawFn) -> Shape:
    kv_heads = draw(st.integers(1, 4))
    norm = draw(st.sampled_from(["none", "head", "full"]))
    attention = SelfAttention(
        heads=kv_heads * draw(st.integers(1, 4)), kv_heads=kv_heads, head_dim=draw(st.integers(1, 6)) * 16,
        window=draw(st.none() | st.integers(1, 64)), qkv_bias=draw(st.booleans()), qk_norm=norm,
        gate=draw(st.sampled_from(["none", "none", "head", "element"])),
    )  # fmt: skip
    latent = LatentAttention(
        heads=draw(st.integers(1, 8)), q_lora_rank=draw(st.none() | st.integers(8, 64)),
        kv_lora_rank=draw(st.integers(8, 64)), qk_nope_head_dim=16, qk_rope_head_dim=8,
        v_head_dim=draw(st.integers(8, 32)),
    )  # fmt: skip
    dense = DenseFFN(ffn_size=draw(st.integers(1, 300)))
    experts = draw(st.integers(2, 12))
    moe = ExpertsFFN(ffn_size=draw(st.integers(1, 64)), experts=experts, topk=draw(st.integers(1, experts)),
                     shared_ffn_size=draw(st.sampled_from([0, 0, 64])))  # fmt: skip
    groups = draw(st.integers(1, 3))
    delta = DeltaNet(key_heads=groups, value_heads=groups * draw(st.integers(1, 3)), key_dim=draw(st.integers(8, 64)),
                     value_dim=draw(st.integers(8, 64)))  # fmt: skip
    mamba = Mamba2(heads=groups * draw(st.integers(1, 3)), head_dim=draw(st.integers(8, 64)), groups=groups,
                   state_size=draw(st.integers(8, 64)))  # fmt: skip
    heads, width = groups, draw(st.integers(8, 64))
    others = [
        SparseAttention(heads=4 * groups, kv_heads=groups, head_dim=width, window=draw(st.integers(1, 64))),
        KimiDelta(heads=heads, head_dim=width), GatedLinear(heads=heads, key_dim=width, value_dim=2 * width),
        RWKV7(heads=heads, head_dim=width), MLSTM(heads=heads, key_dim=width, value_dim=2 * width),
        SLSTM(heads=heads, head_dim=width), LSTM(cell_size=width, bias=draw(st.booleans())),
        Convolution(channels=width, gated=draw(st.booleans())), LongConvolution(channels=width),
        replace(attention, shares_kv=True),
    ]  # fmt: skip
    mixer = draw(st.sampled_from([attention, attention, latent, delta, mamba, *others]))
    first = draw(st.integers(1, 3))
    memory = ProductKeyMemory(num_keys=draw(st.integers(2, 40)), heads=2, topk=3, query_dim=8)
    table = HashedTable(table_rows=draw(st.integers(1, 400)), row_size=8, lookups=3)
    channel = draw(st.sampled_from([dense, dense, NoFFN(), memory, table]))
    blocks = [Block(mixer=mixer, channel=channel, count=first, ternary=draw(st.booleans()))]
    if draw(st.booleans()):
        blocks.append(Block(mixer=mixer, channel=moe, count=draw(st.integers(1, 3))))
    return Shape(name="any", vocab_size=draw(st.integers(1, 500)), hidden_size=draw(st.integers(1, 300)),
                 blocks=tuple(blocks), tied_embeddings=draw(st.booleans()))  # fmt: skip


def _columns(noun: Any, other: Any) -> Any:
    """The noun with every whole number next to the other's, as one array of two."""
    if isinstance(noun, tuple):
        return tuple(_columns(a, b) for a, b in zip(noun, other, strict=True))
    if hasattr(noun, "__dataclass_fields__"):
        names = noun.__dataclass_fields__
        return replace(noun, **{name: _columns(getattr(noun, name), getattr(other, name)) for name in names})
    return np.array([noun, other]) if isinstance(noun, int) and not isinstance(noun, bool) else noun


def _doubled(noun: Any) -> Any:
    """The noun with every whole number doubled: another model of the same structure."""
    if isinstance(noun, tuple):
        return tuple(_doubled(item) for item in noun)
    if hasattr(noun, "__dataclass_fields__"):
        return replace(noun, **{name: _doubled(getattr(noun, name)) for name in noun.__dataclass_fields__})
    return 2 * noun if isinstance(noun, int) and not isinstance(noun, bool) else noun


@settings(max_examples=60, deadline=None)
@given(shape=_shapes(), batch=st.integers(1, 4), seq_len=st.integers(1, 96))
def test_a_table_is_its_rows(shape: Shape, batch: int, seq_len: int) -> None:
    twin = _doubled(shape)
    table = _columns(shape, twin)
    for count in (num_params, num_active_params):
        assert [count(shape), count(twin)] == np.asarray(count(table)).tolist()
    for mode in ("train", "prefill", "decode"):
        graphs = [
            build_graph(s, batch=batch, seq_len=seq_len, mode=mode, past_len=7) for s in (shape, twin, table)
        ]
        assert [graphs[0].flops(), graphs[1].flops()] == np.asarray(graphs[2].flops()).tolist()
        assert [graphs[0].saved(), graphs[1].saved()] == np.asarray(graphs[2].saved()).tolist()


@settings(max_examples=80, deadline=None)
@given(shape=_shapes())
def test_what_is_written_reads_back_or_is_refused(shape: Shape) -> None:
    try:
        document = write_config(shape)
    except NotCoveredError:
        return
    assert replace(read_config(document, name=shape.name), context_length=None) == shape


@settings(max_examples=60, deadline=None)
@given(width=st.integers(1, 64), head_dim=st.integers(1, 64), heads=st.integers(1, 8), ffn=st.integers(1, 500),
       layers=st.integers(1, 9), vocab=st.integers(1, 999))  # fmt: skip
def test_every_llama_can_be_written(
    width: int, head_dim: int, heads: int, ffn: int, layers: int, vocab: int
) -> None:
    mixer = SelfAttention(heads=heads, kv_heads=heads, head_dim=head_dim)
    block = Block(mixer=mixer, channel=DenseFFN(ffn_size=ffn), count=layers)
    assert (
        write_config(Shape(name="llama", vocab_size=vocab, hidden_size=width, blocks=(block,)))["model_type"]
        == "llama"
    )


_values = (
    st.none()
    | st.booleans()
    | st.integers(-5, 200)
    | st.floats()
    | st.text(max_size=5)
    | st.lists(st.integers(0, 3))
)


@settings(max_examples=300, deadline=None)
@given(data=st.data(), model_type=st.sampled_from(sorted(FAMILIES)))
def test_any_values_are_read_or_refused_with_a_reason(data: st.DataObject, model_type: str) -> None:
    keys = data.draw(
        st.dictionaries(st.sampled_from(sorted(FAMILIES[model_type].defaults)), _values, max_size=6)
    )
    config = {"model_type": model_type, **FAMILIES[model_type].defaults, **keys}
    refusal: ShapewrightError | None = None
    try:
        shape = read_config(config)
    except ShapewrightError as error:
        refusal = error
    else:
        assert num_params(shape) > 0
    assert refusal is None or (refusal.what and refusal.why)
