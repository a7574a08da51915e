"""What if the hardware were another: the best design on chips that do not exist, and which of them one should wish for.

Decisions: one budget of time, dollars or energy is held fixed and every chip is searched anew, so that the answer is the
loss that the chip would have bought; a budget of FLOP says nothing about hardware and is refused. A swept chip that breaks
a rule of physics stays in the table with its reason.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from shapewright.errors import UnknownNameError, UsageError
from shapewright.hardware.catalog import parse_cluster
from shapewright.hardware.cluster import Cluster
from shapewright.outlook.costs import Shares, dollar_shares, power_shares
from shapewright.outlook.crossing import Contest, contest
from shapewright.outlook.hypothetical import Chip, hypothetical
from shapewright.outlook.outcome import (
    Elasticity,
    Outcome,
    best_design,
    elasticities,
    search,
    time_elasticity,
)
from shapewright.outlook.scenarios import Scenario, pick
from shapewright.outlook.wanted import Wanted, wanted
from shapewright.scaling.law import far_remarks
from shapewright.search.budget import UNITS, Budget
from shapewright.search.joint import Options
from shapewright.units import format_quantity

LENGTHS = "seq_len=2048,4096,8192,16384,32768,65536,131072"
"""Where token mixers compete when nothing else is swept."""
MOST_SWEPT = 400
"""Chips of one sweep."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Asked:
    """One hypothetical chip with its answer."""

    name: str
    """The settings, or the name of the scenario."""
    outcome: Outcome
    worth: float | None
    """Device-time on the real hardware that reaches the same loss, over the budget's; None where nothing fits."""
    assumptions: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True, slots=True)
class WhatIf:
    """The whole answer."""

    hardware: str
    budget: str
    base: Outcome
    time_elasticity: float
    """d ln loss / d ln device-time on the real hardware."""
    asked: tuple[Asked, ...]
    swept: tuple[Asked, ...]
    axes: tuple[str, ...]
    """Properties of the sweep."""
    scenarios: tuple[Asked, ...]
    elasticities: tuple[Elasticity, ...]
    wanted: tuple[Wanted, ...]
    contest: Contest | None
    """Token mixers against each other along one property."""
    shares: tuple[Shares, ...]
    remarks: tuple[str, ...]


def whatif(
    hardware: str,
    budget: Budget,
    options: Options,
    *,
    settings: Sequence[str] = (),
    sweeps: Sequence[str] = (),
    scenario: Sequence[str] = (),
    slopes: bool = False,
    wish: Sequence[str] = (),
    primitives: bool = False,
    shares: Sequence[str] = (),
) -> WhatIf:
    """Ask for the best design on hypothetical hardware.

    Args:
        hardware: the real hardware that everything is a change of.
        budget: of time, dollars or energy.
        options: what the user fixes of the design.
        settings: ``NAME=VALUE``, all together one chip.
        sweeps: ``NAME=LOW..HIGH:N`` or ``NAME=A,B,C``; several span a grid.
        scenario: names of scenarios, or ``all``.
        slopes: whether elasticities are wanted.
        wish: ``dollars`` and ``power``: at which equal cost the wanted hardware is searched.
        primitives: whether token mixers compete along the first sweep, or along the sequence length where none is given.
        shares: replaced shares of cost, ``dollars.memory=0.3``.

    Raises:
        UnknownNameError, UsageError: a name is not known, a chip breaks a rule of physics, the budget is one of FLOP.
        InfeasibleError: nothing fits on the real hardware.
    """
    cluster = parse_cluster(hardware)
    real = hypothetical(cluster, ())
    changed = hypothetical(cluster, settings)
    grid, axes = _grid(settings, sweeps)
    picked = pick(tuple(scenario))
    for kind in wish:
        if kind not in ("dollars", "power"):
            raise UsageError(
                f"--wish (={kind!r}) is not known", "known: dollars, power", "for example --wish dollars"
            )
    costs = _costs(changed, shares) if slopes or wish or shares else None
    near = search(real, budget, options)
    base = best_design(real, budget, options, near=near)
    assert base.loss is not None
    time = time_elasticity(real, budget, options, base.loss, near=near)

    def ask(name: str, chip: Chip, assumptions: tuple[str, ...] = ()) -> Asked:
        found = best_design(chip, budget, options, near=near)
        return Asked(name=name, outcome=found, worth=_worth(found, base.loss, time), assumptions=assumptions)

    swept = []
    for row in grid:
        try:
            swept.append(ask(" ".join(row), hypothetical(cluster, (*settings, *row))))
        except UnknownNameError:
            raise
        except UsageError as error:
            swept.append(_impossible(" ".join(row), row, error))
    told = []
    for each in picked:
        told.append(_scenario(each, cluster, settings, ask))
    return WhatIf(
        hardware=hardware, budget=_budget_text(budget), base=base, time_elasticity=time,
        asked=(ask(" ".join(settings), changed),) if settings else (), swept=tuple(swept), axes=axes,
        scenarios=tuple(told),
        elasticities=elasticities(changed, budget, options, _sensible(changed), dollars=costs[0], power=costs[1],
                                  known=None if settings else (near, base.loss, time))
        if slopes and costs else (),
        wanted=tuple(wanted(changed, budget, options, each) for kind in wish for each in costs or () if each.kind == kind),
        contest=_contest(cluster, budget, options, settings, sweeps) if primitives else None,
        shares=costs or (), remarks=(
            *_remarks(changed), *_grain(base.loss, float(near.loss[near.best])),
            *far_remarks(near.law, 6.0 * float(near.active_params[near.best] * near.tokens[near.best])),
        ),
    )  # fmt: skip


def _contest(
    cluster: Cluster, budget: Budget, options: Options, settings: Sequence[str], sweeps: Sequence[str]
) -> Contest:
    """The primitives along the first sweep."""
    rows, axes = _grid((), sweeps[:1] or [LENGTHS])
    texts = [row[0].partition("=")[2] for row in rows]
    values = []
    for text in texts:
        number = text.removesuffix("x")
        try:
            values.append((float(number), text))
        except ValueError as error:
            raise UsageError(f"{axes[0]} (={text!r}) is no plain number or factor", "a crossing lies between numbers",
                             f"for example: --sweep {axes[0]}=0.5x..2x:5") from error  # fmt: skip
    return contest(
        axes[0], values, lambda text: hypothetical(cluster, (*settings, f"{axes[0]}={text}")), budget, options
    )


def _worth(found: Outcome, base: float | None, time: float) -> float | None:
    if found.loss is None or base is None:
        return None
    return (found.loss / base) ** (1.0 / time)


def _impossible(name: str, row: tuple[str, ...], error: UsageError) -> Asked:
    empty = Outcome(settings=row, loss=None, low=None, high=None, shape="-", params=None, tokens=None, step_time_s=None,
                    mfu=None, plan="", reason=error.what)  # fmt: skip
    return Asked(name=name, outcome=empty, worth=None)


def _scenario(
    each: Scenario,
    cluster: Cluster,
    settings: Sequence[str],
    ask: Callable[[str, Chip, tuple[str, ...]], Asked],
) -> Asked:
    try:
        return ask(
            each.name, hypothetical(cluster, (*settings, *each.settings)), (each.label, *each.assumptions)
        )
    except UsageError as error:
        found = _impossible(each.name, each.settings, error)
        return Asked(
            name=each.name, outcome=found.outcome, worth=None, assumptions=(each.label, *each.assumptions)
        )


def _grid(settings: Sequence[str], sweeps: Sequence[str]) -> tuple[list[tuple[str, ...]], tuple[str, ...]]:
    """The rows of a sweep as settings, and its axes.

    Raises:
        UsageError: a sweep cannot be read, or has too many chips.
    """
    columns, axes = [], []
    for text in sweeps:
        name, equals, values = (part.strip() for part in text.partition("="))
        if not equals or not values:
            raise UsageError(f"--sweep (={text!r}) is not NAME=VALUES", "it names one property and several values",
                             "for example: --sweep memory=0.5x..2x:5, or --sweep sram=1x,2x,4x")  # fmt: skip
        axes.append(name)
        columns.append([f"{name}={value}" for value in _values(text, values)])
    rows = list(itertools.product(*columns)) if columns else []
    if len(rows) > MOST_SWEPT:
        raise UsageError(
            f"the sweep has {len(rows)} chips", f"the most is {MOST_SWEPT}", "fewer values per property"
        )
    return rows, tuple(axes)


def _values(text: str, values: str) -> list[str]:
    """``0.5x..2x:5`` (evenly spaced in the logarithm) or ``1x,2x,4x``."""
    if ".." not in values:
        return [value.strip() for value in values.split(",") if value.strip()]
    span, _, count = values.partition(":")
    low, high = span.split("..", 1)
    factor = low.endswith("x") and high.endswith("x")
    try:
        ends = [float(end.removesuffix("x")) for end in (low, high)]
        number = int(count or 5)
        if not (0 < ends[0] < ends[1] and number >= 2):
            raise ValueError
    except ValueError as error:
        raise UsageError(f"--sweep (={text!r}) is not LOW..HIGH:N", "both ends are positive, the lower first, N at least 2",
                         "for example: --sweep memory=0.5x..2x:5") from error  # fmt: skip
    suffix = "x" if factor else ""
    return [f"{value:.6g}{suffix}" for value in np.geomspace(ends[0], ends[1], number)]


def _costs(chip: Chip, shares: Sequence[str]) -> tuple[Shares, Shares]:
    given: dict[str, list[str]] = {"dollars": [], "power": []}
    for text in shares:
        kind, dot, rest = text.partition(".")
        if kind not in given or not dot:
            raise UsageError(f"--share (={text!r}) is not KIND.NAME=SHARE", "the kinds are dollars and power",
                             "for example: --share dollars.memory=0.3")  # fmt: skip
        given[kind].append(rest)
    return dollar_shares(chip.cluster, given["dollars"]), power_shares(chip.cluster, given["power"])


def _sensible(chip: Chip) -> tuple[str, ...]:
    """The properties that this cluster has."""
    roles = [tier.role for tier in chip.cluster.tiers]
    names = ["matrix_unit", "sram", "memory", "memory_bandwidth", "memory_capacity"]
    names += [f"{role}.bandwidth" for role in dict.fromkeys(roles)]
    return (*names, *(["network_latency"] if roles else []))


def _budget_text(budget: Budget) -> str:
    return f"{format_quantity(budget.value, UNITS[budget.kind])} of {budget.kind}"


GRAIN = 1e-3
"""Difference of loss from which what a search lays out is said to show."""


def _grain(compared: float, whole: float) -> tuple[str, ...]:
    """What the shapes that a search lays out leave open, where that is more than ``GRAIN``."""
    gap = abs(compared - whole)
    if gap <= GRAIN:
        return ()
    return (
        f"on the real hardware a whole search finds a loss of {whole:.4f}, the searches compared here {compared:.4f}: "
        f"differences below {gap:.4f} are those of the shapes laid out, not of the hardware",
    )


def _remarks(chip: Chip) -> tuple[str, ...]:
    texts = [
        "kernels of a chip that nobody built are the real one's, scaled by its figures; their calibration is not",
        "power per FLOP follows the power limit: more FLOP/s at the same TDP means fewer joules per FLOP",
        "sram is priced by the cache; what kernels gain from more shared memory per SM is not known and not counted",
    ]
    if chip.cluster.accelerator.clock is None:
        texts.append(
            f"{chip.cluster.accelerator.name}: the clock of its peaks is not published; peaks are held against its own"
        )
    return tuple(texts)
