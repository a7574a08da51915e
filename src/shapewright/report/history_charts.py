"""The charts of the history of training compute: models over time, growth, what growth is made of, one sample."""

from __future__ import annotations

from shapewright.outlook.growth import Growth
from shapewright.outlook.history import History
from shapewright.outlook.milestones import CONFIDENCE, Milestone
from shapewright.report.layers import names_axis, points, shares, whiskers
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
from shapewright.report.view import Chart, Grid

GROUPS = {
    "text": ("text", BLUE, "circle"),
    "vision": ("vision", GOLD, "square"),
    "image": ("image", GREEN, "diamond"),
    "video": ("video and 3D", PURPLE, "triangle-up"),
    "3d": ("video and 3D", PURPLE, "triangle-up"),
    "multimodal": ("multimodal", BRICK, "cross"),
    "speech": ("speech and audio", VIOLET, "triangle-down"),
    "audio": ("speech and audio", VIOLET, "triangle-down"),
}
OTHER = ("other", GREY, "triangle-right")
PARTS = {
    "chip peak (fp32)": BLUE,
    "number format": GOLD,
    "chip and format": VIOLET,
    "chips": GREEN,
    "chips x time": GREEN,
    "time": PURPLE,
    "utilisation": BRICK,
    "time x utilisation": BRICK,
    "chips x time x utilisation": BRICK,
    "all together": GREY,
}


def history_charts(found: History) -> tuple[Chart, ...]:
    """Up to four charts: those that the answer has data for."""
    made = (_timeline(found), _growth(found), _splits(found), _samples(found))
    return tuple(each for each in made if each is not None)


def flop_text(value: float) -> str:
    """FLOP in the short form of the field: ``4.3e25``."""
    return f"{value:.1e}".replace("e+", "e").replace("e-0", "e-")


def factor_text(ratio: float) -> str:
    """A factor with the digits that matter: ``x2.41``, ``x1,200``, ``x4.3e7``."""
    if 100 <= ratio < 1e5:
        return f"x{ratio:,.0f}"
    return f"x{ratio:.3g}" if 0.01 <= ratio < 100 else f"x{flop_text(ratio)}"


def _group(row: Milestone) -> tuple[str, str, str]:
    return GROUPS.get(row.modalities[0], OTHER)


def _timeline(found: History) -> Chart:
    rows = [
        {
            "name": row.name,
            "year": row.year,
            "flop": row.flop.value,
            "group": _group(row)[0],
            "flop_text": f"{flop_text(row.flop.value)} FLOP",
            "date": row.date,
            "source": row.flop.source,
            "sure": f"{row.confidence}"
            + (f", within {CONFIDENCE[row.confidence]:g}x" if row.confidence in CONFIDENCE else ""),
        }
        for row in found.rows
    ]
    mark = found.standing
    values = [row["flop"] for row in rows] + ([mark.flop] if mark else [])
    low, high = min(values) / 3, max(values) * 5
    first, last = (
        found.rows[0].year - 0.4,
        max(found.rows[-1].year, mark.frontier_year or 0 if mark else 0) + 0.6,
    )
    x = linear_axis("year", "published", first, last)
    x["axis"]["format"] = "d"
    y = log_axis("flop", "training compute [FLOP]", low, high)
    looks = {name: (colour, form) for name, colour, form in (*GROUPS.values(), OTHER)}
    layer: list[Spec] = [
        points(
            rows,
            tooltip(name="model", date="published", flop_text="compute", sure="confidence", source="source"),
            size=42,
            look={"x": x, "y": y, **classes("group", looks, rows)},
            opacity=0.75,
        ),
        *(
            {
                "data": {"values": [{"year": t, "flop": line.flop(t)} for t in (line.first, line.last)]},
                "mark": {"type": "line", "style": style},
                "encoding": {"x": x, "y": y},
            }
            for line, style in ((found.growth[0], "front"), (_frontier(found), "limit"))
        ),
    ]
    known = {row["name"]: row for row in rows}
    names = [known[each.name] for each in (*found.record[:1], *found.record[:0:-1])]
    point: list[Spec] = []
    if mark is not None and mark.frontier_year is not None:
        point = [{"year": mark.frontier_year, "flop": mark.flop, "name": mark.what}]
        layer.append(
            points(
                point,
                tooltip(name="design"),
                size=220,
                look={"x": x, "y": y},
                shape="diamond",
                style="choice",
            )
        )
    names = [*point, *names]
    layer += labelled(
        names,
        [(row["year"] - first) / (last - first) for row in names],
        [log_position(row["flop"], low, high) for row in names],
        x=x,
        y=y,
        strong=len(point),
        sides=("left", "above"),
    )
    frontier = _frontier(found)
    return Chart(
        name="timeline",
        title="Training compute of notable models",
        caption=f"Dashed thick: the running record, x{frontier.per_year:.2f} per year; thin: all models, "
        f"x{found.growth[0].per_year:.2f}.",
        spec=chart(
            f"Training compute of {len(rows)} models over time, from {flop_text(min(values))} to {flop_text(max(values))} "
            f"FLOP; the running record grows x{frontier.per_year:.2f} per year.",
            layer,
            height=380,
        ),
        grid=Grid(
            caption="Models",
            headers=("model", "date", "FLOP", "confidence", "source"),
            numbers=("FLOP",),
            rows=tuple(
                (row.name, row.date, flop_text(row.flop.value), row.confidence, row.flop.source)
                for row in found.rows
            ),
        ),
    )


def _frontier(found: History) -> Growth:
    return next((line for line in found.growth if line.name == "running record"), found.growth[0])


def _growth(found: History) -> Chart:
    rows = [
        {
            "name": g.name,
            "value": g.per_year,
            "low": g.low,
            "high": g.high,
            "count": f"{g.count}",
            "text": f"x{g.per_year:.2f} ({g.low:.2f} to {g.high:.2f})",
        }
        for g in found.growth
    ]
    ends = padded([end for g in found.growth for end in (g.low, g.high)], 0.05)
    x = linear_axis("value", "growth per year, with 90 % interval", *ends)
    y = names_axis([row["name"] for row in rows])
    return Chart(
        name="growth",
        title="Growth per year",
        caption="Each set by itself; the whisker is the 90 % interval.",
        spec=chart(
            "; ".join(f"{row['name']} {row['text']}" for row in rows),
            [
                whiskers(rows, x=x, y=y),
                points(
                    rows,
                    tooltip(name="set", text="per year", count="models"),
                    size=80,
                    look={"x": x, "y": y},
                    color=BLUE,
                ),
            ],
            height=28 * len(rows) + 20,
        ),
        grid=Grid(
            caption="Growth",
            headers=("set", "models", "per year", "low", "high", "source"),
            numbers=("models", "per year", "low", "high"),
            rows=tuple(
                (g.name, f"{g.count}", f"{g.per_year:.2f}", f"{g.low:.2f}", f"{g.high:.2f}", found.source)
                for g in found.growth
            ),
        ),
    )


def _splits(found: History) -> Chart | None:
    rows = [
        {
            "name": f"{s.model} x{s.ratio:.2g}",
            "part": f.name,
            "share": f.share,
            "order": at,
            "text": f"{factor_text(f.ratio)} ({percent(f.share)})",
            "detail": f.text,
        }
        for s in found.splits
        for at, f in enumerate(s.factors)
    ]
    if not rows:
        return None
    present = [name for name in PARTS if any(row["part"] == name for row in rows)]
    spec = chart(
        "Shares of the logarithm of the factor from AlexNet: "
        + "; ".join(f"{row['name']}: {row['part']} {row['text']}" for row in rows),
        [
            shares(
                rows,
                tooltip(name="model", part="part", text="factor", detail="from what to what"),
                {name: PARTS[name] for name in present},
                y=names_axis([row["name"] for row in rows]),
                title="share of ln(factor over AlexNet)",
            )
        ],
        height=36 * len(found.splits) + 20,
    )
    return Chart(
        name="factors",
        title="From AlexNet",
        caption="What is not public is merged with its neighbours, never guessed.",
        spec=spec,
        grid=Grid(
            caption="Factors",
            headers=("model", "part", "factor", "share", "source"),
            numbers=("factor", "share"),
            rows=tuple(
                (s.model, f.name, factor_text(f.ratio), percent(f.share), f.text)
                for s in found.splits
                for f in s.factors
            ),
        ),
    )


def _samples(found: History) -> Chart:
    rows = [
        {
            "name": s.modality,
            "flop": s.flop.value,
            "model": s.model,
            "text": f"{flop_text(s.flop.value)} FLOP",
            "sample": s.sample,
            "source": s.flop.source,
            "budget": f"{flop_text(s.budget)} FLOP",
        }
        for s in found.samples
    ]
    values = [row["flop"] for row in rows]
    x = log_axis("flop", "training FLOP of one sample", min(values) / 3, max(values) * 3)
    spec = chart(
        f"Training FLOP of one sample for {len(rows)} models, from {flop_text(min(values))} to {flop_text(max(values))}.",
        [
            points(
                rows,
                tooltip(model="model", sample="sample", text="cost", budget="trained with", source="source"),
                size=70,
                look={"x": x, "y": names_axis([row["name"] for row in rows])},
                color=BLUE,
                opacity=0.8,
            )
        ],
        height=200,
    )
    return Chart(
        name="samples",
        title="What one sample costs",
        spec=spec,
        caption="1,000 tokens of text, one picture, a clip, an object; each point is one published model.",
        grid=Grid(
            caption="Samples",
            headers=("modality", "model", "FLOP", "sample", "source"),
            numbers=("FLOP",),
            rows=tuple(
                (s.modality, s.model, flop_text(s.flop.value), s.sample, s.flop.source) for s in found.samples
            ),
        ),
    )
