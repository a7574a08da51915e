"""A deployment as the command lines of serving engines and as a Kubernetes manifest.

Decisions: each file serves one replica as planned, or both kinds where prefill and decoding are apart; copies are the
manifest's ``replicas``. Every argument was looked up in the engine's own argument definitions; file, line and version
stand in ``data/engines/arguments.csv``, and the tests hold the files against that list. Formats of weights are the
checkpoint's own, so a file names a checkpoint of the planned precision as its remark says, and never converts one.
"""

from __future__ import annotations

import csv
import json
import shlex
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from typing import Any

from shapewright.errors import UnknownNameError
from shapewright.export.exported import Exported
from shapewright.plan.deployment import Deployment, ServingGoal
from shapewright.plan.serving_formats import ServingFormats

LABELS = {"vllm": "vLLM", "sglang": "SGLang", "trtllm": "TensorRT-LLM"}


@cache
def checked(engine: str) -> tuple[str, frozenset[str]]:
    """Engine and version whose definitions the arguments were looked up in, and those that these files use."""
    path = files("shapewright") / "data" / "engines" / "arguments.csv"
    lines = [line for line in csv.DictReader(path.read_text().splitlines()) if line["engine"] == engine]
    return f"{LABELS[engine]} {lines[0]['version']}", frozenset(line["argument"] for line in lines)


IMAGES = {
    "vllm": "vllm/vllm-openai:v0.11.0", "sglang": "lmsysorg/sglang:v0.5.9",
    "trtllm": "nvcr.io/nvidia/tensorrt-llm/release:1.2.0",
}  # fmt: skip
PORTS = {"vllm": 8000, "sglang": 30000, "trtllm": 8000}


@dataclass(frozen=True, kw_only=True, slots=True)
class ServedModel:
    """What is exported."""

    checkpoint: str
    """Name or path of the checkpoint to serve."""
    formats: ServingFormats
    deployment: Deployment
    goal: ServingGoal
    memory_share: float
    memory: float
    """Of one device [bytes]."""
    chunk: int
    drafted: int = 0
    node: int = 8
    """Devices of one machine; racks that are one scale-up domain hold four in each of theirs."""

    @property
    def context(self) -> int:
        """Longest sequence, rounded up to a page of 256 tokens."""
        return -int(-(self.goal.isl + self.goal.osl) // 256) * 256

    @property
    def sequences(self) -> int:
        """Requests that one attention group runs at most: those planned, with room for arrivals."""
        per_group = self.deployment.concurrency / float(self.deployment.layout.adp)
        return max(int(-(-per_group * 1.25 // 1)), 4)

    @property
    def free_share(self) -> float:
        """The share of what the weights leave that the cache may take [1]: TensorRT-LLM counts so."""
        left = self.memory - self.deployment.weights
        return max((self.memory_share * self.memory - self.deployment.weights) / left, 0.05)

    @property
    def nodes(self) -> int:
        """Nodes that one replica spans."""
        return max(-(-int(self.deployment.layout.num_devices) // self.node), 1)


def vllm(served: ServedModel, role: str = "both") -> Exported:
    """``vllm serve`` with its arguments."""
    layout = served.deployment.layout
    words = ["vllm", "serve", served.checkpoint, "--tensor-parallel-size", str(layout.tp)]
    words += _if(layout.pp > 1, "--pipeline-parallel-size", str(layout.pp))
    words += _if(layout.adp > 1, "--data-parallel-size", str(layout.adp))
    words += ["--enable-expert-parallel"] if layout.ep > 1 else []
    words += ["--max-model-len", str(served.context), "--max-num-seqs", str(served.sequences)]
    words += ["--max-num-batched-tokens", str(served.chunk)]
    words += ["--gpu-memory-utilization", f"{served.memory_share:g}"]
    words += ["--kv-cache-dtype", "fp8" if served.formats.cache == "fp8" else "auto"]
    if role != "both":
        kind = "kv_producer" if role == "prefill" else "kv_consumer"
        words += ["--kv-transfer-config", json.dumps({"kv_connector": "NixlConnector", "kv_role": kind})]
    if served.drafted:
        draft = {"method": "mtp", "num_speculative_tokens": served.drafted}
        words += ["--speculative-config", json.dumps(draft)]
    words += ["--port", str(PORTS["vllm"])]
    remarks = [_precision_remark(served)]
    if layout.adp > 1 and layout.ep == 1:
        remarks.append(
            "vLLM spreads experts over all data-parallel groups only with --enable-expert-parallel"
        )
    return Exported(text=_script(words, "vllm"), file_name=_file("vllm", role), remarks=tuple(remarks))


def sglang(served: ServedModel, role: str = "both") -> Exported:
    """``python -m sglang.launch_server`` with its arguments: ``tp-size`` counts the devices of all attention groups."""
    layout = served.deployment.layout
    words = ["python", "-m", "sglang.launch_server", "--model-path", served.checkpoint]
    words += ["--tp-size", str(int(layout.world))]
    words += _if(layout.pp > 1, "--pp-size", str(layout.pp))
    words += _if(layout.adp > 1, "--dp-size", str(layout.adp))
    words += ["--enable-dp-attention"] if layout.adp > 1 else []
    words += _if(layout.ep > 1, "--ep-size", str(layout.ep))
    words += ["--context-length", str(served.context)]
    words += ["--max-running-requests", str(served.sequences * int(layout.adp))]
    # SGLang divides the chunk among attention groups.
    words += ["--chunked-prefill-size", str(served.chunk * int(layout.adp))]
    words += ["--mem-fraction-static", f"{served.memory_share:g}"]
    words += ["--kv-cache-dtype", "fp8_e4m3" if served.formats.cache == "fp8" else "auto"]
    words += _if(role != "both", "--disaggregation-mode", role)
    if served.nodes > 1:
        words += ["--nnodes", str(served.nodes), "--node-rank", '"${LWS_WORKER_INDEX:-0}"']
        words += ["--dist-init-addr", '"${LWS_LEADER_ADDRESS:-localhost}:20000"']
    if served.drafted:
        words += ["--speculative-algorithm", "EAGLE", "--speculative-num-steps", str(served.drafted)]
        words += ["--speculative-eagle-topk", "1", "--speculative-num-draft-tokens", str(served.drafted + 1)]
    # Both engines listen to the machine itself alone unless told otherwise.
    words += ["--host", "0.0.0.0", "--port", str(PORTS["sglang"])]
    return Exported(
        text=_script(words, "sglang"), file_name=_file("sglang", role), remarks=(_precision_remark(served),)
    )


def trtllm(served: ServedModel, role: str = "both") -> Exported:
    """``trtllm-serve`` with its arguments; attention groups are set in the options file that the script writes."""
    layout = served.deployment.layout
    options = ["cat > options.yaml <<'END'", f"enable_attention_dp: {str(layout.adp > 1).lower()}"]
    # The file's settings of the cache replace the command line's whole, so the share stands here.
    options += ["kv_cache_config:", f"  dtype: {'fp8' if served.formats.cache == 'fp8' else 'auto'}"]
    options += [f"  free_gpu_memory_fraction: {served.free_share:.3g}"]
    if served.drafted:
        options += [
            "speculative_config:",
            "  decoding_type: MTP",
            f"  num_nextn_predict_layers: {served.drafted}",
        ]
    if role != "both":
        options += ["cache_transceiver_config:", "  backend: DEFAULT"]
    words = ["trtllm-serve", served.checkpoint, "--backend", "pytorch"]
    words += ["--tensor_parallel_size", str(int(layout.world))]
    words += _if(layout.pp > 1, "--pipeline_parallel_size", str(layout.pp))
    words += _if(layout.ep > 1, "--moe_expert_parallel_size", str(layout.ep))
    words += ["--max_batch_size", str(served.sequences), "--max_num_tokens", str(served.chunk)]
    words += ["--max_seq_len", str(served.context), "--extra_llm_api_options", "options.yaml"]
    words += ["--host", "0.0.0.0", "--port", str(PORTS["trtllm"])]
    text = _script(words, "trtllm", before=(*options, "END"))
    return Exported(text=text, file_name=_file("trtllm", role), remarks=(_precision_remark(served),))


ENGINES: dict[str, Callable[[ServedModel, str], Exported]] = {
    "vllm": vllm,
    "sglang": sglang,
    "trtllm": trtllm,
}


def kubernetes(served: ServedModel, engine: str) -> Exported:
    """A LeaderWorkerSet (leaderworkerset.x-k8s.io/v1) per role: a group is one replica, its pods one node each."""
    devices, nodes = int(served.deployment.layout.num_devices), served.nodes
    apart = served.deployment.prefill_replicas
    roles = {"both": served.deployment.replicas} if not apart else {
        "prefill": apart, "decode": served.deployment.replicas - apart,
    }  # fmt: skip
    documents = []
    for role, count in roles.items():
        script = export_serving(served, engine, role).text
        name = _name(served.checkpoint) + ("" if role == "both" else f"-{role}")
        documents.append(_manifest(name, engine, script, count, nodes, min(devices, served.node)))
    remarks = [f"the LeaderWorkerSet controller must be installed; image {IMAGES[engine]}"]
    if nodes > 1 and engine != "sglang":
        remarks.append("a replica spans several nodes: start the workers by the engine's multi-node launcher")
    if apart:
        remarks.append("a router must send prompts to prefill and their cache to decode (llm-d or Dynamo)")
    return Exported(text="---\n".join(documents), file_name="serving.yaml", remarks=tuple(remarks))


def export_serving(served: ServedModel, engine: str, role: str = "both") -> Exported:
    """The files of one engine.

    Raises:
        UnknownNameError: no such engine.
    """
    if engine not in ENGINES:
        raise UnknownNameError("engine", engine, ENGINES)
    return ENGINES[engine](served, role)


def _if(condition: Any, *words: str) -> list[str]:
    return list(words) if condition else []


def _file(engine: str, role: str) -> str:
    return f"{engine}.sh" if role == "both" else f"{engine}-{role}.sh"


def _script(words: list[str], engine: str, before: tuple[str, ...] = ()) -> str:
    # One argument a line, its value beside it.
    lines: list[str] = []
    for word in words:
        if lines and not word.startswith("--"):
            # Variables stand in quotes of their own, for the shell to fill in.
            lines[-1] += " " + (word if word.startswith('"$') else shlex.quote(word))
        else:
            lines.append(shlex.quote(word))
    body = " \\\n  ".join(lines)
    head = f"#!/bin/sh\n# Arguments looked up in {checked(engine)[0]}.\nset -e\n"
    return head + "".join(f"{line}\n" for line in before) + f"exec {body}\n"


def _precision_remark(served: ServedModel) -> str:
    return (
        f"{served.checkpoint} must be a checkpoint in {served.formats.name} "
        f"(products {served.formats.products}, experts {served.formats.experts}); nothing here converts it"
    )


def _name(checkpoint: str) -> str:
    words = "".join(c if c.isalnum() else "-" for c in checkpoint.rsplit("/", 1)[-1].lower())
    return words.strip("-")[:50] or "model"


def _manifest(name: str, engine: str, script: str, replicas: int, nodes: int, devices: int) -> str:
    container = {
        "name": engine,
        "image": IMAGES[engine],
        "command": ["sh", "-c"],
        "args": [script],
        "ports": [{"containerPort": PORTS[engine]}],
        "resources": {"limits": {"nvidia.com/gpu": str(devices)}},
        "volumeMounts": [{"name": "shm", "mountPath": "/dev/shm"}],
    }
    pod = {"containers": [container], "volumes": [{"name": "shm", "emptyDir": {"medium": "Memory"}}]}
    group = {"size": nodes, "restartPolicy": "RecreateGroupOnPodRestart", "workerTemplate": {"spec": pod}}
    return _yaml({
        "apiVersion": "leaderworkerset.x-k8s.io/v1",
        "kind": "LeaderWorkerSet",
        "metadata": {"name": name},
        "spec": {"replicas": replicas, "leaderWorkerTemplate": group},
    })  # fmt: skip


def _yaml(value: Any, indent: int = 0) -> str:
    """Nested dictionaries, lists, numbers and strings as YAML; text of several lines as a block."""
    pad = " " * indent
    if isinstance(value, dict):
        return "".join(f"{pad}{key}:{_value(item, indent)}" for key, item in value.items())
    return "".join(f"{pad}-{_value(item, indent)}" for item in value)


def _value(item: Any, indent: int) -> str:
    if isinstance(item, dict | list):
        return "\n" + _yaml(item, indent + 2)
    if isinstance(item, str) and "\n" in item:
        body = "".join(f"{' ' * (indent + 2)}{line}\n" for line in item.splitlines())
        return " |\n" + body
    return f" {json.dumps(item)}\n"
