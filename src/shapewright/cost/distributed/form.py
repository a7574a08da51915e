"""What a distributed form costs one device, and when a form cannot be."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from shapewright.errors import UsageError

Array = NDArray[Any]


@dataclass(frozen=True, kw_only=True, slots=True)
class Form:
    """One operator split over P devices in one way."""

    name: str
    seconds: Array
    """From the first device's start to the last one's end [s]."""
    compute_s: Array
    """Work of the busiest device [s]."""
    sent_bytes: Array
    """Sent by the busiest device [B]."""
    messages: Array
    """Messages that follow one another: what latency multiplies [1]."""
    held_bytes: Array
    """Operands and results that a device must hold at once [B]."""
    bound_bytes: Array
    """No algorithm with this share of the work can send less from every device [B]."""

    @property
    def exposed_s(self) -> Array:
        """Time that is not work of the busiest device [s]."""
        return self.seconds - self.compute_s

    @property
    def over_bound(self) -> Array:
        """Bytes sent over the lower bound; 1 where nothing need be sent and nothing is."""
        with np.errstate(divide="ignore", invalid="ignore"):
            ratio = self.sent_bytes / self.bound_bytes
        return np.where(self.bound_bytes > 0, ratio, np.where(self.sent_bytes > 0, np.inf, 1.0))


def floats(*values: ArrayLike) -> list[Array]:
    """All values as arrays of floats of one shape."""
    return [np.array(x) for x in np.broadcast_arrays(*(np.asarray(v, np.float64) for v in values))]


def rounds(devices: Array) -> Array:
    """Rounds of a binary tree over the devices."""
    return np.ceil(np.log2(np.maximum(devices, 1.0)) - 1e-9)


def check_split(devices: ArrayLike, parts: ArrayLike, what: str) -> None:
    """Refuse a split finer than the work.

    Raises:
        UsageError: some device would have nothing; the message says the nearest number that works.
    """
    p, most = np.max(np.asarray(devices, np.float64)), np.min(np.asarray(parts, np.float64))
    if p > most:
        raise UsageError(
            f"devices (={p:,.0f}) split {what} finer than the work",
            f"there are {most:,.0f} parts", f"nearest that works: {max(most, 1):,.0f}",
        )  # fmt: skip


def check_devices(devices: ArrayLike, root: int, name: str) -> None:
    """Refuse device counts that are no ``root``-th power of a whole number.

    Raises:
        UsageError: with the nearest count that is one.
    """
    p = np.atleast_1d(np.asarray(devices, np.float64))
    side = np.round(p ** (1.0 / root))
    wrong = p[side**root != p]
    if wrong.size:
        near = max(round(float(wrong[0]) ** (1.0 / root)), 1) ** root
        raise UsageError(
            f"devices (={wrong[0]:,.0f}) do not form the grid of {name}",
            f"it needs a whole number to the power of {root}", f"nearest that works: {near:,}",
        )  # fmt: skip
