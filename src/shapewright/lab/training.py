"""The run that a design asks for: what is trained, how, how long, and what was predicted of it.

Decisions: a step's prediction is compared where the run splits it as the design's plan does, in the same number format;
a loss's where the run is the one it was predicted for.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import dataclass, replace

import torch

from shapewright.designs.document import Design
from shapewright.errors import NotCoveredError, UsageError
from shapewright.evidence import Figure
from shapewright.lab.corpus import VOCAB_SIZE, Corpus
from shapewright.lab.schedule import Schedule, decay_start
from shapewright.lab.state import Precision, Setup, TrainState
from shapewright.lab.team import ALONE, Layout, Team, layout_of
from shapewright.plan.pairs import ADAMW
from shapewright.plan.parallel import Plan

TRIED_STEPS = 4
"""Steps timed in each number format, after one that is not."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Training:
    """A run: what, how, how long, and what was predicted of it."""

    setup: Setup
    schedule: Schedule
    minutes: float | None
    """Time budget; None where the schedule says how many steps."""
    predicted_step: Figure | None
    """[s]; None where the prediction is for other hardware or another number format."""
    predicted_loss: Figure | None
    """None where the run is not the one that the loss was predicted for."""


def training_of(
    design: Design,
    *,
    steps: int | None = None,
    minutes: float | None = None,
    learning_rate: float | None = None,
    precision: Precision | None = None,
    vocab_size: int = VOCAB_SIZE,
    seed: int = 0,
    layout: Layout | None = None,
) -> Training:
    """The run that ``design`` asks for.

    Args:
        design: the document.
        steps: steps in place of the design's.
        minutes: time in place of steps.
        learning_rate: peak in place of the recipe's.
        precision: number format in place of the design's.
        vocab_size: symbols of the corpus.
        seed: of the weights and of the order of the text.
        layout: how processes split each step; None for one process.

    Raises:
        NotCoveredError: the design is of another optimizer or of adapters, or of a format that cannot be trained here.
        UsageError: the design has no recipe, or its vocabulary is not bytes.
    """
    if design.run.optimizer != ADAMW or design.run.adapter_rank:
        raise NotCoveredError(
            f"the design trains {'adapters' if design.run.adapter_rank else f'by {design.run.optimizer}'}",
            f"what is trained here is every weight, by {ADAMW}",
            "estimate it again without --optimizer and --lora",
        )
    if design.recipe is None or design.run.tokens is None:
        raise UsageError(
            "the design has no recipe",
            "only a step was estimated",
            "give estimate a number of tokens: --tokens 10M",
        )
    if int(design.shape.vocab_size) < vocab_size or (vocab_size == VOCAB_SIZE) != (
        design.shape.vocab_size == VOCAB_SIZE
    ):
        raise UsageError(
            f"the vocabulary (={design.shape.vocab_size}) is not {vocab_size}",
            "the text is bytes" if vocab_size == VOCAB_SIZE else "the tokenizer has so many symbols",
            f"design it with --vocab {vocab_size}" + ("" if vocab_size != VOCAB_SIZE else ", or give its --tokenizer"),
        )  # fmt: skip
    recipe, plan = design.recipe, design.plan
    batch = design.run.global_batch_sequences
    micro = int(plan.micro_batch) if batch % int(plan.micro_batch) == 0 else batch
    chosen = precision or design.run.precision
    if chosen not in ("fp32", "bf16"):
        raise NotCoveredError(
            f"precision (={chosen!r}) cannot be trained here", "fp32 and bf16 can", "add --precision bf16"
        )
    setup = Setup(
        shape=design.shape, seq_len=design.run.sequence_length, batch=batch, micro_batch=micro, precision=chosen,
        weight_decay=recipe.weight_decay.value, beta1=recipe.beta1.value, beta2=recipe.beta2.value,
        epsilon=recipe.epsilon.value, gradient_clip=recipe.gradient_clip.value, init_std=recipe.init_std.value,
        output_init_std=recipe.output_init_std.value, seed=seed,
    )  # fmt: skip
    usual = max(round(design.run.tokens.value / setup.batch_tokens), 1)
    total = steps or usual
    peak = learning_rate or recipe.learning_rate.value
    warmup = min(int(recipe.warmup_steps.value), max(total // 10, 1))
    if minutes is not None:
        schedule = Schedule(kind="wsd", peak=peak, final=0.0, warmup=warmup, steps=None)
    else:
        fraction = recipe.decay_fraction.value
        schedule = Schedule(
            kind=recipe.schedule, peak=peak, final=min(recipe.final_learning_rate.value, peak), warmup=warmup, steps=total,
            decay_from=max(decay_start(total, fraction), warmup) if recipe.schedule == "wsd" else None,
        )  # fmt: skip
    layout = layout or Layout()
    same_step = chosen == design.run.precision and _as_planned(plan, layout)
    same_run = steps is None and learning_rate is None and (minutes is None or _is_budget(design, minutes))
    return Training(
        setup=setup, schedule=schedule, minutes=minutes,
        predicted_step=design.predicted.step_time_s if same_step else None,
        predicted_loss=design.predicted.loss if same_run else None,
    )  # fmt: skip


def _as_planned(plan: Plan, layout: Layout) -> bool:
    try:
        return layout in (layout_of(plan, "cpu"), layout_of(plan, "cuda"))
    except NotCoveredError:
        return False


def _is_budget(design: Design, minutes: float) -> bool:
    budget = design.request.budget
    return (
        budget is not None
        and design.request.budget_kind == "time"
        and math.isclose(budget.value, 60.0 * minutes)
    )


def faster_precision(
    training: Training, corpus: Corpus, *, team: Team = ALONE
) -> tuple[Precision, dict[str, float]]:
    """The number format whose steps are shorter here, and the shortest step of each [s]."""
    times: dict[str, float] = {}
    formats: tuple[Precision, ...] = ("fp32", "bf16")
    for precision in formats:
        state = TrainState(
            replace(training.setup, precision=precision), corpus, device=team.device, team=team
        )
        state.take_step(0.0)
        taken = []
        for _ in range(TRIED_STEPS):
            start = time.perf_counter()
            state.take_step(0.0)
            taken.append(time.perf_counter() - start)
        times[precision] = team.mean(min(taken))
    return min(formats, key=lambda name: times[name]), times


def keep_freed_memory() -> None:
    """Have glibc keep what is freed, as ``bench.training_environment`` has it where steps are measured.

    Otherwise it maps and clears large tensors anew in every step. Nothing happens under another C library.
    """
    import ctypes

    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    for parameter, value in ((M_MMAP_MAX, 0), (M_TRIM_THRESHOLD, 2**31 - 1), (M_TOP_PAD, 2**26)):
        if mallopt is not None:
            mallopt(parameter, value)


M_TRIM_THRESHOLD, M_TOP_PAD, M_MMAP_MAX = -1, -2, -4
"""Parameters of ``mallopt`` (glibc, malloc.h)."""


def clock_of(device: str) -> Callable[[], float]:
    """The process's own clock where it has one thread on a processor, for a neighbour does not lengthen that."""
    return time.process_time if device == "cpu" and torch.get_num_threads() == 1 else time.perf_counter


def clock_for(team: Team) -> Callable[[], float]:
    """:func:`clock_of` of one process; several wait for each other, which only the wall's clock sees."""
    return clock_of(team.device) if team.alone else time.perf_counter


def default_device(on_cpu: bool) -> str:
    """``cuda`` where the design is for an accelerator and one is here, else ``cpu``."""
    return "cuda" if not on_cpu and torch.cuda.is_available() else "cpu"
