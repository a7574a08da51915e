"""What one sample of a modality costs to train on, and when the compute for it was there.

Decisions: a sample is what a person would call one: 1,000 tokens, a picture, a clip, an object. Its cost is 6 N per
token of the model's own representation, or what the paper's operation count gives; the rows are facts from papers
(``data/history/samples.csv``). A modality is trainable from the budget of the first model of the table that did it;
the year in which the record line had reached that budget is set beside, so that one sees whether compute or the idea
came last. Different rows use different representations: the spread of a modality is part of the answer.
"""

from __future__ import annotations

import csv
from dataclasses import dataclass

from shapewright.evidence import Figure
from shapewright.hardware.catalog import DATA
from shapewright.outlook.growth import Growth
from shapewright.outlook.milestones import Milestone, Milestones

TABLE = DATA / "history" / "samples.csv"


@dataclass(frozen=True, kw_only=True, slots=True)
class SampleCost:
    """Training cost of one sample under one model."""

    modality: str
    sample: str
    """What a sample is."""
    model: str
    flop: Figure
    """Forward and backward of one sample [FLOP]."""
    budget: float
    """Training compute of the model [FLOP]."""
    date: str


@dataclass(frozen=True, kw_only=True, slots=True)
class Trainable:
    """The first model of a modality in the table."""

    modality: str
    model: str
    date: str
    budget: float
    """Its training compute [FLOP]."""
    record_year: float | None
    """Year in which the record line had reached that compute; None where the line does not grow."""
    source: str


def sample_costs(table: Milestones) -> tuple[SampleCost, ...]:
    """The cost per sample of every row of the table, cheapest modality first."""
    with TABLE.open(encoding="utf-8", newline="") as handle:
        rows = [_cost(row, table.find(row["milestone"])) for row in csv.DictReader(handle)]
    order = {
        name: min(row.flop.value for row in rows if row.modality == name)
        for name in {r.modality for r in rows}
    }
    return tuple(sorted(rows, key=lambda row: (order[row.modality], row.modality, row.flop.value)))


def _cost(row: dict[str, str], model: Milestone) -> SampleCost:
    if row["training_flop"]:
        value, how = float(row["training_flop"]), "3 x forward FLOP"
    elif row["parameters"]:
        value, how = 6.0 * float(row["parameters"]) * float(row["tokens"]), "6 x parameters x tokens"
    else:
        value, how = model.flop.value, "the whole training"
    return SampleCost(
        modality=row["modality"], sample=row["sample"], model=model.name, budget=model.flop.value, date=model.date,
        flop=Figure(value=value, unit="FLOP", kind="derived", source=f"{row['source']} ({how})"),
    )  # fmt: skip


def trainable_since(table: Milestones, record: Growth) -> tuple[Trainable, ...]:
    """The first model of every modality since the record line begins, by date."""
    first: dict[str, Milestone] = {}
    for row in table.rows:
        if row.year >= record.first - 1e-6:
            for modality in row.modalities:
                first.setdefault(modality, row)
    return tuple(
        Trainable(modality=name, model=row.name, date=row.date, budget=row.flop.value,
                  record_year=record.year_of(row.flop.value), source=row.flop.source)
        for name, row in sorted(first.items(), key=lambda item: item[1].year)
        if name != "other"
    )  # fmt: skip
