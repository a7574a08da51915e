"""The part of an operator that one device computes under a plan.

Decisions: with sequence parallelism work outside the split matrices is cut by tokens; without it every rank of a tensor
group repeats that work and keeps its results (Korthikanti et al. 2022, arXiv 2205.05198, table 2). Context parallelism
cuts tokens everywhere; how attention is then split is ``plan.mixing``'s business. Experts see the tokens that the router
sends to them, ``topk`` per token and on the fullest rank ``imbalance`` times as many.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from shapewright.architecture.operator import (
    Attention,
    Declared,
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


@dataclass(frozen=True, kw_only=True, slots=True)
class Split:
    """The axes that cut the work inside one layer."""

    tp: Size = 1
    cp: Size = 1
    ep: Size = 1
    etp: Size = 1
    sequence_parallel: Size = 1
    """1 or 0."""
    async_tp: Size = 0
    """1 or 0."""
    context: Size = 0
    """Index into ``plan.parallel.CONTEXT``."""
    imbalance: float = 1.0
    """Tokens of the fullest expert-parallel rank over the mean."""

    @property
    def token_ranks(self) -> Size:
        """Ranks of a tensor group that hold different tokens outside the split products."""
        return np.where(np.asarray(self.sequence_parallel) > 0, self.tp, 1)


def shard(op: Operator, split: Split) -> Operator:
    """The share of ``op`` on one device. Sizes stay real numbers: padding is the kernel model's business."""
    if isinstance(op, Matmul):
        tp_n = split.tp if op.split == "column" else 1
        tp_k = split.tp if op.split == "row" else 1
        # A replicated product (the router) runs on the tokens of the sequence-parallel rank.
        tp_m = split.token_ranks if op.split == "none" else 1
        kept = split.tp if op.split == "column" else split.token_ranks
        return replace(
            op,
            m=op.m / (split.cp * tp_m),
            n=op.n / tp_n,
            k=op.k / tp_k,
            bias=op.bias / tp_n,
            saved=op.saved / (split.cp * kept),
        )
    if isinstance(op, GroupedMatmul) and op.over == "heads":
        # A product per head: tensor parallelism spreads the heads, every token meets all of them.
        return replace(
            op,
            tokens=op.tokens / split.cp,
            experts=op.experts / split.tp,
            topk=op.topk / split.tp,
            saved=op.saved / (split.cp * split.tp),
        )
    if isinstance(op, GroupedMatmul):
        etp_n = split.etp if op.split == "column" else 1
        etp_k = split.etp if op.split == "row" else 1
        return replace(
            op,
            tokens=op.tokens * split.etp * split.imbalance / (split.cp * split.tp),
            experts=op.experts / split.ep,
            n=op.n / etp_n,
            k=op.k / etp_k,
            bias=op.bias / etp_n,
            saved=op.saved * split.imbalance / (split.cp * split.tp),
        )
    if isinstance(op, Attention):
        # Fewer key-value heads than ranks are copied, so a rank never holds less than one.
        return replace(
            op,
            heads=op.heads / split.tp,
            kv_heads=np.maximum(op.kv_heads / split.tp, 1),
            saved=op.saved / (split.cp * split.tp),
        )
    if isinstance(op, Scan):
        # The chunks of a sequence follow one another inside a rank; its piece of them is the pricing's business.
        return replace(
            op,
            heads=op.heads / split.tp,
            key_heads=np.maximum(op.key_heads / split.tp, 1),
            saved=op.saved / (split.cp * split.tp),
        )
    if isinstance(op, Recurrence):
        # A rank holds its units' rows of the matrices. Where they are one block, it is a part of that block and the
        # outputs are gathered at every token. Tokens follow one another whoever computes them.
        return replace(
            op,
            units=op.units / split.tp,
            heads=op.heads / split.tp,
            bias=op.bias / split.tp,
            saved=op.saved / (split.cp * split.tp),
        )
    if isinstance(op, FourierConvolution):
        # Context parallelism trades tokens for channels before and after: whole sequences of fewer channels.
        return replace(
            op,
            channels=op.channels / (split.tp * split.cp),
            weights=op.weights / split.tp,
            saved=op.saved / (split.cp * split.tp),
        )
    if isinstance(op, Gather):
        return replace(
            op,
            tokens=op.tokens / split.cp,
            row_size=op.row_size / split.tp,
            saved=op.saved / (split.cp * split.tp),
        )
    if isinstance(op, Declared):
        # What passes nothing on cannot be split by tokens: every rank computes its heads' share of all of them.
        pieces = np.where(np.asarray(op.passed) > 0, split.cp, 1)
        return replace(
            op,
            flops=op.flops / (split.tp * pieces),
            moved=op.moved / (split.tp * pieces),
            span=np.maximum(op.span / pieces, 1.0),
            independent=np.maximum(op.independent / split.tp, 1.0),
            params=op.params / split.tp,
            saved=op.saved / (split.cp * split.tp),
        )
    return _shard_pointwise(op, split)


def _shard_pointwise(op: Pointwise, split: Split) -> Pointwise:
    # The tokens of experts are dealt to the ranks of a tensor group whether the rest of the layer is cut by tokens or not.
    by_token = split.tp if op.name.startswith(("ffn.dispatch", "ffn.experts.")) else split.token_ranks
    share = split.cp * {"features": split.tp, "sequence": by_token, "none": 1}[op.split]
    # Norm scales are copied on every rank; the embedding table is cut by vocabulary.
    weights = op.weights / split.tp if op.place == "embedding" else op.weights
    return replace(
        op, read=op.read / share, written=op.written / share, saved=op.saved / share, weights=weights
    )
