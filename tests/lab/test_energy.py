"""Joules of a run: counted where the machine counts them, assumed where its file states a limit, else unknown."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

from shapewright.lab import energy
from shapewright.lab.energy import (
    MEASURED,
    MEASURED_CUDA,
    Meter,
    Power,
    counter_of,
    package_energy,
    package_limit,
    power_here,
)

TICK = os.sysconf("SC_CLK_TCK")


class Machine:
    """Counters that a test turns."""

    def __init__(self, root: Path) -> None:
        self.powercap, self.stat = root / "powercap", root / "stat"
        for zone, name in (
            ("intel-rapl:0", "package-0"),
            ("intel-rapl:1", "psys"),
            ("intel-rapl:0:0", "core"),
        ):
            folder = self.powercap / zone
            folder.mkdir(parents=True)
            (folder / "name").write_text(f"{name}\n")
            (folder / "max_energy_range_uj").write_text("9999999\n")
            (folder / "constraint_0_power_limit_uw").write_text("65000000\n")
        self.turn(microjoules=9_000_000, busy_s=100.0)

    def turn(self, *, microjoules: int, busy_s: float) -> None:
        for zone in self.powercap.iterdir():
            (zone / "energy_uj").write_text(f"{microjoules}\n")
        ticks = round(busy_s * TICK)
        self.stat.write_text(f"cpu  {ticks} 0 0 5 5 0 0 0 0 0\ncpu0 1 1 1 1 1 1 1 0 0 0\n")

    def meter(self) -> Meter:
        return Meter(self.powercap, self.stat)


@pytest.fixture
def machine(tmp_path: Path) -> Machine:
    return Machine(tmp_path)


def test_a_run_gets_its_share_of_the_packages(machine):
    meter = machine.meter()
    machine.turn(microjoules=9_600_000, busy_s=104.0)
    # Of four busy seconds one was the run's; the platform and the cores are not counted again.
    assert meter.lap(1.0) == pytest.approx(0.6 / 4)
    machine.turn(microjoules=200_000, busy_s=106.0)
    assert meter.lap(2.0) == pytest.approx(0.6), "the counter began again at 10 J"
    assert meter.lap(1.0) == 0.0, "the system's clock has not moved"


def test_the_platform_and_the_cores_are_not_counted_beside_the_packages(machine, tmp_path):
    assert package_energy(machine.powercap) == pytest.approx(9.0)
    assert package_limit(machine.powercap) == pytest.approx(65.0)
    second = machine.powercap / "intel-rapl:2"
    second.mkdir()
    (second / "name").write_text("package-1\n")
    assert package_limit(machine.powercap) is None, "one of two packages does not say"
    (second / "constraint_0_power_limit_uw").write_text("45000000\n")
    assert package_limit(machine.powercap) == pytest.approx(110.0)
    assert package_limit(tmp_path / "absent") is None


def test_what_cannot_be_read_is_unknown(machine, tmp_path):
    nothing = Meter(tmp_path / "absent", machine.stat)
    assert nothing.lap(1.0) is None
    meter = machine.meter()
    (machine.powercap / "intel-rapl:0" / "energy_uj").unlink()
    assert meter.lap(1.0) is None


def test_a_limit_in_the_machine_s_file_is_an_assumption(machine, tmp_path, monkeypatch):
    monkeypatch.setattr(energy, "POWERCAP", tmp_path / "absent")
    monkeypatch.chdir(tmp_path)
    assert power_here() is None, "no counter and no file"
    source = Path(energy.__file__).parents[1] / "data" / "accelerators" / "h100_sxm.toml"
    (tmp_path / "this.toml").write_text(source.read_text())
    told = power_here()
    assert told is not None
    cores = len(os.sched_getaffinity(0))
    assert told.watts == pytest.approx(700.0 / cores)
    assert told.kind.startswith("assumed (700 W")
    monkeypatch.setattr(energy, "POWERCAP", machine.powercap)
    assert power_here() == Power(kind=MEASURED, watts=None), "a counter is better than a file"


@pytest.mark.torch
@pytest.mark.parametrize("known", ["counted", "assumed", "unknown"])
def test_every_branch_states_its_joules(known, machine, tmp_path, monkeypatch):
    pytest.importorskip("torch")
    from shapewright.lab import ladder_run
    from shapewright.lab.ladder import finished, write_runs
    from shapewright.lab.rungs import Job

    (tmp_path / "text.txt").write_text("abc def ghi " * 5000)
    for name in ("runs", "checkpoints", "running"):
        (tmp_path / name).mkdir()
    power = {
        "counted": Power(kind=MEASURED, watts=None),
        "assumed": Power(kind="assumed (8 W)", watts=8.0),
    }.get(known)
    seen = iter(range(1, 10_000))

    class Turning(Meter):
        """Ten joules and ten busy seconds with every look."""

        def __init__(self) -> None:
            super().__init__(machine.powercap, machine.stat)

        def _read(self):
            look = next(seen)
            return [10_000_000 * look], 10.0 * look

        def _tops(self):
            return [0]

    monkeypatch.setattr(ladder_run, "counter_of", lambda device: Turning())
    job = Job(name="rung_8x1", role="rung", layout=(8, 1, 8), learning_rate=0.01, ratios=(2.0, 4.0))
    ladder_run.run_job(job, str(tmp_path / "text.txt"), str(tmp_path), power)
    rows = finished(tmp_path)
    write_runs(tmp_path)
    for row in rows:
        if known == "unknown":
            assert (row["joules"], row["energy"]) == (None, "")
        elif known == "assumed":
            assert row["joules"] == pytest.approx(8.0 * row["seconds"], abs=0.05)
        else:
            # Two laps, of the constant phase and of the cooldown, each its CPU seconds in ten of ten joules.
            assert row["joules"] == pytest.approx(row["seconds"], abs=0.02)
            assert row["energy"] == MEASURED
    if known != "unknown":
        assert rows[1]["joules"] > rows[0]["joules"] * 0.9


class Nvml:
    """A driver that a test turns, with the names of nvidia-ml-py."""

    class NVMLError(Exception):
        """As nvidia-ml-py raises it."""

    def __init__(self) -> None:
        self.millijoules = 5_000_000
        self.counts = True

    def nvmlInit(self) -> None:  # noqa: N802
        """Nothing to load."""

    def nvmlDeviceGetHandleByUUID(self, uuid: str) -> str:  # noqa: N802
        """The device of a name."""
        assert uuid == "GPU-1234-5678"
        return f"handle of {uuid}"

    def nvmlDeviceGetTotalEnergyConsumption(self, handle: str) -> int:  # noqa: N802
        """[mJ]"""
        assert handle == "handle of GPU-1234-5678"
        if not self.counts:
            raise self.NVMLError("Not Supported")
        return self.millijoules


@pytest.fixture
def nvml(monkeypatch: pytest.MonkeyPatch) -> Nvml:
    torch = pytest.importorskip("torch")
    found = Nvml()
    monkeypatch.setitem(sys.modules, "pynvml", found)
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda device: SimpleNamespace(uuid="1234-5678"))
    return found


@pytest.mark.torch
def test_a_cuda_device_counts_millijoules_of_its_own(nvml):
    meter = counter_of("cuda:0")
    assert meter.kind == MEASURED_CUDA
    nvml.millijoules += 2_500
    assert meter.lap(own_s=0.1) == pytest.approx(2.5), "whatever the processor did meanwhile"
    nvml.millijoules += 9_000
    meter.reset()
    nvml.millijoules += 1_000
    assert meter.lap(own_s=7.0) == pytest.approx(1.0), "what went before a lap is nobody's"


@pytest.mark.torch
def test_a_ladder_on_a_cuda_device_has_its_joules(nvml, tmp_path, monkeypatch):
    assert power_here(device="cuda") == Power(kind=MEASURED_CUDA, watts=None)
    nvml.counts = False
    monkeypatch.chdir(tmp_path)
    source = Path(energy.__file__).parents[1] / "data" / "accelerators" / "h100_sxm.toml"
    (tmp_path / "this.toml").write_text(source.read_text())
    told = power_here(device="cuda")
    assert told is not None
    assert told.watts == pytest.approx(700.0), "all of it is one run's"


@pytest.mark.torch
def test_a_cuda_device_that_counts_nothing_is_unknown(nvml, monkeypatch):
    nvml.counts = False
    assert counter_of("cuda").lap(1.0) is None
    monkeypatch.setitem(sys.modules, "pynvml", None)
    assert counter_of("cuda").lap(1.0) is None, "nvidia-ml-py is not installed"
