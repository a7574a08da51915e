"""Goodput: the share of a run that is progress, between checkpoints and restarts.

Young 1974 and Daly 2006 (first order): with a mean time M between failures of the cluster, a checkpoint that holds the run
up for d and a restart that takes R, checkpoints every sqrt(2 d M) lose least: d / t to write them, t / 2 + R per failure.
Devices fail independently, so M is that of one device over their number. Checkpoints are copied to the host's memory and
written from there while training goes on; the interval is at least the time that takes. Neglected: hosts, networks
and people that fail together, and warm-up after a restart.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from shapewright.errors import UsageError
from shapewright.plan.offload import HOST_LINK

DEVICE_MTBF_S = 50_700 * 3600.0
"""Mean time between failures that stop a run, per device [s]. Kind: measured; 419 unexpected interruptions in 54 days of
16,384 H100 (Llama 3, arXiv 2407.21783, table 5)."""
RESTART_S = 600.0
"""From a failure to the next step [s]. Kind: assumed."""
STORAGE = 0.25e9
"""Bytes per second and device written to storage in the background. Kind: assumed (2 GB/s per host of eight)."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Goodput:
    """What failures cost a run."""

    share: float
    """Progress over wall-clock time [1]."""
    interval_s: float
    """Between checkpoints [s]."""
    checkpoint_s: float
    """That one holds the run up [s]."""
    cluster_mtbf_s: float
    """Between failures of any device [s]."""


def goodput(
    *,
    state_bytes: float,
    num_devices: int,
    device_mtbf_s: float = DEVICE_MTBF_S,
    restart_s: float = RESTART_S,
) -> Goodput:
    """The goodput of a run whose devices each write ``state_bytes`` at the best interval.

    Raises:
        UsageError: a time that is not positive.
    """
    if not (device_mtbf_s > 0 and restart_s >= 0):
        raise UsageError(
            f"mean time between failures (={device_mtbf_s:g} s) must be positive",
            "it divides the time that failures take",
            "try: --mtbf 50000h",
        )
    failures = device_mtbf_s / num_devices
    held_up = state_bytes / HOST_LINK
    interval = float(max(np.sqrt(2 * held_up * failures), state_bytes / STORAGE, 1e-9))
    lost = held_up / interval + (interval / 2 + restart_s) / failures
    return Goodput(
        share=1.0 / (1.0 + lost), interval_s=interval, checkpoint_s=held_up, cluster_mtbf_s=failures
    )
