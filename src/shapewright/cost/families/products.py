"""Matrix products as they were measured: plain ones, and the per-head products of latent attention."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from shapewright.cost import matmul
from shapewright.cost.device import Device
from shapewright.cost.families.attention import MLA_RANK, MLA_VALUE
from shapewright.cost.family import Columns, Family, Measurements
from shapewright.cost.formats import KernelFormat
from shapewright.cost.library import ANY, named

COPIES = 5.0
"""Weights a benchmark rotates: vLLM 6, SGLang at most 6, TensorRT-LLM at most 5 (their collectors' sources)."""
SIDES = ("pre", "post")
"""The product before latent attention (queries into the latent) and after it; the column ``side`` holds the place."""


def _matmul(c: Mapping[str, float], device: Device, fmt: KernelFormat, x: Columns) -> NDArray[np.float64]:
    return matmul.matmul_time(c, device, fmt, x["m"], x["n"], x["k"], copies=COPIES)


def _heads(x: Columns) -> tuple[NDArray, NDArray, NDArray]:
    """The batch of one product per head, as one product with the heads side by side."""
    after = x["side"] == 1
    n = np.where(after, MLA_VALUE, MLA_RANK)
    return x["num_tokens"], n * x["num_heads"], np.where(after, MLA_RANK, MLA_VALUE)


def _per_head(c: Mapping[str, float], device: Device, fmt: KernelFormat, x: Columns) -> NDArray[np.float64]:
    return matmul.matmul_time(c, device, fmt, *_heads(x), copies=1.0)


def _per_head_flops(x: Columns) -> NDArray[np.float64]:
    m, n, k = _heads(x)
    return 2.0 * m * n * k


def _per_head_bytes(fmt: KernelFormat, x: Columns) -> NDArray[np.float64]:
    m, n, k = _heads(x)
    return n * k * fmt.weight_bytes + m * k * x["num_heads"] * fmt.activation_bytes + 2.0 * m * n


def _per_head_variant(rows: Measurements) -> NDArray[np.str_]:
    return named(np.array(SIDES)[rows.columns["side"].astype(int)], rows.library())


FAMILIES = (
    Family(
        name="matmul", label="gemm", own_peak=True, dimensions=("m", "n", "k"),
        coefficients=matmul.COEFFICIENTS, time=_matmul,
        flops=lambda x: 2.0 * x["m"] * x["n"] * x["k"],
        num_bytes=lambda f, x: x["m"] * x["k"] * f.activation_bytes
        + x["n"] * x["k"] * f.weight_bytes
        + 2.0 * x["m"] * x["n"],
    ),
    Family(
        name="mla_bmm", label="mla_bmm", own_peak=True, dimensions=("num_tokens", "num_heads", "side", "library"),
        coefficients=matmul.COEFFICIENTS, time=_per_head, flops=_per_head_flops, num_bytes=_per_head_bytes,
        variant=_per_head_variant, defaults={"side": 0.0, "library": ANY},
    ),
)  # fmt: skip
