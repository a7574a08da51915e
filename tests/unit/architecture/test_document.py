"""Shapes as plain tables: what catalogue files may say, and what they are refused for."""

from __future__ import annotations

from typing import Any

import pytest
from pydantic import TypeAdapter

from shapewright.architecture.catalog import load_model, model_names
from shapewright.architecture.document import shape_from_table
from shapewright.architecture.shape import (
    LSTM,
    MLSTM,
    RWKV7,
    SLSTM,
    Convolution,
    DeltaNet,
    ExpertsFFN,
    GatedLinear,
    HashedTable,
    KimiDelta,
    LatentAttention,
    LongConvolution,
    Mamba2,
    NoFFN,
    Norm,
    ProductKeyMemory,
    SelfAttention,
    Shape,
    SparseAttention,
)
from shapewright.errors import DocumentError

_MIXER = {"heads": 8, "kv_heads": 2, "head_dim": 32}
_TABLE: dict[str, Any] = {
    "name": "t", "vocab_size": 100, "hidden_size": 256,
    "blocks": [{"count": 2, "mixer": _MIXER, "channel": {"ffn_size": 700}}],
}  # fmt: skip


def _with_block(**keys: Any) -> dict[str, Any]:
    return {**_TABLE, "blocks": [{**_TABLE["blocks"][0], **keys}]}


_KINDS: tuple[tuple[dict[str, Any], type], ...] = (
    (_MIXER, SelfAttention),
    ({"kind": "latent", "heads": 8, "kv_lora_rank": 32, "qk_nope_head_dim": 16, "qk_rope_head_dim": 8,
      "v_head_dim": 16}, LatentAttention),
    ({"kind": "sparse", "heads": 8, "kv_heads": 2, "head_dim": 32}, SparseAttention),
    ({"kind": "delta", "key_heads": 2, "value_heads": 4, "key_dim": 64, "value_dim": 64}, DeltaNet),
    ({"kind": "kda", "heads": 4, "head_dim": 64}, KimiDelta),
    ({"kind": "gla", "heads": 4, "key_dim": 32, "value_dim": 64}, GatedLinear),
    ({"kind": "rwkv7", "heads": 4, "head_dim": 64}, RWKV7),
    ({"kind": "mamba2", "heads": 4, "head_dim": 64, "state_size": 128, "groups": 1}, Mamba2),
    ({"kind": "mlstm", "heads": 4, "key_dim": 32, "value_dim": 64}, MLSTM),
    ({"kind": "slstm", "heads": 4, "head_dim": 64}, SLSTM),
    ({"kind": "lstm", "cell_size": 256}, LSTM),
    ({"kind": "convolution", "channels": 256}, Convolution),
    ({"kind": "long_convolution", "channels": 256}, LongConvolution),
)  # fmt: skip


@pytest.mark.parametrize(("mixer", "noun"), _KINDS)
def test_a_mixer_is_known_by_its_kind_and_survives_a_document(mixer: dict[str, Any], noun: type) -> None:
    shape = shape_from_table(_with_block(mixer=mixer), "t")
    assert isinstance(shape.blocks[0].mixer, noun)
    adapter = TypeAdapter(Shape)
    assert adapter.validate_json(adapter.dump_json(shape)) == shape


def test_a_channel_is_known_by_its_kind() -> None:
    for channel, noun in (
        ({"kind": "experts", "ffn_size": 64, "experts": 8, "topk": 2}, ExpertsFFN),
        ({"kind": "product_keys", "num_keys": 64, "heads": 2, "topk": 4, "query_dim": 32}, ProductKeyMemory),
        ({"kind": "hashed", "table_rows": 1000, "row_size": 16, "lookups": 4}, HashedTable),
        ({}, NoFFN),
    ):
        assert isinstance(shape_from_table(_with_block(channel=channel), "t").blocks[0].channel, noun)


def test_norms_are_tables_and_false_stands_for_none() -> None:
    shape = shape_from_table({**_TABLE, "final_norm": False, "embedding_norm": {"kind": "layernorm"}}, "t")
    assert shape.final_norm is None
    assert shape.embedding_norm == Norm(kind="layernorm")


@pytest.mark.parametrize(
    ("table", "says"),
    [
        ({**_TABLE, "blocks": []}, "blocks is not a list of tables"),
        ({**_TABLE, "hiden_size": 3}, "hiden_size is not known"),
        ({"name": "t", "vocab_size": 100, "blocks": _TABLE["blocks"]}, "hidden_size is missing"),
        ({**_TABLE, "hidden_size": -1}, "hidden_size (=-1)"),
        ({**_TABLE, "hidden_size": "wide"}, "hidden_size (='wide')"),
        ({**_TABLE, "tied_embeddings": 1}, "tied_embeddings (=1)"),
        (_with_block(mixer={**_MIXER, "heds": 1}), "blocks[0]: mixer: heds is not known"),
        (_with_block(mixer={"heads": 8}), "mixer: kv_heads is missing"),
        (_with_block(norm=3), "norm (=3) is not a table"),
        (_with_block(mixer={"kind": "lstn"}), "mixer: kind (='lstn') is not known"),
    ],
)
def test_a_wrong_table_is_refused_by_its_path(table: dict[str, Any], says: str) -> None:
    with pytest.raises(DocumentError) as caught:
        shape_from_table(table, "t")
    assert says in str(caught.value)


def test_every_known_shape_survives_being_a_document() -> None:
    adapter = TypeAdapter(Shape)
    assert [
        n for n in model_names() if adapter.validate_json(adapter.dump_json(load_model(n))) != load_model(n)
    ] == []
