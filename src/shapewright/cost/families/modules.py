"""Whole attention modules of named models, and the kernels inside sparse ones, as they were measured."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from shapewright.cost import module
from shapewright.cost.device import Device
from shapewright.cost.families.attention import MLA_KEY, MLA_LATENT, MLA_VALUE
from shapewright.cost.family import Columns, Family, Measurements
from shapewright.cost.formats import KernelFormat
from shapewright.cost.library import ANY, named

MODULES = (
    "mla_context_module", "mla_generation_module", "dsa_context_module", "dsa_generation_module",
    "dsv4_csa_context_module", "dsv4_csa_generation_module", "dsv4_hca_context_module", "dsv4_hca_generation_module",
    "msa_context_module", "msa_generation_module",
)  # fmt: skip
"""Modules with their projections."""
PARTS = (
    "dsv4_csa_topk_calib", "dsv4_hca_attn_module", "dsv4_paged_mqa_logits_module", "glm5_dsa_attn_module",
    "glm5_mqa_logits_module", "glm5_topk_module",
)  # fmt: skip
"""Kernels inside them."""
WIDE_PREFILL, WIDE_DECODE = "wideep_context_mla", "wideep_generation_mla"
"""Latent attention with its projections, as SGLang runs it beside wide expert parallelism."""


def _module(c: Mapping[str, float], device: Device, fmt: KernelFormat, x: Columns) -> NDArray[np.float64]:
    return module.module_time(
        c, device, sequences=x["batch_size"], length=x["isl"], past=x["step"], heads=x["num_heads"]
    )


def _decode(c: Mapping[str, float], device: Device, fmt: KernelFormat, x: Columns) -> NDArray[np.float64]:
    """These rows give the keys of each sequence as ``isl``, and one new token."""
    one = np.ones_like(x["isl"])
    return module.module_time(
        c, device, sequences=x["batch_size"], length=one, past=x["isl"], heads=x["num_heads"]
    )


def _module_bytes(f: KernelFormat, x: Columns) -> NDArray[np.float64]:
    """The latent keys of every sequence, read once."""
    return x["batch_size"] * (x["step"] + x["isl"]) * MLA_LATENT * f.weight_bytes


def _module_flops(x: Columns) -> NDArray[np.float64]:
    """Attention to all keys with the latent head (an upper bound for a sparse module)."""
    pairs = x["isl"] * (x["step"] + (x["isl"] + 1.0) / 2.0)
    return 2.0 * x["batch_size"] * x["num_heads"] * pairs * (MLA_KEY + MLA_VALUE)


def _variant(rows: Measurements) -> NDArray[np.str_]:
    """The model, ``q`` where its projections are in 8 bits or fewer, and the kernel."""
    kinds = np.char.add("m", rows.columns["model"].astype(int).astype(str))
    kinds = np.char.add(kinds, np.where(rows.columns["gemm_format"] > 0, "q", ""))
    return named(kinds, rows.library())


_DIMENSIONS = ("batch_size", "isl", "step", "num_heads", "model", "gemm_format")
_DEFAULTS = {"model": 0.0, "gemm_format": 0.0, "step": 0.0, "backend": ANY, "library": ANY}
FAMILIES = tuple(
    Family(
        name=name, label=name, dimensions=(*_DIMENSIONS, *(("backend",) if name in MODULES else ()), "library"),
        coefficients=module.COEFFICIENTS, variant=_variant, time=_decode if name == WIDE_DECODE else _module,
        flops=_module_flops, num_bytes=_module_bytes, defaults=_DEFAULTS,
    )
    for name in (*MODULES, *PARTS, WIDE_PREFILL, WIDE_DECODE)
)  # fmt: skip
