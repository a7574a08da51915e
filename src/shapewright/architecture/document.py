"""A Shape from a table of plain keys, as catalogue files state models that no published family describes.

Decisions: the keys are the fields of the nouns in ``shape.py``, so there is nothing to learn twice. Which noun
a mixer or channel is says its ``kind``; without one it is plain attention, and a dense feed-forward layer or none.
Unknown keys are refused.
"""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from dataclasses import MISSING, fields
from typing import Any, TypeVar, get_args

from shapewright.architecture.shape import Block, Channel, Mixer, Norm, Patches, Shape
from shapewright.architecture.softmax_mixers import Indexer
from shapewright.errors import DocumentError

_T = TypeVar("_T")


def kinds(union: Any) -> dict[str, type]:
    """The nouns of a union (``Mixer`` or ``Channel``) by the kind that names them."""
    return {_kind(noun): noun for noun in get_args(union)}


def _kind(noun: type) -> str:
    return str(next(field.default for field in fields(noun) if field.name == "kind"))


_MIXERS, _CHANNELS = kinds(Mixer), kinds(Channel)


def shape_from_table(table: Mapping[str, Any], where: str) -> Shape:
    """The shape of a table of keys; ``where`` names it in errors.

    Raises:
        DocumentError: an unknown or missing key, or a value of the wrong type.
    """
    blocks = table.get("blocks")
    if not isinstance(blocks, list) or not all(isinstance(block, dict) for block in blocks) or not blocks:
        raise DocumentError(
            f"{where}: blocks is not a list of tables", "a shape has at least one block of layers"
        )
    values = {
        **table,
        **_norms(table, where, ("final_norm", "embedding_norm")),
        "blocks": tuple(_block(block, f"{where}: blocks[{i}]") for i, block in enumerate(blocks)),
    }
    if "patches" in table:
        values["patches"] = _build(Patches, table["patches"], f"{where}: patches")
    return _build(Shape, values, where)


def _block(table: Mapping[str, Any], where: str) -> Block:
    mixer, channel = table.get("mixer", {}), table.get("channel", {})
    mixer_class = _noun(mixer, _MIXERS, "attention", f"{where}: mixer")
    channel_class = _noun(channel, _CHANNELS, "dense" if channel else "none", f"{where}: channel")
    if "indexer" in mixer:
        mixer = {**mixer, "indexer": _build(Indexer, mixer["indexer"], f"{where}: mixer: indexer")}
    values = {
        **table,
        **_norms(table, where, ("norm",)),
        "mixer": _build(mixer_class, mixer, f"{where}: mixer"),
        "channel": _build(channel_class, channel, f"{where}: channel"),
    }
    return _build(Block, values, where)


def _noun(table: Any, known: dict[str, type], default: str, where: str) -> type:
    kind = table.get("kind", default) if isinstance(table, Mapping) else default
    if kind not in known:
        near = difflib.get_close_matches(str(kind), known, n=1)
        hint = f"did you mean {near[0]}? " if near else ""
        raise DocumentError(f"{where}: kind (={kind!r}) is not known", f"{hint}known: {', '.join(known)}")
    return known[kind]


def _norms(table: Mapping[str, Any], where: str, keys: tuple[str, ...]) -> dict[str, Norm | None]:
    """Norms of ``table``; ``false`` stands for none, since TOML has no null."""
    return {
        key: None if table[key] is False else _build(Norm, table[key], f"{where}: {key}")
        for key in keys
        if key in table
    }


def _build(noun: type[_T], table: Any, where: str) -> _T:
    if not isinstance(table, Mapping):
        raise DocumentError(f"{where} (={table!r}) is not a table", f"it states a {noun.__name__}")
    known = {field.name: field for field in fields(noun)}  # type: ignore[arg-type]
    for key in table:
        if key not in known:
            raise DocumentError(f"{where}: {key} is not known", f"known: {', '.join(known)}")
    for name, field in known.items():
        if name not in table and field.default is MISSING:
            raise DocumentError(f"{where}: {name} is missing", f"a {noun.__name__} cannot do without it")
    for key, value in table.items():
        kind = str(known[key].type)
        if kind.startswith(("Size", "int")) and (
            isinstance(value, bool) or not isinstance(value, int) or value < 0
        ):
            raise DocumentError(
                f"{where}: {key} (={value!r}) is not valid", "it must be a whole number, at least 0"
            )
        if kind == "bool" and not isinstance(value, bool):
            raise DocumentError(f"{where}: {key} (={value!r}) is not valid", "it must be true or false")
    return noun(**table)
