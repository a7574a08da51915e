"""The answer of ``shapewright scale``: words, one table per architecture, and three charts over device counts."""

from __future__ import annotations

from shapewright.outlook.scale import Curve, Point
from shapewright.outlook.scaling import Scaling
from shapewright.report.layers import curves, points
from shapewright.report.theme import BLUE, BRICK, GOLD, GREEN, GREY, PURPLE, VIOLET
from shapewright.report.vega import Spec, chart, classes, linear_axis, log_axis, tooltip
from shapewright.report.view import Chart, Grid, View
from shapewright.units import format_count, format_duration, format_quantity

LOOKS = ((BLUE, "circle"), (BRICK, "square"), (GREEN, "diamond"), (GOLD, "triangle-up"), (PURPLE, "cross"),
         (VIOLET, "triangle-down"), (GREY, "triangle-right"))  # fmt: skip
SHORT = {"compute roof": "compute", "memory roof": "memory", "span roof": "span", "tensor-parallel wires": "tp wires",
         "context-parallel wires": "cp wires", "expert wires": "ep wires", "data-parallel wires": "dp wires"}  # fmt: skip


def scale_view(found: Scaling) -> View:
    """Sections in the order of every verb, and the charts."""
    per = " per device" if found.weak else ""
    request = (
        f"{format_count(found.tokens)} tokens a step{per}, sequences of {found.seq_len:,}, {found.hardware}"
    )
    assumed = [
        f"{name}: {format_duration(alpha)} and {format_quantity(beta, 'B/s')} per device and direction"
        for name, alpha, beta in found.wires
    ]
    assumed.append(
        f"{found.precision}, kernels without a framework's overheads, copies kept together by {found.sync}"
    )
    if found.weak:
        batch = (
            "not counted" if found.critical_batch is None else f"{format_count(found.critical_batch)} tokens"
        )
        assumed.append(f"critical batch {batch}")
    answer: list[str | Grid] = [_overview(found), *(_table(c) for c in found.curves)]
    answer += [f"left out: {name}: {reason}" for name, reason in found.left_out.items()]
    if found.crossings:
        answer.append(
            Grid(
                caption="Crossings", headers=("faster before", "faster after", "devices"), numbers=("devices",),
                rows=tuple((c.before, c.after, format_count(c.devices)) for c in found.crossings),
            )
        )  # fmt: skip
    if found.break_evens:
        answer.append(_break_evens(found))
    return View(
        title="Architectures from one device to a million",
        sections=(
            ("Request", (request,)),
            ("Assumed", tuple(assumed)),
            ("Answer", tuple(answer)),
            ("Why", found.why),
            ("Trust", (
                "kernels and inner wires are fitted on measurements, scans too (validate kernels); recurrent steps "
                "and wires between nodes are assumed inside known bounds",
                "ring and zigzag attention come out within 2 points of measured efficiencies on 8 H800; nothing past "
                "some thousands of devices was ever measured in public",
            )),
            ("Next", (
                "shapewright scale transformer gated_deltanet --seq-len 1M",
                "shapewright scale transformer moe --weak --tokens 16k --sync diloco",
                "shapewright compare transformer gated_deltanet --on 64xh100_sxm",
            )),
        ),
        charts=(_efficiency(found), _time(found), _wires(found)),
    )  # fmt: skip


def _overview(found: Scaling) -> Grid:
    """Efficiency of every architecture at every third count."""
    counts = sorted({p.devices for c in found.curves for p in c.points})
    step = max(round(len(counts) / 7), 1)
    shown = counts[::step]
    if counts[-1] not in shown:
        shown.append(counts[-1])
    table = {(c.name, p.devices): p for c in found.curves for p in c.points}
    return Grid(
        caption="Efficiency (time of a token without wires, over devices x time)",
        headers=("architecture", *(format_count(n) for n in shown)),
        numbers=tuple(format_count(n) for n in shown),
        rows=tuple(
            (c.name, *(_share(table[c.name, n].efficiency) if (c.name, n) in table else "-" for n in shown))
            for c in found.curves
        ),
    )


def _table(c: Curve) -> Grid:
    points = c.points[:: max(round(len(c.points) / 6), 1)]
    if c.points[-1] not in points:
        points = (*points, c.points[-1])
    return Grid(
        caption=f"{c.name}: {format_count(c.params)} parameters; of these counts {c.smallest:,} to {c.largest:,} can run it",
        headers=("devices", "step", "J/token", "$/M", "sent", "binds", "loses"),
        numbers=("devices", "step", "J/token", "$/M", "sent"),
        rows=tuple(_row(p) for p in points),
    )


def _row(p: Point) -> tuple[str, ...]:
    return (
        format_count(p.devices),
        format_duration(p.seconds),
        "-" if p.joules_per_token is None else f"{p.joules_per_token:.2g}",
        "-" if p.dollars_per_token is None else f"{p.dollars_per_token * 1e6:.3g}",
        "-" if p.sent_over_bound is None else f"x{p.sent_over_bound:.2g}",
        SHORT.get(p.binds, p.binds),
        SHORT.get(p.loses, p.loses) or "-",
    )


def _break_evens(found: Scaling) -> Grid:
    at = found.break_evens[0].devices
    return Grid(
        caption=f"On {at:,} devices: wires between nodes at which it is as fast as {found.break_evens[0].over}",
        headers=("architecture", "time now", "latency", "bandwidth"),
        numbers=("time now", "latency", "bandwidth"),
        rows=tuple(
            (
                b.name,
                f"x{b.ratio:.2f}",
                "never" if b.latency_s is None else format_duration(b.latency_s),
                "never" if b.bandwidth is None else format_quantity(b.bandwidth, "B/s"),
            )
            for b in found.break_evens
        ),
    )


def _share(value: float) -> str:
    return f"{value:.0%}" if value >= 0.1 else f"{value:.1%}" if value >= 0.001 else "<0.1%"


def _points(found: Scaling) -> list[Spec]:
    return [
        {
            "name": c.name, "devices": p.devices, "efficiency": p.efficiency, "microseconds": 1e6 / p.tokens_per_s,
            "binds": p.binds, "loses": p.loses or "none", "step": format_duration(p.seconds),
            "wires": sum(v for k, v in p.parts.items() if "wires" in k or k in ("bubble", "stage hops")) / p.seconds,
        }
        for c in found.curves
        for p in c.points
    ]  # fmt: skip


def _lines(found: Scaling, name: str, title: str, field: str, label: str, *, log: bool) -> Chart:
    rows = _points(found)
    looks = {c.name: LOOKS[i % len(LOOKS)] for i, c in enumerate(found.curves)}
    values = [row[field] for row in rows]
    y = (
        log_axis(field, label, min(values) / 1.3, max(values) * 1.3)
        if log
        else linear_axis(field, label, 0.0, max(*values, 1.0))
    )
    counts = [row["devices"] for row in rows]
    look = {
        "x": log_axis("devices", "devices", min(counts) / 1.2, max(counts) * 1.2),
        "y": y,
        **classes("name", looks, rows),
    }
    hover = tooltip(name="architecture", devices="devices", step="step", binds="binds", loses="loses")
    spec = chart(
        f"{title}, one line per architecture",
        [curves(rows, look), points(rows, hover, size=45, look=look)],
    )
    grid = Grid(
        headers=("architecture", "devices", label, "binds", "loses"),
        numbers=("devices", label),
        rows=tuple((r["name"], f"{r['devices']:,}", f"{r[field]:.3g}", r["binds"], r["loses"]) for r in rows),
    )
    source = "predicted: fitted kernels, wires as assumed above"
    return Chart(name=name, title=title, caption=source, spec=spec, grid=grid)


def _efficiency(found: Scaling) -> Chart:
    return _lines(found, "scale_efficiency", "Efficiency over devices", "efficiency", "efficiency", log=False)


def _time(found: Scaling) -> Chart:
    return _lines(
        found, "scale_time", "Time of a token over devices", "microseconds", "time of a token [us]", log=True
    )


def _wires(found: Scaling) -> Chart:
    return _lines(
        found, "scale_wires", "Share of a step on wires and bubbles", "wires", "share of the step", log=False
    )
