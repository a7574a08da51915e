"""Text out of files that hold more than text: JSON lines and Parquet; and tokens out of text.

Decisions: of a row the field ``text`` counts, else ``content``, else the only field of words; a file without such a field
is refused by name. Tokens come from a ``tokenizer.json`` of the package ``tokenizers``; bytes that are no UTF-8 are
replaced, as every tokenizer would.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from shapewright.errors import DocumentError, MissingPackageError, UsageError

FIELDS = ("text", "content")
JSON_LINES = (".jsonl", ".ndjson")
SEPARATOR = b"\x00"


def text_of(path: Path) -> bytes:
    """The text of a file: its bytes, or those of its rows' texts with a zero byte between them.

    Raises:
        DocumentError: a row is no JSON, or holds no text.
        MissingPackageError: Parquet files are read with pyarrow, which is not installed.
        OSError: the file cannot be read.
    """
    if path.suffix in JSON_LINES:
        return SEPARATOR.join(_json_rows(path))
    if path.suffix == ".parquet":
        return SEPARATOR.join(_parquet_rows(path))
    return path.read_bytes()


def _json_rows(path: Path) -> Iterable[bytes]:
    for number, line in enumerate(path.read_bytes().splitlines(), start=1):
        if not line.strip():
            continue
        try:
            row = json.loads(line)
        except ValueError as error:
            raise DocumentError(f"{path}, line {number} is no JSON", str(error), "mend the line") from error
        if isinstance(row, str):
            yield row.encode()
        elif isinstance(row, dict):
            yield str(row[_field(path, [k for k, v in row.items() if isinstance(v, str)])]).encode()
        else:
            raise DocumentError(
                f"{path}, line {number} holds no text", "a row is a text or an object", "mend the line"
            )


def _parquet_rows(path: Path) -> Iterable[bytes]:
    try:
        import pyarrow.parquet as parquet
    except ImportError as error:
        raise MissingPackageError(f"the Parquet file {path}", "pyarrow", extra="silicon") from error
    try:
        file = parquet.ParquetFile(path)
        words = [f.name for f in file.schema_arrow if str(f.type) in ("string", "large_string")]
        name = _field(path, words)
        for batch in file.iter_batches(columns=[name]):
            yield from (str(value).encode() for value in batch.column(0).to_pylist() if value)
    except (OSError, ValueError) as error:
        raise DocumentError(f"{path} is no Parquet file", str(error), "give another file") from error


def _field(path: Path, names: list[str]) -> str:
    for wanted in FIELDS:
        if wanted in names:
            return wanted
    if len(names) == 1:
        return names[0]
    raise DocumentError(
        f"{path} has no field {' or '.join(map(repr, FIELDS))}", f"fields of words: {', '.join(names) or 'none'}",
        "name the field of the text 'text'",
    )  # fmt: skip


def load_tokenizer(path: Path) -> Any:
    """A tokenizer from its ``tokenizer.json``.

    Raises:
        MissingPackageError: the package is not installed.
        UsageError: the file is no tokenizer.
    """
    try:
        from tokenizers import Tokenizer
    except ImportError as error:
        raise MissingPackageError("--tokenizer", "tokenizers", extra="lab") from error
    try:
        return Tokenizer.from_file(str(path))
    except Exception as error:
        # The package raises plain Exception for a missing and for a broken file.
        raise UsageError(
            f"--tokenizer (={str(path)!r}) is no tokenizer", str(error)[:120], "give a tokenizer.json"
        ) from error


def tokens_of(tokenizer: Any, text: bytes) -> NDArray[np.uint32]:
    """The tokens of a text."""
    return np.array(
        tokenizer.encode(text.decode("utf-8", "replace"), add_special_tokens=False).ids, np.uint32
    )
