"""The loop closes: a run moves the machine's file and a local law, and the next prediction is nearer and says why."""

from __future__ import annotations

import json
import math
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

import shapewright as sw
from shapewright.architecture.shape import Block, DenseFFN, SelfAttention, Shape
from shapewright.cli.main import app
from shapewright.designs.document import Design
from shapewright.errors import DocumentError, NotCoveredError, UsageError
from shapewright.hardware.accelerator_file import save_accelerator
from shapewright.lab.accelerator import describe
from shapewright.lab.bench import Measured
from shapewright.lab.learn import observation, read_run
from shapewright.scaling.law import load_law, predict_loss
from shapewright.scaling.local import Observation, updated
from shapewright.search.joint import Options

pytestmark = pytest.mark.torch

SHAPE = Shape(
    name="32x2", vocab_size=256, hidden_size=32, tied_embeddings=True,
    blocks=(Block(mixer=SelfAttention(heads=2, kv_heads=2, head_dim=16), channel=DenseFFN(ffn_size=88), count=2),),
)  # fmt: skip
STEP = 0.02
LOSS = 2.4


def estimated(law: str = "stdlib_bytes") -> Design:
    options = Options(seq_len=128, global_batch=4, precision="fp32", law=law)
    return sw.estimate(SHAPE, "this.toml", tokens=600 * 512, options=options)


def run_folder(folder: Path, name: str, *, step: float = STEP, loss: float = LOSS, **changes: object) -> Path:
    """A finished run as ``shapewright train`` leaves it."""
    design = estimated()
    at = folder / name
    at.mkdir()
    (at / "design.json").write_text(design.to_json())
    assert design.recipe is not None
    result = {
        "identity": name * 4, "precision": "fp32", "micro_batch": int(design.plan.micro_batch), "steps": 600,
        "tokens": 600 * 512, "step_time_s": step, "held_out_loss": loss, "corpus": "Python 3.11.9 standard library",
        "vocab_size": 256, "processes": 1, "device": "cpu", "threads": 1, "tuned": False, "finished": "2030-01-02",
        "learning_rate": design.recipe.learning_rate.value,
    } | changes  # fmt: skip
    (at / "result.json").write_text(json.dumps(result))
    times = step * (1 + 0.05 * np.sin(np.arange(60)))
    (at / "log.jsonl").write_text("".join(json.dumps({"step_time_s": t}) + "\n" for t in times))
    return at


@pytest.fixture
def here(measured: Measured, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    Path("this.toml").write_text(save_accelerator(*describe(measured)))
    return tmp_path


def fit_run(*words: str) -> dict:
    done = CliRunner().invoke(app, ["fit", "run", *words, "--json"])
    if done.exception is not None and not isinstance(done.exception, SystemExit):
        raise done.exception
    return json.loads(done.stdout)


def test_the_next_prediction_is_nearer_and_says_where_it_comes_from(here: Path) -> None:
    before = estimated()
    run = run_folder(here, "a")
    told = fit_run(str(run), "--on", "this.toml", "--law", "local.toml")
    after = estimated("local.toml")

    def miss(design: Design) -> tuple[float, float]:
        assert design.predicted.loss is not None
        loss = design.predicted.loss.value
        return abs(math.log(design.predicted.step_time_s.value / STEP)), abs(math.log(loss / LOSS))

    assert miss(after)[0] < 0.1 * miss(before)[0]
    assert miss(after)[1] < 0.6 * miss(before)[1]
    step, loss = after.predicted.step_time_s, after.predicted.loss
    assert loss is not None
    assert step.kind == loss.kind == "fitted"
    assert "moved by 1 training run here, last on 2030-01-02" in step.source
    assert loss.source.startswith("law local.toml: ")
    assert "moved by 1 training run on this machine" in loss.source
    text = " ".join(each.text for each in after.assumptions)
    assert text.count("moved by 1 training run") == 2
    assert told["runs"][0]["step_time_s"]["predicted_after"] == pytest.approx(step.value, rel=0.01)
    assert told["runs"][0]["loss"]["predicted_after"] == pytest.approx(loss.value, rel=1e-3)


def test_nothing_is_lost_and_a_run_counts_once(here: Path) -> None:
    original = Path("this.toml").read_text()
    first, second = run_folder(here, "a"), run_folder(here, "b", step=1.1 * STEP, loss=1.02 * LOSS)
    fit_run(str(first), "--on", "this.toml", "--law", "local.toml")
    between = Path("this.toml").read_text(), Path("local.toml").read_text()
    told = fit_run(str(second), "--on", "this.toml", "--law", "local.toml")
    assert [w["kept_as"] for w in told["written"]] == ["this.2.toml", "local.1.toml"]
    assert Path("this.1.toml").read_text() == original
    assert (Path("this.2.toml").read_text(), Path("local.1.toml").read_text()) == between
    # Two runs of one kind count alike: what is predicted lies between them.
    assert STEP < told["runs"][0]["step_time_s"]["predicted_after"] < 1.1 * STEP
    now = Path("this.toml").read_text(), Path("local.toml").read_text()
    with pytest.raises(UsageError, match=r"moved this.toml already"):
        fit_run(str(first), "--on", "this.toml")
    with pytest.raises(UsageError, match="moved this law already"):
        fit_run(str(second), "--law", "local.toml")
    with pytest.raises(UsageError, match="neither"):
        fit_run(str(second))
    assert (Path("this.toml").read_text(), Path("local.toml").read_text()) == now


def test_only_a_file_of_ones_own_is_moved(here: Path) -> None:
    run = run_folder(here, "a")
    with pytest.raises(UsageError, match=r"--on \(='laptop_8core'\) is not a file here"):
        fit_run(str(run), "--on", "laptop_8core")
    assert fit_run(str(run), "--on", "this")["written"] == [{"path": "this.toml", "kept_as": "this.1.toml"}]


@pytest.mark.parametrize(
    ("changes", "option", "error", "match"),
    [
        ({"processes": 2}, "--on", UsageError, "several processes"),
        ({"tuned": True}, "--on", UsageError, "tuned kernels"),
        ({"threads": 2}, "--on", UsageError, "2 threads"),
        ({"device": "cuda"}, "--on", UsageError, "cuda device"),
        ({"steps": 100}, "--law", UsageError, "fewer than 500"),
        ({"learning_rate": 1.0}, "--law", UsageError, "rate"),
        ({"vocab_size": 512}, "--law", NotCoveredError, "nats per symbol"),
    ],
)
def test_a_run_that_says_nothing_moves_nothing(here: Path, changes, option, error, match) -> None:
    run = run_folder(here, "a", **changes)
    before = Path("this.toml").read_text()
    with pytest.raises(error, match=match):
        fit_run(str(run), option, "this.toml" if option == "--on" else "local.toml")
    assert Path("this.toml").read_text() == before
    assert not Path("local.toml").exists()


def test_a_folder_without_a_finished_run_is_refused(here: Path) -> None:
    with pytest.raises(DocumentError, match="no finished run"):
        read_run(here)
    run = run_folder(here, "a")
    (run / "result.json").write_text("{}")
    with pytest.raises(DocumentError, match="lacks identity"):
        read_run(run)
    (run / "result.json").write_bytes(b"\x00\xff")
    with pytest.raises(DocumentError, match="no finished run"):
        read_run(run)


def test_a_law_of_another_text_moves_its_level_first(here: Path) -> None:
    law = load_law("stdlib_bytes")
    seen = observation(read_run(run_folder(here, "a", loss=3.0, corpus="novels/")), law)
    assert not seen.same_text
    moved = updated(law, seen, name="novels", command="")

    def ratio(tokens: float) -> float:
        sizes = {"active_params": 3e5, "embedding_params": 1e4, "width": 64, "depth": 4}
        return float(
            predict_loss(moved, tokens=tokens, **sizes).loss / predict_loss(law, tokens=tokens, **sizes).loss
        )

    level = 3.0 / float(
        predict_loss(
            law, tokens=seen.tokens, active_params=seen.size, embedding_params=0.0, width=32, depth=2
        ).loss
    )
    assert ratio(seen.tokens) == pytest.approx(level, rel=0.1)
    assert ratio(10 * seen.tokens) == pytest.approx(ratio(seen.tokens), rel=0.1)
    assert moved.dataset.startswith("novels/ (law of Python")
    with pytest.raises(UsageError, match="a law is of one text"):
        observation(read_run(run_folder(here, "b")), moved)


def test_the_update_is_that_of_least_squares() -> None:
    """Against the normal equations of the linearised problem, solved outright."""
    law = load_law("stdlib_bytes")
    seen = Observation(
        name="x", loss=2.0, expected=1.0, size=2e5, tokens=3e6, width=64, depth=3, text="", same_text=True
    )
    moved = updated(law, seen, name="x", command="")
    flat = {
        "size": np.array([2e5]),
        "tokens": np.array([3e6]),
        "width": np.array([64.0]),
        "depth": np.array([3.0]),
    }
    value, gradient = law.form.evaluate(law.theta, flat, True)
    g = np.array([part[0] for part in gradient])
    free = np.diag(np.array(law.covariance)) > 0
    precision = (
        np.linalg.inv(np.array(law.covariance)[np.ix_(free, free)])
        + np.outer(g[free], g[free]) / law.residual_sd**2
    )
    shift = np.linalg.solve(precision, g[free] * (np.log(2.0) - np.log(value[0])) / law.residual_sd**2)
    assert (moved.theta - law.theta)[free] == pytest.approx(shift, rel=1e-5)
    assert np.array(moved.covariance)[np.ix_(free, free)] == pytest.approx(
        np.linalg.inv(precision), rel=1e-3, abs=1e-9
    )
