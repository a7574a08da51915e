"""What training needs beside the core, asked for before anything is read or written."""

from __future__ import annotations

from importlib.util import find_spec

from shapewright.errors import MissingPackageError


def require_torch(what: str) -> None:
    """Refuse ``what``, the subject of a sentence, where torch is not there.

    Raises:
        MissingPackageError: torch is not installed.
    """
    if find_spec("torch") is None:
        raise MissingPackageError(what, "torch", extra="lab")
