"""Which of two published plans is faster: how often predictions say what was measured.

A pair is two runs of one model, format, sequence length and task on one hardware under different plans, batches or numbers
of devices, at least ``APART`` apart as measured. ``per-device`` compares the time of a sequence on one device, where plans
of different sizes meet as equals; ``run`` the time of a sequence in the whole run, where more devices are usually faster.
Runs of the same plan that differ by a container's version only are not two plans.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from itertools import combinations

from shapewright.validation.published import is_held_out
from shapewright.validation.training import Point

APART = 0.03
"""Relative difference below which the order of two measurements says nothing: one run repeated moves by as much."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Order:
    """How many pairs of a slice come out in the measured order."""

    name: str
    pairs: int
    right: float
    """Share of the pairs [1]."""


def orders(points: Iterable[Point]) -> list[Order]:
    """The order of pairs, for all rows and for those that no fit saw, with and without the small shapes of vTrain."""
    rows = list(points)
    found = []
    for seen, chosen in (("all", rows), ("held-out", [p for p in rows if is_held_out(p.row)])):
        for kind, members in (
            ("small-shapes", [p for p in chosen if "vTrain" in p.row.source]),
            ("others", [p for p in chosen if "vTrain" not in p.row.source]),
        ):
            for measure in ("per-device", "run"):
                pairs, right = _count(members, per_device=measure == "per-device")
                if pairs:
                    found.append(Order(name=f"{seen}/{kind}/{measure}", pairs=pairs, right=right / pairs))
    return found


def _count(points: list[Point], *, per_device: bool) -> tuple[int, int]:
    groups: dict[tuple[object, ...], list[Point]] = {}
    for p in points:
        r = p.row
        key = (r.shape.name, r.hardware, r.precision, r.seq_len, r.trainable, r.generation)
        groups.setdefault(key, []).append(p)
    pairs = right = 0
    for members in groups.values():
        for a, b in combinations(members, 2):
            if _setting(a) == _setting(b):
                continue
            measured = _pace(a, a.row.step_time, per_device) / _pace(b, b.row.step_time, per_device)
            if abs(measured - 1) < APART:
                continue
            predicted = _pace(a, a.predicted, per_device) / _pace(b, b.predicted, per_device)
            pairs += 1
            right += (measured < 1) == (predicted < 1)
    return pairs, right


def _setting(p: Point) -> tuple[object, ...]:
    return p.row.plan, p.row.cluster.num_devices, p.row.global_batch


def _pace(p: Point, seconds: float, per_device: bool) -> float:
    devices = p.row.cluster.num_devices if per_device else 1
    return seconds * devices / p.row.global_batch
