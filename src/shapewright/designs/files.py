"""Reading a design.json: size, syntax, version, schema and numbers, each refused by its path."""

from __future__ import annotations

import json
from pathlib import Path

from pydantic import ValidationError

from shapewright.designs.checks import check_numbers
from shapewright.designs.document import SCHEMA_VERSION, Design, adapter
from shapewright.errors import DocumentError

MAX_BYTES = 4_000_000
"""Larger files are refused unread: a Design is some tens of kilobytes."""


def load_design(path: str | Path) -> Design:
    """Read a design.json.

    Raises:
        DocumentError: the file is missing, too large, not JSON, of another version, or has a key or value
            that the schema does not know (named by its path).
    """
    path = Path(path)
    try:
        size = path.stat().st_size
        if size > MAX_BYTES:
            raise DocumentError(
                f"{path} has {size:,} bytes", f"a design has at most {MAX_BYTES:,}", "is this the right file?"
            )
        text = path.read_bytes()
    except OSError as error:
        raise DocumentError(
            f"{path} cannot be read", str(error), "name a design.json written by: shapewright design"
        ) from error
    return parse_design(text, str(path))


def parse_design(text: bytes, where: str) -> Design:
    """The Design in the text of a document.

    Args:
        where: what to call the document in errors.

    Raises:
        DocumentError: it is not JSON, of another version, or has a key or value that the schema does not know.
    """
    try:
        document = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise DocumentError(
            f"{where} is not JSON", str(error), "name a design.json written by: shapewright design"
        ) from error
    version = document.get("schema_version") if isinstance(document, dict) else None
    if version != SCHEMA_VERSION:
        raise DocumentError(
            f"{where}: schema_version (={version!r}) is not {SCHEMA_VERSION}",
            "this is not a design of this version of Shapewright",
            "write it again with: shapewright design",
        )
    try:
        found = adapter().validate_json(text)
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(map(str, first["loc"]))
        raise DocumentError(
            f"{where}: {place}: {first['msg']}",
            f"{error.error_count()} places do not follow the schema",
            "mend the file, or write it again with: shapewright design",
        ) from error
    check_numbers(found)
    return found
