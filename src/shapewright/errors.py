"""The exceptions that Shapewright raises on purpose.

::

    ShapewrightError            exit code   what went wrong
    ├── UsageError (ValueError)     2       a value, a name or a file that the user can mend
    │   ├── UnitError                       text that is not a quantity of the wanted unit
    │   ├── UnknownNameError                a name that no catalogue holds (says the nearest ones)
    │   ├── MissingPackageError             a package that is not installed (says how to install it)
    │   └── DocumentError                   a file that does not follow its schema (says the path in it)
    ├── InfeasibleError             3       nothing satisfies the request (says counts by reason)
    ├── NotCoveredError             4       a model family, format or device that nothing here describes
    │   └── UnknownFigureError              a figure that the answer needs and nobody published (says how to state it)
    └── MeasurementError            5       a measurement did not work
        └── DivergedError                   a training run whose loss is no number any more

Every message has the same three parts: what is wrong (parameter, value), why (the rule), and what to do
(the fix). Anything else that escapes is our own bug and ends with exit code 1.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class ShapewrightError(Exception):
    """Base class: a message in three parts and the exit code of the command line."""

    exit_code = 1

    def __init__(self, what: str, why: str = "", fix: str = "") -> None:
        super().__init__("\n".join(part for part in (what, why, fix) if part))
        self.what = what
        self.why = why
        self.fix = fix


class UsageError(ShapewrightError, ValueError):
    """A value that the user gave and can mend."""

    exit_code = 2


class UnitError(UsageError):
    """Text that does not name a quantity of the wanted unit."""


class UnknownNameError(UsageError):
    """A name that is in no catalogue; ``known`` are the names that are."""

    def __init__(self, parameter: str, name: str, known: Iterable[str], fix: str = "") -> None:
        known = sorted(set(known))
        near = difflib.get_close_matches(name.lower(), known, n=3, cutoff=0.5)
        # A name may hold a comma itself.
        listing = ("; " if any("," in each for each in known) else ", ").join(known[:12])
        if len(known) > 12:
            listing += f", ... ({len(known)} in all)"
        super().__init__(
            f"{parameter} (={name!r}) is not known",
            f"known: {listing}",
            f"did you mean {' or '.join(near)}?" if near else fix or "give one of those",
        )


class MissingPackageError(UsageError):
    """A package beside the core that ``what``, the subject of a sentence, needs and that is not installed."""

    def __init__(self, what: str, package: str, *, extra: str = "", otherwise: str = "") -> None:
        name = f"'shapewright[{extra}]'" if extra else package
        super().__init__(
            f"{what} needs the package {package}",
            "it is not installed",
            f"pip install {name}" + (f", or {otherwise}" if otherwise else ""),
        )


class DocumentError(UsageError):
    """A file that cannot be read as what it should be."""


class InfeasibleError(ShapewrightError):
    """Nothing satisfies the request.

    ``reasons`` counts the rejected candidates by reason.
    """

    exit_code = 3

    def __init__(
        self, what: str, why: str = "", fix: str = "", reasons: dict[str, int] | None = None
    ) -> None:
        super().__init__(what, why, fix)
        self.reasons = reasons or {}


class NotCoveredError(ShapewrightError):
    """Something real that Shapewright has no model of, and does not guess."""

    exit_code = 4


class UnknownFigureError(NotCoveredError):
    """A figure of a device that the answer needs, for ``why``, and that nobody published."""

    def __init__(self, figure: str, device: str, why: str, setting: str) -> None:
        super().__init__(f"the {figure} of {device} is unknown", why, f"state it: --set {setting}")


class MeasurementError(ShapewrightError):
    """A measurement that failed."""

    exit_code = 5


class DivergedError(MeasurementError):
    """A training run whose loss is no number any more."""
