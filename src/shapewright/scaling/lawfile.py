"""Laws as TOML: written by the fit, read by everything else.

Decisions: numbers are rounded to seven digits when they are written, so that a file made on another machine
is the same file; an unknown or missing key is an error with its path, never ignored.
"""

from __future__ import annotations

import json
import tomllib
from collections.abc import Mapping
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

from shapewright.errors import DocumentError
from shapewright.scaling.forms import get_form
from shapewright.scaling.law import Check, Law

_FIELDS = tuple(f.name for f in fields(Law))
_OPTIONAL = {"constants", "unit", "notes", "checks", "command", "residual_scale"}


def number(value: float) -> float:
    """``value`` to seven significant digits."""
    return float(f"{value:.7g}")


def _text(value: str) -> str:
    # JSON escapes are TOML escapes, except that TOML also wants DEL escaped.
    return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")


def _pair(value: tuple[float, float]) -> str:
    return f"[{number(value[0])!r}, {number(value[1])!r}]"


def write_law(law: Law) -> str:
    """``law`` as TOML text; ``read_law`` gives the same law back."""
    lines = (
        [f"# Written by: {_text(law.command)[1:-1]}", f"# {law.form.formula}"]
        if law.command
        else [f"# {law.form.formula}"]
    )
    for name in (
        "name",
        "family",
        "dataset",
        "source",
        "licence",
        "param_convention",
        "flop_convention",
        "unit",
        "command",
    ):
        lines.append(f"{name} = {_text(str(getattr(law, name)))}")
    lines += [f"rows = {law.rows}", f"runs = {law.runs}"]
    lines += [
        f"residual_sd = {number(law.residual_sd)!r}",
        f"drift_per_decade = {number(law.drift_per_decade)!r}",
    ]
    lines += ["notes = [", *(f"    {_text(note)}," for note in law.notes), "]"]
    lines += ["", "[parameters]", *(f"{k} = {number(v)!r}" for k, v in law.parameters.items())]
    lines += ["", "[constants]", *(f"{k} = {number(v)!r}" for k, v in law.constants.items())]
    if law.residual_scale:
        lines += ["", "[residual_scale]", *(f"{k} = {number(v)!r}" for k, v in law.residual_scale.items())]
    lines += ["", "[fitted_range]", *(f"{k} = {_pair(v)}" for k, v in law.fitted_range.items())]
    lines += [
        "",
        "[covariance]",
        "axes = [" + ", ".join(_text(axis) for axis in law.form.axes()) + "]",
        "rows = [",
    ]
    lines += ["    [" + ", ".join(repr(number(v)) for v in row) + "]," for row in law.covariance]
    lines += ["]"]
    for check in law.checks:
        lines += ["", "[[checks]]", f"name = {_text(check.name)}", f"value = {number(check.value)!r}"]
        lines += [f"unit = {_text(check.unit)}", f"how = {_text(check.how)}"]
    return "\n".join(lines) + "\n"


def load_law_file(path: str) -> Law:
    """The law in a file, named by its path: what predicts with it says where it is.

    Raises:
        DocumentError: the file cannot be read, or is no law.
    """
    try:
        text = Path(path).expanduser().read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise DocumentError(
            f"--law (={path!r}) cannot be read", str(error),
            "write one: shapewright fit run RUN --law FILE, or shapewright fit law runs.csv --out FILE",
        ) from error  # fmt: skip
    return replace(read_law(text, where=path), name=path)


def read_law(text: str, *, where: str) -> Law:
    """Read a law; ``where`` names the file in errors.

    Raises:
        DocumentError: not TOML, an unknown or missing key, or parameters that are not those of the family.
    """
    try:
        data: dict[str, Any] = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise DocumentError(f"{where} is not TOML", str(error), "mend the line it names") from error
    unknown = sorted(set(data) - set(_FIELDS))
    missing = sorted(set(_FIELDS) - _OPTIONAL - set(data))
    if unknown or missing:
        problem = f"unknown key {unknown[0]!r}" if unknown else f"missing key {missing[0]!r}"
        raise DocumentError(
            f"{where}: {problem}", "a law file has exactly the fields of Law", "see an existing law file"
        )
    form = get_form(data["family"])
    _same_names(where, "parameters", data["parameters"], form.parameters)
    if tuple(data["covariance"].get("axes", ())) != form.axes():
        raise DocumentError(
            f"{where}: covariance.axes (={data['covariance'].get('axes')}) do not belong to family {form.name}",
            f"expected: {', '.join(form.axes())}", "write the covariance in the family's axes",
        )  # fmt: skip
    return Law(
        **{
            **data,
            "parameters": {name: float(data["parameters"][name]) for name in form.parameters},
            "constants": {name: float(value) for name, value in data.get("constants", {}).items()},
            "residual_scale": {name: float(value) for name, value in data.get("residual_scale", {}).items()},
            "covariance": tuple(tuple(float(v) for v in row) for row in data["covariance"]["rows"]),
            "fitted_range": {name: (float(v[0]), float(v[1])) for name, v in data["fitted_range"].items()},
            "notes": tuple(data.get("notes", ())),
            "checks": tuple(Check(**check) for check in data.get("checks", ())),
        }
    )


def _same_names(where: str, table: str, found: Mapping[str, Any], expected: tuple[str, ...]) -> None:
    if set(found) != set(expected):
        raise DocumentError(
            f"{where}: {table} (={', '.join(found)}) are not those of the family",
            f"expected: {', '.join(expected)}", "fit the law again",
        )  # fmt: skip
