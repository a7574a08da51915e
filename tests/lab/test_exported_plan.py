"""Exported plans really run: two processes on this machine, with PyTorch's own parallelism, against one process.

The losses of three steps must be those of a single process, and the collectives must carry the bytes that the plan
predicts. The run is small: loopback only, one thread per process.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from typing import Any

import pytest

import shapewright as sw
from shapewright.architecture.shape import Block, DenseFFN, SelfAttention, Shape
from shapewright.designs.document import Design
from shapewright.export.formats import export
from shapewright.export.traffic import Message, messages
from shapewright.search.joint import Options

pytestmark = pytest.mark.torch

RUN = Path(__file__).with_name("run_exported_plan.py")
SHAPE = Shape(
    name="tiny",
    vocab_size=128,
    hidden_size=64,
    blocks=(
        Block(mixer=SelfAttention(heads=4, kv_heads=2, head_dim=16), channel=DenseFFN(ffn_size=160), count=2),
    ),
)
BATCH, LENGTH = 4, 32
PLANS: dict[str, dict[str, int]] = {
    "ddp": {"dp_replicate": 2, "dp_shard": 1, "sharding": 0, "micro_batch": 2},
    "fsdp": {"dp_replicate": 1, "dp_shard": 2, "sharding": 3, "micro_batch": 2},
    "tp": {"tp": 2, "dp_replicate": 1, "dp_shard": 1, "sharding": 0, "micro_batch": 4},
}


def design_of(name: str) -> Design:
    options = Options(plan=PLANS[name], precision="fp32", seq_len=LENGTH, global_batch=BATCH)
    return sw.estimate(SHAPE, "2xh100_sxm", tokens=1e6, options=options)


@pytest.fixture(scope="module")
def designs() -> dict[str, Design]:
    return {name: design_of(name) for name in PLANS}


@pytest.fixture(scope="module")
def answers(designs: dict[str, Design], tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    folder = tmp_path_factory.mktemp("plans")
    (folder / "config.json").write_text(export(designs["ddp"], "huggingface").text)
    for name, design in designs.items():
        design.save(folder / f"{name}.json")
    done = subprocess.run(
        [sys.executable, str(RUN), "config.json", "answer.json", *(f"{name}.json" for name in PLANS)],
        cwd=folder, env={**os.environ, "OMP_NUM_THREADS": "1"}, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-4000:]
    found = dict(zip(PLANS, json.loads((folder / "answer.json").read_text()), strict=True))
    return {**found, "alone": _alone(designs["ddp"], folder / "config.json")}


def _alone(design: Design, config: Path) -> list[float]:
    """The same steps in this process, with nothing spread."""
    spec = spec_from_file_location("run_exported_plan", RUN)
    assert spec is not None
    assert spec.loader is not None
    run = module_from_spec(spec)
    spec.loader.exec_module(run)
    losses, sizes = run.train(run.build(config), run.tokens_of(design))
    assert sizes == {}
    return [float(loss) for loss in losses]


def _sizes(found: tuple[Message, ...]) -> dict[str, list[float]]:
    """Bytes of every single message by collective."""
    sizes: dict[str, list[float]] = {}
    for message in found:
        sizes.setdefault(message.collective, []).extend([message.num_bytes] * message.count)
    return {kind: sorted(values) for kind, values in sizes.items()}


@pytest.mark.parametrize("name", PLANS)
def test_losses_are_those_of_one_process(name: str, answers: dict[str, Any]) -> None:
    assert answers[name]["losses"] == pytest.approx(answers["alone"], abs=1e-4)
    assert answers["alone"][0] - answers["alone"][-1] > 0.01  # it learned, so gradients were compared too


def test_ddp_reduces_the_bytes_of_the_gradients(designs: dict[str, Design], answers: dict[str, Any]) -> None:
    sizes = answers["ddp"]["sizes"]
    assert set(sizes) == {"all_reduce"}
    predicted = sum(message.count * message.num_bytes for message in messages(designs["ddp"]))
    held = next(part.value for part in designs["ddp"].memory_parts if part.name == "gradients")
    # DDP cuts them into buckets of its own.
    assert sum(sizes["all_reduce"]) == predicted == held


def test_fsdp_gathers_weights_twice_and_scatters_gradients_once(
    designs: dict[str, Design], answers: dict[str, Any]
) -> None:
    sizes = {kind: sorted(values) for kind, values in answers["fsdp"]["sizes"].items()}
    assert sizes == _sizes(messages(designs["fsdp"]))


def test_tensor_parallelism_gathers_and_scatters_the_activations(
    designs: dict[str, Design], answers: dict[str, Any]
) -> None:
    predicted = _sizes(messages(designs["tp"]))
    activations, logits = 4 * BATCH * LENGTH * SHAPE.hidden_size, 4 * BATCH * LENGTH * SHAPE.vocab_size
    # The ends, which the plan's messages leave out: the embedding's gradient, the head's input and the whole logits.
    predicted["all_gather"] = sorted([*predicted["all_gather"], activations, activations, logits])
    predicted["reduce_scatter"].append(activations)
    sizes = {kind: sorted(values) for kind, values in answers["tp"]["sizes"].items()}
    assert sizes == predicted
