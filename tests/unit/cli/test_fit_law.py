"""``shapewright fit law`` as a user calls it."""

from __future__ import annotations

import json

import numpy as np
import pytest
from typer.testing import CliRunner

from shapewright.cli.fit import app
from shapewright.errors import UsageError
from shapewright.scaling.lawfile import read_law


@pytest.fixture
def runs(tmp_path):
    rng = np.random.default_rng(0)
    params, tokens = 10 ** rng.uniform(7.5, 9.5, 40), 10 ** rng.uniform(9, 11, 40)
    loss = (1.7 + 400 / params**0.34 + 1200 / tokens**0.35) * np.exp(0.003 * rng.standard_normal(40))
    path = tmp_path / "runs.csv"
    path.write_text(
        "params,tokens,loss\n"
        + "\n".join(f"{a},{b},{c}" for a, b, c in zip(params, tokens, loss, strict=True))
    )
    return path


def call(*arguments):
    return CliRunner().invoke(app, ["law", *map(str, arguments)], catch_exceptions=False)


def test_prints_the_law_and_its_trust(runs):
    result = call(runs, "--bootstraps", 20)
    assert result.exit_code == 0
    for words in ("L = E + A/N^alpha", "left-out coverage", "90 % interval", "worst-fitted"):
        assert words in result.stdout


def test_a_file_alone_is_a_file_of_runs(runs):
    result = CliRunner().invoke(app, [str(runs), "--bootstraps", "20"], catch_exceptions=False)
    assert result.exit_code == 0
    assert "L = E + A/N^alpha" in result.stdout
    missing = CliRunner().invoke(app, ["nowhere.csv"])
    assert isinstance(missing.exception, UsageError)


def test_json_is_one_document(runs):
    document = json.loads(call(runs, "--bootstraps", 20, "--json").stdout)
    assert document["parameters"]["alpha"] == pytest.approx(0.34, abs=0.08)
    assert len(document["covariance"]["rows"]) == 5
    assert document["influence"]


def test_out_writes_a_law_that_reads_and_is_not_overwritten(runs, tmp_path):
    out = tmp_path / "law.toml"
    call(runs, "--bootstraps", 20, "--out", out, "--name", "mine")
    assert read_law(out.read_text(), where="law.toml").name == "mine"
    with pytest.raises(UsageError, match="exists already"):
        call(runs, "--bootstraps", 20, "--out", out)
    call(runs, "--bootstraps", 20, "--out", out, "--force")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((), "no file"),
        (("--shipped", "chinchilla"), "--data FOLDER"),
        (("--shipped", "nope", "--data", "."), "shipped law"),
        (("RUNS", "--where", "nonsense"), "column=value"),
        (("RUNS", "--form", "nope"), "form"),
    ],
)
def test_bad_calls_are_explained(runs, arguments, message):
    with pytest.raises(UsageError, match=message):
        call(*(runs if a == "RUNS" else a for a in arguments))
