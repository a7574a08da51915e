"""Quantities with units: text in, SI numbers inside, text out.

Decisions: everything inside the program is an SI number (seconds, bytes, FLOP, joules, watts, dollars);
units exist only in text. ``GB`` is 1e9 bytes and ``GiB`` is 2**30 bytes, never mixed. A bare number is
accepted only where the unit is unmistakable (a count).
"""

from __future__ import annotations

import math
import re

from shapewright.errors import UnitError

_PREFIXES = {
    "": 1.0,
    "p": 1e-12,
    "n": 1e-9,
    "u": 1e-6,
    "µ": 1e-6,
    "m": 1e-3,
    "k": 1e3,
    "K": 1e3,
    "M": 1e6,
    "G": 1e9,
    "B": 1e9,
    "T": 1e12,
    "P": 1e15,
    "E": 1e18,
    "Z": 1e21,
    "Y": 1e24,
    "Ki": 2.0**10,
    "Mi": 2.0**20,
    "Gi": 2.0**30,
    "Ti": 2.0**40,
}
_DECIMAL = ("", "k", "K", "M", "G", "T", "P", "E", "Z", "Y")

_SECONDS = {
    "s": 1.0,
    "sec": 1.0,
    "min": 60.0,
    "h": 3600.0,
    "hour": 3600.0,
    "hours": 3600.0,
    "d": 86400.0,
    "day": 86400.0,
    "days": 86400.0,
    "ms": 1e-3,
    "us": 1e-6,
    "µs": 1e-6,
    "ns": 1e-9,
}


def _with_prefixes(base: str, prefixes: tuple[str, ...], scale: float = 1.0) -> dict[str, float]:
    return {prefix + base: _PREFIXES[prefix] * scale for prefix in prefixes}


_BYTE_PREFIXES = ("", "k", "K", "M", "G", "T", "P", "Ki", "Mi", "Gi", "Ti")
_UNITS: dict[str, dict[str, float]] = {
    "s": _SECONDS,
    "B": _with_prefixes("B", _BYTE_PREFIXES),
    "B/s": {
        **_with_prefixes("B/s", _BYTE_PREFIXES),
        **_with_prefixes("b/s", ("k", "M", "G", "T"), 0.125),
        **_with_prefixes("bit/s", ("k", "M", "G", "T"), 0.125),
    },
    "FLOP": {
        **_with_prefixes("FLOP", _DECIMAL),
        **_with_prefixes("FLOPs", _DECIMAL),
        **_with_prefixes("OP", _DECIMAL),
    },
    "FLOP/s": {
        **_with_prefixes("FLOP/s", _DECIMAL),
        **_with_prefixes("FLOPS", _DECIMAL),
        **_with_prefixes("OP/s", _DECIMAL),
        **_with_prefixes("OPS", _DECIMAL),
    },
    "J": {
        **_with_prefixes("J", ("", "p", "n", "u", "m", "k", "M", "G", "T")),
        **_with_prefixes("Wh", ("", "k", "M", "G", "T"), 3600.0),
    },
    "W": _with_prefixes("W", ("", "m", "k", "M", "G")),
    "USD": {
        **_with_prefixes("USD", ("", "k", "K", "M", "B")),
        **_with_prefixes("", ("", "k", "K", "M", "B")),
    },
    "Hz": _with_prefixes("Hz", ("", "k", "M", "G")),
    "m2": {"m2": 1.0, "cm2": 1e-4, "mm2": 1e-6},
    "1": {"": 1.0, **_with_prefixes("", ("k", "K", "M", "B", "G", "T"))},
}
_NUMBER = re.compile(r"^\s*\$?\s*([+-]?\d[\d,_ ]*(?:\.\d*)?(?:[eE][+-]?\d+)?)\s*(.*?)\s*$")


def parse_quantity(text: str | float | int, unit: str, parameter: str = "value") -> float:
    """Read ``text`` as a quantity of ``unit`` and return it in SI.

    ``unit`` is one of ``s B B/s FLOP FLOP/s J W USD Hz m2 1``. Numbers pass through unchanged: they are
    taken to be SI already.

    >>> parse_quantity("3.35 TB/s", "B/s")
    3350000000000.0
    >>> parse_quantity("80 GiB", "B")
    85899345920.0

    Raises:
        UnitError: the text is not a number followed by a known spelling of ``unit``, or the number is too large to hold.
    """
    if isinstance(text, (int, float)):
        return float(text)
    table = _UNITS[unit]
    match = _NUMBER.match(text)
    suffix = (
        match.group(2).removesuffix("USD").rstrip()
        if match and unit == "USD"
        else match.group(2)
        if match
        else ""
    )
    if match is None or suffix not in table:
        spellings = ", ".join(name for name in list(table)[:12] if name)
        what = "a plain number" if unit == "1" else f"a number with a unit of {unit}"
        raise UnitError(f"{parameter} (={text!r}) is not {what}", f"accepted units: {spellings}", _hint(unit))
    value = float(re.sub(r"[,_ ]", "", match.group(1))) * table[suffix]
    if not math.isfinite(value):
        raise UnitError(
            f"{parameter} (={text!r}) is too large", "it is beyond every number here", _hint(unit)
        )
    return value


def _hint(unit: str) -> str:
    examples = {
        "s": "30d, 12h, 10min",
        "B": "80GB, 24GiB",
        "B/s": "3.35TB/s, 400Gb/s",
        "FLOP/s": "989TFLOP/s",
        "FLOP": "1e23FLOP",
        "J": "5MWh",
        "W": "700W",
        "Hz": "1.7GHz",
        "m2": "814mm2",
        "USD": "$2M, 2M",
        "1": "8, 1e9",
    }
    return f"for example: {examples[unit]}" if unit in examples else ""


def _scaled(value: float, unit: str, steps: tuple[tuple[float, str], ...], digits: int) -> str:
    for factor, prefix in steps:
        if abs(value) >= factor * (1 - 0.5 * 10.0**-digits):
            return f"{value / factor:.{digits}g} {prefix}{unit}"
    factor, prefix = steps[-1]
    return f"{value / factor:.{digits}g} {prefix}{unit}"


_LARGE = (
    (1e24, "Y"),
    (1e21, "Z"),
    (1e18, "E"),
    (1e15, "P"),
    (1e12, "T"),
    (1e9, "G"),
    (1e6, "M"),
    (1e3, "k"),
    (1.0, ""),
)
_MONEY = ((1e9, "B"), (1e6, "M"), (1e3, "k"), (1.0, ""))


def format_quantity(value: float, unit: str, digits: int = 3) -> str:
    """Print an SI value with a readable prefix: ``format_quantity(3.35e12, "B/s")`` is ``3.35 TB/s``."""
    if value != value:
        return "unknown"
    if unit == "s":
        return format_duration(value, digits)
    if unit == "USD":
        return "$" + _scaled(value, "", _MONEY, digits).replace(" ", "")
    if unit == "J" and abs(value) >= 3.6e3:
        return _scaled(value / 3600.0, "Wh", _LARGE, digits)
    if unit == "m2":
        return f"{value * 1e6:.4g} mm2"
    if unit == "1":
        return f"{value:.{max(digits, 4)}g}" if abs(value) < 1e4 else format_count(value, digits)
    return _scaled(value, unit, _LARGE, digits)


def format_duration(seconds: float, digits: int = 3) -> str:
    """Print seconds in the unit a person would use, from ns to days."""
    steps = (
        (86400.0 * 730, 86400.0 * 365.25, "y"),
        (86400.0 * 2, 86400.0, "d"),
        (3600.0 * 2, 3600.0, "h"),
        (120.0, 60.0, "min"),
        (1.0, 1.0, "s"),
        (1e-3, 1e-3, "ms"),
        (1e-6, 1e-6, "µs"),
        (0.0, 1e-9, "ns"),
    )
    for limit, factor, name in steps:
        if abs(seconds) >= limit:
            return f"{seconds / factor:.{digits}g} {name}"
    raise AssertionError("the last step accepts every number")


def format_count(count: float, digits: int = 3) -> str:
    """Print a count the way model sizes are written: ``8.03B``, ``15.2T``."""
    for factor, suffix in ((1e15, "e15"), (1e12, "T"), (1e9, "B"), (1e6, "M"), (1e3, "k")):
        # What rounds up to the next unit is written in it: 999,885,952 is 1B.
        if abs(count) >= factor * (1 - 0.5 * 10.0**-digits):
            return f"{count / factor:.{digits}g}{suffix}"
    return f"{count:.{digits}g}"
