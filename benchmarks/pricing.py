"""How many distinct matrix products a second one core prices, and how many rows when most repeat.

Process time counts, so that other work on the machine does not.
"""

from __future__ import annotations

import time
from collections.abc import Iterator

import numpy as np

from shapewright.cost.price import cost_model
from shapewright.hardware.catalog import load_accelerator

DISTINCT = 300_000
REPEATED = 2_000_000


def run() -> Iterator[str]:
    """Price random products on H100, all distinct, then two million rows of a thousand distinct ones."""
    model = cost_model(load_accelerator("h100_sxm"))
    draw = np.random.default_rng(0)
    m, n, k = (
        draw.integers(1, 32768, DISTINCT),
        draw.integers(1, 1024, DISTINCT) * 64,
        draw.integers(1, 512, DISTINCT) * 64,
    )
    best = float("inf")
    for _ in range(3):
        start = time.process_time()
        model.matmul(m, n, k, "bf16")
        best = min(best, time.process_time() - start)
    yield f"pricing: {DISTINCT:,} distinct bf16 products in {best:.2f} s on one core: {DISTINCT / best:,.0f} a second"
    pick = draw.integers(0, 1000, REPEATED)
    start = time.process_time()
    model.matmul(m[pick], n[pick], k[pick], "bf16")
    spent = time.process_time() - start
    yield f"pricing: {REPEATED:,} rows of 1,000 distinct products in {spent:.2f} s: {REPEATED / spent:,.0f} rows a second"
