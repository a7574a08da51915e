"""What a candidate will learn: the law, and what the law's own models did not have.

Decisions: one function serves a table of candidates and one model, so that the loss in the document is the loss the
search ranked by. Mixers other than full attention shift the loss by their prior (:mod:`scaling.mixers`), products in
8 bits by what their largest published comparison allows (:mod:`scaling.precision`), experts by the active and total
parameters (:mod:`scaling.experts`); tokens beyond the corpus repeat it (:mod:`scaling.repetition`). Each widens the
interval by what is not known about it.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from shapewright.architecture.shape import (
    MLSTM,
    RWKV7,
    DeltaNet,
    GatedLinear,
    KimiDelta,
    LatentAttention,
    Mamba2,
    SelfAttention,
    Shape,
    SparseAttention,
)
from shapewright.errors import NotCoveredError
from shapewright.scaling.law import Law, LossPrediction, predict_loss, shifted
from shapewright.scaling.mixers import with_mixers
from shapewright.scaling.precision import format_shift

Values = Any


def mixer_shares(shape: Shape) -> dict[str, float]:
    """Share of the layers that each kind of token mixer has, by the name of its prior.

    Raises:
        NotCoveredError: a mixer without one.
    """
    shares: dict[str, float] = {}
    total = float(shape.num_layers)
    for block in shape.blocks:
        name = _prior_name(block.mixer)
        shares[name] = shares.get(name, 0.0) + float(block.count) / total
    return shares


def _prior_name(mixer: Any) -> str:
    if isinstance(mixer, SelfAttention):
        return "attention" if mixer.window is None and mixer.chunk is None else "sliding"
    name = _PRIORS.get(type(mixer))
    if name is None:
        raise NotCoveredError(
            f"what a {mixer.kind} mixer learns is not known",
            "no ladder of sizes against attention on equal data is open, so no prior is kept",
            "measure one: shapewright ladder run",
        )
    return name


_PRIORS: dict[type, str] = {
    LatentAttention: "mla", SparseAttention: "nsa", DeltaNet: "gated_deltanet", KimiDelta: "kda", GatedLinear: "gla",
    RWKV7: "rwkv7", Mamba2: "mamba2", MLSTM: "mlstm",
}  # fmt: skip
"""The prior of each mixer that has one."""


def learned_loss(
    law: Law,
    *,
    params: Values,
    active_params: Values,
    embedding_params: Values,
    tokens: Values,
    width: Values,
    depth: Values,
    shares: Mapping[str, float],
    number_format: str,
    unique_tokens: float | None = None,
) -> LossPrediction:
    """Predicted loss of candidates that share their mixers and number format; sizes broadcast.

    Args:
        shares: share of the layers by mixer (:func:`mixer_shares`).
        number_format: that of the products inside the layers.
        unique_tokens: tokens of a corpus that is repeated where training reads more; None where all are fresh.
    """
    found = predict_loss(
        law,
        params=params,
        active_params=active_params,
        embedding_params=embedding_params,
        tokens=tokens,
        width=width,
        depth=depth,
        unique_tokens=unique_tokens,
    )
    if set(shares) != {"attention"}:
        found = with_mixers(found, shares)
    shift = format_shift(number_format)
    return shifted(found, *shift) if shift != (0.0, 0.0) else found
