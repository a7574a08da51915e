"""Reading the TOML of this room: one place where text becomes Figures and every mistake gets its path.

Decisions: a figure is an inline table ``{ value = "3.35 TB/s", kind = "vendor", source = "nvidia-h100" }``,
so that the file reads as the datasheet does and the unit cannot be forgotten. ``source`` is a key of the
file's ``[sources]`` or, when it has a space in it, the citation itself; ``note`` is appended to it. Figures
carry the whole citation, so that they stay honest when they leave the file. Unknown keys are refused. A file
of more than a megabyte is not one of ours.
"""

from __future__ import annotations

import difflib
import math
import tomllib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

from shapewright.errors import DocumentError, UnitError
from shapewright.evidence import KINDS, Figure, Kind
from shapewright.units import parse_quantity

_MAX_BYTES = 1_000_000
_FIGURE_KEYS = ("value", "kind", "source", "note", "low", "high")


def read_toml(path: Path) -> dict[str, Any]:
    """Read a TOML file.

    Raises:
        DocumentError: it is absent, too large, binary or not TOML.
    """
    try:
        size = path.stat().st_size
        if not path.is_file():
            raise DocumentError(f"{path} is not a file", "a description of hardware is one TOML file")
        if size > _MAX_BYTES:
            raise DocumentError(
                f"{path} has {size / 1e6:.1f} MB",
                "a description of hardware has at most 1 MB",
                "check the path",
            )
        raw = path.read_bytes()
    except OSError as error:
        raise DocumentError(
            f"{path} cannot be read", str(error.strerror or error), "check the path"
        ) from error
    try:
        if b"\0" in raw:
            raise UnicodeDecodeError("utf-8", raw, raw.index(b"\0"), raw.index(b"\0") + 1, "NUL byte")
        return tomllib.loads(raw.decode("utf-8"))
    except UnicodeDecodeError as error:
        raise DocumentError(
            f"{path} is not text",
            f"byte {error.start} is not UTF-8",
            "a description of hardware is a TOML file",
        ) from error
    except tomllib.TOMLDecodeError as error:
        raise DocumentError(f"{path} is not valid TOML", str(error), "mend the line it names") from error


@dataclass(frozen=True, slots=True)
class Node:
    """One table of a document, knowing the file and the path it stands at."""

    file: str
    """The file, for messages."""
    path: str
    """Dotted path inside the file; empty at the top."""
    table: Mapping[str, Any]
    sources: Mapping[str, str]
    """The file's citations by key."""

    def at(self, key: str) -> str:
        """The full path of a key, for messages."""
        return f"{self.path}.{key}" if self.path else key

    def error(self, key: str, rule: str, fix: str = "") -> DocumentError:
        """The error that says that the value of ``key`` breaks ``rule``."""
        value = self.table.get(key)
        shown = f" (={value!r})" if isinstance(value, (str, int, float)) else ""
        return DocumentError(f"{self.file}: {self.at(key)}{shown} is not accepted", rule, fix)

    def only(self, known: Iterable[str]) -> None:
        """Refuse keys other than ``known``, saying the nearest one."""
        known = tuple(known)
        for key in self.table:
            if key not in known:
                near = difflib.get_close_matches(key, known, n=2, cutoff=0.5)
                raise DocumentError(
                    f"{self.file}: {self.at(key)} is not a known key",
                    f"known: {', '.join(known)}",
                    f"did you mean {' or '.join(near)}?" if near else "take it out",
                )

    def child(self, key: str) -> Node:
        """The table under ``key``; an empty one where it is absent."""
        value = self.table.get(key, {})
        if not isinstance(value, dict):
            raise self.error(key, "it must be a table")
        return Node(self.file, self.at(key), value, self.sources)

    def children(self, key: str) -> tuple[Node, ...]:
        """The tables of an array of tables; none where it is absent."""
        value = self.table.get(key, [])
        if not isinstance(value, list) or not all(isinstance(item, dict) for item in value):
            raise self.error(key, f"it must be an array of tables, [[{self.at(key)}]]")
        return tuple(
            Node(self.file, f"{self.at(key)}[{i}]", item, self.sources) for i, item in enumerate(value)
        )

    def text(self, key: str, choices: Iterable[str] | None = None) -> str:
        """A required text, one of ``choices`` where given."""
        if key not in self.table:
            raise DocumentError(f"{self.file}: {self.at(key)} is missing", "it is required")
        value = self.table[key]
        if not isinstance(value, str) or not value.strip():
            raise self.error(key, "it must be a text that is not empty")
        if choices is not None and value not in choices:
            raise self.error(key, f"it must be one of: {', '.join(choices)}")
        return value

    def optional_text(self, key: str, choices: Iterable[str] | None = None) -> str | None:
        """A text, or None where the key is absent."""
        return self.text(key, choices) if key in self.table else None

    def texts(self, key: str) -> tuple[str, ...]:
        """A list of texts; empty where absent."""
        value = self.table.get(key, [])
        if not isinstance(value, list) or not all(isinstance(item, str) for item in value):
            raise self.error(key, "it must be a list of texts")
        return tuple(value)

    def count(self, key: str) -> int | None:
        """A positive whole number, or None where absent."""
        value = self.table.get(key)
        if value is None:
            return None
        if isinstance(value, bool) or not isinstance(value, int) or value < 1:
            raise self.error(key, "it must be a whole number of at least 1")
        return value

    def number(self, key: str, default: float | None = None) -> float:
        """A finite number."""
        value = self.table.get(key, default)
        if isinstance(value, bool) or not isinstance(value, (int, float)) or not math.isfinite(value):
            raise self.error(key, "it must be a finite number")
        return float(value)

    def kind(self) -> Kind:
        """The kind of evidence under the key ``kind``."""
        return cast("Kind", self.text("kind", KINDS))

    def source(self) -> str:
        """The citation under the key ``source``, with its ``note``."""
        key = self.text("source")
        if " " not in key and key not in self.sources:
            near = difflib.get_close_matches(key, list(self.sources), n=1, cutoff=0.5)
            raise self.error(
                "source",
                f"a source of one word must be a key of [sources]: {', '.join(self.sources) or 'none there'}",
                f"did you mean {near[0]}?" if near else "add it to [sources], or write the citation itself",
            )
        note = self.optional_text("note")
        return self.sources.get(key, key) + (f"; {note}" if note else "")

    def figure(self, key: str, unit: str) -> Figure | None:
        """The Figure under ``key`` in ``unit``, or None where absent. Figures of hardware are positive."""
        if key not in self.table:
            return None
        node = self.child(key)
        node.only(_FIGURE_KEYS)
        if "value" not in node.table:
            raise DocumentError(
                f"{self.file}: {node.at('value')} is missing", "a figure has value, kind and source"
            )
        return Figure(
            value=node.quantity("value", unit),
            unit=unit,
            kind=node.kind(),
            source=node.source(),
            low=node.quantity("low", unit) if "low" in node.table else None,
            high=node.quantity("high", unit) if "high" in node.table else None,
        )

    def figures(self, key: str, unit: str, known: Iterable[str]) -> dict[str, Figure]:
        """The table of Figures under ``key``, by one of the ``known`` names."""
        node = self.child(key)
        node.only(known)
        found = {name: node.figure(name, unit) for name in node.table}
        return {name: figure for name, figure in found.items() if figure is not None}

    def quantity(self, key: str, unit: str) -> float:
        """A positive quantity written with its unit; a count may be a bare number."""
        value = self.table[key]
        bare = isinstance(value, (int, float)) and not isinstance(value, bool)
        if not isinstance(value, str) and not (unit == "1" and bare):
            raise self.error(
                key, f"it must be a text with a unit of {unit}" if unit != "1" else "it must be a number"
            )
        try:
            if unit == "USD/h":
                number = parse_quantity(str(value).removesuffix("/h"), "USD", self.at(key))
            else:
                number = parse_quantity(value, unit, self.at(key))
        except UnitError as error:
            raise DocumentError(f"{self.file}: {error.what}", error.why, error.fix) from error
        if not math.isfinite(number) or number <= 0:
            raise self.error(
                key, "it must be finite and greater than zero", "a figure nobody knows is left out"
            )
        return number


def top(file: str, document: Mapping[str, Any]) -> Node:
    """The top of a document, its ``[sources]`` read."""
    sources = document.get("sources", {})
    if not isinstance(sources, dict) or not all(isinstance(text, str) for text in sources.values()):
        raise DocumentError(f"{file}: sources is not accepted", "it must be a table of citations: key = text")
    return Node(file, "", document, sources)


def quoted(text: str) -> str:
    """A TOML basic string."""
    escaped = text.replace("\\", "\\\\").replace('"', '\\"')
    return '"' + "".join(c if c >= " " and c != "\x7f" else f"\\u{ord(c):04x}" for c in escaped) + '"'
