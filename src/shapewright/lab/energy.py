"""Joules of a run: read where the machine counts them, else assumed from its file, else unknown.

Decisions: the packages' counters (RAPL, through Linux's powercap) count everybody's work, so a run gets the share of
its own CPU time in that of all processes; what the packages draw when idle is shared the same way. Where no counter can
be read, a machine file that states the packages' limit gives an upper bound per busy core, and its figures are marked
as assumed: such joules are seconds in another unit and cannot tell arms apart that seconds do not. Memory and the rest
of the machine are not counted. A CUDA device counts its own (NVML, from Volta on), and all of that is the run's that
has the device to itself. Nothing else is guessed.

Source: Linux kernel, Documentation/power/powercap/powercap.rst (``energy_uj``, ``max_energy_range_uj``); proc(5) for
``/proc/stat``; NVML API reference, ``nvmlDeviceGetTotalEnergyConsumption`` (mJ since the driver was loaded).
"""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from shapewright.errors import DocumentError, UsageError

POWERCAP, STAT = Path("/sys/class/powercap"), Path("/proc/stat")
MEASURED = "measured (RAPL packages, shared by CPU time)"
MEASURED_CUDA = "measured (NVML, the CUDA devices alone)"


@dataclass(frozen=True, kw_only=True, slots=True)
class Power:
    """Where joules of a ladder come from."""

    kind: str
    """``measured`` or ``assumed``, with the source."""
    watts: float | None
    """Of one busy core, where it is assumed [W]; None where a counter is read."""


def power_here(machine: str = "this", device: str = "cpu") -> Power | None:
    """What is known of this machine's power; None where nothing is.

    Args:
        machine: the file that may state it (``shapewright measure`` writes ``this.toml``).
        device: ``cpu`` or ``cuda``, where the work is done.
    """
    counter = counter_of(device)
    if counter.lap(0.0) is not None:
        return Power(kind=counter.kind, watts=None)
    from shapewright.hardware.catalog import load_accelerator

    try:
        accelerator = load_accelerator(machine)
    except (UsageError, DocumentError):
        return None
    limit = accelerator.power_cap or accelerator.tdp
    if limit is None:
        return None
    if device != "cpu":
        kind = f"assumed ({limit.value:g} W of {accelerator.name}.toml, at its limit)"
        return Power(kind=kind, watts=limit.value)
    cores = len(os.sched_getaffinity(0))
    return Power(
        kind=f"assumed ({limit.value:g} W of {accelerator.name}.toml over {cores} cores, all at their limit)",
        watts=limit.value / cores,
    )


class Counter(Protocol):
    """A counter of joules, lap by lap."""

    kind: str

    def reset(self) -> None:
        """Begin a lap: what went before is nobody's."""

    def lap(self, own_s: float) -> float | None:
        """Joules since the last call for a process that used ``own_s`` seconds of a core; None where they are unknown."""


def counter_of(device: str) -> Counter:
    """The counter of the processor's packages, or of the present CUDA device."""
    return CudaMeter(cuda_counter(device)) if device.startswith("cuda") else Meter()


class CudaMeter:
    """The counter of one CUDA device."""

    kind = MEASURED_CUDA

    def __init__(self, read: Callable[[], float] | None) -> None:
        """``read`` gives joules since some past moment; None where nothing counts them."""
        self._read = read
        self.reset()

    def reset(self) -> None:
        """Begin a lap: what went before is nobody's."""
        self._last = None if self._read is None else self._read()

    def lap(self, own_s: float) -> float | None:
        """Joules since the last call; None where they are unknown. ``own_s`` is of the processor and does not matter."""
        before = self._last
        self.reset()
        return None if before is None or self._last is None else max(self._last - before, 0.0)


def cuda_counter(device: str) -> Callable[[], float] | None:
    """What reads the joules of a CUDA device since its driver was loaded; None where nothing can."""
    try:
        import pynvml
        import torch
    except ImportError:
        return None
    try:
        pynvml.nvmlInit()
        # NVML numbers devices by itself, whatever CUDA_VISIBLE_DEVICES says.
        name = f"GPU-{torch.cuda.get_device_properties(torch.device(device)).uuid}"
        handle = pynvml.nvmlDeviceGetHandleByUUID(name)
        pynvml.nvmlDeviceGetTotalEnergyConsumption(handle)
    except (
        pynvml.NVMLError
    ):  # no driver, a device before Volta, or a slice of one, which counts nothing of its own
        return None
    return lambda: 1e-3 * pynvml.nvmlDeviceGetTotalEnergyConsumption(handle)


class Meter:
    """The counters of the packages, lap by lap."""

    kind = MEASURED

    def __init__(self, powercap: Path | None = None, stat: Path | None = None) -> None:
        self._stat = stat or STAT
        self._zones = _packages(powercap or POWERCAP)
        self._last = self._read()

    def reset(self) -> None:
        """Begin a lap: what went before is nobody's."""
        self._last = self._read()

    def lap(self, own_s: float) -> float | None:
        """Joules since the last call for a process that used ``own_s`` seconds of a core; None where they are unknown.

        Zero where the clock of the system has not moved yet.
        """
        now, before = self._read(), self._last
        if now is None or before is None:
            return None
        busy = now[1] - before[1]
        if busy <= 0:
            return 0.0
        self._last = now
        spent = sum(
            (after - was) % (top + 1) if top else max(after - was, 0)
            for after, was, top in zip(now[0], before[0], self._tops(), strict=True)
        )
        return 1e-6 * spent * min(own_s / busy, 1.0)

    def _tops(self) -> list[int]:
        return [_number(zone / "max_energy_range_uj") or 0 for zone in self._zones]

    def _read(self) -> tuple[list[int], float] | None:
        """Microjoules of every package, and the busy seconds of all cores."""
        counts = [_number(zone / "energy_uj") for zone in self._zones]
        known = [count for count in counts if count is not None]
        try:
            fields = self._stat.read_text().split("\n", 1)[0].split()[1:]
            user, nice, system, _, _, irq, soft = (int(field) for field in fields[:7])
        except (OSError, ValueError):
            return None
        if not known or len(known) < len(counts):
            return None
        return known, (user + nice + system + irq + soft) / os.sysconf("SC_CLK_TCK")


def package_energy(powercap: Path | None = None) -> float | None:
    """Joules that the processor packages counted so far; None where they cannot be read."""
    return _total(powercap, "energy_uj")


def package_limit(powercap: Path | None = None) -> float | None:
    """Watts that the processor packages may draw for long; None where they cannot be read."""
    return _total(powercap, "constraint_0_power_limit_uw")


def _total(powercap: Path | None, name: str) -> float | None:
    """A number of every package in millionths, summed; None where one is unknown."""
    found = [_number(zone / name) for zone in _packages(powercap or POWERCAP)]
    known = [number for number in found if number is not None]
    return 1e-6 * sum(known) if known and len(known) == len(found) else None


def _packages(powercap: Path) -> list[Path]:
    """The zones of whole packages; others lie inside them or span the platform."""
    found = []
    for zone in sorted(powercap.glob("intel-rapl:*")):
        try:
            if (zone / "name").read_text().startswith("package"):
                found.append(zone)
        except OSError:
            continue
    return found


def _number(path: Path) -> int | None:
    try:
        return int(path.read_text())
    except (OSError, ValueError):
        return None
