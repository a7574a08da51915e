"""This machine as an accelerator with its calibration, from what was measured.

Decisions: nothing is looked up and nothing is computed from a clock. The peak of a format is the fastest product
that was measured, so MFU on this machine is relative to that rate, and the source of the figure says so. A format
is listed where it was found faster than fp32 and everything that training needs was timed in it. ``num_sms`` is
the number of threads, ``l2_capacity`` the last cache, which all of them share; the bandwidth of memory is that of
a copy, read and written bytes together. Memory-bound kernels have one fit per format and one named ``bytes``, which
is that of the format that training uses by default. The power limit is that of RAPL where it can be read; else it
is unknown, and so is energy.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from datetime import date

from shapewright.cost.device import device_of
from shapewright.cost.transfer import calibrated
from shapewright.errors import MeasurementError
from shapewright.evidence import Figure
from shapewright.hardware.accelerator import Accelerator
from shapewright.hardware.calibration import Fit
from shapewright.lab import fit_kernels
from shapewright.lab.bench import Measured, Timing
from shapewright.lab.energy import package_limit
from shapewright.lab.fit_kernels import (
    Bounds,
    attention_rows,
    enough,
    fit_rows,
    gemm_rows,
    memory_rows,
    scan_rows,
)

FORMATS = ("fp32", "tf32", "bf16", "fp16", "fp8")
"""Formats a measurement may hold, widest first."""
TRAINING_FORMATS = ("bf16", "fp16", "fp32")
"""Formats of training, the default first (``plan.precision.default_precision``)."""


def describe(
    measured: Measured, *, name: str = "this", today: date | None = None
) -> tuple[Accelerator, tuple[Fit, ...]]:
    """The accelerator and its fits.

    Raises:
        MeasurementError: too little was timed for a calibration.
    """
    machine = measured.machine
    source = provenance(measured, today or date.today())

    def figure(value: float, unit: str, note: str) -> Figure:
        return Figure(value=rounded(value), unit=unit, kind="measured", source=f"{source}; {note}")

    def stated(value: float | None, unit: str, note: str) -> Figure | None:
        return None if value is None else Figure(value=value, unit=unit, kind="vendor", source=note)

    def copied() -> Figure:
        size = max(copies)
        return figure(
            copies[size], "B/s", f"copy of a working set of {size / 2**20:.0f} MiB, read and written"
        )

    rates = best_rates(measured)
    copies = copy_rates(measured.report.timings)
    if not copies or "fp32" not in rates:
        raise MeasurementError(
            "the measurement has no copy or no fp32 product",
            "they are the bandwidth and the peak of this machine", "give it more time: --seconds 80",
        )  # fmt: skip
    last, memory = machine.last_cache, machine.memory
    limit = package_limit()
    accelerator = Accelerator(
        name=name, label=f"{machine.label}, {measured.threads} of {machine.cores} cores", vendor=machine.vendor,
        generation=machine.generation, device_class="cpu", release_date="unknown",
        peak_flops={
            fmt: figure(rate, "FLOP/s", f"fastest product measured ({library}), so MFU is relative to it")
            for fmt, (rate, library) in rates.items()
        },
        memory_capacity=stated(memory, "B", f"stated by {machine.system}: memory this process may use"),
        memory_bandwidth=copied(),
        l2_capacity=stated(
            last.size if last else None, "B", f"stated by {machine.system}: level {last.level if last else '?'} cache"
        ),
        num_sms=figure(measured.threads, "1", "threads it was measured with"),
        power_cap=stated(limit, "W", "RAPL long-term limit of the packages"), sources={"measurement": source},
    )  # fmt: skip
    backward = measured.report.library.startswith("torch")
    levels = level_rates(measured, copies)
    return calibrate(
        accelerator,
        measured.report.timings,
        fit_kernels.processor_bounds,
        backward=backward,
        source=source,
        extra=levels,
    )


def calibrate(
    accelerator: Accelerator,
    timings: tuple[Timing, ...],
    bounds_of: Callable[[str], Mapping[str, Bounds]],
    *,
    backward: bool,
    source: str,
    extra: Mapping[str, float] | None = None,
) -> tuple[Accelerator, tuple[Fit, ...]]:
    """Fit every family in every format of the accelerator; it loses the formats that too little was timed of.

    ``extra`` are coefficients noted beside those of the memory-bound kernels.

    Raises:
        MeasurementError: too little was timed even in fp32.
    """
    # The cost model fills what the system does not state from a relative; the fit must see the same device.
    stand_in = calibrated(accelerator)[1]
    fits: dict[str, list[Fit]] = {}
    for fmt in accelerator.peak_flops:
        device = device_of(accelerator, fmt, slots=stand_in.slots, cache=stand_in.cache)
        families = [gemm_rows(timings, fmt)]
        if fmt in TRAINING_FORMATS:
            families += [attention_rows(timings, fmt), memory_rows(timings, fmt)]
            decode = attention_rows(timings, fmt, "decode")
            families += [decode] if enough(decode) else []
        if fmt == "fp32" or all(enough(rows) for rows in families):
            fits[fmt] = [
                fit_rows(rows, device, bounds_of(rows.family), backward=backward, source=source)
                for rows in families
            ]
    training = next(fmt for fmt in TRAINING_FORMATS if fmt in fits)
    found: list[Fit] = []
    for fmt, own in fits.items():
        for fit in own:
            if fit.family == "memory":
                fit = replace(fit, coefficients={**fit.coefficients, **(extra or {})})
                if fmt == training:
                    found.append(replace(fit, number_format="bytes"))
            found.append(fit)
    scans = scan_rows(timings)
    if enough(scans):
        device = device_of(accelerator, "fp32", slots=stand_in.slots, cache=stand_in.cache)
        found.append(fit_rows(scans, device, bounds_of("gdn/scan"), backward=backward, source=source))
    peaks = {fmt: peak for fmt, peak in accelerator.peak_flops.items() if fmt in fits}
    return replace(accelerator, peak_flops=peaks), tuple(found)


def provenance(measured: Measured, today: date) -> str:
    """When, with what and how often it was measured, for the sources of figures and fits."""
    rounds = sorted(len(t.samples) for t in measured.report.timings)
    clock = "CPU time" if measured.threads == 1 and measured.device == "cpu" else "time"
    threads = f"{measured.threads} thread{'s' * (measured.threads > 1)}"
    return (
        f"measured here on {today.isoformat()} with {measured.report.library}, {threads}, best {clock} of"
        f" {rounds[len(rounds) // 2]}, median {100 * typical_spread(measured.report.timings):.0f} % above the best"
    )


def typical_spread(timings: tuple[Timing, ...]) -> float:
    """Median over the cases of median wall time over best time, less one: how busy the machine was."""
    spreads = sorted(t.spread for t in timings if len(t.samples) > 1)
    return spreads[len(spreads) // 2] if spreads else 0.0


def best_rates(measured: Measured) -> dict[str, tuple[float, str]]:
    """Fastest product by format [FLOP/s] and the library that ran it."""
    found: dict[str, tuple[float, str]] = {}
    for report in (measured.report, measured.other):
        for t in report.timings if report is not None else ():
            if (
                t.case.kind == "gemm"
                and t.case.flops / t.best > found.get(t.case.number_format, (0.0, ""))[0]
            ):
                found[t.case.number_format] = (t.case.flops / t.best, report.library if report else "")
    return {fmt: found[fmt] for fmt in FORMATS if fmt in found}


def copy_rates(timings: tuple[Timing, ...]) -> dict[int, float]:
    """Rate of a copy [B/s] by its working set [B], smallest first."""
    copies = [t for t in timings if t.case.kind == "copy"]
    return {t.case.dims[0]: t.case.dims[0] / t.best for t in sorted(copies, key=lambda t: t.case.dims)}


def rounded(value: float) -> float:
    """Four digits: more than any timing holds."""
    return float(f"{value:.4g}")


def level_rates(measured: Measured, copies: Mapping[int, float]) -> dict[str, float]:
    """Rates of a copy inside each level of cache [B/s], the sizes of the levels [B], and the rate beyond them.

    A level's rate is the best one whose working set is larger than the level before and leaves a quarter of its own
    free.
    """
    found: dict[str, float] = {}
    below = 0
    for cache in measured.machine.caches:
        inside = [rate for size, rate in copies.items() if below < size <= 0.75 * cache.size]
        if inside:
            found |= {
                f"l{cache.level}_bytes": float(cache.size),
                f"l{cache.level}_bandwidth": rounded(max(inside)),
            }
        below = cache.size
    return {**found, "dram_bandwidth": rounded(copies[max(copies)])}
