"""The verbs that answer from arithmetic alone, as questions that the studio may pass on.

Decisions: a question's fields are the verb's own options, read from its signature, so that a new option appears by
itself. Files are left out: what a verb reads or writes is named on the command line only, and it runs in an empty
folder, so that no name can turn out to be a file. The verbs with an address of their own (design, estimate, lint,
explain, export) and those that measure, train or fit are no part of this.
"""

from __future__ import annotations

import contextlib
import inspect
import io
import json
import tempfile
import types
import typing
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Annotated, Any

from pydantic import ConfigDict, Field, create_model

from shapewright.studio.questions import Verb

ASKABLE = ("efficiency", "history", "scale")
"""Those whose every request that the description allows was seen to end without a bug (``tests/unit/studio``)."""
_TEXT = Annotated[str, Field(max_length=120, pattern=r"^(?!.*\.(toml|json)$)[^/\\~]+(/(s|h|W|Wh))?$")]
_NUMBERS = {
    int: Annotated[int, Field(ge=-(10**12), le=10**12)],
    float: Annotated[float, Field(allow_inf_nan=False, ge=-1e30, le=1e30)],
    bool: bool,
    str: _TEXT,
}
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
    said = ""
    if typing.get_origin(hint) is Annotated:
        hint, *more = typing.get_args(hint)
        said = next((str(item.help) for item in more if getattr(item, "help", None)), "")
    optional = False
    if typing.get_origin(hint) in (types.UnionType, typing.Union):
        parts = [part for part in typing.get_args(hint) if part is not type(None)]
        optional, hint = True, parts[0]
    if typing.get_origin(hint) is list:
        (of,) = typing.get_args(hint)
        kind: Any = (
            Annotated[list[_NUMBERS[of]], Field(min_length=int(needed), max_length=16)]
            if of in _NUMBERS
            else None
        )
    else:
        kind = None if hint is Path else _NUMBERS.get(hint)
    return (kind | None if optional and kind is not None else kind), said


def answer(name: str, given: dict[str, Any]) -> Any:
    """What the verb prints with ``--json``; ``given`` has passed its question.

    Raises:
        ShapewrightError: as on the command line.
    """
    printed = io.StringIO()
    with tempfile.TemporaryDirectory() as empty, contextlib.chdir(empty), contextlib.redirect_stdout(printed):
        _callbacks()[name](**given, json=True)
    return json.loads(printed.getvalue())
