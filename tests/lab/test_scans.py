"""Chunked scans and blocked attention against naive loops, and layers against transformers' own."""

from __future__ import annotations

import pytest

torch = pytest.importorskip("torch")

from torch.nn import functional  # noqa: E402

from shapewright.architecture.graph import build_graph  # noqa: E402
from shapewright.architecture.shape import (  # noqa: E402
    LSTM,
    MLSTM,
    Block,
    Convolution,
    DeltaNet,
    ExpertsFFN,
    LatentAttention,
    Mamba2,
    NoFFN,
    Shape,
)
from shapewright.lab.attend import attend  # noqa: E402
from shapewright.lab.attention_layers import LatentLayer  # noqa: E402
from shapewright.lab.channel_layers import ExpertsLayer  # noqa: E402
from shapewright.lab.recurrent_layers import ConvolutionLayer, DeltaLayer, LSTMLayer, Mamba2Layer, MLSTMLayer  # noqa: E402
from shapewright.lab.scans import delta_scan, mlstm_scan, ssd_scan  # noqa: E402

pytestmark = pytest.mark.torch

B, T, H, K, V = 2, 37, 3, 8, 6


@pytest.fixture(autouse=True)
def _seed():
    torch.manual_seed(0)


def naive_delta(q, k, v, log_decay, beta):
    state, out = torch.zeros(B, H, K, V), []
    for t in range(T):
        state = state * log_decay[:, t].exp()[..., None, None]
        wrong = v[:, t] - torch.einsum("bhkv,bhk->bhv", state, k[:, t])
        state = state + torch.einsum("bhk,bhv->bhkv", k[:, t] * beta[:, t, :, None], wrong)
        out.append(torch.einsum("bhkv,bhk->bhv", state, q[:, t]))
    return torch.stack(out, 1)


def naive_ssd(x, keys, queries, log_decay):
    state, out = torch.zeros(B, H, K, V), []
    for t in range(T):
        state = state * log_decay[:, t].exp()[..., None, None] + torch.einsum(
            "bhk,bhv->bhkv", keys[:, t], x[:, t]
        )
        out.append(torch.einsum("bhkv,bhk->bhv", state, queries[:, t]))
    return torch.stack(out, 1)


def naive_mlstm(q, k, v, log_input, log_forget):
    state, norm, out = torch.zeros(B, H, K, V), torch.zeros(B, H, K), []
    for t in range(T):
        enter, keep = log_input[:, t].exp()[..., None], log_forget[:, t].exp()[..., None]
        state = state * keep[..., None] + torch.einsum("bhk,bhv->bhkv", k[:, t] * enter, v[:, t])
        norm = norm * keep + k[:, t] * enter
        asked = q[:, t] * K**-0.5
        weight = (norm * asked).sum(-1).abs().clamp(min=1.0)[..., None]
        out.append(torch.einsum("bhkv,bhk->bhv", state, asked) / weight)
    return torch.stack(out, 1)


@pytest.mark.parametrize("chunk", [5, 16, 64])
def test_chunked_scans_equal_loops(chunk):
    q, k, v = (
        torch.randn(B, T, H, K),
        functional.normalize(torch.randn(B, T, H, K), dim=-1),
        torch.randn(B, T, H, V),
    )
    decay, gate = -torch.rand(B, T, H), torch.rand(B, T, H)
    assert torch.allclose(
        delta_scan(q, k, v, decay, gate, chunk=chunk), naive_delta(q, k, v, decay, gate), atol=1e-5
    )
    assert torch.allclose(ssd_scan(v, k, q, decay, chunk=chunk), naive_ssd(v, k, q, decay), atol=1e-5)
    enter = torch.randn(B, T, H) * 3
    assert torch.allclose(
        mlstm_scan(q, k, v, enter, decay, chunk=chunk, epsilon=0.0),
        naive_mlstm(q, k, v, enter, decay),
        atol=1e-4,
    )


def test_input_gates_far_beyond_what_fp32_can_raise_to_a_power():
    q, k, v = torch.randn(B, T, H, K), torch.randn(B, T, H, K), torch.randn(B, T, H, V)
    enter, forget = torch.full((B, T, H), 400.0), torch.zeros(B, T, H)
    assert torch.isfinite(mlstm_scan(q, k, v, enter, forget, chunk=8)).all()


def test_the_lstm_layer_equals_a_loop_that_has_the_graphs_flop():
    """The library's kernel is out of the FLOP counter's sight; the loop's products are not."""
    from torch.utils.flop_counter import FlopCounterMode

    width, cell = 12, 10
    layer = LSTMLayer(LSTM(cell_size=cell), width)
    x = torch.randn(B, T, width)
    c = layer.cell
    h = state = torch.zeros(B, cell)
    out = []
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        for t in range(T):
            gates = functional.linear(x[:, t], c.weight_ih_l0, c.bias_ih_l0) + functional.linear(
                h, c.weight_hh_l0, c.bias_hh_l0
            )
            enter, keep, new, show = gates.chunk(4, dim=-1)
            state = torch.sigmoid(keep) * state + torch.sigmoid(enter) * torch.tanh(new)
            h = torch.sigmoid(show) * torch.tanh(state)
            out.append(layer.out(h))
    with torch.no_grad():
        assert torch.allclose(layer(x), torch.stack(out, 1), atol=1e-5)
    block = Block(mixer=LSTM(cell_size=cell), channel=NoFFN(), count=1)
    graph = build_graph(Shape(name="x", vocab_size=8, hidden_size=width, blocks=(block,)), batch=B, seq_len=T)
    assert counter.get_total_flops() == sum(float(op.flops) for op in graph.blocks[0])


@pytest.mark.parametrize("tokens", [24, 200])
@pytest.mark.parametrize("kv_heads", [1, 2, 4])
@pytest.mark.parametrize("window", [None, 8, 150])
def test_blocked_attention_is_attention(tokens, kv_heads, window):
    q, k, v = (
        torch.randn(2, tokens, 4, 16),
        torch.randn(2, tokens, kv_heads, 16),
        torch.randn(2, tokens, kv_heads, 8),
    )
    apart = torch.arange(tokens)[:, None] - torch.arange(tokens)
    seen = (apart >= 0) & (apart < (window or tokens))
    theirs = functional.scaled_dot_product_attention(
        q.transpose(1, 2), k.transpose(1, 2), v.transpose(1, 2), attn_mask=seen, enable_gqa=True
    ).transpose(1, 2)
    assert torch.allclose(attend(q, k, v, window=window), theirs, atol=1e-5)
    # A sink of minus infinity takes nothing; a very large one takes everything.
    assert torch.allclose(attend(q, k, v, window=window, sinks=torch.full((4,), -1e9)), theirs, atol=1e-5)
    assert attend(q, k, v, window=window, sinks=torch.full((4,), 1e9)).abs().max() == 0


def inputs(width: int):
    return torch.randn(2, 150, width)


def test_the_delta_layer_equals_qwen3_nexts():
    config_of = pytest.importorskip("transformers").Qwen3NextConfig
    from transformers.models.qwen3_next.modeling_qwen3_next import Qwen3NextGatedDeltaNet

    config = config_of(hidden_size=32, linear_num_key_heads=2, linear_num_value_heads=4, linear_key_head_dim=8,
                       linear_value_head_dim=12, linear_conv_kernel_dim=4, rms_norm_eps=1e-5, num_hidden_layers=2,
                       layer_types=["linear_attention", "full_attention"])  # fmt: skip
    theirs = Qwen3NextGatedDeltaNet(config, 0)
    ours = DeltaLayer(DeltaNet(key_heads=2, value_heads=4, key_dim=8, value_dim=12), 32)
    q, k, v, z, b, a = ours.into.weight.split((16, 16, 48, 48, 4, 4))
    # Theirs are ordered by key head.
    parts = [w.view(2, -1, 32) for w in (q, k, v, z)]
    gates = [w.view(2, -1, 32) for w in (b, a)]
    theirs.load_state_dict({
        "in_proj_qkvz.weight": torch.cat(parts, 1).flatten(0, 1), "in_proj_ba.weight": torch.cat(gates, 1).flatten(0, 1),
        "conv1d.weight": ours.conv.weight.unsqueeze(1), "A_log": ours.decay, "dt_bias": ours.step,
        "norm.weight": ours.norm.weight, "out_proj.weight": ours.out.weight,
    })  # fmt: skip
    x = inputs(32)
    with torch.no_grad():
        assert torch.allclose(ours(x), theirs(x), atol=1e-5)


def test_the_mamba_layer_equals_mamba_2s():
    config_of = pytest.importorskip("transformers").Mamba2Config
    from transformers.models.mamba2.modeling_mamba2 import Mamba2Mixer

    config = config_of(hidden_size=32, num_heads=4, head_dim=16, state_size=8, n_groups=2, expand=2, chunk_size=64,
                       layer_norm_epsilon=1e-5, num_hidden_layers=1)  # fmt: skip
    theirs = Mamba2Mixer(config, 0).eval()
    ours = Mamba2Layer(Mamba2(heads=4, head_dim=16, state_size=8, groups=2), 32)
    theirs.load_state_dict({
        "in_proj.weight": ours.into.weight, "conv1d.weight": ours.conv.weight.unsqueeze(1), "conv1d.bias": ours.conv.bias,
        "A_log": ours.decay, "dt_bias": ours.step, "D": ours.skip, "norm.weight": ours.norm,
        "out_proj.weight": ours.out.weight,
    })  # fmt: skip
    x = inputs(32)
    with torch.no_grad():
        assert torch.allclose(ours(x), theirs(x), atol=1e-5)


def test_the_mlstm_layer_equals_xlstms():
    config_of = pytest.importorskip("transformers").xLSTMConfig
    from transformers.models.xlstm import modeling_xlstm

    if not hasattr(modeling_xlstm, "xLSTMLayer"):
        pytest.skip("transformers takes its xLSTM layers from the package xlstm here")
    config = config_of(hidden_size=32, num_heads=2, qk_dim_factor=0.5, v_dim_factor=1.0, norm_eps=1e-5, num_hidden_layers=1,
                       autocast_kernel_dtype="float32", mode="train", return_last_states=True)  # fmt: skip
    theirs = modeling_xlstm.xLSTMLayer(config)
    ours = MLSTMLayer(MLSTM(heads=2, key_dim=8, value_dim=16), 32)
    names = ("q", "k", "v", "ogate_preact", "igate_preact", "fgate_preact")
    weights = {f"{n}.weight": w for n, w in zip(names, ours.into.weight.split(ours.sizes), strict=True)}
    enter, forget = ours.gate_bias.chunk(2)
    theirs.load_state_dict({**weights, "igate_preact.bias": enter, "fgate_preact.bias": forget,
                            "multihead_norm.weight": ours.norm, "out_proj.weight": ours.out.weight})  # fmt: skip
    x = inputs(32)[:, :128]
    with torch.no_grad():
        found = theirs(x)
        assert torch.allclose(ours(x), found[0] if isinstance(found, tuple) else found, atol=1e-4)


def test_the_convolution_equals_lfm2s():
    config_of = pytest.importorskip("transformers").Lfm2Config
    from transformers.models.lfm2.modeling_lfm2 import Lfm2ShortConv

    theirs = Lfm2ShortConv(config_of(hidden_size=32, conv_L_cache=3, conv_bias=False, num_hidden_layers=1,
                                     num_attention_heads=4, num_key_value_heads=4), 0)  # fmt: skip
    ours = ConvolutionLayer(Convolution(channels=32), 32)
    theirs.load_state_dict({"in_proj.weight": ours.into.weight, "out_proj.weight": ours.out.weight,
                            "conv.weight": ours.conv.weight.unsqueeze(1)})  # fmt: skip
    x = inputs(32)
    with torch.no_grad():
        assert torch.allclose(ours(x), theirs(x), atol=1e-5)


def test_latent_attention_equals_deepseeks():
    transformers = pytest.importorskip("transformers")
    from transformers.models.deepseek_v3.modeling_deepseek_v3 import (
        DeepseekV3Attention,
        DeepseekV3RotaryEmbedding,
    )

    config = transformers.DeepseekV3Config(
        hidden_size=32, num_attention_heads=4, num_key_value_heads=4, kv_lora_rank=16, q_lora_rank=12, qk_nope_head_dim=8,
        qk_rope_head_dim=4, v_head_dim=8, rms_norm_eps=1e-5, rope_interleave=False, num_hidden_layers=1,
        attn_implementation="eager",
    )  # fmt: skip
    theirs = DeepseekV3Attention(config, 0)
    ours = LatentLayer(
        LatentAttention(
            heads=4, kv_lora_rank=16, qk_nope_head_dim=8, qk_rope_head_dim=4, v_head_dim=8, q_lora_rank=12
        ),
        32,
    )
    # Theirs add 1e-6 to the variance of the two latents, whatever the config says.
    for norm in (theirs.q_a_layernorm, theirs.kv_a_layernorm):
        norm.variance_epsilon = 1e-5
    theirs.load_state_dict({
        "q_a_proj.weight": ours.q_down.weight, "q_a_layernorm.weight": ours.q_norm.weight,
        "q_b_proj.weight": ours.q_up.weight,
        "kv_a_proj_with_mqa.weight": ours.kv_down.weight, "kv_a_layernorm.weight": ours.kv_norm.weight,
        "kv_b_proj.weight": ours.kv_up.weight, "o_proj.weight": ours.out.weight,
    })  # fmt: skip
    x = inputs(32)
    angles = DeepseekV3RotaryEmbedding(config)(x, torch.arange(150)[None])
    mask = torch.full((150, 150), float("-inf")).triu(1)[None, None]
    with torch.no_grad():
        assert torch.allclose(ours(x), theirs(x, angles, mask)[0], atol=1e-5)


def test_experts_equal_mixtrals():
    transformers = pytest.importorskip("transformers")
    from transformers.models.mixtral.modeling_mixtral import MixtralSparseMoeBlock

    config = transformers.MixtralConfig(
        hidden_size=32, intermediate_size=24, num_local_experts=4, num_experts_per_tok=2
    )
    config._experts_implementation = "eager"
    theirs = MixtralSparseMoeBlock(config).eval()
    ours = ExpertsLayer(ExpertsFFN(ffn_size=24, experts=4, topk=2), 32)
    with torch.no_grad():
        for p in (ours.up, ours.down):
            p.normal_(0.0, 0.2)
    theirs.load_state_dict(
        {"gate.weight": ours.router.weight, "experts.gate_up_proj": ours.up, "experts.down_proj": ours.down}
    )
    x = inputs(32)
    with torch.no_grad():
        found = theirs(x)
        assert torch.allclose(ours(x), found[0] if isinstance(found, tuple) else found, atol=1e-5)
