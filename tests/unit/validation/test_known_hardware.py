"""Known models beside our choice: who can be compared, and what two runs under one law can be told apart by."""

from __future__ import annotations

from dataclasses import asdict, replace

import numpy as np
import pytest

from shapewright.architecture.catalog import load_model, model_names
from shapewright.hardware.catalog import parse_cluster
from shapewright.scaling.law import Z90, load_law
from shapewright.search.contrast import contrast_sd
from shapewright.search.families import families
from shapewright.validation.known_hardware import compare, kinds_beside
from shapewright.validation.known_text import by_reason, lines, markdown
from shapewright.validation.published import Skip
from shapewright.validation.rivals import PARTS, USUAL_RUN_S, rivals


def test_every_model_of_the_catalogue_is_compared_or_named_with_a_reason():
    found, skipped = rivals()
    assert {rival.name for rival in found} | {skip.row for skip in skipped} == set(model_names())
    assert len(found) >= 40
    assert len(found) + len(skipped) == len(model_names())
    reasons = by_reason(skipped)
    assert "qwen3-8b" in reasons["hardware unpublished"]
    assert "kimi-k2" in reasons["number of devices and hours unpublished"]
    assert all(skip.reason for skip in skipped)


def test_an_unpublished_number_of_devices_is_marked_and_spends_the_hours_in_about_sixty_days():
    found, _ = rivals()
    for rival in found:
        if rival.devices_assumed:
            assert rival.published_hours is not None
            days = rival.published_hours * 3600.0 / rival.num_devices / USUAL_RUN_S
            assert 0.7 < days < 1.5 or rival.num_devices == 8, rival
    assert not next(r for r in found if r.name == "llama-65b").devices_assumed
    for name in PARTS.values():
        assert parse_cluster(name).num_devices == 1


@pytest.fixture(scope="module")
def told():
    """Pythia 2.8B and our choices, on fewer devices than it had."""
    found, _ = rivals()
    return compare(replace(next(r for r in found if r.name == "pythia-2.8b"), num_devices=16))


def test_both_sides_share_hardware_vocabulary_and_time(told):
    theirs = told.theirs
    assert (theirs.width, theirs.depth, theirs.heads, theirs.kv_heads) == (2560, 32, 32, 32)
    hours = theirs.step_s * theirs.tokens / 3600.0 * 16
    for gain in (told.free, told.no_larger):
        assert gain.choice.vocab == gain.cheapest.vocab == theirs.vocab
        assert gain.loss_change_low < gain.loss_change < gain.loss_change_high
        assert gain.saved_low < gain.saved < gain.saved_high < 1.0
        assert gain.saved == pytest.approx(gain.saved_hours / told.hours)
        assert gain.cheapest.loss == pytest.approx(theirs.loss, rel=1e-5)
        assert gain.saved_dollars == pytest.approx(gain.saved_hours * 3.05)
    assert told.free.loss_change <= 0.0
    assert told.no_larger.choice.params <= 1.005 * theirs.params
    assert 0 < told.hours < hours


def test_the_comparison_fits_a_terminal_and_names_who_is_missing(told):
    skips = [Skip(row="a", reason="hardware unpublished"), Skip(row="b", reason="tokens unpublished")]
    text = list(lines([told] * 30, skips))
    assert max(len(line) for line in text) <= 80
    assert sum("pythia-2.8b" in line for line in text) == 2 * 15
    table = markdown([asdict(told)], [asdict(skip) for skip in skips])
    assert "hardware unpublished (1): a" in table
    assert "2560x32, 32/32 heads, ffn x4; 2.78B on 300B" in table


def test_a_mixture_is_met_by_mixtures_as_sparse_as_it_is():
    sparse, mild, dense = (
        [family.name for kind in kinds_beside(load_model(name)) for family in families(kind)]
        for name in ("deepseek-v3", "olmoe-1b-7b", "llama-3-8b")
    )
    assert dense == ["dense"]
    assert {"dense", "256 experts", "mla, 256 experts", "mla, 384 experts"} <= set(sparse)
    assert "64 experts" in mild
    assert set(sparse) & set(mild) == {"dense"}


def test_what_two_runs_share_cancels():
    law = load_law("chinchilla_shape")
    shape, other = load_model("llama-7b"), load_model("llama-65b")
    alone = law.residual_sd * np.sqrt(2.0)
    assert contrast_sd(law, (shape, 1e12), (shape, 1e12)) == pytest.approx(alone)
    near, far = (contrast_sd(law, (shape, 1e12), (shape, tokens)) for tokens in (1.1e12, 2e13))
    assert alone < near < far
    mixed = contrast_sd(law, (shape, 1e12), (load_model("dbrx"), 1e12))
    assert mixed > contrast_sd(law, (shape, 1e12), (other, 1e12))
    latent = load_model("deepseek-v2")
    assert contrast_sd(law, (latent, 1e12), (latent, 1e12)) == pytest.approx(alone)
    assert Z90 * alone < 0.02
