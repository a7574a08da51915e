"""How many serving configurations a second one core looks at, and what equal-loss shapes gain when served.

Process CPU time, best of five; a configuration is a layout, a concurrency, a prompt and an answer.
"""

from __future__ import annotations

import time
from collections.abc import Iterator

import numpy as np

from shapewright.architecture.catalog import resolve_model
from shapewright.cost.price import cost_model
from shapewright.hardware.catalog import parse_cluster
from shapewright.plan.engine import find_engine
from shapewright.plan.serving_formats import serving_formats
from shapewright.plan.serving_step import Layout
from shapewright.plan.serving_table import step_table

COUNT = 200_000


def run() -> Iterator[str]:
    """One line per model: the grid priced and ``COUNT`` configurations served from it."""
    for name, precision, layouts in (
        ("llama-3.1-70b", "fp8", Layout(tp=np.array([1.0, 2, 4, 8]))),
        ("deepseek-v3", "fp8", Layout(tp=np.array([8.0, 8, 1, 1]), ep=np.array([1.0, 8, 1, 8]),
                                      adp=np.array([1.0, 1, 8, 8]))),
    ):  # fmt: skip
        cluster, shape = parse_cluster("8xh200_sxm"), resolve_model(name)
        model, formats = (
            cost_model(cluster.accelerator),
            serving_formats(precision, shape, cluster.accelerator),
        )
        draw = np.random.default_rng(0)
        layout, load = draw.integers(0, 4, COUNT), draw.integers(1, 512, COUNT)
        isl, osl = draw.integers(100, 8000, COUNT), draw.integers(100, 4000, COUNT)
        best, prices = np.inf, 0
        for _ in range(5):
            start = time.process_time()
            table = step_table(shape, layouts, engine=find_engine("vllm"), formats=formats, model=model,
                               cluster=cluster, longest=16384)  # fmt: skip
            table.closed(layout, concurrency=load, isl=isl, osl=osl)
            best, prices = min(best, time.process_time() - start), table.steps.size
        yield f"serving {name}: {COUNT / best:,.0f} configurations/s of one core, {prices:,} prices of steps included"
