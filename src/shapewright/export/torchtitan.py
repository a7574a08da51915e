"""A Design as a Python recipe for torchtitan 0.3.0: a function that returns its ``Trainer.Config``.

Decisions: dense layers are torchtitan's ``llama3`` model, normed queries and keys or experts its ``qwen3``; layers are
given one by one, so no flavor of the library is assumed. Without a pipeline the local batch is one micro-batch and the
rest of the global batch is accumulated; with one, the local batch is all micro-batches of the step and the pipeline
cuts it; stages that differ by a layer are listed module by module. Names were read in torchtitan 0.3.0
(PyPI), ``torchtitan/config/configs.py`` and ``torchtitan/trainer.py``.
"""

from __future__ import annotations

from dataclasses import dataclass

from shapewright.architecture.shape import Block, ExpertsFFN, SelfAttention, Shape
from shapewright.designs.document import Design
from shapewright.export.exported import (
    Exported,
    feed_forward,
    headline,
    not_covered,
    num_micro_batches,
    plain,
    recipe_of,
    refuse_modes,
    refuse_unusual_decoder,
    whole_plan,
)
from shapewright.export.torchtitan_text import FP8, MODEL, RECIPE, STAGES
from shapewright.plan.parallel import RECOMPUTE, SHARDING
from shapewright.plan.stages import chunk_layers
from shapewright.scaling.recipe import Recipe

TARGET = "torchtitan 0.3.0"
_RECOMPUTE = {
    "none": "None",
    "selective": "SelectiveAC.Config()",
    "full": "FullAC.Config()",
    "alternate": "SelectiveAC.Config()",
}
_PRECISIONS = {"bf16": "bfloat16", "fp8": "bfloat16", "fp32": "float32"}


@dataclass(frozen=True, kw_only=True, slots=True)
class _Family:
    """A model of the library."""

    module: str
    model: str
    """Its class."""
    block: str
    parallelize: str
    adapter: str
    rotary: str


_LLAMA = _Family(
    module="llama3", model="Llama3Model", block="Llama3TransformerBlock", parallelize="parallelize_llama",
    adapter="Llama3StateDictAdapter", rotary="ComplexRoPE",
)  # fmt: skip
_QWEN = _Family(
    module="qwen3", model="Qwen3Model", block="Qwen3TransformerBlock", parallelize="parallelize_qwen3",
    adapter="Qwen3StateDictAdapter", rotary="CosSinRoPE",
)  # fmt: skip


def torchtitan(design: Design) -> Exported:
    """The recipe as a Python file; run it with ``--module FILE --config recipe``.

    Raises:
        NotCoveredError: the library has no such layer or no such split.
        UsageError: the design has no recipe.
    """
    recipe = recipe_of(design, TARGET)
    family = _family(design.shape)
    _refuse_plan(design)
    plan, precision = whole_plan(design.plan), design.run.precision
    text = RECIPE.format(
        headline=headline(design),
        target=TARGET,
        devices=int(design.plan.num_devices),
        model=_model(design.shape, family, recipe, design.run.sequence_length),
        fp8=FP8 if precision == "fp8" else "",
        stages="" if _equal(_chunks(design)) else STAGES,
        convert="fp8(model_config())" if precision == "fp8" else "model_config()",
        family=family,
        flavor=plain(design.shape.name),
        balance="register_moe_load_balancing_hook" if _has_experts(design.shape) else "None",
        balance_import=", register_moe_load_balancing_hook" if _has_experts(design.shape) else "",
        optimizer=_optimizer(recipe),
        weight_decay=recipe.weight_decay.value,
        schedule=_schedule(recipe),
        training=_training(design, recipe),
        parallelism=_parallelism(design),
        recompute=_RECOMPUTE[RECOMPUTE[plan["recompute"]]],
    )
    return Exported(text=text, file_name="recipe.py", remarks=_remarks(design))


def _has_experts(shape: Shape) -> bool:
    return any(isinstance(block.channel, ExpertsFFN) for block in shape.blocks)


def _family(shape: Shape) -> _Family:
    """The library's model with these layers."""
    refuse_unusual_decoder(shape, TARGET)
    normed = False
    for block in shape.blocks:
        a, channel = block.mixer, feed_forward(block, TARGET)
        if not isinstance(a, SelfAttention):
            raise not_covered(
                TARGET,
                f"a mixer of {type(a).__name__} through its llama3 and qwen3 models",
                "design with softmax attention, or export megatron or huggingface",
            )
        missing = {
            "layer norm": block.norm.kind != "rmsnorm",
            "a bias of the attention": a.qkv_bias or a.out_bias,
            "a sliding window": a.window is not None,
            "a gate on the attention": a.gate != "none",
            "attention sinks": a.sinks,
            f"rotary embedding of {a.rotary_fraction:g} of each head": a.rotary_fraction != 1.0,
            "a feed-forward layer without gate": not channel.gated,
            "a bias of the feed-forward layer": channel.bias,
            "shared experts beside softmax routing": isinstance(channel, ExpertsFFN)
            and channel.shared_ffn_size > 0,
            "a bias on the experts' scores": isinstance(channel, ExpertsFFN) and channel.router_bias,
        }
        for what, present in missing.items():
            if present:
                raise not_covered(TARGET, what, "change the shape, or export megatron or huggingface")
        normed |= a.qk_norm == "head"
    if shape.learned_positions:
        raise not_covered(TARGET, "learned positions", "use rotary embedding, or export megatron")
    return _QWEN if normed or _has_experts(shape) else _LLAMA


def _refuse_plan(design: Design) -> None:
    """Refuse splits that the library has not.

    Raises:
        NotCoveredError: names the axis.
    """
    plan = whole_plan(design.plan)
    refuse_modes(design.plan, TARGET)
    if design.run.precision not in _PRECISIONS:
        raise not_covered(TARGET, f"precision {design.run.precision}", "try: --precision bf16")
    if plan["etp"] > 1:
        raise not_covered(TARGET, f"plan.etp (={plan['etp']})", "try: --etp 1")
    spread = plan["dp_shard"] * plan["cp"] * plan["tp"]
    if spread % plan["ep"]:
        raise not_covered(
            TARGET,
            f"plan.ep (={plan['ep']}), which must divide dp_shard * cp * tp (={spread})",
            f"try: --dp-shard {plan['ep']}",
        )
    if plan["pp"] > 1 and design.shape.tied_embeddings:
        raise not_covered(TARGET, "tied embeddings over pipeline stages", "try: --pp 1")
    for block in design.shape.blocks:
        if int(block.mixer.kv_heads) % plan["tp"]:
            raise not_covered(
                TARGET,
                f"plan.tp (={plan['tp']}) that does not divide kv_heads (={block.mixer.kv_heads})",
                f"try: --tp {_largest_divisor(int(block.mixer.kv_heads), plan['tp'])}",
            )


def _largest_divisor(number: int, limit: int) -> int:
    return max(d for d in range(1, limit + 1) if number % d == 0)


def _model(shape: Shape, family: _Family, recipe: Recipe, seq_len: int) -> str:
    layers = "\n".join(
        f"    layers += [layer({_layer(block)}) for _ in range({int(block.count)})]" for block in shape.blocks
    )
    return MODEL.format(
        family=family,
        vocab_size=int(shape.vocab_size),
        hidden_size=int(shape.hidden_size),
        seq_len=max(seq_len, shape.context_length or 0),
        init_std=recipe.init_std.value,
        output_init_std=recipe.output_init_std.value,
        tied=shape.tied_embeddings,
        layers=layers,
    )


def _layer(block: Block) -> str:
    a, channel = block.mixer, block.channel
    assert isinstance(a, SelfAttention)  # the family was found
    arguments: dict[str, object] = {
        "heads": int(a.heads),
        "kv_heads": int(a.kv_heads),
        "head_dim": int(a.head_dim),
        "ffn_size": int(channel.ffn_size),
    }
    if a.qk_norm == "head":
        arguments["qk_norm"] = True
    if isinstance(channel, ExpertsFFN):
        arguments |= {"experts": int(channel.experts), "topk": int(channel.topk)}
    return ", ".join(f"{name}={value}" for name, value in arguments.items())


def _keywords(values: dict[str, object], indent: int = 12) -> str:
    return "\n".join(f"{' ' * indent}{name}={value!r}," for name, value in values.items())


def _optimizer(recipe: Recipe) -> str:
    return _keywords(
        {
            "lr": recipe.learning_rate.value,
            "betas": (recipe.beta1.value, recipe.beta2.value),
            "eps": recipe.epsilon.value,
        },
        indent=8,
    )


def _schedule(recipe: Recipe) -> str:
    """Cosine decays over everything after the warm-up, warmup-stable-decay over its last part only."""
    cosine = recipe.schedule == "cosine"
    return _keywords(
        {
            "warmup_steps": int(recipe.warmup_steps.value),
            "decay_ratio": None if cosine else recipe.decay_fraction.value,
            "decay_type": "cosine" if cosine else "linear",
            "min_lr_factor": recipe.final_learning_rate.value / recipe.learning_rate.value,
        }
    )


def _training(design: Design, recipe: Recipe) -> str:
    plan = whole_plan(design.plan)
    pipelined = plan["pp"] > 1
    return _keywords(
        {
            "local_batch_size": plan["micro_batch"] * (num_micro_batches(design) if pipelined else 1),
            "global_batch_size": design.run.global_batch_sequences,
            "seq_len": design.run.sequence_length,
            "max_norm": recipe.gradient_clip.value,
            "steps": int(recipe.steps.value),
            "mixed_precision_param": _PRECISIONS[design.run.precision],
            # torchtitan 0.3.0 refuses captured graphs with pipelines and with all-to-all token dispatch.
            "disable_cuda_graphs": pipelined or plan["ep"] > 1,
        }
    )


def _parallelism(design: Design) -> str:
    plan = whole_plan(design.plan)
    sharded = plan["sharding"] > 0
    values: dict[str, object] = {
        "data_parallel_replicate_degree": plan["dp_replicate"] if sharded else int(design.plan.dp),
        "data_parallel_shard_degree": plan["dp_shard"] if sharded else 1,
        "fsdp_reshard_after_forward": "always" if SHARDING[plan["sharding"]] == "parameters" else "never",
        "tensor_parallel_degree": plan["tp"],
        "context_parallel_degree": plan["cp"],
        "expert_parallel_degree": plan["ep"],
        "pipeline_parallel_degree": plan["pp"],
    }
    if plan["pp"] > 1:
        values |= {
            "pipeline_parallel_microbatch_size": plan["micro_batch"],
            "pipeline_parallel_schedule": "Interleaved1F1B" if plan["vpp"] > 1 else "1F1B",
        }
    layers = _chunks(design)
    if not _equal(layers):
        return f"{_keywords(values)}\n{' ' * 12}module_fqns_per_model_part=stages({', '.join(map(str, layers))}),"
    if plan["pp"] > 1:
        values |= {
            "pipeline_parallel_layers_per_stage": layers[0],
            # The plan gives every stage the same layers, also those with the embedding and the head.
            "pipeline_parallel_first_stage_less_layers": 0,
            "pipeline_parallel_last_stage_less_layers": 0,
        }
    return _keywords(values)


def _chunks(design: Design) -> tuple[int, ...]:
    plan = whole_plan(design.plan)
    return chunk_layers(int(design.shape.num_layers), plan["pp"], plan["vpp"])


def _equal(layers: tuple[int, ...]) -> bool:
    return len(set(layers)) == 1


def _remarks(design: Design) -> tuple[str, ...]:
    plan = whole_plan(design.plan)
    remarks = [
        "data and tokenizer are torchtitan's small C4 sample until you name your own; the rotary base is its default"
    ]
    if SHARDING[plan["sharding"]] in ("optimizer", "gradients") and plan["dp_shard"] > 1:
        often = plan["pp"] == 1 and num_micro_batches(design) > 1
        remarks.append(
            f"sharding of {SHARDING[plan['sharding']]} becomes FSDP2 that keeps the weights between the passes: gradients "
            "are sharded too"
            + (", and travel once per micro-batch instead of once per step" if often else "")
        )
    if RECOMPUTE[plan["recompute"]] == "selective":
        remarks.append(
            "torchtitan's selective recompute also repeats every second product; the plan repeats none"
        )
    return tuple(remarks)
