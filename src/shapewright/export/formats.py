"""The formats that a Design can be exported to, by name."""

from __future__ import annotations

from collections.abc import Callable

from shapewright.designs.document import Design
from shapewright.errors import UnknownNameError
from shapewright.export.deepspeed import deepspeed
from shapewright.export.exported import Exported
from shapewright.export.huggingface import huggingface
from shapewright.export.megatron import megatron
from shapewright.export.torchtitan import torchtitan
from shapewright.export.trace import trace

FORMATS: dict[str, Callable[[Design], Exported]] = {
    "deepspeed": deepspeed,
    "huggingface": huggingface,
    "megatron": megatron,
    "torchtitan": torchtitan,
    "trace": trace,
}
OF_A_STEP = ("huggingface", "trace")
"""Those that need no recipe, so that the estimate of a single step has them, too."""


def check_format(name: str) -> None:
    """Refuse a name that is no format.

    Raises:
        UnknownNameError: with the nearest names that are.
    """
    if name not in FORMATS:
        raise UnknownNameError("format", name, FORMATS)


def export(design: Design, name: str) -> Exported:
    """One file for one tool.

    Raises:
        UnknownNameError: there is no such format.
        NotCoveredError: the format has no words for a part of the design.
        UsageError: the format needs a recipe and the design has none.
    """
    check_format(name)
    return FORMATS[name](design)
