"""The answer of ``shapewright compare``: words, tables and one chart."""

from __future__ import annotations

from shapewright.outlook.versus import SERVED, Comparison, Side
from shapewright.report.layers import points
from shapewright.report.scale_view import LOOKS
from shapewright.report.vega import Spec, chart, classes, linear_axis, tooltip
from shapewright.report.view import Chart, Grid, View
from shapewright.units import format_count, format_duration, format_quantity


def compare_view(found: Comparison) -> View:
    """Sections in the order of every verb."""
    base = found.sides[0].name
    answer: list[str | Grid] = [_spent(found), _learned(found)]
    if found.verdicts:
        answer.append(_verdicts(found))
    answer += [f"left out: {name}: {reason}" for name, reason in found.left_out.items()]
    why = [
        f"{s.name}: its mixer's own kernel takes {s.mixer_share:.0%} of a step at {s.mixer_flops_per_s / 1e12:.3g} TFLOP/s"
        for s in found.sides
    ]
    for v in found.verdicts:
        words = "sooner" if v.gain_hardware >= 1 else "later"
        times = max(v.gain_hardware, 1 / v.gain_hardware) if v.gain_hardware > 0 else float("inf")
        kernel = "no rate of its kernel would do" if v.least_kernel is None else (
            f"it pays while its kernel reaches {v.least_kernel / 1e12:.3g} TFLOP/s and the model {v.least_mfu:.1%} of peak"
        )  # fmt: skip
        why.append(f"{v.name} reaches the loss of {v.over} x{times:.2f} {words}; {kernel}")
    unknown = [s.name for s in found.sides if s.loss is None]
    if unknown:
        why.append(f"no verdict on {', '.join(unknown)}: what it learns is unknown, so only cost is compared")
    return View(
        title="One budget on several architectures",
        sections=(
            ("Request", (f"{found.budget} on {found.hardware}, sequences of {found.seq_len:,}",)),
            ("Assumed", (
                f"losses by the law {found.law}, shifted by what is known of each mixer",
                f"serving: one node, bf16, {SERVED} sequences of {found.context:,} tokens, kernels alone",
                "the best plan of each architecture with the framework's overheads",
            )),
            ("Answer", tuple(answer)),
            ("Why", tuple(why)),
            ("Trust", (*found.remarks, *(f"{s.name}: {s.evidence}" for s in found.sides))),
            ("Next", (
                f"shapewright scale {' '.join(s.name for s in found.sides[:3])}",
                f"shapewright kernels {found.sides[-1].name if len(found.sides) > 1 else base} --on h100_sxm",
                "shapewright ladder run --help",
            )),
        ),
        charts=(_chart(found),),
    )  # fmt: skip


def _spent(found: Comparison) -> Grid:
    return Grid(
        caption="What the budget buys",
        headers=("architecture", "params", "tokens", "time", "energy", "dollars", "MFU"),
        numbers=("params", "tokens", "time", "energy", "dollars", "MFU"),
        rows=tuple(
            (
                s.name,
                format_count(s.params),
                format_count(s.tokens),
                format_duration(s.days * 86_400),
                "-" if s.joules is None else format_quantity(s.joules, "J"),
                "-" if s.dollars is None else format_quantity(s.dollars, "USD"),
                f"{s.mfu:.1%}",
            )
            for s in found.sides
        ),
    )


def _learned(found: Comparison) -> Grid:
    return Grid(
        caption="What it learns; tokens it decodes, and what a sequence occupies",
        headers=("architecture", "loss", "90 %", "decode", "sequence"),
        numbers=("loss", "decode", "sequence"),
        rows=tuple(
            (
                s.name,
                "unknown" if s.loss is None else f"{s.loss:.3f}",
                _range(s),
                "-" if s.decode_tokens_per_s is None else f"{format_count(s.decode_tokens_per_s)}/s",
                format_quantity(s.sequence_bytes, "B"),
            )
            for s in found.sides
        ),
    )


def _range(s: Side) -> str:
    return "-" if s.loss_low is None or s.loss_high is None else f"{s.loss_low:.3f} to {s.loss_high:.3f}"


def _verdicts(found: Comparison) -> Grid:
    return Grid(
        caption=f"Compute-equivalent gain over {found.verdicts[0].over}, both at their best size for the budget",
        headers=("architecture", "in FLOP", "prior's range", "utilisation", "on hardware"),
        numbers=("in FLOP", "utilisation", "on hardware"),
        rows=tuple(
            (
                v.name,
                f"x{v.gain_flop:.2f}",
                f"{v.gain_low:.2f} to {v.gain_high:.2f}",
                f"x{v.utilisation:.2f}",
                f"x{v.gain_hardware:.2f}",
            )
            for v in found.verdicts
        ),
    )


def _chart(found: Comparison) -> Chart:
    rows: list[Spec] = [
        {
            "name": v.name,
            "utilisation": v.utilisation,
            "gain": v.gain_flop,
            "hardware": f"{v.gain_hardware:.2f}",
        }
        for v in found.verdicts
    ]
    rows.append({"name": found.sides[0].name, "utilisation": 1.0, "gain": 1.0, "hardware": "1.00"})
    most = max(2.0, *(1.1 * r["utilisation"] for r in rows))
    top = max(2.0, *(1.1 * r["gain"] for r in rows))
    curve = [
        {"utilisation": x / 50 * most, "gain": 50 / (x * most)}
        for x in range(5, 51)
        if 50 / (x * most) <= top
    ]
    looks = {r["name"]: LOOKS[i % len(LOOKS)] for i, r in enumerate(rows)}
    x = linear_axis("utilisation", f"utilisation over that of {found.sides[0].name}", 0.0, most)
    y = linear_axis("gain", "gain in FLOP", 0.0, top)
    spec = chart(
        "Gain in FLOP against utilisation; above the line an architecture pays on this hardware",
        [
            {"data": {"values": curve}, "mark": {"type": "line", "strokeDash": [4, 3]}, "encoding": {"x": x, "y": y}},
            points(rows, tooltip(name="architecture", hardware="on hardware"), size=110,
                   look={"x": x, "y": y, **classes("name", looks, rows)}),
        ],
    )  # fmt: skip
    cells = tuple((r["name"], f"{r['utilisation']:.3f}", f"{r['gain']:.3f}", r["hardware"]) for r in rows)
    numbers = ("utilisation", "gain in FLOP", "on hardware")
    grid = Grid(headers=("architecture", *numbers), numbers=numbers, rows=cells)
    return Chart(name="compare_gain", title="What pays on this hardware", spec=spec, grid=grid,
                 caption="predicted; gains rest on the priors under Trust")  # fmt: skip
