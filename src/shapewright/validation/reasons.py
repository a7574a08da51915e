"""Why a published row may be missed: what its prediction consists of, and what its source leaves open."""

from __future__ import annotations

from shapewright.validation.training import Point

LARGE = 0.15
"""Share of the predicted step above which a cause other than compute is named."""


def reason(point: Point) -> str:
    """One line: the largest cause beside compute, what is unstated, and what the sign of the miss says."""
    parts = []
    slower = point.error > 0
    causes = sorted(point.causes.items(), key=lambda item: -item[1])
    for cause, share in causes:
        if cause not in ("compute", "memory") and share > LARGE:
            parts.append(f"{share:.0%} of the prediction is {cause}")
    if slower and point.causes.get("bubble", 0.0) > 0.5 * point.error / (1 + point.error):
        parts.append("the measured time leaves no room for the bubble of the stated vpp")
    if (
        slower
        and point.causes.get("communication", 0.0) > 0.5
        and point.row.cluster.tiers[0].name.startswith("PCIe")
    ):
        parts.append("the collectives measured over PCIe were of another board's topology")
    if not slower and point.row.cluster.num_devices >= 256:
        parts.append("measured slower than every modelled cause, at a scale where networks differ")
    if point.row.moe:
        parts.append("how evenly tokens met experts is not stated")
    if point.row.defaults:
        parts.append("unstated: " + ", ".join(point.row.defaults))
    return "; ".join(parts) or "compute alone: kernels of this shape and library"
