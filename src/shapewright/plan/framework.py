"""What a training framework adds to the kernels it calls.

A handful of physical constants per framework generation, fitted on published runs (``shapewright fit
frameworks``) and shipped as TOML with their errors. They multiply the time of whole kernel families and add
the host's launches; schedules, splits and overlap are computed, not fitted.
"""

from __future__ import annotations

import math
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from functools import cache
from importlib.resources import files
from typing import Any

from shapewright.errors import NotCoveredError, UnknownNameError
from shapewright.evidence import Kind, moved_by
from shapewright.hardware.accelerator import Accelerator
from shapewright.hardware.catalog import load_calibration
from shapewright.plan.precision import FULL_WIDTH


@dataclass(frozen=True, kw_only=True, slots=True)
class Framework:
    """One framework generation."""

    name: str
    label: str
    """What it stands for, with years or versions."""
    matmul: float = 1.0
    """Time of a matrix product over that of the fastest measured kernel alone: clocks under sustained power,
    kernels competing with communication, library choice [1]."""
    matmul_8bit: float = 1.0
    """The same for 8-bit and 4-bit products: the measured ones are layers that cast their inputs each time, which a
    training framework fuses with what comes before [1]."""
    experts: float = 1.0
    """The same for the grouped products of experts, with the imbalance between them [1]."""
    attention: float = 1.0
    """The same for attention: which generation of fused kernel it calls [1]."""
    attention_newer: float = 1.0
    """A further factor on devices newer than its attention kernels: FlashAttention 1 and 2 use the instructions of
    Ampere, which reach about half of what Hopper's and Blackwell's own do [1]."""
    score_passes: float = 0.0
    """Times that the scores of attention cross the memory in the forward pass; twice that in the backward pass. None
    where attention is fused; scale, mask, softmax and dropout cross it several times where it is not [1]."""
    pointwise: float = 1.0
    """Memory traffic of norms, activations and residuals over that of fully fused kernels [1]."""
    host_s: float = 0.0
    """Host time to launch one operator of the graph in the forward pass; the backward pass takes twice as long
    [s]. Kernels queue behind it where they are shorter."""
    host_collective_s: float = 0.0
    """The same for the collectives of one product split by tensor parallelism [s]."""
    host_experts_s: float = 0.0
    """Time that the device waits for the host to learn the router's counts, once per layer of experts and forward pass
    [s]."""
    contention: float = 0.0
    """Share of hidden communication by which the kernels that hide it become longer: they share processors and
    memory bandwidth; 1 hides nothing [1]."""
    rails: float = 1.0
    """Share of a node's network cards that fully sharded weights and their gradients keep busy; a ring that NCCL builds per
    card uses them all, gathers of single parameters in 2021 little more than one of eight [1]."""
    jitter: float = 0.0
    """Standard deviation of a device's step over the mean; a step waits for the slowest of N, about sqrt(2 ln N) deviations
    [1]."""
    spread: float = 0.0
    """Half width of the 90 % interval of a step [ln time], conformal on runs that a fit had not seen. On ``hardware`` it
    holds the kernels' own errors too; elsewhere their interval is joined to it."""
    spreads: Mapping[str, float] = field(default_factory=dict, hash=False)
    """The same by :func:`regime`, where enough runs tell."""
    widths: Mapping[str, tuple[float, float]] = field(default_factory=dict, hash=False)
    """Least and largest model width of the runs behind each regime's spread; outside it widens."""
    hardware: tuple[str, ...] = ()
    """Accelerators of the runs that it was fitted on."""
    kind: Kind = "assumed"
    source: str = "kernels alone"
    num_rows: int = 0
    """Published runs fitted on."""
    num_held_out: int = 0
    median_error: float = 0.0
    """On held-out runs."""
    p90_error: float = 0.0


def regime(*, moe: bool, frozen: bool, number_format: str, nodes: float) -> str:
    """What limits a step, and so how well it is predicted: the kind of work, and whether it leaves a node."""
    kind = "lora" if frozen else "moe" if moe else "16-bit" if number_format in FULL_WIDTH else "8-bit"
    return f"{kind}/{'cluster' if nodes > 1 else 'node'}"


KERNELS_ALONE = Framework(name="kernels", label="measured kernels and wires, nothing else")
"""The bound that no framework beats: what the fits start from."""


@cache
def frameworks() -> dict[str, Framework]:
    """All shipped frameworks by name."""
    found = {KERNELS_ALONE.name: KERNELS_ALONE}
    folder = files("shapewright") / "data" / "frameworks"
    for path in sorted(folder.iterdir(), key=lambda p: p.name) if folder.is_dir() else ():
        if path.name.endswith(".toml"):
            written = tomllib.loads(path.read_text())
            written["hardware"] = tuple(written["hardware"])
            written["widths"] = {name: tuple(ends) for name, ends in written.get("widths", {}).items()}
            framework = Framework(**written)
            found[framework.name] = framework
    return found


def find_framework(name: str) -> Framework:
    """A framework by name.

    Raises:
        UnknownNameError: there is none.
    """
    known = frameworks()
    if name not in known:
        raise UnknownNameError("framework", name, known, f"try: --framework {DEFAULT}")
    return known[name]


DEFAULT = "megatron-core"
"""The framework of a design on accelerators unless another is named."""


def default_framework(accelerator: Accelerator) -> Framework:
    """``DEFAULT`` on accelerators; on a processor what whole steps measured on it say, and else nothing."""
    return measured_steps(accelerator) if accelerator.device_class == "cpu" else find_framework(DEFAULT)


def measured_steps(accelerator: Accelerator) -> Framework:
    """The factors that ``shapewright measure`` fitted to whole training steps on the machine; none where it did not."""
    try:
        fit = load_calibration(accelerator).find("step", "any")
    except NotCoveredError:
        return KERNELS_ALONE
    factors: dict[str, Any] = dict(fit.coefficients)
    runs = moved_by(fit.source)
    label = f"{fit.num_rows} whole steps measured on this machine" + (f", moved by {runs}" if runs else "")
    return Framework(
        name="this machine", label=label, kind=fit.kind, source=fit.source,
        spread=max(math.log(fit.high), -math.log(fit.low)), hardware=(accelerator.name,), num_rows=fit.num_rows,
        num_held_out=fit.num_held_out, median_error=fit.median_error, p90_error=fit.p90_error, **factors,
    )  # fmt: skip


def to_toml(framework: Framework) -> str:
    """The TOML that ``frameworks`` reads back."""
    rows = []
    for f in fields(framework):
        value = getattr(framework, f.name)
        if isinstance(value, Mapping):
            inside = ", ".join(f'"{key}" = {_toml(item)}' for key, item in value.items())
            rows.append(f"{f.name} = {{ {inside} }}")
        elif isinstance(value, tuple):
            rows.append(f"{f.name} = [" + ", ".join(f'"{name}"' for name in value) + "]")
        elif isinstance(value, str):
            rows.append(f'{f.name} = "{value}"')
        else:
            rows.append(f"{f.name} = {value:.6g}" if isinstance(value, float) else f"{f.name} = {value}")
    return "\n".join(rows) + "\n"


def _toml(item: float | tuple[float, float]) -> str:
    return f"[{item[0]:g}, {item[1]:g}]" if isinstance(item, tuple) else f"{item:.6g}"
