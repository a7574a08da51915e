"""Pricing fused attention with the fastest measured kernel that serves each row.

Decisions: one kernel per head size, windowed or not, prefill or decode, and per backend; few distinct ones occur, so
rows are grouped by them. Only causal attention over a whole sequence was measured, so only it is corrected at the level
``residual``.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from shapewright.cost.attention import decode_time, prefill_time
from shapewright.cost.choice import attention_fits, candidates
from shapewright.cost.device import Device
from shapewright.cost.families.attention import GROUPS, serves
from shapewright.errors import NotCoveredError
from shapewright.hardware.calibration import Calibration, Fit

Array = NDArray[np.float64]
Correct = Callable[..., Array]
"""``correct(seconds, fit, **columns)``: the seconds at the wanted level."""
DECODE_QUERIES = 16
"""Up to this many queries per sequence a kernel splits the keys (decode); more is prefill."""


def fused_attention(
    calibration: Calibration, device: Device, number_format: str, width: float, correct: Correct, *flat: NDArray,
    kernel: str | None = None,
) -> Array:  # fmt: skip
    """Seconds of rows of batch, q_len, kv_len, heads, kv_heads, head_dim, v_head_dim, window (infinite for none), causal.

    ``width`` is the bytes of a cached element; ``kernel`` names the measured kernel, None takes the fastest.

    Raises:
        NotCoveredError: the named kernel was not measured for a head size.
    """
    seconds = np.empty(flat[0].size)
    few, narrow = flat[1] <= DECODE_QUERIES, flat[7] < flat[2]
    for head, windowed, decode in sorted(
        {*zip(flat[5].tolist(), narrow.tolist(), few.tolist(), strict=True)}
    ):
        rows = (flat[5] == head) & (narrow == windowed) & (few == decode)
        family = "attention_decode" if decode else "attention"
        fits = attention_fits(calibration, family, number_format, head, windowed)
        fits = candidates(fits) if kernel is None else _named(fits, kernel)
        price = _decode if decode else _prefill
        seconds[rows] = price(
            fits, device, width, correct, bool(windowed), *(column[rows] for column in flat)
        )
    return seconds


def _named(fits: tuple[Fit, ...], kernel: str) -> tuple[Fit, ...]:
    names = [fit.family.partition(".")[2] for fit in fits]
    # One backend's kernels for several groups of heads are one.
    found = tuple(
        fit for fit, name in zip(fits, names, strict=True) if name in {kernel + group for group in GROUPS}
    )
    if not found:
        raise NotCoveredError(
            f"{fits[0].family.partition('.')[0]} has no measured kernel {kernel}",
            f"measured: {', '.join(sorted(names))}",
            "choose one of these",
        )
    return found


def _columns(
    windowed: bool, b: NDArray, h: NDArray, g: NDArray, hd: NDArray, w: NDArray
) -> dict[str, NDArray]:
    window = np.where(np.isfinite(w), w, 0.0) if windowed else np.zeros_like(w)
    return dict(batch_size=b, num_heads=h, num_key_value_heads=g, head_dim=hd, window_size=window)


def _decode(
    fits: tuple[Fit, ...], device: Device, width: float, correct: Correct, windowed: bool, *flat: Any
) -> Array:
    b, q, kv, h, g, hd, vd, w, _ = flat
    shape = _columns(windowed, b, h, g, hd, w)
    times = []
    for fit in fits:
        taken = decode_time(
            fit.coefficients, device, batch=b, q_len=q, kv_len=kv, heads=h, kv_heads=g, head_dim=hd, v_head_dim=vd,
            window=w, kv_bytes=width,
        )  # fmt: skip
        taken = correct(taken, fit, step=kv - 1.0, **shape)
        times.append(np.where(serves(fit, shape), taken, np.inf))
    best = np.min(times, axis=0)
    if np.isfinite(best).all():
        return best
    # A group that no kernel was measured on takes the first one.
    first = decode_time(
        fits[0].coefficients, device, batch=b, q_len=q, kv_len=kv, heads=h, kv_heads=g, head_dim=hd, v_head_dim=vd,
        window=w, kv_bytes=width,
    )  # fmt: skip
    return np.where(np.isfinite(best), best, first)


def _prefill(
    fits: tuple[Fit, ...], device: Device, width: float, correct: Correct, windowed: bool, *flat: Any
) -> Array:
    b, q, kv, h, g, hd, vd, w, c = flat
    causal, shape = c.astype(bool), _columns(windowed, b, h, g, hd, w)
    long = [fit for fit in fits if fit.ranges.get("isl", (0.0, np.inf))[1] > DECODE_QUERIES]
    best = np.full(b.size, np.inf)
    for fit in long or fits:
        taken = prefill_time(
            fit.coefficients, device, batch=b, q_len=q, kv_len=kv, heads=h, kv_heads=g, head_dim=hd, v_head_dim=vd,
            window=w, kv_bytes=width, causal=causal,
        )  # fmt: skip
        known = causal & (q == kv)
        best = np.minimum(best, np.where(known, correct(taken, fit, isl=q, **shape), taken))
    return best
