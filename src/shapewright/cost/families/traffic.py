"""What moves bytes, as it was measured: collectives, the exchange of experts' tokens, and memory-bound kernels.

Decisions: one device's share of a node is ``RANKS`` where a table counts nodes and not devices. vLLM's dynamic scales
are a difference of two measured kernels (its collector subtracts the static one), so their errors are wide.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from shapewright.cost import bandwidth, collective, exchange
from shapewright.cost.device import Device
from shapewright.cost.family import Columns, Family, Measurements
from shapewright.cost.formats import KernelFormat
from shapewright.cost.library import ANY, named

RANKS = 8.0
"""Devices of a node."""
STREAMS = 4.0
"""Residual streams of a hyper-connected model (``hc_mult`` of DeepSeek-V4)."""


def _collective(c: Mapping[str, float], device: Device, fmt: KernelFormat, x: Columns) -> NDArray[np.float64]:
    kind = collective.KINDS[int(x["kind"][0])] if x["kind"].size else "send"
    # nccl-tests' size of an all-to-all is what one device holds.
    size = x["num_bytes"] * (x["num_gpus"] if kind == "all_to_all" else 1.0)
    return collective.collective_time(c, kind, size, x["num_gpus"], device.link)


def _exchange(c: Mapping[str, float], device: Device, fmt: KernelFormat, x: Columns) -> NDArray[np.float64]:
    return exchange.exchange_time(
        c, device.link, tokens=x["num_tokens"], hidden=x["hidden_size"], topk=x["topk"], experts=x["num_experts"],
        ranks=x["ep_size"] if "ep_size" in x else x["node_num"] * RANKS, sms=x.get("sms", 0.0),
    )  # fmt: skip


def _sent(x: Columns) -> NDArray[np.float64]:
    ranks = x["ep_size"] if "ep_size" in x else x["node_num"] * RANKS
    return x["num_tokens"] * exchange.copies_of(x["topk"], ranks) * x["hidden_size"] * 2.0


def _nothing(x: Columns) -> NDArray[np.float64]:
    return 0.0 * next(iter(x.values()))


def _mode_variant(rows: Measurements) -> NDArray[np.str_]:
    return named(np.char.add("mode", rows.columns["mode"].astype(int).astype(str)), rows.library())


def _library_variant(rows: Measurements) -> NDArray[np.str_]:
    return rows.library()


def _stream(passes: float) -> dict[str, Any]:
    return dict(
        coefficients=bandwidth.COEFFICIENTS, flops=_nothing,
        time=lambda c, d, f, x: bandwidth.pointwise_time(c, d, passes * x["m"] * x["k"], repeated=True),
        num_bytes=lambda f, x: passes * x["m"] * x["k"],
    )  # fmt: skip


def _streams_bytes(f: KernelFormat, x: Columns) -> NDArray[np.float64]:
    """The streams read, one of them written, or the other way round."""
    return 2.0 * x["num_tokens"] * x["hidden_size"] * (STREAMS + 1.0)


_EXCHANGES: dict[str, Any] = dict(
    coefficients=exchange.COEFFICIENTS, time=_exchange, flops=_nothing, num_bytes=lambda f, x: _nothing(x),
    link_bytes=_sent,
)  # fmt: skip
FAMILIES = (
    Family(
        name="collective", label="nccl", dimensions=("num_gpus", "num_bytes", "kind"),
        coefficients=collective.COEFFICIENTS, time=_collective, flops=_nothing, num_bytes=lambda f, x: _nothing(x),
        link_bytes=lambda x: (x["num_gpus"] - 1) / x["num_gpus"] * x["num_bytes"] * np.where(x["kind"] == 0, 2.0, 1.0),
    ),
    Family(
        name="custom_allreduce", label="custom_allreduce", dimensions=("num_gpus", "num_bytes", "kind", "library"),
        coefficients=collective.COEFFICIENTS, time=_collective, flops=_nothing, num_bytes=lambda f, x: _nothing(x),
        defaults={"kind": 0.0, "library": ANY}, variant=_library_variant,
        link_bytes=lambda x: (x["num_gpus"] - 1) / x["num_gpus"] * x["num_bytes"] * 2.0,
    ),
    Family(
        name="exchange", label="moe_a2a",
        dimensions=("num_tokens", "hidden_size", "topk", "ep_size", "num_experts", "mode", "library"),
        variant=_mode_variant, defaults={"library": ANY}, **_EXCHANGES,
    ),
    Family(
        name="deepep_normal", label="wideep_deepep_normal",
        dimensions=("num_tokens", "hidden_size", "topk", "node_num", "num_experts", "sms", "library"),
        variant=_library_variant, defaults={"node_num": 1.0, "sms": 0.0, "library": ANY}, **_EXCHANGES,
    ),
    Family(
        name="deepep_ll", label="wideep_deepep_ll",
        dimensions=("num_tokens", "hidden_size", "topk", "node_num", "num_experts", "library"),
        variant=_library_variant, defaults={"node_num": 1.0, "library": ANY}, **_EXCHANGES,
    ),
    Family(
        name="alltoall", label="trtllm_alltoall",
        dimensions=("num_tokens", "hidden_size", "topk", "ep_size", "num_experts", "library"),
        variant=_library_variant, defaults={"library": ANY}, **_EXCHANGES,
    ),
    Family(name="memory", label="scale_matrix", dimensions=("m", "k"), **_stream(3.0)),
    Family(name="quantise", label="computescale", dimensions=("m", "k", "library"), variant=_library_variant,
           defaults={"library": ANY}, **_stream(2.0)),
    Family(
        name="mhc", label="mhc_module", dimensions=("num_tokens", "hidden_size", "library"),
        coefficients=bandwidth.COEFFICIENTS, variant=_library_variant, defaults={"library": ANY},
        time=lambda c, d, f, x: bandwidth.pointwise_time(c, d, _streams_bytes(f, x), repeated=True),
        flops=_nothing, num_bytes=_streams_bytes,
    ),
)  # fmt: skip
