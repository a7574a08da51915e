"""The kernel families that are measured, fitted and scored: one record each.

Decisions: ``time`` prices a row as its benchmark measured it (weights rotated, keys read again and again), which only
the fit and the validation want; predictions go through ``cost.price``. Rows of one variant are priced together.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from shapewright.cost.families import attention, experts, mixers, modules, products, traffic
from shapewright.cost.family import Family, Measurements
from shapewright.errors import UnknownNameError

_ALL: tuple[Family, ...] = (
    *products.FAMILIES, *attention.FAMILIES, *experts.FAMILIES, *mixers.FAMILIES, *modules.FAMILIES, *traffic.FAMILIES,
)  # fmt: skip
FAMILIES: dict[str, Family] = {family.name: family for family in _ALL}


def variants(rows: Measurements) -> list[Measurements]:
    """The rows apart by the kernel that serves them."""
    family = family_of(rows.family)
    if family.variant is None:
        return [rows]
    names = family.variant(rows)
    return [
        replace(rows.take(names == name), family=f"{family.name}/{name}" if name else family.name)
        for name in np.unique(names).tolist()
    ]


def family_of(label: str) -> Family:
    """The family of a name (a variant's too: ``attention/128w``) or of its label in measured files.

    Raises:
        UnknownNameError: there is none.
    """
    base = label.split("/")[0]
    for family in _ALL:
        if base in (family.name, family.label):
            return family
    raise UnknownNameError("family", label, [family.label for family in _ALL])
