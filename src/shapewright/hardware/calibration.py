"""Coefficients that turn the physics of an operator into seconds on one accelerator.

A calibration is a set of fits, one per operator family and number format, each with the error it had on
rows it was not fitted on and the ranges it saw. ``shapewright fit calibrations`` and ``shapewright measure``
write them as TOML; the cost model reads nothing else.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from shapewright.errors import NotCoveredError
from shapewright.evidence import Kind

SHOWN = 16
"""Families that a message names."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Fit:
    """The coefficients of one operator family in one number format."""

    family: str
    """``matmul``, ``attention``, ``memory``, ``collective`` and so on; a kernel of it follows after a slash
    (``attention_decode/128.vllm``)."""
    number_format: str
    coefficients: Mapping[str, float]
    kind: Kind
    """``fitted`` on measurements of this accelerator; ``derived`` when transferred from a relative."""
    source: str
    """The measurements, or the relative it was transferred from."""
    num_rows: int = 0
    """Rows it was fitted on."""
    num_held_out: int = 0
    """Rows the errors below were taken on."""
    median_error: float = 0.0
    """Median of abs(predicted / measured - 1) on held-out rows."""
    p90_error: float = 0.0
    """90th percentile of the same."""
    low: float = 1.0
    """5th percentile of measured / predicted on held-out rows: multiply a prediction to get its lower end."""
    high: float = 1.0
    """95th percentile of measured / predicted."""
    ranges: Mapping[str, tuple[float, float]] = field(default_factory=dict)
    """Smallest and largest value of each dimension among the fitted rows."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Calibration:
    """All fits of one accelerator."""

    accelerator: str
    fits: tuple[Fit, ...]
    _index: Mapping[tuple[str, str], Fit] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        # A search looks a fit up ten thousand times; of two with one name the first counts.
        index = {(fit.family, fit.number_format): fit for fit in reversed(self.fits)}
        object.__setattr__(self, "_index", index)

    def get(self, family: str, number_format: str) -> Fit | None:
        """The fit of a family and number format; None where there is none."""
        return self._index.get((family, number_format))

    def find(self, family: str, number_format: str) -> Fit:
        """The fit of a family and number format.

        Raises:
            NotCoveredError: there is none.
        """
        found = self.get(family, number_format)
        if found is not None:
            return found
        own = sorted({fit.number_format for fit in self.fits if fit.family == family})
        families = sorted({fit.family.partition("/")[0] for fit in self.fits})
        more = f" and {len(families) - SHOWN} more" if len(families) > SHOWN else ""
        have = f"{family} in {', '.join(own)}" if own else ", ".join(families[:SHOWN]) + more
        raise NotCoveredError(
            f"{family}/{number_format} is not calibrated on {self.accelerator}",
            f"calibrated: {have or 'nothing'}",
            "choose a calibrated number format, or measure it: shapewright measure",
        )
