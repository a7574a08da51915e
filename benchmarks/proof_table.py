"""The table of the proof, from its rows: bits per byte with intervals, and each arm against our design."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import numpy as np
from scipy.stats import t as student

from benchmarks.contest import NAMES, TITLES
from shapewright.scaling.law import Z90

README = Path(__file__).parents[1] / "README.md"


def write_table(rows: list[dict[str, Any]]) -> None:
    """Replace the table between the README's markers, and keep the rows beside the benchmarks."""
    import json

    text = README.read_text()
    pattern = re.compile(r"(<!-- proof -->\n).*?(<!-- /proof -->)", re.S)
    README.write_text(pattern.sub(lambda match: f"{match.group(1)}{table(rows)}\n{match.group(2)}", text))
    lines = [json.dumps({k: v for k, v in row.items() if k != "segments"}) for row in rows]
    (README.parent / "benchmarks" / "proof.jsonl").write_text("\n".join(lines) + "\n")


def table(rows: list[dict[str, Any]]) -> str:
    """Markdown, best arm of each budget first."""
    lines = ["| minutes | arm | width x depth | parameters | bytes seen | bits per byte (90 %) | against ours | seeds |",
             "|---|---|---|---|---|---|---|---|"]  # fmt: skip
    for minutes in sorted({row["minutes"] for row in rows}):
        arms = {name: [r for r in rows if (r["minutes"], r["arm"]) == (minutes, name)] for name in NAMES}
        found = sorted(
            ((summary(mine), name) for name, mine in arms.items() if mine), key=lambda pair: pair[0]
        )
        for (mean, half), name in found:
            mine, ours = arms[name], arms["shapewright"]
            against = "-"
            if name != "shapewright" and ours:
                difference, spread = summary(mine, ours)
                against = f"{difference:+.3f} ± {spread:.3f}" + (
                    ", tied" if abs(difference) <= spread else ""
                )
            first = mine[0]
            tokens = np.mean([row["tokens"] for row in mine])
            lines.append(
                f"| {minutes:g} | {TITLES[name]} | {first['width']} x {first['depth']} | {first['params']:,} | "
                f"{tokens / 1e6:.2f} M | {mean:.3f} ± {half:.3f} | {against} | {len(mine)} |"
            )
    return "\n".join(lines)


def summary(rows: list[dict[str, Any]], base: list[dict[str, Any]] | None = None) -> tuple[float, float]:
    """Mean bits per byte over seeds (less the base's, segment by segment) and half its 90 % interval.

    The variances of seeds and of segments add; the seeds' share is widened by Student's t. One seed tells nothing of
    the scatter of seeds, and then the interval holds the text's alone.
    """
    segments = np.mean([row["segments"] for row in rows], axis=0)
    variance = _seeds(rows)
    if base is not None:
        segments = segments - np.mean([row["segments"] for row in base], axis=0)
        variance += _seeds(base)
    variance += (Z90**2) * float(np.var(segments, ddof=1)) / len(segments)
    return float(np.mean(segments)), float(variance**0.5)


def _seeds(rows: list[dict[str, Any]]) -> float:
    values = [row["bits_per_byte"] for row in rows]
    count = len(values)
    if count < 2:
        return 0.0
    return float(student.ppf(0.95, count - 1)) ** 2 * float(np.var(values, ddof=1)) / count
