"""``--set``: units are checked, names suggested, and the result says that the user assumed it."""

from __future__ import annotations

import pytest

from shapewright.errors import UnitError, UnknownNameError, UsageError
from shapewright.hardware.catalog import load_accelerator, parse_cluster
from shapewright.hardware.settings import apply_settings


def test_figures_of_an_accelerator_are_replaced() -> None:
    before = load_accelerator("h100_sxm")
    after = apply_settings(
        before,
        ["memory_bandwidth=4TB/s", "power_cap=500W", "peak_flops.bf16=1PFLOP/s", "scale_up.bandwidth = 2x"],
    )
    assert after.memory_bandwidth is not None
    assert (after.memory_bandwidth.value, after.memory_bandwidth.kind) == (4e12, "assumed")
    assert after.memory_bandwidth.source == "set by the user"
    assert after.power_cap is not None
    assert after.power_cap.value == 500
    assert after.peak("bf16") == 1e15
    assert after.peak("fp8") == before.peak("fp8")
    assert after.scale_up is not None
    assert after.scale_up.bandwidth.value == 900e9
    assert before.power_cap is None


def test_factors_keep_the_source_they_multiply() -> None:
    figure = apply_settings(load_accelerator("h100_sxm"), ["memory_bandwidth=2x"]).memory_bandwidth
    assert figure is not None
    assert figure.value == 6.7e12
    assert figure.kind == "assumed"
    assert "set by the user: 2x of 3.35 TB/s" in figure.source


def test_settings_apply_one_after_another() -> None:
    figure = apply_settings(load_accelerator("h100_sxm"), ["tdp=2x", "tdp=0.5x"]).tdp
    assert figure is not None
    assert figure.value == 700


def test_clusters_take_networks_prices_and_power() -> None:
    cluster = parse_cluster(
        "64xh100_sxm",
        ["scale_out.bandwidth=100GB/s", "scale_out.latency=5us", "scale_up.latency=2x", "price_per_device_hour=$2.50/h",
         "power_usage_effectiveness=1.1", "host_power_per_device=300W", "memory_capacity=96GB"],
    )  # fmt: skip
    assert cluster.tiers[1].bandwidth.value == 100e9
    assert cluster.tiers[1].latency.value == pytest.approx(5e-6)
    assert cluster.tiers[0].latency.value == pytest.approx(6e-6)
    assert cluster.price_per_device_hour is not None
    assert cluster.price_per_device_hour.value == 2.5
    assert cluster.accelerator.memory_capacity is not None
    assert cluster.accelerator.memory_capacity.value == 96e9


def test_links_change_in_the_accelerator_and_in_the_tier() -> None:
    cluster = parse_cluster("64xh100_sxm", ["scale_up.bandwidth=2x", "scale_out_bandwidth=100GB/s"])
    assert cluster.accelerator.scale_up is not None
    assert cluster.accelerator.scale_up.bandwidth.value == 900e9
    assert [tier.bandwidth.value for tier in cluster.tiers] == [900e9, 100e9]


def test_a_larger_domain_rebuilds_the_tiers() -> None:
    cluster = parse_cluster("64xh100_sxm", ["scale_out.bandwidth=2x", "scale_up.domain_size=16"])
    assert [(tier.size, tier.bandwidth.value) for tier in cluster.tiers] == [(16, 450e9), (64, 100e9)]
    assert [tier.size for tier in parse_cluster("64xh100_sxm", ["scale_up.domain_size=72"]).tiers] == [64]


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ("memory_bandwidth=-4TB/s", "memory_bandwidth.*not positive"),
        ("memory_bandwidth=0GB/s", "memory_bandwidth.*not positive"),
        ("memory_bandwidth=-2x", "memory_bandwidth.*not positive"),
        ("tdp=1e999W", "tdp.*too large"),
        ("last_level_cache=2x", "last_level_cache.*unknown figure"),
        ("power_cap=900W", "power_cap.*above the 700 W"),
        ("power_usage_effectiveness=0.9", "below 1"),
        ("scale_up.domain_size=1.5", "domain_size.*count"),
        ("memory_bandwidth", "NAME=VALUE"),
        ("=4TB/s", "NAME=VALUE"),
        ("memory_bandwidth=", "NAME=VALUE"),
    ],
)
def test_bad_settings_are_refused_by_name(setting: str, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        parse_cluster("64xh100_sxm", [setting])


@pytest.mark.parametrize(
    "setting", ["memory_bandwidth=4", "memory_bandwidth=4TB", "tdp=fast", "price_per_device_hour=2 W"]
)
def test_units_are_checked(setting: str) -> None:
    with pytest.raises(UnitError, match=setting.partition("=")[0]):
        parse_cluster("h100_sxm", [setting])


def test_a_misspelt_name_gets_the_nearest_one() -> None:
    with pytest.raises(UnknownNameError, match="did you mean memory_bandwidth"):
        parse_cluster("h100_sxm", ["memory_bandwith=4TB/s"])
    with pytest.raises(UnknownNameError, match=r"peak_flops\.bf16"):
        apply_settings(load_accelerator("h100_sxm"), ["peak_flops.bf15=1PFLOP/s"])


def test_a_network_that_is_not_there_cannot_be_set() -> None:
    with pytest.raises(UsageError, match="no scale-out network"):
        parse_cluster("8xh100_sxm", ["scale_out.latency=5us"])
    with pytest.raises(UsageError, match="no scale-up links"):
        apply_settings(load_accelerator("gtx_580"), ["scale_up.bandwidth=1GB/s"])
