"""The sliders: what they can be set to, and the question that their positions ask.

Decisions: width and heads are set to numbers, everything else to steps away from the design (devices by factors of
two, bandwidths by a quarter of one, the budget by half of one). A new width takes heads of the same size where it can,
and a feed-forward layer of the same ratio; a new number of heads shares out the same width. Mixers with heads of a fixed
size take widths in their steps. Everything else that the design chose is chosen again for each position: plan, batch,
tokens. So a slider answers "what would the best run of this shape be there", and standing still it gives the design.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

from shapewright.designs.document import Candidate, Design
from shapewright.search.families import FAMILIES, MEMORY_VALUE, STATE_HEAD
from shapewright.studio.state import State
from shapewright.units import format_quantity

MOST_DEVICES = 1_048_576


@dataclass(frozen=True, kw_only=True, slots=True)
class Slider:
    """One slider."""

    name: str
    """The parameter of the state."""
    label: str
    low: int
    step: int
    value: int
    rest: int
    """Where it stands for the design itself."""
    texts: tuple[str, ...]
    """What each position means, from ``low`` on."""

    @property
    def high(self) -> int:
        """Its last position."""
        return self.low + (len(self.texts) - 1) * self.step

    @property
    def text(self) -> str:
        """What its position means."""
        return self.texts[(self.value - self.low) // self.step]


def sliders(state: State, design: Design) -> tuple[Slider, ...]:
    """The sliders of a design; those of the shape only where the shape was designed."""
    found = []
    if state.mode == "design" and design.candidates:
        choice = design.candidates[0]
        width, heads = choice.width, choice.heads
        unit, counted = _unit(choice)
        low, high = max(width // 2 // unit, 1) * unit, -(-2 * width // unit) * unit
        low += (width - low) % unit
        found.append(_slider(state, "try_width", "Width", width, range(low, high + 1, unit), str))
        if counted:
            counts = range(max(heads // 2, 1), 2 * heads + 1)
            found.append(_slider(state, "try_heads", "Heads", heads, counts, str))
    lowest = -next(k for k in range(21) if state.devices % 2 ** (k + 1))
    highest = next(k for k in range(6, -1, -1) if k == 0 or state.devices * 2**k <= MOST_DEVICES)
    found.append(
        _slider(
            state, "try_devices", "Devices", 0, range(max(lowest, -16), highest + 1),
            lambda k: f"{round(state.devices * 2.0**k):,}",
        )
    )  # fmt: skip
    bandwidth = design.memory_bandwidth.value
    found.append(
        _slider(
            state, "try_memory", "Memory bandwidth", 0, range(-8, 9),
            lambda k: format_quantity(bandwidth * 2 ** (k / 4), "B/s"),
        )
    )  # fmt: skip
    if sum(item.name.startswith("network ") for item in design.assumptions) > 1:
        found.append(
            _slider(
                state, "try_network", "Network bandwidth", 0, range(-8, 9), lambda k: f"x {2 ** (k / 4):.3g}"
            )
        )
    budget = design.request.budget
    if budget is not None:
        label = "Tokens" if state.mode == "estimate" else "Budget"
        found.append(
            _slider(
                state, "try_budget", label, 0, range(-8, 9),
                lambda k: format_quantity(budget.value * 2 ** (k / 2), budget.unit),
            )
        )  # fmt: skip
    return tuple(found)


def _slider(state: State, name: str, label: str, rest: int, values: range, text) -> Slider:
    at = getattr(state, name)
    value = rest if at is None else min(max(at, values[0]), values[-1])
    value = values[round((value - values[0]) / values.step)]
    return Slider(
        name=name, label=label, low=values[0], step=values.step, value=value, rest=rest,
        texts=tuple(text(v) for v in values),
    )  # fmt: skip


def _unit(choice: Candidate) -> tuple[int, bool]:
    """The step of its width, in which mixers with heads of a fixed size must come, and whether its heads are counted."""
    kinds = {kind for kind, _ in FAMILIES[choice.family].mixers}
    if "mlstm" in kinds:
        return MEMORY_VALUE, False
    if kinds & {"gated_deltanet", "mamba2"}:
        return STATE_HEAD, True
    return (64 if choice.width >= 1024 else 16 if choice.width >= 256 else 8), True


def tried(state: State, design: Design) -> State:
    """The state that the sliders stand for: a design of its own, with its shape fixed.

    Args:
        state: the page's, with its sliders.
        design: what it shows.
    """
    changes: dict[str, object] = {}
    if state.mode == "design" and design.candidates:
        changes |= _pins(state, design)
    settings = list(state.setting)
    if state.try_memory:
        settings.append(f"memory_bandwidth={2 ** (state.try_memory / 4):.6g}x")
    if state.try_network:
        settings.append(f"scale_out.bandwidth={2 ** (state.try_network / 4):.6g}x")
    if state.try_devices:
        changes["devices"] = max(round(state.devices * 2.0**state.try_devices), 1)
    if state.try_budget:
        factor = 2 ** (state.try_budget / 2)
        if state.mode == "design":
            changes["budget"] = state.budget * factor
        elif design.run.tokens is not None:
            changes["tokens"] = f"{design.run.tokens.value * factor:.6g}"
    return replace(state.alone(), setting=tuple(settings), **changes)


def candidate_pins(candidate: Candidate) -> dict[str, Any]:
    """What fixes a candidate as the one shape of a search.

    A search takes the feed-forward width that a token passes through; a candidate states that of one expert. A lifetime of
    serving chooses among shapes, so it has no say where one is fixed.
    """
    family = FAMILIES.get(candidate.family)
    passed = family.topk + family.shared if family is not None and family.experts else 1
    return {
        "family": None if candidate.family == "dense" else candidate.family,
        "width": candidate.width, "depth": candidate.depth, "heads": candidate.heads, "kv_heads": candidate.kv_heads,
        "head_dim": None, "ffn_size": candidate.ffn_size * passed, "serve": None,
    }  # fmt: skip


def _pins(state: State, design: Design) -> dict[str, Any]:
    """What fixes the shape at the positions of width and heads."""
    pins = candidate_pins(design.candidates[0])
    mixer = design.shape.blocks[0].mixer
    base, heads, ffn = pins["width"], pins["heads"], pins["ffn_size"]
    head_dim = int(getattr(mixer, "head_dim", None) or getattr(mixer, "v_head_dim", base // heads))
    width, rest = state.try_width or base, heads
    if not _unit(design.candidates[0])[1]:
        return pins if width == base else {**pins, "width": width, "heads": None, "kv_heads": None,
                                           "ffn_size": _scaled(ffn, width, base)}  # fmt: skip
    if state.try_heads:
        heads = state.try_heads
    elif width != base:
        heads = max(round(width / head_dim), 1)
    if width != base or heads != rest:
        # Heads share the width; kernels want them in steps of eight.
        head_dim = max(round(width / heads / 8), 1) * 8
    kv_heads = max(k for k in range(1, pins["kv_heads"] + 1) if heads % k == 0)
    return {
        **pins, "width": width, "heads": heads, "kv_heads": kv_heads, "head_dim": head_dim,
        "ffn_size": _scaled(ffn, width, base),
    }  # fmt: skip


def _scaled(ffn: int, width: int, base: int) -> int:
    """A feed-forward size of the same ratio to another width."""
    unit = 128 if ffn % 128 == 0 else 8
    return ffn if width == base else max(round(ffn * width / base / unit), 1) * unit
