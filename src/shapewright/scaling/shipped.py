"""The laws that ship, by name: each is a protocol that fits it again from its data file.

``shapewright fit law --shipped NAME --data FOLDER`` runs one and writes the TOML of ``data/laws``; a test runs
them all where the data are at hand. Nothing in a law file is typed by hand except what the protocols state.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from shapewright.errors import UnknownNameError
from shapewright.scaling.law import Law
from shapewright.scaling.protocol_conditional import fit_conditional
from shapewright.scaling.protocol_gadre import fit_gadre
from shapewright.scaling.protocol_gemstones import fit_gemstones
from shapewright.scaling.protocol_isoflop import PROTOCOLS
from shapewright.scaling.protocol_ladder import fit_stdlib_bytes
from shapewright.scaling.protocol_leverage import fit_leverage
from shapewright.scaling.protocol_sizes import (
    fit_chinchilla,
    fit_chinchilla_shape,
    fit_porian,
    fit_porian_shape,
)
from shapewright.scaling.protocol_steplaw import fit_steplaw

SHIPPED: dict[str, Callable[[Path], Law]] = {
    "chinchilla": fit_chinchilla,
    "chinchilla_shape": fit_chinchilla_shape,
    "conditional": fit_conditional,
    "gadre": fit_gadre,
    "gemstones": fit_gemstones,
    "leverage": fit_leverage,
    "porian": fit_porian,
    "porian_shape": fit_porian_shape,
    "stdlib_bytes": fit_stdlib_bytes,
    "steplaw": fit_steplaw,
    **PROTOCOLS,
}
"""Name to the protocol that writes the law from a folder of data files."""


def fit_shipped(name: str, folder: Path) -> Law:
    """Fit the shipped law ``name`` again from the files in ``folder``.

    Raises:
        UnknownNameError: no such protocol.
        UsageError: the folder lacks the law's file.
    """
    if name not in SHIPPED:
        raise UnknownNameError("shipped law", name, SHIPPED)
    return SHIPPED[name](folder)
