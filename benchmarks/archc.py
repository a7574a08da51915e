"""The same questions to archc 0.0.1 and to Shapewright: candidates a second, time to answer, errors on known models.

``make bench`` installs archc (PyPI, Apache-2.0) for this benchmark alone. It takes a number of parameters where we take a
budget, so each is asked what it can be asked: archc for the best model of a size on a plan, ours for the best model of
the same compute on the same devices. Known models: measured losses of Gemstones (McLeish et al. 2025, arXiv 2502.06857)
and measured training rates of Llama 3.1 405B (arXiv 2407.21783, table 4: 430 TFLOP/s on each of 8,192 H100, 400 on
16,384). The default law and archc were not fitted on those losses' corpus; ``--law gemstones`` was, so for it each shape is
left out of the fit.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

PEAK = 989e12
"""Dense bf16 peak of an H100 SXM [FLOP/s]; NVIDIA's datasheet."""
CANDIDATES = 600
LOSSES = (
    ("gemstone 256x80", 1.04e8, 3.176),
    ("gemstone 1792x7", 5.0e8, 2.859),
    ("gemstone 1280x36", 1.0e9, 2.662),
)
"""(Name, parameters, loss at 100 billion tokens); on Dolma, tokens of Pythia's vocabulary."""
TOKENS = 100e9
RATES = (
    ("Llama 3.1 405B on 8,192", "llama-3.1-405b", 4.06e11, 8192, 2048, 8192, 430e12),
    ("Llama 3.1 405B on 16,384", "llama-3.1-405b", 4.06e11, 16384, 2048, 8192, 400e12),
)
"""(Name, our name, parameters, H100s, sequences per step, their length, measured FLOP/s per device)."""


def run() -> Iterator[str]:
    """Ask both."""
    program = shutil.which("ac-compile") or str(Path(sys.executable).with_name("ac-compile"))
    if not Path(program).exists():
        yield "archc: not installed (make bench installs it): not compared"
        return
    request = ("--params", "7B", "--tokens", "2T", "--tp", "8", "--num-gpus", "64")
    found, seconds = _ask(program, *request)
    stats = found["metadata"]["search_stats"]
    yield (
        f"archc: {' '.join(request)}: {stats['candidates_evaluated']} candidates, "
        f"{stats['candidates_evaluated'] / stats['search_time_sec']:,.0f} candidates/s, {seconds:.1f} s to answer"
    )
    ours, seconds, cpu = _design("64xh100_sxm", flops=6 * 7e9 * 2e12)
    yield (
        f"ours: design 64xh100_sxm --flops 8.4e22: {ours.num_candidates:,} (shape, plan) pairs, "
        f"{ours.num_candidates / seconds:,.0f} a second ({cpu:.1f} s of CPU), {seconds:.1f} s to answer"
    )
    yield from _losses(program)
    yield from _rates(program)


def _ask(program: str, *arguments: str) -> tuple[dict[str, Any], float]:
    with tempfile.TemporaryDirectory() as folder:
        config = Path(folder) / "config.json"
        start = time.perf_counter()
        subprocess.run(
            [program, "--hardware", "h100", *arguments, "--no-shadow-prices", "--max-candidates", str(CANDIDATES),
             "--quiet", "--output-config", str(config)],
            capture_output=True, cwd=folder, check=True,
        )  # fmt: skip
        return json.loads(config.read_text()), time.perf_counter() - start


def _design(hardware: str, **budget: Any) -> tuple[Any, float, float]:
    import shapewright

    start, cpu = time.perf_counter(), time.process_time()
    found = shapewright.design(hardware, **budget)
    return found, time.perf_counter() - start, time.process_time() - cpu


def _losses(program: str) -> Iterator[str]:
    from shapewright.scaling.law import DEFAULT_LAW, load_law, predict_loss

    default, left_out = load_law(DEFAULT_LAW), _left_out_laws()
    for name, params, measured in LOSSES:
        shape = name.split()[1]
        width, depth = (float(x) for x in shape.split("x"))
        run = {"active_params": params, "embedding_params": 2 * 50304 * width, "tokens": TOKENS, "width": width,
               "depth": depth}  # fmt: skip
        ours = float(predict_loss(default, **run).loss) / measured - 1
        text = f"loss of {name}, measured {measured} on Dolma: ours, {default.name} of {default.dataset}, {ours:+.1%}"
        if shape in left_out:
            # The losses are of runs at a constant rate.
            told = float(predict_loss(left_out[shape], **run, decayed=0.0).loss) / measured - 1
            text += f"; by the law of Dolma, this shape left out, {told:+.1%}"
        try:
            found, _ = _ask(program, "--params", f"{params / 1e9:g}B", "--tokens", "0.1T", "--tp", "1")
            theirs = f"{found['metadata']['predicted']['predicted_loss'] / measured - 1:+.1%}"
        except subprocess.CalledProcessError as error:
            theirs = f"no answer (exit code {error.returncode})"
        yield f"{text}; archc {theirs}"


def _left_out_laws() -> dict[str, Any]:
    """The law of Gemstones' corpus without each shape; empty where the runs are not at hand."""
    from shapewright.validation.gemstones import read_rows
    from shapewright.validation.losses import laws_by_shape

    path = Path(os.environ.get("SHAPEWRIGHT_DATA", "../shared/data")) / "scaling" / "gemstones_train.csv"
    return dict(laws_by_shape(read_rows(path)[0])[0]) if path.exists() else {}


def _rates(program: str) -> Iterator[str]:
    from shapewright.architecture.catalog import load_model
    from shapewright.designs.breakdown import price_plan
    from shapewright.hardware.catalog import parse_cluster
    from shapewright.plan.parallel import Plan
    from shapewright.search.joint import Options, workload_for

    for name, known, params, devices, batch, length, rate in RATES:
        # The paper's plan, which cuts gradients too (sent once under a pipeline); its virtual stages are not stated (4
        # here), and memory is left aside.
        plan = Plan(tp=8, pp=16, vpp=4, dp_shard=devices // 128, sharding=2)
        workload = workload_for(parse_cluster(f"{devices}xh100_sxm"), Options(seq_len=length))
        priced = price_plan(load_model(known), plan, workload, global_batch=batch)
        ours = priced.model_flops / priced.step_time / devices / rate - 1
        try:
            found, _ = _ask(
                program, "--params", f"{params / 1e9:g}B", "--tokens", "10T", "--tp", "8", "--pp", "16",
                "--num-gpus", str(devices), "--pretrain-context", str(length),
            )  # fmt: skip
            predicted = found["metadata"]["predicted"]["training_throughput_tokens_per_sec_per_gpu"]
            theirs = f"{6 * params * predicted / rate - 1:+.1%}"
        except subprocess.CalledProcessError as error:
            theirs = f"no answer (exit code {error.returncode})"
        yield f"MFU of {name}, measured {rate / PEAK:.0%}: ours {ours:+.1%}, archc {theirs} (relative)"
