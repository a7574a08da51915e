"""How a Design reads as text: the same words on the console, in the HTML report and in the charts.

Decisions: an interval repeats its unit only where it differs from the value's; shares and MFU are per cent;
counts that a person would count (steps, sequences) are printed whole; what the document does not know is
``unknown`` or left out, never a zero.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import replace
from math import log
from typing import Literal

from shapewright.architecture.shape import Block, DenseFFN, ExpertsFFN, LatentAttention, SelfAttention, Shape
from shapewright.architecture.words import channel_words, mixer_words
from shapewright.designs.document import Candidate, Design, Part, Prediction, Rejected, Request
from shapewright.evidence import Figure
from shapewright.plan.stages import stages_text
from shapewright.scaling.experts import MEASURED_RATIO
from shapewright.scaling.law import FAR_COMPUTE
from shapewright.units import format_count, format_quantity

STEP_CAUSES = ("compute", "memory", "communication", "bubble", "recompute", "launch")
MEMORY_CAUSES = ("weights", "gradients", "optimizer", "activations", "logits", "buffers", "framework")
Style = Literal["quantity", "percent", "whole", "loss"]
Row = tuple[str, str, Figure]
"""Name, text with interval, and the figure it was made from."""
_NUMBER = re.compile(r"^\$?(-?[\d.,]+(?:e[+-]?\d+)?)(.*)$")
_BUDGETS = {
    "time": "of time",
    "dollars": "to spend",
    "energy": "of energy",
    "flops": "of compute",
    "tokens": "tokens",
}


def percent(fraction: float) -> str:
    """A share as per cent: ``0.47`` is ``47 %``, ``0.056`` is ``5.6 %``."""
    value = fraction * 100
    return f"{value:.0f} %" if abs(value) >= 9.95 else f"{value:.1f} %"


def change(fraction: float) -> str:
    """A relative change with its sign: ``0.056`` is ``+5.6 %``."""
    return ("+" if fraction >= 0 else "") + percent(fraction)


def with_interval(value: str, low: str | None, high: str | None) -> str:
    """``412 ms``, ``380 ms`` and ``447 ms`` as ``412 ms (380 to 447)``."""
    if low is None or high is None:
        return value
    parts = [_NUMBER.match(text) for text in (value, low, high)]
    if all(parts) and len({part.group(2) for part in parts if part}) == 1:
        low, high = (part.group(1) for part in parts[1:] if part)
    return f"{value} ({low} to {high})"


def figure_text(figure: Figure, *, style: Style = "quantity") -> str:
    """A figure with unit and interval: ``412 ms (380 to 447)``.

    Args:
        figure: what to print.
        style: ``quantity`` with a readable prefix, a plain number as ``percent`` or ``whole``, or with the fixed
            decimals of a ``loss``.
    """

    def one(value: float) -> str:
        if style == "percent":
            return percent(value)
        if style == "whole":
            return f"{value:,.0f}"
        if style == "loss":
            return f"{value:.3f}" + (f" {figure.unit}" if figure.unit != "1" else "")
        return format_quantity(value, figure.unit)

    low, high = (None if end is None else one(end) for end in (figure.low, figure.high))
    return with_interval(one(figure.value), low, high)


def request_text(request: Request) -> str:
    """What was asked for in one line."""
    parts = [request.hardware]
    if request.budget is not None:
        parts.append(f"{format_quantity(request.budget.value, request.budget.unit)} {_BUDGETS[request.budget_kind]}"
                     if request.budget_kind in _BUDGETS
                     else f"{request.budget_kind} {format_quantity(request.budget.value, request.budget.unit)}")  # fmt: skip
    parts.append(f"model {request.model}" if request.model else "lowest loss")
    return " · ".join((*parts, *request.settings, *request.constraints))


def shape_lines(shape: Shape) -> tuple[str, ...]:
    """The shape: one line where all layers are equal, else one line per run of equal layers."""
    whole = f"hidden {shape.hidden_size:,}"
    tail = f"vocab {shape.vocab_size:,}{' (tied)' if shape.tied_embeddings else ''}"
    if len(shape.blocks) == 1:
        return (f"depth {shape.num_layers:,} · {whole} · {_layer_text(shape.blocks[0])} · {tail}",)
    runs = (f"{block.count:,} layers: {_layer_text(block)}" for block in shape.blocks)
    return (f"depth {shape.num_layers:,} · {whole} · {tail}", *runs)


def _layer_text(block: Block) -> str:
    mixer, channel = block.mixer, block.channel
    heads = f"heads {mixer.heads:,} (kv {mixer.kv_heads:,}) of {mixer.head_dim:,}"
    if isinstance(mixer, LatentAttention):
        heads = f"latent attention, heads {mixer.heads:,}, latent {mixer.kv_lora_rank:,}"
    elif isinstance(mixer, SelfAttention):
        heads += f" · window {mixer.window:,}" if mixer.window is not None else ""
    else:
        heads = mixer_words(mixer)
    if isinstance(channel, ExpertsFFN):
        shared = f" · shared {channel.shared_ffn_size:,}" if channel.shared_ffn_size else ""
        return (
            f"{heads} · {channel.experts:,} experts of {channel.ffn_size:,}, {channel.topk} per token{shared}"
        )
    if isinstance(channel, DenseFFN) and channel.monarch_blocks is None:
        return f"{heads} · ffn {channel.ffn_size:,}"
    return " · ".join(filter(None, (heads, channel_words(channel))))


def plan_text(design: Design) -> str:
    """The plan in one line, with its schedule, its stages where they differ, and its devices."""
    plan = design.plan
    devices = int(plan.num_devices)
    parts = [plan.describe()]
    if int(plan.pp) > 1:
        parts += [plan.pipeline, stages_text(int(design.shape.num_layers), int(plan.pp), int(plan.vpp))]
    return " · ".join(filter(None, (*parts, f"{devices:,} device{'' if devices == 1 else 's'}")))


def batch_text(design: Design) -> str:
    """``768 sequences of 4,096 tokens, 3.15M tokens per step``."""
    run = design.run
    total = format_count(run.global_batch_sequences * run.sequence_length)
    return (
        f"{run.global_batch_sequences:,} sequences of {run.sequence_length:,} tokens, {total} tokens per step"
    )


def recipe_rows(design: Design) -> tuple[Row, ...]:
    """The figures of the run and its recipe; those that are unknown are left out."""
    rows: list[tuple[str, Figure | None, Style]] = [("tokens", design.run.tokens, "quantity")]
    recipe = design.recipe
    if recipe is not None:
        more: list[tuple[str, Figure | None, Style]] = [
            ("steps", recipe.steps, "whole"),
            ("warm-up steps", recipe.warmup_steps, "whole"),
            ("learning rate", recipe.learning_rate, "quantity"),
            ("final learning rate", recipe.final_learning_rate, "quantity"),
            ("decay fraction", recipe.decay_fraction, "quantity"),
            ("weight decay", recipe.weight_decay, "quantity"),
            ("beta1", recipe.beta1, "quantity"),
            ("beta2", recipe.beta2, "quantity"),
            ("epsilon", recipe.epsilon, "quantity"),
            ("gradient clip", recipe.gradient_clip, "quantity"),
            ("init std", recipe.init_std, "quantity"),
            ("output init std", recipe.output_init_std, "quantity"),
        ]
        rows += more
    return tuple(
        (name, figure_text(figure, style=style), figure) for name, figure, style in rows if figure is not None
    )


def prediction_rows(predicted: Prediction) -> tuple[Row, ...]:
    """The predictions, the loss first; those that are unknown are left out."""
    p = predicted
    rows: list[tuple[str, Figure | None, Style]] = [
        ("loss", p.loss, "loss"),
        ("bits per byte", _bits_per_byte(p.loss), "loss"),
        ("step", p.step_time_s, "quantity"),
        ("tokens/s", p.tokens_per_s, "quantity"),
        ("MFU", p.mfu, "percent"),
        ("memory/device", p.memory_bytes, "quantity"),
        ("goodput", p.goodput, "percent"),
        ("training time", p.train_time_s, "quantity"),
        ("training FLOP", p.train_flops, "quantity"),
        ("power", p.power_w, "quantity"),
        ("energy", p.energy_j, "quantity"),
        ("dollars", p.dollars, "quantity"),
        ("parameters", p.params, "quantity"),
    ]
    if p.active_params.value != p.params.value:
        rows.append(("active parameters", p.active_params, "quantity"))
    far = p.extrapolation is not None and p.extrapolation > FAR_COMPUTE
    beyond = f" · FAR EXTRAPOLATION: {p.extrapolation:,.0f}x outside the law's runs" if far else ""
    if p.params.value > MEASURED_RATIO * p.active_params.value:
        beyond += " · sparser than the law's mixtures"
    limit = f" of {format_quantity(p.memory_limit_bytes.value, 'B')} usable"
    return tuple(
        (
            name,
            figure_text(figure, style=style)
            + (limit if figure is p.memory_bytes else "")
            + (beyond if style == "loss" else ""),
            figure,
        )
        for name, figure, style in rows
        if figure is not None
    )


def transfer_text(design: Design) -> str:
    """How to carry tuned values over from a small proxy; empty where there is no recipe."""
    t = design.recipe.transfer if design.recipe is not None else None
    if t is None:
        return ""
    return (
        f"or tune a proxy of {t.proxy_width:.0f}x{t.proxy_depth:.0f} and multiply: matrices' rate "
        f"{t.hidden_learning_rate:.3g}, their init std {t.hidden_init_std:.3g} and weight decay "
        f"{t.hidden_weight_decay:.3g}, residual branches {t.residual_multiplier:.3g}, logits {t.logit_multiplier:.3g}, "
        f"epsilon {t.epsilon:.3g}; scores over the head's width ({t.source})"
    )


def _bits_per_byte(loss: Figure | None) -> Figure | None:
    """The loss of a byte model in the unit that models with other tokenizers can be compared in."""
    if loss is None or loss.unit != "nat/byte":
        return None
    return replace(
        loss,
        value=loss.value / log(2.0),
        low=None if loss.low is None else loss.low / log(2.0),
        high=None if loss.high is None else loss.high / log(2.0),
        unit="1",
    )


def shares_by_cause(parts: Iterable[Part]) -> dict[str, float]:
    """Share of each cause, largest first."""
    shares: dict[str, float] = {}
    for part in parts:
        shares[part.cause] = shares.get(part.cause, 0.0) + part.share
    return dict(sorted(shares.items(), key=lambda item: -item[1]))


def shares_text(parts: Iterable[Part]) -> str:
    """``compute 71 % · memory 19 % · communication 6 %``."""
    return " · ".join(f"{cause} {percent(share)}" for cause, share in shares_by_cause(parts).items())


def loss_text(loss: float) -> str:
    """A loss with the digits in which candidates differ."""
    return f"{loss:.4f}"


def standing(design: Design, index: int) -> str:
    """How a candidate compares with the choice: ``choice``, ``tie`` or the difference of its loss."""
    if index == 0:
        return "choice"
    candidate = design.candidates[index]
    return "tie" if candidate.tie else f"{candidate.loss - design.candidates[0].loss:+.4f}"


def pick_lines(design: Design) -> tuple[tuple[str, str], ...]:
    """The family of the choice and its best members: (text, kind of evidence); empty where nothing was searched."""
    family = ((f"family: {design.ties.text}", "fitted"),) if design.ties is not None else ()
    return (*family, *((f"{pick.name}: {pick.summary}, {pick.text}", pick.kind) for pick in design.picks))


def ties_text(design: Design) -> str:
    """How many runners-up the uncertainty cannot tell from the choice; empty where there are none to compare."""
    if len(design.candidates) < 2:
        return ""
    choice, *others = design.candidates
    ties = [candidate for candidate in others if candidate.tie]
    head = f"choice {choice.summary} (loss {loss_text(choice.loss)})"
    if not ties:
        return f"{head}: none of the {len(others)} runners-up ties; the next is {_named(others[0])}"
    names = ", ".join(_named(tie) for tie in ties[:3]) + (", ..." if len(ties) > 3 else "")
    verb = "ties" if len(ties) == 1 else "tie"
    return f"{head}: {len(ties)} of the {len(others)} runners-up {verb} (inside the uncertainty): {names}"


def _named(candidate: Candidate) -> str:
    return f"{candidate.summary} ({loss_text(candidate.loss)})"


def rejected_by_count(design: Design) -> list[Rejected]:
    """What candidates fell to, the most frequent first."""
    return sorted(design.rejected, key=lambda item: -item.count)


def rejected_text(design: Design) -> str:
    """How many candidates there were and how many fell to each rule; empty where nothing was searched."""
    if design.num_candidates < 2:
        return ""
    text = f"{design.num_candidates:,} (shape, plan) pairs considered"
    reasons = "; ".join(f"{item.count:,}: {item.reason}" for item in rejected_by_count(design))
    return f"{text}, rejected {reasons}" if reasons else text
