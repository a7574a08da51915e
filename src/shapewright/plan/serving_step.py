"""What one forward pass of a serving engine takes on its devices, by cause.

Decisions: a serving engine splits otherwise than a trainer. Attention runs on ``adp`` groups of ``tp`` devices, each
group with its own sequences; norms and residuals are computed by every device of a group; feed-forward layers see the
tokens of all groups. Experts are spread over ``ep`` and each is cut over the rest. After attention a group adds its
parts by an all-reduce; around experts the groups gather their tokens and scatter the sums (all-reduce where there is
one group). The inner all-reduce is the faster of NCCL's and the engine's own kernel. A pass works on ``batch``
sequences per group with ``new`` tokens each after ``past`` older ones. Every number may be an array; all broadcast.

Neglected: communication hidden behind computation, uneven groups, the embedding's gather over vocabulary.
"""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass, fields
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from shapewright.architecture.graph import build_graph
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
from shapewright.architecture.shape import Block, ExpertsFFN, SelfAttention, Shape
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


@dataclass(frozen=True, kw_only=True, slots=True)
class Layout:
    """How one replica of a model lies on devices, or a table of layouts when the numbers are arrays."""

    tp: Size = 1
    """Devices that share one sequence's attention."""
    pp: Size = 1
    """Pipeline stages."""
    ep: Size = 1
    """Devices that experts are spread over; each expert is cut over ``tp * adp / ep``."""
    adp: Size = 1
    """Groups that attend to different sequences (attention data parallelism)."""

    @property
    def world(self) -> Size:
        """Devices of one pipeline stage."""
        return self.tp * self.adp

    @property
    def num_devices(self) -> Size:
        """Devices of one replica."""
        return self.tp * self.adp * self.pp


@dataclass(frozen=True, kw_only=True, slots=True)
class PassCost:
    """Seconds of one pass through all layers, by what is waited for; adds up."""

    products: Array
    """Matrix products with the layers' weights, the head's included."""
    attention: Array
    """Softmax attention over the cache or the prompt."""
    experts: Array
    """Routed experts."""
    state: Array
    """Scans and recurrent states."""
    memory: Array
    """Norms, rotary, activations, residuals."""
    reduce: Array
    """All-reduces of tensor parallelism."""
    exchange: Array
    """Gathering tokens for the experts and bringing them home; sends between stages."""
    kernels: Array
    """Kernels launched, were none fused [1]."""

    @property
    def seconds(self) -> Array:
        """The sum of all causes, without the engine's constants."""
        return (self.products + self.attention + self.experts + self.state + self.memory + self.reduce
                + self.exchange)  # fmt: skip


CAUSES = tuple(f.name for f in fields(PassCost))


def price_pass(
    shape: Shape, layout: Layout, *, batch: Size, new: Size, past: Size, decode: bool, formats: ServingFormats,
    model: CostModel, cluster: Cluster, backend: str | None = None,
) -> PassCost:  # fmt: skip
    """Seconds of one pass, by cause; ``backend`` names whose kernels (``vllm``, ``sglang``, ``trtllm``) where it matters.

    Raises:
        NotCoveredError: a kernel of the model is not calibrated on this accelerator.
    """
    columns = np.broadcast_arrays(
        *(np.atleast_1d(np.asarray(x, np.float64))
          for x in (layout.tp, layout.pp, layout.ep, layout.adp, batch, new, past))
    )  # fmt: skip
    flat = [column.ravel() for column in columns]
    tp, pp, ep, adp, b, t, p = flat
    context = _Context(tp=tp, ep=ep, adp=adp, batch=b, new=t, past=p, decode=decode, formats=formats, model=model,
                       cluster=cluster, backend=backend)  # fmt: skip
    graph = build_graph(shape, batch=b, seq_len=t, mode="decode" if decode else "prefill", past_len=p)
    sums = {cause: np.zeros(b.size) for cause in CAUSES}
    for block, ops, count in zip(shape.blocks, graph.blocks, graph.counts, strict=True):
        _add_layer(sums, ops, count, shape, block, context)
    for op in graph.head:
        _add(sums, op, 1.0, context)
    sums["exchange"] = sums["exchange"] + _sends(shape, context, pp)
    return PassCost(**{cause: value.reshape(columns[0].shape) for cause, value in sums.items()})


@dataclass(frozen=True, kw_only=True, slots=True)
class _Context:
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


def _add_layer(
    sums: dict[str, Array], ops: tuple[Operator, ...], count: Size, shape: Shape, block: Block, c: _Context
) -> None:
    channel = block.channel
    experts = isinstance(channel, ExpertsFFN)
    shared_norm = isinstance(block.mixer, SelfAttention) and block.mixer.qk_norm == "full"
    for op in ops:
        if experts and (
            (isinstance(op, GroupedMatmul) and op.over == "experts") or op.name == "ffn.experts.activation"
        ):
            continue  # the experts' kernel holds routing, both products and the activation
        if experts and op.name in ("ffn.dispatch", "ffn.combine"):
            continue
        _add(sums, op, count, c, shared_norm=shared_norm)
    if isinstance(channel, ExpertsFFN):
        _add_experts(sums, count, shape, channel, c)


def _add_experts(sums: dict[str, Array], count: Size, shape: Shape, moe: ExpertsFFN, c: _Context) -> None:
    hidden = shape.hidden_size if moe.latent_size is None else moe.latent_size
    seconds = _experts(
        c, tokens=np.maximum(np.ceil(c.all_tokens), 1.0), hidden=hidden,
        inter=np.ceil(moe.ffn_size / (c.tp * c.adp / c.ep)), topk=moe.topk, experts=moe.experts,
        matrices=3 if moe.gated else 2,
    )  # fmt: skip
    sums["experts"] = sums["experts"] + count * seconds
    sums["kernels"] = sums["kernels"] + 5.0 * np.asarray(count, float)
    world = c.tp * c.adp
    size = c.all_tokens * shape.hidden_size * ACTIVATION_BYTES
    alone = c.adp <= 1
    reduce = _all_reduce(size, np.where(alone, world, 1.0), c)
    # Several groups: every device gets all tokens in the experts' input format, and adds up by a scatter.
    width = {"bf16": 1.0}.get(c.formats.experts, 0.5)
    spread = np.where(alone, 1.0, world)
    gather = _collective("all_gather", size * width, spread, c) + _collective(
        "reduce_scatter", size, spread, c
    )
    # Or a token goes only to the devices that hold its experts, and comes back from them.
    met = c.ep * (1.0 - (1.0 - 1.0 / c.ep) ** np.asarray(moe.topk, float))
    routed = _collective("all_to_all", size * met * width, spread, c) + _collective(
        "all_to_all", size * met, spread, c
    )
    exchange = np.where(c.ep == world, np.minimum(gather, routed), gather)
    sums["reduce"] = sums["reduce"] + count * reduce
    sums["exchange"] = sums["exchange"] + count * exchange


def _experts(c: _Context, *, tokens: Array, topk: Size, experts: Size, **sizes: Any) -> Array:
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


def _expert_kernels(c: _Context) -> list[str]:
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


SKEW = 1
"""The router's skew that experts are priced with: a power law of exponent 1.01, between balanced and the worst measured."""


def _add(
    sums: dict[str, Array], op: Operator, count: Size, c: _Context, *, shared_norm: bool = False
) -> None:
    cause, seconds = _seconds(op, c)
    sums[cause] = sums[cause] + count * seconds
    sums["kernels"] = sums["kernels"] + np.asarray(count, float)
    if op.name == "attention.qk_norm" and shared_norm:
        # A norm over all heads together: the devices add up their sums of squares, of queries and of keys.
        sums["reduce"] = sums["reduce"] + 2.0 * count * _all_reduce(c.tokens * 4.0, c.tp, c)
        sums["kernels"] = sums["kernels"] + 4.0 * np.asarray(count, float)
    if isinstance(op, Matmul) and op.split == "row":
        reduce = _all_reduce(c.tokens * op.n * ACTIVATION_BYTES, c.tp, c)
        sums["reduce"] = sums["reduce"] + count * reduce
        sums["kernels"] = sums["kernels"] + np.asarray(count, float)


def _seconds(op: Operator, c: _Context) -> tuple[str, Array]:
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


def _attention(op: Attention, c: _Context) -> Array:
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


def _latent(op: Attention, heads: Array, c: _Context) -> Array | None:
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
        extra = {} if decode else {"kv_heads": h}
        return np.min([time(fit.coefficients, device, batch=b, q_len=q, kv_len=kv, heads=h, **extra) for fit in own], axis=0)

    return price_unique(price, *np.broadcast_arrays(op.batch, op.q_len, np.maximum(seen, 1.0), heads))


def _scan(op: Scan, c: _Context) -> Array:
    heads = np.maximum(op.heads / c.tp, 1.0)
    if c.decode:
        # The state of every sequence is read and written once a pass, whatever the number of new tokens.
        state = 2.0 * op.batch * heads * op.key_dim * op.value_dim * STATE_BYTES
        return c.model.pointwise(np.broadcast_to(state, c.tokens.shape))
    return np.broadcast_to(
        c.model.scan(kind=op.kind, batch=op.batch, seq_len=op.seq_len, heads=heads, key_dim=op.key_dim,
                     value_dim=op.value_dim), c.tokens.shape,
    )  # fmt: skip


def _recurrence(op: Recurrence, c: _Context) -> Array:
    """One product with the recurrent matrices per token; while decoding they are read once a step."""
    units = np.maximum(op.units / c.tp, 1.0)
    return _full(
        c.model.recurrence(batch=op.batch, seq_len=op.seq_len, units=units, gates=op.gates, heads=op.heads), c
    )


def _fourier(op: FourierConvolution, c: _Context) -> Array:
    """A transform of the prompt; while decoding every token meets the whole history and the filter."""
    channels = np.maximum(op.channels / c.tp, 1.0)
    if c.decode:
        return c.model.pointwise(_full((op.batch + 1.0) * channels * c.past * ACTIVATION_BYTES, c))
    return _full(c.model.fourier(sequences=op.batch * channels, length=op.seq_len), c)


def _full(value: Any, c: _Context) -> Array:
    return np.broadcast_to(np.asarray(value, float), c.tokens.shape)


def _all_reduce(size: Array, group: Array, c: _Context) -> Array:
    """NCCL's all-reduce or, inside the scale-up domain, the engine's own one where that is faster."""
    nccl = _collective("all_reduce", size, group, c)
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


def _collective(kind: str, size: Array, group: Array, c: _Context) -> Array:
    if not c.cluster.tiers or np.max(group) <= 1:
        return np.zeros(np.broadcast_shapes(np.shape(size), np.shape(group)))
    return collective_seconds(c.model, c.cluster, kind, size, size=group)


def _sends(shape: Shape, c: _Context, pp: Array) -> Array:
    if np.max(pp) <= 1:
        return np.zeros(c.tokens.shape)
    size = c.tokens * shape.hidden_size * ACTIVATION_BYTES
    hop = collective_seconds(
        c.model,
        c.cluster,
        "send",
        size,
        size=np.where(pp > 1, 2, 1),
        stride=np.asarray(c.tp * c.adp).astype(np.int64),
    )
    return (pp - 1.0) * hop
