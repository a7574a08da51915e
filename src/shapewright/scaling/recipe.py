"""The training recipe of a design: batch, learning rate, schedule and optimiser, each with its source.

Decisions: batch and learning rate come from Step Law, the only published pair fitted on an open grid of
learning rate x batch x size x tokens (on its own 17 cells the law's nearest grid point loses a median of .07 % of
loss against the best; tests/reference). Its peak belongs to a cosine that ends at 1e-5 with AdamW, so that
is the schedule; warmup-stable-decay is the sibling for runs that may be prolonged. Byte models of minutes lie
hundreds of times below its runs: for them ``ladder`` follows our own sweeps, with the schedule of those runs
(``schedule="wsd"``). Where a law is used outside its runs, the recipe says so in ``remarks``.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np

from shapewright.errors import UsageError
from shapewright.evidence import Figure
from shapewright.scaling.forms import Array
from shapewright.scaling.hyperparameters import (
    LADDER_BATCH_TOKENS,
    LADDER_RANGE,
    LADDER_SOURCE,
    STEPLAW_LARGEST_OPTIMUM,
    STEPLAW_RANGE,
    STEPLAW_SOURCE,
    Values,
    deepseek_batch_tokens,
    deepseek_learning_rate,
    ladder_batch_tokens,
    ladder_learning_rate,
    rescaled_for_batch,
    steplaw_batch_tokens,
    steplaw_learning_rate,
)
from shapewright.scaling.law import BYTES, Law
from shapewright.scaling.transfer import Transfer, completep

Schedule = Literal["cosine", "wsd"]
RecipeLaw = Literal["steplaw", "deepseek", "ladder"]
PROXY = (256.0, 8.0)
"""Width and depth of the proxy that transfer factors start from (assumed: what a laptop tunes in an hour)."""
SMALL_BATCH_TOKENS = 2**19
"""Below half a million tokens a batch, beta2 .95 forgets too fast (Porian et al. 2024, arXiv 2406.19146, section 3.5)."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Recipe:
    """How to train: every figure with its source."""

    law: str
    """Law of batch and learning rate."""
    batch_tokens: Figure
    """Tokens of one step."""
    steps: Figure
    """Optimiser steps."""
    learning_rate: Figure
    """Peak learning rate of AdamW on matrices."""
    final_learning_rate: Figure
    """Learning rate of the last step."""
    schedule: Schedule
    """``cosine`` from peak to final; ``wsd``: constant, then linear decay over the last ``decay_fraction``."""
    decay_fraction: Figure
    """Share of steps that decay (1 for cosine, after warm-up)."""
    warmup_steps: Figure
    """Steps of linear warm-up."""
    weight_decay: Figure
    """AdamW weight decay on matrices (none on norms and biases)."""
    beta1: Figure
    """AdamW beta1."""
    beta2: Figure
    """AdamW beta2."""
    epsilon: Figure
    """AdamW epsilon."""
    gradient_clip: Figure
    """Largest norm of the gradient."""
    init_std: Figure
    """Standard deviation of weight initialisation."""
    output_init_std: Figure
    """The same for the matrices that write to the residual stream."""
    remarks: tuple[str, ...]
    """Where a law is used beyond its runs."""
    transfer: Transfer | None = None
    """How to carry over what was tuned on a small proxy instead (CompleteP; with the proxy's depth, muP)."""


def default_recipe_law(law: Law | None) -> tuple[Literal["steplaw", "ladder"], Schedule]:
    """Law of batch and learning rate, and schedule, that belong to a loss law: those of its own runs for bytes."""
    return ("ladder", "wsd") if law is not None and law.unit == BYTES else ("steplaw", "cosine")


def batch_tokens(*, tokens: Values, law: Literal["steplaw", "ladder"] = "steplaw") -> Array:
    """Tokens per step that give the lowest loss for ``tokens`` of training; never more than ``tokens``."""
    tokens = np.asarray(tokens, float)
    best = ladder_batch_tokens(tokens) if law == "ladder" else steplaw_batch_tokens(tokens)
    return np.minimum(best, tokens)


def learning_rate(*, params: Values, tokens: Values, batch: Values) -> Array:
    """Peak learning rate by Step Law for a given batch [tokens], at most its largest measured optimum.

    ``params`` are those outside the embeddings.
    """
    best = rescaled_for_batch(steplaw_learning_rate(params, tokens), batch, steplaw_batch_tokens(tokens))
    return np.minimum(best, STEPLAW_LARGEST_OPTIMUM)


def warmup_steps(*, params: Values, batch: Values, steps: Values) -> Array:
    """As many tokens as the model has parameters, between 1 and 10 % of the run and at most 2,000 steps.

    Porian et al. 2024 (arXiv 2406.19146, section 3.3) found that a warm-up longer than this costs small models
    loss; 2,000 steps is Step Law's own (arXiv 2503.04715, section 3).
    """
    steps = np.asarray(steps, float)
    wanted = np.clip(np.asarray(params, float) / batch, 0.01 * steps, 0.1 * steps)
    return np.clip(np.round(np.minimum(wanted, 2000.0)), 1.0, None)


def recipe(
    law: RecipeLaw = "steplaw",
    *,
    params: float,
    tokens: float,
    width: float,
    depth: float,
    batch: float | None = None,
    schedule: Schedule = "cosine",
    epochs: float = 1.0,
) -> Recipe:
    """The recipe for one design.

    Args:
        law: law of batch and learning rate.
        params: parameters outside the embeddings (active ones for a mixture of experts).
        tokens: training tokens.
        width: width of the residual stream.
        depth: number of layers.
        batch: tokens per step where the plan fixes it; None for the law's.
        schedule: ``cosine`` or ``wsd``.
        epochs: times that the data are read.

    Raises:
        UsageError: a size is not positive, the batch exceeds the tokens, or the law is unknown.
    """
    for name, value in (("params", params), ("tokens", tokens), ("width", width), ("depth", depth)):
        if not value > 0:
            raise UsageError(
                f"{name} (={value:g}) is not positive", "a recipe needs a model and tokens", f"give {name}"
            )
    if batch is not None and not 0 < batch <= tokens:
        raise UsageError(
            f"batch (={batch:g} tokens) does not fit {tokens:g} training tokens",
            "a run has at least one step", "choose a smaller batch or more tokens",
        )  # fmt: skip
    if law == "steplaw":
        best, source = float(batch_tokens(tokens=tokens)), STEPLAW_SOURCE
        peak = float(learning_rate(params=params, tokens=tokens, batch=batch or best))
        tuned_at = best
    elif law == "deepseek":
        flops, source = 6.0 * params * tokens, "DeepSeek LLM (arXiv 2401.02954, eq. 1)"
        best = min(float(deepseek_batch_tokens(flops)), tokens)
        peak = float(rescaled_for_batch(deepseek_learning_rate(flops), batch or best, best))
        tuned_at = best
    elif law == "ladder":
        best, source = min(float(ladder_batch_tokens(tokens)), tokens), LADDER_SOURCE
        peak = float(rescaled_for_batch(ladder_learning_rate(params), batch or best, LADDER_BATCH_TOKENS))
        tuned_at = LADDER_BATCH_TOKENS
    else:
        raise UsageError(
            f"law (={law!r}) is not a recipe law", "known: steplaw, deepseek, ladder", "choose one of them"
        )
    chosen = batch or best
    steps = max(1.0, round(tokens / chosen))
    std = (2.0 / (5.0 * width)) ** 0.5
    beta2 = 0.99 if chosen < SMALL_BATCH_TOKENS else 0.95
    common = "common practice: GPT-3, Llama 2, Step Law"
    return Recipe(
        law=law,
        batch_tokens=_figure(chosen, "fitted" if batch is None else "assumed", source if batch is None else "the plan"),
        steps=_figure(steps, "derived", "tokens / batch"),
        learning_rate=_figure(peak, "fitted", source + _batch_note(chosen, tuned_at)),
        final_learning_rate=_figure(1e-5 if schedule == "cosine" else 0.0, "assumed",
                                    "Step Law's own schedule ends at 1e-5" if schedule == "cosine"
                                    else "decay to zero: Haegele et al. 2024 (arXiv 2405.18392)"),
        schedule=schedule,
        decay_fraction=_figure(1.0 if schedule == "cosine" else 0.2, "assumed",
                               "cosine over the whole run" if schedule == "cosine"
                               else "20 % matches cosine: Haegele et al. 2024 (arXiv 2405.18392)"),
        warmup_steps=_figure(float(warmup_steps(params=params, batch=chosen, steps=steps)), "assumed",
                             "N tokens (Porian et al. 2024, arXiv 2406.19146), 1 to 10 % of the run, at most 2,000 steps"),
        weight_decay=_figure(0.1, "assumed", common),
        beta1=_figure(0.9, "assumed", common),
        beta2=_figure(beta2, "assumed", common if beta2 == 0.95 else "small batch: Porian et al. 2024 (arXiv 2406.19146)"),
        epsilon=_figure(1e-8, "assumed", common),
        gradient_clip=_figure(1.0, "assumed", common),
        init_std=_figure(std, "assumed", "sqrt(2 / (5 width)): Nguyen and Salazar 2019 (arXiv 1910.05895)"),
        output_init_std=_figure(std / (2.0 * depth) ** 0.5, "assumed", "init_std / sqrt(2 depth): Radford et al. 2019"),
        remarks=(*_remarks(law, params, tokens, chosen, best, peak), *_repeated(epochs)),
        transfer=completep(
            width=width, depth=depth, proxy_width=min(PROXY[0], width), proxy_depth=min(PROXY[1], depth)
        ),
    )  # fmt: skip


def _figure(value: float, kind: Literal["fitted", "derived", "assumed"], source: str) -> Figure:
    return Figure(value=value, unit="1", kind=kind, source=source)


def _batch_note(chosen: float, best: float) -> str:
    if abs(np.log(chosen / best)) < 0.01:
        return ""
    return f"; times sqrt({chosen / best:.3g}) for the batch (Malladi et al. 2022, arXiv 2205.10287)"


def _repeated(epochs: float) -> tuple[str, ...]:
    if epochs <= 1.0:
        return ()
    return (
        f"read the data {epochs:.3g} times, in another order each time; the runs behind batch and rate read them once",
    )


def _remarks(
    law: str, params: float, tokens: float, chosen: float, best: float, peak: float
) -> tuple[str, ...]:
    remarks = []
    measured = {"steplaw": ("Step Law", STEPLAW_RANGE), "ladder": ("the ladder's rule", LADDER_RANGE)}
    if law in measured:
        title, ranges = measured[law]
        for name, value in (("params", params), ("tokens", tokens)):
            low, high = ranges[name]
            if not low <= value <= high:
                factor = value / high if value > high else low / value
                side = "above" if value > high else "below"
                remarks.append(f"{title} is extrapolated: {name} {factor:.3g}x {side} its runs")
    if law == "steplaw" and peak >= STEPLAW_LARGEST_OPTIMUM:
        remarks.append(
            f"learning rate held at {STEPLAW_LARGEST_OPTIMUM:g}, the largest best one in Step Law's runs"
        )
    if not 0.25 <= chosen / best <= 4.0:
        remarks.append(f"batch {chosen / best:.3g}x the law's: its learning rate is not measured there")
    return tuple(remarks)
