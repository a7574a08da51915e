"""A gain in FLOP told in seconds and joules of hardware that did not run the ladder.

::

    gain in seconds(C) = gain in FLOP(C) * (FLOP/s of the new arm) / (FLOP/s of the base)
    gain in joules(C)  = gain in FLOP(C) * (FLOP/J of the new arm) / (FLOP/J of the base)

with both arms' steps priced at one size on one device, at the sequence length and vocabulary of the ladder. Intervals
add the squares of three logarithms: of the gain, and of the two steps (or energies).

Decisions: the framework's overheads stand in both steps and their error falls out of the ratio, so a step's interval
is that of its kernels; the errors of two arms on one device are taken as independent, which is too wide rather than too
narrow. Sizes inside the range of the ladder are priced, and larger ones as the same layouts grow; there a gain is
extrapolated where the ladder allows it and unknown where not, and the hardware's half is shown alone. Neglected: the
base is priced at the size of the new arm and not at the one that reaches its loss, and one device says nothing of
wires between many.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from shapewright.architecture.graph import build_graph, num_params
from shapewright.architecture.shape import Shape
from shapewright.designs.document import Design
from shapewright.designs.estimate import make_estimate
from shapewright.evidence import Figure
from shapewright.plan.framework import KERNELS_ALONE
from shapewright.scaling.gain import Gain
from shapewright.search.joint import Options

STEP_TOKENS = 65_536
"""Tokens of the step that is priced, so that launches do not outweigh the work [1]."""
Range = Literal["inside the runs", "extrapolated", "not known"]


@dataclass(frozen=True, kw_only=True, slots=True)
class Sized:
    """Both arms at one size."""

    name: str
    new: Shape
    base: Shape
    tokens: float
    """That a model of this size is trained on."""


@dataclass(frozen=True, kw_only=True, slots=True)
class OnHardware:
    """The gain at one size on one device."""

    size: str
    params: float
    """Of the base."""
    cost: float
    """Training compute of the new arm at this size [FLOP]."""
    range: Range
    """Of the gain in FLOP."""
    gain_flops: Figure | None
    """None where the ladder says nothing about this compute."""
    mfu_new: float
    mfu_base: float
    speed: Figure
    """FLOP/s of the new arm over those of the base [1]."""
    thrift: Figure | None
    """FLOP per joule of the new arm over those of the base [1]; None where the device's power is unknown."""
    gain_seconds: Figure | None
    gain_joules: Figure | None


def gain_on(
    gain: Gain, sizes: Sequence[Sized], hardware: str, *, seq_len: int, settings: tuple[str, ...] = ()
) -> tuple[OnHardware, ...]:
    """The gain of one arm over the other on ``hardware``, size by size.

    Args:
        gain: of the ladder, over FLOP.
        sizes: what is priced.
        hardware: one device; of several the first counts.
        seq_len: of the ladder.
        settings: figures of the hardware that are replaced.

    Raises:
        UnknownNameError: no such hardware.
        NotCoveredError: an arm's kernels are not calibrated there.
    """
    return tuple(_at(gain, size, hardware, seq_len, settings) for size in sizes)


def _at(gain: Gain, size: Sized, hardware: str, seq_len: int, settings: tuple[str, ...]) -> OnHardware:
    new, base = (_Priced.of(shape, hardware, seq_len, settings) for shape in (size.new, size.base))
    source = f"steps of {STEP_TOKENS:,} tokens of both arms priced on {hardware}"
    speed = _ratio(
        new.flops / base.flops * base.seconds / new.seconds, (new.seconds_width, base.seconds_width), source
    )
    thrift = None
    if new.watts is not None and base.watts is not None:
        widths = (*new.watts_width, *base.watts_width, new.seconds_width, base.seconds_width)
        thrift = _ratio(speed.value * base.watts / new.watts, widths, source)
    cost = new.flops / STEP_TOKENS * size.tokens
    where, told = _gain_at(gain, cost)
    return OnHardware(
        size=size.name, params=float(num_params(size.base)), cost=cost, range=where, gain_flops=told,
        mfu_new=new.mfu, mfu_base=base.mfu, speed=speed, thrift=thrift,
        gain_seconds=_product(told, speed), gain_joules=_product(told, thrift),
    )  # fmt: skip


@dataclass(frozen=True, kw_only=True, slots=True)
class _Priced:
    """A step of one arm."""

    flops: float
    seconds: float
    seconds_width: float
    """Half of the 90 % interval of ln seconds by kernels."""
    watts: float | None
    watts_width: tuple[float, ...]
    mfu: float

    @classmethod
    def of(cls, shape: Shape, hardware: str, seq_len: int, settings: tuple[str, ...]) -> _Priced:
        def ask(framework: str | None) -> Design:
            options = Options(seq_len=seq_len, global_batch=STEP_TOKENS // seq_len, framework=framework)
            return make_estimate(shape, hardware, options, tokens=None, settings=settings)

        whole = ask(None).predicted
        power = whole.power_w
        return cls(
            flops=3.0 * float(build_graph(shape, batch=1, seq_len=seq_len).flops()) * (STEP_TOKENS // seq_len),
            seconds=whole.step_time_s.value, seconds_width=_width(ask(KERNELS_ALONE.name).predicted.step_time_s),
            watts=None if power is None else power.value, watts_width=() if power is None else (_width(power),),
            mfu=whole.mfu.value,
        )  # fmt: skip


def _width(figure: Figure) -> float:
    if figure.low is None or figure.high is None:
        return 0.0
    return float(0.5 * np.log(figure.high / figure.low))


def _ratio(value: float, widths: Sequence[float], source: str) -> Figure:
    spread = float(np.exp(np.sqrt(np.sum(np.square(widths)))))
    return Figure(
        value=value, unit="1", kind="derived", source=source, low=value / spread, high=value * spread
    )


def _gain_at(gain: Gain, cost: float) -> tuple[Range, Figure | None]:
    """The gain in FLOP at a compute: ln gain is a line over ln compute."""
    inside = gain.cost[0] * (1 - 1e-9) <= cost <= gain.cost[-1] * (1 + 1e-9)
    if not inside and not (gain.extrapolates and gain.cost[-1] < cost <= gain.beyond_cost[-1]):
        return "not known", None
    x = np.log(np.concatenate((gain.cost, gain.beyond_cost)))
    value, low, high = (
        float(np.exp(np.interp(np.log(cost), x, np.log(np.concatenate(ends)))))
        for ends in ((gain.gain, gain.beyond_gain), (gain.gain_low, gain.beyond_low), (gain.gain_high, gain.beyond_high))
    )  # fmt: skip
    figure = Figure(value=value, unit="1", kind="fitted", source="the ladder's runs", low=low, high=high)
    return "inside the runs" if inside else "extrapolated", figure


def _product(gain: Figure | None, factor: Figure | None) -> Figure | None:
    """Both intervals are independent; each end has its own width."""
    if gain is None or factor is None or None in (gain.low, gain.high, factor.low, factor.high):
        return None
    ends = []
    for side in ("low", "high"):
        parts = [np.log(getattr(each, side) / each.value) for each in (gain, factor)]
        ends.append(float(np.exp(np.sqrt(np.sum(np.square(parts))))))
    value = gain.value * factor.value
    return Figure(value=value, unit="1", kind="derived", source=f"{gain.source}; {factor.source}",
                  low=value / ends[0], high=value * ends[1])  # fmt: skip
