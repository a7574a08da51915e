"""The process that times kernels: a job on stdin, one line per sample on stdout.

Decisions: it is a process of its own, so that the number of threads is set by the environment before any library
is loaded, a crash or a hang of a library costs this process only, and what was measured until then is kept.
Operands are windows of one pool of random numbers, so that hundreds of cases need little memory and find their
operands as cold as a training step does. Every round times every case once; the reader takes the best. A short
kernel is repeated within a sample until 0.3 ms, far above the clock's resolution. One thread is timed by the CPU
time of its process, which a neighbour's use of the core does not lengthen; several threads, which may wait for each
other, by the wall clock, and so is every sample besides, for how busy the machine is.

The job: ``{"backend": "numpy" | "torch" | "cuda", "threads": n, "seconds": s, "rounds": n, "cases": [[kind,
format, dims], ...]}``. The lines: ``{"ready": version}``, ``{"case": i, "seconds": s, "wall": s}`` and ``{"absent": i,
"why": text}`` for a case that this library or device does not run.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable
from typing import Any

from shapewright.lab.cases import Case

SAMPLE_S = 3e-4
"""Least duration of one sample [s]."""
PATIENCE = 2.5
"""Longest time on the wall for a second of one thread's own."""
FIRST_PATIENCE = 6.0
"""The same until every case was timed once: on a crowded machine a late answer is better than none."""
Kernel = Callable[[], object]
Timer = Callable[[Kernel, int], tuple[float, float]]
Builder = Callable[[Case], Kernel]


def wall_clock(kernel: Kernel, repeats: int) -> tuple[float, float]:
    """Seconds of one call over ``repeats`` calls by the wall clock, twice."""
    start = time.perf_counter()
    for _ in range(repeats):
        kernel()
    seconds = (time.perf_counter() - start) / repeats
    return seconds, seconds


def cpu_clock(kernel: Kernel, repeats: int) -> tuple[float, float]:
    """Seconds of one call over ``repeats`` calls by the CPU time of this process, and by the wall clock."""
    wall, start = time.perf_counter(), time.process_time()
    for _ in range(repeats):
        kernel()
    return (time.process_time() - start) / repeats, (time.perf_counter() - wall) / repeats


def run_job(job: dict[str, Any], emit: Callable[[dict[str, Any]], None]) -> None:
    """Time the job's cases in rounds until its seconds are spent; at least one case is begun."""
    version, build, timer = _library(job["backend"], job["threads"])
    emit({"ready": version})
    # One thread has its seconds on its own clock; a busy machine takes longer over them, up to a limit.
    spent = time.process_time if job["threads"] == 1 else time.monotonic
    start, deadline = time.monotonic(), spent() + job["seconds"]
    cases = [Case(kind, number_format, tuple(dims)) for kind, number_format, dims in job["cases"]]
    kernels: dict[int, tuple[Kernel, int]] = {}
    absent: set[int] = set()
    for visit in range(job["rounds"]):
        last = start + (PATIENCE if visit else FIRST_PATIENCE) * job["seconds"]
        for i, case in enumerate(cases):
            if spent() > deadline or time.monotonic() > last:
                return
            if i in absent:
                continue
            try:
                if i not in kernels:
                    kernel = build(case)
                    once = timer(kernel, 1)[0]
                    # The first call of a short kernel is mostly the library's own preparation.
                    once = timer(kernel, 1)[0] if once < 30 * SAMPLE_S else once
                    kernels[i] = (kernel, max(1, min(round(SAMPLE_S / max(once, 1e-9)), 1000)))
                # Short kernels are sampled up to three times a visit: a busy moment hides them most easily.
                for _ in range(3):
                    seconds, wall = timer(*kernels[i])
                    emit({"case": i, "seconds": seconds, "wall": wall})
                    if seconds > 10 * SAMPLE_S:
                        break
            except (RuntimeError, TypeError, MemoryError, ValueError) as error:
                absent.add(i)
                emit({"absent": i, "why": f"{type(error).__name__}: {error}".splitlines()[0][:200]})


def _library(backend: str, threads: int) -> tuple[str, Builder, Timer]:
    if backend == "numpy":
        from shapewright.lab import kernels_numpy

        return kernels_numpy.library(threads)
    from shapewright.lab import kernels_torch

    return kernels_torch.library(backend, threads)


def main() -> None:
    """Read the job, time it, write the samples."""

    def emit(line: dict[str, Any]) -> None:
        sys.stdout.write(json.dumps(line) + "\n")
        sys.stdout.flush()

    run_job(json.load(sys.stdin), emit)


if __name__ == "__main__":
    main()
