"""A Design as a shell script that trains it with Megatron-LM's ``pretrain_gpt.py``.

Decisions: only what differs from Megatron's defaults is written, except where a default depends on another argument (an
expert's tensor parallelism). Stages that differ by a layer are written as a pipeline layout. Sequence parallelism comes with
tensor parallelism, as the plan prices it. Sharded optimizer state is Megatron's distributed optimizer; sharded gradients and
weights are its own FSDP. Where layers differ, dense feed-forward layers come before experts. Names and choices were read in
``megatron/training/arguments.py`` of the commit that ``tests/unit/export/test_megatron.py`` names.
"""

from __future__ import annotations

import shlex
from itertools import groupby

from shapewright.architecture.shape import (
    Block,
    DenseFFN,
    ExpertsFFN,
    LatentAttention,
    SelfAttention,
    Shape,
)
from shapewright.designs.document import Design
from shapewright.export.exported import (
    Exported,
    feed_forward,
    headline,
    not_covered,
    num_micro_batches,
    recipe_of,
    refuse_modes,
    refuse_unusual_decoder,
    whole_plan,
)
from shapewright.plan.parallel import CONTEXT, RECOMPUTE, SHARDING
from shapewright.plan.stages import chunk_layers
from shapewright.scaling.recipe import Recipe

TARGET = "Megatron-LM"
Arguments = dict[str, object]
"""Values by argument; True for a switch; a tuple for several values."""

_PRECISIONS: dict[str, Arguments] = {
    "bf16": {"bf16": True},
    "fp16": {"fp16": True},
    "fp8": {"bf16": True, "fp8-format": "hybrid"},
    "fp32": {},
}

_SCRIPT = """\
#!/usr/bin/env bash
# {headline}
# Run it on every node, with MEGATRON naming a checkout of Megatron-LM; arguments of your data follow the script's
# name. Without any it trains on Megatron's mock data.
set -euo pipefail
{environment}
GPUS_PER_NODE=${{GPUS_PER_NODE:-{per_node}}}
NUM_DEVICES={devices}
if (( $# == 0 )); then
    set -- --mock-data --tokenizer-type NullTokenizer --vocab-size {vocab_size}
fi
ARGUMENTS=(
{arguments}
)
torchrun --nproc-per-node "$GPUS_PER_NODE" --nnodes "$(( NUM_DEVICES / GPUS_PER_NODE ))" \\
    --node-rank "${{NODE_RANK:-0}}" --master-addr "${{MASTER_ADDR:-localhost}}" --master-port "${{MASTER_PORT:-29500}}" \\
    "${{MEGATRON:-.}}/pretrain_gpt.py" "${{ARGUMENTS[@]}}" "$@"
"""


def megatron(design: Design) -> Exported:
    """The script, with every argument on a line of its own.

    Raises:
        NotCoveredError: Megatron-LM has no argument for a part of the shape or the plan.
        UsageError: the design has no recipe.
    """
    recipe = recipe_of(design, TARGET)
    devices = int(design.plan.num_devices)
    text = _SCRIPT.format(
        headline=headline(design),
        environment=_environment(design),
        per_node=min(devices, 8),
        devices=devices,
        vocab_size=int(design.shape.vocab_size),
        arguments="\n".join(f"    {_line(name, value)}" for name, value in arguments(design, recipe).items()),
    )
    return Exported(text=text, file_name="train.sh", remarks=_remarks(design))


def arguments(design: Design, recipe: Recipe) -> Arguments:
    """Every argument of the run but those of the data."""
    shape, run = design.shape, design.run
    refuse_unusual_decoder(shape, TARGET)
    refuse_modes(
        design.plan, TARGET, expressed=("sequence_parallel", "async_tp", "recompute_layers", "context")
    )
    if run.precision not in _PRECISIONS:
        raise not_covered(TARGET, f"precision {run.precision}", "try: --precision bf16")
    return {
        **_shape(shape, run.sequence_length),
        **_parallel(design),
        **_recompute(design),
        "micro-batch-size": whole_plan(design.plan)["micro_batch"],
        "global-batch-size": run.global_batch_sequences,
        **_PRECISIONS[run.precision],
        **_training(recipe),
    }


def _line(name: str, value: object) -> str:
    if value is True:
        return f"--{name}"
    values = value if isinstance(value, tuple) else (value,)
    return " ".join([f"--{name}", *(shlex.quote(str(v)) for v in values)])


def _shape(shape: Shape, seq_len: int) -> Arguments:
    first = shape.blocks[0]
    if any(block.mixer != first.mixer or block.norm != first.norm for block in shape.blocks):
        raise not_covered(TARGET, "layers of different attention or norm", "design with equal layers")
    found: Arguments = {
        "num-layers": int(shape.num_layers),
        "hidden-size": int(shape.hidden_size),
        "seq-length": seq_len,
        "max-position-embeddings": max(seq_len, shape.context_length or 0, int(shape.learned_positions)),
        "normalization": "RMSNorm" if first.norm.kind == "rmsnorm" else "LayerNorm",
        "attention-dropout": 0.0,
        "hidden-dropout": 0.0,
        "padded-vocab-size": int(shape.vocab_size),
    }
    if not shape.tied_embeddings:
        found["untie-embeddings-and-output-weights"] = True
    return found | _mixer(first, shape) | _channels(shape) | _biases(shape)


def _mixer(block: Block, shape: Shape) -> Arguments:
    a = block.mixer
    if isinstance(a, LatentAttention):
        if a.selected is not None or a.indexer is not None:
            raise not_covered(
                TARGET, "latent attention to selected keys", "design with full latent attention"
            )
        found: Arguments = {
            "num-attention-heads": int(a.heads),
            "multi-latent-attention": True,
            "kv-lora-rank": int(a.kv_lora_rank),
            "qk-head-dim": int(a.qk_nope_head_dim),
            "qk-pos-emb-head-dim": int(a.qk_rope_head_dim),
            "v-head-dim": int(a.v_head_dim),
            # The norms of the latents.
            "qk-layernorm": True,
            "position-embedding-type": "rope",
        }
        return found | ({} if a.q_lora_rank is None else {"q-lora-rank": int(a.q_lora_rank)})
    if not isinstance(a, SelfAttention):
        raise not_covered(
            TARGET, f"a mixer of {type(a).__name__} in pretrain_gpt.py", "design with softmax attention"
        )
    if a.gate == "head":
        raise not_covered(TARGET, "a gate per head", "use a gate per element, or none")
    switches = {
        "group-query-attention": a.kv_heads != a.heads,
        "qk-layernorm": a.qk_norm == "head",
        "attention-output-gate": a.gate == "element",
    }
    found = {
        "num-attention-heads": int(a.heads),
        "kv-channels": int(a.head_dim),
        **{name: True for name, wanted in switches.items() if wanted},
        **_positions(a, shape),
    }
    if a.kv_heads != a.heads:
        found["num-query-groups"] = int(a.kv_heads)
    if a.window is not None:
        # The window counts the token itself, Megatron's pair counts those to its left and right.
        found["window-size"] = f"({int(a.window) - 1},0)"
    if a.sinks:
        found["softmax-type"] = "learnable"
    return found


def _positions(a: SelfAttention, shape: Shape) -> Arguments:
    if shape.learned_positions:
        return {"position-embedding-type": "learned_absolute"}
    if a.rotary_fraction == 0.0:
        raise not_covered(TARGET, "positions that are neither rotary nor learned", "use rotary embedding")
    partial: Arguments = {} if a.rotary_fraction == 1.0 else {"rotary-percent": a.rotary_fraction}
    return {"position-embedding-type": "rope", **partial}


def _channels(shape: Shape) -> Arguments:
    channels = [feed_forward(block, TARGET) for block in shape.blocks]
    dense = {int(channel.ffn_size) for channel in channels if isinstance(channel, DenseFFN)}
    experts = [channel for channel in channels if isinstance(channel, ExpertsFFN)]
    gated = {channel.gated for channel in channels}
    if len(dense) > 1 or len(gated) > 1 or any(e != experts[0] for e in experts):
        raise not_covered(TARGET, "feed-forward layers of different sizes", "design with equal layers")
    found: Arguments = {"swiglu": True} if gated == {True} else {}
    if dense:
        found["ffn-hidden-size"] = dense.pop()
    if not experts:
        return found
    e = experts[0]
    num_dense = int(sum(block.count for block in shape.blocks if isinstance(block.channel, DenseFFN)))
    found |= {
        "num-experts": int(e.experts),
        "moe-router-topk": int(e.topk),
        "moe-ffn-hidden-size": int(e.ffn_size),
        "moe-grouped-gemm": True,
        "moe-token-dispatcher-type": "alltoall",
    }
    if num_dense:
        found["moe-layer-freq"] = f"([0]*{num_dense}+[1]*{int(shape.num_layers) - num_dense})"
    if e.shared_ffn_size:
        found["moe-shared-expert-intermediate-size"] = int(e.shared_ffn_size)
    if e.shared_gate:
        found["moe-shared-expert-gate"] = True
    if e.router_bias:
        found |= {"moe-router-enable-expert-bias": True, "moe-router-score-function": "sigmoid"}
    return found


def _biases(shape: Shape) -> Arguments:
    """All biases (Megatron's default), none, or those of queries, keys and values only."""
    found = set()
    for block in shape.blocks:
        a = block.mixer
        assert isinstance(a, SelfAttention | LatentAttention)  # the mixer was found
        pair = (a.qkv_bias, a.out_bias) if isinstance(a, SelfAttention) else (a.bias, a.bias)
        found.add((*pair, feed_forward(block, TARGET).bias))
    if found == {(True, True, True)}:
        return {}
    if found == {(False, False, False)}:
        return {"disable-bias-linear": True}
    if found == {(True, False, False)}:
        return {"disable-bias-linear": True, "add-qkv-bias": True}
    raise not_covered(
        TARGET, "biases in some products only", "use all biases, none, or those of queries, keys and values"
    )


def _parallel(design: Design) -> Arguments:
    plan = whole_plan(design.plan)
    layers = chunk_layers(int(design.shape.num_layers), plan["pp"], plan["vpp"])
    if int(design.shape.vocab_size) % plan["tp"]:
        raise not_covered(
            TARGET,
            f"a vocabulary of {design.shape.vocab_size} that plan.tp (={plan['tp']}) does not divide",
            f"try: --vocab {-(-int(design.shape.vocab_size) // (128 * plan['tp'])) * 128 * plan['tp']}",
        )
    found: Arguments = {
        "tensor-model-parallel-size": plan["tp"],
        "pipeline-model-parallel-size": plan["pp"],
        "context-parallel-size": plan["cp"],
    }
    if plan["tp"] > 1 and plan["sequence_parallel"]:
        found["sequence-parallel"] = True
    if plan["tp"] > 1 and plan["async_tp"]:
        found["tp-comm-overlap"] = True
    if plan["cp"] > 1 and CONTEXT[plan["context"]] == "ring":
        raise not_covered(
            TARGET, "a ring over contiguous pieces (plan.context = ring)", "design with plan.context zigzag"
        )
    if plan["cp"] > 1 and CONTEXT[plan["context"]] == "all-gather":
        found["cp-comm-type"] = "all_gather"
    if plan["vpp"] > 1:
        if num_micro_batches(design) < plan["pp"]:
            raise not_covered(
                TARGET,
                f"an interleaved pipeline of {plan['pp']} stages with {num_micro_batches(design)} micro-batches",
                "try: --vpp 1, or a larger --batch",
            )
        if len(set(layers)) == 1:
            found["num-layers-per-virtual-pipeline-stage"] = layers[0]
    if len(set(layers)) > 1:
        found["pipeline-model-parallel-layout"] = _layout(layers)
    if any(isinstance(block.channel, ExpertsFFN) for block in design.shape.blocks):
        found |= {"expert-model-parallel-size": plan["ep"], "expert-tensor-parallel-size": plan["etp"]}
    return found | _data_parallel(design)


def _layout(layers: tuple[int, ...]) -> str:
    """Chunks as ``Ett|(ttt|)*14ttL``: E the embedding, t a layer, L the loss."""
    inner = "".join(f"({'t' * size}|)*{len(list(run))}" for size, run in groupby(layers[1:-1]))
    return f"E{'t' * layers[0]}|{inner}{'t' * layers[-1]}L"


def _data_parallel(design: Design) -> Arguments:
    plan = whole_plan(design.plan)
    if int(design.plan.dp) * plan["cp"] == 1:
        return {}
    sharding = SHARDING[plan["sharding"]]
    found: Arguments = {"overlap-grad-reduce": True}
    if sharding == "none":
        return found
    found |= {"use-distributed-optimizer": True, "overlap-param-gather": True}
    if plan["dp_replicate"] > 1:
        found["num-distributed-optimizer-instances"] = plan["dp_replicate"]
    if sharding != "optimizer":
        found |= {
            "use-megatron-fsdp": True,
            "data-parallel-sharding-strategy": "optim_grads"
            if sharding == "gradients"
            else "optim_grads_params",
            "ckpt-format": "fsdp_dtensor",
            "no-gradient-accumulation-fusion": True,
        }
    return found


def _environment(design: Design) -> str:
    """Before Blackwell, Megatron-LM insists on one queue for overlapped tensor parallelism, and on several for FSDP."""
    plan = whole_plan(design.plan)
    one = (plan["tp"] > 1 or plan["cp"] > 1) and SHARDING[plan["sharding"]] in ("none", "optimizer")
    return "export CUDA_DEVICE_MAX_CONNECTIONS=1" if one else "unset CUDA_DEVICE_MAX_CONNECTIONS"


def _recompute(design: Design) -> Arguments:
    level = RECOMPUTE[whole_plan(design.plan)["recompute"]]
    if level == "none":
        return {}
    if level == "alternate":
        raise not_covered(
            TARGET, "recompute of every second product", "design with --recompute selective or full"
        )
    some = whole_plan(design.plan)["recompute_layers"]
    if some and level != "full":
        raise not_covered(TARGET, f"recompute {level} in some layers", "design with --recompute full")
    if some:
        return {
            "recompute-granularity": "full",
            "recompute-method": "block",
            "recompute-num-layers": -(-some // whole_plan(design.plan)["vpp"]),
        }
    if level == "full":
        return {"recompute-granularity": "full", "recompute-method": "uniform", "recompute-num-layers": 1}
    experts = any(isinstance(block.channel, ExpertsFFN) for block in design.shape.blocks)
    return {
        "recompute-granularity": "selective",
        "recompute-modules": ("layernorm", "moe_act") if experts else ("layernorm",),
    }


def _training(recipe: Recipe) -> Arguments:
    steps = int(recipe.steps.value)
    found: Arguments = {
        "train-iters": steps,
        "lr": recipe.learning_rate.value,
        "min-lr": recipe.final_learning_rate.value,
        "lr-decay-iters": steps,
        # Megatron-LM wants at least one step after the warm-up.
        "lr-warmup-iters": min(int(recipe.warmup_steps.value), steps - 1),
        "lr-decay-style": "cosine" if recipe.schedule == "cosine" else "WSD",
        "weight-decay": recipe.weight_decay.value,
        "adam-beta1": recipe.beta1.value,
        "adam-beta2": recipe.beta2.value,
        "adam-eps": recipe.epsilon.value,
        "clip-grad": recipe.gradient_clip.value,
        "init-method-std": recipe.init_std.value,
    }
    if recipe.schedule == "wsd":
        found |= {
            "lr-wsd-decay-style": "linear",
            "lr-wsd-decay-iters": max(round(recipe.decay_fraction.value * steps), 1),
        }
    return found


def _remarks(design: Design) -> tuple[str, ...]:
    remarks = [
        "without arguments of your own the script trains on mock data; the rotary base is Megatron's default"
    ]
    dense = any(isinstance(block.channel, DenseFFN) for block in design.shape.blocks)
    if RECOMPUTE[whole_plan(design.plan)["recompute"]] == "selective" and dense:
        remarks.append(
            "Megatron-LM cannot repeat the activation of a dense feed-forward layer alone, as the plan does: it is kept, "
            "which takes more memory than predicted"
        )
    return tuple(remarks)
