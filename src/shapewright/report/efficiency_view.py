"""Efficiency across generations as an answer: words, tables and six charts."""

from __future__ import annotations

from shapewright.evidence import Figure
from shapewright.outlook.efficiency import Compared, Efficiency, Line
from shapewright.outlook.ratings import LINES, UNITS, Rating
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
from shapewright.report.view import Chart, Grid, View

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
_UNIT_TEXT = {
    "watt": "GF/W",
    "mm2": "TF/mm2",
    "transistor": "TF/Gtr",
    "dollar": "TF/k$",
    "byte/s": "FLOP/B",
}
_UNIT_SCALE = {"watt": 1e-9, "mm2": 1e-12, "transistor": 1e-3, "dollar": 1e-9, "byte/s": 1.0}


def efficiency_view(found: Efficiency) -> View:
    """The answer of ``shapewright efficiency``."""
    request = f"{', '.join(found.chips)}, {found.bits}-bit" + (
        ", mixed formats as asked" if found.mixed else ""
    )
    answer: list[str | Grid] = [_trend_grid(found), *([_worked_grid(found)] if found.worked else [])]
    answer += [*_step_grids(found), _ratings_grid(found)]
    verdicts = [
        f"{trend.name}: {trend.verdict}"
        + (f" (all makers, {len(trend.points)} generations)" if trend.bend else "")
        for trend in found.trends
        if trend.scope == "all makers" and trend.name.endswith("per watt")
    ]
    return View(
        title="Efficiency across generations",
        sections=(
            ("Request", (request,)),
            ("Assumed", ("performance per watt counts the TDP as the maker states it",
                         "* rests on an assumed area, with the range that it may have")),
            ("Answer", (*verdicts, *answer)),
            ("Why", ("the parts of a step multiply to it: power, area per watt, transistors per area, clock, architecture, "
                     "format; their logarithms are the shares, which add to one",
                     "power, area and transistors each by itself overlap and do not add up",
                     "flattening: ln(performance per watt) over time with a bend; the bend's 90 % interval decides")),
            ("Trust", found.remarks),
            ("Next", ("shapewright efficiency --report efficiency.html",
                      "shapewright efficiency h100_sxm:fp8 b200_sxm:fp4 --mixed",
                      "shapewright efficiency a100_sxm..b200_sxm --model llama-3-8b",
                      "shapewright whatif --on 8xb200_sxm --set sram=2x")),
        ),
        charts=tuple(each for each in (_timeline(found), _steps(found), _parts(found), _area(found), _bends(found),
                                       _worked(found)) if each is not None),
    )  # fmt: skip


def _ratio(figure: Figure | None, mark: bool = True) -> str:
    if figure is None:
        return "unknown"
    star = "*" if mark and figure.kind == "assumed" else ""
    if figure.low is not None and figure.high is not None:
        return f"x{figure.value:.2f}{star} ({figure.low:.2f}-{figure.high:.2f})"
    return f"x{figure.value:.2f}{star}"


def _name(compared: Compared) -> str:
    return f"{compared.equal.first} > {compared.equal.last}"


def _step_grids(found: Efficiency) -> list[str | Grid]:
    """Each step on its lines, then what it is made of."""
    shown: list[str | Grid] = []
    for each in found.compared:
        step, best = each.equal, each.best
        shown.append(
            Grid(
                caption=f"{_name(each)}: gain per watt",
                headers=("line", "gain", "evidence"),
                rows=tuple((line.name, _ratio(line.ratio), line.evidence) for line in each.lines),
                numbers=("gain",),
            )
        )
        per = {"area": step.per_area, "transistor": step.per_transistor, "dollar": step.per_dollar,
               "byte/s of memory": step.per_bandwidth}  # fmt: skip
        shown.append("per " + ", per ".join(f"{name} {_ratio(figure)}" for name, figure in per.items()))
        shown.append(_parts_grid(each))
        if step.alone:
            alone = ", ".join(f"{name} {percent(share)}" for name, share in step.alone.items())
            shown.append(f"each by itself: {alone}")
        if best is not None and best.formats != step.formats:
            part = best.parts[-1]
            shown.append(
                f"in the best formats ({' to '.join(best.formats)}): x{best.performance:.2f}"
                + (
                    f", of which the format x{part.ratio:.2f}, {percent(part.share)}"
                    if part.name == "number format"
                    else ""
                )
            )
    return shown


def _parts_grid(each: Compared) -> Grid:
    step = each.equal
    rows = []
    for part in step.parts:
        star = "*" if part.assumed else ""
        span = f" ({percent(part.share_low)} to {percent(part.share_high)})" if star else ""
        rows.append((f"x{part.ratio:.2f}", percent(part.share), f"{part.name}{star}{span}"))
    rows.append((f"x{step.performance:.2f}", percent(sum(part.share for part in step.parts)), "together"))
    return Grid(caption=f"{_name(each)}: what x{step.performance:.2f} ({' to '.join(step.formats)}) is made of",
                headers=("factor", "share", "part"), rows=tuple(rows), numbers=("factor", "share"))  # fmt: skip


def _per(rating: Rating, unit: str) -> str:
    figure = rating.per[unit]
    if figure is None:
        return "-"
    value = figure.value * _UNIT_SCALE[unit]
    text = f"{value:.0f}" if value >= 100 else f"{value:.3g}"
    return text + ("*" if figure.kind == "assumed" else "")


def _ratings_grid(found: Efficiency) -> Grid:
    units = tuple(UNITS)
    rows = tuple(
        (rating.chip, f"{rating.line.replace(' peak', '').replace('measured ', '')} {rating.number_format}",
         f"{rating.performance.value / 1e12:.0f}", *(_per(rating, unit) for unit in units))
        for rating in found.ratings
    )  # fmt: skip
    heads = ("chip", "line", "TF/s", *(_UNIT_TEXT[unit] for unit in units))
    return Grid(caption="Per watt, mm2, 1e9 transistors, 1,000 dollars, byte; - is unknown", headers=heads, rows=rows,
                numbers=heads[2:])  # fmt: skip


def _rate(growth: tuple[float, float, float] | None) -> str:
    return "-" if growth is None else f"x{growth[0]:.2f} ({growth[1]:.2f}-{growth[2]:.2f})"


def _trend_grid(found: Efficiency) -> Grid:
    rows = []
    for trend in found.trends:
        growth = bend = "-"
        if trend.growth_first and trend.growth_last and trend.bend:
            growth = f"x{trend.growth_first[0]:.2f} > x{trend.growth_last[0]:.2f}"
            bend = f"{trend.bend[1]:+.3f} to {trend.bend[2]:+.3f}"
        name = (
            trend.name.replace(" peak", "")
            .replace("measured ", "")
            .replace(" per ", "/")
            .replace("transistor", "tr")
        )
        scope = trend.scope.replace(" makers", "")
        rows.append(
            (f"{name}, {scope}", f"{len(trend.points)}", growth, bend, trend.verdict.partition(":")[0])
        )
    return Grid(caption="Flattening tested: growth per year at the first > last generation, 90 % of the bend",
                headers=("measure", "n", "growth/year", "bend", "verdict"), rows=tuple(rows), numbers=("n",))  # fmt: skip


def _worked_grid(found: Efficiency) -> Grid:
    rows = []
    for each in found.worked:
        own = "-" if each.as_it_is is None else f"{each.as_it_is.value:.3g}"
        new = "-" if each.redesigned is None else f"{each.redesigned.value:.3g}"
        worth = "-" if each.worth is None else f"x{each.worth:.3f}"
        rows.append((each.chip, each.number_format, own, new, worth, each.reason or each.shape))
    return Grid(
        caption=f"{found.model} on {found.devices} of each: tokens per joule, as it is and re-designed",
        headers=("chip", "format", "as it is", "re-designed", "worth", "shape"), rows=tuple(rows),
        numbers=("as it is", "re-designed", "worth"),
    )  # fmt: skip


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
            {"data": {"values": rows}, "mark": {"type": "point", "filled": True, "size": 70, "opacity": 0.85},
             "encoding": {"x": x, "y": y, **classes("line", LOOKS, rows),
                          "tooltip": tooltip(chips="chips", maker="maker", line="line", text="per watt", source="source")}},
            *labelled(named, [(row["year"] - first) / (last - first) for row in named],
                      [log_position(row["value"], low, high) for row in named], x=x, y=y, sides=("below", "right", "left")),
        ], height=340),
        grid=Grid(caption="Generations", headers=("chips", "line", "per watt", "source"), numbers=("per watt",),
                  rows=tuple((row["chips"], row["line"], row["text"], row["source"]) for row in rows)),
    )  # fmt: skip


def _line_class(line: Line) -> str:
    return next(name for name in STEP_LOOKS if line.name.startswith(name))


def _steps(found: Efficiency) -> Chart:
    rows = [
        {"name": _name(each), "line": _line_class(line), "ratio": line.ratio.value, "text": _ratio(line.ratio),
         "evidence": line.evidence, "source": line.ratio.source}
        for each in found.compared for line in each.lines if line.ratio is not None
    ]  # fmt: skip
    low, high = padded([1.0, *(row["ratio"] for row in rows)], 0.08)
    x = linear_axis("ratio", "gain per watt", low, high)
    y = {"field": "name", "type": "nominal", "sort": [_name(each) for each in found.compared],
         "axis": {"title": None, "labelLimit": 190}}  # fmt: skip
    return Chart(
        name="steps", title="Gain per watt of each step", caption="The same step on each line of evidence; 1 is no gain.",
        spec=chart("; ".join(f"{row['name']} {row['line']} {row['text']}" for row in rows), [
            {"data": {"values": [{"ratio": 1.0}]}, "mark": {"type": "rule", "style": "limit"}, "encoding": {"x": x}},
            {"data": {"values": rows}, "mark": {"type": "point", "filled": True, "size": 90, "opacity": 0.9},
             "encoding": {"x": x, "y": y, **classes("line", STEP_LOOKS, rows),
                          "tooltip": tooltip(name="step", line="line", text="gain", evidence="evidence", source="source")}},
        ], height=36 * len(found.compared) + 30),
        grid=Grid(caption="Steps", headers=("step", "line", "gain", "evidence", "source"), numbers=("gain",),
                  rows=tuple((row["name"], row["line"], row["text"], row["evidence"], row["source"]) for row in rows)),
    )  # fmt: skip


def _parts(found: Efficiency) -> Chart | None:
    rows: list[Spec] = []
    names: list[str] = []
    for each in found.compared:
        for step in (each.equal, each.best):
            if step is None or step.performance == 1.0:
                continue
            name = f"{_name(each)} {step.formats[0]}/{step.formats[1]}"
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
    sums = [[row["share"] for row in rows if row["name"] == name] for name in names]
    low = min(sum(s for s in each if s < 0) for each in sums)
    high = max(sum(s for s in each if s > 0) for each in sums)
    return Chart(
        name="parts", title="What each step is made of",
        caption="Shares of the logarithm of the gain; bars left of 0 took away. They add to 100 %.",
        spec=chart("; ".join(f"{row['name']}: {row['part']} {row['text']}" for row in rows), [{
            "data": {"values": rows}, "mark": {"type": "bar", "style": "segment"},
            "encoding": {
                "y": {"field": "name", "type": "nominal", "sort": names, "axis": {"title": None, "labelLimit": 230}},
                "x": {"field": "share", "type": "quantitative", "scale": {"domain": [low, high]},
                      "axis": {"title": "share of ln(gain)", "format": "%"}},
                "order": {"field": "order"},
                "color": {"field": "part", "type": "nominal", "scale": {"domain": parts, "range": colours},
                          "legend": {"columns": 2, "labelLimit": 260}},
                "tooltip": tooltip(name="step", part="part", text="factor, share", range="over the range of areas"),
            },
        }], height=32 * len(names) + 20),
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
    y = {
        "field": "name",
        "type": "nominal",
        "sort": chips,
        "scale": {"domain": chips},
        "axis": {"title": None},
    }
    looks = {"published area": (BLUE, "circle"), "assumed area, with its range": (GOLD, "diamond")}
    return Chart(
        name="per-area", title="Performance per area", caption="A die area nobody published is unknown, or a marked range.",
        spec=chart("; ".join([*(f"{row['name']} {row['text']}" for row in rows),
                              *(f"{row['name']} {row['text']}" for row in unknown)]), [
            {"data": {"values": [row for row in rows if row["low"] < row["high"]]},
             "mark": {"type": "rule", "style": "whisker"},
             "encoding": {"y": y, "x": {**x, "field": "low"}, "x2": {"field": "high"}}},
            {"data": {"values": rows}, "mark": {"type": "point", "filled": True, "size": 90},
             "encoding": {"y": y, "x": x, **classes("kind", looks, rows),
                          "tooltip": tooltip(name="chip", text="per mm2", kind="area", source="source")}},
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
                         "text": _rate(growth), "verdict": trend.verdict,
                         "source": "fit over " + ", ".join(point.chips[0] for point in trend.points)})  # fmt: skip
    if not rows:
        return None
    low, high = padded([1.0, *(row["low"] for row in rows), *(row["high"] for row in rows)], 0.04)
    x = linear_axis("value", "growth per year, with 90 % interval", low, high)
    looks = {"first generation": (GREY, "circle"), "last generation": (BLUE, "diamond")}
    y = {"field": "name", "type": "nominal", "sort": names, "axis": {"title": None, "labelLimit": 260}}
    offset = {"field": "when", "type": "nominal", "sort": list(looks)}
    return Chart(
        name="flattening", title="Is it flattening?",
        caption="Growth per year at the first and at the last generation; the verdict is of the bend between them.",
        spec=chart("; ".join(f"{row['name']} {row['when']} {row['text']}: {row['verdict']}" for row in rows), [
            {"data": {"values": [{"value": 1.0}]}, "mark": {"type": "rule", "style": "limit"}, "encoding": {"x": x}},
            {"data": {"values": rows}, "mark": {"type": "rule", "style": "gap"},
             "encoding": {"y": y, "yOffset": offset, "x": {**x, "field": "low"}, "x2": {"field": "high"}}},
            {"data": {"values": rows}, "mark": {"type": "point", "filled": True, "size": 70},
             "encoding": {"y": y, "yOffset": offset, "x": x, **classes("when", looks, rows),
                          "tooltip": tooltip(name="measure", when="at the", text="growth", verdict="verdict")}},
        ], height=40 * len(names) + 20),
        grid=Grid(caption="Growth", headers=("measure", "at the", "growth", "verdict", "source"), numbers=("growth",),
                  rows=tuple((row["name"], row["when"], row["text"], row["verdict"], row["source"]) for row in rows)),
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
                "y": {"field": "name", "type": "nominal", "sort": chips, "axis": {"title": None}},
                "yOffset": {"field": "what", "type": "nominal", "sort": ["as it is", "re-designed"]},
                "x": {"field": "value", "type": "quantitative", "axis": {"title": "tokens per joule"}},
                "color": {"field": "what", "type": "nominal",
                          "scale": {"domain": ["as it is", "re-designed"], "range": [GREY, BLUE]}},
                "tooltip": tooltip(name="chip", what="model", shape="shape", text="energy", source="source"),
            },
        }], height=50 * len(chips) + 20),
        grid=Grid(caption="At work", headers=("chip", "model", "tokens per joule", "source"), numbers=("tokens per joule",),
                  rows=tuple((row["name"], row["what"], row["text"], row["source"]) for row in rows)),
    )  # fmt: skip
