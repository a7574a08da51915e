"""``--set memory_bandwidth=4TB/s``: figures that the user replaces.

Decisions: a setting names a figure by the path it has in the TOML (``peak_flops.bf16``, ``scale_up.bandwidth``);
on a cluster also its prices and power and ``scale_up.latency``, ``scale_out.bandwidth`` and ``scale_out.latency``.
``2x`` multiplies what is there. The result is ``assumed``, its source ``set by the user``: the catalogue is not
blamed for it.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable
from dataclasses import replace
from typing import TypeVar

from shapewright.errors import UnknownNameError, UsageError
from shapewright.evidence import Figure
from shapewright.hardware.accelerator import Accelerator, ScaleUp
from shapewright.hardware.accelerator_file import FIGURE_UNITS, FORMAT_UNITS, FORMATS
from shapewright.hardware.cluster import Cluster
from shapewright.hardware.system import rebuild_tiers
from shapewright.units import parse_quantity

_LINK_UNITS = {"scale_up.bandwidth": "B/s", "scale_up.point_to_point": "B/s", "scale_up.domain_size": "1"}
_TIER_UNITS = {
    "scale_up.bandwidth": "B/s", "scale_up.point_to_point": "B/s", "scale_up.latency": "s",
    "scale_out.bandwidth": "B/s", "scale_out.latency": "s",
}  # fmt: skip
_CLUSTER_UNITS = {
    "price_per_device_hour": "USD/h", "power_usage_effectiveness": "1", "host_power_per_device": "W",
}  # fmt: skip
_BY_FORMAT = {f"{key}.{name}": unit for key, unit in FORMAT_UNITS.items() for name in FORMATS}
ACCELERATOR_UNITS = {**FIGURE_UNITS, **_BY_FORMAT, **_LINK_UNITS}
"""What can be set on an accelerator, and its unit."""
CLUSTER_UNITS = {**ACCELERATOR_UNITS, **_TIER_UNITS, **_CLUSTER_UNITS}
"""What can be set on a cluster, and its unit."""
Hardware = TypeVar("Hardware", Accelerator, Cluster)
_FACTOR = re.compile(r"^\s*([+-]?\d+(?:\.\d*)?(?:[eE][+-]?\d+)?)\s*[x×]\s*$")


def apply_settings(hardware: Hardware, settings: Iterable[str]) -> Hardware:
    """Replace figures of an accelerator or a cluster, each setting ``NAME=VALUE`` or ``NAME=2x``.

    Raises:
        UsageError: a setting is not ``NAME=VALUE``, is not positive, multiplies an unknown figure, or breaks a rule.
        UnknownNameError: no figure has this name.
        UnitError: the value has no unit, or the unit of something else.
    """
    for setting in settings:
        name, equals, text = (part.strip() for part in setting.partition("="))
        if not equals or not name or not text:
            raise UsageError(
                f"--set (={setting!r}) is not NAME=VALUE", "a setting names one figure and its value",
                "for example: --set memory_bandwidth=4TB/s",
            )  # fmt: skip
        if isinstance(hardware, Accelerator):
            hardware = _set_accelerator(hardware, name, text)
        else:
            hardware = _set_cluster(hardware, name, text)
    return hardware


def _set_accelerator(accelerator: Accelerator, name: str, text: str) -> Accelerator:
    if name not in ACCELERATOR_UNITS:
        raise UnknownNameError(
            "--set", name, ACCELERATOR_UNITS, "see the figures: shapewright hardware NAME --json"
        )
    unit = ACCELERATOR_UNITS[name]
    table, _, key = name.partition(".")
    if table == "scale_up":
        return replace(accelerator, scale_up=_set_link(accelerator, key, name, text, unit))
    if key:
        figures = dict(getattr(accelerator, table))
        figures[key] = _new(figures.get(key), name, text, unit)
        return replace(accelerator, **{table: figures})
    figure = _new(getattr(accelerator, name), name, text, unit)
    tdp = accelerator.tdp
    if name == "power_cap" and tdp is not None and figure.value > tdp.value:
        raise UsageError(
            f"--set power_cap (={text!r}) is above the {tdp} of {accelerator.name}",
            "a device cannot draw more than it is cooled for",
            "set tdp as well, first",
        )
    return replace(accelerator, **{name: figure})


def _set_link(accelerator: Accelerator, key: str, name: str, text: str, unit: str) -> ScaleUp:
    link = accelerator.scale_up
    if link is None:
        raise UsageError(
            f"--set {name} (={text!r}) has nothing to act on",
            f"{accelerator.name} has no scale-up links",
            "set scale_out_bandwidth, or describe it in a TOML file of your own",
        )
    if key == "domain_size":
        count = parse_quantity(text, "1", name)
        if count != int(count) or count < 1:
            raise UsageError(
                f"--set {name} (={text!r}) is not a count", "it must be a whole number of at least 1"
            )
        return replace(link, domain_size=int(count))
    return replace(link, **{key: _new(getattr(link, key), name, text, unit)})


def _set_cluster(cluster: Cluster, name: str, text: str) -> Cluster:
    if name not in CLUSTER_UNITS:
        raise UnknownNameError(
            "--set", name, CLUSTER_UNITS, "see the figures: shapewright hardware NAME --json"
        )
    unit = CLUSTER_UNITS[name]
    if name in _CLUSTER_UNITS:
        figure = _new(getattr(cluster, name), name, text, unit)
        if name == "power_usage_effectiveness" and figure.value < 1:
            raise UsageError(
                f"--set {name} (={text!r}) is below 1",
                "a site draws at least what its devices draw",
                "1.1 to 1.6",
            )
        return replace(cluster, **{name: figure})
    if name in ACCELERATOR_UNITS:
        cluster = replace(cluster, accelerator=_set_accelerator(cluster.accelerator, name, text))
        if name == "scale_up.domain_size":
            return replace(cluster, tiers=rebuild_tiers(cluster))
    path = "scale_out.bandwidth" if name == "scale_out_bandwidth" else name
    if path not in _TIER_UNITS:
        return cluster
    role, _, key = path.partition(".")
    if name not in ACCELERATOR_UNITS and not any(tier.role == role for tier in cluster.tiers):
        raise UsageError(
            f"--set {name} (={text!r}) has nothing to act on",
            f"{cluster.name} has no {role.replace('_', '-')} network",
            "name a cluster that has one",
        )
    tiers = (
        replace(tier, **{key: _new(getattr(tier, key), name, text, unit)}) if tier.role == role else tier
        for tier in cluster.tiers
    )
    return replace(cluster, tiers=tuple(tiers))


def _new(old: Figure | None, name: str, text: str, unit: str) -> Figure:
    """The figure that ``text`` asks for."""
    factor = _FACTOR.match(text)
    if factor is not None and old is None:
        raise UsageError(
            f"--set {name} (={text!r}) multiplies an unknown figure",
            "nobody published it",
            f"give its value in {unit}",
        )
    if factor is not None and old is not None:
        value, source = old.value * float(factor.group(1)), f"set by the user: {text} of {old} ({old.source})"
    elif unit == "USD/h":
        value, source = parse_quantity(text.removesuffix("/h"), "USD", name), "set by the user"
    else:
        value, source = parse_quantity(text, unit, name), "set by the user"
    if not math.isfinite(value) or value <= 0:
        raise UsageError(
            f"--set {name} (={text!r}) is not positive",
            "a figure of hardware is greater than zero",
            f"half of what is there: --set {name}=0.5x",
        )
    return Figure(value=value, unit=unit, kind="assumed", source=source)
