"""The history of training compute as an answer: words and tables beside its charts."""

from __future__ import annotations

from shapewright.outlook.history import LARGE_TABLE, History, Standing
from shapewright.report.history_charts import factor_text, flop_text, history_charts
from shapewright.report.text import percent
from shapewright.report.view import Grid, View


def history_view(found: History) -> View:
    """The answer of ``shapewright history``."""
    table = found.source + (f", {found.domain}" if found.domain else "")
    lines = [*found.growth]
    growth = Grid(
        headers=("set", "models", "per year", "90 %", "doubling", "R2"),
        rows=tuple(
            (
                g.name,
                f"{g.count}",
                f"x{g.per_year:.2f}",
                f"{g.low:.2f} to {g.high:.2f}",
                f"{g.doubling_months:.1f} mo",
                f"{g.r2:.2f}",
            )
            for g in lines
        ),
        numbers=("models", "per year", "90 %", "doubling", "R2"),
        caption="Growth of training compute",
    )
    splits = [
        Grid(
            caption=f"{split.base} to {split.model}: x{split.ratio:.2g}",
            headers=("part", "factor", "share", "from what to what"),
            numbers=("factor", "share"),
            rows=tuple((f.name, factor_text(f.ratio), percent(f.share), f.text) for f in split.factors),
        )
        for split in found.splits
    ]
    samples = Grid(
        caption="Training cost of one sample",
        headers=("modality", "FLOP", "model", "trained with", "sample"),
        numbers=("FLOP", "trained with"),
        rows=tuple(
            (s.modality, flop_text(s.flop.value), s.model, flop_text(s.budget), s.sample)
            for s in found.samples
        ),
    )
    trainable = Grid(
        caption="First model of each modality in the table, and when the record line had its compute",
        headers=("modality", "first", "FLOP", "record line", "model"),
        numbers=("FLOP",),
        rows=tuple(
            (
                t.modality,
                t.date,
                flop_text(t.budget),
                "-" if t.record_year is None else f"{t.record_year:.0f}",
                t.model,
            )
            for t in found.trainable
        ),
    )
    why = [
        "a line of log FLOP over time; the interval resamples models, so it holds the choice of models and not "
        "the error of each estimate",
        "the parts of a split multiply to the whole; their logarithms are the shares, which add to one",
    ]
    trust = [*found.remarks]
    if found.rows and found.source.startswith("the project"):
        trust.append(
            f"in the larger table of Epoch AI the same fit gives x{LARGE_TABLE.value:.2f} per year "
            f"({LARGE_TABLE.low:.2f} to {LARGE_TABLE.high:.2f}, doubling 5.4 months): {LARGE_TABLE.source}"
        )
    trust += [f"left out: {count} rows, {reason}" for reason, count in found.skipped.items()]
    answer: list[str | Grid] = [growth]
    if found.standing is not None:
        answer = [*standing_text(found.standing), growth]
    return View(
        title="History of training compute",
        sections=(
            ("Request", (f"training compute since {_month(found.since)}: {table}",)),
            ("Assumed", ("6 FLOP per active parameter and token where a paper states both",)),
            ("Answer", (*answer, *splits, samples, trainable)),
            ("Why", tuple(why)),
            ("Trust", tuple(trust)),
            (
                "Next",
                (
                    "shapewright history --report history.html",
                    "shapewright history --data notable_ai_models.csv",
                    "shapewright history --design design.json",
                    "shapewright efficiency h100_sxm..b200_sxm",
                ),
            ),
        ),
        charts=history_charts(found),
    )


def standing_text(standing: Standing) -> list[str]:
    """Where a design stands, in words."""
    lines = [f"{standing.what}: {standing.flop:.2g} FLOP, x{standing.over_alexnet:.2g} over AlexNet"]
    if standing.frontier_year is not None:
        span = (
            f" ({standing.frontier_low:.1f} to {standing.frontier_high:.1f})"
            if standing.frontier_low is not None and standing.frontier_high is not None
            else ""
        )
        lines.append(f"it equals the frontier of {standing.frontier_year:.1f}{span}")
    if standing.usual_year is not None:
        lines.append(f"the line through all models passes it in {standing.usual_year:.1f}")
    above = standing.first_above or "none in the table"
    lines.append(
        f"first model with as much: {above}; {percent(standing.recent_share)} of the last two years took less"
    )
    return lines


def _month(year: float) -> str:
    return f"{int(year)}-{round((year - int(year)) * 12) + 1:02d}"
