"""A number that says where it comes from.

Every quantity that Shapewright shows is a :class:`Figure`: a value in SI units with the kind of evidence
behind it and its source. Unknown is ``None`` where a Figure could stand, never a guessed number.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from shapewright.units import format_quantity

Kind = Literal["measured", "vendor", "fitted", "derived", "assumed"]
KINDS: tuple[Kind, ...] = ("measured", "vendor", "fitted", "derived", "assumed")


@dataclass(frozen=True, kw_only=True, slots=True)
class Figure:
    """One value with its evidence."""

    value: float
    """The value [in ``unit``, SI]."""
    unit: str
    """The unit: one of ``s B B/s FLOP FLOP/s J W USD Hz m2 1`` or a quotient such as ``USD/h``."""
    kind: Kind
    """``measured`` by somebody on the thing itself; ``vendor``: stated by its maker; ``fitted``: the output of
    a model whose coefficients were fitted to measurements; ``derived``: arithmetic on other figures;
    ``assumed``: a choice of ours or of the user."""
    source: str
    """Where it comes from: a publication, a calibration, a law, or the rule it was derived by."""
    low: float | None = None
    """Lower end of the 90 % interval; None where no interval is known."""
    high: float | None = None
    """Upper end of the 90 % interval."""

    def __float__(self) -> float:
        return self.value

    def __str__(self) -> str:
        text = format_quantity(self.value, self.unit)
        if self.low is not None and self.high is not None:
            text += f" ({format_quantity(self.low, self.unit)} to {format_quantity(self.high, self.unit)})"
        return text


MOVED = "; moved by "
"""Joins a source to the runs of one's own that moved what was fitted on it."""


def moved_by(source: str) -> str:
    """The runs of one's own that moved a fitted thing, as its source says; empty where none did."""
    return source.partition(MOVED)[2]
