"""Which kernel to rewrite first: the operators of a model, the measured kernels that run them, and what a better one saves.

Each operator is priced by the cost model (the fastest kernel that is measured here) and looked up in the kernel book by
what is compiled apart: its family, head size, step and number format. The book says which share of the binding roof each
named kernel reaches at the size of this operator, here and one generation earlier, and which share any kernel of that
kind reaches on any device of the same maker and class. What rewriting saves is the operator's time were it brought to
that best share, over a run.

Decisions: the book holds forward kernels; a backward kernel is taken to gain as much. Products, attention, scans and
experts are looked up; passes over memory have one rate per device and are left out. Shares above one (operands still in
a cache) count as one. Both products of a layer of experts are one measured kernel. A
kernel without a gradient is a goal, not what trains today.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from shapewright.architecture.graph import build_graph
from shapewright.architecture.operator import (
    Attention,
    FourierConvolution,
    GroupedMatmul,
    Matmul,
    Operator,
    Recurrence,
    Scan,
)
from shapewright.architecture.shape import Shape
from shapewright.cost.choice import FORWARD_ONLY, SCAN_FITS
from shapewright.cost.families import family_of
from shapewright.cost.formats import kernel_format
from shapewright.errors import NotCoveredError
from shapewright.hardware.catalog import load_accelerator
from shapewright.outlook.geometry import advice
from shapewright.outlook.kernel_book import BEFORE, Entry, entries, load_book, roof_seconds
from shapewright.plan.framework import KERNELS_ALONE
from shapewright.plan.layer import price_model
from shapewright.plan.pairs import Workload
from shapewright.plan.shard import Split, shard


@dataclass(frozen=True, kw_only=True, slots=True)
class Measured:
    """One measured kernel at the size of an operator."""

    name: str
    share: float
    """Of the binding roof [1]."""
    flops_per_s: float
    """Rate at that share [FLOP/s]."""
    best_flops_per_s: float
    """Highest rate of any measured size [FLOP/s]."""
    before: str
    """The accelerator one generation earlier; empty where none is known."""
    share_before: float | None
    """Share of the same kernel there; None where it was not measured [1]."""
    forward_only: bool = False
    """It has no gradient, so it serves and cannot train."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Work:
    """One operator of a layer, or of head and embedding, with its kernels."""

    name: str
    kind: str
    """What is compiled apart: ``context_attention/128/bf16``."""
    seconds: float
    """Forward and backward of one micro-batch, over all layers, as priced [s]."""
    share_of_step: float
    roof_s: float
    """Forward time of the binding roof of one kernel [s]."""
    share_here: float | None
    """The roof over the forward time that the cost model predicts at exactly this size; None without a roof [1]."""
    kernels: tuple[Measured, ...]
    """Best first; empty where none of the kind is measured here."""
    now: float
    """Share of the best of them that has a gradient [1]."""
    best_share: float | None
    """Highest share any measured kernel of the kind reaches at this size, on devices of this maker and class [1]."""
    best_where: str
    saved: float
    """Share of this operator's time that the best share would save [1]."""
    saved_device_s: float
    """Device time over the run [s]."""
    saved_dollars: float | None


@dataclass(frozen=True, kw_only=True, slots=True)
class KernelBook:
    """The answer of ``shapewright kernels``."""

    model: str
    hardware: str
    tp: int
    micro_batch: int
    seq_len: int
    precision: str
    tokens: float
    step_s: float
    """All operators of one micro-batch on one device, forward and backward [s]."""
    work: tuple[Work, ...]
    """Largest first."""
    rewrite: tuple[str, ...]
    """Names of the operators to rewrite first, by what is saved."""
    device_s: float
    """Device time of the run by kernels alone [s]."""
    advice: tuple[str, ...]
    unmeasured: tuple[str, ...]
    """Operators without a measured kernel here."""


def kernel_book(
    shape: Shape, workload: Workload, *, tokens: float, tp: int = 1, micro_batch: int = 1
) -> KernelBook:
    """Look up the kernels of a training step of ``shape`` on one device of ``tp``.

    Raises:
        NotCoveredError: the book has no kernel of this accelerator.
    """
    cluster, accelerator = workload.cluster, workload.cluster.accelerator
    known = sorted({e.accelerator for e in load_book()})
    if accelerator.name not in known:
        raise NotCoveredError(f"{accelerator.name} has no measured kernels", f"the book holds {', '.join(known)}",
                              "name one of those")  # fmt: skip
    split = Split(tp=np.array([[tp]]))
    costs = price_model(
        shape, split, micro_batch=np.array([[micro_batch]]), seq_len=workload.seq_len, precision=workload.precision,
        framework=KERNELS_ALONE, model=workload.model, cluster=cluster,
    )  # fmt: skip
    layers = float(shape.num_layers)
    graph = build_graph(shape, batch=micro_batch, seq_len=workload.seq_len)
    seconds: dict[str, float] = {}
    forward: dict[str, float] = {}
    for place, times in ((costs.layer, layers), (costs.embedding, 1.0), (costs.head, 1.0)):
        for item in place.items:
            if item.cause != "communication":
                both = float(np.ravel(item.forward)[0] + np.ravel(item.backward)[0]) * times
                seconds[item.name] = seconds.get(item.name, 0.0) + both
                forward[item.name] = float(np.ravel(item.forward)[0])
    for table in (seconds, forward):
        for up, down in (("ffn.experts.up", "ffn.experts.down"),):
            if up in table:
                table[up] += table.pop(down)
    step = sum(seconds.values())
    repeats = tokens / (micro_batch * workload.seq_len) * tp
    price = cluster.price_per_device_hour
    operators: dict[str, Operator] = {}
    for ops in (*graph.blocks, graph.head):
        operators |= {op.name: op for op in ops}
    found, missing = [], []
    for name, op in operators.items():
        place = _kind(shard(op, Split(tp=tp)), workload)
        if place is None or not seconds.get(name):
            continue
        # A place holds the average layer: blocks that are some of the layers count for their share of them.
        share = next((float(n) / layers for ops, n in zip(graph.blocks, graph.counts, strict=True)
                      if any(o.name == name for o in ops)), 1.0)  # fmt: skip
        work = _work(name, place, seconds[name], forward[name] / share, step, repeats, accelerator.name, workload,
                     None if price is None else price.value)  # fmt: skip
        found.append(work)
        if not work.kernels:
            missing.append(name)
    found.sort(key=lambda w: -w.seconds)
    rewrite = sorted((w for w in found if w.saved > 0.005), key=lambda w: -w.saved_device_s)
    return KernelBook(
        model=shape.name, hardware=accelerator.name, tp=tp, micro_batch=micro_batch, seq_len=workload.seq_len,
        precision=workload.precision.name, tokens=tokens, step_s=step, work=tuple(found),
        rewrite=tuple(w.name for w in rewrite), device_s=step * repeats, unmeasured=tuple(missing),
        advice=tuple(advice(tuple(operators.values()), workload, tp)),
    )  # fmt: skip


@dataclass(frozen=True, kw_only=True, slots=True)
class _Kind:
    family: str
    variant: str
    number_format: str
    columns: dict[str, float]


def _kind(op: Operator, workload: Workload) -> _Kind | None:
    """Where an operator stands in the book, with the columns of its family."""
    p = workload.precision
    if isinstance(op, Matmul):
        fmt = p.other_format if op.place == "head" else p.matmul_format
        return _Kind(family="gemm", variant="", number_format=fmt, columns=_floats(m=op.m, n=op.n, k=op.k))
    if isinstance(op, GroupedMatmul):
        if op.over != "experts" or not op.name.endswith("up"):
            return None
        # The measured layer is both products; the second's width is half of a gated first's.
        whole = {"moe_tp_size": 1.0, "moe_ep_size": 1.0, "distribution": 0.0, "backend": 0.0, "kernel": 0.0}
        columns = whole | _floats(
            num_tokens=op.tokens, hidden_size=op.k, inter_size=np.asarray(op.n) / 2, topk=op.topk, num_experts=op.experts
        )  # fmt: skip
        return _Kind(family="moe", variant="whole", number_format=p.matmul_format, columns=columns)
    if isinstance(op, Attention):
        windowed = op.window is not None and np.any(np.asarray(op.window) < np.asarray(op.kv_len))
        columns = _floats(batch_size=op.batch, isl=op.q_len, num_heads=op.heads, num_key_value_heads=op.kv_heads,
                          head_dim=op.head_dim, window_size=op.window if windowed else 0)  # fmt: skip
        if float(np.ravel(op.head_dim)[0]) == 192 and float(np.ravel(op.v_head_dim)[0]) == 128:
            columns |= {"backend": 0.0}
            return _Kind(family="context_mla", variant="", number_format="bf16", columns=columns)
        variant = f"{int(np.ravel(op.head_dim)[0])}{'w' if windowed else ''}"
        return _Kind(family="context_attention", variant=variant, number_format="bf16", columns=columns)
    if isinstance(op, Scan):
        family = SCAN_FITS.get(op.kind, "gdn")
        columns = _floats(step_kind=0, batch_size=op.batch, seq_len=op.seq_len, num_k_heads=op.key_heads,
                          head_k_dim=op.key_dim, num_v_heads=op.heads, head_v_dim=op.value_dim)  # fmt: skip
        own = SCAN_FITS.get(op.kind) is not None and op.kind != "rwkv7"
        return _Kind(family=family if own else f"{op.kind} (no table)", variant="scan", number_format="bf16",
                     columns=columns)  # fmt: skip
    if isinstance(op, Recurrence | FourierConvolution):
        kind = "recurrence" if isinstance(op, Recurrence) else "long convolution"
        return _Kind(family=f"{kind} (no table)", variant="", number_format="", columns={})
    return None


def _floats(**values: Any) -> dict[str, float]:
    return {name: float(np.ravel(value)[0]) for name, value in values.items()}


def _work(
    name: str, kind: _Kind, seconds: float, forward: float, step: float, repeats: float, accelerator: str,
    workload: Workload, price: float | None,
) -> Work:  # fmt: skip
    label = "/".join(filter(None, (kind.family, kind.variant, kind.number_format)))
    common: dict[str, Any] = dict(name=name, kind=label, seconds=seconds, share_of_step=seconds / step)
    everywhere = entries(kind.family, kind.variant, kind.number_format)
    here = [e for e in everywhere if e.accelerator == accelerator]
    # Shares of parts with another balance of FLOP and bandwidth are no goal for this one.
    kin = [e for e in everywhere if _same_class(e.accelerator, accelerator)]
    if not here:
        return Work(**common, now=0.0, roof_s=0.0, share_here=None, kernels=(), best_share=None, best_where="", saved=0.0,
                    saved_device_s=0.0, saved_dollars=None)  # fmt: skip
    family, fmt = family_of(kind.family), kernel_format(kind.number_format)
    device = workload.model.device(kind.number_format)
    columns = {key: np.array([value]) for key, value in kind.columns.items()}
    roof = float(roof_seconds(family, device, fmt, columns)[0])
    flops = float(family.flops(columns)[0])
    kernels = sorted((m for e in here if (m := _measured(e, everywhere, roof, flops)) is not None),
                     key=lambda m: -m.share)  # fmt: skip
    best = max(kin, key=lambda e: _at(e, roof))
    # What trains today is the best kernel that has a gradient.
    now = next((m.share for m in kernels if not m.forward_only), 0.0)
    top = _at(best, roof)
    saved = max(1.0 - now / top, 0.0) if top > 0 and now > 0 else 0.0
    device_s = saved * seconds * repeats
    return Work(
        **common, now=now, roof_s=roof, share_here=min(roof / forward, 1.0), kernels=tuple(kernels), best_share=top,
        best_where=f"{best.kernel} on {best.accelerator}", saved=saved, saved_device_s=device_s,
        saved_dollars=None if price is None else device_s / 3600.0 * price,
    )  # fmt: skip


def _same_class(name: str, other: str) -> bool:
    a, b = load_accelerator(name), load_accelerator(other)
    return (a.vendor, a.device_class) == (b.vendor, b.device_class)


def _at(entry: Entry, roof: float) -> float:
    return min(entry.share(roof) or 0.0, 1.0)


def _measured(entry: Entry, everywhere: tuple[Entry, ...], roof: float, flops: float) -> Measured | None:
    share = _at(entry, roof)
    if share <= 0:
        return None
    before = BEFORE.get(entry.accelerator, "")
    earlier = [e for e in everywhere if e.accelerator == before and e.kernel == entry.kernel]
    same = [e for e in earlier if e.backend == entry.backend] or earlier
    return Measured(
        name=entry.name, share=share, flops_per_s=flops / roof * share, best_flops_per_s=entry.best_flops,
        before=before, share_before=max((_at(e, roof) for e in same), default=None),
        forward_only=any(word in entry.kernel for word in FORWARD_ONLY),
    )  # fmt: skip


@dataclass(frozen=True, kw_only=True, slots=True)
class Slope:
    """One kernel over the generations: share of the dense peak at its best."""

    kernel: str
    shares: dict[str, float]
    """Measured, by accelerator [1]."""
    predicted: dict[str, float]
    """By the physics fitted to other rows, on held-out ones [1]."""
    held_out: dict[str, float]
    """Measured on those held-out rows [1]."""


SLOPES = {
    "gated DeltaNet, Triton": ("gdn", "scan", ("trtllm:chunk_gated_delta_rule",)),
    "gated DeltaNet, FlashInfer": ("gdn", "scan", ("vllm:chunk_gated_delta_rule_flashinfer",)),
    "KDA, Triton": ("kda", "scan", ("sglang:chunk_kda",)),
    "KDA, FlashKDA": ("kda", "scan", ("vllm:flashkda_fwd",)),
    "attention, heads of 128": ("context_attention", "128", ("vllm:vllm_flash_attn", "vllm:vllm_flash_attn_fa3",
                                                             "vllm:vllm_flashinfer_trtllmprefill")),
    "attention, heads of 64": ("context_attention", "64", ("vllm:vllm_flash_attn", "vllm:vllm_flash_attn_fa3",
                                                           "vllm:vllm_flashinfer_trtllmprefill")),
}  # fmt: skip
"""Kernels that were measured over generations; attention's is each generation's own (FlashAttention 2, 3, then 4)."""


def slopes(
    accelerators: tuple[str, ...] = ("a100_sxm", "h100_sxm", "b200_sxm", "b300_sxm"),
) -> tuple[Slope, ...]:
    """Each kernel's best share of the peak, generation by generation."""
    found = []
    for name, (family, variant, kernels) in SLOPES.items():
        rows = [e for e in entries(family, variant, "bf16") if f"{e.backend}:{e.kernel}" in kernels]
        best = {a: max((e for e in rows if e.accelerator == a), key=lambda e: e.peak_share, default=None)
                for a in accelerators}  # fmt: skip
        found.append(
            Slope(
                kernel=name,
                shares={a: e.peak_share for a, e in best.items() if e is not None},
                predicted={
                    a: e.predicted_share for a, e in best.items() if e is not None and e.predicted_share
                },
                held_out={a: e.held_out_share for a, e in best.items() if e is not None and e.held_out_share},
            )
        )
    return tuple(found)
