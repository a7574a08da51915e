"""A portfolio of ideas as an answer: words, a table and two charts."""

from __future__ import annotations

import math

from shapewright.outlook.portfolio import BASELINE, Portfolio
from shapewright.report.layers import limit, names_axis, points, whiskers
from shapewright.report.text import percent
from shapewright.report.theme import BLUE, BRICK, GREY
from shapewright.report.vega import chart, classes, linear_axis, log_axis, padded, tooltip
from shapewright.report.view import Chart, Grid, View, grid


def portfolio_view(found: Portfolio) -> View:
    """The answer of ``shapewright portfolio``."""
    rows = tuple(
        (each.name, f"{each.gain:.2f}x", f"{each.low:.2f}-{each.high:.2f}", percent(each.chance), f"{each.lead:+.3f}")
        for each in found.held
    )  # fmt: skip
    together = (
        f"together: {found.together:.2f}x ({found.together_low:.2f} to {found.together_high:.2f}) if their gains multiply, "
        f"which is an upper bound: {', '.join(found.chosen)}"
        if found.chosen
        else "no idea beats scaling further at this budget"
    )
    shares = [
        f"{each.name}: the same loss with {percent(each.saved)} less"
        for each in found.held
        if each.name in found.chosen
    ]
    sources = [f"{each.name}: {each.source} [{each.kind}]" for each in found.held if each.name != BASELINE]
    return View(
        title="Portfolio of ideas",
        sections=(
            ("Request", (f"{len(found.held) - 1} ideas at {_flop(found)} FLOP",)),
            ("Assumed", (found.remarks[0], "an idea is adopted only where its test shows a gain",
                         f"loss by the law {found.law} at its own best size: {found.loss:.4f} without any idea")),
            ("Answer", (
                Grid(caption="Gain in device-time at the target, by lead over scaling further",
                     headers=("idea", "gain", "90 %", "helps", "lead"), rows=rows,
                     numbers=("gain", "90 %", "helps", "lead")),
                together, *shares)),
            ("Why", ("gain at the target: the measured gain and its slope against compute, each with its interval; the "
                     "further away, the wider",
                     "lead: expected ln gain with the option to drop it, less what its test would buy as compute")),
            ("Trust", (*found.remarks[1:], *sources)),
            ("Next", (f"shapewright portfolio --flops {_flop(found)} --report portfolio.html",
                      "shapewright gain NEW BASE --runs ladder --json > gain.json",
                      f"shapewright portfolio --flops {_flop(found)} --ideas gain.json")),
        ),
        charts=(_gains(found), _leads(found)),
    )  # fmt: skip


def _flop(found: Portfolio) -> str:
    return f"{found.target_flops:.3g}".replace("e+", "e")


def _gains(found: Portfolio) -> Chart:
    rows = [
        {"name": each.name, "gain": each.gain, "low": each.low, "high": each.high,
         "text": f"{each.gain:.2f}x ({each.low:.2f} to {each.high:.2f})", "helps": percent(each.chance),
         "slope": f"{each.slope:+.3f}" + ("" if each.slope_known else " assumed"), "kind": each.kind, "source": each.source}
        for each in found.held
    ]  # fmt: skip
    names = [row["name"] for row in rows]
    low, high = min(row["low"] for row in rows) / 1.1, max(row["high"] for row in rows) * 1.1
    x = log_axis("gain", "gain in device-time at the target, with 90 % interval", low, high)
    y = names_axis(names, room=230)
    return Chart(
        name="gains", title="What each idea is worth", caption="1 is no gain; scaling further is the certain alternative.",
        spec=chart("; ".join(f"{row['name']} {row['text']}" for row in rows), [
            limit(1.0, x=x),
            whiskers(rows, x=x, y=y, style="gap"),
            points(rows, tooltip(name="idea", text="gain", helps="helps", slope="slope", kind="evidence", source="source"),
                   look={"x": x, "y": y}, color=BLUE),
        ], height=30 * len(names) + 20),
        grid=grid("Ideas", {"idea": "name", "gain": "text", "helps": "helps", "slope": "slope", "source": "source"}, rows,
                  numbers=("gain", "helps", "slope")),
    )  # fmt: skip


def _leads(found: Portfolio) -> Chart:
    looks = {"chosen": (BLUE, "circle"), "beaten": (GREY, "square"), "baseline": (BRICK, "diamond")}
    rows = [
        {"name": each.name, "lead": each.lead, "chance": each.chance, "source": each.source,
         "standing": "baseline" if each.name == BASELINE else "chosen" if each.name in found.chosen else "beaten",
         "text": f"{math.expm1(each.lead):+.1%}", "helps": percent(each.chance)}
        for each in found.held
    ]  # fmt: skip
    x = linear_axis("chance", "chance that it helps", 0.0, 1.04)
    y = linear_axis(
        "lead", "expected ln gain over scaling further", *padded([row["lead"] for row in rows], 0.1)
    )
    return Chart(
        name="risk", title="Value and risk", caption="Up is more worth than compute; right is more certain.",
        spec=chart("; ".join(f"{row['name']} {row['text']}, helps with {row['helps']}" for row in rows), [
            limit(0.0, y=y),
            points(rows, tooltip(name="idea", text="lead", helps="helps", source="source"), size=110,
                   look={"x": x, "y": y, **classes("standing", looks, rows)}, opacity=0.9),
        ]),
        grid=grid("Value and risk", {"idea": "name", "lead": "text", "helps": "helps", "standing": "standing",
                                     "source": "source"}, rows, numbers=("lead", "helps")),
    )  # fmt: skip
