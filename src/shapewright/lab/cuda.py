"""Measuring a CUDA device in place of the processor.

Decisions: the device states its multiprocessors, memory and cache through torch, and its clock and power limit
through NVML where ``pynvml`` is installed; peaks and bandwidth are measured, as on a processor. Formats are those
the compute capability has: tf32 and bf16 from 8.0, fp8 from 8.9. The first device that CUDA_VISIBLE_DEVICES leaves
is measured. The coefficients keep the bounds of the shipped calibrations.
"""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Mapping
from datetime import date
from importlib.util import find_spec
from typing import Any

from shapewright.errors import MeasurementError
from shapewright.evidence import Figure
from shapewright.hardware.accelerator import Accelerator
from shapewright.hardware.calibration import Fit
from shapewright.lab import accelerator as processor
from shapewright.lab import cases as case_lists
from shapewright.lab.bench import Measured, Progress, check_seconds, format_cases, run_probe
from shapewright.lab.cases import GPU, Case
from shapewright.lab.fit_kernels import gpu_bounds
from shapewright.lab.machine import Machine

_PROPERTIES = """
import json, torch
found = None
if torch.cuda.is_available():
    p = torch.cuda.get_device_properties(0)
    found = {"name": p.name, "capability": [p.major, p.minor], "sms": p.multi_processor_count,
             "memory": p.total_memory, "count": torch.cuda.device_count(), "l2": getattr(p, "L2_cache_size", None)}
    try:
        import pynvml
        pynvml.nvmlInit()
        h = pynvml.nvmlDeviceGetHandleByUUID("GPU-" + str(p.uuid))
        found["power_limit_w"] = pynvml.nvmlDeviceGetEnforcedPowerLimit(h) / 1000
        found["clock_hz"] = pynvml.nvmlDeviceGetMaxClockInfo(h, pynvml.NVML_CLOCK_SM) * 1e6
    except Exception:
        pass
print(json.dumps(found))
"""


def cuda_properties() -> dict[str, Any] | None:
    """What the first CUDA device states of itself; None where torch or the device is absent."""
    if find_spec("torch") is None:
        return None
    command = (sys.executable, "-c", _PROPERTIES)
    try:
        text = subprocess.run(command, capture_output=True, text=True, timeout=120, check=True).stdout
        return json.loads(text.strip().splitlines()[-1])
    except (OSError, subprocess.SubprocessError, ValueError, IndexError):
        return None


def formats_of(capability: tuple[int, int]) -> tuple[str, ...]:
    """Formats whose products a compute capability runs on matrix units, and fp32."""
    formats = ["fp32"]
    if capability >= (8, 0):
        formats += ["tf32", "bf16"]
    if capability >= (7, 0):
        formats.append("fp16")
    if capability >= (8, 9):
        formats.append("fp8")
    return tuple(formats)


def measure_cuda(
    machine: Machine,
    properties: Mapping[str, Any],
    *,
    seconds: float,
    progress: Progress = lambda share, text: None,
) -> Measured:
    """Measure the first CUDA device in about ``seconds``.

    Raises:
        UsageError: ``seconds`` is out of range.
        MeasurementError: nothing could be timed.
    """
    check_seconds(seconds)
    start = time.monotonic()
    memory = int(properties["memory"])
    every = [*case_lists.copy_cases(int(properties["l2"] or 2**26), memory), Case("overhead", "fp32")]
    for fmt in formats_of(tuple(properties["capability"])):
        if fmt in processor.TRAINING_FORMATS:
            every += format_cases(fmt, GPU, most_flops=2e13, seconds=seconds)
        else:
            every += case_lists.gemm_cases(fmt, GPU, most_flops=2e13)
    report = run_probe(
        "cuda", 1, case_lists.shuffled(every), seconds=seconds,
        on_sample=lambda case: progress(min((time.monotonic() - start) / seconds, 1.0), f"{case.kind} {case.number_format}"),
    )  # fmt: skip
    progress(1.0, "done")
    return Measured(
        machine=machine, device="cuda", threads=1, report=report, race={}, seconds=time.monotonic() - start
    )


def describe_cuda(
    measured: Measured, properties: Mapping[str, Any], *, name: str = "this", today: date | None = None
) -> tuple[Accelerator, tuple[Fit, ...]]:
    """The device as an accelerator, and its fits.

    Raises:
        MeasurementError: too little was timed for a calibration.
    """
    source = processor.provenance(measured, today or date.today())
    rates, copies = processor.best_rates(measured), processor.copy_rates(measured.report.timings)
    if not copies or not rates:
        raise MeasurementError(
            "the measurement has no copy or no product", "they are the bandwidth and the peak of the device",
            "give it more time: --seconds 80",
        )  # fmt: skip

    def stated(key: str, unit: str, by: str) -> Figure | None:
        value = properties.get(key)
        return (
            None
            if not value
            else Figure(value=float(value), unit=unit, kind="vendor", source=f"stated by {by}")
        )

    def timed(value: float, unit: str, note: str) -> Figure:
        return Figure(value=processor.rounded(value), unit=unit, kind="measured", source=f"{source}; {note}")

    label, capability = str(properties["name"]), properties["capability"]
    device_class = "consumer" if "GeForce" in label else "workstation" if "RTX" in label else "datacenter"
    accelerator = Accelerator(
        name=name, label=label, vendor="NVIDIA", generation=f"compute capability {capability[0]}.{capability[1]}",
        device_class=device_class, release_date="unknown",
        peak_flops={
            fmt: timed(rate, "FLOP/s", "fastest product measured, so MFU is relative to it")
            for fmt, (rate, _) in rates.items()
        },
        memory_capacity=stated("memory", "B", "the CUDA driver"), l2_capacity=stated("l2", "B", "the CUDA driver"),
        num_sms=stated("sms", "1", "the CUDA driver"), clock=stated("clock_hz", "Hz", "NVML: highest clock"),
        power_cap=stated("power_limit_w", "W", "NVML: enforced power limit"),
        memory_bandwidth=timed(copies[max(copies)], "B/s", "copy far beyond the cache, read and written"),
        sources={"measurement": source},
    )  # fmt: skip
    return processor.calibrate(accelerator, measured.report.timings, gpu_bounds, backward=True, source=source)
