"""``shapewright validate lab``: training steps on this machine, predicted before they run."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from shapewright.cli import options as o
from shapewright.errors import UsageError


def command(
    hardware: Annotated[
        str, typer.Argument(help="The machine's file, written here by shapewright measure.")
    ] = "this",
    rounds: Annotated[int, typer.Option(min=1, help="Visits of every shape; the median step counts.")] = 12,
    json: o.Json = False,
) -> None:
    """Predict the training steps of twelve held-out shapes, then run them.

    Width, depth, heads, sequence, batch, both formats, attention and DeltaNet;
    nothing was fitted on any of them. On the threads the machine was measured
    with: CPU time of one, wall time of several.

    Example: shapewright validate lab this
    """
    from shapewright.lab.needs import require_torch

    require_torch("shapewright validate lab")
    from shapewright.cli.common import out, print_json
    from shapewright.hardware.catalog import parse_cluster
    from shapewright.lab.steps import median_error, score

    accelerator = parse_cluster(hardware).accelerator
    if accelerator.device_class != "cpu":
        raise UsageError(
            f"{hardware} is no processor",
            "steps are run on the processor here",
            "measure it: shapewright measure",
        )
    threads = int(accelerator.num_sms.value) if accelerator.num_sms is not None else 1
    rows = score(hardware, threads=threads, rounds=rounds)
    median, worst = median_error(rows)
    if json:
        print_json({"slices": [_slice(rows)], "rows": rows, "skipped": []})
        return
    from rich.table import Table

    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0))
    for title in ("step, ms", "kernels alone", "predicted", "measured", "error"):
        table.add_column(title, justify="left" if title == "step, ms" else "right")
    for row in rows:
        table.add_row(row["step"], *(f"{1e3 * row[k]:.1f}" for k in ("kernels_s", "predicted_s", "measured_s")),
                      f"{row['error']:+.1%}")  # fmt: skip
    console = out()
    console.print(table)
    clock = "CPU time of one thread" if threads == 1 else f"wall time of {threads} threads"
    console.print(f"median error {median:.1%}, worst {worst:.1%}; median of {rounds} visits, {clock}")


def _slice(rows: list[dict[str, Any]]) -> dict[str, Any]:
    import numpy as np

    errors = np.array([row["error"] for row in rows])
    alone = np.array([row["kernels_s"] / row["measured_s"] - 1.0 for row in rows])
    return {
        "name": "all", "count": len(rows), "covered": len(rows), "median_ape": float(np.median(np.abs(errors))),
        "p90_ape": float(np.quantile(np.abs(errors), 0.9)), "worst_ape": float(np.max(np.abs(errors))),
        "bias": float(np.median(errors)),
        "coverage_90": float(np.mean([r["low_s"] <= r["measured_s"] <= r["high_s"] for r in rows])),
        "baseline_median_ape": float(np.median(np.abs(alone))),
    }  # fmt: skip
