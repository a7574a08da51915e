"""Published runs as questions, and what is scored beside the step: peak memory, the order of plans, reasons."""

from __future__ import annotations

import csv
from pathlib import Path

import pytest

from shapewright.plan.parallel import RECOMPUTE
from shapewright.validation.order import orders
from shapewright.validation.published import read_rows
from shapewright.validation.reasons import reason
from shapewright.validation.training import framework_of, memory_slices, natural_keys, predict, slices

USUAL = {
    "source": "pytorch/torchtitan:benchmarks/x.md", "date": "2025-06", "hardware": "h100-sxm", "num_devices": "8",
    "model": "tiny-8b", "params_total_b": "8.03", "params_active_b": "8.03", "layers": "32", "hidden": "4096",
    "heads": "32", "kv_heads": "8", "ffn": "14336", "vocab": "128256", "experts": "", "topk": "", "seq_len": "8192",
    "global_batch_seqs": "16", "micro_batch": "2", "precision": "bf16", "tp": "1", "pp": "1", "vpp": "", "cp": "1",
    "ep": "", "dp": "8", "dp_sharding": "fsdp2-full", "sequence_parallel": "", "recompute": "selective",
    "framework": "torchtitan", "task": "pretrain", "step_time_s": "2.0", "tokens_per_s_per_device": "",
    "tflops_per_device": "", "mfu": "", "peak_mem_gb": "70.0", "derived": "", "notes": "compile",
}  # fmt: skip


@pytest.fixture
def read(tmp_path: Path):
    def one(*changes: dict[str, str]):
        path = tmp_path / "rows.csv"
        with path.open("w", newline="") as handle:
            writer = csv.DictWriter(handle, ["id", *USUAL])
            writer.writeheader()
            for index, change in enumerate(changes):
                writer.writerow({"id": f"R{index}", **USUAL, **change})
        return read_rows(path)

    return one


def test_each_source_counts_memory_in_its_own_way(read) -> None:
    rows, _ = read({}, {"source": "mlcommons/training_results_v5.0:x"}, {"source": "somebody"})
    assert [(r.meter, r.peak_memory) for r in rows] == [
        ("reserved", 70 * 2**30),
        ("allocated", 70 * 2**30),
        ("device", 70e9),
    ]
    assert RECOMPUTE[int(rows[0].plan.recompute)] == "alternate"
    assert RECOMPUTE[int(rows[2].plan.recompute)] == "selective"


def test_notes_tell_networks_and_padded_experts(read) -> None:
    rows, _ = read(
        {"num_devices": "16", "dp": "16", "global_batch_seqs": "32", "notes": "4x100Gb RoCE"},
        {
            "num_devices": "16",
            "dp": "16",
            "global_batch_seqs": "32",
            "notes": "inter-node 800 Gb/s; tokendrop",
        },
    )
    assert [r.cluster.tiers[1].bandwidth.value * 8 * 8 for r in rows] == pytest.approx([400e9, 800e9])
    assert [r.padded_experts for r in rows] == [False, True]


def test_an_uncompiled_loss_holds_more_bytes_per_logit(read) -> None:
    rows, _ = read({}, {"date": "2024-12"})
    points, failed = predict(rows, framework_of)
    assert not failed
    logits = 2 * 8192 * 128256
    assert points[1].memory - points[0].memory == pytest.approx(10 * logits / 0.96, rel=0.02)


def test_the_report_scores_memory_and_order_and_gives_reasons(read) -> None:
    rows, unasked = read({}, {"num_devices": "16", "dp": "16", "global_batch_seqs": "32", "step_time_s": "2.2"},
                         {"seq_len": ""})  # fmt: skip
    points, failed = predict(rows, framework_of)
    found = {s.name: s for s in [*slices(points, [*unasked, *failed], natural_keys), *memory_slices(points)]}
    assert found["all"].count == 3
    assert found["all"].covered == 2
    assert found["memory/all"].count == 2
    assert found["memory/pytorch/torchtitan"].median_ape < 0.5
    pairs = {o.name: o for o in orders(points)}
    assert pairs["all/others/per-device"].pairs == 1
    assert all(0 <= o.right <= 1 for o in pairs.values())
    assert all(reason(p) for p in points)
    assert sum(points[0].causes.values()) == pytest.approx(1.0)


def test_the_same_plan_measured_twice_is_no_pair(read) -> None:
    rows, _ = read({}, {"step_time_s": "3.0"})
    assert orders(predict(rows, framework_of)[0]) == []
