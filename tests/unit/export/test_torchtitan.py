"""The torchtitan recipe: the names of 0.3.0, the numbers of the plan, and the library itself where it is installed."""

from __future__ import annotations

import ast
import json
import subprocess
import sys
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest

from shapewright.architecture.graph import num_params
from shapewright.architecture.shape import ExpertsFFN, LatentAttention, Norm, SelfAttention
from shapewright.designs.document import Design
from shapewright.errors import NotCoveredError
from shapewright.export.torchtitan import torchtitan

ONE_STAGE = {"tp": 1, "pp": 1, "vpp": 1, "dp_shard": 16}
MOE = {
    "mixer": SelfAttention(heads=8, kv_heads=4, head_dim=16, qk_norm="head"),
    "channel": ExpertsFFN(ffn_size=64, experts=8, topk=2),
}

# Fields in torchtitan 0.3.0 (PyPI): torchtitan/config/configs.py, torchtitan/trainer.py,
# torchtitan/components/optimizer/lr_scheduler.py.
FIELDS = {
    "ParallelismConfig": {
        "data_parallel_replicate_degree", "data_parallel_shard_degree", "fsdp_reshard_after_forward",
        "tensor_parallel_degree", "pipeline_parallel_degree", "pipeline_parallel_first_stage_less_layers",
        "pipeline_parallel_last_stage_less_layers", "pipeline_parallel_layers_per_stage",
        "pipeline_parallel_schedule", "pipeline_parallel_microbatch_size", "context_parallel_degree",
        "expert_parallel_degree", "module_fqns_per_model_part",
    },
    "TrainingConfig": {
        "local_batch_size", "global_batch_size", "seq_len", "max_norm", "steps", "disable_cuda_graphs",
        "mixed_precision_param",
    },
    "LRSchedulersContainer.Config": {"warmup_steps", "decay_ratio", "decay_type", "min_lr_factor"},
    "Trainer.Config": {
        "model_spec", "hf_assets_path", "dataloader", "optimizer", "lr_scheduler", "training", "parallelism",
        "activation_checkpoint", "compile", "loss",
    },
}  # fmt: skip


def calls(text: str) -> dict[str, dict[str, Any]]:
    """Keyword arguments of the calls in a recipe, by the name of what is called; what is no literal as source."""
    found = {}
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.Call):
            found[ast.unparse(node.func)] = {str(k.arg): _value(k.value) for k in node.keywords}
    return found


def _value(node: ast.expr) -> Any:
    try:
        return ast.literal_eval(node)
    except ValueError:
        return ast.unparse(node)


def test_only_fields_of_the_library_are_written(design: Design) -> None:
    found = calls(torchtitan(design).text)
    for name, fields in FIELDS.items():
        assert set(found[name]) <= fields, name


def test_the_numbers_are_those_of_plan_and_recipe(design: Design) -> None:
    found = calls(torchtitan(design).text)
    p, t = found["ParallelismConfig"], found["TrainingConfig"]
    degrees = ["data_parallel_replicate", "data_parallel_shard", "tensor_parallel", "context_parallel",
               "pipeline_parallel"]  # fmt: skip
    assert [p[f"{name}_degree"] for name in degrees] == [1, 4, 2, 1, 2]
    assert p["pipeline_parallel_schedule"] == "Interleaved1F1B"
    assert p["pipeline_parallel_layers_per_stage"] * 2 * 2 == design.shape.num_layers
    # 64 sequences over 4 copies; the pipeline cuts them into micro-batches of 2.
    assert (t["local_batch_size"], t["global_batch_size"], p["pipeline_parallel_microbatch_size"]) == (
        16,
        64,
        2,
    )
    assert t["disable_cuda_graphs"] is True
    assert design.recipe is not None
    assert t["steps"] == design.recipe.steps.value == round(1e8 / (64 * 256))
    schedule = found["LRSchedulersContainer.Config"]
    assert schedule["min_lr_factor"] * design.recipe.learning_rate.value == pytest.approx(1e-5)
    assert found["Trainer.Config"]["activation_checkpoint"] == "SelectiveAC.Config()"


def test_uneven_stages_are_listed_module_by_module(changed: Callable[..., Design]) -> None:
    text = torchtitan(changed(plan={"pp": 3, "vpp": 1})).text
    p = calls(text)["ParallelismConfig"]
    assert p["module_fqns_per_model_part"] == "stages(3, 3, 2)"
    assert set(p) <= FIELDS["ParallelismConfig"]
    assert "pipeline_parallel_layers_per_stage" not in p
    scope: dict[str, Any] = {}
    body = next(
        node for node in ast.parse(text).body if isinstance(node, ast.FunctionDef) and node.name == "stages"
    )
    exec(compile(ast.Module([body], []), "recipe", "exec"), scope)
    parts = scope["stages"](3, 3, 2)
    assert parts[0] == ["tok_embeddings", "layers.0", "layers.1", "layers.2"]
    assert parts[-1] == ["layers.6", "layers.7", "norm", "lm_head"]
    assert sum(len(part) for part in parts) == 8 + 3


def test_without_pipeline_the_local_batch_is_one_micro_batch(changed: Callable[..., Design]) -> None:
    found = calls(torchtitan(changed(plan={**ONE_STAGE, "sharding": 3, "recompute": 0})).text)
    assert found["TrainingConfig"]["local_batch_size"] == 2
    assert found["ParallelismConfig"]["fsdp_reshard_after_forward"] == "always"
    assert "pipeline_parallel_schedule" not in found["ParallelismConfig"]
    assert found["Trainer.Config"]["activation_checkpoint"] is None
    replicated = calls(torchtitan(changed(plan={**ONE_STAGE, "sharding": 0})).text)["ParallelismConfig"]
    assert (replicated["data_parallel_replicate_degree"], replicated["data_parallel_shard_degree"]) == (16, 1)


def test_another_sharding_than_the_plan_is_said(changed: Callable[..., Design]) -> None:
    remarks = " ".join(torchtitan(changed(plan={**ONE_STAGE, "sharding": 1})).remarks)
    assert "sharding of optimizer becomes FSDP2" in remarks
    assert "once per micro-batch" in remarks
    assert "FSDP2" not in " ".join(torchtitan(changed(plan={**ONE_STAGE, "sharding": 3})).remarks)


def test_narrow_products_are_asked_for(changed: Callable[..., Design]) -> None:
    text = torchtitan(changed(run={"precision": "fp8"})).text
    assert calls(text)["Float8LinearConverter.Config"] == {"filter_fqns": ["lm_head"]}
    assert "Float8" not in torchtitan(changed()).text


@pytest.mark.parametrize(
    ("parts", "what"),
    [
        ({"plan": {"etp": 2}}, "plan.etp (=2)"),
        ({"plan": {"ep": 3}}, "plan.ep (=3)"),
        ({"plan": {"tp": 8}}, "does not divide kv_heads (=4)"),
        ({"shape": {"tied_embeddings": True}}, "tied embeddings over pipeline stages"),
        ({"shape": {"learned_positions": 256}}, "learned positions"),
        ({"run": {"precision": "fp16"}}, "precision fp16"),
        ({"block": {"norm": Norm(kind="layernorm", bias=True)}}, "layer norm"),
        ({"block": {"parallel": True}}, "in parallel"),
        ({"block": {"mixer": SelfAttention(heads=8, kv_heads=4, head_dim=16, window=64)}}, "sliding window"),
        (
            {"block": {"channel": ExpertsFFN(ffn_size=64, experts=8, topk=2, shared_ffn_size=64)}},
            "shared experts",
        ),
        (
            {
                "block": {
                    "mixer": LatentAttention(
                        heads=8, kv_lora_rank=32, qk_nope_head_dim=16, qk_rope_head_dim=8, v_head_dim=16
                    )
                }
            },
            "a mixer of LatentAttention",
        ),
    ],
)
def test_what_the_library_lacks_is_refused(
    parts: dict[str, Any], what: str, changed: Callable[..., Design]
) -> None:
    with pytest.raises(NotCoveredError) as caught:
        torchtitan(changed(**parts))
    assert what in caught.value.what
    assert caught.value.fix


def test_text_of_a_document_stays_text(changed: Callable[..., Design]) -> None:
    bad = '"""\nimport os  # ${HOME} `id` \\'
    text = torchtitan(changed(shape={"name": bad})).text
    assert [type(node) for node in ast.parse(text).body[:2]] == [ast.Expr, ast.ImportFrom]
    assert not any(isinstance(n, ast.Import) and n.names[0].name == "os" for n in ast.walk(ast.parse(text)))


CHECK = """
import json, sys
import torch
from torchtitan.config.manager import ConfigManager
found = []
for name in sys.argv[1:]:
    config = ConfigManager().parse_args(["--module", name, "--config", "recipe"])
    config.model_spec.model.update_from_config(config=config)
    with torch.device("meta"):
        model = config.model_spec.model.build()
    model.verify_module_protocol()
    found.append([sum(p.numel() for p in model.parameters()), config.parallelism.data_parallel_shard_degree])
print(json.dumps(found))
"""


@pytest.mark.torch
@pytest.mark.skipif(
    find_spec("torchtitan") is None or find_spec("triton") is None,
    reason="torchtitan 0.3.0 with its dependencies and triton is not installed (a few hundred MB)",
)
def test_the_library_accepts_the_recipes(tmp_path: Path, changed: Callable[..., Design]) -> None:
    designs = {
        "dense": changed(),
        "tied": changed(plan=ONE_STAGE, shape={"tied_embeddings": True}),
        "experts": changed(plan={**ONE_STAGE, "ep": 4, "sharding": 3, "recompute": 2}, block=MOE),
    }
    for name, design in designs.items():
        (tmp_path / f"recipe_{name}.py").write_text(torchtitan(design).text)
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", CHECK, *(f"recipe_{name}" for name in designs)],
        cwd=tmp_path, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-4000:]
    expected = [[num_params(d.shape), d.plan.dp_shard] for d in designs.values()]
    assert json.loads(done.stdout.splitlines()[-1]) == expected
