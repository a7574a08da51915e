"""Timing the machine at hand in a fixed number of seconds.

Decisions: every library runs in a process of its own (:mod:`shapewright.lab.probe`) under
:func:`training_environment`, the environment a training run is given, so that what is measured is what training
gets. The number of threads is chosen first, by a race over kernels of a training step scored by their *median*
time: threads that wait for each other on a shared machine are slow most of the time and fast in their best moment,
and it is most of the time that counts. Everything else is the best of all rounds (of CPU time, where one thread
was chosen), with the median of the wall time beside it.
torch is measured where it is installed, because training runs on it; NumPy otherwise.
"""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from importlib.util import find_spec
from typing import Any

from shapewright.errors import MeasurementError, UsageError
from shapewright.lab import cases as case_lists
from shapewright.lab.cases import PROCESSOR, Case, Sizes
from shapewright.lab.energy import package_energy
from shapewright.lab.machine import Machine
from shapewright.lab.probe import FIRST_PATIENCE

MIN_SECONDS, MAX_SECONDS = 10.0, 600.0
FORMATS = {"numpy": ("fp32",), "torch": ("fp32", "bf16")}
"""Formats that a library may multiply on a processor, fp32 first."""
ROUNDS = 12
"""Rounds after which more seconds buy nothing."""
RACE_SHARE = 0.06
"""Share of the time for each number of threads in the race."""
THREAD_WORTH = 0.8
"""Least speed per thread, over that of one: below it a core serves better as another process (``2xthis``)."""
FORMAT_WORTH = 1.15
"""A narrower format must be faster by this factor to be listed."""
FULL_SECONDS = 30.0
"""With less time than this, proportionally fewer sizes are timed (a quarter at least)."""
LONGEST_SHARE = 0.002
"""Share of the time that one product may take, so that a round over all kernels is short against the whole."""
GRACE_S = 20.0
"""Seconds beyond its own deadline after which a process is taken to hang: the longest single kernel allowed."""
Progress = Callable[[float, str], None]


@dataclass(frozen=True, kw_only=True, slots=True)
class Timing:
    """All samples of one case."""

    case: Case
    samples: tuple[float, ...]
    """CPU time of one thread, wall time of several [s]."""
    walls: tuple[float, ...]
    """Wall time of the same samples [s]."""

    @property
    def best(self) -> float:
        """The shortest sample [s]."""
        return min(self.samples)

    @property
    def median(self) -> float:
        """The middle wall time [s]."""
        return statistics.median(self.walls)

    @property
    def spread(self) -> float:
        """Median wall time over the best sample, less one."""
        return self.median / self.best - 1.0


@dataclass(frozen=True, kw_only=True, slots=True)
class Report:
    """What one process timed."""

    library: str
    """Name and version."""
    timings: tuple[Timing, ...]
    absent: Mapping[str, str] = field(default_factory=dict)
    """Cases (kind/format) that the library does not run, and why."""
    startup_s: float = 0.0
    """From the start of the process to its first sample."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Measured:
    """Everything measured on this machine."""

    machine: Machine
    device: str
    """``cpu`` or ``cuda``."""
    threads: int
    report: Report
    race: Mapping[int, float]
    """Speed over one thread, by number of threads."""
    other: Report | None = None
    """Products in the library that was not chosen."""
    watts: float | None = None
    """Mean power of the package while it was measured [W]."""
    seconds: float = 0.0
    """Duration of the whole measurement."""
    remarks: tuple[str, ...] = ()
    """What went otherwise than planned."""


def training_environment(threads: int) -> dict[str, str]:
    """The variables under which this machine is measured, and under which training reaches what was measured.

    Idle threads sleep, for spinning ones cost a shared machine dearly (a small training step was measured 33 times
    slower). glibc keeps freed memory, for otherwise every tensor of more than 32 MiB is mapped and cleared anew,
    at about 5 GB/s.
    """
    count = str(threads)
    names = (
        "OMP_NUM_THREADS",
        "MKL_NUM_THREADS",
        "OPENBLAS_NUM_THREADS",
        "VECLIB_MAXIMUM_THREADS",
        "NUMEXPR_NUM_THREADS",
    )
    return {
        **dict.fromkeys(names, count), "OMP_WAIT_POLICY": "PASSIVE", "KMP_BLOCKTIME": "0",
        "MALLOC_MMAP_MAX_": "0", "MALLOC_TRIM_THRESHOLD_": str(2**40), "MALLOC_TOP_PAD_": str(2**26),
    }  # fmt: skip


def measure_cpu(
    machine: Machine,
    *,
    seconds: float,
    threads: int | None = None,
    progress: Progress = lambda share, text: None,
) -> Measured:
    """Measure the processor in about ``seconds``, on ``threads`` (None: as many as a race finds worth it).

    Raises:
        UsageError: ``seconds`` is out of range.
        MeasurementError: a process failed before it had timed anything.
    """
    check_seconds(seconds)
    start, energy = time.monotonic(), package_energy()
    remarks: tuple[str, ...] = ()

    def left() -> float:
        return seconds - (time.monotonic() - start)

    def show(text: str) -> None:
        progress(min(1.0 - left() / seconds, 1.0), text)

    backend = "torch" if find_spec("torch") is not None else "numpy"
    counts = thread_candidates(machine.cores) if threads is None else tuple(sorted({1, threads}))
    try:
        race = run_race(backend, counts, seconds=seconds, show=show)
    except MeasurementError as error:
        if backend == "numpy":
            raise
        # An installation of torch that does not load is no reason to know nothing of the machine.
        backend, remarks = (
            "numpy",
            (f"torch is installed but does not run, so NumPy was measured: {error.why}",),
        )
        race = run_race(backend, counts, seconds=seconds, show=show)
    speeds = race_speeds({threads: report.timings for threads, report in race.items()})
    threads = threads or chosen_threads(speeds)
    chosen = race[threads]
    useful = useful_formats(chosen.timings, FORMATS[backend])
    fastest = max(
        t.case.flops / t.best
        for t in chosen.timings
        if t.case.kind == "gemm" and t.case.number_format == "fp32"
    )
    most_flops = fastest * seconds * LONGEST_SHARE
    other = None
    if backend == "torch":
        show("products in numpy")
        gemms = [Case("gemm", "fp32", (n, n, n, 0)) for n in (256, 512, 1024) if 2 * n**3 <= most_flops]
        other = run_probe("numpy", threads, gemms, seconds=0.03 * seconds, rounds=20)
    last = machine.last_cache
    every = [
        *case_lists.copy_cases(last.size if last else 2**25, machine.memory or 2**31),
        Case("overhead", "fp32"),
        *(case_lists.delta_cases(PROCESSOR) if backend == "torch" else ()),
        *(
            case
            for fmt in useful
            for case in format_cases(fmt, PROCESSOR, most_flops=most_flops, seconds=seconds)
        ),
    ]
    report = run_probe(
        backend, threads, case_lists.shuffled(every), seconds=max(left() - chosen.startup_s, 0.3 * seconds), rounds=ROUNDS,
        on_sample=lambda case: show(f"{case.kind} {case.number_format}"),
    )  # fmt: skip
    after, elapsed = package_energy(), time.monotonic() - start
    watts = (
        (after - energy) / elapsed if energy is not None and after is not None and after > energy else None
    )
    progress(1.0, "done")
    return Measured(machine=machine, device="cpu", threads=threads, report=report, race=speeds, other=other,
                    watts=watts, seconds=elapsed, remarks=remarks)  # fmt: skip


def run_race(
    backend: str, counts: Iterable[int], *, seconds: float, show: Callable[[str], None] = lambda text: None
) -> dict[int, Report]:
    """Time the kernels of a training step with each number of threads."""
    kernels = case_lists.race_cases("fp32")
    others = [
        Case(case.kind, fmt, case.dims)
        for fmt in FORMATS[backend][1:]
        for case in kernels
        if case.kind == "gemm"
    ]
    race = {}
    for threads in counts:
        text = f"race: {threads} thread{'s' * (threads > 1)}"
        show(text)
        race[threads] = run_probe(
            backend, threads, (*kernels, *others), seconds=RACE_SHARE * seconds, rounds=40,
            on_sample=lambda _, text=text: show(text),
        )  # fmt: skip
    return race


def format_cases(number_format: str, sizes: Sizes, *, most_flops: float, seconds: float) -> tuple[Case, ...]:
    """Products, attention and memory-bound kernels of a format, as many as ``seconds`` allow."""
    step = round(FULL_SECONDS / min(max(seconds, FULL_SECONDS / 4), FULL_SECONDS))
    return (
        *case_lists.gemm_cases(number_format, sizes, most_flops=most_flops)[::step],
        *case_lists.attention_cases(number_format, sizes, most_flops=most_flops)[::step],
        *case_lists.pointwise_cases(number_format, replace(sizes, rows=sizes.rows[::step])),
    )


def check_seconds(seconds: float) -> None:
    """Refuse a time budget that measures nothing or takes for ever.

    Raises:
        UsageError: it is outside 5 to 600 s.
    """
    if not MIN_SECONDS <= seconds <= MAX_SECONDS:
        raise UsageError(
            f"seconds (={seconds:g}) is out of range",
            f"a measurement takes {MIN_SECONDS:g} to {MAX_SECONDS:g} seconds", "try: --seconds 40",
        )  # fmt: skip


def thread_candidates(cores: int) -> tuple[int, ...]:
    """Numbers of threads worth a race: one, a quarter, half and all of the physical cores."""
    return tuple(sorted({max(share, 1) for share in (1, cores // 4, cores // 2, cores)}))


def race_speeds(timings: Mapping[int, Iterable[Timing]]) -> dict[int, float]:
    """Geometric mean over the cases of the speed against the fewest threads, by median time."""
    medians = {threads: {t.case: t.median for t in found} for threads, found in timings.items()}
    base = medians[min(medians)]
    speeds = {}
    for threads, found in medians.items():
        ratios = [base[case] / found[case] for case in base if case in found and case.number_format == "fp32"]
        speeds[threads] = statistics.geometric_mean(ratios) if ratios else 0.0
    return speeds


def chosen_threads(speeds: Mapping[int, float]) -> int:
    """The most threads that each still do :data:`THREAD_WORTH` of what one does alone."""
    return max((n for n, speed in speeds.items() if speed >= THREAD_WORTH * n / min(speeds)), default=1)


def useful_formats(timings: Iterable[Timing], formats: Iterable[str]) -> tuple[str, ...]:
    """The formats whose products are worth it: fp32, and those that beat it by :data:`FORMAT_WORTH`.

    Each product is compared with the same one in fp32, which was timed in turn with it, so that a busy moment falls on
    both. A processor without instructions for bf16 emulates it, at a fraction of the speed of fp32.
    """
    best = {(t.case.number_format, t.case.dims): t.best for t in timings if t.case.kind == "gemm"}

    def gain(fmt: str) -> float:
        ratios = [
            best["fp32", dims] / s for (f, dims), s in best.items() if f == fmt and ("fp32", dims) in best
        ]
        return statistics.geometric_mean(ratios) if ratios else 0.0

    return tuple(f for f in formats if f == "fp32" or gain(f) > FORMAT_WORTH)


def run_probe(
    backend: str,
    threads: int,
    cases: Iterable[Case],
    *,
    seconds: float,
    rounds: int = ROUNDS,
    on_sample: Callable[[Case], None] = lambda case: None,
    command: tuple[str, ...] = (sys.executable, "-m", "shapewright.lab.probe"),
    grace: float = GRACE_S,
) -> Report:
    """Time cases in a process of their own for ``seconds`` after its library is loaded.

    A process that crashes or hangs after its first samples keeps them: the report has fewer timings.

    Raises:
        MeasurementError: it ended without any sample.
    """
    cases = tuple(cases)
    job = {"backend": backend, "threads": threads, "seconds": seconds, "rounds": rounds,
           "cases": [[c.kind, c.number_format, list(c.dims)] for c in cases]}  # fmt: skip
    environment = {**os.environ, **training_environment(threads)}
    samples: dict[int, list[tuple[float, float]]] = {}
    absent: dict[str, str] = {}
    library, startup = "", 0.0
    start = time.monotonic()
    with tempfile.TemporaryFile("w+") as errors:
        with subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=errors, text=True, env=environment
        ) as process:
            # Loading a library may take a minute on a cold disk.
            loading = 0.0 if backend == "numpy" else 60.0
            watchdog = threading.Timer(loading + FIRST_PATIENCE * seconds + grace, process.kill)
            watchdog.daemon = True
            watchdog.start()
            try:
                assert process.stdin is not None
                assert process.stdout is not None
                _send(process.stdin, job)
                for line in process.stdout:
                    message = _parse(line)
                    if "ready" in message:
                        library, startup = str(message["ready"]), time.monotonic() - start
                    elif "seconds" in message:
                        i = int(message["case"])
                        samples.setdefault(i, []).append((float(message["seconds"]), float(message["wall"])))
                        on_sample(cases[i])
                    elif "absent" in message:
                        case = cases[int(message["absent"])]
                        absent.setdefault(f"{case.kind}/{case.number_format}", str(message["why"]))
                code = process.wait()
            finally:
                watchdog.cancel()
                process.kill()
        errors.seek(0)
        last = errors.read().strip().splitlines()[-1:] or list(absent.values())[:1]
    if not samples:
        raise MeasurementError(
            f"{backend} with {threads} thread{'s' * (threads > 1)} timed nothing in {time.monotonic() - start:.0f} s",
            f"its process ended with code {code}" + (f": {last[0][:160]}" if last else ""),
            "try again with more time: --seconds 80; a broken library shows up with: "
            f"python -c 'import {'numpy' if backend == 'numpy' else 'torch'}'",
        )
    timings = tuple(
        Timing(case=cases[i], samples=tuple(s for s, _ in found), walls=tuple(w for _, w in found))
        for i, found in sorted(samples.items())
    )
    return Report(library=library, timings=timings, absent=absent, startup_s=startup)


def _send(stream: Any, job: dict[str, Any]) -> None:
    try:
        with stream:
            json.dump(job, stream)
    except BrokenPipeError:  # the process is gone already; its exit says why
        pass


def _parse(line: str) -> dict[str, Any]:
    """A line of the probe; libraries sometimes print others."""
    try:
        message = json.loads(line)
    except ValueError:
        return {}
    return message if isinstance(message, dict) else {}
