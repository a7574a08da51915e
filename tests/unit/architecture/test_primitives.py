"""Mixers and channels beyond attention and dense products: parameters, FLOP, span, state, and what they cost split."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from shapewright.architecture.graph import build_graph, num_params
from shapewright.architecture.operator import FourierConvolution, Gather, Operator, Recurrence, Scan
from shapewright.architecture.shape import (
    LSTM,
    MLSTM,
    RWKV7,
    SLSTM,
    Block,
    Convolution,
    DenseFFN,
    GatedLinear,
    HashedTable,
    KimiDelta,
    LongConvolution,
    Mixer,
    NoFFN,
    ProductKeyMemory,
    SelfAttention,
    Shape,
    SparseAttention,
)
from shapewright.architecture.summary import cache_elements, state_elements
from shapewright.cost.price import cost_model
from shapewright.errors import UsageError
from shapewright.hardware.catalog import load_accelerator, parse_cluster
from shapewright.plan.framework import KERNELS_ALONE
from shapewright.plan.layer import price_model
from shapewright.plan.precision import PRECISIONS
from shapewright.plan.shard import Split

WIDTH = 256
MIXERS: tuple[Mixer, ...] = (
    SparseAttention(heads=8, kv_heads=2, head_dim=32),
    KimiDelta(heads=4, head_dim=64),
    GatedLinear(heads=4, key_dim=32, value_dim=64),
    RWKV7(heads=4, head_dim=64),
    MLSTM(heads=4, key_dim=32, value_dim=64),
    SLSTM(heads=4, head_dim=64),
    LSTM(cell_size=256),
    Convolution(channels=256),
    LongConvolution(channels=256),
)


def _shape(mixer: Mixer, channel: Any = None, **keys: Any) -> Shape:
    block = Block(mixer=mixer, channel=channel or NoFFN(), count=1, **keys)
    return Shape(name="t", vocab_size=100, hidden_size=WIDTH, blocks=(block,))


def _ops(mixer: Mixer, *, batch: int = 2, seq_len: int = 512, **keys: Any) -> tuple[Operator, ...]:
    return build_graph(_shape(mixer, **keys), batch=batch, seq_len=seq_len).blocks[0]


def _mixer_params(mixer: Mixer, **keys: Any) -> int:
    # Without embedding, head, final norm and the norm of the sublayer.
    return int(num_params(_shape(mixer, **keys)) - 2 * 100 * WIDTH - 2 * WIDTH)


def test_parameters_are_those_of_the_published_layers() -> None:
    d = WIDTH
    assert _mixer_params(LSTM(cell_size=d)) == 4 * d * (2 * d) + 8 * d + d * d
    assert _mixer_params(LSTM(cell_size=d, bias=False, projection=False)) == 8 * d * d
    # xLSTM 7B (arXiv 2503.13427): queries and keys half as wide, values and output gate as wide, two biased gates.
    assert (
        _mixer_params(MLSTM(heads=4, key_dim=32, value_dim=64)) == d * (128 + 128 + d + d + 8) + 8 + d + d * d
    )
    # Four gates, block-diagonal from input and output; a convolution with bias; one scale per channel.
    assert _mixer_params(SLSTM(heads=4, head_dim=64)) == 2 * 4 * d * 64 + 4 * d + 5 * d + d
    assert _mixer_params(Convolution(channels=d)) == 3 * d * d + 3 * d + d * d
    assert _mixer_params(Convolution(channels=d, kernel=7, dims=2, gated=False)) == 2 * d * d + 49 * d
    # Kimi Linear: q, k, v, beta, two low-rank gates with biases, three convolutions, decay and norm, output.
    assert _mixer_params(KimiDelta(heads=4, head_dim=64)) == (
        3 * d * d + 4 * d + 2 * 64 * d + 2 * (64 * d + d) + 3 * d * 4 + 64 + 4 + d * d
    )
    shared = SelfAttention(heads=8, kv_heads=2, head_dim=32, shares_kv=True)
    assert _mixer_params(replace(shared, shares_kv=False)) - _mixer_params(shared) == 2 * d * 2 * 32


@pytest.mark.torch
def test_an_lstm_has_the_parameters_of_torch() -> None:
    import torch

    module = torch.nn.LSTM(WIDTH, 384)
    assert _mixer_params(LSTM(cell_size=384)) == sum(p.numel() for p in module.parameters()) + 384 * WIDTH


def _naive_scan_flops(kind: str, length: int, chunk: int, k: int, v: int) -> float:
    """FLOP of one head, product by product, one chunk after the other."""
    total = 0.0
    for start in range(0, length, chunk):
        c = min(chunk, length - start)
        scores, read, write = 2 * c * c * k, 2 * c * k * v, 2 * c * k * v
        if kind in ("ssd", "gla", "mlstm"):
            total += scores + 2 * c * c * v + read + write
        elif kind in ("delta", "kda"):
            inverse = 2 * c**3 / 3
            total += 2 * scores + inverse + 2 * c * c * (k + v) + read + read + 2 * c * c * v + write
        else:
            inverse = 2 * c**3 / 3
            vectors = 2 * c * c * k + 2 * 2 * c * c * v
            total += 4 * scores + inverse + vectors + 2 * 2 * c * c * v + 2 * read + 2 * write
    return total


@pytest.mark.parametrize("kind", ["delta", "kda", "rwkv7", "ssd", "gla", "mlstm"])
def test_the_flop_of_a_scan_are_those_of_its_chunks(kind: Any) -> None:
    scan = Scan(name="s", place="layer", kind=kind, batch=3, seq_len=512, heads=5, key_heads=5, key_dim=32,
                value_dim=48, chunk=64)  # fmt: skip
    assert float(scan.flops) == pytest.approx(15 * _naive_scan_flops(kind, 512, 64, 32, 48), rel=1e-12)


def test_spans_follow_the_tokens_and_the_chunks() -> None:
    recurrence = next(op for op in _ops(LSTM(cell_size=256)) if isinstance(op, Recurrence))
    assert recurrence.span == 512
    assert recurrence.flops == 2 * 2 * 512 * 4 * 256 * 256
    scan = next(op for op in _ops(RWKV7(heads=4, head_dim=64)) if isinstance(op, Scan))
    assert float(scan.span) == 512 / 16
    fourier = next(op for op in _ops(LongConvolution(channels=256)) if isinstance(op, FourierConvolution))
    assert float(fourier.span) == 2 * np.log2(1024)


def test_what_a_split_scan_passes_depends_on_its_decay_and_not_on_the_length() -> None:
    def passed(kind: Any, length: int) -> float:
        scan = Scan(name="s", place="layer", kind=kind, batch=1, seq_len=length, heads=1, key_heads=1, key_dim=128,
                    value_dim=128)  # fmt: skip
        return float(scan.passed)

    assert passed("delta", 4096) * 4 == 128 * 2**10  # 128 KiB per head and hop
    assert passed("gla", 4096) == 128 * 128 + 128
    assert passed("ssd", 4096) == passed("ssd", 1_000_000) == 128 * 128 + 1


@pytest.mark.parametrize("mixer", MIXERS, ids=lambda mixer: mixer.kind)
def test_decoding_keeps_a_state_or_a_cache_and_runs_one_token(mixer: Mixer) -> None:
    shape = _shape(mixer)
    grows = cache_elements(shape, 2048) > cache_elements(shape, 1024)
    assert grows == isinstance(mixer, SparseAttention | LongConvolution)
    assert grows or state_elements(shape) > 0
    one = build_graph(shape, batch=1, seq_len=1, mode="decode", past_len=1023)
    many = build_graph(shape, batch=1, seq_len=1024)
    assert one.params() == many.params()
    assert one.flops() < many.flops() / 500


def test_monarch_products_cost_four_squares_over_blocks() -> None:
    ops = _ops(LSTM(cell_size=256), channel=DenseFFN(ffn_size=256, gated=False, monarch_blocks=16))
    factors = [op for op in ops if op.name.startswith("ffn.") and op.flops]
    assert sum(op.flops for op in factors) == 2 * 1024 * 4 * 256**2 / 16
    assert sum(op.params for op in factors) == 2 * 2 * 256**2 / 16
    with pytest.raises(UsageError, match=r"(?s)monarch_blocks \(=24\).*nearest that works: 16"):
        _ops(LSTM(cell_size=256), channel=DenseFFN(ffn_size=512, monarch_blocks=24))


def test_tables_are_read_by_rows() -> None:
    memory = ProductKeyMemory(num_keys=128, heads=4, topk=32, query_dim=64)
    ops = _ops(Convolution(channels=256), channel=memory)
    values = next(op for op in ops if isinstance(op, Gather))
    assert values.params == 128**2 * WIDTH
    assert values.flops == 2 * 1024 * 4 * 32 * WIDTH
    scores = next(op for op in ops if op.name == "memory.scores")
    assert scores.params == 4 * 2 * 128 * 32
    table = HashedTable(table_rows=10_000, row_size=64, lookups=4)
    rows = next(op for op in _ops(Convolution(channels=256), channel=table) if isinstance(op, Gather))
    assert (rows.params, rows.flops, rows.elements) == (640_000, 0, 2 * 1024 * 4 * 64)


def test_ternary_products_keep_their_parameters_and_quantise() -> None:
    plain, ternary = (_ops(SelfAttention(heads=4, kv_heads=4, head_dim=64), ternary=t) for t in (False, True))
    assert sum(op.params for op in plain) == sum(op.params for op in ternary)
    assert sum(op.flops for op in plain) == sum(op.flops for op in ternary)
    extra = {op.name for op in ternary} - {op.name for op in plain}
    assert extra == {"attention.qkv.quantise", "attention.out.quantise"}


@pytest.fixture(scope="module")
def h100() -> Any:
    cluster = parse_cluster("8xh100_sxm")
    return cluster, cost_model(load_accelerator("h100_sxm"))


def _price(h100: Any, mixer: Mixer, split: Split, **keys: Any) -> Any:
    cluster, model = h100
    return price_model(
        _shape(mixer, **keys), split, micro_batch=2, seq_len=4096, precision=PRECISIONS["bf16"],
        framework=KERNELS_ALONE, model=model, cluster=cluster,
    )  # fmt: skip


@pytest.mark.parametrize("mixer", MIXERS, ids=lambda mixer: mixer.kind)
def test_every_mixer_is_priced_whole_and_split(h100: Any, mixer: Mixer) -> None:
    whole = _price(h100, mixer, Split())
    split = _price(h100, mixer, Split(tp=2))
    for cost in (whole, split):
        assert np.isfinite(cost.layer.forward).all()
        assert all(item.backward > 0 for item in cost.layer.items if item.forward > 0)
    assert split.layer.params_split < whole.layer.params_split
    assert whole.layer.params_expert == 0


def test_a_full_recurrence_gathers_at_every_token_and_blocks_do_not(h100: Any) -> None:
    def gathered(mixer: Mixer) -> float:
        items = _price(h100, mixer, Split(tp=4)).layer.items
        return float(sum(item.forward for item in items if "at every token" in item.name))

    assert gathered(LSTM(cell_size=256)) > 4096 * 5e-6
    assert gathered(SLSTM(heads=4, head_dim=64)) == 0


def test_a_long_convolution_trades_tokens_for_channels(h100: Any) -> None:
    items = _price(h100, LongConvolution(channels=256), Split(cp=4)).layer.items
    assert [item.name for item in items if item.cause == "communication"] == ["hyena all-to-all (cp)"]
