"""Pricing linear recurrences with the fastest measured kernel, their own or one that its library shares."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from shapewright.cost.choice import OWN_SCANS, scan_fits
from shapewright.cost.device import Device
from shapewright.cost.price_attention import Correct
from shapewright.cost.scan import scan_time, stream_time
from shapewright.cost.unique import price_unique
from shapewright.hardware.calibration import Calibration

Array = NDArray[np.float64]
SCAN_BACKWARD = {"delta": 2.75, "kda": 2.75, "rwkv7": 3.0, "gla": 3.35, "ssd": 2.3, "mlstm": 2.3}
"""Gradient of a chunked scan over its forward pass. Measured on GB200 (flash-linear-attention's README, forward and
forward with gradient): gated delta rule 1.265 and 4.738 ms, GLA 1.765 and 7.670, retention (scalar decay, as Mamba-2
and mLSTM have) .787 and 2.618. KDA is taken as the delta rule, RWKV-7 between it and GLA; assumed [1]."""
SCAN_WORK = {"rwkv7": 1.75, "gla": 1.40, "ssd": 0.37, "mlstm": 0.62}
"""Time over the borrowed kernel's. GLA and retention (scalar decay, as mLSTM has) over the gated delta rule in one
library: the same README. Mamba-2: so that the best rate on B200 is the measured one, .53 TB/s of 305 rows of its scan
(aiconfigurator's tables, TensorRT-LLM 1.3.0rc15). RWKV-7: FLOP of a chunk, see
:class:`shapewright.architecture.operator.Scan`."""
STEP_TOKENS = 16
"""Up to this many tokens per sequence the state is read and written once (decode); more is a chunked scan."""


def chunked_scan(
    calibration: Calibration, device: Device, kind: str, correct: Correct, *sizes: NDArray, gradient: bool
) -> Array:
    """Seconds of the forward pass of rows of batch, seq_len, heads, key_dim, value_dim, key_heads.

    With ``gradient`` only kernels that have one count. All kinds cut the sequence into chunks, so one without measurements
    here borrows the span of another.
    """
    fits = scan_fits(calibration, kind, "scan", gradient=gradient or kind not in OWN_SCANS)
    # A machine whose scans alone were measured prices whole sequences.
    stepped = bool(np.any(np.asarray(sizes[1]) <= STEP_TOKENS))
    steps = scan_fits(calibration, kind, "recurrent") if stepped else ()
    work = SCAN_WORK.get(kind, 1.0)

    def price(*flat: NDArray) -> Array:
        b, t, h, dk, dv, g = flat
        state = 8.0 * b * h * dk * dv + 2.0 * b * t * (2.0 * g * dk + 2.0 * h * dv)
        few = [
            stream_time(
                step.coefficients, device, num_bytes=state, units=b * h, sequences=b, length=np.ones_like(b)
            )
            for step in steps
        ]
        shape = dict(batch_size=b, seq_len=t, num_k_heads=g, head_k_dim=dk, num_v_heads=h, head_v_dim=dv)
        many = [
            correct(
                work * scan_time(fit.coefficients, device, sequences=b, length=t, heads=h, key_dim=dk, value_dim=dv,
                                 key_heads=g), fit, **shape)
            for fit in fits
        ]  # fmt: skip
        found = np.min(many, axis=0)
        return np.where(t <= STEP_TOKENS, np.min(few, axis=0), found) if steps else found

    return price_unique(price, *sizes)
