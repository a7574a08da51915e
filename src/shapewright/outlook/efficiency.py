"""Where efficiency is going: generations on four lines of evidence, decomposed, tested, and at work on a model.

Decisions: "performance per watt is flattening" is not asserted but tested (:mod:`outlook.flattening`), and the verdict is
given per precision, because it differs; every line says its evidence; a range of a die area stays a range. The four
lines are the peak at equal precision, the peak in the best format of each, the fastest measured product, and measured
training, the last only between runs that can be compared.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise

from shapewright.architecture.shape import Shape
from shapewright.errors import UnknownNameError
from shapewright.evidence import Figure
from shapewright.hardware.accelerator import Accelerator
from shapewright.outlook.flattening import Point, Trend, generation_points, trends
from shapewright.outlook.generations import Step, step
from shapewright.outlook.lineages import Choice, best_peak, choose
from shapewright.outlook.ratings import LINES, Rating, over, performance, rate, rates
from shapewright.outlook.workload import Worked, at_work

PRECISIONS = {"16bit": 16, "8bit": 8, "4bit": 4}
"""Widths at which chips are compared, by their names on the command line."""
USUAL = (("v100_sxm2..b200_sxm",), ("h100_sxm", "gb300"), ("gb200", "rubin"))
"""What is compared where nothing is named: NVIDIA's line, and its latest boards with their usual predecessor."""
LARGE_RUNS = "large dense runs of their day (different models)"


@dataclass(frozen=True, kw_only=True, slots=True)
class Line:
    """One step on one line of evidence, per watt."""

    name: str
    ratio: Figure | None
    """Gain per watt; None where one side is unknown."""
    evidence: str
    """What is compared, or why nothing is."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Compared:
    """One step on all lines."""

    equal: Step
    best: Step | None
    """In the best format of each; None where the formats were given."""
    lines: tuple[Line, ...]


@dataclass(frozen=True, kw_only=True, slots=True)
class Efficiency:
    """The whole answer."""

    chips: tuple[str, ...]
    bits: int
    mixed: bool
    """True where the formats were given and differ in width."""
    ratings: tuple[Rating, ...]
    compared: tuple[Compared, ...]
    trends: tuple[Trend, ...]
    model: str | None
    devices: int
    worked: tuple[Worked, ...]
    remarks: tuple[str, ...]


def efficiency(
    names: Sequence[str] = (),
    *,
    precision: str = "16bit",
    mixed: bool = False,
    model: Shape | None = None,
    devices: int = 8,
    tokens: float | None = None,
    law: str | None = None,
) -> Efficiency:
    """Compare generations.

    Args:
        names: accelerators, ranges of them, or ``NAME:FORMAT``; none for NVIDIA's line from V100 on.
        precision: ``16bit``, ``8bit`` or ``4bit``, where no formats are named.
        mixed: whether the named formats may differ in width.
        model: a model to put to work on each.
        devices: how many of each.
        tokens: training tokens of the model; None for 20 per parameter.
        law: loss law that judges the re-designed shapes; None for the default.

    Raises:
        UnknownNameError, UsageError, NotCoveredError: see ``lineages.choose`` and ``workload.at_work``.
    """
    if precision not in PRECISIONS:
        raise UnknownNameError("--precision", precision, PRECISIONS)
    bits = PRECISIONS[precision]
    chains = [choose(names, mixed=mixed)] if names else [choose(chain) for chain in USUAL]
    choices = tuple({choice.accelerator.name: choice for chain in chains for choice in chain}.values())
    choices = chains[0] if names else choices
    found = [rate(choice.accelerator, line) for choice in choices for line in LINES]
    return Efficiency(
        chips=tuple(choice.accelerator.name for choice in choices), bits=bits, mixed=mixed,
        ratings=tuple(rating for rating in found if rating is not None),
        compared=tuple(_compare(a, b, bits) for chain in chains for a, b in pairwise(chain)),
        trends=trends(measures()), model=model.name if model else None, devices=devices,
        worked=at_work(model, choices, devices=devices, bits=bits, tokens=tokens, law=law) if model else (),
        remarks=_remarks(choices),
    )  # fmt: skip


def measures() -> dict[str, tuple[Point, ...]]:
    """The measures whose flattening is tested, each with its generations."""
    found = {f"{line} per watt": generation_points(_measure(line, "watt")) for line in LINES}
    for unit in ("mm2", "transistor"):
        found[f"16-bit peak per {unit}"] = generation_points(_measure("16-bit peak", unit))
    found["measured training per watt"] = generation_points(_trained)
    return found


def _measure(line: str, unit: str) -> Callable[[Accelerator], tuple[float, bool, str] | None]:
    def value(accelerator: Accelerator) -> tuple[float, bool, str] | None:
        rating = rate(accelerator, line)
        figure = rating.per[unit] if rating is not None else None
        return None if figure is None else (figure.value, figure.kind == "assumed", figure.source)

    return value


def _trained(accelerator: Accelerator) -> tuple[float, bool, str] | None:
    run = next((r for r in rates() if r.group == LARGE_RUNS and r.chip == accelerator.name), None)
    if run is None or accelerator.tdp is None:
        return None
    return run.value / accelerator.tdp.value, False, run.source


def _compare(a: Choice, b: Choice, bits: int) -> Compared:
    equal = step(a, b, bits=bits)
    best = None
    if a.number_format is None:
        formats = [best_peak(choice.accelerator) for choice in (a, b)]
        assert formats[0] is not None
        assert formats[1] is not None
        best = step(
            Choice(accelerator=a.accelerator, number_format=formats[0][0]),
            Choice(accelerator=b.accelerator, number_format=formats[1][0]),
        )
    told = " to ".join(equal.formats)
    lines = [Line(name="chosen formats" if a.number_format else f"equal precision ({bits}-bit)", ratio=equal.per_watt,
                  evidence=f"vendors' dense peaks, {told}, over TDP")]  # fmt: skip
    if best is not None:
        lines.append(Line(name="best precision", ratio=best.per_watt,
                          evidence=f"vendors' dense peaks, {' to '.join(best.formats)}, over TDP"))  # fmt: skip
    lines += [_matmul(a.accelerator, b.accelerator), *_joules(a.accelerator, b.accelerator)]
    lines += _training(a.accelerator, b.accelerator)
    return Compared(equal=equal, best=best, lines=tuple(lines))


def _per_watt(value: Figure, accelerator: Accelerator) -> Figure | None:
    return over(value, accelerator.tdp)


def _matmul(a: Accelerator, b: Accelerator) -> Line:
    found = [performance(each, "measured matmul") for each in (a, b)]
    if found[0] is None or found[1] is None:
        missing = " and ".join(each.name for each, known in zip((a, b), found, strict=True) if known is None)
        return Line(name="measured matmul", ratio=None, evidence=f"nobody published one of {missing}")
    rated = [
        _per_watt(known[1], each) for each, known in zip((a, b), found, strict=True) if known is not None
    ]
    return Line(
        name="measured matmul", ratio=_gain(rated), evidence="highest measured 16-bit product over TDP"
    )


def _gain(rated: Sequence[Figure | None]) -> Figure | None:
    a, b = rated
    if a is None or b is None:
        return None
    return Figure(value=b.value / a.value, unit="1", kind="derived", source=f"{a.source}; {b.source}")


def _joules(a: Accelerator, b: Accelerator) -> list[Line]:
    known = {r.chip: r for r in rates() if r.what == "joule"}
    if a.name not in known or b.name not in known:
        return []
    first, last = known[a.name], known[b.name]
    ratio = Figure(
        value=last.value / first.value, unit="1", kind="measured", source=f"{first.source}; {last.source}"
    )
    return [Line(name="measured watts", ratio=ratio, evidence=f"FLOP per measured joule, bf16 {first.group}")]


def _training(a: Accelerator, b: Accelerator) -> list[Line]:
    lines = []
    for group in dict.fromkeys(r.group for r in rates() if r.what == "training"):
        runs = {r.chip: r for r in rates() if r.group == group}
        if a.name not in runs or b.name not in runs or a.tdp is None or b.tdp is None:
            continue
        first, last = runs[a.name], runs[b.name]
        ratio = Figure(
            value=last.value / b.tdp.value / (first.value / a.tdp.value), unit="1", kind="measured",
            source=f"{first.source}; {last.source}",
        )  # fmt: skip
        formats = f"{first.number_format} to {last.number_format}"
        lines.append(Line(name="measured training", ratio=ratio, evidence=f"{group}, {formats}, over TDP"))
    if not lines:
        lines.append(
            Line(name="measured training", ratio=None, evidence="no comparable published runs on both")
        )
    return lines


def _remarks(choices: Sequence[Choice]) -> tuple[str, ...]:
    texts = [
        "TDP is the maker's: per-GPU, per-board and per-package terms differ, and a rack draws more per GPU"
    ]
    for choice in choices:
        device = choice.accelerator
        area = device.die_area
        if area is None:
            texts.append(f"{device.name}: compute area unknown")
        elif area.kind == "assumed":
            span = f", {area.low * 1e6:,.0f} to {area.high * 1e6:,.0f} mm2" if area.low and area.high else ""
            texts.append(
                f"{device.name}: compute area assumed ({area.value * 1e6:,.0f} mm2{span}): {area.source}"
            )
        if device.tdp is None:
            texts.append(f"{device.name}: TDP unknown")
        elif device.tdp.kind == "assumed":
            texts.append(f"{device.name}: TDP assumed: {device.tdp.source}")
        if device.release_year is not None and "H" in device.release_date:
            texts.append(f"{device.name} is announced, not measured: its figures may change")
    return tuple(texts)
