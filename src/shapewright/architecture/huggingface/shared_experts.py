"""Readers of mixture-of-experts families with shared experts or dense first layers."""

from __future__ import annotations

from dataclasses import replace

from shapewright.architecture.huggingface.keys import Keys
from shapewright.architecture.huggingface.parts import (
    attention,
    checked_kv_heads,
    decoder,
    dense_ffn,
    each_layer,
    experts_ffn,
    kv_heads,
    same,
    sparse_where,
    windows,
)
from shapewright.architecture.huggingface.registry import family
from shapewright.architecture.shape import Block, DenseFFN, ExpertsFFN, LatentAttention, Mixer, Shape
from shapewright.architecture.softmax_mixers import Indexer


@family(
    "glm4_moe", {"num_experts": "n_routed_experts", "num_local_experts": "n_routed_experts"}, vocab_size=151552,
    hidden_size=4096, intermediate_size=10944, num_hidden_layers=46, num_attention_heads=96,
    num_key_value_heads=8, head_dim=None, max_position_embeddings=131072, tie_word_embeddings=False,
    attention_bias=False, moe_intermediate_size=1408, num_experts_per_tok=8, n_shared_experts=1,
    n_routed_experts=128, first_k_dense_replace=1, use_qk_norm=False, partial_rotary_factor=0.5,
)  # fmt: skip
def glm4_moe(k: Keys) -> Shape:
    """GLM-4.5 to 4.7: shared expert, dense first layers, half of each head rotated."""
    qk_norm = "head" if k.flag("use_qk_norm") else "none"
    mixer = attention(k, qkv_bias=k.flag("attention_bias"), qk_norm=qk_norm)
    return decoder(k, _dense_first(k, mixer))


@family(
    "dots1", {"num_local_experts": "n_routed_experts"}, vocab_size=152064, hidden_size=4608,
    intermediate_size=10944, moe_intermediate_size=1408, num_hidden_layers=62, num_attention_heads=32,
    num_key_value_heads=32, head_dim=None, max_position_embeddings=2048, tie_word_embeddings=False,
    attention_bias=False, n_shared_experts=None, n_routed_experts=None, num_experts_per_tok=None,
    first_k_dense_replace=0, sliding_window=4096, max_window_layers=62, layer_types=None,
)  # fmt: skip
def dots1(k: Keys) -> Shape:
    """dots.llm1: DeepSeek's experts behind Qwen3's attention."""
    bias, first = k.flag("attention_bias"), k.count("max_window_layers")
    window = k.size_or_none("sliding_window")
    sliding = windows(k, window, lambda index: window is not None and index >= first)
    moe, dense_layers = _deepseek_experts(k), k.count("first_k_dense_replace")

    def block(index: int) -> Block:
        mixer = attention(k, qkv_bias=bias, out_bias=bias, qk_norm="head", window=sliding[index])
        return Block(mixer=mixer, channel=moe if index >= dense_layers else dense_ffn(k), count=1)

    return decoder(k, each_layer(k, block))


@family(
    "solar_open", {"num_experts": "n_routed_experts", "num_local_experts": "n_routed_experts"},
    vocab_size=196608, hidden_size=4096, num_hidden_layers=48, num_attention_heads=64, num_key_value_heads=8,
    head_dim=128, max_position_embeddings=131072, tie_word_embeddings=False, attention_bias=False,
    moe_intermediate_size=1280, num_experts_per_tok=8, n_shared_experts=1, n_routed_experts=128,
)  # fmt: skip
def solar_open(k: Keys) -> Shape:
    """Solar Open: a shared expert in every layer."""
    mixer = attention(k, qkv_bias=k.flag("attention_bias"))
    return decoder(k, same(k, Block(mixer=mixer, channel=_deepseek_experts(k), count=1)))


_DEEPSEEK_NAMES = {"num_experts": "n_routed_experts", "num_local_experts": "n_routed_experts"}


@family(
    "deepseek_v2", _DEEPSEEK_NAMES, vocab_size=102400, hidden_size=4096, intermediate_size=11008,
    num_hidden_layers=32, num_attention_heads=32, max_position_embeddings=2048, tie_word_embeddings=False,
    attention_bias=False, mlp_bias=False, first_k_dense_replace=0, kv_lora_rank=512, q_lora_rank=1536,
    n_routed_experts=64, n_shared_experts=2, qk_nope_head_dim=128, qk_rope_head_dim=64, v_head_dim=128,
    num_experts_per_tok=None, moe_intermediate_size=1407,
)  # fmt: skip
@family(
    "deepseek_v3", _DEEPSEEK_NAMES, vocab_size=129280, hidden_size=7168, intermediate_size=18432,
    num_hidden_layers=61, num_attention_heads=128, max_position_embeddings=4096, tie_word_embeddings=False,
    attention_bias=False, first_k_dense_replace=3, kv_lora_rank=512, q_lora_rank=1536, n_routed_experts=256,
    n_shared_experts=1, qk_nope_head_dim=128, qk_rope_head_dim=64, v_head_dim=128, num_experts_per_tok=8,
    moe_intermediate_size=2048,
)  # fmt: skip
@family(
    "kimi_k2", _DEEPSEEK_NAMES, vocab_size=163840, hidden_size=7168, intermediate_size=18432,
    num_hidden_layers=61, num_attention_heads=64, max_position_embeddings=131072, tie_word_embeddings=False,
    attention_bias=False, first_k_dense_replace=1, kv_lora_rank=512, q_lora_rank=1536, n_routed_experts=384,
    n_shared_experts=1, qk_nope_head_dim=128, qk_rope_head_dim=64, v_head_dim=128, num_experts_per_tok=8,
    moe_intermediate_size=2048,
)  # fmt: skip
def deepseek(k: Keys) -> Shape:
    """DeepSeek-V2 and V3 (R1, Kimi-K2): latent attention, shared experts, dense first layers.

    The extra layer that predicts a second token is left out, as transformers leaves it out.
    """
    return decoder(k, _dense_first(k, _latent(k)))


def _latent(k: Keys) -> LatentAttention:
    if "mlp_bias" in k.defaults:
        k.only("mlp_bias", False, "experts with biases in the dense layers only")
    return LatentAttention(
        heads=k.size("num_attention_heads"), q_lora_rank=k.size_or_none("q_lora_rank"),
        kv_lora_rank=k.size("kv_lora_rank"), qk_nope_head_dim=k.size("qk_nope_head_dim"),
        qk_rope_head_dim=k.size("qk_rope_head_dim"), v_head_dim=k.size("v_head_dim"), bias=k.flag("attention_bias"),
    )  # fmt: skip


def _dense_first(k: Keys, mixer: Mixer) -> tuple[Block, ...]:
    first = k.count("first_k_dense_replace")
    return sparse_where(k, mixer, _deepseek_experts(k), lambda index: index >= first)


def _deepseek_experts(k: Keys) -> ExpertsFFN:
    channel = experts_ffn(k, width="moe_intermediate_size", experts="n_routed_experts")
    return replace(channel, shared_ffn_size=k.count("n_shared_experts") * channel.ffn_size)


@family(
    "deepseek_v32", _DEEPSEEK_NAMES, vocab_size=129280, hidden_size=7168, intermediate_size=18432,
    num_hidden_layers=61, num_attention_heads=128, max_position_embeddings=163840, tie_word_embeddings=False,
    attention_bias=False, mlp_bias=False, first_k_dense_replace=3, mlp_layer_types=None, kv_lora_rank=512,
    q_lora_rank=1536, n_routed_experts=256, n_shared_experts=1, qk_nope_head_dim=128, qk_rope_head_dim=64,
    v_head_dim=128, num_experts_per_tok=8, moe_intermediate_size=2048, index_topk=2048, index_head_dim=128,
    index_n_heads=64,
)  # fmt: skip
@family(
    "glm_moe_dsa", _DEEPSEEK_NAMES, vocab_size=154880, hidden_size=6144, intermediate_size=12288,
    num_hidden_layers=78, num_attention_heads=64, max_position_embeddings=202752, tie_word_embeddings=False,
    attention_bias=False, mlp_bias=False, first_k_dense_replace=3, mlp_layer_types=None, kv_lora_rank=512,
    q_lora_rank=2048, n_routed_experts=256, n_shared_experts=1, qk_nope_head_dim=192, qk_rope_head_dim=64,
    v_head_dim=256, num_experts_per_tok=8, moe_intermediate_size=2048, index_topk=2048, index_head_dim=128,
    index_n_heads=32, indexer_types=None, index_topk_pattern=None, index_topk_freq=1, index_skip_topk_offset=2,
)  # fmt: skip
def deepseek_sparse(k: Keys) -> Shape:
    """DeepSeek-V3.2 and GLM-5: latent attention to the keys that an indexer chooses."""
    mixer = replace(_latent(k), selected=k.size("index_topk"))
    indexer = Indexer(heads=k.size("index_n_heads"), head_dim=k.size("index_head_dim"))
    chosen, moe = _indexer_types(k), _deepseek_experts(k)
    sparse = k.names("mlp_layer_types", k.layers())
    first = k.count("first_k_dense_replace")

    def block(index: int) -> Block:
        experts = index >= first if sparse is None else sparse[index] == "sparse"
        return Block(mixer=replace(mixer, indexer=indexer if chosen[index] else None), count=1,
                     channel=moe if experts else dense_ffn(k))  # fmt: skip

    return decoder(k, each_layer(k, block))


def _indexer_types(k: Keys) -> list[bool]:
    """Which layers choose keys themselves; the others use the choice of the layer before."""
    depth = k.layers()
    if "indexer_types" not in k.defaults:
        return [True] * depth
    kinds = k.names("indexer_types", depth)
    if kinds is not None:
        return [kind == "full" for kind in kinds]
    if k.raw("index_topk_pattern") is not None:
        raise k.not_covered("index_topk_pattern", "that spelling of indexer_types")
    step, offset = max(k.count("index_topk_freq"), 1), k.count("index_skip_topk_offset")
    return [max(index - offset + 1, 0) % step == 0 for index in range(depth)]


@family(
    "llama4_text", {"num_experts": "num_local_experts"}, vocab_size=202048, hidden_size=5120,
    intermediate_size=8192, intermediate_size_mlp=16384, num_hidden_layers=48, num_attention_heads=40,
    num_key_value_heads=8, head_dim=128, max_position_embeddings=131072, tie_word_embeddings=False,
    attention_bias=False, num_experts_per_tok=1, num_local_experts=16, moe_layers=None,
    interleave_moe_layer_step=1, use_qk_norm=True, no_rope_layers=None, no_rope_layer_interval=4,
    attention_chunk_size=8192, layer_types=None,
)  # fmt: skip
def llama4(k: Keys) -> Shape:
    """Llama 4: one shared and one routed expert; three of four layers attend within chunks."""
    bias, normed, depth = k.flag("attention_bias"), k.flag("use_qk_norm"), k.layers()
    interval, step = k.size("no_rope_layer_interval"), k.size("interleave_moe_layer_step")
    rotated = k.indices("no_rope_layers") or [int((i + 1) % interval != 0) for i in range(depth)]
    if len(rotated) != depth:
        raise k.wrong("no_rope_layers", f"a list of {depth} zeros and ones, one per layer")
    chunks = windows(
        k, k.size("attention_chunk_size"), lambda index: bool(rotated[index]), "chunked_attention"
    )
    stated = k.indices("moe_layers")
    sparse = set(stated) if k.raw("moe_layers") is not None else set(range(step - 1, depth, step))
    moe = experts_ffn(k, width="intermediate_size", experts="num_local_experts",
                      shared_ffn_size=k.size("intermediate_size"))  # fmt: skip
    dense = DenseFFN(ffn_size=k.size("intermediate_size_mlp"))

    def block(index: int) -> Block:
        rotary = bool(rotated[index])
        mixer = attention(k, qkv_bias=bias, out_bias=bias, chunk=chunks[index], rotary_fraction=float(rotary),
                          qk_norm="head" if normed and rotary else "none", qk_norm_scale=False)  # fmt: skip
        return Block(mixer=mixer, channel=moe if index in sparse else dense, count=1)

    return decoder(k, each_layer(k, block))


@family(
    "mimo_v2_flash", {"num_local_experts": "n_routed_experts"}, vocab_size=152576, hidden_size=4096,
    intermediate_size=16384, num_hidden_layers=48, num_attention_heads=64, num_key_value_heads=4, head_dim=192,
    v_head_dim=128, max_position_embeddings=131072, tie_word_embeddings=False, attention_bias=False,
    moe_intermediate_size=2048, num_experts_per_tok=8, n_routed_experts=256, sliding_window=129,
    sliding_window_size=None, layer_types=None, mlp_layer_types=None, partial_rotary_factor=0.334,
)  # fmt: skip
def mimo_v2_flash(k: Keys) -> Shape:
    """MiMo-V2-Flash: sliding layers with sinks and twice the key-value heads, values narrower than keys."""
    depth, previous = k.layers(), k.size_or_none("sliding_window_size")
    # A window of so many earlier tokens holds one more, the query's own.
    window = previous + 1 if previous is not None else k.size("sliding_window")
    sliding = windows(k, window, lambda index: index != 0 and (index + 1) % 6 != 0)
    kinds = k.names("mlp_layer_types", depth) or ["dense"] + ["sparse"] * (depth - 1)
    moe = experts_ffn(k, width="moe_intermediate_size", experts="n_routed_experts")
    plain = attention(k, qkv_bias=k.flag("attention_bias"), v_head_dim=k.size("v_head_dim"))
    slides = replace(
        plain, sinks=True, kv_heads=checked_kv_heads(k, k.size("num_attention_heads"), 2 * kv_heads(k))
    )

    def block(index: int) -> Block:
        mixer = plain if sliding[index] is None else replace(slides, window=sliding[index])
        return Block(mixer=mixer, channel=moe if kinds[index] == "sparse" else dense_ffn(k), count=1)

    return decoder(k, each_layer(k, block))


@family(
    "afmoe", vocab_size=200192, hidden_size=2048, intermediate_size=6144, moe_intermediate_size=1408,
    num_hidden_layers=32, num_dense_layers=1, num_attention_heads=16, num_key_value_heads=None, head_dim=128,
    max_position_embeddings=16384, tie_word_embeddings=False, num_experts=64, num_experts_per_tok=6,
    num_shared_experts=2, global_attn_every_n_layers=4, sliding_window=1024, layer_types=None,
    attention_bias=False,
)  # fmt: skip
def afmoe(k: Keys) -> Shape:
    """Trinity: gated attention, norms around every sublayer, three of four layers slide."""
    step, first = k.size("global_attn_every_n_layers"), k.count("num_dense_layers")
    k.only("attention_bias", False, "gated attention with biases")
    sliding = windows(k, k.size_or_none("sliding_window"), lambda index: (index + 1) % step != 0)
    moe = experts_ffn(k, width="moe_intermediate_size", experts="num_experts", router_bias=True,
                      shared_ffn_size=k.count("num_shared_experts") * k.size("moe_intermediate_size"))  # fmt: skip

    def block(index: int) -> Block:
        window = sliding[index]
        mixer = attention(k, qk_norm="head", gate="element", window=window,
                          rotary_fraction=float(window is not None))  # fmt: skip
        return Block(
            mixer=mixer, channel=moe if index >= first else dense_ffn(k), count=1, norm_placement="sandwich"
        )

    return decoder(k, each_layer(k, block))


@family(
    "hunyuan_v1_moe", vocab_size=290943, hidden_size=4096, intermediate_size=11008, num_hidden_layers=32,
    num_attention_heads=32, num_key_value_heads=None, head_dim=None, max_position_embeddings=2048,
    tie_word_embeddings=False, attention_bias=False, num_experts=1, moe_topk=1,
)  # fmt: skip
def hunyuan_v1_moe(k: Keys) -> Shape:
    """Hunyuan MoE: one shared expert as wide as the routed ones, norms on queries and keys."""
    bias = k.flag("attention_bias")
    mixer = attention(k, qkv_bias=bias, out_bias=bias, qk_norm="head")
    moe = experts_ffn(k, width="intermediate_size", experts="num_experts", topk="moe_topk",
                      shared_ffn_size=k.size("intermediate_size"))  # fmt: skip
    return decoder(k, same(k, Block(mixer=mixer, channel=moe, count=1)))
