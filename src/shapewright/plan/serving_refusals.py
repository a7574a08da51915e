"""Why a model cannot be served as asked: it does not fit, a goal lies below what the hardware can do, or none meets all."""

from __future__ import annotations

import numpy as np

from shapewright.architecture.graph import num_active_params
from shapewright.architecture.shape import Shape
from shapewright.errors import InfeasibleError
from shapewright.hardware.cluster import Cluster
from shapewright.plan.deployment import Deployment, ServingGoal
from shapewright.plan.serving_formats import ServingFormats
from shapewright.plan.serving_layouts import one_layout
from shapewright.plan.serving_memory import sequence_bytes
from shapewright.plan.serving_table import StepTable


def light_seconds(shape: Shape, cluster: Cluster, formats: ServingFormats) -> float:
    """Time in which all devices read the active weights once at their peak bandwidth [s]."""
    bandwidth = cluster.accelerator.memory_bandwidth
    assert bandwidth is not None
    weight = min(formats.product_bytes, formats.expert_bytes)
    return float(num_active_params(shape)) * weight / (bandwidth.value * cluster.num_devices)


def check_floors(
    goal: ServingGoal, tpot: float, ttft: float, light: float, cluster: Cluster, formats: ServingFormats
) -> None:
    for name, wanted, floor, why in (
        ("--tpot", goal.tpot, tpot, f"reading the active weights once in {formats.name} takes all {cluster.num_devices} "
         f"devices {light * 1e3:.2g} ms at their peak bandwidth; launches, all-reduces and the host bring one request "
         f"at a time to {tpot * 1e3:.3g} ms"),
        ("--ttft", goal.ttft, ttft, f"computing one prompt of {goal.isl:,.0f} tokens, alone on the best split, takes "
         f"{ttft * 1e3:.3g} ms with the engine's own time"),
    ):  # fmt: skip
        if wanted is not None and wanted < floor:
            raise InfeasibleError(
                f"{name} (={wanted * 1e3:.3g} ms) is below the floor of {cluster.name}: {floor * 1e3:.3g} ms", why,
                f"try: {name} {np.ceil(floor * 1.3e4) / 10:g}ms, a narrower format, or faster memory",
                reasons={f"{name} below the floor": 1},
            )  # fmt: skip


def does_not_fit(
    shape: Shape, cluster: Cluster, table: StepTable, goal: ServingGoal, rejected: dict[str, int]
) -> InfeasibleError:
    best = int(np.argmin(table.weights))
    layout = one_layout(table.layouts, best)
    need = float(table.weights[best]) + float(
        sequence_bytes(shape, layout, table.formats, goal.isl + goal.osl)
    )
    # Replicas are powers of two.
    devices = 2 ** int(np.ceil(np.log2(cluster.num_devices * need / table.budget)))
    return InfeasibleError(
        f"{shape.name} in {table.formats.name} does not fit {cluster.name} at any split",
        f"the widest split (tp {layout.tp}, pp {layout.pp}) needs {need / 1e9:.4g} GB per device with one request of "
        f"{goal.isl + goal.osl:,.0f} tokens; {table.budget / 1e9:.4g} GB may be used",
        f"try: --on {devices}x{cluster.accelerator.name}, or a narrower --precision",
        reasons=rejected,
    )


def misses(
    goal: ServingGoal, found: list[Deployment], counts: tuple[tuple[str, int], ...]
) -> InfeasibleError:
    def excess(d: Deployment) -> float:
        return max(d.ttft / goal.ttft if goal.ttft else 0.0, d.tpot / goal.tpot if goal.tpot else 0.0)

    near = min(found, key=excess)
    return InfeasibleError(
        "no deployment meets both goals at once",
        f"nearest: tp {near.layout.tp}, {near.concurrency:.0f} requests per replica: {near.ttft * 1e3:.3g} ms to the first "
        f"token, {near.tpot * 1e3:.3g} ms per token after it",
        "try: "
        + " ".join(
            f"{name} {max(wanted, got * 1.05) * 1e3:.4g}ms"
            for name, wanted, got in (("--ttft", goal.ttft, near.ttft), ("--tpot", goal.tpot, near.tpot))
            if wanted is not None
        ),
        reasons=dict(counts),
    )
