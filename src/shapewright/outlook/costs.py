"""What a property of an accelerator costs: its share of the dollars and of the watts of a device in a cluster.

``dollars(x) = sum_i share_i x_i + rest`` and the same for watts: a property scaled by x_i makes its share of the cost grow
in proportion, the rest stays. Decisions: the shares are estimates with stated sources, all of kind ``assumed``, and every
one can be replaced (``--share memory=0.3``); they are of what a component costs to make, spread over the price, because
a maker's margin belongs to nobody. At fixed dollars (or watts) a dearer device buys less device-time.
Neglects: economies of scale, and that the cost of a property rises faster than it does near its limit.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from shapewright.errors import UnknownFigureError, UnknownNameError, UsageError
from shapewright.evidence import Figure
from shapewright.hardware.cluster import Cluster

CAPEX = {"chip": 0.45, "server": 0.30, "interconnect": 0.18, "energy": 0.07}
"""Shares of the cost of compute: midpoints of the ranges of Cottier et al. 2024 (arXiv 2405.21015), staff left out."""
BOM = {"memory": 2900.0, "logic": 900.0, "packaging": 2200.0, "rest": 400.0}
"""Cost of making a B200 [USD]: HBM, dies, packaging with its losses, the rest (Epoch AI, B200 cost breakdown)."""
SRAM_SHARE = 0.15
"""Share of a compute die that its caches take [assumed]."""
CAPEX_SOURCE = (
    "cost of compute: chips 45 %, servers 30 %, interconnect 18 %, energy 7 % (midpoints of arXiv 2405.21015); a B200 to "
    "make: HBM $2,900, dies $900, packaging with losses $2,200 (half to memory, half to dies), rest $400 (Epoch AI)"
)
PICOJOULE_MEMORY = 3.9e-12
"""Energy of a bit from HBM (O'Connor et al. 2017, Fine-Grained DRAM) [J]."""
PICOJOULE_LINK = 1.3e-12
"""Energy of a bit over a short fast link (NVIDIA, NVLink-C2C) [J]; a scale-up switch doubles it [assumed]."""
ADAPTER = 40.0
"""Power of a 400 Gb/s adapter with its optics, per device [W, assumed]."""
POWER_SOURCE = (
    "memory 3.9 pJ/bit (O'Connor et al. 2017), scale-up 2 x 1.3 pJ/bit, 40 W of adapter and optics per device, caches "
    "a tenth of the rest, all over device and host power"
)
COSTED = ("matrix_unit", "sram", "memory", "scale_up.bandwidth", "scale_out.bandwidth")
"""Properties that have a price of their own."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Shares:
    """Shares of one kind of cost by property; what is left belongs to none."""

    kind: str
    """``dollars`` or ``power``."""
    by_property: dict[str, Figure]

    def of(self, name: str) -> float:
        """The share of a property; 0 where it costs nothing here."""
        figure = self.by_property.get(name)
        return 0.0 if figure is None else figure.value

    def factor(self, scaled: dict[str, float]) -> float:
        """Cost of a device with these factors over that of the one without."""
        return 1.0 + sum(self.of(name) * (factor - 1.0) for name, factor in scaled.items())


def dollar_shares(cluster: Cluster, replaced: Iterable[str] = ()) -> Shares:
    """Shares of a device-hour's dollars.

    Raises:
        UnknownNameError, UsageError: a replaced share names no property, or the shares pass 1.
    """
    whole = sum(BOM.values())
    memory = (BOM["memory"] + BOM["packaging"] / 2) / whole * CAPEX["chip"]
    logic = (BOM["logic"] + BOM["packaging"] / 2) / whole * CAPEX["chip"]
    values = {
        "matrix_unit": logic * (1 - SRAM_SHARE), "sram": logic * SRAM_SHARE, "memory": memory,
        **_links(cluster, CAPEX["interconnect"]),
    }  # fmt: skip
    # What a property draws is paid too.
    if cluster.accelerator.tdp is not None and cluster.accelerator.memory_bandwidth is not None:
        drawn = power_shares(cluster)
        values = {name: value + CAPEX["energy"] * drawn.of(name) for name, value in values.items()}
    return _shares("dollars", values, CAPEX_SOURCE, replaced)


def power_shares(cluster: Cluster, replaced: Iterable[str] = ()) -> Shares:
    """Shares of a device's watts, its host included.

    Raises:
        UnknownNameError, UsageError: a replaced share names no property, or the shares pass 1.
        UnknownFigureError: the TDP or the memory bandwidth is unknown.
    """
    chip = cluster.accelerator
    if chip.tdp is None or chip.memory_bandwidth is None:
        raise UnknownFigureError("TDP or the memory bandwidth", chip.name, "power is shared between parts",
                                 "tdp=700W --set memory_bandwidth=3TB/s")  # fmt: skip
    host = cluster.host_power_per_device.value if cluster.host_power_per_device is not None else 0.0
    total = chip.tdp.value + host
    memory = PICOJOULE_MEMORY * 8 * chip.memory_bandwidth.value
    up = next((tier.bandwidth.value for tier in cluster.tiers if tier.role == "scale_up"), 0.0)
    link = 2 * 2 * PICOJOULE_LINK * 8 * up
    out = ADAPTER if any(tier.role == "scale_out" for tier in cluster.tiers) else 0.0
    rest = max(chip.tdp.value - memory - link, 0.0)
    values = {"matrix_unit": 0.9 * rest, "sram": 0.1 * rest, "memory": memory, "scale_up.bandwidth": link,
              "scale_out.bandwidth": out}  # fmt: skip
    return _shares(
        "power", {name: watts / total for name, watts in values.items() if watts}, POWER_SOURCE, replaced
    )


def _links(cluster: Cluster, share: float) -> dict[str, float]:
    """The interconnect's share over the networks that there are."""
    roles = list(dict.fromkeys(tier.role for tier in cluster.tiers))
    return {f"{role}.bandwidth": share / len(roles) for role in roles}


def _shares(kind: str, values: dict[str, float], source: str, replaced: Iterable[str]) -> Shares:
    figures = {
        name: Figure(value=value, unit="1", kind="assumed", source=source) for name, value in values.items()
    }
    for text in replaced:
        name, _, number = text.partition("=")
        if name not in COSTED:
            raise UnknownNameError("--share", name, COSTED)
        try:
            value = float(number)
        except ValueError:
            value = -1.0
        if not 0 <= value < 1:
            raise UsageError(
                f"--share {text!r} is not a share",
                "it lies between 0 and 1",
                "for example --share memory=0.3",
            )
        figures[name] = Figure(value=value, unit="1", kind="assumed", source="set by the user")
    whole = sum(figure.value for figure in figures.values())
    if whole > 1:
        raise UsageError(
            f"the shares add up to {whole:.2f}",
            "they are parts of one cost",
            "give smaller ones with --share",
        )
    return Shares(kind=kind, by_property=figures)
