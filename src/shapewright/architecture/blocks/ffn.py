"""Feed-forward layers, dense and mixture of experts, as operators.

Decisions: the activation is kept before and after, as the product that follows needs it. The routing weights
are applied inside the experts' activation, so the experts' outputs need not be kept. Shared experts run
beside the routed ones and are added in the same pass that brings the routed tokens home.
"""

from __future__ import annotations

import numpy as np

from shapewright.architecture.blocks.pointwise import norm_operator
from shapewright.architecture.operator import GroupedMatmul, Matmul, Operator, Pointwise, Size
from shapewright.architecture.shape import DenseFFN, ExpertsFFN, Norm
from shapewright.errors import UsageError


def dense_operators(ffn: DenseFFN, width: Size, *, tokens: Size, name: str = "ffn") -> tuple[Operator, ...]:
    """Up (and gate) projection, activation, down projection."""
    up = ffn.ffn_size * (1 + int(ffn.gated))
    if ffn.monarch_blocks is not None:
        return (
            *_monarch(f"{name}.up", tokens, width, up, ffn.monarch_blocks, bias=up * int(ffn.bias)),
            Pointwise(name=f"{name}.activation", place="layer", read=tokens * up, written=tokens * ffn.ffn_size,
                      split="features", saved=tokens * ffn.ffn_size),
            *_monarch(f"{name}.down", tokens, ffn.ffn_size, width, ffn.monarch_blocks, bias=width * int(ffn.bias)),
        )  # fmt: skip
    return (
        Matmul(name=f"{name}.up", place="layer", m=tokens, n=up, k=width, split="column",
               bias=up * int(ffn.bias), saved=tokens * up),
        Pointwise(name=f"{name}.activation", place="layer", read=tokens * up, written=tokens * ffn.ffn_size,
                  split="features", saved=tokens * ffn.ffn_size),
        Matmul(name=f"{name}.down", place="layer", m=tokens, n=width, k=ffn.ffn_size, split="row",
               bias=width * int(ffn.bias)),
    )  # fmt: skip


def _monarch(name: str, tokens: Size, k: Size, n: Size, blocks: Size, *, bias: Size) -> tuple[Operator, ...]:
    """Two block-diagonal products with a permutation between them (arXiv 2204.00595, section 3.1).

    Raises:
        UsageError: the blocks do not divide both widths.
    """
    if np.any((k % blocks != 0) | (n % blocks != 0)):
        raise UsageError(
            f"monarch_blocks (={blocks}) does not divide the widths {k} and {n} of {name}",
            "every block is equally wide", f"nearest that works: {nearest_divisor(blocks, k, n)}",
        )  # fmt: skip
    inner = np.minimum(k, n)

    def factor(part: str, wide: Size, out: Size, extra: Size) -> GroupedMatmul:
        return GroupedMatmul(name=f"{name}.{part}", place="layer", tokens=tokens, experts=blocks, topk=blocks,
                             n=out // blocks, k=wide // blocks, over="heads", bias=extra // blocks,
                             saved=tokens * out)  # fmt: skip

    permuted = Pointwise(name=f"{name}.permute", place="layer", read=tokens * inner, written=tokens * inner,
                         split="features", backward_factor=1.0, exchanged=True)  # fmt: skip
    return factor("first", k, inner, 0), permuted, factor("second", inner, n, bias)


def nearest_divisor(wanted: Size, *sizes: Size) -> int:
    """The number nearest to ``wanted`` that divides every size."""
    common = int(np.gcd.reduce(np.concatenate([np.ravel(np.asarray(size, int)) for size in sizes])))
    target = float(np.ravel(wanted)[0])
    return min((d for d in range(1, common + 1) if common % d == 0), key=lambda d: abs(d - target))


def experts_operators(moe: ExpertsFFN, width: Size, *, tokens: Size, norm: Norm) -> tuple[Operator, ...]:
    """Router, dispatch, the routed experts, the shared experts, combination.

    ``norm`` is the kind of the layer's norms, for those of its own that the mixture may have.
    """
    up = moe.ffn_size * (1 + int(moe.gated))
    routed = tokens * moe.topk
    shared = _shared(moe, width, tokens)
    seen = width if moe.latent_size is None else moe.latent_size
    return (
        *_router(moe, width, tokens),
        *(_separate_norms(norm, width, tokens) if moe.separate_norms else ()),
        *_latent(moe, width, tokens, "ffn.latent_down"),
        # Permutation of the tokens to their experts.
        Pointwise(name="ffn.dispatch", place="layer", read=routed * seen, written=routed * seen,
                  saved=routed * seen),
        GroupedMatmul(name="ffn.experts.up", place="layer", tokens=tokens, experts=moe.experts,
                      topk=moe.topk, n=up, k=seen, split="column", bias=up * int(moe.bias), saved=routed * up),
        Pointwise(name="ffn.experts.activation", place="layer", read=routed * up, split="features",
                  written=routed * moe.ffn_size, saved=routed * moe.ffn_size),
        GroupedMatmul(name="ffn.experts.down", place="layer", tokens=tokens, experts=moe.experts,
                      topk=moe.topk, n=seen, k=moe.ffn_size, split="row", bias=seen * int(moe.bias)),
        *_latent(moe, width, tokens, "ffn.latent_up"),
        *shared,
        # Brings the routed tokens home, sums them over their experts and adds the shared experts' output.
        Pointwise(name="ffn.combine", place="layer", read=routed * seen + tokens * int(bool(shared)) * width,
                  written=tokens * width),
    )  # fmt: skip


def _latent(moe: ExpertsFFN, width: Size, tokens: Size, name: str) -> tuple[Operator, ...]:
    """The projection of all tokens into the experts' width, or back."""
    if moe.latent_size is None:
        return ()
    down = name.endswith("down")
    return (
        Matmul(name=name, place="layer", m=tokens, n=moe.latent_size if down else width,
               k=width if down else moe.latent_size, saved=0 if down else tokens * moe.latent_size),
    )  # fmt: skip


def _router(moe: ExpertsFFN, width: Size, tokens: Size) -> tuple[Operator, ...]:
    scores = Matmul(name="ffn.router", place="layer", m=tokens, n=moe.experts, k=width,
                    bias=moe.experts * int(moe.router_bias), saved=tokens * moe.experts)  # fmt: skip
    if not moe.separate_norms:
        return (scores,)
    scale = Pointwise(name="ffn.router_norm", place="layer", read=tokens * width, written=tokens * width,
                      weights=width + moe.experts, saved=tokens * width)  # fmt: skip
    return (scale, scores)


def _shared(moe: ExpertsFFN, width: Size, tokens: Size) -> tuple[Operator, ...]:
    if isinstance(moe.shared_ffn_size, int) and moe.shared_ffn_size == 0:
        return ()
    ffn = DenseFFN(ffn_size=moe.shared_ffn_size, gated=moe.gated)
    ops = dense_operators(ffn, width, tokens=tokens, name="ffn.shared")
    if not moe.shared_gate:
        return ops
    return (
        *ops,
        Matmul(name="ffn.shared.gate", place="layer", m=tokens, n=1, k=width, saved=tokens),
        # The gate's gradient needs the output that it scales.
        Pointwise(name="ffn.shared.gating", place="layer", read=tokens * (width + 1), written=tokens * width,
                  saved=tokens * width),
    )  # fmt: skip


def _separate_norms(norm: Norm, width: Size, tokens: Size) -> tuple[Operator, ...]:
    """Gemma 4: a norm before the routed experts, and one on the output of each of the two branches."""
    return (
        norm_operator("ffn.experts.norm", norm, tokens=tokens, width=width, keep_output=False),
        # The norms on the outputs keep what they read, which nothing else would.
        norm_operator("ffn.experts.output_norm", norm, tokens=tokens, width=width),
        norm_operator("ffn.shared.output_norm", norm, tokens=tokens, width=width),
    )
