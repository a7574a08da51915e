"""The user's own model as the workload: tokens per joule on each generation, as it is and re-designed for it.

Decisions: both are estimated the same way (``designs.estimate.make_estimate``: best plan, measured kernels, energy of the
kernels, hosts and site) at one global batch and one width of numbers. Re-designed means the shape of the aligned lattice
that trains a token fastest among those whose predicted loss at equal tokens is no worse than the model's own; so what
it gains is the hardware's liking of its numbers, not a smaller task. A loss law that sees width and depth weighs the
shape; without one only the size counts.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from shapewright.architecture.graph import num_active_params
from shapewright.architecture.shape import DenseFFN, SelfAttention, Shape
from shapewright.designs.document import Design
from shapewright.designs.estimate import make_estimate
from shapewright.errors import InfeasibleError, NotCoveredError, UsageError
from shapewright.evidence import Figure
from shapewright.hardware.catalog import parse_cluster
from shapewright.outlook.lineages import Choice, peak_of
from shapewright.scaling.law import default_law, load_law, predict_loss
from shapewright.search.budget import Budget
from shapewright.search.joint import Options, rank
from shapewright.search.ranking import Arm

TOKENS_PER_PARAMETER = 20.0
"""Tokens at which the losses are compared where none are given."""
BATCH_TOKENS = 2**19
"""Tokens of a step on every device set, so that all do the same work."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Worked:
    """One accelerator at work."""

    chip: str
    number_format: str
    as_it_is: Figure | None
    """Tokens per joule of the model as it is [1/J]; None where it does not fit."""
    redesigned: Figure | None
    """Tokens per joule of the shape designed for this accelerator [1/J]."""
    shape: str
    """That shape, width x depth."""
    worth: float | None
    """Re-designed over as it is."""
    loss_change: float | None
    """Predicted loss of the new shape minus that of the model, at equal tokens."""
    reason: str
    """Why something is missing; empty where nothing is."""


def at_work(
    shape: Shape, choices: tuple[Choice, ...], *, devices: int, bits: int = 16, tokens: float | None = None,
    law: str | None = None,
) -> tuple[Worked, ...]:  # fmt: skip
    """Tokens per joule of a model on each accelerator, ``devices`` of them.

    Raises:
        UsageError: the number of devices or tokens is not positive.
        NotCoveredError: the model is no dense decoder with plain attention: there is nothing to re-design it into.
    """
    if devices < 1 or (tokens is not None and tokens <= 0):
        raise UsageError(
            "devices and tokens must be positive", "nothing is trained otherwise", "for example --devices 8"
        )
    for block in shape.blocks:
        if not isinstance(block.mixer, SelfAttention) or not isinstance(block.channel, DenseFFN):
            raise NotCoveredError(
                f"{shape.name} is no dense decoder with attention", "only those are re-designed here",
                "compare it as it is: shapewright estimate MODEL --on HARDWARE",
            )  # fmt: skip
    size = float(num_active_params(shape))
    amount = tokens or TOKENS_PER_PARAMETER * size
    return tuple(_one(shape, choice, devices, bits, amount, size, law) for choice in choices)


def _one(
    shape: Shape, choice: Choice, devices: int, bits: int, tokens: float, size: float, law: str | None
) -> Worked:
    chip = choice.accelerator.name
    fmt, _ = peak_of(choice, bits)
    # Tensor formats without a recipe of their own train as the recipe of their width.
    options = Options(precision=fmt, law=law, global_batch=_batch(shape, devices))
    hardware = f"{devices}x{chip}"
    try:
        own = make_estimate(shape, hardware, options, tokens=tokens)
    except (InfeasibleError, NotCoveredError) as error:
        return _missing(chip, fmt, f"{error.what}")
    base = _tokens_per_joule(own, tokens)
    try:
        better = _redesign(shape, own, hardware, options, tokens, size, law)
    except (InfeasibleError, NotCoveredError) as error:
        return Worked(chip=chip, number_format=fmt, as_it_is=base, redesigned=None, shape="", worth=None,
                      loss_change=None, reason=error.what)  # fmt: skip
    gained = _tokens_per_joule(better, tokens)
    loss = None
    if own.predicted.loss is not None and better.predicted.loss is not None:
        loss = better.predicted.loss.value - own.predicted.loss.value
    return Worked(
        chip=chip, number_format=fmt, as_it_is=base, redesigned=gained, shape=better.shape.name, loss_change=loss,
        worth=None if base is None or gained is None else gained.value / base.value,
        reason="" if base is not None else "its power is unknown",
    )  # fmt: skip


def _batch(shape: Shape, devices: int) -> int:
    sequences = max(BATCH_TOKENS // 4096, 1)
    return -(-sequences // devices) * devices


def _tokens_per_joule(design: Design, tokens: float) -> Figure | None:
    energy = design.predicted.energy_j
    if energy is None:
        return None
    low, high = (None if end is None else tokens / end for end in (energy.high, energy.low))
    return Figure(
        value=tokens / energy.value, unit="1/J", kind=energy.kind, source=energy.source, low=low, high=high
    )


def _missing(chip: str, fmt: str, reason: str) -> Worked:
    return Worked(chip=chip, number_format=fmt, as_it_is=None, redesigned=None, shape="", worth=None, loss_change=None,
                  reason=reason.splitlines()[0])  # fmt: skip


def _redesign(
    shape: Shape,
    own: Design,
    hardware: str,
    options: Options,
    tokens: float,
    size: float,
    law_name: str | None,
) -> Design:
    """The fastest shape whose loss at equal tokens is no worse; the model's own where none is."""
    law = load_law(law_name) if law_name else default_law(flops=6.0 * size * tokens)
    wanted = Options(
        precision=options.precision, law=law.name, global_batch=options.global_batch, vocab_size=int(shape.vocab_size),
        tied_embeddings=shape.tied_embeddings, seq_len=own.run.sequence_length,
    )  # fmt: skip
    # A budget at which the law finds the model's own size best: the lattice lies around it.
    budget = Budget(kind="flops", value=6.0 * size * TOKENS_PER_PARAMETER * size)
    ranking = rank(parse_cluster(hardware), budget, wanted)

    def losses(arm: Arm) -> np.ndarray:
        table = arm.candidates
        found = predict_loss(
            law, params=table.params, active_params=table.active_params, embedding_params=table.embedding_params,
            tokens=tokens, width=table.column(table.layers.hidden_size), depth=table.depth,
        )  # fmt: skip
        return found.loss

    loss = ranking.joined(losses)
    bar = own.predicted.loss.value if own.predicted.loss is not None else np.inf
    fits = np.isfinite(ranking.loss) & (loss <= bar)
    if not fits.any():
        return own
    best = int(np.argmin(np.where(fits, ranking.step_time, np.inf)))
    found = make_estimate(ranking.shape(best), hardware, options, tokens=tokens)
    if found.predicted.energy_j is None or own.predicted.energy_j is None:
        return found
    return found if found.predicted.energy_j.value < own.predicted.energy_j.value else own
