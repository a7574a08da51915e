"""Trains small models in several processes, as torchrun would start them, and writes what each of them saw.

Run as a script with a folder that holds what the cases expect: each of ``CASES`` runs in processes forked once torch is
loaded (with what its FSDP loads only when it cuts a weight), and leaves what they saw in a folder of its name. Loopback
only, one thread each.
"""

from __future__ import annotations

import json
import os
import signal
import socket
import sys
import traceback
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch._dynamo
import torch.distributed.fsdp
import torch.distributed.tensor.parallel

from shapewright.architecture.shape import LSTM, Block, DeltaNet, DenseFFN, ExpertsFFN, SelfAttention, Shape
from shapewright.errors import ShapewrightError
from shapewright.lab.corpus import Corpus
from shapewright.lab.schedule import Schedule
from shapewright.lab.state import Setup, TrainState, load_checkpoint
from shapewright.lab.team import Layout, team_of
from shapewright.lab.train import Outcome, train
from shapewright.lab.training import Training

FFN = DenseFFN(ffn_size=40, bias=True)
ATTENTION = SelfAttention(heads=4, kv_heads=2, head_dim=4, qkv_bias=True, gate="element")


def shape_of(*blocks: Block) -> Shape:
    return Shape(name="16x1", vocab_size=256, hidden_size=16, tied_embeddings=True, blocks=blocks)


SHARED = shape_of(
    Block(mixer=ATTENTION, channel=FFN, count=1),
    Block(mixer=replace(ATTENTION, gate="none"), channel=replace(FFN, gated=False), count=1),
)
CUT = shape_of(
    Block(mixer=LSTM(cell_size=12), channel=FFN, count=1),
    Block(mixer=DeltaNet(key_heads=2, value_heads=2, key_dim=4, value_dim=4),
          channel=ExpertsFFN(ffn_size=12, experts=3, topk=2), count=1),
)  # fmt: skip
SETUP = Setup(
    shape=SHARED, seq_len=16, batch=8, micro_batch=4, precision="fp32", weight_decay=0.1, beta1=0.9, beta2=0.99,
    epsilon=1e-8, gradient_clip=0.5, init_std=0.1, output_init_std=0.05,
)  # fmt: skip
SCHEDULE = Schedule(kind="wsd", peak=0.01, final=0.0, warmup=3, steps=20, decay_from=16)
TRAINING = Training(setup=SETUP, schedule=SCHEDULE, minutes=None, predicted_step=None, predicted_loss=None)
SHORT = replace(TRAINING, schedule=replace(SCHEDULE, steps=6, decay_from=4))
CUT_TRAINING = replace(SHORT, setup=replace(SETUP, shape=CUT))
FULLY, COPIES, LAYERS = Layout(shard=2), Layout(replicate=2), Layout(tp=2)


def corpus() -> Corpus:
    rng = np.random.default_rng(0)
    words = [rng.integers(97, 123, rng.integers(2, 8)).astype(np.uint8) for _ in range(40)]
    text = np.concatenate([np.append(words[i], np.uint8(32)) for i in rng.integers(0, 40, 3000)])
    return Corpus(name="made", train=text[400:], held_out=text[:400], num_files=1, skipped=())


def told_of(outcome: Outcome, folder: Path) -> dict[str, Any]:
    lines = [json.loads(line) for line in (folder / "log.jsonl").read_text().splitlines()]
    return {"held_out": outcome.held_out_loss, "losses": [line["loss"] for line in lines]}


def runs(folder: Path, training: Training, *layouts: Layout) -> list[dict[str, Any]]:
    """A run under each layout."""
    found = []
    for i, layout in enumerate(layouts):
        heard: list[int] = []
        with team_of(layout, "cpu") as team:
            at = folder / f"run{i}"
            outcome = train(
                training, corpus(), at, team=team, watch=lambda record, heard=heard: heard.append(record.step)
            )
            team.sums(0.0)
            found.append({**told_of(outcome, at), "heard": heard})
        os.environ["MASTER_PORT"] = str(int(os.environ["MASTER_PORT"]) + 1)
    return found


def two(folder: Path) -> Any:
    return runs(folder, SHORT, FULLY, COPIES)


def four(folder: Path) -> Any:
    return runs(folder, SHORT, Layout(shard=2, tp=2, regather=False))


def other_layers(folder: Path) -> Any:
    return runs(folder, CUT_TRAINING, FULLY, COPIES)


def resumed(folder: Path) -> Any:
    """Goes on with the checkpoint that one process left in ``folder``/cut, is interrupted, and goes on again."""
    at = folder / "cut"

    def interrupt(record: Any) -> None:
        if record.step == 10:
            os.kill(os.getpid(), signal.SIGINT)

    said = ""
    with team_of(LAYERS, "cpu") as team:
        try:
            train(TRAINING, corpus(), at, resume=True, team=team, watch=interrupt)
        except ShapewrightError as error:
            said = f"{error.exit_code} {error.what}"
        step = load_checkpoint(at / "checkpoint.pt")["step"]
        outcome = train(TRAINING, corpus(), at, resume=True, team=team)
        return {**told_of(outcome, at), "said": said, "step": step}


def wrong(folder: Path) -> Any:
    """What each process is told where something is wrong, by name."""
    said: dict[str, str] = {}

    def expect(name: str, action: Callable[[], Any]) -> None:
        try:
            action()
        except ShapewrightError as error:
            said[name] = f"{error.exit_code} {error.what}"

    def changed(**changes: Any) -> Training:
        return replace(TRAINING, setup=replace(SETUP, **changes))

    rank = int(os.environ["RANK"])
    with team_of(FULLY, "cpu") as team:
        expect("batch", lambda: TrainState(replace(SETUP, batch=3, micro_batch=1), corpus(), team=team))
        expect("held", lambda: train(TRAINING, corpus(), folder / "file" / "run", team=team))
        expect("differ", lambda: train(changed(seed=rank), corpus(), folder / "differ", team=team))
        expect("nan", lambda: train(changed(init_std=float("inf")), corpus(), folder / "nan", team=team))
        expect("damaged", lambda: train(TRAINING, corpus(), folder / "damaged", resume=True, team=team))
        expect("full", lambda: train(TRAINING, corpus(), folder / "full", team=team, watch=_fill(folder)))
    os.environ["MASTER_PORT"] = str(int(os.environ["MASTER_PORT"]) + 1)
    with team_of(LAYERS, "cpu") as team:
        odd = replace(ATTENTION, heads=3, kv_heads=3)
        for name, block in {
            "heads": Block(mixer=odd, channel=FFN, count=1),
            "columns": Block(mixer=ATTENTION, channel=DenseFFN(ffn_size=41), count=1),
            "experts": Block(mixer=ATTENTION, channel=CUT.blocks[1].channel, count=1), "lstm": CUT.blocks[0],
        }.items():  # fmt: skip
            setup = replace(SETUP, shape=shape_of(block))
            expect(name, lambda setup=setup: TrainState(setup, corpus(), team=team))
    return said


def _fill(folder: Path) -> Callable[[Any], None]:
    """A disk that is full from the first record on, as the first process sees it."""

    def full(descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    def watch(record: Any) -> None:
        os.fsync = full

    return watch


def command(folder: Path) -> Any:
    """The command line in each process."""
    from typer.testing import CliRunner

    from shapewright.cli.main import app

    told = []
    base = [
        "train",
        str(folder / "design.json"),
        "--data",
        str(folder / "text.txt"),
        "--steps",
        "10",
        "--json",
    ]
    for extra in (["--out", str(folder / "one")], ["--out", str(folder / "one"), "--tp", "2"], ["--tp", "3"]):
        done = CliRunner().invoke(app, [*base, *extra])
        told.append({"code": done.exit_code if done.exit_code != 1 else getattr(done.exception, "exit_code", 1),
                     "error": str(done.exception), "out": done.stdout})  # fmt: skip
        os.environ["MASTER_PORT"] = str(int(os.environ["MASTER_PORT"]) + 1)
    return told


def timed(folder: Path) -> Any:
    from shapewright.lab.collectives import time_collectives

    return time_collectives({"device": "cpu", "threads": 1, "seconds": 0.0, "sizes": [256, 2**16]})


CASES: dict[Callable[[Path], Any], int] = {
    two: 2,
    four: 4,
    other_layers: 2,
    resumed: 2,
    wrong: 2,
    command: 2,
    timed: 3,
}
"""With the number of processes of each."""


def process(case: Callable[[Path], Any], rank: int, size: int, port: int, folder: Path) -> None:
    torch.set_num_threads(1)
    signal.alarm(300)  # a process that waits for ever is a failed test, not a suite that hangs
    os.environ.update(
        RANK=str(rank),
        LOCAL_RANK=str(rank),
        WORLD_SIZE=str(size),
        MASTER_ADDR="127.0.0.1",
        MASTER_PORT=str(port),
    )
    try:
        found = {"answer": case(folder)}
    except BaseException:
        found = {"trace": traceback.format_exc()}
    (folder / f"told{rank}.json").write_text(json.dumps(found))


def main(folder: Path, *names: str) -> None:
    for case, size in CASES.items():
        if names and case.__name__ not in names:
            continue
        (folder / case.__name__).mkdir(exist_ok=True)
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = free.getsockname()[1]
        children = []
        for rank in range(size):
            child = os.fork()
            if child == 0:
                process(case, rank, size, port, folder / case.__name__)
                # PyTorch 2.13 sometimes aborts while the interpreter shuts down after gloo groups.
                os._exit(0)
            children.append(child)
        for child in children:
            os.waitpid(child, 0)


if __name__ == "__main__":
    main(Path(sys.argv[1]), *sys.argv[2:])
