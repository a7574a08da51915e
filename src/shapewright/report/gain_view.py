"""The answer of ``shapewright gain``: a verdict with its intervals, what it rests on, and what it could not have seen."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path

from shapewright.evidence import Figure
from shapewright.outlook.gain_on import OnHardware
from shapewright.report.gains import gain_chart, runs_chart
from shapewright.report.view import Chart, Grid, View
from shapewright.scaling.gain import FALSE_RATE, Gain
from shapewright.scaling.gain_runs import Runs
from shapewright.units import format_count, format_quantity

MEANING = {
    "null": "no gain", "constant gain": "a constant factor", "constant loss": "a constant factor below 1",
    "growing": "a step-change candidate", "shrinking": "worth less with scale", "crossing": "better or worse by scale",
    "inconclusive": "these runs cannot tell",
}  # fmt: skip
UNITS = {"flops": "FLOP", "seconds": "s", "joules": "J"}
WORDS = {"flops": "FLOP", "seconds": "seconds", "joules": "joules"}
NOT_MEASURED = (
    "they were not measured here: no energy counter can be read, and no this.toml states a power limit"
)
Gains = Mapping[str, Mapping[str, Gain]]
"""Arm, then unit of cost."""


RANGES = {"inside the runs": "inside", "extrapolated": "beyond", "not known": "-"}
Priced = Mapping[str, tuple[OnHardware, ...]]
"""Arm, then sizes."""


def gain_view(
    found: Runs,
    base: str,
    tuning: str,
    gains: Gains,
    command: str,
    *,
    hardware: str = "",
    priced: Priced | None = None,
) -> View:
    """Sections in the order of every verb, and the charts.

    Args:
        found: the runs.
        base: the arm that the others are compared with.
        tuning: how the learning rates were chosen.
        gains: by arm and unit of cost.
        command: what asks for this answer again.
        hardware: that the gain is told on; empty for none.
        priced: the gain there, by arm.
    """
    elsewhere = [
        part for name, sizes in (priced or {}).items() for part in _elsewhere(name, base, hardware, sizes)
    ]
    return View(
        title=f"{', '.join(gains)} over {base}",
        sections=(
            ("Request", (f"{', '.join(gains)} over {base}, runs of {Path(found.source).parent.name or '.'}/"
                         f"{Path(found.source).name}",)),
            ("Assumed", tuple(_assumed(found, tuning, gains))),
            ("Answer", (*answer_lines(base, gains), *elsewhere)),
            ("Why", tuple(why_lines(gains))),
            ("Trust", (*trust_lines(found, gains), *(_priced_trust(hardware) if priced else ()))),
            ("Next", (f"{command} --report gain.html", *(() if priced else (f"{command} --on h100_sxm",)))),
        ),
        charts=gain_charts(found, base, gains),
    )  # fmt: skip


def _assumed(found: Runs, tuning: str, gains: Gains) -> Iterable[str]:
    yield f"learning rates {tuning}; one floor of the loss for both arms"
    gain = next(iter(gains.values()))["flops"]
    if gain.points > gain.runs:
        yield (f"{gain.points} branches of {gain.runs} runs: tokens per parameter shift the loss and not its exponent; "
               "tests count runs")  # fmt: skip
    if len(gains) > 1:
        yield f"{len(gains)} comparisons share the chance of error (Bonferroni)"


def answer_lines(base: str, gains: Gains) -> Iterable[str | Grid]:
    """Verdict, reasons and tables of every arm."""
    for name, by_unit in gains.items():
        first = by_unit["flops"]
        yield f"{name}: {first.verdict}, {MEANING[first.verdict]}"
        yield from first.reasons
        for unit, gain in by_unit.items():
            yield _table(name, base, unit, gain)
            if unit != "flops" and gain.verdict != first.verdict:
                yield f"in {WORDS[unit]}: {gain.verdict}, {MEANING[gain.verdict]}"
        if len(first.by_length) > 1:
            yield Grid(
                caption=f"{name} by tokens per parameter (of the base), in FLOP",
                headers=("tokens per parameter", "gain", "90 % interval", "slope", "90 % of it"),
                numbers=("tokens per parameter", "gain", "slope"),
                rows=tuple((f"{a.length:g}", f"{a.gain:.2f}x", f"{a.gain_low:.2f} to {a.gain_high:.2f}", f"{a.slope:+.3f}",
                            f"{a.slope_low:+.2f} to {a.slope_high:+.2f}") for a in first.by_length),
            )  # fmt: skip


def _table(name: str, base: str, unit: str, gain: Gain) -> Grid:
    inside = list(zip(gain.cost, gain.gain, gain.gain_low, gain.gain_high, strict=True))
    rows = [(*row, "") for row in (inside[0], inside[len(inside) // 2], inside[-1])]
    if gain.extrapolates:
        beyond = zip(gain.beyond_cost, gain.beyond_gain, gain.beyond_low, gain.beyond_high, strict=True)
        rows += [(*row, "extrapolated") for row in beyond]
    return Grid(
        caption=f"{name}: times the {WORDS[unit]} that {base} needs for the same loss",
        headers=("at", "gain", "90 % interval", ""),
        numbers=("at", "gain"),
        rows=tuple((format_quantity(float(cost), UNITS[unit]), f"{value:.2f}x", f"{low:.2f} to {high:.2f}", note)
                   for cost, value, low, high, note in rows),
    )  # fmt: skip


def _elsewhere(name: str, base: str, hardware: str, sizes: tuple[OnHardware, ...]) -> Iterable[str | Grid]:
    """The gain on other hardware, and the hardware's half of it."""
    yield Grid(
        caption=f"{name} on {hardware}: times the cost of {base} for the same loss",
        headers=("size", "in FLOP", "in seconds", "in joules", "range"),
        rows=tuple((s.size, _times(s.gain_flops), _times(s.gain_seconds), _times(s.gain_joules), RANGES[s.range])
                   for s in sizes),
    )  # fmt: skip
    yield Grid(
        caption=f"The hardware's half: {name} beside {base} at one size on {hardware}",
        headers=("size", "params", "MFU of both", "FLOP/s", "FLOP/J"),
        numbers=("params",),
        rows=tuple((s.size, format_count(s.params), f"{s.mfu_new:.1%}, {s.mfu_base:.1%}", _times(s.speed), _times(s.thrift))
                   for s in sizes),
    )  # fmt: skip
    yield _sentence(name, base, hardware, sizes)


def _times(figure: Figure | None) -> str:
    return "-" if figure is None else f"{figure.value:.2f} ({figure.low:.2f}-{figure.high:.2f})"


def _sentence(name: str, base: str, hardware: str, sizes: tuple[OnHardware, ...]) -> str:
    """What the largest size with a known gain says, in words."""
    known = [s for s in sizes if s.gain_seconds is not None]
    if not known:
        return f"on {hardware} no gain is told: the ladder covers none of these sizes"
    last = known[-1]
    found = last.gain_seconds
    assert found is not None
    assert found.low is not None
    assert found.high is not None
    word = "saves time" if found.low > 1 else "costs time" if found.high < 1 else "may save or cost time"
    return f"at {last.size} {name} {word} on {hardware} against {base} ({last.range})"


def _priced_trust(hardware: str) -> tuple[str, ...]:
    return (
        f"steps on {hardware} are predicted, not run: kernels as `validate kernels` scores them, recurrent steps "
        "assumed inside known bounds; errors of the two arms are taken as independent",
        "both arms are priced at one size on one device; wires between devices are not counted",
    )


def why_lines(gains: Gains) -> Iterable[str]:
    """The fit, its tests, and the largest runs against the others."""
    for name, by_unit in gains.items():
        g = by_unit["flops"]
        yield (f"{name}: slope {g.slope:+.3f} ({g.slope_low:+.3f} to {g.slope_high:+.3f}) d ln gain / d ln FLOP; exponents "
               f"{g.exponent_new:.3f} and {g.exponent_base:.3f} over a floor of {g.floor:.3f}")  # fmt: skip
        yield (f"one law for both arms would leave such a difference with p = {g.difference_p:.2g}, one exponent with p = "
               f"{g.f_test_p:.2g}")  # fmt: skip
        told = ", ".join(
            f"over {e:.2f} the slope would be {s:+.3f} and the gain {m:.2f}x" for e, s, m in g.other_floors
        )
        yield f"what rests on that floor: {told}"
        for top in g.tops:
            yield (f"largest run of {top.arm}: loss {top.loss:.3f}, from the smaller ones {top.told:.3f} ({top.low:.3f} to "
                   f"{top.high:.3f}): {'inside' if top.inside else 'OUTSIDE'}")  # fmt: skip


def trust_lines(found: Runs, gains: Gains) -> Iterable[str]:
    """What the runs could have told, what they leave out, and where their costs are from."""
    for name, by_unit in gains.items():
        g = by_unit["flops"]
        yield (f"power, {name}: four ladders of five like this would tell a constant gain of {g.detectable_gain:.2f}x or a "
               f"slope of {g.detectable_slope:.2f}, and about {100 * FALSE_RATE / len(gains):.2g} % would tell equal arms "
               "apart")  # fmt: skip
    g = next(iter(gains.values()))["flops"]
    low, high = (format_quantity(float(c), "FLOP") for c in (g.cost[0], g.cost[-1]))
    yield f"tested between {low} and {high}: beyond, a law is a guess"
    if found.dropped:
        counts = {arm: found.dropped.count(arm) for arm in dict.fromkeys(found.dropped)}
        told = ", ".join(f"{count} of {arm}" for arm, count in counts.items())
        yield f"diverged and left out: {told}; what is left flatters an arm that loses runs"
    if "seconds" in found.costs:
        yield "seconds are those of the machine that ran the ladder, and of no other (other hardware: --on)"
    if "joules" in found.costs:
        yield f"joules are {found.energy or 'those the file states'}"
    if "seconds" not in found.costs:
        yield "gain in seconds is unknown: the runs do not state them"
    if "joules" not in found.costs:
        yield f"gain in joules is unknown: {NOT_MEASURED if found.folder else 'the runs do not state them'}"


def gain_charts(found: Runs, base: str, gains: Gains) -> tuple[Chart, ...]:
    """The gain over each unit of cost, and the runs it was fitted to."""
    charts = []
    for unit in next(iter(gains.values())):
        by_arm = {name: by_unit[unit] for name, by_unit in gains.items()}
        rows = [
            (name, format_quantity(float(c), UNITS[unit]), f"{v:.3f}", f"{a:.3f} to {b:.3f}", note)
            for name, g in by_arm.items()
            for costs, values, lows, highs, note in (
                (g.cost, g.gain, g.gain_low, g.gain_high, "inside the runs"),
                (g.beyond_cost, g.beyond_gain, g.beyond_low, g.beyond_high, "extrapolated"),
            )
            for c, v, a, b in zip(costs, values, lows, highs, strict=True)
            if note != "extrapolated" or g.extrapolates
        ]
        charts.append(
            Chart(
                name=f"gain_{unit}", title=f"Gain in {WORDS[unit]}",
                caption="band: 90 %; hatched: extrapolated, drawn only where the largest runs obeyed the smaller ones",
                spec=gain_chart(base, by_arm, f"training cost [{UNITS[unit]}]"),
                grid=Grid(headers=("arm", "at", "gain", "90 % interval", "range"), numbers=("at", "gain"), rows=tuple(rows)),
            )
        )  # fmt: skip
    shown = [row for row in found.rows if row.arm in (*gains, base)]
    charts.append(
        Chart(
            name="gain_runs", title="The runs", caption="every judged branch, over its exact FLOP; lines join equal tokens "
            "per parameter", spec=runs_chart(shown, (*gains, base)),
            grid=Grid(
                headers=("arm", "run", "tokens per parameter", "FLOP", "loss"), numbers=("FLOP", "loss"),
                rows=tuple((r.arm, r.run, "-" if r.length is None else f"{r.length:g}", f"{r.costs['flops']:.4g}",
                            f"{r.loss:.4f}") for r in shown),
            ),
        )
    )  # fmt: skip
    return tuple(charts)
