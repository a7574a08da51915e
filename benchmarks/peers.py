"""Other predictors of a training step on the published runs that took no part in our fit.

python -m benchmarks peers

asks Calculon (``CALCULON=checkout`` of calculon-ai/calculon@caa4b11) and llm-analysis (``LLM_ANALYSIS=checkout`` of
cli99/llm-analysis@d841e40), both Apache-2.0, the same rows as Shapewright: dense 16-bit runs on A100 whose model, plan
and batch the source states. Beside them stands one constant: 45 % of the peak over 8 FLOP a parameter and token where
everything is recomputed, 6 elsewhere. Another tool's own check of memory is put out of the way, since the runs did fit.
Where both are there, the table goes to ``benchmarks/peers.json``, which the documentation quotes.

Decisions: each is asked with its shipped file of the 80 GB A100. Calculon has no sharded parameters, so it is not asked
about FSDP; llm-analysis takes one efficiency, .5, which its source calls usual. Fields that a row does not state are
taken as for our own prediction.
"""

from __future__ import annotations

import json
import logging
import os
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

from shapewright.architecture.graph import num_params
from shapewright.validation.published import Row, is_held_out, read_rows
from shapewright.validation.training import framework_of, predict, regimes

PEERS = Path(__file__).with_name("peers.json")
SLICES = ("dense-16-bit", "small-shapes", "small-shapes-multi-node", "fsdp")
EFFICIENCY = 0.5
"""Of llm-analysis: share of the peak that its user states."""
CONSTANT = 0.45
PEAK = 312e12
"""Dense 16-bit peak of an A100 [FLOP/s]; NVIDIA's datasheet."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Peer:
    """Another tool."""

    name: str
    step_s: Callable[[Row], float | None]
    """Its step of a row [s]; None where it cannot be asked."""


def run() -> Iterator[str]:
    """One line per slice: median and 90th percentile of each tool on the rows it answers, and ours on the same."""
    path = Path(os.environ.get("SHAPEWRIGHT_DATA", "../shared/data")) / "published_training.csv"
    if not path.exists():
        yield f"peers: {path} is missing: not compared"
        return
    rows = [row for row in read_rows(path)[0] if is_held_out(row) and _asked(row)]
    peers = [*_calculon(), *_llm_analysis()]
    missing = {"Calculon", "llm-analysis"} - {peer.name for peer in peers}
    peers.append(Peer(name="constant", step_s=_constant))
    points, _ = predict(rows, framework_of)
    ours = {point.row.id: point.error for point in points}
    table: dict[str, dict[str, str]] = {}
    for name in SLICES:
        members = [row for row in rows if name in regimes(row) and row.id in ours]
        said = [f"ours {_median([ours[row.id] for row in members])} of {len(members)}"]
        for peer in peers:
            steps = {
                row.id: step / row.step_time - 1 for row in members if (step := peer.step_s(row)) is not None
            }
            if not steps:
                said.append(f"{peer.name} not asked")
                continue
            scores = {
                "rows": f"{len(steps):,}", "median": _median(steps.values()),
                "p90": f"{np.quantile(np.abs([*steps.values()]), 0.9):.1%}", "ours": _median([ours[at] for at in steps]),
            }  # fmt: skip
            table[f"{name}/{peer.name}"] = scores
            said.append(
                f"{peer.name} {scores['median']} / {scores['p90']} of {scores['rows']}, ours on them {scores['ours']}"
            )
        yield f"peers: {name}, held-out rows on A100: {'; '.join(said)}"
    for peer in peers[:-1]:
        start = time.process_time()
        count = sum(peer.step_s(row) is not None for row in rows[:200])
        yield f"peers: {peer.name}: {count / (time.process_time() - start):,.0f} steps a second of one core"
    if missing:
        yield f"peers: {PEERS.name} stays as it was: no checkout of {' and '.join(sorted(missing))} was named"
        return
    PEERS.write_text(json.dumps(table, indent=1) + "\n", encoding="utf-8")


def _asked(row: Row) -> bool:
    return (
        row.hardware == "a100_sxm"
        and row.precision in {"bf16", "fp16"}
        and not row.moe
        and row.trainable == 1.0
    )


def _median(errors: Iterable[float]) -> str:
    return f"{np.median(np.abs([*errors])):.1%}"


def _constant(row: Row) -> float:
    per_token = (8 if int(row.plan.recompute) == 2 else 6) * float(num_params(row.shape))
    return per_token * row.global_batch * row.seq_len / (CONSTANT * PEAK * row.cluster.num_devices)


def _sizes(row: Row) -> dict[str, int]:
    shape, block = row.shape, row.shape.blocks[0]
    return {
        "hidden": int(shape.hidden_size), "feedforward": int(block.channel.ffn_size), "seq_size": row.seq_len,
        "attn_heads": int(block.mixer.heads), "attn_size": int(block.mixer.head_dim), "num_blocks": int(shape.num_layers),
    }  # fmt: skip


def _calculon() -> Iterator[Peer]:
    folder = _checkout("CALCULON")
    if folder is None:
        return
    from calculon import System  # type: ignore[import-not-found]
    from calculon.llm.llm import Llm  # type: ignore[import-not-found]

    known = json.loads((folder / "systems" / "a100_80g.json").read_text())

    def step_s(row: Row) -> float | None:
        plan, devices = row.plan, row.cluster.num_devices
        data, node = devices // int(plan.tp * plan.pp), min(devices, 8)
        if int(plan.sharding) > 1 or int(plan.cp) > 1 or int(plan.recompute) > 2:
            return None
        system = json.loads(json.dumps(known))
        system["mem1"]["GiB"] = 10_000
        system["networks"][0]["size"] = node
        stages, copies = (0 if size <= node else 1 for size in (int(plan.tp * plan.pp), devices))
        execution = {
            "num_procs": devices, "tensor_par": int(plan.tp), "pipeline_par": int(plan.pp), "data_par": data,
            "tensor_par_net": 0, "pipeline_par_net": stages, "data_par_net": copies, "batch_size": row.global_batch,
            "microbatch_size": int(plan.micro_batch), "datatype": "float16", "fused_activation": False,
            "attention_type": "multihead", "activation_recompute": ("none", "attn_only", "full")[int(plan.recompute)],
            "pipeline_interleaving": int(plan.vpp), "optimizer_sharding": int(plan.sharding) == 1 and data > 1,
            "tensor_par_comm_type": "ar", "tensor_par_overlap": "none", "seq_par_ag_redo": False,
            "data_par_overlap": False, "weight_offload": False, "activations_offload": False, "optimizer_offload": False,
            "training": True,
        }  # fmt: skip
        model = Llm(Llm.Application(_sizes(row)), logging.getLogger("calculon"))
        machine = System(system)
        try:
            model.compile(machine, Llm.Execution.from_json(execution))
            model.run(machine)
        except (Llm.Error, AssertionError):
            return None
        return float(model.get_total_time())

    yield Peer(name="Calculon", step_s=step_s)


def _llm_analysis() -> Iterator[Peer]:
    if _checkout("LLM_ANALYSIS") is None:
        return
    logging.disable(logging.WARNING)
    from llm_analysis import analysis  # type: ignore[import-not-found]
    from llm_analysis.config import ModelConfig, ParallelismConfig, get_gpu_config_by_name  # type: ignore[import-not-found]

    zero = list(analysis.DSZeRO)
    recompute = (
        analysis.ActivationRecomputation.NONE,
        analysis.ActivationRecomputation.ATTN_COMPUTE,
        analysis.ActivationRecomputation.FULL,
    )

    @cache
    def device() -> Any:
        return get_gpu_config_by_name("a100-sxm-80gb")

    def step_s(row: Row) -> float | None:
        sizes, plan = _sizes(row), row.plan
        data = row.cluster.num_devices // int(plan.tp * plan.pp)
        if int(plan.cp) > 1 or int(plan.recompute) > 2:
            return None
        model = ModelConfig(
            name=row.shape.name, num_layers=sizes["num_blocks"], n_head=sizes["attn_heads"], hidden_dim=sizes["hidden"],
            vocab_size=int(row.shape.vocab_size), max_seq_len=row.seq_len, ffn_embed_dim=sizes["feedforward"],
            mlp_gated_linear_units=bool(row.shape.blocks[0].channel.gated),
        )  # fmt: skip
        split = ParallelismConfig(tp_size=int(plan.tp), pp_size=int(plan.pp), dp_size=data, sp_size=1)
        try:
            asked = analysis.LLMAnalysis(
                model, device(), parallelism_config=split, flops_efficiency=EFFICIENCY
            )
            told = asked.training(
                batch_size_per_gpu=int(plan.micro_batch), global_batch_size=row.global_batch, seq_len=row.seq_len,
                activation_recomputation=recompute[int(plan.recompute)], ds_zero=zero[int(plan.sharding)],
                flash_attn=False,
            )  # fmt: skip
        except (AssertionError, ValueError, ZeroDivisionError):
            return None
        return float(told["latency_per_iter"])

    yield Peer(name="llm-analysis", step_s=step_s)


def _checkout(variable: str) -> Path | None:
    folder = os.environ.get(variable)
    if folder is None:
        return None
    sys.path.insert(0, folder)
    return Path(folder)
