"""The few numbers of an accelerator that the physics of a kernel needs.

Decisions: they are nominal (vendor) values; calibrated efficiencies sit in the coefficients, so a user who sets
another bandwidth or SM count gets a proportional answer. A device without published SM count or cache takes
those of the relative its coefficients come from, scaled by peak (``cost.transfer`` says so in the source).
"""

from __future__ import annotations

from dataclasses import dataclass

from shapewright.cost.formats import kernel_format
from shapewright.errors import UnknownFigureError
from shapewright.hardware.accelerator import Accelerator

PCIE = 31e9
"""Bandwidth per direction of PCIe 4.0 x16, for devices without links of their own [B/s]."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Device:
    """Nominal rates of one accelerator in one number format."""

    peak: float
    """Dense matrix peak [FLOP/s]."""
    bandwidth: float
    """Device-memory bandwidth [B/s]."""
    slots: float
    """Units that each run one block at a time: streaming multiprocessors or compute units [1]."""
    cache: float
    """Largest cache on the way to memory [B]."""
    clock: float = 1.7e9
    """Clock of the slots [Hz]; the default (of A100 to GB300, 1.4 to 2.1 GHz) stands where none is published."""
    link: float = PCIE
    """Bandwidth to the other devices of the node, per direction [B/s]."""


def peak_of(accelerator: Accelerator, number_format: str) -> float:
    """Dense peak for a kernel format [FLOP/s].

    Raises:
        NotCoveredError: no source states a peak that this format runs against.
    """
    wanted = kernel_format(number_format)
    for key in wanted.peak:
        if key in accelerator.peak_flops:
            return accelerator.peak_flops[key].value
    return accelerator.peak(wanted.peak[0])


def device_of(
    accelerator: Accelerator,
    number_format: str,
    *,
    slots: float | None = None,
    cache: float | None = None,
) -> Device:
    """Gather the numbers; ``slots`` counts instead of its multiprocessors, ``cache`` where its own is unknown.

    Raises:
        UnknownFigureError: bandwidth or (without a stand-in) the SM count is unknown.
        NotCoveredError: the peak is.
    """
    if accelerator.memory_bandwidth is None:
        raise UnknownFigureError(
            "memory bandwidth", accelerator.name, "every kernel moves bytes", "memory_bandwidth=2TB/s"
        )
    last = accelerator.l2_capacity if accelerator.l2_capacity is not None else accelerator.last_level_cache
    count = accelerator.num_sms.value if slots is None and accelerator.num_sms is not None else slots
    if count is None:
        raise UnknownFigureError(
            "number of multiprocessors",
            accelerator.name,
            "waves of blocks are counted over them",
            "num_sms=132",
        )
    return Device(
        peak=peak_of(accelerator, number_format),
        bandwidth=accelerator.memory_bandwidth.value,
        slots=count,
        cache=last.value if last is not None else (cache or 0.0),
        clock=accelerator.clock.value if accelerator.clock is not None else 1.7e9,
        link=accelerator.scale_up.bandwidth.value if accelerator.scale_up is not None else PCIE,
    )
