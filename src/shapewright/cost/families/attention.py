"""Fused attention as it was measured: prefill, decode, encoders, and the latent attention of DeepSeek.

Decisions: kernels are compiled per head size, and windows take their own path, so a fit is named ``128w.vllm.fa3``.
TensorRT-LLM decodes single heads, groups of up to ``WIDE`` and larger ones with three kernels.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from shapewright.cost import attention
from shapewright.cost.device import Device
from shapewright.cost.family import Columns, Family, Measurements
from shapewright.cost.formats import KernelFormat
from shapewright.cost.library import ANY, named
from shapewright.hardware.calibration import Fit

MLA_KEY, MLA_VALUE = 192.0, 128.0
"""Head sizes of multi-head latent attention in prefill (DeepSeek-V3)."""
MLA_RANK, MLA_LATENT = 512.0, 576.0
"""Its latent, without and with the rotary part."""
GROUPS = ("", "_single", "_wide")
"""Kernels of TensorRT-LLM by query heads per key head: up to ``WIDE``, one, more."""
WIDE = 32.0


def _attention_columns(x: Columns) -> dict[str, NDArray]:
    window = np.where(x["window_size"] > 0, x["window_size"], np.inf)
    return dict(batch=x["batch_size"], heads=x["num_heads"], kv_heads=x["num_key_value_heads"], head_dim=x["head_dim"],
                v_head_dim=x["head_dim"], window=window)  # fmt: skip


def head_variant(head_dim: NDArray, window_size: NDArray) -> NDArray[np.str_]:
    """The head size, with a ``w`` where there is a window: ``128``, ``128w``."""
    sizes = np.asarray(head_dim).astype(int).astype(str)
    return np.char.add(sizes, np.where(np.asarray(window_size) > 0, "w", ""))


def group_of(share: NDArray) -> NDArray[np.int64]:
    """The place in :data:`GROUPS` of query heads per key head."""
    return np.where(share == 1, 1, np.where(share > WIDE, 2, 0))


def serves(fit: Fit, x: Columns) -> NDArray[np.bool_]:
    """Whether a decode kernel is the one its backend runs for each row: TensorRT-LLM has one per group of heads."""
    group = GROUPS.index(next((name for name in GROUPS[1:] if fit.family.endswith(name)), ""))
    if not fit.family.partition(".")[2].startswith("trtllm"):
        return np.ones(x["num_heads"].shape, bool)
    return group_of(x["num_heads"] / np.maximum(x["num_key_value_heads"], 1.0)) == group


def _prefill_variant(rows: Measurements) -> NDArray[np.str_]:
    x = rows.columns
    return named(head_variant(x["head_dim"], x["window_size"]), rows.library())


def _decode_variant(rows: Measurements) -> NDArray[np.str_]:
    x = rows.columns
    library = rows.library()
    group = group_of(x["num_heads"] / np.maximum(x["num_key_value_heads"], 1.0))
    library = np.char.add(library, np.where(library == "trtllm", np.array(GROUPS)[group], ""))
    return named(head_variant(x["head_dim"], x["window_size"]), library)


def _prefill(c: Mapping[str, float], device: Device, fmt: KernelFormat, x: Columns) -> NDArray[np.float64]:
    return attention.prefill_time(
        c, device, q_len=x["isl"], kv_len=x["isl"], kv_bytes=fmt.weight_bytes, **_attention_columns(x)
    )


def _decode(c: Mapping[str, float], device: Device, fmt: KernelFormat, x: Columns) -> NDArray[np.float64]:
    return attention.decode_time(
        c, device, q_len=np.ones_like(x["step"]), kv_len=x["step"] + 1.0, kv_bytes=fmt.weight_bytes, repeated=True,
        **_attention_columns(x),
    )  # fmt: skip


def _prefill_flops(x: Columns) -> NDArray[np.float64]:
    window = np.where(x["window_size"] > 0, x["window_size"], np.inf)
    return (
        4.0
        * x["batch_size"]
        * x["num_heads"]
        * x["head_dim"]
        * attention.query_pairs(x["isl"], x["isl"], True, window)
    )


def _attended(x: Columns) -> NDArray[np.float64]:
    return np.minimum(x["step"] + 1.0, np.where(x["window_size"] > 0, x["window_size"] + 1.0, np.inf))


def _prefill_bytes(f: KernelFormat, x: Columns) -> NDArray[np.float64]:
    heads = 2.0 * x["num_heads"] * 2.0 + 2.0 * x["num_key_value_heads"] * f.weight_bytes
    return x["batch_size"] * x["isl"] * x["head_dim"] * heads


def _decode_bytes(f: KernelFormat, x: Columns) -> NDArray[np.float64]:
    return 2.0 * x["batch_size"] * x["num_key_value_heads"] * x["head_dim"] * _attended(x) * f.weight_bytes


def _mla_prefill(
    c: Mapping[str, float], device: Device, fmt: KernelFormat, x: Columns
) -> NDArray[np.float64]:
    return attention.prefill_time(
        c, device, batch=x["batch_size"], q_len=x["isl"], kv_len=x["isl"], heads=x["num_heads"],
        kv_heads=x["num_heads"], head_dim=MLA_KEY, v_head_dim=MLA_VALUE, kv_bytes=fmt.weight_bytes,
    )  # fmt: skip


def _mla_decode(c: Mapping[str, float], device: Device, fmt: KernelFormat, x: Columns) -> NDArray[np.float64]:
    # The latent serves as key and as value, so it is read once.
    width = fmt.weight_bytes * MLA_LATENT / (MLA_LATENT + MLA_RANK)
    return attention.decode_time(
        c, device, batch=x["batch_size"], q_len=1.0, kv_len=x["step"] + 1.0, heads=x["num_heads"], kv_heads=1.0,
        head_dim=MLA_LATENT, v_head_dim=MLA_RANK, kv_bytes=width, repeated=True,
    )  # fmt: skip


def _library_variant(rows: Measurements) -> NDArray[np.str_]:
    return rows.library()


FAMILIES = (
    Family(
        name="attention", label="context_attention",
        dimensions=("batch_size", "isl", "num_heads", "num_key_value_heads", "head_dim", "window_size",
                    "library"),
        coefficients=attention.PREFILL, variant=_prefill_variant,
        time=_prefill, flops=_prefill_flops, defaults={"window_size": 0.0, "library": ANY},
        num_bytes=_prefill_bytes,
    ),
    Family(
        name="attention_decode", label="generation_attention",
        dimensions=("batch_size", "step", "num_heads", "num_key_value_heads", "head_dim", "window_size", "backend",
                    "library"),
        coefficients=attention.DECODE, variant=_decode_variant, serves=serves, time=_decode,
        defaults={"window_size": 0.0, "backend": ANY, "library": ANY},
        flops=lambda x: 4.0 * x["batch_size"] * x["num_heads"] * x["head_dim"] * _attended(x),
        num_bytes=_decode_bytes,
    ),
    Family(
        name="encoder_attention", label="encoder_attention",
        dimensions=("batch_size", "isl", "num_heads", "head_dim"), coefficients=attention.PREFILL,
        time=lambda c, d, f, x: attention.prefill_time(
            c, d, batch=x["batch_size"], q_len=x["isl"], kv_len=x["isl"], heads=x["num_heads"],
            kv_heads=x["num_heads"], head_dim=x["head_dim"], v_head_dim=x["head_dim"], causal=False,
        ),
        variant=lambda rows: rows.columns["head_dim"].astype(int).astype(str),
        flops=lambda x: 4.0 * x["batch_size"] * x["num_heads"] * x["head_dim"] * x["isl"] ** 2,
        num_bytes=lambda f, x: 8.0 * x["batch_size"] * x["num_heads"] * x["head_dim"] * x["isl"],
    ),
    Family(
        name="mla", label="context_mla", dimensions=("batch_size", "isl", "num_heads", "backend", "library"),
        coefficients=attention.PREFILL, time=_mla_prefill, variant=_library_variant,
        defaults={"backend": ANY, "library": ANY},
        flops=lambda x: x["batch_size"] * x["num_heads"] * x["isl"] * (x["isl"] + 1.0) * (MLA_KEY + MLA_VALUE),
        num_bytes=lambda f, x: x["batch_size"] * x["num_heads"] * x["isl"] * (MLA_KEY + MLA_VALUE) * 4.0,
    ),
    Family(
        name="mla_decode", label="generation_mla", dimensions=("batch_size", "step", "num_heads", "backend", "library"),
        coefficients=attention.DECODE, time=_mla_decode, variant=_library_variant,
        defaults={"backend": ANY, "library": ANY},
        flops=lambda x: 2.0 * x["batch_size"] * x["num_heads"] * (x["step"] + 1.0) * (MLA_LATENT + MLA_RANK),
        num_bytes=lambda f, x: x["batch_size"] * (x["step"] + 1.0) * MLA_LATENT * f.weight_bytes,
    ),
)  # fmt: skip
