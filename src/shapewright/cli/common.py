"""What every verb shares: where output goes, how errors look, how files are written.

Data goes to stdout, talk to stderr. With ``--json`` stdout carries one JSON document and nothing else.
"""

from __future__ import annotations

import json
import os
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

from shapewright.errors import ShapewrightError, UsageError

if TYPE_CHECKING:
    from rich.console import Console


class NobodyReadsError(Exception):
    """Whoever reads standard output has read enough (``| head``): no error, but nothing more is written."""


_MEANING = {1: "bug", 2: "usage", 3: "infeasible", 4: "not covered", 5: "measurement failed"}


def out() -> Console:
    """The console for answers: stdout, 80 columns unless the terminal says otherwise."""
    from rich.console import Console

    class Answers(Console):
        def on_broken_pipe(self) -> None:
            raise NobodyReadsError

    return Answers(width=None if sys.stdout.isatty() else 80, highlight=False, soft_wrap=False)


def talk(*, quiet: bool = False) -> Console:
    """The console for progress and remarks: stderr; ``quiet`` where another process speaks for this one.

    It reads no markup: what it says holds names of files, and those may hold brackets.
    """
    from rich.console import Console

    width = None if sys.stderr.isatty() else 80
    return Console(stderr=True, width=width, highlight=False, markup=False, quiet=quiet)


def print_error(error: ShapewrightError) -> None:
    """Print what is wrong, why, and what to do, with the exit code in brackets."""
    lines = [f"error: {error.what}"]
    lines += [f"  {line}" for part in (error.why, error.fix) if part for line in part.splitlines()]
    lines[-1] += f"    [{error.exit_code} {_MEANING[error.exit_code]}]"
    print("\n".join(lines), file=sys.stderr)


def print_json(document: Any) -> None:
    """Print one JSON document on stdout."""
    print_text(json.dumps(document, indent=2, allow_nan=False) + "\n")


def print_text(text: str) -> None:
    """Print text as it is on stdout.

    Raises:
        NobodyReadsError: the other end of the pipe is closed.
    """
    try:
        sys.stdout.write(text)
        sys.stdout.flush()
    except BrokenPipeError:
        raise NobodyReadsError from None


def refuse_existing(*paths: Path | None, overwrite: bool) -> None:
    """Refuse files that exist before any work is done.

    Raises:
        UsageError: a file exists and ``overwrite`` is false.
    """
    for path in paths:
        if path is not None and path.exists() and not overwrite:
            raise UsageError(f"{path} exists already", "nothing on disk is overwritten without being asked",
                             "add --force, or name another file")  # fmt: skip


def check_file(option: str, path: Path | None, what: str) -> None:
    """Refuse a file that an option names and that is not there; None where it names none.

    Raises:
        UsageError: it is not a file.
    """
    if path is not None and not path.is_file():
        raise UsageError(f"{option} (={path}) is not a file", f"{option} names {what}", "check the path")


def check_folder(folder: Path) -> None:
    """Try the folder of an answer before minutes are spent on what cannot be kept.

    Raises:
        UsageError: it cannot be written to.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.NamedTemporaryFile(dir=folder, prefix=".shapewright."):
            pass
    except OSError as error:
        raise UsageError(
            f"{folder} cannot be written to", str(error.strerror or error), "choose another place with --out"
        ) from error


def write_text(path: Path, text: str, *, overwrite: bool) -> None:
    """Write a text file whole or not at all.

    Raises:
        UsageError: the file exists and ``overwrite`` is false, or the folder cannot be written to.
    """
    write_bytes(path, text.encode(), overwrite=overwrite)


def write_bytes(path: Path, content: bytes, *, overwrite: bool) -> None:
    """Write a file whole or not at all.

    Raises:
        UsageError: the file exists and ``overwrite`` is false, or the folder cannot be written to.
    """
    refuse_existing(path, overwrite=overwrite)
    part: str | None = None
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.NamedTemporaryFile(dir=path.parent, prefix=f".{path.name}.", delete=False) as handle:
            part = handle.name
            handle.write(content)
        os.chmod(part, 0o644)
        os.replace(part, path)
    except OSError as error:
        if part is not None:
            Path(part).unlink(missing_ok=True)
        raise UsageError(
            f"{path} cannot be written", str(error), "name another place, or make this one writable"
        ) from error
