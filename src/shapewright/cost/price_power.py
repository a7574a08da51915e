"""The power of a board while it runs kernels: joules of a kernel, and how much another limit changes its time."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from shapewright.cost.device import Device
from shapewright.cost.energy import Board, mean_power, slow_down, wanted_power
from shapewright.errors import UnknownFigureError
from shapewright.hardware.accelerator import Accelerator
from shapewright.hardware.calibration import Calibration

Array = NDArray[np.float64]


@dataclass(frozen=True, kw_only=True, slots=True)
class Kernel:
    """What a kernel asks of the board; the sizes broadcast."""

    seconds: ArrayLike
    flops: ArrayLike
    num_bytes: ArrayLike
    number_format: str
    kind: str
    """``matmul``, ``attention``, ``attention_decode``, ``moe``, ``scan`` or ``memory``."""

    def wanted(self, board: Board, device: Device) -> Array:
        """Power over idle that it would draw unlimited [W]."""
        t = np.asarray(self.seconds, np.float64)
        return wanted_power(
            board, flop_rate=np.asarray(self.flops, np.float64) / t / device.peak,
            byte_rate=np.asarray(self.num_bytes, np.float64) / t / device.bandwidth,
            number_format=self.number_format, kind=self.kind,
        )  # fmt: skip


def board_of(accelerator: Accelerator, calibration: Calibration) -> Board:
    """The board's power: fitted, or scaled from a relative's by the power per FLOP (derived).

    Raises:
        UnknownFigureError: the board's power limit is unknown.
    """
    if accelerator.tdp is None:
        raise UnknownFigureError("TDP", accelerator.name, "power is counted relative to it", "tdp=700W")
    fit = calibration.find("energy", "board")
    if fit.kind == "fitted":
        return Board(limit=fit.ranges["power_limit_w"][0], coefficients=fit.coefficients)
    return Board(limit=accelerator.tdp.value, coefficients=fit.coefficients)


def kernel_joules(accelerator: Accelerator, board: Board, device: Device, kernel: Kernel) -> Array:
    """Mean board power under the limit in force (``power_cap``, or the TDP) times the kernel's time [J]."""
    cap = accelerator.power_cap
    power = mean_power(board, kernel.wanted(board, device), cap.value if cap is not None else None)
    return power * np.asarray(kernel.seconds, np.float64)


def capped(accelerator: Accelerator) -> float | None:
    """The power cap where it is not the TDP [W]; None where nothing is capped. Above the TDP it is a question about
    hardware that does not exist."""
    cap, tdp = accelerator.power_cap, accelerator.tdp
    return cap.value if cap is not None and tdp is not None and cap.value != tdp.value else None


def slowed(board: Board, device: Device, kernel: Kernel, cap: float) -> Array:
    """The kernel's time, measured under the TDP, as it becomes under ``cap`` [s]."""
    return np.asarray(kernel.seconds) * slow_down(board, kernel.wanted(board, device), cap)
