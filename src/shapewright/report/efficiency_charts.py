"""The charts of efficiency across generations: trends, steps and what they are made of, area, bends, work done."""

from __future__ import annotations

from shapewright.evidence import Figure
from shapewright.outlook.efficiency import Compared, Efficiency, Line
from shapewright.outlook.ratings import LINES
from shapewright.report.layers import limit, names_axis, points, shares, whiskers
from shapewright.report.text import percent
from shapewright.report.theme import BLUE, BRICK, GOLD, GREEN, GREY, PURPLE, VIOLET
from shapewright.report.vega import (
    Spec,
    chart,
    classes,
    labelled,
    linear_axis,
    log_axis,
    log_position,
    padded,
    tooltip,
)
from shapewright.report.view import Chart, Grid, grid

LOOKS = {
    "16-bit peak": (BLUE, "circle"), "best peak": (GOLD, "diamond"), "measured matmul": (GREEN, "square"),
    "measured training": (BRICK, "triangle-up"),
}  # fmt: skip
STEP_LOOKS = {
    "equal precision": (BLUE, "circle"), "chosen formats": (BLUE, "circle"), "best precision": (GOLD, "diamond"),
    "measured matmul": (GREEN, "square"), "measured watts": (PURPLE, "triangle-down"),
    "measured training": (BRICK, "triangle-up"),
}  # fmt: skip
PART_COLOURS = (BLUE, GOLD, GREEN, PURPLE, BRICK, VIOLET, GREY, "#4d5560")


def efficiency_charts(found: Efficiency) -> tuple[Chart, ...]:
    """Up to six charts: those that the answer has data for."""
    made = (
        _timeline(found),
        _steps(found),
        _parts(found),
        _area(found),
        _bends(found),
        _worked(found),
    )
    return tuple(each for each in made if each is not None)


def ratio_text(figure: Figure | None, mark: bool = True) -> str:
    """A ratio with its interval; a star marks what was assumed where ``mark`` is true."""
    if figure is None:
        return "unknown"
    star = "*" if mark and figure.kind == "assumed" else ""
    if figure.low is not None and figure.high is not None:
        return f"x{figure.value:.2f}{star} ({figure.low:.2f}-{figure.high:.2f})"
    return f"x{figure.value:.2f}{star}"


def name_of(compared: Compared) -> str:
    """Two chips that are compared: ``first > last``."""
    return f"{compared.equal.first} > {compared.equal.last}"


def rate_text(growth: tuple[float, float, float] | None) -> str:
    """Growth per year with its interval; a dash where none can be told."""
    return "-" if growth is None else f"x{growth[0]:.2f} ({growth[1]:.2f}-{growth[2]:.2f})"


def _timeline(found: Efficiency) -> Chart:
    rows: list[Spec] = []
    for trend in found.trends:
        line = trend.name.removesuffix(" per watt")
        if trend.scope != "all makers" or line not in LOOKS:
            continue
        rows += [
            {"name": f"{point.chips[0]}" + ("…" if len(point.chips) > 1 else ""), "chips": ", ".join(point.chips),
             "line": line, "year": point.year, "value": point.value, "maker": point.lineage,
             "text": f"{point.value / 1e9:,.0f} GFLOP/s per W", "source": point.source}
            for point in trend.points
        ]  # fmt: skip
    years, values = [row["year"] for row in rows], [row["value"] for row in rows]
    low, high = min(values) / 1.5, max(values) * 1.8
    first, last = padded(years, 0.05)
    x, y = (
        linear_axis("year", "released", first, last),
        log_axis("value", "performance per watt", low, high, unit="FLOP/J"),
    )
    x["axis"]["format"] = "d"
    named = [row for row in rows if row["line"] == "16-bit peak" and row["maker"] == "NVIDIA"][::-1]
    return Chart(
        name="per-watt", title="Performance per watt",
        caption="One point per generation and maker: the geometric mean of its variants.",
        spec=chart(f"Performance per watt of {len(rows)} generations on four lines of evidence.", [
            points(rows, tooltip(chips="chips", maker="maker", line="line", text="per watt", source="source"), size=70,
                   look={"x": x, "y": y, **classes("line", LOOKS, rows)}, opacity=0.85),
            *labelled(named, [(row["year"] - first) / (last - first) for row in named],
                      [log_position(row["value"], low, high) for row in named], x=x, y=y, sides=("below", "right", "left")),
        ], height=340),
        grid=grid("Generations", {"chips": "chips", "line": "line", "per watt": "text", "source": "source"}, rows,
                  numbers=("per watt",)),
    )  # fmt: skip


def _line_class(line: Line) -> str:
    return next(name for name in STEP_LOOKS if line.name.startswith(name))


def _steps(found: Efficiency) -> Chart:
    rows = [
        {"name": name_of(each), "line": _line_class(line), "ratio": line.ratio.value, "text": ratio_text(line.ratio),
         "evidence": line.evidence, "source": line.ratio.source}
        for each in found.compared for line in each.lines if line.ratio is not None
    ]  # fmt: skip
    low, high = padded([1.0, *(row["ratio"] for row in rows)], 0.08)
    x = linear_axis("ratio", "gain per watt", low, high)
    y = names_axis([name_of(each) for each in found.compared])
    return Chart(
        name="steps", title="Gain per watt of each step", caption="The same step on each line of evidence; 1 is no gain.",
        spec=chart("; ".join(f"{row['name']} {row['line']} {row['text']}" for row in rows), [
            limit(1.0, x=x),
            points(rows, tooltip(name="step", line="line", text="gain", evidence="evidence", source="source"),
                   look={"x": x, "y": y, **classes("line", STEP_LOOKS, rows)}, opacity=0.9),
        ], height=36 * len(found.compared) + 30),
        grid=grid("Steps", {"step": "name", "line": "line", "gain": "text", "evidence": "evidence", "source": "source"},
                  rows, numbers=("gain",)),
    )  # fmt: skip


def _parts(found: Efficiency) -> Chart | None:
    rows: list[Spec] = []
    names: list[str] = []
    for each in found.compared:
        for step in (each.equal, each.best):
            if step is None or step.performance == 1.0:
                continue
            name = f"{name_of(each)} {step.formats[0]}/{step.formats[1]}"
            if name in names:
                continue
            names.append(name)
            rows += [
                {"name": name, "part": part.name.partition(" (")[0], "share": part.share, "order": at,
                 "text": f"x{part.ratio:.2f}, {percent(part.share)}" + ("*" if part.assumed else ""),
                 "range": f"{percent(part.share_low)} to {percent(part.share_high)}"}
                for at, part in enumerate(step.parts)
            ]  # fmt: skip
    if not rows:
        return None
    parts = list(dict.fromkeys(row["part"] for row in rows))
    colours = [PART_COLOURS[at % len(PART_COLOURS)] for at in range(len(parts))]
    return Chart(
        name="parts", title="What each step is made of",
        caption="Shares of the logarithm of the gain; bars left of 0 took away. They add to 100 %.",
        spec=chart("; ".join(f"{row['name']}: {row['part']} {row['text']}" for row in rows), [
            shares(rows, tooltip(name="step", part="part", text="factor, share", range="over the range of areas"),
                   dict(zip(parts, colours, strict=True)), y=names_axis(names, room=230), title="share of ln(gain)",
                   room=260),
        ], height=32 * len(names) + 20),
        grid=Grid(caption="Parts", headers=("step", "part", "factor, share", "source"),
                  rows=tuple((row["name"], row["part"], row["text"], "catalogue figures of both chips: shapewright hardware")
                             for row in rows)),
    )  # fmt: skip


def _area(found: Efficiency) -> Chart:
    rated = {rating.chip: rating for rating in found.ratings if rating.line == LINES[0]}
    chips = list(dict.fromkeys(found.chips))
    rows, unknown = [], []
    for chip in chips:
        figure = rated[chip].per["mm2"] if chip in rated else None
        if figure is None:
            unknown.append({"name": chip, "text": "unknown area" if chip in rated else "no 16-bit peak"})
            continue
        rows.append(
            {"name": chip, "value": figure.value, "low": figure.low or figure.value, "high": figure.high or figure.value,
             "kind": "assumed area, with its range" if figure.kind == "assumed" else "published area",
             "text": f"{figure.value / 1e12:.3g} TFLOP/s per mm2", "source": figure.source}
        )  # fmt: skip
    top = max((row["high"] for row in rows), default=1.0) * 1.08
    x = linear_axis("value", "16-bit peak per mm2", 0.0, top, unit="FLOP/s")
    y = {**names_axis(chips), "scale": {"domain": chips}}
    looks = {"published area": (BLUE, "circle"), "assumed area, with its range": (GOLD, "diamond")}
    return Chart(
        name="per-area", title="Performance per area", caption="A die area nobody published is unknown, or a marked range.",
        spec=chart("; ".join([*(f"{row['name']} {row['text']}" for row in rows),
                              *(f"{row['name']} {row['text']}" for row in unknown)]), [
            whiskers([row for row in rows if row["low"] < row["high"]], x=x, y=y),
            points(rows, tooltip(name="chip", text="per mm2", kind="area", source="source"),
                   look={"x": x, "y": y, **classes("kind", looks, rows)}),
            {"data": {"values": unknown}, "mark": {"type": "text", "align": "left", "dx": 4},
             "encoding": {"y": y, "x": {"value": 0}, "text": {"field": "text"}}},
        ], height=28 * len(chips) + 20),
        grid=Grid(caption="Per area", headers=("chip", "16-bit per mm2", "area", "source"), numbers=("16-bit per mm2",),
                  rows=(*((row["name"], row["text"], row["kind"], row["source"]) for row in rows),
                        *((row["name"], "unknown", row["text"], "nobody published it") for row in unknown))),
    )  # fmt: skip


def _bends(found: Efficiency) -> Chart | None:
    rows = []
    names = []
    for trend in found.trends:
        if trend.growth_first is None or trend.growth_last is None:
            continue
        name = f"{trend.name}, {trend.scope}"
        names.append(name)
        for when, growth in (
            ("first generation", trend.growth_first),
            ("last generation", trend.growth_last),
        ):
            rows.append({"name": name, "when": when, "value": growth[0], "low": growth[1], "high": growth[2],
                         "text": rate_text(growth), "verdict": trend.verdict,
                         "source": "fit over " + ", ".join(point.chips[0] for point in trend.points)})  # fmt: skip
    if not rows:
        return None
    low, high = padded([1.0, *(row["low"] for row in rows), *(row["high"] for row in rows)], 0.04)
    x = linear_axis("value", "growth per year, with 90 % interval", low, high)
    looks = {"first generation": (GREY, "circle"), "last generation": (BLUE, "diamond")}
    y = names_axis(names, room=260)
    offset = {"field": "when", "type": "nominal", "sort": list(looks)}
    return Chart(
        name="flattening", title="Is it flattening?",
        caption="Growth per year at the first and at the last generation; the verdict is of the bend between them.",
        spec=chart("; ".join(f"{row['name']} {row['when']} {row['text']}: {row['verdict']}" for row in rows), [
            limit(1.0, x=x),
            whiskers(rows, x=x, y=y, yOffset=offset, style="gap"),
            points(rows, tooltip(name="measure", when="at the", text="growth", verdict="verdict"), size=70,
                   look={"x": x, "y": y, "yOffset": offset, **classes("when", looks, rows)}),
        ], height=40 * len(names) + 20),
        grid=grid("Growth", {"measure": "name", "at the": "when", "growth": "text", "verdict": "verdict",
                             "source": "source"}, rows, numbers=("growth",)),
    )  # fmt: skip


def _worked(found: Efficiency) -> Chart | None:
    rows = []
    for each in found.worked:
        for what, figure in (("as it is", each.as_it_is), ("re-designed", each.redesigned)):
            if figure is not None:
                shape = each.shape if what == "re-designed" else found.model
                rows.append({"name": each.chip, "what": what, "value": figure.value, "shape": shape,
                             "text": f"{figure.value:.3g} tokens/J", "source": figure.source})  # fmt: skip
    if not rows:
        return None
    chips = list(dict.fromkeys(row["name"] for row in rows))
    return Chart(
        name="at-work", title=f"{found.model} at work", caption="Training tokens per joule, hosts and site included.",
        spec=chart("; ".join(f"{row['name']} {row['what']} {row['text']}" for row in rows), [{
            "data": {"values": rows}, "mark": {"type": "bar", "style": "segment"},
            "encoding": {
                "y": names_axis(chips),
                "yOffset": {"field": "what", "type": "nominal", "sort": ["as it is", "re-designed"]},
                "x": {"field": "value", "type": "quantitative", "axis": {"title": "tokens per joule"}},
                "color": {"field": "what", "type": "nominal",
                          "scale": {"domain": ["as it is", "re-designed"], "range": [GREY, BLUE]}},
                "tooltip": tooltip(name="chip", what="model", shape="shape", text="energy", source="source"),
            },
        }], height=50 * len(chips) + 20),
        grid=grid("At work", {"chip": "name", "model": "what", "tokens per joule": "text", "source": "source"}, rows,
                  numbers=("tokens per joule",)),
    )  # fmt: skip
