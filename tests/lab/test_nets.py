"""A Shape as a torch module: parameters, FLOP, and a model of another library with the same weights."""

from __future__ import annotations

from dataclasses import replace

import pytest

torch = pytest.importorskip("torch")

from shapewright.architecture.graph import build_graph, num_params  # noqa: E402
from shapewright.architecture.operator import Attention, Recurrence, Scan  # noqa: E402
from shapewright.architecture.shape import (  # noqa: E402
    LSTM,
    MLSTM,
    RWKV7,
    Block,
    Convolution,
    DeltaNet,
    DenseFFN,
    ExpertsFFN,
    LatentAttention,
    Mamba2,
    NoFFN,
    Norm,
    Patches,
    SelfAttention,
    Shape,
)
from shapewright.errors import NotCoveredError, UsageError  # noqa: E402
from shapewright.lab.nets import Net, initialise  # noqa: E402

pytestmark = pytest.mark.torch

ATTENTION = SelfAttention(heads=4, kv_heads=4, head_dim=8)
GROUPED = replace(ATTENTION, kv_heads=2)
LAYER = Norm(kind="layernorm", bias=True)


def shape(mixer=ATTENTION, channel=None, **changes) -> Shape:
    block = {
        k: changes.pop(k)
        for k in ("norm", "norm_placement", "parallel", "shared_norm", "ternary")
        if k in changes
    }
    return Shape(
        name="small", vocab_size=256, hidden_size=32,
        blocks=(Block(mixer=mixer, channel=channel or DenseFFN(ffn_size=88), count=2, **block),), **changes,
    )  # fmt: skip


SHAPES = {
    "dense": shape(),
    "grouped, tied": shape(GROUPED, tied_embeddings=True),
    "multi-query, plain": shape(replace(ATTENTION, kv_heads=1), DenseFFN(ffn_size=128, gated=False, bias=True)),
    "2019": shape(
        replace(ATTENTION, rotary_fraction=0.0, qkv_bias=True, out_bias=True),
        DenseFFN(ffn_size=128, gated=False, bias=True),
        norm=LAYER, final_norm=LAYER, learned_positions=64, tied_embeddings=True,
    ),
    "normed heads": shape(replace(GROUPED, qk_norm="head")),
    "normed heads apart": shape(replace(GROUPED, qk_norm="heads")),
    "all heads normed": shape(replace(GROUPED, qk_norm="full")),
    "half rotary, wide heads": shape(replace(ATTENTION, head_dim=16, v_head_dim=8, rotary_fraction=0.5)),
    "parallel": shape(parallel=True, shared_norm=True, norm=LAYER, final_norm=LAYER),
    "parallel, two norms": shape(parallel=True),
    "post": shape(norm_placement="post", norm=LAYER, final_norm=None),
    "output": shape(norm_placement="output"),
    "sandwich": shape(norm_placement="sandwich"),
    "odds": shape(embedding_norm=LAYER, head_bias=True, norm=Norm(scale=False)),
    "window": shape(replace(GROUPED, window=8)),
    "pieces": shape(replace(ATTENTION, chunk=8)),
    "gates and sinks": shape(replace(GROUPED, gate="element", sinks=True)),
    "gated heads": shape(replace(ATTENTION, gate="head", qkv_bias=True)),
    "latent": shape(
        LatentAttention(heads=4, kv_lora_rank=16, qk_nope_head_dim=8, qk_rope_head_dim=4, v_head_dim=8, q_lora_rank=12)
    ),
    "latent, direct queries": shape(
        LatentAttention(heads=4, kv_lora_rank=16, qk_nope_head_dim=8, qk_rope_head_dim=4, v_head_dim=8, bias=True)
    ),
    "delta": shape(DeltaNet(key_heads=2, value_heads=4, key_dim=8, value_dim=12)),
    "mamba": shape(Mamba2(heads=4, head_dim=16, state_size=8, groups=2), NoFFN()),
    "mamba, biases": shape(Mamba2(heads=4, head_dim=16, state_size=8, groups=1, bias=True), norm_placement="sandwich"),
    "mlstm": shape(MLSTM(heads=2, key_dim=8, value_dim=16)),
    "lstm": shape(LSTM(cell_size=24)),
    "lstm as wide as the model": shape(LSTM(cell_size=32, bias=False, projection=False), NoFFN()),
    "convolution": shape(Convolution(channels=32)),
    "convolution, plain": shape(Convolution(channels=24, kernel=4, gated=False, bias=True)),
    "experts": shape(channel=ExpertsFFN(ffn_size=24, experts=4, topk=2)),
    "experts, shared": shape(channel=ExpertsFFN(ffn_size=24, experts=4, topk=1, shared_ffn_size=40, shared_gate=True,
                                                bias=True, router_bias=True, gated=False)),
    "experts, narrow": shape(channel=ExpertsFFN(ffn_size=24, experts=4, topk=2, latent_size=16)),
    "experts, parallel": shape(channel=ExpertsFFN(ffn_size=24, experts=4, topk=2), parallel=True),
}  # fmt: skip


TOKENS = 24


def counted(shape: Shape, batch: int, tokens: int) -> float:
    """The graph's FLOP as torch's counter sees the module: it counts the squares that the module computes, and sees
    neither triangular inverses nor the library's recurrences."""
    graph = build_graph(shape, batch=batch, seq_len=tokens)
    total = float(graph.flops())
    for ops, count in zip(graph.blocks, graph.counts, strict=True):
        for op in ops:
            if isinstance(op, Attention):
                full = 2.0 * op.batch * op.heads * op.q_len * op.kv_len * (op.head_dim + op.v_head_dim)
                total += float(count * (full - op.flops))
            elif isinstance(op, Scan) and op.kind == "delta":
                total -= float(
                    count * op.batch * op.seq_len * op.heads * 2.0 * min(op.chunk, tokens) ** 2 / 3.0
                )
            elif isinstance(op, Recurrence):
                # The library's LSTM multiplies what enters a cell as well, out of the counter's sight.
                total -= float(count * (op.flops + ops[[o.name for o in ops].index("lstm.in")].flops))
    return total


@pytest.mark.parametrize("name", SHAPES)
def test_parameters_and_flop_are_the_graphs(name):
    from torch.utils.flop_counter import FlopCounterMode

    chosen = SHAPES[name]
    net = Net(chosen)
    assert sum(p.numel() for p in net.parameters()) == num_params(chosen)
    tokens = torch.randint(256, (2, TOKENS))
    counter = FlopCounterMode(display=False)
    with counter:
        logits = net(tokens)
    assert logits.shape == (2, TOKENS, 256)
    assert counter.get_total_flops() == pytest.approx(counted(chosen, 2, TOKENS), rel=1e-12)
    with counter:
        net(tokens).sum().backward()
    both = 3 * counted(chosen, 2, TOKENS)
    if any(isinstance(b.mixer, DeltaNet | Mamba2 | MLSTM) for b in chosen.blocks):
        # Nobody reads the last chunk's state, so its product has no backward pass; that of an inverse has two products.
        assert 0.7 * both <= counter.get_total_flops() <= 1.1 * both
    else:
        assert counter.get_total_flops() == pytest.approx(both, rel=1e-12)
    assert all(p.grad is not None and torch.isfinite(p.grad).all() for p in net.parameters())


def test_flop_of_whole_chunks_are_the_graphs():
    from torch.utils.flop_counter import FlopCounterMode

    for mixer in (SHAPES["delta"], SHAPES["mamba"], SHAPES["mlstm"]):
        with FlopCounterMode(display=False) as counter:
            Net(mixer)(torch.zeros(1, 256, dtype=torch.long))
        assert counter.get_total_flops() == pytest.approx(counted(mixer, 1, 256), rel=1e-12)


PATCHES = Patches(image_size=8, patch_size=2, channels=1)
IMAGES = replace(
    shape(replace(ATTENTION, causal=False, rotary_fraction=0.0, qkv_bias=True, out_bias=True),
          DenseFFN(ffn_size=64, gated=False, bias=True), norm=LAYER, final_norm=LAYER, patches=PATCHES,
          learned_positions=17, head_bias=True),
    vocab_size=10,
)  # fmt: skip


def test_an_image_model_has_the_graphs_parameters_and_flop():
    from torch.utils.flop_counter import FlopCounterMode

    net = Net(IMAGES)
    assert sum(p.numel() for p in net.parameters()) == num_params(IMAGES)
    with FlopCounterMode(display=False) as counter:
        logits = net(torch.rand(3, 1, 8, 8))
    assert logits.shape == (3, 10)
    assert counter.get_total_flops() == counted(IMAGES, 3, PATCHES.num_tokens)


def test_logits_of_images_equal_vits_with_the_same_weights():
    transformers = pytest.importorskip("transformers")
    config = transformers.ViTConfig(
        hidden_size=32, num_hidden_layers=2, num_attention_heads=4, intermediate_size=64, image_size=8, patch_size=2,
        num_channels=1, num_labels=10, layer_norm_eps=1e-5,
    )  # fmt: skip
    other = transformers.ViTForImageClassification(config).eval()
    net = Net(IMAGES)
    initialise(net, std=0.2, output_std=0.1, seed=4)
    generator = torch.Generator().manual_seed(5)
    with torch.no_grad():
        for parameter in net.parameters():  # biases too, which start at zero
            parameter.add_(0.05 * torch.randn(parameter.shape, generator=generator))
    ends = {
        "vit.embeddings.cls_token": net.class_token[None], "vit.embeddings.position_embeddings": net.positions[None],
        "vit.embeddings.patch_embeddings.projection.weight": net.patches.weight.view(32, 1, 2, 2),
        "vit.embeddings.patch_embeddings.projection.bias": net.patches.bias,
        "vit.layernorm.weight": net.final_norm.weight, "vit.layernorm.bias": net.final_norm.bias,
        "classifier.weight": net.head.weight, "classifier.bias": net.head_bias,
    }  # fmt: skip
    for i, layer in enumerate(net.layers):
        for kind in ("weight", "bias"):
            at = f"vit.layers.{i}."
            q, k, v = getattr(layer.mixer.qkv, kind).split(layer.mixer.sizes)
            ends |= {
                f"{at}attention.q_proj.{kind}": q, f"{at}attention.k_proj.{kind}": k, f"{at}attention.v_proj.{kind}": v,
                f"{at}attention.o_proj.{kind}": getattr(layer.mixer.out, kind),
                f"{at}layernorm_before.{kind}": getattr(layer.norms[0], kind),
                f"{at}layernorm_after.{kind}": getattr(layer.norms[1], kind),
                f"{at}mlp.fc1.{kind}": getattr(layer.ffn.up, kind), f"{at}mlp.fc2.{kind}": getattr(layer.ffn.down, kind),
            }  # fmt: skip
    other.load_state_dict(ends)
    images = torch.rand(3, 1, 8, 8, generator=generator)
    with torch.no_grad():
        assert torch.allclose(net(images), other(images).logits, atol=1e-5)


@pytest.mark.parametrize("name", SHAPES)
def test_no_token_sees_what_follows(name):
    net = Net(SHAPES[name])
    initialise(net, std=0.2, output_std=0.2, seed=1)
    first = torch.randint(256, (1, 16), generator=torch.Generator().manual_seed(0))
    second = first.clone()
    second[:, 9] = (second[:, 9] + 1) % 256
    with torch.no_grad():
        a, b = net(first), net(second)
    assert torch.allclose(a[:, :9], b[:, :9], atol=1e-5)
    assert not torch.allclose(a[:, 9:], b[:, 9:], atol=1e-3)


def test_logits_equal_llamas_with_the_same_weights():
    transformers = pytest.importorskip("transformers")
    chosen = shape(GROUPED)
    config = transformers.LlamaConfig(
        vocab_size=256, hidden_size=32, intermediate_size=88, num_hidden_layers=2, num_attention_heads=4,
        num_key_value_heads=2, head_dim=8, max_position_embeddings=64, rms_norm_eps=1e-5, tie_word_embeddings=False,
    )  # fmt: skip
    other = transformers.LlamaForCausalLM(config).eval()
    net = Net(chosen)
    initialise(net, std=0.1, output_std=0.05, seed=2)
    theirs = {"model.embed_tokens.weight": net.embedding.weight, "lm_head.weight": net.head.weight,
              "model.norm.weight": net.final_norm.weight}  # fmt: skip
    for i, layer in enumerate(net.layers):
        at = f"model.layers.{i}."
        q, k, v = layer.mixer.qkv.weight.split(layer.mixer.sizes)
        gate, up = layer.ffn.up.weight.chunk(2)
        theirs |= {
            at + "self_attn.q_proj.weight": q, at + "self_attn.k_proj.weight": k, at + "self_attn.v_proj.weight": v,
            at + "self_attn.o_proj.weight": layer.mixer.out.weight, at + "mlp.gate_proj.weight": gate,
            at + "mlp.up_proj.weight": up, at + "mlp.down_proj.weight": layer.ffn.down.weight,
            at + "input_layernorm.weight": layer.norms[0].weight,
            at + "post_attention_layernorm.weight": layer.norms[1].weight,
        }  # fmt: skip
    other.load_state_dict(theirs)
    tokens = torch.randint(256, (2, 48), generator=torch.Generator().manual_seed(3))
    with torch.no_grad():
        assert torch.allclose(net(tokens), other(tokens).logits, atol=1e-4)


def test_weights_follow_the_seed_and_the_two_deviations():
    first, second, third = Net(SHAPES["dense"]), Net(SHAPES["dense"]), Net(SHAPES["dense"])
    for net, seed in ((first, 0), (second, 0), (third, 1)):
        initialise(net, std=0.1, output_std=0.01, seed=seed)
    assert torch.equal(first.layers[1].ffn.up.weight, second.layers[1].ffn.up.weight)
    assert not torch.equal(first.layers[1].ffn.up.weight, third.layers[1].ffn.up.weight)
    assert float(first.layers[0].ffn.up.weight.detach().std()) == pytest.approx(0.1, rel=0.1)
    assert float(first.layers[0].ffn.down.weight.detach().std()) == pytest.approx(0.01, rel=0.1)
    assert torch.equal(first.layers[0].norms[0].weight, torch.ones(32))


@pytest.mark.parametrize(
    ("bad", "name"),
    [
        (shape(replace(ATTENTION, values_are_keys=True)), "shared keys"),
        (shape(RWKV7(heads=4, head_dim=8)), "RWKV7"),
        (
            shape(channel=ExpertsFFN(ffn_size=16, experts=4, topk=1, separate_norms=True)),
            "norms of the experts",
        ),
        (shape(channel=DenseFFN(ffn_size=32, monarch_blocks=4)), "block-diagonal"),
        (shape(ternary=True), "ternary"),
    ],
)
def test_what_is_not_written_is_refused_by_name(bad, name):
    with pytest.raises(NotCoveredError, match=name):
        Net(bad)


def test_a_learned_table_bounds_the_sequence():
    with pytest.raises(UsageError, match="64 learned positions"):
        Net(SHAPES["2019"])(torch.zeros(1, 65, dtype=torch.long))
