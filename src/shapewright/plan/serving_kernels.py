"""Seconds of one operator of a serving pass: which measured kernel runs it, and on what share of the work.

Decisions: an engine's own kernels are taken where they were measured, else the fastest of all. A device of a group holds
a share of the heads, and copies of key heads fewer than the group. Latent attention is priced by its own kernels, expanded
over a prompt and absorbed while decoding. The inner all-reduce is the faster of NCCL's and the engine's own kernel.
"""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from shapewright.architecture.operator import (
    Attention,
    FourierConvolution,
    Gather,
    GroupedMatmul,
    Matmul,
    Operator,
    Pointwise,
    Recurrence,
    Scan,
    Size,
)
from shapewright.cost.attention import decode_time, prefill_time
from shapewright.cost.choice import formats_for
from shapewright.cost.collective import collective_time
from shapewright.cost.families.attention import MLA_KEY, MLA_LATENT, MLA_RANK, MLA_VALUE
from shapewright.cost.formats import kernel_format
from shapewright.cost.price import CostModel
from shapewright.cost.unique import price_unique
from shapewright.errors import NotCoveredError
from shapewright.hardware.cluster import Cluster
from shapewright.plan.network import collective_seconds
from shapewright.plan.serving_formats import HEAD_FORMAT, STATE_BYTES, ServingFormats

Array = NDArray[np.float64]
ACTIVATION_BYTES = 2.0
SKEW = 1
"""The router's skew that experts are priced with: a power law of exponent 1.01, between balanced and the worst measured."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Context:
    """One pass on one replica; arrays of one length."""

    tp: Array
    ep: Array
    adp: Array
    batch: Array
    new: Array
    past: Array
    decode: bool
    formats: ServingFormats
    model: CostModel
    cluster: Cluster
    backend: str | None

    @property
    def tokens(self) -> Array:
        """New tokens of one attention group."""
        return self.batch * self.new

    @property
    def all_tokens(self) -> Array:
        """New tokens of all groups."""
        return self.tokens * self.adp


def operator_seconds(op: Operator, c: Context) -> tuple[str, Array]:
    """What a device waits for in one operator, and for how long."""
    model = c.model
    if isinstance(op, Matmul):
        n = op.n / c.tp if op.split == "column" else op.n
        k = op.k / c.tp if op.split == "row" else op.k
        plain = op.place == "head" or op.name.startswith(("ffn.router", "ffn.shared.gate"))
        fmt = "ternary" if op.ternary else HEAD_FORMAT if plain else c.formats.products
        m = np.maximum(np.ceil(np.asarray(op.m, float)), 1.0)
        # Engines pad a weight to whole blocks of scales when they load it.
        block = kernel_format(fmt).block
        return "products", model.matmul(m, np.ceil(n / block) * block, np.ceil(k / block) * block, fmt)
    if isinstance(op, GroupedMatmul):
        held = np.maximum(op.experts / c.tp, 1.0)
        return "products", model.grouped_matmul(op.tokens, held, held, op.n, op.k, HEAD_FORMAT)
    if isinstance(op, Attention):
        return "attention", _attention(op, c)
    if isinstance(op, Scan):
        return "state", _scan(op, c)
    if isinstance(op, Recurrence):
        return "state", _recurrence(op, c)
    if isinstance(op, FourierConvolution):
        return "state", _fourier(op, c)
    if isinstance(op, Gather):
        return "memory", model.pointwise(_full(op.elements * ACTIVATION_BYTES, c))
    assert isinstance(op, Pointwise)
    share = c.tp if op.split == "features" else 1.0
    traffic = (op.read + op.written) / share * (op.element_bytes or ACTIVATION_BYTES)
    return "memory", model.pointwise(np.broadcast_to(traffic, c.tokens.shape))


def _attention(op: Attention, c: Context) -> Array:
    heads = np.maximum(op.heads / c.tp, 1.0)
    kv_heads = np.maximum(np.asarray(op.kv_heads / c.tp, float), 1.0)
    if np.ndim(op.head_dim) == 0 and float(op.head_dim) in (MLA_KEY, MLA_LATENT):
        latent = _latent(op, heads, c)
        if latent is not None:
            return latent
    v_head_dim = np.minimum(op.head_dim, np.maximum(op.v_head_dim, 1))
    return c.model.attention(
        batch=op.batch, q_len=op.q_len, kv_len=np.maximum(op.kv_len, op.q_len), heads=heads, kv_heads=kv_heads,
        head_dim=op.head_dim, v_head_dim=v_head_dim, causal=op.causal, window=op.window,
        number_format=c.formats.cache if c.decode else HEAD_FORMAT,
    )  # fmt: skip


def _latent(op: Attention, heads: Array, c: Context) -> Array | None:
    """Latent attention by its own kernels, expanded over a prompt and absorbed while decoding; None without a fit."""
    decode = float(op.head_dim) == MLA_LATENT
    name = "mla_decode" if decode else "mla"
    found = [fit for fit in c.model.calibration.fits if fit.family.startswith(f"{name}/")]
    same = next((same for fmt in formats_for(c.formats.cache if decode else HEAD_FORMAT)
                 if (same := [fit for fit in found if fit.number_format == fmt])), [])  # fmt: skip
    own = [fit for fit in same if fit.family.startswith(f"{name}/{c.backend}")] or same
    if not own:
        return None
    device = c.model.device(HEAD_FORMAT)
    if decode:
        # The latent serves as key and as value, so it is read once.
        width = c.formats.cache_bytes * MLA_LATENT / (MLA_LATENT + MLA_RANK)
        time = partial(decode_time, kv_heads=1.0, head_dim=MLA_LATENT, v_head_dim=MLA_RANK, kv_bytes=width)
    else:
        time = partial(prefill_time, head_dim=MLA_KEY, v_head_dim=MLA_VALUE)
    seen = op.kv_len if op.window is None else np.minimum(op.kv_len, op.window)

    def price(*flat: NDArray) -> Array:
        b, q, kv, h = flat
        extra: dict[str, Any] = {} if decode else {"kv_heads": h}
        return np.min(
            [time(fit.coefficients, device, batch=b, q_len=q, kv_len=kv, heads=h, **extra) for fit in own],
            axis=0,
        )

    return price_unique(price, *np.broadcast_arrays(op.batch, op.q_len, np.maximum(seen, 1.0), heads))


def _scan(op: Scan, c: Context) -> Array:
    heads = np.maximum(op.heads / c.tp, 1.0)
    if c.decode:
        # The state of every sequence is read and written once a pass, whatever the number of new tokens.
        state = 2.0 * op.batch * heads * op.key_dim * op.value_dim * STATE_BYTES
        return c.model.pointwise(np.broadcast_to(state, c.tokens.shape))
    return np.broadcast_to(
        c.model.scan(kind=op.kind, batch=op.batch, seq_len=op.seq_len, heads=heads, key_dim=op.key_dim,
                     value_dim=op.value_dim), c.tokens.shape,
    )  # fmt: skip


def _recurrence(op: Recurrence, c: Context) -> Array:
    """One product with the recurrent matrices per token; while decoding they are read once a step."""
    units = np.maximum(op.units / c.tp, 1.0)
    return _full(
        c.model.recurrence(batch=op.batch, seq_len=op.seq_len, units=units, gates=op.gates, heads=op.heads), c
    )


def _fourier(op: FourierConvolution, c: Context) -> Array:
    """A transform of the prompt; while decoding every token meets the whole history and the filter."""
    channels = np.maximum(op.channels / c.tp, 1.0)
    if c.decode:
        return c.model.pointwise(_full((op.batch + 1.0) * channels * c.past * ACTIVATION_BYTES, c))
    return _full(c.model.fourier(sequences=op.batch * channels, length=op.seq_len), c)


def _full(value: Any, c: Context) -> Array:
    return np.broadcast_to(np.asarray(value, float), c.tokens.shape)


def expert_seconds(c: Context, *, tokens: Array, topk: Size, experts: Size, **sizes: Any) -> Array:
    """The engine's own fastest kernel; all backends' where it has none of this format here.

    A rank of expert parallelism is priced as a layer of its own experts that its share of the tokens' choices meets:
    deployments with the same tokens run equally fast with experts spread or cut, which the skewed rows measured with
    expert parallelism (the fullest rank of a worst draw) do not.
    """
    share = topk / c.ep
    each = np.maximum(share, 1.0)
    arguments = dict(sizes, tokens=np.ceil(tokens * share / each), topk=np.round(each), experts=experts / c.ep,
                     number_format=c.formats.experts, distribution=SKEW)  # fmt: skip
    seconds = []
    for kernel in _expert_kernels(c):
        with suppress(NotCoveredError):
            seconds.append(c.model.experts(**arguments, kernel=kernel))
    return np.min(seconds, axis=0) if seconds else c.model.experts(**arguments)


def _expert_kernels(c: Context) -> list[str]:
    if c.backend is None:
        return []
    names: list[str] = []
    for wanted in formats_for(c.formats.experts):
        for fit in c.model.calibration.fits:
            name = fit.family.partition(".")[2]
            own = name.startswith(c.backend) or (c.backend == "trtllm" and name.endswith("flashinfer_trtllm"))
            if fit.family.startswith("moe/") and fit.number_format == wanted and own and name not in names:
                names.append(name)
        if names:
            break
    return names


def all_reduce(size: Array, group: Array, c: Context) -> Array:
    """NCCL's all-reduce or, inside the scale-up domain, the engine's own one where that is faster."""
    nccl = collective("all_reduce", size, group, c)
    fits = [fit for fit in c.model.calibration.fits if fit.family.startswith("custom_allreduce")]
    fits = [fit for fit in fits if fit.family.startswith(f"custom_allreduce/{c.backend}")] or fits
    if not fits or not c.cluster.tiers:
        return nccl
    inner = c.cluster.tiers[0]
    own = np.min(
        [collective_time(fit.coefficients, "all_reduce", size, group, inner.bandwidth.value) for fit in fits],
        axis=0,
    )
    return np.where(group <= inner.size, np.minimum(nccl, own), nccl)


def collective(kind: str, size: Array, group: Array, c: Context) -> Array:
    """Seconds of a collective over a group; none where there is no one to talk to."""
    if not c.cluster.tiers or np.max(group) <= 1:
        return np.zeros(np.broadcast_shapes(np.shape(size), np.shape(group)))
    return collective_seconds(c.model, c.cluster, kind, size, size=group)
