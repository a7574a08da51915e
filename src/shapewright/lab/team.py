"""The processes that train one model together: how a step is split over them, and what they tell each other.

Decisions: the layout is the design's own plan where as many processes were started as it has devices; else it is
asked for, and a design for one device shares its batch among all of them, on CUDA devices its weights too. Processors
hold whole copies where a plan cuts the optimiser's state or gradients only: their memory is one, and FSDP2 costs small
models there more than it saves. Pipelines, contexts and experts are not split here. torchrun's variables say who is who;
gloo carries the messages of processors, NCCL those of CUDA devices. Tensor parallelism joins neighbouring processes,
which share the fastest links. What depends on a clock (the end of a budget, when to save) is the first process's word, so
that all do the same; and only the first one writes, so what goes wrong there ends them all with its own message.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, TypeVar

import torch

from shapewright.errors import MeasurementError, NotCoveredError, ShapewrightError, UsageError
from shapewright.plan.parallel import SHARDING, Plan

T = TypeVar("T")
VARIABLES = ("RANK", "LOCAL_RANK", "WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT")
"""What torchrun sets in each process."""
PATIENCE = timedelta(minutes=10)
"""How long a process waits for the others before it gives them up."""
LAUNCH = "torchrun --nproc-per-node {} --no-python shapewright train design.json"


@dataclass(frozen=True, kw_only=True, slots=True)
class Layout:
    """How a step is split; the product of the three numbers is the number of processes."""

    replicate: int = 1
    """Copies of the model that exchange gradients."""
    shard: int = 1
    """Processes over which each copy's weights, gradients and optimiser state are cut (FSDP)."""
    tp: int = 1
    """Processes that share each layer's heads and feed-forward columns."""
    regather: bool = True
    """Whether cut weights are gathered again for the backward pass (ZeRO-3) or kept (ZeRO-2)."""

    @property
    def processes(self) -> int:
        """Processes in all."""
        return self.replicate * self.shard * self.tp

    @property
    def copies(self) -> int:
        """Data-parallel parts of the batch."""
        return self.replicate * self.shard

    @property
    def whole(self) -> bool:
        """Whether several processes each hold a whole model."""
        return self.replicate > 1 and self.shard == self.tp == 1

    def describe(self) -> str:
        """One line for people."""
        if self.processes == 1:
            return "one process"
        kept = "" if self.regather else ", gathered weights kept"
        parts = [
            f"weights over {self.shard} (FSDP{kept})" if self.shard > 1 else "",
            f"{self.replicate} copies" if self.replicate > 1 else "",
            f"layers over {self.tp} (TP)" if self.tp > 1 else "",
        ]
        return f"{self.processes} processes: " + ", ".join(part for part in parts if part)


def layout_of(plan: Plan, device: str) -> Layout:
    """The layout that a plan asks for on ``cpu`` or ``cuda``; ZeRO-1 runs as ZeRO-2, and both as copies on processors.

    Raises:
        NotCoveredError: the plan splits what is not split here.
    """
    axes = {"pp": plan.pp, "cp": plan.cp, "ep": plan.ep, "etp": plan.etp, "sync_every": plan.sync_every}
    for name, number in axes.items():
        if int(number) > 1:
            raise NotCoveredError(
                f"the plan's {name} (={int(number)}) cannot be trained here", "tp and data parallelism can",
                "say how to split it, for example --tp 1, or export the design",
            )  # fmt: skip
    word = SHARDING[int(plan.sharding)]
    if device == "cpu" and int(plan.tp) == 1 and word != "parameters":
        word = "none"
    return _layout(int(plan.dp), int(plan.dp_replicate), int(plan.tp), word)


def _layout(copies: int, replicate: int, tp: int, sharding: str) -> Layout:
    whole = copies if sharding == "none" else replicate
    shard = copies // whole
    return Layout(replicate=whole, shard=shard, tp=tp, regather=shard == 1 or sharding == "parameters")


def choose_layout(
    plan: Plan, processes: int, *, device: str, tp: int | None = None, sharding: str | None = None
) -> Layout:
    """The layout of a run on so many processes.

    Args:
        plan: the design's.
        processes: how many were started.
        device: ``cpu`` or ``cuda``.
        tp: processes that share each layer, where it is asked for.
        sharding: what the data-parallel ones cut, a word of ``SHARDING``, where it is asked for.

    Raises:
        UsageError: the plan is for another number of devices and nothing was asked for, or the numbers do not divide.
        NotCoveredError: as :func:`layout_of`.
    """
    if tp is not None or sharding is not None:
        tp, sharding = tp or 1, sharding or "parameters"
        if sharding not in SHARDING:
            raise UsageError(
                f"--sharding (={sharding!r}) is not known", f"known: {', '.join(SHARDING)}",
                "try: --sharding parameters",
            )  # fmt: skip
        if processes % tp:
            raise UsageError(
                f"--tp (={tp}) does not divide the number of processes (={processes})",
                "each layer is shared by so many", f"start a multiple of it: {LAUNCH.format(tp)} --tp {tp}",
            )  # fmt: skip
        return _layout(processes // tp, 1, tp, sharding)
    planned = int(plan.num_devices)
    if processes == planned:
        return layout_of(plan, device)
    if processes == 1:
        return Layout()
    if planned == 1:
        return Layout(replicate=processes) if device == "cpu" else Layout(shard=processes)
    raise UsageError(
        f"{processes} processes were started", f"the design's plan is for {planned} devices: {plan.describe()}",
        f"start {planned}, or say how to split it, for example --tp 1",
    )  # fmt: skip


@dataclass(frozen=True, kw_only=True, slots=True)
class Team:
    """One process's view of those that train together; by default it is alone."""

    layout: Layout = Layout()
    rank: int = 0
    device: str = "cpu"
    mesh: Any = None
    """A DeviceMesh with the axes ``replicate``, ``shard`` and ``tp``; None for one process."""

    @property
    def alone(self) -> bool:
        """Whether there is one process."""
        return self.layout.processes == 1

    @property
    def first(self) -> bool:
        """Whether this is the process that logs, draws and writes."""
        return self.rank == 0

    @property
    def copy(self) -> int:
        """Which part of the batch is this process's."""
        return self.rank // self.layout.tp

    def sums(self, *values: float) -> list[float]:
        """Each value summed over the processes; the same numbers in all of them."""
        if self.alone:
            return [float(value) for value in values]
        tensor = torch.tensor(values, dtype=torch.float64, device=self.device)
        torch.distributed.all_reduce(tensor)
        return tensor.tolist()

    def mean(self, value: float) -> float:
        """The mean of a value over the processes."""
        return self.sums(value)[0] / self.layout.processes

    def from_first(self, ask: Callable[[], T]) -> T:
        """What ``ask`` returns in the first process, or raises there: in all of them.

        Raises:
            ShapewrightError: whatever the first process raised.
        """
        if self.alone:
            return ask()
        told: list[Any] = [None, None]
        if self.first:
            try:
                told[0] = ask()
            except ShapewrightError as error:
                told[1] = (error.exit_code, error.what, error.why, error.fix)
        torch.distributed.broadcast_object_list(told, src=0, device=torch.device(self.device))
        if told[1] is not None:
            code, *parts = told[1]
            raise (MeasurementError if code == MeasurementError.exit_code else UsageError)(*parts)
        return told[0]


ALONE = Team()


def started() -> int:
    """How many processes torchrun started; 1 where it did not.

    Raises:
        UsageError: some of its variables are set and others are not, or they are no numbers.
    """
    present = [name for name in VARIABLES if name in os.environ]
    if "WORLD_SIZE" not in present:
        return 1
    missing = [name for name in VARIABLES if name not in present]
    try:
        numbers = [int(os.environ[name]) for name in ("WORLD_SIZE", "RANK", "LOCAL_RANK") if name in present]
    except ValueError:
        numbers, missing = [], ["numbers in WORLD_SIZE, RANK and LOCAL_RANK"]
    if missing:
        raise UsageError(
            f"the environment says WORLD_SIZE={os.environ['WORLD_SIZE']} but lacks {', '.join(missing)}",
            "processes find each other by torchrun's variables", f"start them with: {LAUNCH.format(2)}",
        )  # fmt: skip
    return numbers[0]


@contextmanager
def team_of(layout: Layout, device: str) -> Iterator[Team]:
    """Join the processes that torchrun started; leave them at the end.

    Args:
        layout: how they split a step; as many processes as were started.
        device: ``cpu`` or ``cuda``.

    Raises:
        UsageError: the layout needs other processes than were started, or more CUDA devices than are here.
        NotCoveredError: torch was built without the library that carries their messages.
        MeasurementError: the processes do not find each other.
    """
    if layout.processes != started():
        raise UsageError(
            f"the layout needs {layout.processes} processes, and {started()} run", layout.describe(),
            f"start them with: {LAUNCH.format(layout.processes)}",
        )  # fmt: skip
    if layout.processes == 1:
        yield Team(device=device)
        return
    import torch.distributed as dist
    from torch.distributed.device_mesh import init_device_mesh

    backend = _backend(device)
    if device == "cuda":
        place = int(os.environ["LOCAL_RANK"])
        if place >= torch.cuda.device_count():
            raise UsageError(
                f"process {place} of this node has no CUDA device", f"{torch.cuda.device_count()} are here",
                "start one process per device: torchrun --nproc-per-node gpu",
            )  # fmt: skip
        torch.cuda.set_device(place)
        device = f"cuda:{place}"
    # Whole weights are gathered once per checkpoint: that it takes two rounds is no news to the user.
    import logging

    logging.getLogger("torch.distributed.tensor._redistribute").setLevel(logging.ERROR)
    try:
        dist.init_process_group(backend, timeout=PATIENCE)
    except (RuntimeError, ValueError) as error:
        raise MeasurementError(
            f"the {layout.processes} processes do not find each other at "
            f"{os.environ['MASTER_ADDR']}:{os.environ['MASTER_PORT']}",
            str(error).splitlines()[0][:200], "check the address, the port and the number of processes",
        ) from error  # fmt: skip
    try:
        axes = ("replicate", "shard", "tp")
        sizes = (layout.replicate, layout.shard, layout.tp)
        mesh = init_device_mesh(torch.device(device).type, sizes, mesh_dim_names=axes)
        yield Team(layout=layout, rank=dist.get_rank(), device=device, mesh=mesh)
    finally:
        dist.destroy_process_group()


def _backend(device: str) -> str:
    """The library that carries messages between such devices."""
    import torch.distributed as dist

    name = "nccl" if device == "cuda" else "gloo"
    here = dist.is_available() and (dist.is_nccl_available() if name == "nccl" else dist.is_gloo_available())
    if not here:
        raise NotCoveredError(
            f"torch was built without {name}", f"it carries the messages of several processes on {device}",
            "install a build of torch that has it, or train in one process",
        )  # fmt: skip
    return name
