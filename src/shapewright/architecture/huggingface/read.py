"""From a Hugging Face ``config.json`` to a Shape.

Decisions: of a composite model (vision and text, say) the text decoder is read, since that is what a Shape of
tokens describes. A file is looked at before it is parsed: at most 4 MB, text, one JSON object.
"""

from __future__ import annotations

import json
import os
import stat
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from shapewright.architecture.huggingface.keys import Keys
from shapewright.architecture.huggingface.registry import FAMILIES, Family
from shapewright.architecture.shape import Shape
from shapewright.errors import DocumentError, NotCoveredError

MAX_BYTES = 4_000_000
"""A config.json has a few kilobytes, but 3 MB where a quantised model lists all its layers."""

# Composite families by what their text decoder calls itself when it does not say.
_COMPOSITES = {
    "gemma3": "gemma3_text", "gemma4": "gemma4_text", "gemma4_unified": "gemma4_text", "llama4": "llama4_text",
    "mistral3": "mistral", "qwen3_5": "qwen3_5_text", "qwen3_5_moe": "qwen3_5_moe_text",
    "qwen3_vl": "qwen3_vl_text", "qwen3_vl_moe": "qwen3_vl_moe_text", "kimi_k25": "deepseek_v3",
}  # fmt: skip

# Families that people will try, and what would have to be described to cover them.
_MISSING = {
    "mamba": "Mamba layers", "falcon_mamba": "Mamba layers", "jamba": "Mamba layers", "zamba": "Mamba layers",
    "zamba2": "shared attention blocks", "bamba": "Bamba's order of layers", "falcon_h1": "parallel Mamba-2 layers",
    "granitemoehybrid": "Granite's order of layers", "olmo_hybrid": "OLMo's DeltaNet layers",
    "kimi_linear": "Kimi delta attention layers", "kimi_k3": "Kimi delta attention layers",
    "minimax": "lightning attention layers", "bailing_hybrid": "lightning attention layers",
    "recurrent_gemma": "RG-LRU layers", "rwkv": "RWKV layers", "xlstm": "xLSTM layers", "lfm2": "convolution layers",
    "lfm2_moe": "convolution layers", "deepseek_v4": "compressed sparse attention",
    "minimax_m3": "block-sparse attention", "minimax_m3_vl": "block-sparse attention",
    "longcat_flash": "layers with two attentions and experts that do nothing",
    "gemma3n": "embeddings that every layer has of its own", "gemma3n_text": "embeddings that every layer has of its own",
    "t5": "encoder-decoder models", "mt5": "encoder-decoder models", "bart": "encoder-decoder models",
    "whisper": "encoder-decoder models", "bert": "masked language models", "roberta": "masked language models",
    "modernbert": "masked language models", "nemotron-nas": "layers that each have another size (Puzzle)",
}  # fmt: skip


def read_config(source: str | Path | Mapping[str, Any], name: str | None = None) -> Shape:
    """The shape that a ``config.json`` describes.

    Args:
        source: the file, a folder that holds a ``config.json``, or its keys.
        name: what to call the model; else what the file, the folder or the family is called.

    Raises:
        DocumentError: not a readable file of at most 4 MB with one JSON object, a key is missing or has a
            value that no model can have.
        NotCoveredError: the family, or something in it, has no description here.
    """
    if isinstance(source, Mapping):
        where, document = "config", source
    else:
        path = Path(source)
        path = path / "config.json" if os.path.isdir(path) else path
        where, document = str(path), load_document(path)
        name = name or _name_of(path, document)
    family, values, where = _family(document, where)
    nested = values is not document
    keys = Keys(
        source=where, name=name or family.model_type, model_type=family.model_type,
        values=_canonical(family, values, document if nested else {}), defaults=family.defaults,
        essential=frozenset() if nested else family.essential,
    )  # fmt: skip
    return family.read(keys)


def load_document(path: Path) -> dict[str, Any]:
    """The one JSON object in ``path``.

    Raises:
        DocumentError: the file is missing, larger than 4 MB, not text, or not one JSON object.
    """
    fix = "name the config.json of a model, or a folder that holds one"
    raw = _read_bytes(path, fix)
    try:
        document = json.loads(raw.decode("utf-8"))
    except UnicodeDecodeError as error:
        raise DocumentError(f"{path} is not text", "a config.json is UTF-8 text", fix) from error
    except (ValueError, RecursionError) as error:
        raise DocumentError(f"{path} is not JSON", str(error), fix) from error
    if not isinstance(document, dict):
        raise DocumentError(
            f"{path} holds a {type(document).__name__}", "a config.json is one JSON object", fix
        )
    return document


def _read_bytes(path: Path, fix: str) -> bytes:
    try:
        found = os.stat(path)
        # A device or a pipe has no size and may never end.
        regular, size = stat.S_ISREG(found.st_mode), found.st_size
        raw = path.read_bytes() if regular and size <= MAX_BYTES else b""
    except (OSError, ValueError) as error:
        raise DocumentError(f"{path} cannot be read", str(error), fix) from error
    if not regular:
        raise DocumentError(f"{path} is not a file", "a config.json is a file of text", fix)
    if size > MAX_BYTES:
        raise DocumentError(f"{path} has {size:,} bytes", f"a config.json has at most {MAX_BYTES:,}", fix)
    return raw


def _name_of(path: Path, document: Mapping[str, Any]) -> str | None:
    stated = document.get("_name_or_path")
    if isinstance(stated, str) and stated.strip("./"):
        return stated.rstrip("/").rsplit("/", 1)[-1]
    if path.name == "config.json":
        return path.resolve().parent.name
    return path.stem


def _family(document: Mapping[str, Any], where: str) -> tuple[Family, Mapping[str, Any], str]:
    """The family of the document or of its text decoder, with that part's keys."""
    model_type = document.get("model_type")
    if not isinstance(model_type, str):
        raise DocumentError(
            f"{where}: model_type (={model_type!r}) does not name a family",
            "every Hugging Face config.json names its architecture there",
            "take the config.json from the model's repository as published",
        )
    if model_type in _COMPOSITES:
        inner = document.get("text_config")
        if not isinstance(inner, dict):
            raise DocumentError(
                f"{where}: text_config (={inner!r}) is not a table of keys",
                f"a {model_type} model states its text decoder there",
                "take the config.json from the model's repository as published",
            )
        inner_type = inner.get("model_type", _COMPOSITES[model_type])
        return _known(inner_type, where), inner, f"{where}: text_config"
    return _known(model_type, where), document, where


def _known(model_type: Any, where: str) -> Family:
    if model_type in FAMILIES:
        return FAMILIES[model_type]
    missing = _MISSING.get(model_type)
    raise NotCoveredError(
        f"{where}: model_type (={model_type!r}) is not covered",
        f"Shapewright has no description of {missing}, and does not guess"
        if missing
        else f"families covered: {', '.join(sorted(FAMILIES))}",
        "write the shape as a config.json of a family that is covered, if one has the same layers",
    )


def _canonical(family: Family, values: Mapping[str, Any], outer: Mapping[str, Any]) -> dict[str, Any]:
    """Keys by the names that the reader uses. Tied embeddings may be stated around a text decoder."""
    found = {family.aliases.get(key, key): value for key, value in values.items()}
    if "tie_word_embeddings" in outer and "tie_word_embeddings" not in found:
        found["tie_word_embeddings"] = outer["tie_word_embeddings"]
    return found
