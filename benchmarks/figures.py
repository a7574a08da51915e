"""Write the accuracy that the documentation quotes, from the tables of docs/accuracy.md, so that no page lags behind.

python -m benchmarks figures

A quoted figure stands between two comments that no reader sees: ``<!-- training held-out/fsdp median -->2.6 %<!-- / -->``
names the section of the tables, the slice and the column. A slice with ``*`` stands for all that match, and is quoted
as a range. Figures of other tools are in the section ``peers``, whose slices are a set of rows and a tool:
``<!-- peers fsdp/llm-analysis median -->``; ``python -m benchmarks peers`` measures them.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from fnmatch import fnmatchcase
from pathlib import Path

DOCS = Path(__file__).parents[1] / "docs"
PEERS = Path(__file__).with_name("peers.json")
"""What ``python -m benchmarks peers`` wrote."""
COLUMNS = ("rows", "predicted", "median", "p90", "bias", "coverage", "baseline")
_QUOTED = re.compile(r"<!-- (\w+) (\S+) (\w+) -->(.*?)<!-- / -->")

Tables = dict[str, dict[str, dict[str, str]]]
"""Section, slice and column to the text of a cell."""


def run() -> Iterator[str]:
    """Write every page that quotes, and say how much changed."""
    tables = read_tables()
    figures = changed = 0
    for page in pages():
        text = page.read_text(encoding="utf-8")
        filled = fill(text, tables)
        figures += len(_QUOTED.findall(text))
        if filled != text:
            changed += 1
            page.write_text(filled, encoding="utf-8")
    yield f"figures: {figures} quoted, {changed} pages changed"


def pages() -> tuple[Path, ...]:
    """The pages that quote a figure."""
    found = (page for folder in ("explanation", "how-to") for page in sorted((DOCS / folder).glob("*.md")))
    return tuple(page for page in found if _QUOTED.search(page.read_text(encoding="utf-8")))


def read_tables() -> Tables:
    """The tables of docs/accuracy.md by the first word of their headings, in lower case, and those of other tools."""
    text = (DOCS / "accuracy.md").read_text(encoding="utf-8")
    tables: Tables = {"peers": json.loads(PEERS.read_text(encoding="utf-8"))}
    for part in text.split("\n## ")[1:]:
        rows = (re.findall(r"[^|]+", line) for line in part.splitlines() if line.startswith("| "))
        tables[re.findall(r"\w+", part)[0].lower()] = {
            name.strip(): dict(zip(COLUMNS, (cell.strip() for cell in cells), strict=False))
            for name, *cells in rows
        }
    return tables


def fill(text: str, tables: Tables) -> str:
    """A page with every quoted figure as the tables have it.

    Raises:
        KeyError: a page quotes a section, a slice or a column that is not there.
    """
    return _QUOTED.sub(lambda quoted: _quote(quoted, tables), text)


def _quote(quoted: re.Match[str], tables: Tables) -> str:
    section, pattern, column, _ = quoted.groups()
    found = [cells[column] for name, cells in tables[section].items() if fnmatchcase(name, pattern)]
    if not found:
        raise KeyError(f"{section} has no slice {pattern}")
    least, most = min(found, key=_number), max(found, key=_number)
    shown = most if least == most else f"{least.removesuffix('%')} to {most}"
    return f"<!-- {section} {pattern} {column} -->{shown.replace('%', ' %')}<!-- / -->"


def _number(cell: str) -> float:
    return float(cell.replace(",", "").removesuffix("%"))
