"""Mean power of a cluster while it trains."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from shapewright.evidence import Figure
from shapewright.hardware.cluster import Cluster


def with_site(cluster: Cluster, joules: Any, seconds: Any) -> Any:
    """Energy of the cluster with hosts and site [J] where each device spends ``joules`` in ``seconds``; both broadcast."""
    host, site = cluster.host_power_per_device, cluster.power_usage_effectiveness
    each = joules + (host.value if host else 0.0) * seconds
    return each * (site.value if site else 1.0) * cluster.num_devices


def cluster_power(cluster: Cluster, device: Figure | None = None) -> Figure | None:
    """Power of the cluster with hosts and site [W] where each device draws ``device``.

    Without ``device`` every one runs at its limit: an upper bound, which large 16-bit products reach (measured at
    97 to 99 % of it on H200, B200 and GB200). None where the limit is unknown. Hosts and site follow the
    cluster's figures, or are left out where it has none.
    """
    each = device or cluster.accelerator.power_cap or cluster.accelerator.tdp
    if each is None:
        return None
    parts = [f"{each.source} per device"]
    host, site = cluster.host_power_per_device, cluster.power_usage_effectiveness
    if host is not None:
        parts.append(f"host {host.value:.0f} W per device")
    if site is not None:
        parts.append(f"power usage effectiveness {site.value:g}")

    def total(watts: float) -> float:
        return float(with_site(cluster, watts, 1.0))

    return replace(
        each,
        value=total(each.value),
        kind="derived",
        source="; ".join(parts),
        low=total(each.low) if each.low is not None else None,
        high=total(each.high) if each.high is not None else None,
    )
