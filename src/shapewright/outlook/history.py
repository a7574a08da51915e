"""Where compute came from: growth, the way from AlexNet, the price of modalities, and where a design stands.

Decisions: everything is drawn from one table of models, the project's own or Epoch AI's when it is given; the growth
of all, of those in the running top ten, and of the running record are three different questions and are all shown.
The frontier is the line through the running record.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from shapewright.errors import UsageError
from shapewright.evidence import Figure
from shapewright.outlook.factors import Split, split
from shapewright.outlook.growth import Growth, fit_growth
from shapewright.outlook.milestones import (
    ALEXNET,
    MODALITIES,
    UTILISATION_SOURCE,
    Milestone,
    Milestones,
    own_milestones,
    records,
)
from shapewright.outlook.samples import SampleCost, Trainable, sample_costs, trainable_since
from shapewright.scaling.law import Z90
from shapewright.units import format_quantity

SINCE = 2012 + 8 / 12
"""AlexNet's month."""
TOLD = ("GPT-3", "Llama 3.1 405B", "GPT-4.5")
"""Models whose distance from AlexNet is always told."""
LARGE_TABLE = Figure(
    value=4.63, unit="1", kind="measured", low=4.24, high=5.07,
    source="all 453 models with a known compute from 2012-09 to 2026-07 in Epoch AI's table of 1,036 notable models "
    "(CC-BY 4.0), by the same fit",
)  # fmt: skip
"""Growth per year in the larger table, which the project does not ship; ``history --data`` reproduces it."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Standing:
    """Where a compute stands in the history."""

    flop: float
    what: str
    """Whose compute it is."""
    frontier_year: float | None
    """Year in which the record line passes it; None where the line does not grow."""
    frontier_low: float | None
    """90 % of record models lie between."""
    frontier_high: float | None
    usual_year: float | None
    """Year in which the line through all models passes it."""
    first_above: str | None
    """The first model with at least this compute, with its date; None where none has."""
    over_alexnet: float
    recent_share: float
    """Share of the models of the table's last two years that took less."""


@dataclass(frozen=True, kw_only=True, slots=True)
class History:
    """The whole answer."""

    source: str
    domain: str | None
    since: float
    rows: tuple[Milestone, ...]
    skipped: dict[str, int]
    growth: tuple[Growth, ...]
    """All, the running top ten, the running record, and each modality with enough models."""
    record: tuple[Milestone, ...]
    splits: tuple[Split, ...]
    samples: tuple[SampleCost, ...]
    trainable: tuple[Trainable, ...]
    standing: Standing | None
    remarks: tuple[str, ...]

    def line(self, name: str) -> Growth:
        """The growth of one set."""
        return next(growth for growth in self.growth if growth.name == name)


def history(
    table: Milestones | None = None,
    *,
    domain: str | None = None,
    since: float = SINCE,
    models: Sequence[str] = (),
    flop: float | None = None,
    flop_of: str = "",
) -> History:
    """The history of training compute.

    Args:
        table: the models; None for the project's own.
        domain: one of the modalities; None for all.
        since: first year.
        models: more models to compare with AlexNet.
        flop: a training compute to place [FLOP].
        flop_of: whose it is.

    Raises:
        UnknownNameError: no such modality or model.
        UsageError: too few models for a growth rate.
    """
    own, table = own_milestones(), table or own_milestones()
    if flop is not None and not 0 < flop < 1e40:
        raise UsageError(
            f"--flops (={flop:g}) is not a training compute", "it must be positive", "for example 1e22"
        )
    picked = table.only(domain=domain, since=since)
    record = records(picked.rows)
    lines = [fit_growth("all", picked.rows)]
    for name, rows in (("running top ten", records(picked.rows, top=10)), ("running record", record)):
        lines += _try(name, rows)
    for name in MODALITIES if domain is None else ():
        rows = [row for row in picked.rows if name in row.modalities]
        lines += _try(name, rows) if len(rows) >= 8 and name != "other" else []
    frontier = next((line for line in lines if line.name == "running record"), lines[0])
    told = dict.fromkeys(
        [*(own.find(name).name for name in TOLD), *(_find(name, own, table).name for name in models)]
    )
    return History(
        source=table.source, domain=domain, since=since, rows=picked.rows, skipped=dict(table.skipped),
        growth=tuple(lines), record=record,
        splits=tuple(split(own.find(ALEXNET), _find(name, own, table)) for name in told),
        samples=sample_costs(own), trainable=trainable_since(table.only(since=since), frontier),
        standing=None if flop is None else place(flop, flop_of, picked, lines[0], frontier, own),
        remarks=_remarks(picked, table is own),
    )  # fmt: skip


def _find(name: str, own: Milestones, table: Milestones) -> Milestone:
    """A model of the own table, which knows the chips, or else of the given one."""
    try:
        return own.find(name)
    except UsageError:
        return table.find(name)


def _try(name: str, rows: Sequence[Milestone]) -> list[Growth]:
    """The growth of a set, where it has one."""
    try:
        return [fit_growth(name, rows)]
    except UsageError:
        return []


def place(
    flop: float, what: str, table: Milestones, usual: Growth, frontier: Growth, own: Milestones
) -> Standing:
    """Where a training compute stands against the lines and the models of a table."""
    year = frontier.year_of(flop)
    # The line is known better than a model is near it: a frontier model lies within the scatter of the record.
    reach = 0.0 if year is None else Z90 * frontier.scatter / frontier.slope
    above = next((row for row in table.rows if row.flop.value >= flop), None)
    last = table.rows[-1].year
    recent = [row for row in table.rows if row.year >= last - 2.0]
    return Standing(
        flop=flop, what=what or format_quantity(flop, "FLOP"), frontier_year=year,
        frontier_low=None if year is None else year - reach, frontier_high=None if year is None else year + reach,
        usual_year=usual.year_of(flop), first_above=None if above is None else f"{above.name}, {above.date}",
        over_alexnet=flop / own.find(ALEXNET).flop.value,
        recent_share=sum(row.flop.value < flop for row in recent) / len(recent),
    )  # fmt: skip


def _remarks(table: Milestones, is_own: bool) -> tuple[str, ...]:
    counts = {name: sum(row.confidence == name for row in table.rows) for name in
              ("confident", "likely", "speculative", "unknown")}  # fmt: skip
    texts = [
        "confidence (within 3, 10 or 30 times): "
        + ", ".join(f"{n} {name}" for name, n in counts.items() if n)
    ]
    if is_own:
        methods = {name: sum(row.method == name for row in table.rows) for name in
                   ("6ND", "operations", "chip-hours", "published", "Epoch AI")}  # fmt: skip
        texts.append(
            "FLOP from 6 N D {6ND}, operation counts {operations}, chip-hours {chip-hours}, the authors {published}, "
            "estimates of Epoch AI {Epoch AI}".format(**methods)
        )
        texts.append(f"chip-hours count at .33 of the peak: {UTILISATION_SOURCE}")
        texts.append(
            "milestones are a choice of well-known models, larger in early years than notable ones on average"
        )
    texts.append("most closed models since 2025 have no estimate, so the last years are thin at the top")
    return tuple(texts)
