"""Where another primitive becomes the best one: token mixers against each other along one property.

Decisions: on every chip the best dense design is searched, then most of its attention layers are replaced at the ratio of a
published hybrid, the best plan is searched for each, and the law with the mixer's prior says what the budget buys. The
priors are wide and mostly centred on attention (:mod:`scaling.mixers`), so a mixer wins by its cost alone, and a lead
inside the prior's interval is said to be no verdict about the loss. The crossing is interpolated between the two
values of the property where the order changes, in logarithms.
Neglects: re-designing width and depth for the hybrid (the dense optimum's are kept), and what long context is worth.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise

import numpy as np

from shapewright.architecture.graph import num_active_params, num_embedding_params, num_params
from shapewright.architecture.shape import Block, DeltaNet, Mamba2, Mixer, SelfAttention, Shape
from shapewright.errors import InfeasibleError
from shapewright.outlook.hypothetical import Chip
from shapewright.plan.parallel import enumerate_plans
from shapewright.search.budget import Budget, device_seconds
from shapewright.search.joint import Options, memory_limit, rank
from shapewright.search.lattice import single
from shapewright.search.learning import learned_loss, mixer_shares
from shapewright.search.ranking import Ranking
from shapewright.search.sweep import sweep_plans

LEAD = 5e-4
"""Loss by which another primitive must lead full attention before it counts as the best [nat, assumed]."""
STATE_HEAD = 128
"""Width of a head of a recurrent mixer."""
WINDOW = 1024
"""Tokens that a sliding layer sees (Gemma 3)."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Primitive:
    """A token mixer and the share of layers that keep full attention beside it."""

    name: str
    every: int
    """One layer in so many keeps full attention; 0: none does."""
    evidence: str
    """The model whose ratio it is."""


PRIMITIVES = (
    Primitive(name="attention", every=1, evidence="full attention in every layer"),
    Primitive(
        name="sliding window",
        every=6,
        evidence="Gemma 3 (arXiv 2503.19786): five windows of 1,024 to one full layer",
    ),
    Primitive(name="gated DeltaNet", every=4, evidence="Qwen3-Next: three to one full layer"),
    Primitive(name="Mamba-2", every=8, evidence="Jamba (arXiv 2403.19887): seven to one full layer"),
)


@dataclass(frozen=True, kw_only=True, slots=True)
class Entry:
    """One primitive on one chip."""

    primitive: str
    loss: float | None
    """Predicted loss at the budget; None where no plan fits."""
    low: float | None
    """Lower end of the interval, the prior's width in it."""
    high: float | None
    tokens_per_s: float | None
    reason: str


@dataclass(frozen=True, kw_only=True, slots=True)
class Place:
    """All primitives at one value of the property."""

    value: float
    text: str
    entries: tuple[Entry, ...]
    best: str
    lead: float
    """Loss of the next one less the best's; negative where a lead is too small to count."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Crossing:
    """Where the best primitive changes."""

    before: str
    after: str
    value: float
    low: float
    """The value before, which is the resolution of the sweep."""
    high: float


@dataclass(frozen=True, kw_only=True, slots=True)
class Contest:
    """The contest along one property."""

    axis: str
    places: tuple[Place, ...]
    crossings: tuple[Crossing, ...]
    evidence: tuple[str, ...]


def contest(
    axis: str,
    values: Sequence[tuple[float, str]],
    chip_at: Callable[[str], Chip],
    budget: Budget,
    options: Options,
) -> Contest:
    """Compare the primitives at every value of one property.

    Args:
        axis: the property.
        values: its values as numbers and as the user writes them.
        chip_at: the chip of a value's text.
        budget: of time or dollars.
        options: what the user fixes of the design.
    """
    places = []
    for value, text in values:
        chip = chip_at(text)
        entries = _entries(chip, budget, options)
        losses = {e.primitive: e.loss for e in entries if e.loss is not None}
        if not losses:
            continue
        first = min(losses, key=lambda name: losses[name])
        usual = losses.get(PRIMITIVES[0].name, math.inf)
        best = PRIMITIVES[0].name if usual - losses[first] < LEAD else first
        rest = [loss for name, loss in losses.items() if name != best]
        places.append(Place(value=value, text=text, entries=entries, best=best,
                            lead=min(rest, default=math.inf) - losses[best]))  # fmt: skip
    if not places:
        raise InfeasibleError(f"nothing fits at any value of {axis}", "every chip was tried", "more devices")
    return Contest(axis=axis, places=tuple(places), crossings=tuple(_crossings(places)),
                   evidence=tuple(f"{p.name}: {p.evidence}" for p in PRIMITIVES))  # fmt: skip


def _entries(chip: Chip, budget: Budget, options: Options) -> tuple[Entry, ...]:
    options = replace(
        options, precision=chip.precision or options.precision, seq_len=chip.seq_len or options.seq_len
    )
    try:
        ranking = rank(chip.cluster, budget, options)
    except InfeasibleError as error:
        return tuple(_none(p.name, error.what) for p in PRIMITIVES)
    dense = ranking.shape(ranking.best)
    return tuple(_entry(p, with_primitive(dense, p), ranking, chip, budget, options) for p in PRIMITIVES)


def _none(name: str, reason: str) -> Entry:
    return Entry(primitive=name, loss=None, low=None, high=None, tokens_per_s=None, reason=reason)


def _entry(
    primitive: Primitive, shape: Shape, ranking: Ranking, chip: Chip, budget: Budget, options: Options
) -> Entry:
    workload, batch = ranking.workload, ranking.global_batch
    plans = enumerate_plans(chip.cluster, seq_len=workload.seq_len, fixed=dict(options.plan))
    table = single(shape)
    sweep = sweep_plans(table, plans, workload, global_batch=batch, memory_limit=memory_limit(workload))
    if sweep.best[0] < 0:
        return _none(primitive.name, "no plan fits")
    step = float(sweep.step_time[0])
    seconds = device_seconds(budget, chip.cluster)
    rate = batch * workload.seq_len / step
    # An energy budget buys the time that it buys the dense design: both run at the power limit.
    time = seconds if seconds is not None else float(ranking.tokens[ranking.best]) / _dense_rate(ranking)
    found = learned_loss(
        ranking.law, params=float(num_params(shape)), active_params=float(num_active_params(shape)),
        embedding_params=float(num_embedding_params(shape)), tokens=rate * time, width=float(shape.hidden_size),
        depth=float(shape.num_layers), shares=mixer_shares(shape), precision=workload.precision.name,
    )  # fmt: skip
    return Entry(primitive=primitive.name, loss=float(np.ravel(found.loss)[0]), low=float(np.ravel(found.low)[0]),
                 high=float(np.ravel(found.high)[0]), tokens_per_s=rate, reason="")  # fmt: skip


def _dense_rate(ranking: Ranking) -> float:
    return ranking.global_batch * ranking.workload.seq_len / float(ranking.step_time[ranking.best])


def with_primitive(shape: Shape, primitive: Primitive) -> Shape:
    """A dense decoder with most of its attention layers replaced."""
    if primitive.every == 1:
        return shape
    block = shape.blocks[0]
    depth, mixer = int(shape.num_layers), block.mixer
    assert isinstance(mixer, SelfAttention)
    full = max(round(depth / primitive.every), 1)
    blocks = (
        replace(block, count=full),
        replace(block, mixer=_mixer(primitive.name, mixer, int(shape.hidden_size)), count=depth - full),
    )
    return replace(shape, name=f"{shape.name} {primitive.name}", blocks=tuple(b for b in blocks if _count(b)))


def _count(block: Block) -> int:
    return int(block.count)


def _mixer(name: str, attention: SelfAttention, width: int) -> Mixer:
    heads = max(width // STATE_HEAD, 1)
    if name == "sliding window":
        return replace(attention, window=WINDOW)
    if name == "gated DeltaNet":
        return DeltaNet(key_heads=heads, value_heads=2 * heads, key_dim=STATE_HEAD, value_dim=STATE_HEAD)
    return Mamba2(heads=max(width // 32, 1), head_dim=64, state_size=128, groups=min(8, heads))


def _crossings(places: Sequence[Place]) -> list[Crossing]:
    found = []
    for a, b in pairwise(places):
        if a.best == b.best:
            continue
        gaps = [_gap(place, a.best, b.best) for place in (a, b)]
        share = 0.5 if None in gaps or gaps[0] == gaps[1] else gaps[0] / (gaps[0] - gaps[1])  # type: ignore[operator]
        value = math.exp(math.log(a.value) + min(max(share, 0.0), 1.0) * math.log(b.value / a.value))
        found.append(Crossing(before=a.best, after=b.best, value=value, low=a.value, high=b.value))
    return found


def _gap(place: Place, first: str, second: str) -> float | None:
    loss = {entry.primitive: entry.loss for entry in place.entries}
    one, other = loss.get(first), loss.get(second)
    return None if one is None or other is None else one - other
