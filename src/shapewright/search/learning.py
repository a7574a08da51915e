"""What a candidate will learn: the law, and what the law's own models did not have.

Decisions: one function serves a table of candidates and one model, so that the loss in the document is the loss the
search ranked by. Mixers other than full attention shift the loss by their prior (:mod:`scaling.mixers`), products in
8 bits by what their largest published comparison allows (:mod:`scaling.precision`), experts by the active and total
parameters (:mod:`scaling.experts`); tokens beyond the corpus repeat it (:mod:`scaling.repetition`). Each widens the
interval by what is not known about it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from shapewright.architecture.graph import (
    mlp_to_attention,
    num_active_params,
    num_embedding_params,
    num_params,
)
from shapewright.architecture.shape import (
    MLSTM,
    RWKV7,
    DeltaNet,
    ExpertsFFN,
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
            f"what a {mixer.kind} mixer learns is not known: {_WHY_NOT.get(mixer.kind, 'nobody has published it')}",
            "no shift against attention at equal size and tokens can be stated, so no prior is kept",
            "measure one: shapewright ladder run",
        )
    return name


_PRIORS: dict[type, str] = {
    LatentAttention: "mla", SparseAttention: "nsa", DeltaNet: "gated_deltanet", KimiDelta: "kda", GatedLinear: "gla",
    RWKV7: "rwkv7", Mamba2: "mamba2", MLSTM: "mlstm",
}  # fmt: skip
"""The prior of each mixer that has one."""
_WHY_NOT = {
    "lstm": "the open runs (hansgundlach/Experimental_Progress@fe9f6c9) fall behind Transformers by a factor of compute "
    "that grows, 1.3 at 1e15 FLOP to 72 at 1e17, which is no shift",
    "slstm": "the open xLSTM ladder (NX-AI/xlstm_scaling_laws@604bb30) has none of its layers",
    "convolution": "no ladder of sizes against attention on equal data is open",
    "long_convolution": "no ladder of sizes against attention on equal data is open",
}
"""Why a mixer has none."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Traits:
    """What a law sees of a model, or of a table of models; sizes broadcast."""

    params: Values
    active_params: Values
    """Parameters that one token passes through."""
    embedding_params: Values
    width: Values
    depth: Values
    mlp_ratio: Values
    """Parameters of the channel mixers over those of the token mixers."""
    granularity: Values
    """Width that a token sees of the experts over the width of one; 1 for dense layers."""
    activation: Values
    """Share of the experts' width that a token sees; 1 for dense layers."""
    fineness: Values
    """Twice the model's width over that of an expert."""
    shares: Mapping[str, float]
    """Share of the layers by mixer (:func:`mixer_shares`)."""


def traits_of(shape: Shape) -> Traits:
    """What a law sees of one model.

    Raises:
        NotCoveredError: a mixer without a prior.
    """
    return Traits(
        params=float(num_params(shape)),
        active_params=float(num_active_params(shape)),
        embedding_params=float(num_embedding_params(shape)),
        width=float(shape.hidden_size),
        depth=float(shape.num_layers),
        mlp_ratio=float(mlp_to_attention(shape)),
        granularity=float(granularity_of(shape)),
        activation=float(activation_of(shape)),
        fineness=float(fineness_of(shape)),
        shares=mixer_shares(shape),
    )


def granularity_of(shape: Shape) -> Values:
    """Granularity of the expert layers (their mean over the layers that have experts); 1 without any."""
    return _mean_of_experts(shape, lambda c: c.topk + c.shared_ffn_size / c.ffn_size)


def activation_of(shape: Shape) -> Values:
    """Share of the experts' width that a token sees, as a mean over the layers that have experts; 1 without any."""
    return _mean_of_experts(
        shape,
        lambda c: (c.topk * c.ffn_size + c.shared_ffn_size) / (c.experts * c.ffn_size + c.shared_ffn_size),
    )


def fineness_of(shape: Shape) -> Values:
    """Twice the width over that of an expert, as a mean over the layers that have experts; 1 without any."""
    return _mean_of_experts(shape, lambda c: 2.0 * shape.hidden_size / c.ffn_size)


def _mean_of_experts(shape: Shape, measure: Callable[[ExpertsFFN], Values]) -> Values:
    found = [(b.count, measure(b.channel)) for b in shape.blocks if isinstance(b.channel, ExpertsFFN)]
    return sum(count * value for count, value in found) / sum(count for count, _ in found) if found else 1.0


def learned_loss(
    law: Law, traits: Traits, *, tokens: Values, number_format: str, unique_tokens: float | None = None
) -> LossPrediction:
    """Predicted loss of models that share their mixers and number format.

    Args:
        number_format: that of the products inside the layers.
        unique_tokens: tokens of a corpus that is repeated where training reads more; None where all are fresh.

    Raises:
        NotCoveredError: the law was fitted on other architectures alone.
    """
    if "mlp_ratio" in law.form.inputs and set(traits.shares) != {"attention"}:
        raise NotCoveredError(
            f"law {law.name} covers full attention only",
            "it weighs the MLP against attention, and was fitted on such models",
            "take another law, for example --law chinchilla_shape",
        )
    found = predict_loss(
        law,
        params=traits.params,
        active_params=traits.active_params,
        embedding_params=traits.embedding_params,
        granularity=traits.granularity,
        activation=traits.activation,
        fineness=traits.fineness,
        mlp_ratio=traits.mlp_ratio,
        tokens=tokens,
        width=traits.width,
        depth=traits.depth,
        unique_tokens=unique_tokens,
    )
    if set(traits.shares) != {"attention"}:
        found = with_mixers(found, traits.shares)
    shift = format_shift(number_format)
    return shifted(found, *shift) if shift != (0.0, 0.0) else found
