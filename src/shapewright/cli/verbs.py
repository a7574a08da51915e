"""The verbs that answer from arithmetic alone, as questions that the studio may pass on.

Decisions: a question's fields are the verb's own options, read from its signature, so that a new option appears by
itself, within the bounds that the command line sets. Files are left out: what a verb reads or writes is named on the
command line only, and it runs in an empty folder, so that no name can turn out to be a file. Only ``this`` is there,
where the owner measured this machine before starting the studio. The verbs with an address of their own (design,
estimate, lint, explain, export) and those that measure, train or fit are no part of this.
"""

from __future__ import annotations

import contextlib
import inspect
import io
import json
import re
import shutil
import tempfile
import types
import typing
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Annotated, Any

from pydantic import ConfigDict, Field, create_model

from shapewright.errors import UsageError
from shapewright.studio.questions import Verb

ASKABLE = (
    "compare", "efficiency", "history", "kernels", "plan", "portfolio", "scale", "serve-plan", "whatif",
)  # fmt: skip
"""Those that answer from arithmetic; requests made up from their description are in ``tests/unit/studio``."""
_TEXT = Annotated[
    str,
    Field(
        min_length=1,
        max_length=120,
        pattern=r"^(?!\.{1,2}(/|$))(?!.*\.(toml|json|csv)\s*$)[^/\\~\x00]+(/(s|h|W|Wh))?$",
    ),
]
"""A name, a number or a quantity: nothing that could be a path (a unit may hold the one stroke)."""
_THIS = re.compile(r"(?i)^\s*(\d+\s*x\s*)?this(\s*:\s*\d+)?\s*$")
_KINDS = {int: (int, 10**12), float: (float, 1e30)}
_TALK = {"json", "force"}


@cache
def _callbacks() -> dict[str, Callable[..., None]]:
    from shapewright.cli.main import app

    return {
        str(command.name): command.callback
        for command in app.registered_commands
        if command.name in ASKABLE and command.callback is not None
    }


def askable() -> tuple[Verb, ...]:
    """The verbs that exist and need no file."""
    found = (_verb(name, callback) for name, callback in sorted(_callbacks().items()))
    return tuple(verb for verb in found if verb is not None)


def _verb(name: str, callback: Callable[..., None]) -> Verb | None:
    hints = typing.get_type_hints(callback, include_extras=True)
    fields: dict[str, Any] = {}
    for parameter in inspect.signature(callback).parameters.values():
        if parameter.name in _TALK:
            continue
        needed = parameter.default is inspect.Parameter.empty
        kind, said = _kind(hints[parameter.name], needed=needed)
        if kind is None:
            if needed:
                return None
            continue
        fields[parameter.name] = (kind, Field(... if needed else parameter.default, description=said))
    title = "".join(part.title() for part in name.split("-")) + "Question"
    model = create_model(title, __config__=ConfigDict(extra="forbid", regex_engine="python-re"), **fields)
    summary = inspect.getdoc(callback) or name
    return Verb(name=name, summary=summary.splitlines()[0], question=model)


def _kind(hint: Any, *, needed: bool) -> tuple[Any, str]:
    """The type of a field and what its option says of itself; None for files. What is needed has one item at least."""
    option: Any = None
    if typing.get_origin(hint) is Annotated:
        hint, *more = typing.get_args(hint)
        option = next((item for item in more if hasattr(item, "help")), None)
    optional = False
    if typing.get_origin(hint) in (types.UnionType, typing.Union):
        parts = [part for part in typing.get_args(hint) if part is not type(None)]
        optional, hint = True, parts[0]
    if typing.get_origin(hint) is list:
        of = _one(typing.get_args(hint)[0], option)
        kind: Any = of and Annotated[list[of], Field(min_length=int(needed), max_length=16)]
    else:
        kind = _one(hint, option)
    said = str(getattr(option, "help", None) or "")
    return (kind | None if optional and kind is not None else kind), said


def _one(hint: Any, option: Any) -> Any:
    """The type of one value, between the bounds of its option; None for files."""
    if hint in _KINDS:
        kind, most = _KINDS[hint]
        low, high = getattr(option, "min", None), getattr(option, "max", None)
        least, most = -most if low is None else low, most if high is None else high
        return Annotated[kind, Field(ge=least, le=most, allow_inf_nan=False if kind is float else None)]
    return {bool: bool, str: _TEXT}.get(hint)


def answer(name: str, given: dict[str, Any]) -> Any:
    """What the verb prints with ``--json``; ``given`` has passed its question.

    Raises:
        ShapewrightError: as on the command line.
    """
    printed = io.StringIO()
    measured = _measured(given)
    with tempfile.TemporaryDirectory() as empty, contextlib.chdir(empty), contextlib.redirect_stdout(printed):
        if measured is not None:
            shutil.copyfile(measured, "this.toml")
        _callbacks()[name](**given, json=True)
    return json.loads(printed.getvalue())


def _measured(given: dict[str, Any]) -> Path | None:
    """The file of the machine at hand, where a question is about it.

    Raises:
        UsageError: it was not measured.
    """
    texts = [text for value in given.values() for text in (value if isinstance(value, list) else [value])]
    if not any(isinstance(text, str) and _THIS.match(text) for text in texts):
        return None
    found = Path.cwd() / "this.toml"
    if not found.exists():
        raise UsageError(
            "hardware (='this') has not been measured",
            "there is no this.toml in the folder in which the studio was started",
            "run there: shapewright measure",
        )
    return found
