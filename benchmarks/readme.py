"""Write the tables of the README between their markers, docs/accuracy.md whole, and what pages quote of it.

python -m benchmarks readme
"""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from benchmarks import answer, figures, sweep
from shapewright.validation.known_text import markdown

README = Path(__file__).parents[1] / "README.md"
ACCURACY = README.parent / "docs" / "accuracy.md"
STATED_ONLY = ("held-out/all", "held-out/disaggregated")
"""Slices of serving that are shown once more without the recipes that were published for the runs."""
WHY_LARGER = (
    "Most of these models were trained far past the tokens that are best for their training budget: a smaller model is "
    "cheaper to serve for the rest of its life. `design` minimises the loss of the budget alone unless `--serve` or a size "
    "says otherwise, so its free choice is larger; the columns under *no larger* compare at equal size."
)
LEAST_ROWS = 5
"""Training slices with fewer rows are in docs/accuracy.md only."""
SHOWN_FAMILIES = (
    "gemm", "context_attention", "generation_attention", "encoder_attention", "context_mla", "generation_mla", "moe",
    "gdn", "kda", "mamba2", "nccl", "custom_allreduce", "moe_a2a",
)  # fmt: skip
"""Families whose slices over all accelerators stand in the README; the rest is in docs/accuracy.md."""


def run() -> Iterator[str]:
    """Measure, replace the tables, write the full ones, and say what changed."""
    text = README.read_text()
    kernels = _validate("kernels")["slices"]
    training = _validate("training")["slices"]
    serving = _validate("serving")["slices"]
    serving += [
        {**s, "name": f"{s['name']}/stated-only"}
        for s in _validate("serving", "--stated-only")["slices"]
        if s["name"].split("/", 1)[1] in STATED_ONLY
    ]
    told = _validate("designs")
    designs = told["slices"]
    shown = [s for s in kernels if s["name"].count("/") == 1 and s["name"].split("/")[0] in SHOWN_FAMILIES]
    text = _replace(text, "kernels", _table([kernels[0], *shown]))
    text = _replace(text, "serving", _table([s for s in serving if "/held-out/" in s["name"]]))
    held_out = [s for s in training if s["name"].startswith("held-out/") and s["covered"] >= LEAST_ROWS]
    text = _replace(text, "training", _table(held_out))
    text = _replace(text, "designs", _table([s for s in designs if s["name"].startswith(("all", "regret_"))]))
    text = _replace(text, "speed", "\n".join(f"- {line}" for line in (*sweep.run(), *answer.run())))
    README.write_text(text)
    ACCURACY.write_text(
        "# Accuracy, slice by slice\n\nWritten by `python -m benchmarks readme`.\n\n## Kernels, held-out rows\n\n"
        f"{_table(kernels)}\n\n## Training steps, published runs\n\n{_table(training)}\n\n"
        f"## Serving, published points\n\n{_table(serving)}\n\n## Designs and losses\n\n{_table(designs)}\n\n"
        "## Known models on their hardware\n\nTheirs and our choice for the same hardware and time; saved is the device "
        "time with which ours reaches their predicted loss, with its 90 % interval; negative where ours needs longer, "
        "`< -1k` over eleven times as long.\n\n"
        f"{markdown(told['known_models'], told['known_models_not_compared'])}\n\n{WHY_LARGER}\n"
    )
    counts = f"{len(kernels)} slices of kernels, {len(training)} of training runs, {len(serving)} of serving"
    yield from figures.run()
    yield f"readme: {counts}, {len(designs)} of designs"


def _validate(what: str, *options: str) -> dict[str, Any]:
    command = [
        sys.executable,
        "-c",
        "from shapewright.cli.main import main; main()",
        "validate",
        what,
        *options,
        "--json",
    ]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    return json.loads(done.stdout)


def _table(slices: list[dict[str, Any]]) -> str:
    rows = ["| slice | rows | predicted | median error | 90th percentile | bias | inside 90 % | baseline median |",
            "|---|---|---|---|---|---|---|---|"]  # fmt: skip
    for s in sorted(slices, key=lambda s: (s["name"] != "all", s["name"])):
        rows.append(
            f"| {s['name']} | {s['count']:,} | {s['covered']:,} | {s['median_ape']:.1%} | {s['p90_ape']:.1%} | "
            f"{s['bias']:+.1%} | {s['coverage_90']:.0%} | {s['baseline_median_ape']:.1%} |"
        )
    return "\n".join(rows)


def _replace(text: str, name: str, body: str) -> str:
    pattern = re.compile(rf"(<!-- {name} -->\n).*?(<!-- /{name} -->)", re.S)
    return pattern.sub(lambda match: f"{match.group(1)}{body}\n{match.group(2)}", text)
