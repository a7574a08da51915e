"""The comparison with known models as text of at most 80 columns, and as a table in Markdown."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from shapewright.units import format_count
from shapewright.validation.known_hardware import Comparison, Gain
from shapewright.validation.published import Skip

SHOWN = 12
"""Models listed in each table of the text, spread evenly over their compute; ``--json`` and docs/accuracy.md have all."""
NOT_SEEN = (
    "Both sides are predictions under one law and one cost model. Not seen: their",
    "data and its repetition, restarts, their own kernels, schedules and 8-bit",
    "formats, what serving wished beyond size, and all that a loss does not tell.",
)


def lines(found: Sequence[Comparison], skipped: Sequence[Skip]) -> Iterator[str]:
    """Both tables, what they cannot see, and who is not in them."""
    if not found:
        return
    shares = [c.hours / c.published_hours for c in found if c.published_hours]
    yield ""
    yield f"{len(found)} known models, each beside our choice for its hardware and its time"
    if shares:
        yield (
            f"Hours of theirs, ours predicted over published ({len(shares)} publish them): median "
            f"{np.median(shares):.2f}, {min(shares):.2f} to {max(shares):.2f}"
        )
    yield from _table("of any size", found, [c.free for c in found])
    yield from _table("no larger than theirs", found, [c.no_larger for c in found])
    yield from NOT_SEEN
    far = sum(c.extrapolation > 1.0 for c in found)
    yield f"{far} of {len(found)} lie beyond the compute that the law was fitted on (--json says how far)."
    for reason, names in by_reason(skipped).items():
        yield f"not compared, {reason}: {len(names)}"


def by_reason(skipped: Sequence[Skip]) -> dict[str, list[str]]:
    """The models that were not compared, by reason."""
    found: dict[str, list[str]] = {}
    for skip in skipped:
        found.setdefault(skip.reason.split(":")[0].split(" (")[0], []).append(skip.row)
    return found


def _table(title: str, found: Sequence[Comparison], gains: Sequence[Gain | None]) -> Iterator[str]:
    known = [gain for gain in gains if gain is not None]
    yield ""
    if not known:
        yield f"Ours {title}: none reaches a loss of theirs"
        return
    sure = sum(gain.saved_low > 0 for gain in known)
    yield (
        f"Ours {title}: saves {np.median([gain.saved for gain in known]):.0%} of the time (median); "
        f"for {sure} of {len(gains)} surely"
    )
    yield f"{'model':<16} {'hardware':<16} {'theirs':>9} {'ours':>9} {'loss':>6} {'saved':>5}  {'90 %':>11}"
    for c, gain in list(zip(found, gains, strict=True))[:: max(len(found) // SHOWN, 1)]:
        start = f"{c.model[:16]:<16} {_hardware(c)[:16]:<16} {c.theirs.shape:>9} "
        if gain is None:
            yield start + "none reaches their loss"
            continue
        yield (
            f"{start}{gain.choice.shape:>9} {gain.loss_change:>+6.1%} {gain.saved:>5.0%}  "
            f"{_percent(gain.saved_low):>5} to {_percent(gain.saved_high)}"
        )


def _hardware(c: Comparison) -> str:
    return f"{c.hardware}{'*' if c.devices_assumed else ''}"


def _percent(value: float) -> str:
    return "< -1k" if value < -10 else f"{value * 100:.0f}"


HEADER = (
    "| model | hardware | hours, predicted (published) | theirs | any size | loss | saved | no larger | loss | saved |\n"
    "|---|---|---|---|---|---|---|---|---|---|"
)


def markdown(rows: Sequence[dict[str, Any]], skipped: Sequence[dict[str, Any]]) -> str:
    """All rows of the JSON document as one table, and the models that are not in it by name."""
    table = [HEADER, *(_markdown_row(row) for row in rows)]
    others = by_reason([Skip(**skip) for skip in skipped])
    missing = "\n".join(f"- {reason} ({len(names)}): {', '.join(names)}" for reason, names in others.items())
    return "\n".join(table) + f"\n\n{' '.join(NOT_SEEN)}\n\nNot compared:\n\n{missing}"


def _markdown_row(row: dict[str, Any]) -> str:
    published = f" ({row['published_hours']:,.0f})" if row["published_hours"] else ""
    cells = [
        row["model"], f"{row['hardware']}{' (count assumed)' if row['devices_assumed'] else ''}",
        f"{row['hours']:,.0f}{published}", _shape(row["theirs"]),
    ]  # fmt: skip
    for gain in (row["free"], row["no_larger"]):
        if gain is None:
            cells += ["none reaches their loss", "", ""]
            continue
        interval = f"{_percent(gain['saved_low'])} to {_percent(gain['saved_high'])} %"
        money = "" if gain["saved_dollars"] is None else f", ${gain['saved_dollars']:,.0f}"
        joules = "" if gain["saved_joules"] is None else f", {gain['saved_joules'] / 3.6e9:,.0f} MWh"
        cells += [
            _shape(gain["choice"]),
            f"{gain['loss_change']:+.2%} ({gain['loss_change_low']:+.1%} to {gain['loss_change_high']:+.1%})",
            f"{gain['saved']:.0%} ({interval}){money}{joules}",
        ]
    return f"| {' | '.join(cells)} |"


def _shape(side: dict[str, Any]) -> str:
    experts = f", {side['experts']} experts top {side['topk']}" if side["experts"] else ""
    return (
        f"{side['shape']}, {side['heads']}/{side['kv_heads']} heads, ffn x{side['ffn_ratio']:.2g}{experts}; "
        f"{format_count(side['active_params'])} on {format_count(side['tokens'])}"
    )
