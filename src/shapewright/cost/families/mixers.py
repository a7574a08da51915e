"""The kernels of recurrent mixers as they were measured: scans, decode steps, short convolutions."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from shapewright.cost import scan
from shapewright.cost.device import Device
from shapewright.cost.family import Columns, Family, Measurements
from shapewright.cost.formats import KernelFormat
from shapewright.cost.library import ANY, named

STEPS = ("scan", "recurrent", "conv", "conv_update", "verify")
"""The kernels of a recurrent mixer; the column ``step_kind`` holds the place in this tuple."""


def _mixer(c: Mapping[str, float], device: Device, fmt: KernelFormat, x: Columns) -> NDArray[np.float64]:
    """One kernel of a recurrent mixer; the rows are of one kind (see the variant)."""
    if x["step_kind"].size and x["step_kind"][0] == 0:
        return scan.scan_time(
            c, device, sequences=x["batch_size"], length=x["seq_len"], heads=x["num_v_heads"],
            key_dim=x["head_k_dim"], key_heads=x["num_k_heads"], value_dim=x["head_v_dim"],
        )  # fmt: skip
    width = 2.0 * x["num_k_heads"] * x["head_k_dim"] + x["num_v_heads"] * x["head_v_dim"]
    # A block of the convolution holds 256 channels of one sequence, of decode one head of one sequence.
    pieces = x["batch_size"] * np.ceil(width / 256.0)
    units = np.where(x["step_kind"] == 2, pieces, x["batch_size"] * x["num_v_heads"])
    return scan.stream_time(c, device, num_bytes=_mixer_bytes(fmt, x), units=units, sequences=x["batch_size"],
                            length=x["seq_len"], repeated=True)  # fmt: skip


def _mixer_bytes(f: KernelFormat, x: Columns) -> NDArray[np.float64]:
    tokens = x["batch_size"] * x["seq_len"]
    width = 2.0 * x["num_k_heads"] * x["head_k_dim"] + x["num_v_heads"] * x["head_v_dim"]
    state = 4.0 * x["batch_size"] * x["num_v_heads"] * x["head_k_dim"] * x["head_v_dim"]
    line = tokens * width * 2.0
    # Decode reads and writes the state; a step that verifies drafts keeps the state of each token.
    kinds = [x["step_kind"] == 1, x["step_kind"] == 4, x["step_kind"] == 0]
    return np.select(kinds, [2.0 * state + line, (1.0 + x["seq_len"]) * state + line, line], line * 2.0)


def _mixer_flops(x: Columns) -> NDArray[np.float64]:
    # Accounting of a gated delta rule per head and token: 4 C dk + 2/3 C^2 + 2 C (dk + 2 dv) + 6 dk dv.
    dk, dv, chunk = x["head_k_dim"], x["head_v_dim"], scan.CHUNK
    each = 4.0 * chunk * dk + 2.0 * chunk**2 / 3.0 + 2.0 * chunk * (dk + 2.0 * dv) + 6.0 * dk * dv
    tokens = x["batch_size"] * x["seq_len"] * x["num_v_heads"]
    return np.where(x["step_kind"] == 0, tokens * each, 0.0)


def _mixer_variant(rows: Measurements) -> NDArray[np.str_]:
    x = rows.columns
    return named(np.array(STEPS)[x["step_kind"].astype(int)], rows.library())


_MIXER = (
    "step_kind",
    "batch_size",
    "seq_len",
    "num_k_heads",
    "head_k_dim",
    "num_v_heads",
    "head_v_dim",
    "library",
)
FAMILIES = tuple(
    Family(
        name=name, label=name, dimensions=_MIXER, coefficients=scan.STREAM, time=_mixer, flops=_mixer_flops,
        num_bytes=_mixer_bytes, variant=_mixer_variant, variant_coefficients={"scan": scan.SCAN},
        defaults={"step_kind": 0.0, "library": ANY},
    )
    for name in ("gdn", "kda", "mamba2")
)  # fmt: skip
