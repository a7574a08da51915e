"""A model in training: one step, the loss on held-out text, and a checkpoint that goes on identically.

Decisions: everything that the next step depends on is in the checkpoint or follows from the step's number (the
order of the text, the learning rate), so a run that was cut goes on bit for bit. A checkpoint is written beside the
old one and takes its place only when it is whole; its digest is checked when it is read. Several processes take the rows
that one would take, each its part of every step, and a checkpoint does not tell how many they were.
"""

from __future__ import annotations

import hashlib
import io
import math
import os
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch.nn import functional

from shapewright.architecture.shape import Shape
from shapewright.errors import DivergedError, MeasurementError, UsageError
from shapewright.lab.attend import BLOCK
from shapewright.lab.copies import Gradients
from shapewright.lab.corpus import Corpus, Rows, Windows, judged_windows
from shapewright.lab.nets import Net, choose_kernels, initialise
from shapewright.lab.spread import Orders, clip, cut, spread, whole
from shapewright.lab.team import ALONE, Team

_MAGIC = b"shapewright checkpoint 1\n"
Precision = Literal["fp32", "bf16"]


@dataclass(frozen=True, kw_only=True, slots=True)
class Setup:
    """What a run trains and how, but for the learning rate of each step."""

    shape: Shape
    seq_len: int
    batch: int
    """Sequences of one step."""
    micro_batch: int
    """Sequences of one forward pass; divides ``batch``. A process's part of the batch is cut by its greatest divisor."""
    precision: Precision
    weight_decay: float
    beta1: float
    beta2: float
    epsilon: float
    gradient_clip: float
    init_std: float
    output_init_std: float
    seed: int = 0
    attention_block: int | None = BLOCK
    """Queries of one block of attention on a processor; None for the library's fused kernel."""
    scan_chunk: int | None = None
    """Tokens of a chunk of every scan; None for each kind's own."""
    tiles: tuple[tuple[int, int], ...] = ()
    """Width of a gated layer, and elements of one program of its activation on CUDA devices."""
    compiled: bool = False
    """Whether torch.compile runs the model."""

    @property
    def batch_tokens(self) -> int:
        """Tokens of one step."""
        return self.batch * self.seq_len


class TrainState:
    """A model, its optimiser and its place in the text; in a team, this process's part of them."""

    def __init__(self, setup: Setup, corpus: Corpus, *, device: str = "cpu", team: Team = ALONE) -> None:
        """Raises UsageError where the batch does not divide over the team, or text and images do not match."""
        self.setup, self.device, self.step, self.team = setup, device, 0, team
        if setup.batch % team.layout.copies:
            raise UsageError(
                f"a batch of {setup.batch} sequences does not divide over {team.layout.copies} processes",
                "each takes as many as the others", "start fewer, or share layers among them with --tp",
            )  # fmt: skip
        self.net = Net(setup.shape)
        initialise(self.net, std=setup.init_std, output_std=setup.output_init_std, seed=setup.seed)
        choose_kernels(
            self.net,
            attention_block=setup.attention_block,
            scan_chunk=setup.scan_chunk,
            tiles=dict(setup.tiles),
        )
        self.net.to(device)
        if setup.compiled:
            # The tables that are cached depend on their arguments only.
            warnings.filterwarnings("ignore", "Dynamo detected a call to a `functools.lru_cache`")
            self.net.compile()
        self._gradients = (
            Gradients(self.net.parameters(), team.layout.copies)
            if team.layout.whole and device == "cpu"
            else None
        )
        self._orders: Orders = {} if team.alone or self._gradients else spread(self.net, team)
        self.patches = setup.shape.patches
        check_suits(setup.shape, corpus)
        self.windows = (
            Rows(corpus.train, seed=setup.seed)
            if self.patches is not None
            else Windows(corpus.train, seq_len=setup.seq_len, seed=setup.seed)
        )
        self._judged = (
            corpus.held_out
            if self.patches is not None
            else judged_windows(corpus.held_out, seq_len=setup.seq_len)
        )
        named = dict(self.net.named_parameters())
        matrices = {name: p for name, p in named.items() if p.dim() >= 2}
        vectors = {name: p for name, p in named.items() if p.dim() < 2}
        self._names = (*matrices, *vectors)
        groups = [{"params": list(matrices.values()), "weight_decay": setup.weight_decay}]
        if vectors:
            groups.append({"params": list(vectors.values()), "weight_decay": 0.0})
        self.optimizer = torch.optim.AdamW(
            groups, lr=0.0, betas=(setup.beta1, setup.beta2), eps=setup.epsilon, fused=True
        )

    def take_step(self, learning_rate: float) -> float:
        """One optimiser step at ``learning_rate``; the mean loss of its tokens before it [nat/token].

        Raises:
            DivergedError: the loss is not a number or infinite; the weights are as they were.
        """
        s, team = self.setup, self.team
        share = s.batch // team.layout.copies
        micro = math.gcd(s.micro_batch, share)
        first = self.step * s.batch + team.copy * share
        rows = torch.from_numpy(self.windows.take(first, share)).to(self.device)
        total = 0.0
        for piece in rows.split(micro):
            loss = self._loss(piece) * (micro / share)
            loss.backward()
            total += float(loss.detach())
        total = team.mean(total) if self._gradients is None else self._gradients.mean(total)
        if not np.isfinite(total):
            raise DivergedError(
                f"the loss is {total} at step {self.step + 1}",
                f"learning rate {learning_rate:.3g}, batch {s.batch_tokens} tokens, {s.precision}",
                "try a lower --learning-rate, or --precision fp32",
            )
        norm = torch.nn.utils.clip_grad_norm_ if team.alone or self._gradients else clip
        norm(self.net.parameters(), s.gradient_clip)
        for group in self.optimizer.param_groups:
            group["lr"] = learning_rate
        self.optimizer.step()
        if self._gradients is None:
            self.optimizer.zero_grad(set_to_none=True)
        else:
            self._gradients.clear()
        self.step += 1
        return total

    def judge(self) -> float:
        """Mean loss on the held-out windows [nat/token] or images [nat]; the weights stay as they are."""
        count = len(self._judged) if self.patches is not None else self._judged[:, 1:].size
        return sum(self._judge_piece(piece) for piece in self._pieces(self._judged)) / count

    def contents(self) -> dict[str, Any]:
        """What a checkpoint holds: whole weights, whatever the team; every process must ask."""
        return {"step": self.step, **self._mapped(lambda tensor, like, order: whole(tensor, order))}

    def restore(self, contents: dict[str, Any]) -> None:
        """Go back to what :meth:`contents` (or a checkpoint) held."""
        if not self.team.alone:
            contents = {**contents, **self._mapped(cut, contents["net"], contents["optimizer"])}
        self.net.load_state_dict(contents["net"])
        self.optimizer.load_state_dict(contents["optimizer"])
        self.step = contents["step"]

    def _mapped(
        self,
        change: Callable[[torch.Tensor, torch.Tensor, torch.Tensor | None], torch.Tensor],
        net: dict[str, Any] | None = None,
        optimizer: dict[str, Any] | None = None,
    ) -> dict[str, Any]:
        """State of weights and optimiser, each tensor changed, told the weight it belongs to and the order of its rows."""
        own = self.net.state_dict()
        net, optimizer = net or own, optimizer or self.optimizer.state_dict()

        def changed(tensor: torch.Tensor, name: str) -> torch.Tensor:
            return change(tensor, own[name], self._orders.get(name))

        state = {
            i: {key: changed(tensor, self._names[i]) for key, tensor in values.items()}
            for i, values in optimizer["state"].items()
        }
        return {
            "net": {name: changed(tensor, name) for name, tensor in net.items()},
            "optimizer": {**optimizer, "state": state},
        }

    def _pieces(self, rows: NDArray[Any]) -> Iterator[torch.Tensor]:
        size = max(8192 // self.setup.seq_len, 1)
        for first in range(0, len(rows), size):
            yield torch.from_numpy(rows[first : first + size]).to(self.device)

    @torch.no_grad()
    def _judge_piece(self, piece: torch.Tensor) -> float:
        return float(self._loss(piece)) * (len(piece) if self.patches is not None else piece[:, 1:].numel())

    def _loss(self, rows: torch.Tensor) -> torch.Tensor:
        lower = self.setup.precision == "bf16"
        with torch.autocast(torch.device(self.device).type, torch.bfloat16, enabled=lower):
            if self.patches is not None:
                side, channels = self.patches.image_size, self.patches.channels
                logits = self.net(rows[:, :-1].view(-1, channels, side, side))
                return functional.cross_entropy(logits.float(), rows[:, -1].long())
            logits = self.net(rows[:, :-1])
        return functional.cross_entropy(logits.float().flatten(0, 1), rows[:, 1:].flatten())


def check_suits(shape: Shape, corpus: Corpus) -> None:
    """Raises UsageError where one is of images and the other of text."""
    if (shape.patches is None) != (corpus.train.ndim == 1):
        raise UsageError(
            f"{corpus.name} does not suit {shape.name}", "one is of images and the other of text",
            "give a design of images --data digits, and one of text a text",
        )  # fmt: skip


def save_checkpoint(path: Path, contents: dict[str, Any]) -> None:
    """Write a checkpoint whole or not at all.

    Raises:
        MeasurementError: no space left, or the folder cannot be written to; an older checkpoint stays.
    """
    buffer = io.BytesIO()
    torch.save(contents, buffer)
    data = buffer.getvalue()
    write_atomic(path, _MAGIC + hashlib.sha256(data).digest() + data)


def load_checkpoint(path: Path) -> dict[str, Any]:
    """Read a checkpoint.

    Raises:
        MeasurementError: it is missing, or not what was written.
    """
    try:
        data = path.read_bytes()
    except OSError as error:
        raise MeasurementError(
            f"{path} cannot be read", error.strerror or str(error), "start the run again without --resume"
        ) from error
    digest, body = data[len(_MAGIC) : len(_MAGIC) + 32], data[len(_MAGIC) + 32 :]
    if not data.startswith(_MAGIC) or hashlib.sha256(body).digest() != digest:
        raise MeasurementError(
            f"{path} is damaged",
            "its contents do not match its digest",
            "delete it; the run starts from the beginning",
        )
    return torch.load(io.BytesIO(body), weights_only=True)


def write_atomic(path: Path, data: bytes) -> None:
    """Write a file whole or not at all.

    Raises:
        MeasurementError: no space left, or the folder cannot be written to; an older file stays.
    """
    part = path.with_name(f".{path.name}.part")
    try:
        with part.open("wb") as handle:
            handle.write(data)
            handle.flush()
            os.fsync(handle.fileno())
        os.replace(part, path)
    except OSError as error:
        part.unlink(missing_ok=True)
        raise MeasurementError(
            f"{path} cannot be written", error.strerror or str(error),
            "what was written before stays; mend the folder and resume",
        ) from error  # fmt: skip


@contextmanager
def only_one(folder: Path) -> Iterator[None]:
    """Hold ``folder`` for one process; the lock goes with the process, however it ends.

    Raises:
        MeasurementError: another process holds it, or the folder cannot be written to.
    """
    import fcntl

    try:
        folder.mkdir(parents=True, exist_ok=True)
        handle = (folder / ".lock").open("w")
    except OSError as error:
        raise MeasurementError(
            f"{folder} cannot be written to", error.strerror or str(error), "choose another folder with --out"
        ) from error
    with handle:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            raise MeasurementError(
                f"{folder} is in use", "another run writes there", "wait for it, or choose another folder"
            ) from error
        yield
