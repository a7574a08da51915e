"""Layers of experts as they were measured: whole, or split over devices, by backend and library.

Decisions: rows say their backend and kernel in columns of their own, which take part in the split of the rows.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from shapewright.cost import moe
from shapewright.cost.device import Device
from shapewright.cost.family import Columns, Family, Measurements
from shapewright.cost.formats import KernelFormat
from shapewright.cost.library import ANY, BACKENDS, named
from shapewright.cost.router import HEIGHTS, Routed, routed

LIBRARIES = ("", "nongated", "min_latency", "deepgemm", "marlin", "triton", "cutlass", "flashinfer_trtllm")
"""Whose experts' kernel a backend runs, as its tables name it; the column ``kernel`` holds the place here, 0 others."""
DISTRIBUTIONS = ("balanced", "power_law_1.01", "power_law_1.2")
"""How the router of a measured layer spreads its tokens; the column holds the place in this tuple."""


def _moe(c: Mapping[str, float], device: Device, fmt: KernelFormat, x: Columns) -> NDArray[np.float64]:
    return moe.moe_time(
        c, device, fmt, tokens=x["num_tokens"], hidden=x["hidden_size"], inter=x["inter_size"] / x["moe_tp_size"],
        topk=x["topk"], experts=x["num_experts"], ep=x["moe_ep_size"],
        distribution=x["distribution"], matrices=_matrices(x), repeated=True, loads=_loads(x),
    )  # fmt: skip


def _prepared(x: Columns) -> Columns:
    """With the loads of the fullest rank, which no coefficient changes."""
    found = routed(x["num_tokens"], x["topk"], x["num_experts"], x["moe_ep_size"], x["distribution"])
    tiles = {f"tiles{i}": found.tiles[:, i] for i in range(found.tiles.shape[1])}
    return {**x, "rows": found.rows, "touched": found.touched, **tiles}


def _loads(x: Columns) -> Routed | None:
    if "touched" not in x:
        return None
    tiles = np.stack([x[f"tiles{i}"] for i in range(len(HEIGHTS))], axis=-1)
    return Routed(rows=x["rows"], touched=x["touched"], tiles=tiles)


def _moe_variant(rows: Measurements) -> NDArray[np.str_]:
    x = rows.columns
    names = np.where(x["moe_ep_size"] > 1, "parted", "whole")
    names = np.char.add(names, np.where(_matrices(x) < 3, "_plain", ""))
    # Where the backend is not known (-1) the empty name at the end counts.
    backend = np.array([*BACKENDS, ""])[x["backend"].astype(int)]
    return named(named(names, backend), np.array([*LIBRARIES, ""])[x["kernel"].astype(int)])


def _matrices(x: Columns) -> NDArray[np.float64]:
    """Products per expert: two for Nemotron's layers without a gate (width 1,856; 22 experts of 5,120).

    The tables do not say; SGLang and TensorRT-LLM run other kernels for these shapes.
    """
    plain = (x["inter_size"] == 1856) | ((x["topk"] == 22) & (x["inter_size"] == 5120))
    return np.where(plain, 2.0, 3.0)


def _moe_flops(x: Columns) -> NDArray[np.float64]:
    rows = x["num_tokens"] * x["topk"] / x["moe_ep_size"]
    return 2.0 * _matrices(x) * rows * x["hidden_size"] * x["inter_size"] / x["moe_tp_size"]


def _moe_bytes(f: KernelFormat, x: Columns) -> NDArray[np.float64]:
    rows = x["num_tokens"] * x["topk"] / x["moe_ep_size"]
    touched = np.minimum(x["num_experts"] / x["moe_ep_size"], np.maximum(rows, 1.0))
    return touched * _matrices(x) * x["hidden_size"] * x["inter_size"] / x["moe_tp_size"] * f.weight_bytes


FAMILIES = (
    Family(
        name="moe", label="moe", own_peak=True, prepare=_prepared,
        dimensions=("num_tokens", "hidden_size", "inter_size", "topk", "num_experts", "moe_tp_size", "moe_ep_size",
                    "distribution", "backend", "kernel"),
        coefficients=moe.COEFFICIENTS, time=_moe, variant=_moe_variant, flops=_moe_flops, num_bytes=_moe_bytes,
        defaults={"moe_tp_size": 1.0, "moe_ep_size": 1.0, "distribution": 0.0, "backend": ANY,
                  "kernel": ANY},
    ),
)  # fmt: skip
