"""Generations of accelerators: who followed whom, and what the user's range of them means.

Decisions: a lineage is one maker's line of training parts, each generation with its variants, the usual one first.
``A..B`` walks the usual ones between two members of a lineage; a list of names is compared in the order given.
``NAME:FORMAT`` compares a number format of one's own; formats of different width are compared only when that is said.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

from shapewright.errors import NotCoveredError, UnknownNameError, UsageError
from shapewright.hardware.accelerator import Accelerator
from shapewright.hardware.accelerator_file import FORMATS
from shapewright.hardware.catalog import accelerator_names, load_accelerator

LINEAGES: dict[str, tuple[tuple[str, ...], ...]] = {
    "NVIDIA": (("p100_sxm2",), ("v100_sxm2",), ("a100_sxm", "a100_sxm_40gb"), ("h100_sxm", "h200_sxm"),
               ("b200_sxm", "gb200", "b300_sxm", "gb300", "b100_sxm"), ("rubin",)),
    "AMD": (("mi100",), ("mi250x",), ("mi300x", "mi325x"), ("mi355x", "mi350x"), ("mi455x",)),
    "Google": (("tpu_v2",), ("tpu_v3",), ("tpu_v4",), ("tpu_v5p", "tpu_v5e"), ("tpu_v6e",), ("tpu_v7",)),
    "AWS": (("trainium1",), ("trainium2",), ("trainium3",)),
    "Intel": (("gaudi2",), ("gaudi3",)),
    "GeForce": (("rtx_3090",), ("rtx_4090",), ("rtx_5090",)),
    "workstation": (("l40s",), ("rtx_pro_6000",)),
}  # fmt: skip
WIDTH = {
    "fp64": 64,
    "fp64_tensor": 64,
    "fp32": 32,
    "tf32": 19,
    "bf16": 16,
    "fp16": 16,
    "fp8": 8,
    "int8": 8,
    "fp6": 6,
    "fp4": 4,
}
"""Bits of a number."""
CLASSES = {16: ("bf16", "fp16"), 8: ("fp8",), 4: ("fp4",)}
"""Formats that count as equal precision, by their bits; integers are another kind of number."""
BEST = ("fp4", "fp6", "fp8", "bf16", "fp16", "fp32")
"""Floating-point formats from which the best is taken."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Choice:
    """One accelerator of a comparison, with a format of one's own."""

    accelerator: Accelerator
    number_format: str | None = None


@lru_cache(maxsize=256)
def shipped(name: str) -> Accelerator:
    """An accelerator that the tables of this room name; they are read many times."""
    return load_accelerator(name)


def choose(names: Sequence[str], *, mixed: bool = False) -> tuple[Choice, ...]:
    """The accelerators that ``h100_sxm..b200_sxm``, ``h100_sxm gb300`` or ``h100_sxm:fp8 b200_sxm:fp4`` mean.

    Args:
        names: what the user wrote.
        mixed: whether formats of different width may be compared.

    Raises:
        UnknownNameError: no such accelerator or format.
        UsageError: a range across lineages, one accelerator only, or mixed widths without saying so.
        NotCoveredError: an accelerator has no published peak in its format.
    """
    choices: list[Choice] = []
    for text in names:
        choices += _range(text) if ".." in text else [_single(text)]
    if len(choices) < 2:
        raise UsageError(
            f"{names[0]!r} names one accelerator",
            "a step needs two",
            f"for example: {names[0]} b200_sxm, or a100_sxm..b200_sxm",
        )
    given = [choice for choice in choices if choice.number_format is not None]
    if given and len(given) < len(choices):
        bare = next(choice for choice in choices if choice.number_format is None)
        raise UsageError(
            f"{bare.accelerator.name} has no format where others have one", "either all or none are given",
            f"for example: {bare.accelerator.name}:bf16",
        )  # fmt: skip
    widths = {WIDTH[choice.number_format] for choice in given if choice.number_format}
    if len(widths) > 1 and not mixed:
        told = ", ".join(f"{choice.accelerator.name} in {choice.number_format}" for choice in given)
        raise UsageError(
            f"precisions are mixed: {told}",
            "a ratio across number widths holds the format's gain besides the chip's",
            "say that it is meant with --mixed, or give one width to all",
        )
    return tuple(choices)


def _single(text: str) -> Choice:
    name, _, number_format = text.partition(":")
    accelerator = load_accelerator(name)
    if not number_format:
        return Choice(accelerator=accelerator)
    if number_format not in FORMATS:
        raise UnknownNameError("number format", number_format, FORMATS)
    accelerator.peak(number_format)
    return Choice(accelerator=accelerator, number_format=number_format)


def _range(text: str) -> list[Choice]:
    first, last = (load_accelerator(end).name for end in text.split("..", 1))
    for lineage in LINEAGES.values():
        places = [_place(lineage, name) for name in (first, last)]
        if places[0] is not None and places[1] is not None:
            if places[0] > places[1]:
                raise UsageError(
                    f"{text!r} runs backwards", f"{first} is the later one", f"write {last}..{first}"
                )
            names = [first, *(lineage[at][0] for at in range(places[0] + 1, places[1])), last]
            return [Choice(accelerator=load_accelerator(name)) for name in dict.fromkeys(names)]
    lines = "; ".join(f"{maker}: {', '.join(g[0] for g in lineage)}" for maker, lineage in LINEAGES.items())
    raise UsageError(
        f"{text!r} is not a range of one lineage", lines, f"name them one by one: {first} {last}"
    )


def _place(lineage: Sequence[Sequence[str]], name: str) -> int | None:
    return next((at for at, generation in enumerate(lineage) if name in generation), None)


def equal_peak(accelerator: Accelerator, bits: int) -> tuple[str, float] | None:
    """Format and dense peak of a width [FLOP/s]; None where none is published."""
    names = [name for name in CLASSES[bits] if name in accelerator.peak_flops]
    return (names[0], accelerator.peak_flops[names[0]].value) if names else None


def best_peak(accelerator: Accelerator) -> tuple[str, float] | None:
    """The floating-point format with the highest dense peak [FLOP/s]."""
    rated = [(name, accelerator.peak_flops[name].value) for name in BEST if name in accelerator.peak_flops]
    return max(rated, key=lambda item: item[1]) if rated else None


def peak_of(choice: Choice, bits: int) -> tuple[str, float]:
    """The format and peak under which a choice is compared [FLOP/s].

    Raises:
        NotCoveredError: no peak of this width is published for it.
    """
    if choice.number_format is not None:
        return choice.number_format, choice.accelerator.peak(choice.number_format)
    found = equal_peak(choice.accelerator, bits)
    if found is None:
        raise NotCoveredError(
            f"{choice.accelerator.name} has no published {bits}-bit peak",
            f"published: {', '.join(choice.accelerator.peak_flops) or 'none'}",
            "choose another --precision, or name the formats: h100_sxm:fp8 b200_sxm:fp8",
        )
    return found


def datacentre() -> tuple[Accelerator, ...]:
    """Every accelerator of the catalogue that is built for training in datacentres, by date."""
    found = [load_accelerator(name) for name in accelerator_names()]
    return tuple(
        sorted(
            (each for each in found if each.device_class == "datacenter" and each.release_year is not None),
            key=lambda each: (each.release_year or 0.0, each.name),
        )
    )
