"""A Design's run as a DeepSpeed configuration: batch sizes, ZeRO stage, precision, optimizer and schedule.

Decisions: the JSON says how any model is trained and nothing of its shape (that is the ``config.json`` of the
huggingface export), so plans that cut the model itself are refused. Which layers are computed again is decided where
the model is built; the JSON only tunes how. Copies of a fully sharded group are DeepSpeed's MiCS. Keys were read in
``deepspeed/runtime/config.py`` and ``deepspeed/runtime/zero/config.py`` of DeepSpeed's commit edaa722.
"""

from __future__ import annotations

import json
from typing import Any

from shapewright.designs.document import Design
from shapewright.export.exported import (
    Exported,
    not_covered,
    num_micro_batches,
    recipe_of,
    refuse_modes,
    whole_plan,
)
from shapewright.plan.parallel import OFFLOAD, RECOMPUTE, SHARDING
from shapewright.scaling.recipe import Recipe

TARGET = "DeepSpeed's JSON"
_PRECISIONS: dict[str, dict[str, Any]] = {
    "bf16": {"bf16": {"enabled": True}},
    "fp16": {"fp16": {"enabled": True}},
    "fp32": {},
}


def deepspeed(design: Design) -> Exported:
    """The JSON for ``deepspeed.initialize`` or a trainer that calls it.

    Raises:
        NotCoveredError: the plan cuts the model, or precision or schedule have no key.
        UsageError: the design has no recipe.
    """
    recipe = recipe_of(design, TARGET)
    plan, run = whole_plan(design.plan), design.run
    for axis, name in (("tp", "tensor"), ("pp", "pipeline"), ("cp", "context"), ("ep", "expert")):
        if plan[axis] > 1:
            raise not_covered(
                TARGET,
                f"{name} parallelism (plan.{axis} = {plan[axis]}): it cuts the model, which is not in the file",
                f"design with --{axis} 1, or export torchtitan or megatron",
            )
    refuse_modes(design.plan, TARGET, expressed=("offload",))
    if OFFLOAD[plan["offload"]] == "activations":
        raise not_covered(TARGET, "plan.offload (=activations)", "design with plan.offload optimizer or none")
    if run.precision not in _PRECISIONS:
        raise not_covered(TARGET, f"precision {run.precision}", "try: --precision bf16")
    document = {
        "train_batch_size": run.global_batch_sequences,
        "train_micro_batch_size_per_gpu": plan["micro_batch"],
        "gradient_accumulation_steps": num_micro_batches(design),
        **_PRECISIONS[run.precision],
        "gradient_clipping": recipe.gradient_clip.value,
        "zero_optimization": _zero(plan),
        "optimizer": {
            "type": "AdamW",
            "params": {
                "lr": recipe.learning_rate.value,
                "betas": [recipe.beta1.value, recipe.beta2.value],
                "eps": recipe.epsilon.value,
                "weight_decay": recipe.weight_decay.value,
            },
        },
        "scheduler": _scheduler(recipe),
        **_recompute(design),
    }
    return Exported(
        text=json.dumps(document, indent=2) + "\n", file_name="ds_config.json", remarks=_remarks(design)
    )


def _zero(plan: dict[str, int]) -> dict[str, Any]:
    stage = plan["sharding"] if plan["dp_shard"] > 1 else 0
    found: dict[str, Any] = {"stage": stage}
    if OFFLOAD[plan["offload"]] == "optimizer":
        found["offload_optimizer"] = {"device": "cpu", "pin_memory": True}
    if stage:
        found |= {"overlap_comm": True, "contiguous_gradients": True}
    if stage and plan["dp_replicate"] > 1:
        if SHARDING[stage] != "parameters":
            raise not_covered(
                TARGET,
                f"copies (plan.dp_replicate = {plan['dp_replicate']}) of a group that shards its {SHARDING[stage]}",
                "try: --dp-replicate 1, or --sharding parameters",
            )
        found["mics_shard_size"] = plan["dp_shard"]
    return found


def _scheduler(recipe: Recipe) -> dict[str, Any]:
    if recipe.schedule != "cosine":
        raise not_covered(
            TARGET,
            f"the {recipe.schedule} schedule",
            "write a recipe with the cosine schedule, or export megatron",
        )
    return {
        "type": "WarmupCosineLR",
        "params": {
            "total_num_steps": int(recipe.steps.value),
            "warmup_num_steps": int(recipe.warmup_steps.value),
            "warmup_type": "linear",
            "cos_min_ratio": recipe.final_learning_rate.value / recipe.learning_rate.value,
        },
    }


def _recompute(design: Design) -> dict[str, Any]:
    if RECOMPUTE[whole_plan(design.plan)["recompute"]] != "full":
        return {}
    return {
        "activation_checkpointing": {
            "partition_activations": False,
            "cpu_checkpointing": False,
            "contiguous_memory_optimization": False,
            "number_checkpoints": int(design.shape.num_layers),
        }
    }


def _remarks(design: Design) -> tuple[str, ...]:
    remarks = [
        f"start it on {int(design.plan.num_devices)} devices: train_batch_size is micro-batch x accumulation x devices",
        "the model is not in this file: shapewright export huggingface writes its config.json",
    ]
    level = RECOMPUTE[whole_plan(design.plan)["recompute"]]
    if level != "none":
        what = "each layer" if level == "full" else "norms and activation functions"
        remarks.append(f"recompute {level} must be asked for where the model is built: checkpoint {what}")
    return tuple(remarks)
