"""From timed collectives to the link and fits that several processes of this machine are planned with."""

from __future__ import annotations

import sys
from datetime import date

import numpy as np
import pytest

from shapewright.cost.collective import collective_time
from shapewright.cost.price import cost_model
from shapewright.errors import MeasurementError
from shapewright.hardware.accelerator_file import save_accelerator
from shapewright.hardware.catalog import load_accelerator, load_calibration, parse_cluster
from shapewright.lab.accelerator import describe
from shapewright.lab.bench import Measured
from shapewright.lab.collectives import (
    GLOO,
    SIZES,
    TIMED,
    Sample,
    describe_links,
    groups_of,
    measure_collectives,
)

TRUE = {name: start for name, (start, _, _) in GLOO.items()} | {
    "launch_s": 3e-4,
    "hop_s": 5e-5,
    "efficiency": 1.0,
}


def samples(*groups: int) -> list[Sample]:
    """As gloo would take that starts in .3 ms, hops in 50 us and sends 1 GB/s."""
    return [
        Sample(kind=kind, num_bytes=n, processes=p, seconds=float(collective_time(TRUE, kind, n, p, 1e9)))
        for kind in TIMED for n in SIZES for p in groups
    ]  # fmt: skip


def test_two_and_all_are_timed():
    assert groups_of(1) == ()
    assert groups_of(2) == (2,)
    assert groups_of(6) == (2, 6)
    assert groups_of(64) == (2, 8)
    assert measure_collectives(1) == ()


def test_the_fits_give_the_times_back(measured: Measured, tmp_path):
    accelerator, fits = describe(measured, today=date(2030, 1, 2))
    linked, found = describe_links(accelerator, samples(2, 4))
    assert linked.scale_up is not None
    assert linked.scale_up.domain_size == 4
    assert linked.scale_up.bandwidth.value == pytest.approx(1e9, rel=0.05)
    assert linked.scale_up.bandwidth.kind == "measured"
    assert "gloo between 4 processes" in linked.scale_up.bandwidth.source
    assert {(fit.family, fit.number_format) for fit in found} == {("collective", kind) for kind in TIMED}
    assert all(fit.median_error < 0.02 and fit.num_held_out > 0 for fit in found)
    path = tmp_path / "mine.toml"
    path.write_text(save_accelerator(linked, (*fits, *found)))
    read = load_accelerator(str(path))
    assert read == linked
    assert {fit.family for fit in load_calibration(read).fits} >= {"collective", "matmul"}
    cluster = parse_cluster(f"4x{path}")
    model = cost_model(cluster.accelerator)
    for kind in TIMED:
        sizes = np.array([2.0**10, 2.0**23])
        told = model.collective(kind, sizes, 4, cluster.tiers[0])
        assert told == pytest.approx(collective_time(TRUE, kind, sizes, 4, 1e9), rel=0.05)


def test_one_number_of_processes_does_not_tell_hops_from_starts(measured: Measured):
    accelerator, _ = describe(measured, today=date(2030, 1, 2))
    _, found = describe_links(accelerator, samples(2))
    for fit in found:
        assert fit.coefficients["hop_s"] == 1e-9
        assert fit.coefficients["launch_s"] == pytest.approx(3.5e-4, rel=0.03)


def test_processes_that_do_not_start_are_a_failed_measurement(monkeypatch):
    monkeypatch.setattr(sys, "executable", "/bin/false")
    with pytest.raises(MeasurementError, match="collectives of 2 processes were not timed"):
        measure_collectives(2)
