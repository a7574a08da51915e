"""Repeated data in a design: the search pays for it, the document says what it cost, and where nobody checked."""

from __future__ import annotations

import json

import numpy as np
import pytest
from typer.testing import CliRunner

import shapewright as sw
from shapewright.cli.main import app
from shapewright.designs.repeated import repetition_text, repetition_warnings
from shapewright.errors import UsageError
from shapewright.hardware.catalog import parse_cluster
from shapewright.report.html import html_report
from shapewright.report.markdown import markdown_report
from shapewright.scaling.repetition import CHECKED_EPOCHS, excess_factor, largest_checked
from shapewright.search.budget import Budget
from shapewright.search.joint import Options, rank

DAY = Budget(kind="time", value=86400.0)
PINS = {"tp": 1, "pp": 1, "cp": 1, "micro_batch": 4, "recompute": 0}


def ranked(unique: float | None):
    return rank(parse_cluster("8xh100_sxm"), DAY, Options(plan=PINS, unique_tokens=unique, global_batch=256))


def test_the_search_pays_for_repeated_epochs():
    fresh, plenty, little = ranked(None), ranked(1e13), ranked(2e9)
    assert plenty.loss[plenty.best] == fresh.loss[fresh.best], "nothing repeats, nothing changes"
    assert little.loss[little.best] > fresh.loss[fresh.best] * 1.01
    chosen, before = little.shape(little.best), fresh.shape(fresh.best)
    assert (chosen.hidden_size, chosen.num_layers) != (before.hidden_size, before.num_layers)
    assert float(little.active_params.max()) <= largest_checked(2e9), "larger models were not checked"


def test_less_data_never_lowers_the_loss():
    losses = [float(r.loss[r.best]) for r in map(ranked, (1e11, 2e10, 5e9))]
    assert losses == sorted(losses)


def test_size_is_worth_no_more_on_repeated_tokens():
    sizes = np.geomspace(1e7, 1e12, 21)
    factor = excess_factor(sizes, 1e11, 1e10)
    assert (factor <= 1.0).all()
    assert (np.diff(factor) <= 1e-12).all(), "the larger the model, the more it loses"
    assert (excess_factor(sizes, 1e10, 1e10) == 1.0).all(), "one epoch repeats nothing"


@pytest.fixture(scope="module")
def estimate():
    return sw.estimate(
        "pythia-1b", "8xh100_sxm", tokens=2e12, options=Options(plan={"dp_shard": 8}, unique_tokens=2e10)
    )


def test_the_document_says_what_repetition_cost(estimate):
    found = estimate.repetition
    assert found is not None
    assert found.epochs.value == pytest.approx(100.0)
    assert 2e10 < found.effective_tokens.value < 2e12
    alone = sw.estimate("pythia-1b", "8xh100_sxm", tokens=2e12, options=Options(plan={"dp_shard": 8}))
    assert found.loss_cost.value == pytest.approx(
        estimate.predicted.loss.value - alone.predicted.loss.value, abs=1e-9
    )
    wide = estimate.predicted.loss.high / estimate.predicted.loss.value
    assert wide > alone.predicted.loss.high / alone.predicted.loss.value, "what it costs is not known exactly"
    assert alone.repetition is None
    assert any(a.name == "data" and "fresh" in a.text for a in alone.assumptions)


def test_every_output_shows_epochs_and_warns_past_the_checked_ones(estimate):
    assert estimate.repetition.epochs.value > CHECKED_EPOCHS
    said = repetition_text(estimate.repetition)
    assert "read 100 times" in said
    for text in (html_report(estimate), markdown_report(estimate), estimate.to_json()):
        assert said in text
        assert "100 epochs: the law of repetition was checked up to 60" in text
    assert any("read the data 100 times" in remark for remark in estimate.recipe.remarks)
    assert repetition_warnings(estimate.repetition, estimate.shape)


@pytest.mark.parametrize("value", [0.0, -1.0, float("inf"), float("nan")])
def test_a_corpus_without_tokens_is_refused(value):
    with pytest.raises(UsageError, match="unique_tokens"):
        Options(unique_tokens=value)


def test_epochs_need_tokens():
    with pytest.raises(UsageError, match="without tokens"):
        sw.estimate("pythia-1b", "8xh100_sxm", options=Options(plan={"dp_shard": 8}, unique_tokens=1e9))


def test_the_option_on_the_command_line():
    run = CliRunner().invoke(
        app, ["estimate", "pythia-1b", "--on", "8xh100_sxm", "--dp-shard", "8", "--tokens", "40B", "--unique-tokens",
              "20B", "--json"],
    )  # fmt: skip
    assert run.exit_code == 0, run.output
    assert json.loads(run.stdout)["repetition"]["epochs"]["value"] == pytest.approx(2.0)
