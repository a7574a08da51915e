"""Hyper-parameter transfer: multiply what was tuned on a small model when it grows.

Decisions: the rules are those of CompleteP (Dey et al. 2025, arXiv 2505.01618, table 1) for AdamW; with depth
exponent 1 they keep the best learning rate over depth as well as width, with depth multiplier 1 they are muP
(Yang et al. 2022, arXiv 2203.03466). Checked against the authors' code (EleutherAI/nanoGPT-mup, branch completep).
"""

from __future__ import annotations

from dataclasses import dataclass

from shapewright.errors import UsageError

COMPLETEP_SOURCE = "CompleteP: Dey et al. 2025 (arXiv 2505.01618, table 1)"


@dataclass(frozen=True, kw_only=True, slots=True)
class Transfer:
    """Factors from the tuned proxy to the target; multiply the proxy's values by them."""

    proxy_width: float
    """Width of the model that was tuned."""
    proxy_depth: float
    """Its layers."""
    hidden_learning_rate: float
    """Learning rate of the matrices inside the layers."""
    hidden_weight_decay: float
    """Weight decay of the same matrices: its product with the learning rate stays."""
    hidden_init_std: float
    """Initial standard deviation of the same matrices."""
    vector_learning_rate: float
    """Learning rate of norms and biases inside the layers."""
    embedding_learning_rate: float
    """Learning rate of the embedding: unchanged."""
    residual_multiplier: float
    """Factor on each layer's contribution to the residual stream."""
    logit_multiplier: float
    """Factor on the output logits."""
    epsilon: float
    """AdamW epsilon."""
    attention_scale: str
    """Scores are divided by the head size, not by its square root."""
    source: str


def completep(
    *, width: float, depth: float, proxy_width: float, proxy_depth: float, depth_exponent: float = 1.0
) -> Transfer:
    """Transfer factors from a tuned proxy of ``proxy_width`` x ``proxy_depth``.

    Args:
        depth_exponent: 1 is CompleteP, .5 the square root rule that does not transfer over depth.

    Raises:
        UsageError: a size is not positive or the exponent is outside .5 to 1.
    """
    for name, value in (
        ("width", width),
        ("depth", depth),
        ("proxy_width", proxy_width),
        ("proxy_depth", proxy_depth),
    ):
        if not value > 0:
            raise UsageError(
                f"{name} (={value:g}) is not positive", "transfer compares two models", f"give {name}"
            )
    if not 0.5 <= depth_exponent <= 1.0:
        raise UsageError(
            f"depth_exponent (={depth_exponent:g}) is outside .5 to 1",
            COMPLETEP_SOURCE,
            "use 1, which transfers over depth",
        )
    by_width, by_depth = width / proxy_width, depth / proxy_depth
    depth_rate = by_depth ** (depth_exponent - 1.0)
    return Transfer(
        proxy_width=proxy_width,
        proxy_depth=proxy_depth,
        hidden_learning_rate=depth_rate / by_width,
        hidden_weight_decay=by_width,
        hidden_init_std=by_width**-0.5,
        vector_learning_rate=depth_rate,
        embedding_learning_rate=1.0,
        residual_multiplier=by_depth**-depth_exponent,
        logit_multiplier=1.0 / by_width,
        epsilon=by_depth**-depth_exponent / by_width,
        attention_scale="1/head_dim",
        source=COMPLETEP_SOURCE
        if depth_exponent == 1.0
        else "Dey et al. 2025 (arXiv 2505.01618), other depth exponent",
    )
