"""Ideas with a compute-equivalent gain: the project's list, the user's own, and what ``shapewright gain`` measured.

Decisions: an idea is a gain at a training compute with its interval and its slope against compute; a gain without a slope
is not taken as constant but gets the slope that public evidence has for bundles of ideas (shrinking, wide). A gain in
FLOP times the ratio of utilisations is the gain in device-time.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from shapewright.errors import DocumentError
from shapewright.evidence import KINDS
from shapewright.hardware.catalog import DATA
from shapewright.hardware.document import read_toml

TABLE = DATA / "portfolio" / "ideas.toml"
UNKNOWN_SLOPE = (-0.08, -0.20, 0.04)
"""Slope of an idea seen at one scale, with its 90 % interval [assumed]: the measured bundles of modded-nanogpt lie at
-.115 and -.083, tuned optimizers at -.049 (arXiv 2509.02046), tuned blocks at .01."""
_REQUIRED = ("name", "gain", "gain_low", "gain_high", "at_flops", "kind", "source")
_OPTIONAL = ("group", "slope", "slope_low", "slope_high", "hardware", "test_flops")


@dataclass(frozen=True, kw_only=True, slots=True)
class Idea:
    """One candidate."""

    name: str
    group: str
    """Ideas of one group replace each other."""
    gain: float
    """Compute-equivalent gain in FLOP at ``at_flops``."""
    gain_low: float
    gain_high: float
    at_flops: float
    """Largest training compute at which it was seen [FLOP]."""
    slope: float
    """d ln gain / d ln compute."""
    slope_low: float
    slope_high: float
    slope_known: bool
    """False where the slope is :data:`UNKNOWN_SLOPE`."""
    hardware: float
    """Utilisation with it over that without it: what turns a gain in FLOP into one in device-time."""
    test_flops: float | None
    """What a verdict of one's own would cost [FLOP]; None for the usual share."""
    kind: str
    source: str


def shipped_ideas() -> tuple[Idea, ...]:
    """The project's list."""
    return read_ideas(TABLE)


def read_ideas(path: str | Path) -> tuple[Idea, ...]:
    """Ideas of a TOML file with ``[[idea]]`` tables, or of the JSON that ``shapewright gain --json`` prints.

    Raises:
        DocumentError: the file cannot be read, a key is missing or unknown, or a number breaks its rule.
    """
    path = Path(path)
    if path.suffix == ".json":
        return _measured(path)
    rows = read_toml(path).get("idea")
    if not isinstance(rows, list) or not rows:
        raise DocumentError(f"{path} has no [[idea]] tables", f"an idea has {', '.join(_REQUIRED)}",
                            "copy the list: src/shapewright/data/portfolio/ideas.toml")  # fmt: skip
    return tuple(_idea(path, at, row) for at, row in enumerate(rows))


def _idea(path: Path, at: int, row: Mapping[str, Any]) -> Idea:
    where = f"{path}: idea[{at}]"
    for key in row:
        if key not in (*_REQUIRED, *_OPTIONAL):
            raise DocumentError(
                f"{where}.{key} is not known", f"known: {', '.join((*_REQUIRED, *_OPTIONAL))}"
            )
    for key in _REQUIRED:
        if key not in row:
            raise DocumentError(
                f"{where}.{key} is missing", "a gain is worth nothing without its scale and source"
            )
    for key in ("gain", "gain_low", "gain_high", "at_flops", "hardware", "test_flops"):
        value = row.get(key, 1.0)
        if (
            isinstance(value, bool)
            or not isinstance(value, (int, float))
            or not (value > 0 and math.isfinite(value))
        ):
            raise DocumentError(
                f"{where}.{key} (={value!r}) is not a positive number", "gains and computes are factors"
            )
    if row["kind"] not in KINDS:
        raise DocumentError(f"{where}.kind (={row['kind']!r}) is not known", f"known: {', '.join(KINDS)}")
    if not row["gain_low"] <= row["gain"] <= row["gain_high"]:
        raise DocumentError(
            f"{where}.gain (={row['gain']:g}) is outside its interval", "gain_low <= gain <= gain_high"
        )
    slopes = [row.get(key) for key in ("slope", "slope_low", "slope_high")]
    if any(value is None for value in slopes) != all(value is None for value in slopes):
        raise DocumentError(f"{where} has a part of a slope", "slope, slope_low and slope_high come together")
    known = slopes[0] is not None
    slope, low, high = (float(value) for value in slopes) if known else UNKNOWN_SLOPE  # type: ignore[arg-type]
    if not low <= slope <= high:
        raise DocumentError(
            f"{where}.slope (={slope:g}) is outside its interval", "slope_low <= slope <= slope_high"
        )
    return Idea(
        name=str(row["name"]), group=str(row.get("group", row["name"])), gain=float(row["gain"]),
        gain_low=float(row["gain_low"]), gain_high=float(row["gain_high"]), at_flops=float(row["at_flops"]), slope=slope,
        slope_low=low, slope_high=high, slope_known=known, hardware=float(row.get("hardware", 1.0)),
        test_flops=float(row["test_flops"]) if "test_flops" in row else None, kind=row["kind"], source=str(row["source"]),
    )  # fmt: skip


def _measured(path: Path) -> tuple[Idea, ...]:
    """Every new arm of a ``gain --json`` document, at the largest compute of its runs."""
    try:
        document = json.loads(path.read_text(encoding="utf-8"))
        arms = document["gains"]
        found = []
        for name, by_unit in arms.items():
            gain = by_unit["flops"]
            found.append(
                Idea(
                    name=name, group=name, gain=gain["gain"][-1], gain_low=gain["gain_low"][-1],
                    gain_high=gain["gain_high"][-1], at_flops=gain["cost"][-1], slope=gain["slope"],
                    slope_low=gain["slope_low"], slope_high=gain["slope_high"], slope_known=True, hardware=1.0,
                    test_flops=None, kind="measured",
                    source=f"{path.name}: {name} over {document['base']}, {document['tuning']}, verdict {gain['verdict']}",
                )
            )  # fmt: skip
    except (OSError, ValueError, KeyError, TypeError, IndexError, RecursionError) as error:
        raise DocumentError(
            f"{path} is not what shapewright gain prints", f"{type(error).__name__}: {error}",
            "write it: shapewright gain NEW BASE --runs ladder --json > gain.json",
        ) from error  # fmt: skip
    return tuple(found)
