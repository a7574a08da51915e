"""Hardware that does not exist: properties scaled by hand, and the rules that no chip can break.

Decisions: a property here is what an architect would turn, not one figure of a datasheet: ``matrix_unit`` makes every
matrix unit larger and raises every peak with it, ``clock`` and ``num_sms`` raise the peaks they carry, ``sram`` scales
cache and shared memory, ``memory`` adds stacks (capacity and bandwidth together), ``network`` both links. Figures of the
datasheet can be set too, as everywhere (``hardware.settings``), but a peak by itself breaks the first rule.

The rules, each refused with its numbers: FLOP/s is clock x units x FLOP per clock and unit; a memory interface gives no
more per byte than its fastest pins over its smallest stack; links carry no more than memory feeds them; caches fit on the
die as bare cells; nobody draws more than the cooling allows.
Neglects: what the kernels gain from more shared memory per SM (only the cache is priced), yield, thermals.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace

from shapewright.errors import UnknownNameError, UsageError
from shapewright.evidence import Figure
from shapewright.hardware.accelerator import Accelerator
from shapewright.hardware.catalog import parse_cluster
from shapewright.hardware.checks import check_memory
from shapewright.hardware.cluster import Cluster
from shapewright.hardware.settings import CLUSTER_UNITS, apply_settings
from shapewright.outlook.lineages import WIDTH
from shapewright.plan.precision import PRECISIONS
from shapewright.units import parse_quantity

CELL = 0.021e-12 * 8
"""Area of a byte of static memory: 0.021 um2 per bit, the high-density cell of TSMC's 5 nm class (IEDM 2019) [m2]."""
TOLERANCE = 1.02
"""Makers round their peaks."""
OTHER_MEMORY = 1.25
"""Bandwidth per byte over the chip's own where its kind of memory has no published limit [assumed]."""
MEMORY_TYPES = ("HBM2e", "HBM3", "HBM3e", "HBM4")
TEXTS = ("format", "memory_type")
"""Properties that are words."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Property:
    """Something an architect turns by a factor."""

    name: str
    meaning: str
    settings: tuple[str, ...]
    """The figures of the datasheet that it scales; ``peaks`` are all dense, sparse and measured rates."""


PROPERTIES: dict[str, Property] = {
    p.name: p
    for p in (
        Property(name="matrix_unit", meaning="FLOP per clock of every matrix unit, and every peak with it",
                 settings=("flops_per_clock_per_unit", "peaks")),
        Property(name="clock", meaning="clock, and every peak with it", settings=("clock", "peaks")),
        Property(name="num_sms", meaning="multiprocessors with their matrix units, and every peak with them",
                 settings=("num_sms", "num_matrix_units", "peaks")),
        Property(name="sram", meaning="cache and shared memory", settings=("l2_capacity", "last_level_cache",
                                                                          "shared_memory_per_sm")),
        Property(name="memory", meaning="stacks of memory: capacity and bandwidth together",
                 settings=("memory_capacity", "memory_bandwidth")),
        Property(name="network", meaning="bandwidth of both networks",
                 settings=("scale_up.bandwidth", "scale_out.bandwidth")),
        Property(name="network_latency", meaning="latency of both networks",
                 settings=("scale_up.latency", "scale_out.latency")),
        Property(name="num_devices", meaning="devices in the cluster", settings=()),
    )
}  # fmt: skip
"""The turning knobs beside the figures of ``hardware.settings``."""
_PEAKS = ("peak_flops", "sparse_flops", "achievable_flops")


def known_properties() -> tuple[str, ...]:
    """Every name that ``--set`` and ``--sweep`` take here."""
    return tuple(dict.fromkeys((*PROPERTIES, *TEXTS, "seq_len", *CLUSTER_UNITS)))


@dataclass(frozen=True, kw_only=True, slots=True)
class Chip:
    """A hypothetical cluster and what differs from the real one."""

    cluster: Cluster
    settings: tuple[str, ...]
    precision: str | None = None
    """Number format of the training, where it was set."""
    seq_len: int | None = None
    """Tokens per sequence, where they were set."""
    factors: Mapping[str, float] = field(default_factory=dict)
    """Factor of each property that was scaled."""


def hypothetical(base: Cluster, settings: Iterable[str]) -> Chip:
    """The cluster under ``NAME=VALUE`` settings; ``2x`` multiplies.

    Raises:
        UnknownNameError: no property has this name (says the nearest).
        UsageError: a setting cannot be read, or breaks a rule of physics (says the rule and the numbers).
    """
    settings = tuple(settings)
    chip = Chip(cluster=base, settings=settings)
    for setting in settings:
        name, equals, text = (part.strip() for part in setting.partition("="))
        if not equals or not name or not text:
            raise UsageError(f"--set (={setting!r}) is not NAME=VALUE", "a setting names one property and its value",
                             "for example: --set sram=2x")  # fmt: skip
        if name not in known_properties():
            raise UnknownNameError("--set", name, known_properties(), f"properties: {', '.join(PROPERTIES)}")
        chip = _set(chip, name, text)
    refuse_impossible(base.accelerator, chip)
    return chip


def _set(chip: Chip, name: str, text: str) -> Chip:
    cluster = chip.cluster
    if name == "format":
        if text not in PRECISIONS:
            raise UnknownNameError("--set format", text, PRECISIONS)
        return replace(chip, precision=text)
    if name == "memory_type":
        if text not in MEMORY_TYPES:
            raise UnknownNameError("--set memory_type", text, MEMORY_TYPES)
        return replace(
            chip, cluster=replace(cluster, accelerator=replace(cluster.accelerator, memory_type=text))
        )
    if name in ("seq_len", "num_devices"):
        count = _count(name, text, cluster.num_devices if name == "num_devices" else chip.seq_len or 4096)
        return (
            replace(chip, seq_len=count)
            if name == "seq_len"
            else replace(chip, cluster=resized(cluster, count))
        )
    if name in PROPERTIES:
        return turned(chip, name, _factor(cluster, name, text))
    if name == "power_cap" and cluster.accelerator.power_cap is None and cluster.accelerator.tdp is not None:
        # A device without a cap of its own runs up to its TDP.
        cluster = replace(
            cluster, accelerator=replace(cluster.accelerator, power_cap=cluster.accelerator.tdp)
        )
    return replace(chip, cluster=apply_settings(cluster, [f"{name}={text}"]))


def _count(name: str, text: str, now: int) -> int:
    value = (
        now * float(text[:-1])
        if text.endswith("x") and _is_number(text[:-1])
        else parse_quantity(text, "1", name)
    )
    if value < 1 or value > 1e7:
        raise UsageError(
            f"--set {name} (={text!r}) is not a count", "it is a whole number from 1 to ten million"
        )
    return round(value)


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True


def _factor(cluster: Cluster, name: str, text: str) -> float:
    """The factor that a text means: ``2x``, or a value of the property's own unit where it has one."""
    if text.endswith(("x", "×")) and _is_number(text[:-1]):
        value = float(text[:-1])
    else:
        figure = getattr(cluster.accelerator, name, None) if name in ("clock", "num_sms") else None
        if figure is None:
            raise UsageError(f"--set {name} (={text!r}) is not a factor", f"{PROPERTIES[name].meaning} is scaled",
                             f"for example: --set {name}=2x")  # fmt: skip
        value = parse_quantity(text, figure.unit, name) / figure.value
    if not 0.01 <= value <= 100:
        raise UsageError(f"--set {name} (={text!r}) is out of range", "a factor lies between 0.01x and 100x",
                         f"for example: --set {name}=2x")  # fmt: skip
    return value


def turned(chip: Chip, name: str, factor: float) -> Chip:
    """The chip with one of :data:`PROPERTIES` (or any figure) scaled by a factor, no rule asked."""
    factors = {**chip.factors, name: chip.factors.get(name, 1.0) * factor}
    return replace(chip, cluster=scaled(chip.cluster, name, factor), factors=factors)


def scaled(cluster: Cluster, name: str, factor: float) -> Cluster:
    """The cluster with one of :data:`PROPERTIES` (or any figure) scaled by a factor."""
    settings = PROPERTIES[name].settings if name in PROPERTIES else (name,)
    accelerator = cluster.accelerator
    plain = []
    for setting in settings:
        if setting == "peaks":
            tables = {table: _times(getattr(accelerator, table), factor, name) for table in _PEAKS}
            accelerator = replace(accelerator, **tables)
        elif setting == "flops_per_clock_per_unit":
            accelerator = replace(
                accelerator,
                flops_per_clock_per_unit=_times(accelerator.flops_per_clock_per_unit, factor, name),
            )
        elif _present(replace(cluster, accelerator=accelerator), setting):
            plain.append(f"{setting}={factor!r}x")
    if not plain and "peaks" not in settings and name != "num_devices":
        raise UsageError(f"{name} has nothing to act on", f"{accelerator.name} has no published {', '.join(settings)}",
                         "give a value of its own in a TOML file")  # fmt: skip
    return apply_settings(replace(cluster, accelerator=accelerator), plain)


def _times(figures: Mapping[str, Figure], factor: float, name: str) -> dict[str, Figure]:
    return {
        key: Figure(value=figure.value * factor, unit=figure.unit, kind="assumed",
                    source=f"hypothetical: {name} {factor:g}x of {figure} ({figure.source})")
        for key, figure in figures.items()
    }  # fmt: skip


def _present(cluster: Cluster, setting: str) -> bool:
    """Whether a figure is known, so that a factor can act on it."""
    role, _, key = setting.partition(".")
    if role == "scale_up" and cluster.accelerator.scale_up is None:
        return False
    if key:
        return any(tier.role == role and getattr(tier, key) is not None for tier in cluster.tiers)
    return getattr(cluster.accelerator, setting, None) is not None


def resized(cluster: Cluster, num_devices: int) -> Cluster:
    """The same accelerators and networks with another number of devices."""
    if cluster.accelerator.path is not None:
        text = f"{num_devices}x{cluster.accelerator.path}"
    else:
        text = f"{num_devices}x{cluster.accelerator.name}"
    fresh = parse_cluster(text)
    tiers = tuple(
        next((replace(tier, bandwidth=old.bandwidth, latency=old.latency) for old in cluster.tiers
              if old.role == tier.role), tier)
        for tier in fresh.tiers
    )  # fmt: skip
    return replace(cluster, name=fresh.name, num_devices=num_devices, tiers=tiers)


Rule = Callable[[Accelerator, Chip], str | None]


def refuse_impossible(base: Accelerator, chip: Chip) -> None:
    """Hold a hypothetical cluster against the rules of the module.

    Raises:
        UsageError: it breaks one; the message has the rule and the numbers.
    """
    for rule, fix in RULES:
        broken = rule(base, chip)
        if broken is not None:
            raise UsageError(f"no such chip: {broken}", (rule.__doc__ or "").strip().splitlines()[0], fix)


def peak_rule(base: Accelerator, chip: Chip) -> str | None:
    """FLOP/s is clock x matrix units x FLOP per clock and unit."""
    device, factors = chip.cluster.accelerator, chip.factors
    carried = math.prod(factors.get(name, 1.0) for name in ("matrix_unit", "clock", "num_sms"))
    # Units may also be named by themselves; those that came with the multiprocessors count once.
    units = _ratio(base.num_matrix_units, device.num_matrix_units) / factors.get("num_sms", 1.0)
    for name, peak in device.peak_flops.items():
        per = _ratio(base.flops_per_clock_per_unit.get(name), device.flops_per_clock_per_unit.get(name))
        allowed = carried * max(units, 1.0) * max(per / factors.get("matrix_unit", 1.0), 1.0)
        known = base.peak_flops.get(name)
        old = known.value if known is not None else _narrower(base, name)
        if peak.value > old * allowed * TOLERANCE:
            given = old * allowed
            formula = _formula(device, name)
            return (
                f"{peak.value / 1e12:,.4g} TFLOP/s in {name}, but clock and units give {given / 1e12:,.4g}"
                + (f" ({formula})" if formula else "")
            )
    return None


def _narrower(base: Accelerator, name: str) -> float:
    """What the 16-bit units would give in a format that the chip does not have: as much more as it is narrower."""
    wide = next((base.peak_flops[key].value for key in ("bf16", "fp16") if key in base.peak_flops), 0.0)
    return wide * 16.0 / WIDTH[name]


def _ratio(old: Figure | None, new: Figure | None) -> float:
    return 1.0 if old is None or new is None else new.value / old.value


def _formula(chip: Accelerator, name: str) -> str:
    per = chip.flops_per_clock_per_unit.get(name)
    if per is None or chip.clock is None or chip.num_matrix_units is None:
        return ""
    return (
        f"{chip.clock.value / 1e9:.4g} GHz x {chip.num_matrix_units.value:,.0f} units x {per.value:,.0f} FLOP"
    )


def memory_rule(base: Accelerator, chip: Chip) -> str | None:
    """A memory interface gives no more per byte than its fastest pins over its smallest stack."""
    device = chip.cluster.accelerator
    for finding in check_memory(device):
        return finding.message
    old = (base.memory_bandwidth, base.memory_capacity)
    new = (device.memory_bandwidth, device.memory_capacity)
    if (device.memory_type or "").startswith("HBM") or None in (*old, *new):
        return None
    ratios = [
        pair[0].value / pair[1].value for pair in (old, new) if pair[0] is not None and pair[1] is not None
    ]
    if ratios[1] > ratios[0] * OTHER_MEMORY:
        return (f"{device.memory_bandwidth} on {device.memory_capacity} of {device.memory_type or 'its memory'} is "
                f"{ratios[1] / ratios[0]:.2f} times the bandwidth per byte that it has")  # fmt: skip
    return None


def link_rule(base: Accelerator, chip: Chip) -> str | None:
    """A link carries no more than memory feeds it."""
    feed = chip.cluster.accelerator.memory_bandwidth
    for tier in chip.cluster.tiers:
        if feed is not None and tier.bandwidth.value > feed.value:
            return f"{tier.name} at {tier.bandwidth} is above the {feed} of the memory behind it"
    return None


def sram_rule(base: Accelerator, chip: Chip) -> str | None:
    """Caches and shared memories fit on the die as bare cells."""
    device = chip.cluster.accelerator
    if device.die_area is None or device.l2_capacity is None:
        return None
    per_sm = sum(
        figure.value
        for figure in (device.shared_memory_per_sm, device.register_file_per_sm)
        if figure is not None
    )
    size = device.l2_capacity.value + per_sm * (device.num_sms.value if device.num_sms is not None else 0.0)
    room = device.die_area.high or device.die_area.value
    if size * CELL > room:
        return (f"{size / 2**20:,.0f} MiB of static memory takes {size * CELL * 1e6:,.0f} mm2 as bare cells, "
                f"the compute dies have {room * 1e6:,.0f}")  # fmt: skip
    return None


RULES: tuple[tuple[Rule, str], ...] = (
    (peak_rule, "raise the part that carries it: --set matrix_unit=2x, clock=1.1x or num_sms=1.2x"),
    (memory_rule, "add stacks with it: --set memory=2x, or name a faster kind: --set memory_type=HBM4 first"),
    (link_rule, "raise the memory too: --set memory=2x"),
    (sram_rule, "a larger die: --set die_area=1700mm2, or less --set sram"),
)  # fmt: skip
