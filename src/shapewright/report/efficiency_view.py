"""Efficiency across generations as an answer: words and tables beside its charts."""

from __future__ import annotations

from shapewright.outlook.efficiency import Compared, Efficiency
from shapewright.outlook.ratings import UNITS, Rating
from shapewright.report.efficiency_charts import efficiency_charts, name_of, ratio_text
from shapewright.report.text import percent
from shapewright.report.view import Grid, View

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
        charts=efficiency_charts(found),
    )  # fmt: skip


def _step_grids(found: Efficiency) -> list[str | Grid]:
    """Each step on its lines, then what it is made of."""
    shown: list[str | Grid] = []
    for each in found.compared:
        step, best = each.equal, each.best
        shown.append(
            Grid(
                caption=f"{name_of(each)}: gain per watt",
                headers=("line", "gain", "evidence"),
                rows=tuple((line.name, ratio_text(line.ratio), line.evidence) for line in each.lines),
                numbers=("gain",),
            )
        )
        per = {"area": step.per_area, "transistor": step.per_transistor, "dollar": step.per_dollar,
               "byte/s of memory": step.per_bandwidth}  # fmt: skip
        shown.append("per " + ", per ".join(f"{name} {ratio_text(figure)}" for name, figure in per.items()))
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
    return Grid(caption=f"{name_of(each)}: what x{step.performance:.2f} ({' to '.join(step.formats)}) is made of",
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
