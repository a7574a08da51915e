"""How many (shape, plan) pairs a second one core prices."""

from __future__ import annotations

import time
from collections.abc import Iterator

from shapewright.hardware.catalog import parse_cluster
from shapewright.plan.table import enumerate_plans
from shapewright.search.arm import memory_limit
from shapewright.search.joint import Options, workload_for
from shapewright.search.lattice import lattice
from shapewright.search.sweep import sweep_plans


def run() -> Iterator[str]:
    """Sweep dense shapes of 1 to 60 billion parameters over all plans of 64 H100."""
    cluster = parse_cluster("64xh100_sxm")
    workload = workload_for(cluster, Options())
    plans = enumerate_plans(cluster, seq_len=4096)
    shapes = lattice(
        cluster.accelerator, min_params=1e9, max_params=6e10, vocab_size=50304, tied_embeddings=False
    )
    best = float("inf")
    for _ in range(3):
        start = time.perf_counter()
        sweep = sweep_plans(shapes, plans, workload, global_batch=1024, memory_limit=memory_limit(workload))
        best = min(best, time.perf_counter() - start)
    yield (
        f"sweep: {sweep.num_pairs:,} (shape, plan) pairs in {best:.2f} s on one core: "
        f"{sweep.num_pairs / best:,.0f} pairs/s, "
        f"of which {sweep.num_priced / best:,.0f} priced and the rest rejected by a rule"
    )
