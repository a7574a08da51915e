"""What another law says of the same model, and where a shape lies outside the shapes behind the law.

Decisions: a sibling is shown only where the model lies inside the sibling's own range, so that it is a second opinion and
not an extrapolation. The compute outside the range is warned about elsewhere (:mod:`designs.compose`).
"""

from __future__ import annotations

import numpy as np

from shapewright.designs.document import Trust
from shapewright.scaling.experts import BEYOND_SD, MEASURED_RATIO, SHARE, effective_size
from shapewright.scaling.law import Law, load_law, predict_loss
from shapewright.scaling.leverage import ACTIVATION_RANGE, ln_leverage
from shapewright.scaling.protocol_conditional import best_shape
from shapewright.search.learning import Traits, learned_loss

CONDITIONAL, LEVERAGE = "conditional", "leverage"
SPARSE = "SPARSE EXTRAPOLATION"
"""Mark of a design sparser than the mixtures behind the law of experts."""
_WORDS = {
    "aspect": "width over depth",
    "mlp_ratio": "MLP over attention parameters",
    "relative_width": "width over the root of the parameters inside the layers",
    "granularity": "granularity of the experts",
}


def _measures(traits: Traits) -> dict[str, float]:
    inner = max(float(traits.active_params) - float(traits.embedding_params), 1.0)
    return {
        "aspect": float(traits.width) / float(traits.depth),
        "mlp_ratio": float(traits.mlp_ratio),
        "relative_width": float(traits.width) / inner**0.5,
        "granularity": float(traits.granularity),
    }


def outside_shapes(law: Law, traits: Traits) -> tuple[str, ...]:
    """One line for every measure of the shape that the law's models did not have."""
    rows = []
    for name, value in _measures(traits).items():
        low, high = law.fitted_range.get(name, (-np.inf, np.inf))
        if not low * (1 - 1e-6) <= value <= high * (1 + 1e-6):
            rows.append(
                f"the loss law {law.name} was fitted on models with {_WORDS[name]} of {low:.3g} to {high:.3g}; this one "
                f"has {value:.3g}"
            )
    return tuple(rows)


def outside_sparsity(law: Law, traits: Traits) -> tuple[str, ...]:
    """One line where a mixture is sparser than any behind the law of experts; none elsewhere."""
    ratio = float(traits.params) / float(traits.active_params)
    if ratio <= MEASURED_RATIO or "activation" in law.form.inputs:
        return ()
    return (
        f"{SPARSE}: {ratio:.3g} times as many parameters in all as active ones, at most {MEASURED_RATIO:g} in the open runs "
        f"behind the law of experts. Its power of {SHARE:g} goes on with a standard deviation of {BEYOND_SD:g}, which "
        "holds published comparisons up to 31 (Kimi K2 .30 to .35; Tian et al. more): the interval of the loss widens",
    )


def leverage_sibling(law: Law, traits: Traits, *, tokens: float, number_format: str) -> Trust | None:
    """What the published law of sparse mixtures says, where its active shares hold; None elsewhere."""
    other = load_law(LEVERAGE)
    if law.name == LEVERAGE or law.unit != other.unit or float(traits.activation) >= 1.0:
        return None
    low, high = ACTIVATION_RANGE
    if not low <= float(traits.activation) <= high:
        return None
    told = learned_loss(other, traits, tokens=tokens, number_format=number_format)
    active = float(traits.active_params)
    factor = float(np.exp(ln_leverage(traits.activation, traits.fineness, 6.0 * active * tokens)))
    ours = float(effective_size(active, traits.params, traits.granularity)) / active
    return Trust(
        name=f"law {LEVERAGE} (sibling)",
        kind="fitted",
        text=f"says {float(told.loss):.3f} {other.unit} ({float(told.low):.3f} to {float(told.high):.3f}) of the same "
        f"model; a dense one of {factor:.2g} times its active parameters learns as much (by the law in use {ours:.2g})",
        source=other.source,
    )


def conditional_sibling(law: Law, traits: Traits, *, tokens: float, number_format: str) -> Trust | None:
    """What the law of hidden size and MLP ratio says, where its range holds; None elsewhere."""
    other = load_law(CONDITIONAL)
    plain = set(traits.shares) == {"attention"} and float(traits.params) == float(traits.active_params)
    if law.name == CONDITIONAL or law.unit != other.unit or not plain or outside_shapes(other, traits):
        return None
    size = float(traits.active_params) - float(traits.embedding_params)
    measured = {"params": size, "tokens": tokens}
    if any(
        not other.fitted_range[name][0] <= value <= other.fitted_range[name][1]
        for name, value in measured.items()
    ):
        return None
    told = learned_loss(other, traits, tokens=tokens, number_format=number_format)
    width, ratio = best_shape()
    ideal = predict_loss(
        other, active_params=traits.active_params, embedding_params=traits.embedding_params, tokens=tokens,
        width=width * size**0.5, depth=traits.depth, mlp_ratio=ratio,
    )  # fmt: skip
    spare = float(told.loss) / float(ideal.loss) - 1.0
    return Trust(
        name=f"law {CONDITIONAL} (sibling)",
        kind="fitted",
        text=f"says {float(told.loss):.3f} {other.unit} ({float(told.low):.3f} to {float(told.high):.3f}) of the same "
        f"model, {spare:.1%} above its best shape of this size: width {width * size**0.5:,.0f}, MLP over attention "
        f"{ratio:.2f} (here {float(traits.mlp_ratio):.2f})",
        source=other.source,
    )
