"""How long a step of every arm takes on an undisturbed core: the shortest of many, all arms in turn.

Decisions: the arms are visited in rounds, so that a busy minute falls on all of them. Both number formats are timed,
and the faster one is the arm's. Where a published batch leaves too few steps, steps of one sequence are timed first,
and then those of the batch that fits. The answer is one file, so that all seeds of an arm take the same steps.
"""

from __future__ import annotations

import json
import time
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from benchmarks.contest import LEAST_STEPS, NAMES, entry

ROUNDS, STEPS = 10, 2
"""Visits of every arm and format, and steps of a visit (after one that is not timed on the first)."""
FORMATS = ("fp32", "bf16")


def speeds(folder: Path, minutes: float) -> dict[str, dict[str, Any]]:
    """Format, batch and step time of every arm at a budget; empty before they are measured."""
    path = folder / f"speeds_{minutes:g}.json"
    return json.loads(path.read_text()) if path.exists() else {}


def measure_speeds(folder: Path, minutes: float) -> None:
    """Time every arm at one budget and keep the answers in ``folder``."""
    import torch

    from shapewright.lab.state import write_atomic

    torch.set_num_threads(1)
    entries = {name: entry(name, minutes=minutes, seed=0, folder=folder) for name in NAMES}
    alone = shortest_steps({
        (name, precision): replace(e.setup, precision=precision, batch=1, micro_batch=1)
        for name, e in entries.items()
        for precision in FORMATS
        if e.cut_batch
    })  # fmt: skip
    setups = {}
    for name, e in entries.items():
        for precision in FORMATS:
            setup = replace(e.setup, precision=precision)
            if e.cut_batch:
                batch = int(60.0 * minutes / alone[name, precision] / LEAST_STEPS)
                batch = min(max(batch, 1), setup.batch)
                setup = replace(setup, batch=batch, micro_batch=batch)
            setups[name, precision] = setup
    taken = shortest_steps(setups)
    found = {}
    for name in entries:
        best = min(FORMATS, key=lambda p: taken[name, p] / setups[name, p].batch)
        setup = setups[name, best]
        found[name] = {"precision": best, "batch": setup.batch, "micro_batch": setup.micro_batch,
                       "step_time_s": taken[name, best]}  # fmt: skip
    write_atomic(folder / f"speeds_{minutes:g}.json", (json.dumps(found, indent=1) + "\n").encode())


def shortest_steps(setups: Mapping[tuple[str, str], Any]) -> dict[tuple[str, str], float]:
    """CPU time of the shortest step of each set-up [s], visited in turn."""
    from shapewright.lab.corpus import read_corpus
    from shapewright.lab.state import TrainState

    corpus = read_corpus(None)
    states = {key: TrainState(setup, corpus) for key, setup in setups.items()}
    best = dict.fromkeys(setups, float("inf"))
    for state in states.values():
        state.take_step(0.0)
    for _ in range(ROUNDS):
        for key, state in states.items():
            for _ in range(STEPS):
                start = time.process_time()
                state.take_step(0.0)
                best[key] = min(best[key], time.process_time() - start)
    return best
