"""aiconfigurator's own predictions of serving points, where that package is installed.

Decisions: it is asked as its command line asks (``cli_estimate``) with what the row states, its newest tables
(``backend_version=None``) and no tuning; a row that it refuses has no prediction, and that is counted. It takes about a
second per row, so rows are asked in the order of a hash of their names, as many as wanted.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import replace
from hashlib import blake2b
from importlib.util import find_spec
from typing import Any

from shapewright.errors import MissingPackageError
from shapewright.validation.serving import ServedPoint

NAMES = {
    "deepseek-v3": "deepseek-ai/DeepSeek-V3", "llama-3.1-8b": "meta-llama/Meta-Llama-3.1-8B",
    "llama-3.1-70b": "meta-llama/Meta-Llama-3.1-70B", "gpt-oss-120b": "openai/gpt-oss-120b",
    "qwen3-32b": "Qwen/Qwen3-32B", "qwen3-235b-a22b": "Qwen/Qwen3-235B-A22B",
    "minimax-m2": "MiniMaxAI/MiniMax-M2.5", "kimi-k2.5": "moonshotai/Kimi-K2.5", "glm-5": "zai-org/GLM-5",
    "qwen3.5-397b-a17b": "Qwen/Qwen3.5-397B-A17B",
}  # fmt: skip
"""Checkpoints whose configuration the package holds."""


def with_peer(points: Sequence[ServedPoint], count: int) -> list[ServedPoint]:
    """The points, ``count`` of them (in hash order) with aiconfigurator's prediction where it gives one.

    Raises:
        MissingPackageError: it is not installed.
    """
    if find_spec("aiconfigurator") is None:
        raise MissingPackageError("--peer", "aiconfigurator==0.12.0", otherwise="leave out --peer")
    order = sorted(
        range(len(points)), key=lambda i: blake2b(points[i].row.id.encode(), digest_size=8).digest()
    )
    found = list(points)
    for i in order[:count]:
        found[i] = replace(points[i], peer=ask(points[i]))
    return found


def ask(point: ServedPoint) -> tuple[float, float] | None:
    """Seconds per output token and to the first, or None where it refuses."""
    from aiconfigurator.cli.api import cli_estimate

    logging.disable(logging.CRITICAL)
    try:
        result = cli_estimate(
            NAMES.get(point.row.model, point.row.model), point.row.system, **_arguments(point)
        )
    except (Exception, SystemExit):
        # Whatever it raises, it gave no prediction; its errors are of many kinds, of its own and of its engine's.
        return None
    finally:
        logging.disable(logging.NOTSET)
    values = (float(result.tpot) / 1e3, float(result.ttft) / 1e3)
    return values if min(values) > 0 else None


def _arguments(point: ServedPoint) -> dict[str, Any]:
    row = point.row
    layout = row.decode.layout
    each = {
        "tp_size": int(layout.tp), "attention_dp_size": int(layout.adp), "moe_ep_size": int(layout.ep),
        "moe_tp_size": int(layout.world) // int(layout.ep),
    }  # fmt: skip
    common: dict[str, Any] = {"backend_name": row.engine, "isl": row.isl, "osl": row.osl,
                              "gemm_quant_mode": row.products, "moe_quant_mode": row.experts}  # fmt: skip
    batch = max(round(row.concurrency / row.decode.workers / int(layout.adp)), 1)
    if row.prefill is None:
        return {**common, **each, "mode": "agg", "batch_size": batch}
    first = row.prefill.layout
    before = {
        "tp_size": int(first.tp), "attention_dp_size": int(first.adp), "moe_ep_size": int(first.ep),
        "moe_tp_size": int(first.world) // int(first.ep),
    }  # fmt: skip
    return {
        **common, **{f"decode_{k}": v for k, v in each.items()}, **{f"prefill_{k}": v for k, v in before.items()},
        "mode": "disagg", "decode_batch_size": batch, "decode_num_workers": row.decode.workers, "prefill_batch_size": 1,
        "prefill_num_workers": max(row.prefill.workers, 1),
    }  # fmt: skip
