"""What the devices of this machine take to talk to each other: gloo between processes, NCCL between CUDA devices.

Decisions: one process per device, each with the threads it will train with, forked once torch is loaded. A collective
lasts as long as in the slowest process; all sizes in turn, the shortest round counts, for a neighbour only lengthens it.
gloo has one protocol, so its time is a start, a wait per hop and bytes over a rate; the coefficients of NCCL's other
protocols stay where they do nothing. The link's bandwidth is the best that any collective here sent.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from shapewright.cost.collective import COEFFICIENTS, KINDS, collective_time, sent_bytes
from shapewright.errors import MeasurementError
from shapewright.evidence import Figure
from shapewright.hardware.accelerator import Accelerator, ScaleUp
from shapewright.hardware.calibration import Fit
from shapewright.lab.fit_kernels import Bounds, Rows, fit_scored

TIMED = tuple(kind for kind in KINDS if kind != "send")
SIZES = tuple(2**power for power in range(8, 25))
"""Bytes of the whole tensor."""
MOST = 8
"""Processes: more would measure a long minute."""
SECONDS = 3.0
"""Of timing, for each number of processes; the first round is always finished."""
ROUNDS = 60
GLOO: Mapping[str, Bounds] = {
    "launch_s": (1e-4, 1e-6, 1e-1), "hop_s": (1e-5, 1e-9, 1e-1), "depth": (1.0, 1.0, 1.0), "efficiency": (0.5, 0.005, 2.0),
    "shared": (0.4, 0.4, 0.4), "ll_rate": (1.0, 1.0, 1.0), "mid_rate": (1.0, 1.0, 1.0), "mid_s": (1e-8, 1e-8, 1e-8),
    "bulk_s": (1e-8, 1e-8, 1e-8),
}  # fmt: skip
"""Start, least and greatest value of each coefficient; equal ends hold it fixed."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Sample:
    """One collective at one size."""

    kind: str
    num_bytes: int
    """Of the whole tensor."""
    processes: int
    seconds: float
    """Shortest of all rounds, each as long as in the slowest process [s]."""


def groups_of(devices: int) -> tuple[int, ...]:
    """Numbers of processes to time among so many devices: two and all of them, at most :data:`MOST`."""
    return tuple(sorted({2, min(devices, MOST)})) if devices >= 2 else ()


def measure_collectives(
    devices: int,
    *,
    device: str = "cpu",
    threads: int = 1,
    seconds: float = SECONDS,
    sizes: Sequence[int] = SIZES,
) -> tuple[Sample, ...]:
    """Time the collectives among ``devices`` of this machine; nothing where there is one.

    Raises:
        MeasurementError: the processes failed.
    """
    from shapewright.lab.bench import training_environment

    found: list[Sample] = []
    for size in groups_of(devices):
        job = json.dumps(
            {
                "processes": size,
                "device": device,
                "threads": threads,
                "seconds": seconds,
                "sizes": list(sizes),
            }
        )
        done = subprocess.run(
            (sys.executable, "-m", "shapewright.lab.collectives"), input=job, capture_output=True, text=True,
            env={**os.environ, **training_environment(threads)}, check=False,
        )  # fmt: skip
        try:
            rows = json.loads(done.stdout.strip().splitlines()[-1])
        except (ValueError, IndexError) as error:
            last = (done.stderr.strip().splitlines() or ["no message"])[-1]
            raise MeasurementError(
                f"collectives of {size} processes were not timed", last[:200],
                "see whether they start: torchrun --nproc-per-node 2 --no-python shapewright train design.json",
            ) from error  # fmt: skip
        found += [Sample(kind=kind, num_bytes=n, processes=size, seconds=s) for kind, n, s in rows]
    return tuple(found)


def describe_links(
    accelerator: Accelerator, samples: Sequence[Sample], *, device: str = "cpu"
) -> tuple[Accelerator, tuple[Fit, ...]]:
    """The accelerator with the link that was measured, and a fit of each collective.

    Errors are those of three sizes in ten, by a fixed hash, that took no part.
    """
    name = "NCCL" if device == "cuda" else "gloo"
    most = max(sample.processes for sample in samples)
    between = (
        "CUDA devices" if device == "cuda" else "processes of this machine, which share its memory and caches"
    )
    source = (
        f"{accelerator.sources['measurement']}; {name} between {most} {between}, wall time of the slowest process, best of"
        " all rounds"
    )
    rate = max(
        float(sent_bytes(s.kind, np.array(float(s.num_bytes)), s.processes)) / s.seconds for s in samples
    )
    bandwidth = Figure(value=float(f"{rate:.4g}"), unit="B/s", kind="measured", source=source)
    bounds = dict(GLOO) if device == "cpu" else {c.name: (c.start, c.low, c.high) for c in COEFFICIENTS}
    if len({sample.processes for sample in samples}) == 1:
        bounds["hop_s"] = (1e-9, 1e-9, 1e-9)  # one number of hops cannot be told from the start
    fits = tuple(_fit(kind, samples, bandwidth.value, bounds, source) for kind in TIMED)
    link = ScaleUp(link=f"{name} on this machine", bandwidth=bandwidth, domain_size=most)
    return replace(accelerator, scale_up=link), fits


def _fit(
    kind: str, samples: Sequence[Sample], bandwidth: float, bounds: Mapping[str, Bounds], source: str
) -> Fit:
    mine = [s for s in samples if s.kind == kind]
    rows = Rows(
        family="collective", number_format=kind, seconds=np.array([s.seconds for s in mine]),
        columns={"num_bytes": np.array([s.num_bytes for s in mine], float),
                 "processes": np.array([s.processes for s in mine], float)},
    )  # fmt: skip

    def predict(c: Mapping[str, float], x: Mapping[str, Any]) -> Any:
        return collective_time(c, kind, x["num_bytes"], x["processes"], bandwidth)

    return fit_scored(rows, predict, bounds, source=source)


def time_collectives(job: Mapping[str, Any]) -> list[tuple[str, int, float]]:
    """Time them in this process among its fellows; the same answer in each."""
    import torch
    import torch.distributed as dist

    torch.set_num_threads(job["threads"])
    device, rank = job["device"], int(os.environ["RANK"])
    if device == "cuda":
        torch.cuda.set_device(rank)
    dist.init_process_group("nccl" if device == "cuda" else "gloo")
    count = dist.get_world_size()
    # Each process's part must be cut for all the others once more in an all-to-all.
    elements = [max(size // 4 // count**2, 1) * count**2 for size in job["sizes"]]
    cases = [(kind, number) for kind in TIMED for number in elements]
    runs = [_collective(kind, number, count, device) for kind, number in cases]
    taken: list[list[float]] = []
    last = time.monotonic() + job["seconds"]
    more = torch.ones(1, device=device)
    for _ in range(ROUNDS):
        taken.append([_once(run, device) for run in runs])
        # The first process's clock counts, so that all stop after the same round.
        more.fill_(float(time.monotonic() < last))
        dist.broadcast(more, 0)
        if not float(more):
            break
    slowest = torch.tensor(taken, dtype=torch.float64, device=device)
    dist.all_reduce(slowest, dist.ReduceOp.MAX)
    dist.destroy_process_group()
    best = slowest.min(0).values.tolist()
    return [(kind, 4 * number, seconds) for (kind, number), seconds in zip(cases, best, strict=True)]


def _once(run: Any, device: str) -> float:
    import torch
    import torch.distributed as dist

    dist.barrier()
    start = time.perf_counter()
    run()
    if device == "cuda":
        torch.cuda.synchronize()
    return time.perf_counter() - start


def _collective(kind: str, elements: int, count: int, device: str) -> Any:
    """A call of one collective whose whole tensor has so many fp32 elements."""
    import torch
    import torch.distributed as dist

    part, other = (torch.zeros(elements // count, device=device) for _ in range(2))
    whole = torch.zeros(elements, device=device)
    # torch 2.13 gave two of them new names and warns of the old ones, the only ones before it.
    gather = getattr(dist, "all_gather_single", None) or dist.all_gather_into_tensor
    scatter = getattr(dist, "reduce_scatter_single", None) or dist.reduce_scatter_tensor
    calls = {
        "all_reduce": lambda: dist.all_reduce(whole),
        "all_gather": lambda: gather(whole, part),
        "reduce_scatter": lambda: scatter(part, whole),
        "all_to_all": lambda: dist.all_to_all_single(other, part),
    }
    return calls[kind]


def main() -> None:
    """Read the job, fork its processes, write the first one's answer."""
    import socket

    import torch  # noqa: F401  (loaded once for all)

    job = json.load(sys.stdin)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    os.environ.update(WORLD_SIZE=str(job["processes"]), MASTER_ADDR="127.0.0.1", MASTER_PORT=str(port))
    children = []
    for rank in range(job["processes"]):
        child = os.fork()
        if child == 0:
            code = 1
            try:
                os.environ["RANK"] = str(rank)
                answer = time_collectives(job)
                if rank == 0:
                    print(json.dumps(answer), flush=True)
                code = 0
            except Exception as error:
                print(f"{type(error).__name__}: {error}", file=sys.stderr, flush=True)
            finally:
                # gloo's threads may outlive the interpreter's own shutdown.
                os._exit(code)
        children.append(child)
    for child in children:
        os.waitpid(child, 0)


if __name__ == "__main__":
    main()
