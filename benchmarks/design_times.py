"""CPU seconds of ``design`` for every cluster and accelerator of the catalogue, slowest first; failures by name.

python -m benchmarks design_times                      dense: clusters, and accelerators at 1, 8 and 4,096
SEARCH=all SLICE=0/4 python -m benchmarks design_times one quarter of them with every family
WHERE=clusters,1 python -m benchmarks design_times     the catalogue's clusters and every accelerator alone
WHERE=64xh100_sxm,trn2 python -m benchmarks design_times   these

The budget is the time in which the hardware at 40 % of its peak spends 20 tokens per parameter on a model that fills a
tenth of its memory with parameters, at most a year: small devices get small models, as a user would ask. Process time
of one thread, hardware parsed and searched anew each time, so a shared machine does not spoil it.
"""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Iterator

from shapewright.designs.build import make_design
from shapewright.errors import ShapewrightError
from shapewright.hardware.catalog import accelerator_names, cluster_names, parse_cluster
from shapewright.plan.precision import default_precision
from shapewright.search.budget import Budget
from shapewright.search.joint import Options

WHERE = "clusters,1,8,4096"
"""The catalogue's clusters, and how many of each accelerator."""
YEAR_S = 365 * 86_400.0
SHOWN = 12
LIMITS = {"dense": 10.0}
"""Seconds that a search may take; 60 for those with mixtures and hybrids."""


def run() -> Iterator[str]:
    """Design on everything."""
    search = os.environ.get("SEARCH", "dense")
    part, parts = map(int, os.environ.get("SLICE", "0/1").split("/"))
    hardware = [name for word in os.environ.get("WHERE", WHERE).split(",") for name in _named(word)]
    times, failed = [], []
    for name in hardware[part::parts]:
        start = time.process_time()
        try:
            make_design(name, _budget(name), Options(family=search))
        except ShapewrightError as error:
            failed.append(f"{name}: {str(error).splitlines()[0]}")
        else:
            times.append((time.process_time() - start, name))
            print(f"{times[-1][0]:6.2f} s  {name}", file=sys.stderr, flush=True)
    times.sort(reverse=True)
    limit = LIMITS.get(search, 60.0)
    slow = sum(seconds > limit for seconds, _ in times)
    yield (
        f"design_times: {search}, {len(times)} answered, {len(failed)} refused, {slow} over {limit:.0f} s of CPU; "
        f"median {times[len(times) // 2][0]:.1f} s, in all {sum(seconds for seconds, _ in times):.0f} s"
    )
    yield from (f"  {seconds:5.1f} s  {name}" for seconds, name in times[:SHOWN])
    yield from (f"  refused: {line}" for line in failed)


def _named(word: str) -> list[str]:
    """``clusters``: those of the catalogue; a number: as many of every accelerator; else hardware by its name."""
    if word == "clusters":
        return list(cluster_names())
    return [f"{word}x{name}" for name in accelerator_names()] if word.isdigit() else [word]


def _budget(hardware: str) -> Budget:
    cluster = parse_cluster(hardware)
    device = cluster.accelerator
    peak = device.peak(default_precision(device).matmul_format)
    memory = device.memory_capacity.value if device.memory_capacity else 16e9
    params = 0.1 * memory * cluster.num_devices / 2.0
    return Budget(kind="time", value=min(120.0 * params**2 / (0.4 * peak * cluster.num_devices), YEAR_S))
