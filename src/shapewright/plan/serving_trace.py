"""Arrivals as somebody recorded them: when each request came, how long it was and how long its answer.

Decisions: a CSV file with the columns ``arrival_s, isl, osl``; every bad line is named, and one of them is enough to
refuse the file, since a trace with holes has another load. The closed form reads the means, the spread of the prompts,
the rate and the spread of the gaps between arrivals; the twin replays the arrivals themselves.
"""

from __future__ import annotations

import csv
import math
from dataclasses import dataclass
from pathlib import Path

from shapewright.errors import DocumentError, UsageError

COLUMNS = ("arrival_s", "isl", "osl")
SHOWN = 5
"""Bad lines that a message quotes."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Trace:
    """Requests in order of arrival."""

    arrivals: tuple[float, ...]
    """Seconds from the first."""
    prompts: tuple[int, ...]
    """Tokens."""
    answers: tuple[int, ...]
    """Tokens."""

    def __len__(self) -> int:
        return len(self.arrivals)

    @property
    def rate(self) -> float:
        """Mean arrivals per second [1/s]."""
        return (len(self) - 1) / max(self.arrivals[-1] - self.arrivals[0], 1e-9)

    @property
    def mean_isl(self) -> float:
        """Mean tokens of a prompt."""
        return sum(self.prompts) / len(self)

    @property
    def mean_osl(self) -> float:
        """Mean tokens of an answer."""
        return sum(self.answers) / len(self)

    @property
    def spread(self) -> float:
        """Squared coefficient of variation of the prompts [1]."""
        mean = self.mean_isl
        return sum((x - mean) ** 2 for x in self.prompts) / len(self) / mean**2

    @property
    def gaps(self) -> float:
        """Squared coefficient of variation of the time between arrivals [1]; 1 of Poisson arrivals."""
        between = [b - a for a, b in zip(self.arrivals, self.arrivals[1:], strict=False)]
        mean = sum(between) / len(between)
        return sum((x - mean) ** 2 for x in between) / len(between) / max(mean, 1e-9) ** 2


def read_trace(path: Path) -> Trace:
    """Read a trace.

    Raises:
        UsageError: the file does not exist.
        DocumentError: a column is missing, a line is bad (all are counted, the first quoted), or fewer than two remain.
    """
    if not path.exists():
        raise UsageError(f"{path} does not exist", "--trace names a CSV file", "check the path")
    try:
        with path.open(newline="", encoding="utf-8") as handle:
            reader = csv.DictReader(handle)
            missing = [name for name in COLUMNS if name not in (reader.fieldnames or ())]
            if missing:
                raise DocumentError(
                    f"{path} lacks the columns {', '.join(missing)}", f"a trace has the columns {', '.join(COLUMNS)}",
                    "name them in the first line",
                )  # fmt: skip
            rows, bad = [], []
            for number, record in enumerate(reader, start=2):
                try:
                    rows.append(_row(record))
                except (TypeError, ValueError) as error:
                    bad.append(f"line {number}: {error}")
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise DocumentError(f"{path} cannot be read", str(error), "give a CSV file in UTF-8") from error
    if bad:
        more = f"\n... and {len(bad) - SHOWN} more" if len(bad) > SHOWN else ""
        raise DocumentError(
            f"{path} has {len(bad)} bad lines of {len(bad) + len(rows)}", "\n".join(bad[:SHOWN]) + more,
            "mend or remove them: a trace with holes has another load",
        )  # fmt: skip
    if len(rows) < 2:
        raise DocumentError(f"{path} has {len(rows)} requests", "a rate needs at least two", "record more")
    rows.sort()
    return Trace(
        arrivals=tuple(r[0] for r in rows),
        prompts=tuple(r[1] for r in rows),
        answers=tuple(r[2] for r in rows),
    )


def _row(record: dict[str, str | None]) -> tuple[float, int, int]:
    arrival, isl, osl = (_number(record, name) for name in COLUMNS)
    if not math.isfinite(arrival) or arrival < 0:
        raise ValueError(f"arrival_s (={record['arrival_s']!r}) is no time")
    for name, value in (("isl", isl), ("osl", osl)):
        if not math.isfinite(value) or value < 1 or value != int(value):
            raise ValueError(f"{name} (={record[name]!r}) must be a whole number of at least 1")
    return arrival, int(isl), int(osl)


def _number(record: dict[str, str | None], name: str) -> float:
    text = record[name] or ""
    try:
        return float(text)
    except ValueError:
        raise ValueError(f"{name} (={text!r}) is no number") from None
