"""Chips that may come, as settings on a real one with their assumptions (``data/scenarios``)."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

from shapewright.errors import UnknownNameError
from shapewright.hardware.catalog import DATA
from shapewright.hardware.document import read_toml

ALL = "all"


@dataclass(frozen=True, kw_only=True, slots=True)
class Scenario:
    """A chip that may come."""

    name: str
    label: str
    settings: tuple[str, ...]
    assumptions: tuple[str, ...]


@lru_cache(maxsize=1)
def scenarios() -> dict[str, Scenario]:
    """Every scenario by name."""
    document = read_toml(DATA / "scenarios" / "scenarios.toml")
    found = (
        Scenario(name=row["name"], label=row["label"], settings=tuple(row["settings"]),
                 assumptions=tuple(row["assumptions"]))
        for row in document["scenario"]
    )  # fmt: skip
    return {scenario.name: scenario for scenario in found}


def pick(names: tuple[str, ...]) -> tuple[Scenario, ...]:
    """The scenarios of these names; ``all`` is every one.

    Raises:
        UnknownNameError: no scenario has this name.
    """
    known = scenarios()
    for name in names:
        if name != ALL and name not in known:
            raise UnknownNameError("--scenario", name, (*known, ALL))
    return tuple(known.values()) if ALL in names else tuple(known[name] for name in names)
