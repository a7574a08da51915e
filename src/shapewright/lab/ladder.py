"""Run a ladder in processes of one thread each, so that killing any of them loses seconds.

Decisions: one process per core, the longest run first. A finished branch is a file, and a run that was cut goes on
from its last checkpoint; the checkpoint at its last branch stays, so a ladder can also be made longer. Time is the
process's own (CPU) time, which another user of the machine does not lengthen much.
"""

from __future__ import annotations

import csv
import io
import json
import os
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from shapewright.architecture.graph import build_graph, num_params
from shapewright.errors import DocumentError, MeasurementError
from shapewright.lab.arms import BASE, arm_shape
from shapewright.lab.bench import training_environment
from shapewright.lab.comparison import arm_jobs, rates_by_arm, sweep_jobs, wider_sweeps
from shapewright.lab.corpus import VOCAB_SIZE, Corpus, read_corpus
from shapewright.lab.pools import WorkerDiedError, in_processes, on_ray
from shapewright.lab.rungs import (
    BATCH,
    DECAY,
    MOST_WIDER,
    SEQ_LEN,
    Job,
    Layout,
    Plan,
    RateLaw,
    Row,
    inner_size,
    rates_of,
    rung_jobs,
    size_of,
    tokens_of,
    tuning_jobs,
    wider_jobs,
)

SAVE_EVERY_S = 20.0
TIMED_STEPS = 8
"""Steps timed of each rung before a ladder is planned, after one that is not."""
COLUMNS = (
    "name", "role", "params", "embedding_params", "tokens", "loss", "width", "depth", "lr", "batch_tokens", "steps",
    "seed", "seconds", "arm", "flops",
)  # fmt: skip


def run_job(job: Job, data: str | None, folder: str) -> str:
    """Run ``job`` in this process, from its last checkpoint if there is one; writes a file per branch."""
    import torch

    from shapewright.lab.schedule import Schedule, decay_start
    from shapewright.lab.state import TrainState, load_checkpoint, save_checkpoint, write_atomic

    torch.set_num_threads(1)
    place = Path(folder)
    state = TrainState(setup_of(job), read_corpus(Path(data) if data else None))
    shape, batch_tokens, size = state.setup.shape, state.setup.batch_tokens, size_of(job.layout)
    checkpoint = place / "checkpoints" / f"{job.name}.pt"
    seconds = 0.0
    if checkpoint.exists():
        contents = load_checkpoint(checkpoint)
        state.restore(contents)
        seconds = contents["seconds"]
    warmup = max(round(size / batch_tokens), 1)
    saved = time.monotonic()

    def advance(schedule: Schedule, until: int) -> None:
        nonlocal seconds, saved
        while state.step < until:
            start = time.process_time()
            state.take_step(schedule.rate(state.step))
            seconds += time.process_time() - start
            if schedule.steps is None and time.monotonic() - saved > SAVE_EVERY_S:
                save_checkpoint(checkpoint, {**state.contents(), "seconds": seconds})
                saved = time.monotonic()

    steady = Schedule(kind="wsd", peak=job.learning_rate, final=0.0, warmup=warmup, steps=None)
    for ratio in job.ratios:
        done = place / "runs" / f"{job.name}_{ratio:g}.json"
        if done.exists():
            continue
        steps = max(round(ratio * size / batch_tokens), 2)
        first = decay_start(steps, DECAY)
        if state.step > first:
            raise MeasurementError(
                f"{done} is missing but its run went on", f"the checkpoint is at step {state.step}, the branch at {first}",
                f"delete {checkpoint} and the files of this run, then resume",
            )  # fmt: skip
        advance(steady, first)
        kept = {**state.contents(), "seconds": seconds}
        save_checkpoint(checkpoint, kept)
        kept = load_checkpoint(checkpoint)
        try:
            advance(replace(steady, steps=steps, decay_from=first), steps)
            loss = state.judge()
        except MeasurementError:
            # A rate at which a model diverges is a result of a sweep, and of nothing else.
            if job.role != "tune":
                raise
            loss = float("inf")
        row = {
            "name": job.name, "role": job.role, "params": int(num_params(shape)),
            "embedding_params": VOCAB_SIZE * job.layout[0], "tokens": steps * batch_tokens, "loss": loss,
            "width": job.layout[0], "depth": job.layout[1],
            "lr": job.learning_rate, "batch_tokens": batch_tokens, "steps": steps, "seed": job.seed,
            "seconds": round(seconds, 2), "arm": job.arm,
            "flops": 3.0 * float(build_graph(shape, batch=1, seq_len=SEQ_LEN).flops()) / SEQ_LEN * steps * batch_tokens,
        }  # fmt: skip
        write_atomic(done, json.dumps(row).encode())
        state.restore(kept)
        seconds = kept["seconds"]
    return job.name


def setup_of(job: Job) -> Any:
    """The training set-up of a job: the recipe's, with the ladder's batch."""
    from shapewright.lab.state import Setup
    from shapewright.scaling.recipe import recipe

    shape, size = arm_shape(job.arm, job.layout), size_of(job.layout)
    r = recipe(params=inner_size(job.layout), tokens=max(job.ratios) * size, width=job.layout[0], depth=job.layout[1],
               batch=float(SEQ_LEN * BATCH), schedule="wsd")  # fmt: skip
    return Setup(
        shape=shape, seq_len=SEQ_LEN, batch=BATCH, micro_batch=BATCH, precision="fp32", seed=job.seed,
        weight_decay=r.weight_decay.value, beta1=r.beta1.value, beta2=r.beta2.value, epsilon=r.epsilon.value,
        gradient_clip=r.gradient_clip.value, init_std=r.init_std.value, output_init_std=r.output_init_std.value,
    )  # fmt: skip


def finished(folder: Path) -> list[Row]:
    """The rows of all branches that are done, in a fixed order.

    Raises:
        DocumentError: a file is not what a branch writes.
    """
    rows = []
    for path in sorted((folder / "runs").glob("*.json")):
        try:
            rows.append({column: json.loads(path.read_text())[column] for column in COLUMNS})
        except (ValueError, KeyError, TypeError) as error:
            raise DocumentError(
                f"{path} is no finished run", str(error), "delete it and resume the ladder"
            ) from error
    return sorted(
        rows, key=lambda row: (row["role"], row["params"], row["tokens"], row["lr"], row["arm"], row["seed"])
    )


def write_runs(folder: Path) -> Path:
    """``runs.csv`` of all finished branches."""
    from shapewright.lab.state import write_atomic

    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(COLUMNS)
    writer.writerows([row[column] for column in COLUMNS] for row in finished(folder))
    write_atomic(folder / "runs.csv", text.getvalue().encode())
    return folder / "runs.csv"


def run_jobs(
    jobs: Sequence[Job],
    plan: Plan,
    folder: Path,
    *,
    workers: int,
    tell: Callable[[str], None],
    engine: str = "local",
) -> None:
    """Run the jobs that are not finished in ``workers`` processes (or on a Ray cluster), the longest first.

    On a cluster ``folder`` (and the corpus) must be a path that all its machines share.

    Raises:
        MeasurementError: a process died, or a run failed; what is finished stays.
    """
    (folder / "runs").mkdir(exist_ok=True)
    (folder / "checkpoints").mkdir(exist_ok=True)
    waiting = [
        job
        for job in jobs
        if not all((folder / "runs" / f"{job.name}_{r:g}.json").exists() for r in job.ratios)
    ]
    order = sorted(waiting, key=lambda job: -tokens_of(job) * size_of(job.layout))
    # Set before the processes start, since their libraries read it while they load.
    os.environ.update(training_environment(1))
    tasks = [(job, plan.data, str(folder)) for job in order]
    try:
        for name in (on_ray if engine == "ray" else in_processes)(run_job, tasks, workers):
            tell(name)
    except WorkerDiedError as error:
        raise MeasurementError(
            "a process of the ladder died",
            "it was killed, or memory ran out",
            f"go on: shapewright ladder resume {folder}",
        ) from error
    finally:
        write_runs(folder)


def climb(
    plan: Plan, folder: Path, *, workers: int, tell: Callable[[str], None], engine: str = "local"
) -> dict[str, RateLaw]:
    """Run what is left of the ladder in ``folder``; its rows are in ``runs.csv``, the rates in ``rates.json``.

    Returns:
        The learning rate of every arm.

    Raises:
        MeasurementError: a process died, or a run failed; what is finished stays.
    """
    from shapewright.lab.state import write_atomic

    def run(jobs: Sequence[Job]) -> None:
        run_jobs(jobs, plan, folder, workers=workers, tell=tell, engine=engine)

    arms = plan.arms
    run(sweep_jobs(arms) if arms else tuning_jobs())
    for _ in range(MOST_WIDER):
        run(wider_sweeps(arms, finished(folder)) if arms else wider_jobs(finished(folder)))
    rates = rates_by_arm(arms, finished(folder)) if arms else {BASE: rates_of(finished(folder))}
    told = {arm: {"scale": r.scale, "power": r.power, "at_end": list(r.at_end)} for arm, r in rates.items()}
    write_atomic(folder / "rates.json", (json.dumps(told, indent=2) + "\n").encode())
    run(
        arm_jobs(arms, plan.top + 1, plan.seeds, rates)
        if arms
        else rung_jobs(plan.top, plan.top_ratio, rates[BASE])
    )
    return rates


def tokens_per_second(layout: Layout, corpus: Corpus, arm: str = BASE) -> float:
    """Tokens per second of its own time that this process trains ``arm`` at ``layout``, by the shortest of a few steps."""
    from shapewright.lab.state import TrainState

    size = size_of(layout)
    job = Job(
        name="timed",
        role="tune",
        arm=arm,
        layout=layout,
        learning_rate=0.0,
        ratios=(float(max(10_000_000 // size, 1)),),
    )
    state = TrainState(setup_of(job), corpus)
    state.take_step(0.0)
    times = []
    for _ in range(TIMED_STEPS):
        start = time.process_time()
        state.take_step(0.0)
        times.append(time.process_time() - start)
    return state.setup.batch_tokens / min(times)


def save_plan(plan: Plan, folder: Path) -> None:
    """Keep the plan in the ladder's folder."""
    from shapewright.lab.state import write_atomic

    write_atomic(folder / "ladder.json", (json.dumps(asdict(plan), indent=2) + "\n").encode())


def load_plan(folder: Path) -> Plan:
    """The plan of a ladder's folder.

    Raises:
        DocumentError: the folder holds no ladder.
    """
    try:
        told = json.loads((folder / "ladder.json").read_text())
        return Plan(**{**told, "arms": tuple(told.get("arms", ()))})
    except (OSError, ValueError, TypeError) as error:
        raise DocumentError(
            f"{folder} holds no ladder", str(error), "start one: shapewright ladder run --out FOLDER"
        ) from error
