"""Who learns more in the same minutes on this machine? One row per arm, budget and seed, one core each.

python -m benchmarks proof

Decisions: a budget is counted in undisturbed core time: the steps that fit are the minutes over the shortest step of
many, by the process's own clock, which on an idle core is the time on the wall (a step's median there is a few per
cent longer). All arms are timed in turn over the same minutes, before any of them is trained. So a neighbour on a
shared machine lengthens the runs, and neither takes steps from one nor gives them to another. Rows are kept as they
finish and never run twice; budgets are run in order, seed by seed over all arms, so that a cut leaves a fair table.
All arms are judged on the same held-out bytes, each in windows of its own context. Intervals (90 %) hold the scatter
of the seeds and of the text; the difference to our design is taken segment by segment.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

from benchmarks.contest import NAMES, entry
from benchmarks.proof_speed import measure_speeds, speeds

ROOT = Path(__file__).parents[1]
FOLDER = ROOT / "proof"
MINUTES = (2.0, 8.0)
SEEDS = (0, 1, 2)
SEGMENT, SEGMENTS = 512, 256
"""Held-out text that all arms are judged on: so many pieces of so many bytes."""


def run() -> Iterator[str]:
    """Run what is missing, then write the table."""
    import multiprocessing
    from concurrent.futures import ProcessPoolExecutor, as_completed

    from benchmarks.proof_table import write_table
    from shapewright.lab.bench import training_environment
    from shapewright.lab.pools import end_with_parent

    FOLDER.mkdir(exist_ok=True)
    _measure()
    done = rows()
    wanted = [(m, s, n) for m in MINUTES for s in SEEDS for n in NAMES]
    missing = [key for key in wanted if key not in {(r["minutes"], r["seed"], r["arm"]) for r in done}]
    # Set before the processes start, since their libraries read it while they load.
    os.environ.update(training_environment(1))
    workers = len(os.sched_getaffinity(0))
    context = multiprocessing.get_context("spawn")
    for minutes in MINUTES:
        if not speeds(FOLDER, minutes):
            yield f"proof: timing the arms of {minutes:g} minutes in turn"
            with ProcessPoolExecutor(1, context, end_with_parent) as pool:
                pool.submit(measure_speeds, FOLDER, minutes).result()
        waiting = [key for key in missing if key[0] == minutes]
        with ProcessPoolExecutor(workers, context, end_with_parent, max_tasks_per_child=1) as pool:
            for future in as_completed([pool.submit(train_row, *key) for key in waiting]):
                row = future.result()
                _keep(row)
                write_table(rows())
                yield (
                    f"proof: {row['arm']}, {row['minutes']:g} min, seed {row['seed']}: {row['bits_per_byte']:.4f} bits per"
                    f" byte, {row['params']:,} parameters, {row['steps']:,} steps of {row['step_time_s'] * 1e3:.1f} ms"
                )
    write_table(rows())
    yield f"proof: {len(rows())} of {len(wanted)} rows"


def rows() -> list[dict[str, Any]]:
    """The finished rows, in the order of the table."""
    path = FOLDER / "rows.jsonl"
    found = [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []
    return sorted(found, key=lambda r: (r["minutes"], NAMES.index(r["arm"]), r["seed"]))


def _keep(row: dict[str, Any]) -> None:
    from shapewright.lab.state import write_atomic

    lines = [json.dumps(r) for r in (*rows(), row)]
    write_atomic(FOLDER / "rows.jsonl", ("\n".join(lines) + "\n").encode())


def _measure() -> None:
    """This machine as a TOML file, measured on the first run."""
    import subprocess
    import sys

    if not (FOLDER / "this.toml").exists():
        command = [sys.executable, "-c", "from shapewright.cli.main import main; main()", "measure", "--out",
                   str(FOLDER / "this.toml"), "--seconds", "60"]  # fmt: skip
        subprocess.run(command, check=True)


def train_row(minutes: float, seed: int, name: str) -> dict[str, Any]:
    """Train one arm for its minutes and judge it."""
    import torch

    from shapewright.lab.corpus import read_corpus
    from shapewright.lab.schedule import Schedule, decay_start
    from shapewright.lab.state import TrainState

    torch.set_num_threads(1)
    corpus = read_corpus(None)
    chosen = entry(name, minutes=minutes, seed=seed, folder=FOLDER)
    speed = speeds(FOLDER, minutes)[name]
    step_time = speed.pop("step_time_s")
    setup = replace(chosen.setup, **speed)
    steps = max(int(60.0 * minutes / step_time), 1)
    schedule = Schedule(
        kind=chosen.kind, peak=chosen.peak, final=chosen.final, warmup=round(chosen.warmup_share * steps), steps=steps,
        decay_from=decay_start(steps, 0.2) if chosen.kind == "wsd" else None,
    )  # fmt: skip
    state = TrainState(setup, corpus)
    cpu, wall = time.process_time(), time.monotonic()
    while state.step < steps:
        state.take_step(schedule.rate(state.step))
    cpu, wall = time.process_time() - cpu, time.monotonic() - wall
    segments = judge(state, corpus)
    mixer = setup.shape.blocks[0].mixer
    return {
        "arm": name, "minutes": minutes, "seed": seed, "bits_per_byte": sum(segments) / len(segments),
        "width": int(setup.shape.hidden_size), "depth": int(setup.shape.num_layers), "heads": int(mixer.heads),
        "params": sum(p.numel() for p in state.net.parameters()), "precision": setup.precision, "context": setup.seq_len,
        "batch": setup.batch, "learning_rate": chosen.peak, "steps": steps, "tokens": steps * setup.batch_tokens,
        "step_time_s": step_time, "cpu_s": round(cpu, 1), "wall_s": round(wall, 1), "source": chosen.source,
        "corpus": corpus.name, "digest": corpus.digest, "segments": [round(bits, 4) for bits in segments],
    }  # fmt: skip


def judge(state: Any, corpus: Any) -> list[float]:
    """Bits per byte of each held-out segment, in windows of the model's own context."""
    import math

    import numpy as np
    import torch
    from torch.nn import functional

    context = state.setup.seq_len
    starts = np.linspace(0, len(corpus.held_out) - SEGMENT - 2, SEGMENTS).round().astype(int)
    found = []
    with torch.no_grad():
        for start in starts:
            rows = [
                corpus.held_out[start + at : start + at + context + 1] for at in range(0, SEGMENT, context)
            ]
            piece = torch.from_numpy(np.stack(rows).astype(np.int64))
            with torch.autocast("cpu", torch.bfloat16, enabled=state.setup.precision == "bf16"):
                logits = state.net(piece[:, :-1])
            loss = functional.cross_entropy(logits.float().flatten(0, 1), piece[:, 1:].flatten())
            found.append(float(loss) / math.log(2.0))
    return found
