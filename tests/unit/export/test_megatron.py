"""The Megatron-LM script: arguments that its parser has, the numbers of the plan, a script that bash runs."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from shapewright.architecture.shape import (
    DeltaNet,
    DenseFFN,
    ExpertsFFN,
    LatentAttention,
    NoFFN,
    Norm,
    SelfAttention,
)
from shapewright.designs.document import Design
from shapewright.errors import NotCoveredError
from shapewright.export.megatron import megatron

COMMIT = "d98e8a64ddf34856e74b24714e3bedb2f5a39553"
"""NVIDIA/Megatron-LM, 2026-08-22: these names are options of the parser that add_megatron_arguments builds in
megatron/training/arguments.py, and its validate_args accepts the scripts of the designs below."""
_NAMES = """
adam-beta1 adam-beta2 adam-eps add-qkv-bias attention-dropout attention-output-gate bf16 ckpt-format clip-grad
context-parallel-size data-parallel-sharding-strategy disable-bias-linear expert-model-parallel-size
expert-tensor-parallel-size ffn-hidden-size fp16 fp8-format global-batch-size group-query-attention hidden-dropout
hidden-size init-method-std kv-channels kv-lora-rank lr lr-decay-iters lr-decay-style lr-warmup-iters
lr-wsd-decay-iters lr-wsd-decay-style max-position-embeddings micro-batch-size min-lr mock-data moe-ffn-hidden-size
moe-grouped-gemm moe-layer-freq moe-router-enable-expert-bias moe-router-score-function moe-router-topk
moe-shared-expert-gate moe-shared-expert-intermediate-size moe-token-dispatcher-type multi-latent-attention
no-gradient-accumulation-fusion normalization num-attention-heads num-distributed-optimizer-instances num-experts
num-layers num-layers-per-virtual-pipeline-stage num-query-groups overlap-grad-reduce overlap-param-gather
padded-vocab-size pipeline-model-parallel-layout pipeline-model-parallel-size position-embedding-type q-lora-rank
qk-head-dim qk-layernorm
qk-pos-emb-head-dim recompute-granularity recompute-method recompute-modules recompute-num-layers rotary-percent
seq-length sequence-parallel softmax-type swiglu tensor-model-parallel-size tokenizer-type train-iters
untie-embeddings-and-output-weights use-distributed-optimizer use-megatron-fsdp v-head-dim vocab-size weight-decay
window-size
"""
NAMES = frozenset(_NAMES.split())

ONE_STAGE = {"tp": 1, "pp": 1, "vpp": 1, "dp_shard": 16}
LATENT = LatentAttention(
    heads=8, kv_lora_rank=32, qk_nope_head_dim=16, qk_rope_head_dim=8, v_head_dim=16, q_lora_rank=48
)
EXPERTS = ExpertsFFN(ffn_size=64, experts=8, topk=2, shared_ffn_size=128, router_bias=True)
VARIANTS: dict[str, dict[str, Any]] = {
    "as it is": {},
    "full recompute": {"plan": {"recompute": 2}},
    "uneven stages": {"plan": {"pp": 5, "vpp": 1}},
    "sharded weights": {"plan": {**ONE_STAGE, "dp_shard": 8, "dp_replicate": 2, "sharding": 3}},
    "context": {"plan": {**ONE_STAGE, "dp_shard": 8, "cp": 2}, "run": {"precision": "fp8"}},
    "latent": {"plan": ONE_STAGE, "block": {"mixer": LATENT}},
    "experts": {"plan": {**ONE_STAGE, "ep": 8}, "block": {"channel": EXPERTS}},
    "classic": {
        "plan": {**ONE_STAGE, "sharding": 0},
        "shape": {"learned_positions": 512, "tied_embeddings": True},
        "block": {
            "norm": Norm(kind="layernorm", bias=True),
            "mixer": SelfAttention(
                heads=8, kv_heads=8, head_dim=16, qkv_bias=True, out_bias=True, rotary_fraction=0.0, window=64
            ),
            "channel": DenseFFN(ffn_size=512, gated=False, bias=True),
        },
    },
}


def run(text: str, folder: Path, *arguments: str) -> list[str]:
    """What the script hands to torchrun, by running it with a torchrun that only prints."""
    (folder / "train.sh").write_text(text)
    (folder / "torchrun").write_text('#!/usr/bin/env bash\nprintf "%s\\n" "$@"\n')
    (folder / "torchrun").chmod(0o755)
    bash = shutil.which("bash")
    assert bash is not None
    done = subprocess.run(
        [bash, "train.sh", *arguments], cwd=folder, capture_output=True, text=True, check=False,
        env={"PATH": f"{folder}:{os.environ['PATH']}"},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines()


def options(handed: list[str]) -> dict[str, list[str]]:
    """Values by name of everything after the training program."""
    found: dict[str, list[str]] = {}
    for word in handed[handed.index("./pretrain_gpt.py") + 1 :]:
        if word.startswith("--"):
            found[word[2:]] = []
        else:
            found[list(found)[-1]].append(word)
    return found


@pytest.mark.parametrize("name", VARIANTS)
def test_every_argument_is_one_of_the_parser(
    name: str, tmp_path: Path, changed: Callable[..., Design]
) -> None:
    found = options(run(megatron(changed(**VARIANTS[name])).text, tmp_path))
    assert set(found) <= NAMES
    assert found["num-layers"] == ["8"]


def test_the_numbers_are_those_of_plan_and_recipe(design: Design, tmp_path: Path) -> None:
    handed = run(megatron(design).text, tmp_path)
    found = options(handed)
    assert handed[: handed.index("--node-rank")] == ["--nproc-per-node", "8", "--nnodes", "2"]
    expected = {
        "tensor-model-parallel-size": "2", "pipeline-model-parallel-size": "2", "context-parallel-size": "1",
        "num-layers-per-virtual-pipeline-stage": "2", "micro-batch-size": "2", "global-batch-size": "64",
        "seq-length": "256", "recompute-granularity": "selective", "recompute-modules": "layernorm",
        "num-query-groups": "4", "kv-channels": "16", "ffn-hidden-size": "384", "padded-vocab-size": "512",
    }  # fmt: skip
    assert {name: found[name] for name in expected} == {name: [value] for name, value in expected.items()}
    assert {"sequence-parallel", "use-distributed-optimizer", "swiglu", "bf16"} <= set(found)
    assert design.recipe is not None
    assert float(*found["lr"]) == design.recipe.learning_rate.value
    assert int(*found["train-iters"]) == design.recipe.steps.value


def test_variants_say_what_they_are(changed: Callable[..., Design], tmp_path: Path) -> None:
    found = {name: options(run(megatron(changed(**v)).text, tmp_path)) for name, v in VARIANTS.items()}
    assert found["full recompute"]["recompute-method"] == ["uniform"]
    assert found["uneven stages"]["pipeline-model-parallel-layout"] == ["Et|(tt|)*3tL"]
    assert found["sharded weights"]["data-parallel-sharding-strategy"] == ["optim_grads_params"]
    assert found["sharded weights"]["num-distributed-optimizer-instances"] == ["2"]
    assert found["context"]["fp8-format"] == ["hybrid"]
    assert found["latent"]["kv-lora-rank"] == ["32"]
    assert found["experts"]["expert-tensor-parallel-size"] == ["1"]
    assert found["experts"]["moe-shared-expert-intermediate-size"] == ["128"]
    assert found["classic"]["window-size"] == ["(63,0)"]
    assert not {"disable-bias-linear", "swiglu", "use-distributed-optimizer"} & set(found["classic"])
    assert "untie-embeddings-and-output-weights" not in found["classic"]


def test_dense_layers_come_before_experts(changed: Callable[..., Design], tmp_path: Path) -> None:
    dense = changed().shape.blocks[0]
    blocks = (replace(dense, count=2), replace(dense, count=6, channel=EXPERTS))
    found = options(run(megatron(changed(plan=ONE_STAGE, shape={"blocks": blocks})).text, tmp_path))
    assert found["moe-layer-freq"] == ["([0]*2+[1]*6)"]


def test_own_data_replaces_the_mock(design: Design, tmp_path: Path) -> None:
    text = megatron(design).text
    assert "mock-data" in options(run(text, tmp_path))
    own = options(run(text, tmp_path, "--data-path", "text_document"))
    assert own["data-path"] == ["text_document"]
    assert "mock-data" not in own


def test_one_queue_is_asked_for_where_megatron_insists(changed: Callable[..., Design]) -> None:
    assert "export CUDA_DEVICE_MAX_CONNECTIONS=1" in megatron(changed()).text
    assert "unset CUDA_DEVICE_MAX_CONNECTIONS" in megatron(changed(**VARIANTS["sharded weights"])).text


def test_text_of_a_document_stays_text(changed: Callable[..., Design], tmp_path: Path) -> None:
    text = megatron(changed(shape={"name": "x\ntouch pwned #$(touch pwned)"})).text
    run(text, tmp_path)
    assert not (tmp_path / "pwned").exists()


@pytest.mark.parametrize(
    ("parts", "what"),
    [
        ({"run": {"precision": "nvfp4"}}, "precision nvfp4"),
        ({"shape": {"vocab_size": 511}}, "a vocabulary of 511 that plan.tp (=2) does not divide"),
        ({"run": {"global_batch_sequences": 8}}, "an interleaved pipeline of 2 stages with 1 micro-batches"),
        ({"block": {"norm_placement": "sandwich"}}, "norms placed 'sandwich'"),
        ({"block": {"norm": Norm(kind="layernorm")}}, "a layernorm without bias"),
        ({"block": {"channel": NoFFN()}}, "layers without a feed-forward layer"),
        ({"block": {"channel": DenseFFN(ffn_size=64, bias=True)}}, "biases in some products only"),
        (
            {"block": {"mixer": DeltaNet(key_heads=4, value_heads=8, key_dim=16, value_dim=16)}},
            "a mixer of DeltaNet",
        ),
        (
            {"block": {"mixer": SelfAttention(heads=8, kv_heads=8, head_dim=16, rotary_fraction=0.0)}},
            "positions that are neither rotary nor learned",
        ),
        (
            {"block": {"mixer": SelfAttention(heads=8, kv_heads=8, head_dim=16, causal=False)}},
            "attention without a causal mask",
        ),
    ],
)
def test_what_megatron_lacks_is_refused(
    parts: dict[str, Any], what: str, changed: Callable[..., Design]
) -> None:
    with pytest.raises(NotCoveredError) as caught:
        megatron(changed(**parts))
    assert what in caught.value.what
    assert caught.value.fix
