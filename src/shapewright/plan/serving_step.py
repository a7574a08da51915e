"""What one forward pass of a serving engine takes on its devices, by cause.

Decisions: a serving engine splits otherwise than a trainer. Attention runs on ``adp`` groups of ``tp`` devices, each
group with its own sequences; norms and residuals are computed by every device of a group; feed-forward layers see the
tokens of all groups. Experts are spread over ``ep`` and each is cut over the rest. After attention a group adds its
parts by an all-reduce; around experts the groups gather their tokens and scatter the sums (all-reduce where there is
one group), or send each token only to the devices that hold its experts, whichever is faster. A pass works on ``batch``
sequences per group with ``new`` tokens each after ``past`` older ones. Every number may be an array; all broadcast.

Neglected: communication hidden behind computation, uneven groups, the embedding's gather over vocabulary.
"""

from __future__ import annotations

from dataclasses import dataclass, fields

import numpy as np
from numpy.typing import NDArray

from shapewright.architecture.graph import build_graph
from shapewright.architecture.operator import (
    GroupedMatmul,
    Matmul,
    Operator,
    Size,
)
from shapewright.architecture.shape import Block, ExpertsFFN, SelfAttention, Shape
from shapewright.cost.price import CostModel
from shapewright.hardware.cluster import Cluster
from shapewright.plan.network import collective_seconds
from shapewright.plan.serving_formats import ServingFormats
from shapewright.plan.serving_kernels import (
    ACTIVATION_BYTES,
    Context,
    all_reduce,
    collective,
    expert_seconds,
    operator_seconds,
)

Array = NDArray[np.float64]


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
    context = Context(tp=tp, ep=ep, adp=adp, batch=b, new=t, past=p, decode=decode, formats=formats, model=model,
                       cluster=cluster, backend=backend)  # fmt: skip
    graph = build_graph(shape, batch=b, seq_len=t, mode="decode" if decode else "prefill", past_len=p)
    sums = {cause: np.zeros(b.size) for cause in CAUSES}
    for block, ops, count in zip(shape.blocks, graph.blocks, graph.counts, strict=True):
        _add_layer(sums, ops, count, shape, block, context)
    for op in graph.head:
        _add(sums, op, 1.0, context)
    sums["exchange"] = sums["exchange"] + _sends(shape, context, pp)
    return PassCost(**{cause: value.reshape(columns[0].shape) for cause, value in sums.items()})


def _add_layer(
    sums: dict[str, Array], ops: tuple[Operator, ...], count: Size, shape: Shape, block: Block, c: Context
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


def _add_experts(sums: dict[str, Array], count: Size, shape: Shape, moe: ExpertsFFN, c: Context) -> None:
    hidden = shape.hidden_size if moe.latent_size is None else moe.latent_size
    seconds = expert_seconds(
        c, tokens=np.maximum(np.ceil(c.all_tokens), 1.0), hidden=hidden,
        inter=np.ceil(moe.ffn_size / (c.tp * c.adp / c.ep)), topk=moe.topk, experts=moe.experts,
        matrices=3 if moe.gated else 2,
    )  # fmt: skip
    sums["experts"] = sums["experts"] + count * seconds
    sums["kernels"] = sums["kernels"] + 5.0 * np.asarray(count, float)
    world = c.tp * c.adp
    size = c.all_tokens * shape.hidden_size * ACTIVATION_BYTES
    alone = c.adp <= 1
    reduce = all_reduce(size, np.where(alone, world, 1.0), c)
    # Several groups: every device gets all tokens in the experts' input format, and adds up by a scatter.
    width = {"bf16": 1.0}.get(c.formats.experts, 0.5)
    spread = np.where(alone, 1.0, world)
    gather = collective("all_gather", size * width, spread, c) + collective("reduce_scatter", size, spread, c)
    # Or a token goes only to the devices that hold its experts, and comes back from them.
    met = c.ep * (1.0 - (1.0 - 1.0 / c.ep) ** np.asarray(moe.topk, float))
    routed = collective("all_to_all", size * met * width, spread, c) + collective(
        "all_to_all", size * met, spread, c
    )
    exchange = np.where(c.ep == world, np.minimum(gather, routed), gather)
    sums["reduce"] = sums["reduce"] + count * reduce
    sums["exchange"] = sums["exchange"] + count * exchange


def _add(sums: dict[str, Array], op: Operator, count: Size, c: Context, *, shared_norm: bool = False) -> None:
    cause, seconds = operator_seconds(op, c)
    sums[cause] = sums[cause] + count * seconds
    sums["kernels"] = sums["kernels"] + np.asarray(count, float)
    if op.name == "attention.qk_norm" and shared_norm:
        # A norm over all heads together: the devices add up their sums of squares, of queries and of keys.
        sums["reduce"] = sums["reduce"] + 2.0 * count * all_reduce(c.tokens * 4.0, c.tp, c)
        sums["kernels"] = sums["kernels"] + 4.0 * np.asarray(count, float)
    if isinstance(op, Matmul) and op.split == "row":
        reduce = all_reduce(c.tokens * op.n * ACTIVATION_BYTES, c.tp, c)
        sums["reduce"] = sums["reduce"] + count * reduce
        sums["kernels"] = sums["kernels"] + np.asarray(count, float)


def _sends(shape: Shape, c: Context, pp: Array) -> Array:
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
