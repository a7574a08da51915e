"""serve-plan: the choice, its exports, traces, and what a wrong input says."""

from __future__ import annotations

import json
import shlex
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from shapewright.architecture.catalog import resolve_model
from shapewright.cli.main import app
from shapewright.cost.price import cost_model
from shapewright.errors import DocumentError, InfeasibleError
from shapewright.export.serving import ENGINES, ServedModel, checked, export_serving, kubernetes
from shapewright.hardware.catalog import parse_cluster
from shapewright.plan.deployment import ServingGoal
from shapewright.plan.engine import find_engine
from shapewright.plan.serving_formats import serving_formats
from shapewright.plan.serving_search import plan_serving
from shapewright.plan.serving_step import Layout
from shapewright.plan.serving_table import step_table
from shapewright.plan.serving_trace import read_trace


def _plan(model: str, on: str, precision: str = "fp8", drafted: int = 0, **goal: float):
    cluster, shape = parse_cluster(on), resolve_model(model)
    formats = serving_formats(precision, shape, cluster.accelerator)
    wanted = ServingGoal(**{"isl": 4000.0, "osl": 1000.0, **goal})
    return plan_serving(shape, cluster=cluster, model=cost_model(cluster.accelerator), engine=find_engine("vllm"),
                        formats=formats, goal=wanted, drafted=drafted), formats  # fmt: skip


def test_the_front_trades_users_for_devices_and_picks_meet_the_goals():
    plan, _ = _plan("llama-3.1-70b", "8xh200_sxm", ttft=2.0, tpot=0.02)
    users, devices = ([getattr(d, n) for d in plan.front] for n in ("per_user", "per_device"))
    assert users == sorted(users, reverse=True)
    assert devices == sorted(devices)
    picks = dict(plan.picks)
    for name in ("cheapest within the goals", "fastest for a user"):
        assert picks[name].ttft <= 2.0
        assert picks[name].tpot <= 0.02
    assert picks["most throughput"].per_device >= picks["cheapest within the goals"].per_device
    assert plan.light_tpot < plan.floor_tpot <= picks["fastest for a user"].tpot * 1.0001


@pytest.mark.parametrize(
    ("model", "on", "goal", "words"),
    [
        ("deepseek-v3", "4xh100_sxm", {}, "does not fit"),
        ("llama-3.1-70b", "8xh200_sxm", {"tpot": 0.001}, "below the floor"),
        ("llama-3.1-70b", "8xh200_sxm", {"ttft": 0.001}, "below the floor"),
        ("llama-3.1-70b", "8xh200_sxm", {"rate": 500.0}, "keeps up with"),
    ],
)
def test_what_cannot_be_is_said(model: str, on: str, goal: dict[str, float], words: str):
    with pytest.raises(InfeasibleError, match=words) as caught:
        _plan(model, on, **goal)
    assert caught.value.reasons


def test_goals_that_exclude_each_other_name_the_nearest():
    plan, _ = _plan("llama-3.1-70b", "8xh200_sxm")
    with pytest.raises(InfeasibleError, match="nearest"):
        _plan("llama-3.1-70b", "8xh200_sxm", tpot=plan.floor_tpot * 1.01, rate=4.0)


def test_tables_read_what_was_priced():
    cluster, shape = parse_cluster("8xh200_sxm"), resolve_model("llama-3.1-8b")
    formats = serving_formats("fp8", shape, cluster.accelerator)
    table = step_table(shape, Layout(tp=np.array([1.0, 4.0])), engine=find_engine("vllm"), formats=formats,
                       model=cost_model(cluster.accelerator), cluster=cluster, longest=8192)  # fmt: skip
    assert table.step(1, table.batches[3], table.contexts[2]) == pytest.approx(table.steps[1, 3, 2])
    between = float(table.step(0, 48.0, 3000.0))
    assert table.step(0, 32.0, 2048.0) < between < table.step(0, 64.0, 4096.0)
    whole, half = (float(table.prompt(0, np.asarray(4096.0), c)) for c in (0.0, 0.5))
    assert 0.4 * whole < half < whole
    closed = table.closed(np.array([0, 1]), concurrency=np.array([4, 4]), isl=1000, osl=100)
    assert closed.tpot[1] < closed.tpot[0]


def test_exports_use_known_arguments_only():
    plan, formats = _plan("deepseek-v3", "16xh200_sxm")
    for _, deployment in plan.picks:
        served = ServedModel(checkpoint="deepseek-ai/DeepSeek-V3", formats=formats, deployment=deployment,
                             goal=plan.goal, memory_share=0.9, memory=141e9, chunk=8192, drafted=1)  # fmt: skip
        for engine in ENGINES:
            for role in ("both", "prefill", "decode"):
                text = export_serving(served, engine, role).text
                command = text[text.index("exec ") :].replace("\\\n", " ")
                flags = {word for word in shlex.split(command) if word.startswith("--")}
                assert flags <= checked(engine)[1], (engine, flags - checked(engine)[1])
        manifest = kubernetes(served, "sglang").text
        assert manifest.count('kind: "LeaderWorkerSet"') == (2 if deployment.prefill_replicas else 1)


GROUP = {
    "type": "object", "required": ["workerTemplate"], "additionalProperties": False,
    "properties": {
        "size": {"type": "integer"}, "leaderTemplate": {"type": "object"}, "workerTemplate": {"type": "object"},
        "restartPolicy": {"enum": ["Default", "RecreateGroupOnPodRestart", "None"]},
        "subGroupPolicy": {"type": "object"},
        "volumeClaimTemplates": {"type": "array"}, "persistentVolumeClaimRetentionPolicy": {"type": "object"},
    },
}  # fmt: skip
MANIFEST = {
    "type": "object", "required": ["apiVersion", "kind", "metadata", "spec"], "additionalProperties": False,
    "properties": {
        "apiVersion": {"const": "leaderworkerset.x-k8s.io/v1"}, "kind": {"const": "LeaderWorkerSet"},
        "metadata": {"type": "object", "required": ["name"]},
        "spec": {
            "type": "object", "required": ["leaderWorkerTemplate"], "additionalProperties": False,
            "properties": {
                "replicas": {"type": "integer"}, "leaderWorkerTemplate": GROUP, "rolloutStrategy": {"type": "object"},
                "startupPolicy": {"enum": ["LeaderCreated", "LeaderReady"]}, "networkConfig": {"type": "object"},
            },
        },
    },
}  # fmt: skip
"""Fields of the custom resource at v0.8 (kubernetes-sigs/lws, config/crd), without those of a pod."""


@pytest.mark.parametrize("engine", ENGINES)
def test_manifests_keep_to_the_custom_resource(engine: str):
    yaml = pytest.importorskip("yaml")
    jsonschema = pytest.importorskip("jsonschema")
    plan, formats = _plan("deepseek-v3", "16xh200_sxm")
    deployment = plan.picks[0][1]
    served = ServedModel(checkpoint="deepseek-ai/DeepSeek-V3", formats=formats, deployment=deployment, goal=plan.goal,
                         memory_share=0.9, memory=141e9, chunk=8192, node=4)  # fmt: skip
    for document in yaml.safe_load_all(kubernetes(served, engine).text):
        jsonschema.validate(document, MANIFEST)
        group = document["spec"]["leaderWorkerTemplate"]
        (container,) = group["workerTemplate"]["spec"]["containers"]
        assert group["size"] == -(-int(deployment.layout.num_devices) // 4)
        assert container["resources"]["limits"]["nvidia.com/gpu"] == "4"
        assert container["args"][0].startswith("#!/bin/sh")
        if engine == "sglang":
            assert '--node-rank "${LWS_WORKER_INDEX:-0}"' in container["args"][0]
        if engine == "trtllm":
            options = container["args"][0].split("'END'\n")[1].split("END\n")[0]
            share = yaml.safe_load(options)["kv_cache_config"]["free_gpu_memory_fraction"]
            assert 0.05 <= share < 0.9, "of what the weights leave"


def test_arrivals_are_served_together_and_apart():
    plan, _ = _plan("llama-3.1-70b", "8xh200_sxm", rate=3.0)
    assert plan.largest_rate is not None
    assert plan.largest_rate > 3.0
    assert any(d.prefill_replicas for d in plan.front), "some replicas may prefill for the others"
    bursty, _ = _plan("llama-3.1-70b", "8xh200_sxm", rate=3.0, gaps=4.0)
    for calm, wild in zip(plan.picks, bursty.picks, strict=True):
        assert wild[1].ttft > calm[1].ttft, "bursts wait longer"


def test_no_more_replicas_than_the_arrivals_need():
    plan, _ = _plan("llama-3.1-70b", "8xh200_sxm", rate=1.0)
    picks = dict(plan.picks)
    cheap, fast = picks["cheapest within the goals"], picks["fastest for a user"]
    used = [int(d.layout.num_devices) * d.replicas for d in (cheap, fast)]
    assert used[0] < 8, "one request a second does not fill eight devices"
    assert cheap.per_device > fast.per_device
    assert fast.tpot < cheap.tpot
    full, _ = _plan("llama-3.1-70b", "8xh200_sxm", rate=0.9 * plan.largest_rate)
    assert min(int(d.layout.num_devices) * d.replicas for d in full.front) == 8


def test_nothing_is_faster_than_the_floor():
    for drafted in (0, 3):
        plan, _ = _plan("deepseek-v3", "16xh200_sxm", drafted=drafted)
        assert plan.floor_tpot <= min(d.tpot for d in plan.front) * (1 + 1e-9)
        assert plan.floor_ttft <= min(d.ttft for d in plan.front) * (1 + 1e-9)


def test_traces_are_read_or_refused(tmp_path: Path):
    good = tmp_path / "good.csv"
    good.write_text("arrival_s,isl,osl\n0,100,10\n1,300,30\n2,200,20\n")
    trace = read_trace(good)
    assert (trace.rate, trace.mean_isl, trace.mean_osl, trace.gaps) == (1.0, 200.0, 20.0, 0.0)
    bad = tmp_path / "bad.csv"
    bad.write_text("arrival_s,isl,osl\n0,100,10\nx,300,30\n2,0,20\n3,inf,20\n4,2.5,9\n5,9\n")
    with pytest.raises(DocumentError, match="5 bad lines of 6") as caught:
        read_trace(bad)
    assert "line 3" in str(caught.value)
    assert "line 4" in str(caught.value)


def test_the_command_answers_in_json_and_writes_files(tmp_path: Path):
    folder = tmp_path / "out"
    words = [
        "serve-plan",
        "llama-3.1-8b",
        "--on",
        "2xh100_sxm",
        "--isl",
        "1000",
        "--osl",
        "100",
        "--ttft",
        "2s",
        "--json",
    ]
    result = CliRunner().invoke(app, [*words, "--export", str(folder)])
    assert result.exit_code == 0, result.output
    document = json.loads(result.stdout)
    assert document["picks"][0]["meets_goals"]
    assert document["picks"][0]["dollars_per_million_tokens"] > 0
    assert (folder / "serving.yaml").exists()
    again = CliRunner().invoke(app, [*words, "--export", str(folder)])
    assert again.exit_code != 0, "nothing is overwritten without being asked"
