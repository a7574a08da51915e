"""What repeating the data costs a design: epochs, loss, and where the law behind it was not checked.

Decisions: the cost is the predicted loss less that of as many fresh tokens, so that it can be read beside every other
change of loss; its interval is that of the law of repetition alone. Without a word about the corpus all tokens are taken
to be fresh, and the assumption says so.
"""

from __future__ import annotations

from shapewright.architecture.graph import num_active_params
from shapewright.architecture.shape import Shape
from shapewright.designs.document import Assumption, Repetition
from shapewright.evidence import Figure
from shapewright.scaling.law import Z90, Law
from shapewright.scaling.repetition import (
    CHECKED_EPOCHS,
    CHECKED_UNIQUE,
    REPETITION_SD,
    REPETITION_SOURCE,
    WORTHLESS_EPOCHS,
    effective_tokens,
    largest_checked,
)
from shapewright.search.learning import learned_loss, traits_of
from shapewright.units import format_count


def repetition(
    unique_tokens: float, *, tokens: Figure, shape: Shape, law: Law | None, number_format: str
) -> Repetition:
    """What a run of ``tokens`` makes of a corpus; no cost where no law predicts the loss."""
    ends = (tokens.value, tokens.low or tokens.value, tokens.high or tokens.value)
    epochs = Figure(
        value=ends[0] / unique_tokens, low=ends[1] / unique_tokens, high=ends[2] / unique_tokens, unit="1",
        kind="derived", source="training tokens over unique tokens",
    )  # fmt: skip
    worth = Figure(
        value=float(effective_tokens(ends[0], unique_tokens)),
        unit="1",
        kind="fitted",
        source=REPETITION_SOURCE,
    )
    cost = None
    if law is not None:
        traits = traits_of(shape)
        repeated, fresh = (
            float(
                learned_loss(
                    law, traits, tokens=ends[0], number_format=number_format, unique_tokens=unique
                ).loss
            )
            for unique in (unique_tokens, None)
        )
        value = repeated - fresh
        cost = Figure(
            value=value, low=value * (1.0 - Z90 * REPETITION_SD), high=value * (1.0 + Z90 * REPETITION_SD),
            unit=law.unit, kind="fitted", source=REPETITION_SOURCE,
        )  # fmt: skip
    return Repetition(
        unique_tokens=Figure(value=unique_tokens, unit="1", kind="assumed", source="asked for"),
        epochs=epochs, effective_tokens=worth, loss_cost=cost,
    )  # fmt: skip


def repetition_warnings(found: Repetition, shape: Shape) -> tuple[str, ...]:
    """Where the law of repetition is used beyond the runs it was checked on."""
    epochs, unique = found.epochs.value, found.unique_tokens.value
    if epochs <= 1.0:
        return ()
    rows = []
    if epochs > CHECKED_EPOCHS:
        rows.append(
            f"{epochs:,.0f} epochs: the law of repetition was checked up to {CHECKED_EPOCHS:.0f}; models that read their "
            "data more often overfit, which it does not say. More unique tokens or a smaller budget"
        )
    elif epochs > WORTHLESS_EPOCHS:
        rows.append(
            f"{epochs:,.0f} epochs: beyond about {WORTHLESS_EPOCHS:.0f} more epochs buy next to nothing. More unique "
            "tokens or a smaller budget"
        )
    most = largest_checked(unique)
    if float(num_active_params(shape)) > 1.01 * most:
        rows.append(
            f"the law of repetition was checked up to {format_count(most)} parameters for {format_count(unique)} unique "
            "tokens; larger models overfit, which it does not say"
        )
    low, high = CHECKED_UNIQUE
    if not low <= unique <= high:
        rows.append(
            f"{format_count(unique)} unique tokens lie outside those of the runs behind the law of repetition, "
            f"{format_count(low)} to {format_count(high)}"
        )
    return tuple(rows)


def data_assumption(found: Repetition | None) -> Assumption:
    """What is taken to be known about the data."""
    if found is None:
        return Assumption(
            name="data", kind="assumed", source=REPETITION_SOURCE,
            text="every token is fresh (--unique-tokens says how many there are)",
        )  # fmt: skip
    return Assumption(name="data", text=repetition_text(found), kind="fitted", source=REPETITION_SOURCE)


def repetition_text(found: Repetition) -> str:
    """``25B unique tokens, 4.0 epochs, worth 91B fresh ones, cost +.0123 nat/token (.003 to .02)``."""
    text = f"{format_count(found.unique_tokens.value)} unique tokens"
    if found.epochs.value <= 1.0:
        return f"{text}, none repeated"
    text += f", read {found.epochs.value:.3g} times, worth {format_count(found.effective_tokens.value)} fresh ones"
    cost = found.loss_cost
    if cost is None:
        return text
    return f"{text}; costs {cost.value:+.4f} {cost.unit} ({cost.low:+.4f} to {cost.high:+.4f})"
