"""How a run trains, beside its plan: optimizer, adapters, how even its experts are, who launches its kernels."""

from __future__ import annotations

from dataclasses import dataclass, replace

from shapewright.errors import UsageError
from shapewright.plan.goodput import DEVICE_MTBF_S
from shapewright.plan.pairs import ADAMW, Workload
from shapewright.plan.precision import Precision

MASTER_FREE = 8.0
"""Bytes per parameter of two fp32 moments: what precisions count beside the master weights."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Optimizer:
    """What one optimizer keeps and moves per parameter, beside weights and master weights."""

    name: str
    label: str
    """As the answer writes it."""
    moments_bytes: float
    """[B]"""
    note: str


OPTIMIZERS = {
    o.name: o
    for o in (
        Optimizer(name="adamw", label=ADAMW, moments_bytes=8.0, note="two moments in fp32"),
        Optimizer(
            name="adamw-bf16", label="AdamW with bf16 moments", moments_bytes=4.0, note="two moments in bf16"
        ),
        Optimizer(
            name="adamw-8bit",
            label="AdamW with 8-bit moments",
            moments_bytes=2.0,
            note="two moments in 8 bits (arXiv 2110.02861)",
        ),
        Optimizer(name="lion", label="Lion", moments_bytes=4.0, note="one moment in fp32 (arXiv 2302.06675)"),
        Optimizer(
            name="sgd-momentum", label="SGD with momentum", moments_bytes=4.0, note="one moment in fp32"
        ),
        Optimizer(
            name="adafactor",
            label="Adafactor",
            moments_bytes=0.0,
            note="row and column sums, neglected (arXiv 1804.04235)",
        ),
    )
}
"""Kind: derived from each method's state; a step reads and writes it once."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Modes:
    """What the user may say about a run."""

    optimizer: str = "adamw"
    """A key of :data:`OPTIMIZERS`."""
    imbalance: float = 1.0
    """Tokens of the fullest expert-parallel rank over the mean."""
    cuda_graphs: bool = False
    """True where whole passes are replayed: the host launches nothing and waits for no count."""
    adapter_rank: int = 0
    """Rank of low-rank adapters beside frozen weights; 0 trains every weight."""
    device_mtbf_s: float = DEVICE_MTBF_S
    """Mean time between failures of a device that stop the run [s]."""


def with_optimizer(precision: Precision, optimizer: str) -> Precision:
    """A precision as published, which counts AdamW's fp32 moments, with the moments of another optimizer."""
    master = max(precision.optimizer_bytes - MASTER_FREE, 0.0)
    return replace(precision, optimizer_bytes=master + OPTIMIZERS[optimizer].moments_bytes)


def with_modes(workload: Workload, modes: Modes, hidden_size: float | None = None) -> Workload:
    """A workload of a published precision as the modes change it; ``hidden_size`` is needed for adapters only.

    Raises:
        UsageError: an optimizer that is not known, an imbalance below 1, a negative rank, or no time between failures.
    """
    if modes.optimizer not in OPTIMIZERS:
        raise UsageError(
            f"optimizer (={modes.optimizer!r}) is not known",
            f"known: {', '.join(OPTIMIZERS)}",
            "try: --optimizer adamw",
        )
    if not 1.0 <= modes.imbalance < float("inf"):
        raise UsageError(
            f"imbalance (={modes.imbalance:g}) must be at least 1",
            "it is the fullest rank over the mean",
            "try: --imbalance 1.2",
        )
    if modes.adapter_rank < 0:
        raise UsageError(
            f"lora rank (={modes.adapter_rank}) must be at least 0", "it is a rank", "try: --lora 16"
        )
    if not modes.device_mtbf_s > 0:
        raise UsageError(
            f"mtbf (={modes.device_mtbf_s:g} s) must be positive",
            "it is a time between failures",
            "try: --mtbf 50000h",
        )
    precision = with_optimizer(workload.precision, modes.optimizer)
    # Gradient read; master and moments read and written; weights written.
    traffic = precision.gradient_bytes + 2 * precision.optimizer_bytes + precision.weight_bytes
    framework = workload.framework
    if modes.cuda_graphs:
        framework = replace(framework, host_s=0.0, host_collective_s=0.0, host_experts_s=0.0)
    trainable = workload.trainable
    if modes.adapter_rank and hidden_size:
        trainable = min(2.0 * modes.adapter_rank / hidden_size, 1.0)
    return replace(
        workload,
        precision=precision,
        optimizer=OPTIMIZERS[modes.optimizer].label,
        optimizer_traffic=traffic,
        framework=framework,
        imbalance=modes.imbalance,
        device_mtbf_s=modes.device_mtbf_s,
        trainable=trainable,
        adapter_rank=modes.adapter_rank,
    )
