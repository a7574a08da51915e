"""Training: a cut run ends with the same weights, what goes wrong is said, and nothing is lost."""

from __future__ import annotations

import json
import os
import signal
import time
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from shapewright.architecture.shape import Block, DenseFFN, SelfAttention, Shape  # noqa: E402
from shapewright.errors import MeasurementError, UsageError  # noqa: E402
from shapewright.lab.corpus import Corpus  # noqa: E402
from shapewright.lab.schedule import Schedule, decay_start  # noqa: E402
from shapewright.lab.state import Setup, TrainState, load_checkpoint, only_one, save_checkpoint  # noqa: E402
from shapewright.lab.train import train  # noqa: E402
from shapewright.lab.training import Training, faster_precision, training_of  # noqa: E402

pytestmark = pytest.mark.torch

SETUP = Setup(
    shape=Shape(
        name="16x1", vocab_size=256, hidden_size=16, tied_embeddings=True,
        blocks=(Block(mixer=SelfAttention(heads=2, kv_heads=2, head_dim=8), channel=DenseFFN(ffn_size=40), count=1),),
    ),
    seq_len=16, batch=4, micro_batch=2, precision="fp32", weight_decay=0.1, beta1=0.9, beta2=0.99, epsilon=1e-8,
    gradient_clip=1.0, init_std=0.1, output_init_std=0.05,
)  # fmt: skip
SCHEDULE = Schedule(kind="wsd", peak=0.01, final=0.0, warmup=3, steps=30, decay_from=24)
TRAINING = Training(setup=SETUP, schedule=SCHEDULE, minutes=None, predicted_step=None, predicted_loss=None)


@pytest.fixture(autouse=True)
def one_thread():
    """Threads that wait for each other on a shared machine make tiny steps a hundred times slower."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture
def corpus() -> Corpus:
    rng = np.random.default_rng(0)
    words = [rng.integers(97, 123, rng.integers(2, 8)).astype(np.uint8) for _ in range(40)]
    text = np.concatenate([np.append(words[i], np.uint8(32)) for i in rng.integers(0, 40, 3000)])
    return Corpus(name="made", train=text[2000:], held_out=text[:2000], num_files=1, skipped=())


def weights(folder) -> dict:
    return load_checkpoint(folder / "checkpoint.pt")["net"]


def same(one: dict, other: dict) -> bool:
    return all(torch.equal(one[name], other[name]) for name in one)


class CutError(Exception):
    """Stands for a run that was killed."""


def test_a_run_learns_and_reports(corpus, tmp_path):
    records = []
    training = replace(TRAINING, schedule=replace(SCHEDULE, steps=120, decay_from=96))
    outcome = train(training, corpus, tmp_path, watch=records.append)
    assert outcome.steps == 120
    assert outcome.tokens == 120 * 64
    assert outcome.held_out_loss < 3.2 < records[0].loss
    assert outcome.bits_per_byte == pytest.approx(outcome.held_out_loss / np.log(2))
    lines = [json.loads(line) for line in (tmp_path / "log.jsonl").read_text().splitlines()]
    assert [line["step"] for line in lines] == list(range(10, 121, 10))
    assert json.loads((tmp_path / "result.json").read_text())["steps"] == 120


def test_a_cut_run_goes_on_to_the_same_weights_and_log(corpus, tmp_path):
    whole, cut = tmp_path / "whole", tmp_path / "cut"
    train(TRAINING, corpus, whole)

    def interrupt(record):
        if record.step == 10:
            os.kill(os.getpid(), signal.SIGINT)

    with pytest.raises(MeasurementError, match="interrupted after step 10") as caught:
        train(TRAINING, corpus, cut, watch=interrupt)
    assert caught.value.exit_code == 5
    train(TRAINING, corpus, cut, resume=True)
    assert same(weights(whole), weights(cut))
    logs = [(folder / "log.jsonl").read_text().splitlines() for folder in (whole, cut)]
    assert [json.loads(line)["loss"] for line in logs[0]] == [json.loads(line)["loss"] for line in logs[1]]


def test_a_killed_run_loses_what_followed_its_checkpoint_and_nothing_else(corpus, tmp_path, monkeypatch):
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    train(TRAINING, corpus, whole)
    monkeypatch.setattr("shapewright.lab.train.SAVE_EVERY_S", 0.0)

    def kill(record):
        if record.step == 20:
            raise CutError

    with pytest.raises(CutError):
        train(TRAINING, corpus, killed, watch=kill)
    assert load_checkpoint(killed / "checkpoint.pt")["step"] == 19
    train(TRAINING, corpus, killed, resume=True)
    assert same(weights(whole), weights(killed))
    steps = [json.loads(line)["step"] for line in (killed / "log.jsonl").read_text().splitlines()]
    assert steps == [10, 20, 30]


def test_joules_are_counted_to_the_end_or_are_unknown(corpus, tmp_path, monkeypatch):
    class Made:
        kind = "made up"
        laps = 0

        def reset(self) -> None:
            """Nothing ran before."""

        def lap(self, own_s: float) -> float | None:
            Made.laps += 1
            return None if Made.laps == broken else 2.0

    broken = 0
    monkeypatch.setattr("shapewright.lab.train.counter_of", lambda device: Made())

    def interrupt(record):
        if record.step == 10:
            os.kill(os.getpid(), signal.SIGINT)

    with pytest.raises(MeasurementError):
        train(TRAINING, corpus, tmp_path / "a", watch=interrupt)
    found = train(TRAINING, corpus, tmp_path / "a", resume=True)
    assert (found.joules, found.energy) == (6.0, "made up"), "three lines of the log, two joules each"
    Made.laps, broken = 0, 2
    found = train(TRAINING, corpus, tmp_path / "b")
    assert (found.joules, found.energy) == (None, "")


def test_another_run_is_never_overwritten_or_mixed(corpus, tmp_path):
    train(TRAINING, corpus, tmp_path)
    with pytest.raises(UsageError, match="--resume"):
        train(TRAINING, corpus, tmp_path)
    other = replace(TRAINING, schedule=replace(SCHEDULE, peak=0.02))
    with pytest.raises(UsageError, match="another run"):
        train(other, corpus, tmp_path, resume=True)
    with pytest.raises(UsageError, match="no checkpoint"):
        train(TRAINING, corpus, tmp_path / "new", resume=True)
    with only_one(tmp_path / "held"), pytest.raises(MeasurementError, match="in use"):
        train(TRAINING, corpus, tmp_path / "held")


def test_a_loss_that_is_no_number_ends_the_run_before_the_weights(corpus, tmp_path):
    broken = replace(TRAINING, setup=replace(SETUP, init_std=float("inf")))
    with pytest.raises(MeasurementError, match="loss is nan at step 1"):
        train(broken, corpus, tmp_path)


@pytest.mark.parametrize("damage", [lambda d: d[:-100], lambda d: d[:500] + b"\x01" + d[501:], lambda d: b""])
def test_a_damaged_checkpoint_is_refused(corpus, tmp_path, damage):
    train(TRAINING, corpus, tmp_path)
    path = tmp_path / "checkpoint.pt"
    path.write_bytes(damage(path.read_bytes()))
    with pytest.raises(MeasurementError, match="damaged"):
        train(TRAINING, corpus, tmp_path, resume=True)


def test_a_full_disk_leaves_the_older_checkpoint(tmp_path, monkeypatch):
    path = tmp_path / "checkpoint.pt"
    save_checkpoint(path, {"step": 1})

    def full(descriptor):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(MeasurementError, match="No space left"):
        save_checkpoint(path, {"step": 2})
    assert load_checkpoint(path) == {"step": 1}
    assert [p.name for p in tmp_path.iterdir()] == ["checkpoint.pt"]


def test_a_file_that_may_not_grow_leaves_the_older_checkpoint(tmp_path):
    """The system's own refusal, which a full disk resembles."""
    import resource

    path = tmp_path / "checkpoint.pt"
    save_checkpoint(path, {"step": 1})
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (2000, before[1]))
    try:
        with pytest.raises(MeasurementError, match="File too large"):
            save_checkpoint(path, {"weights": torch.zeros(4000)})
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert load_checkpoint(path) == {"step": 1}


def test_a_folder_that_cannot_be_written_to_ends_with_5(corpus, tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(MeasurementError, match="cannot be written to") as caught:
        train(TRAINING, corpus, tmp_path / "file" / "run")
    assert caught.value.exit_code == 5


def test_the_clock_on_the_wall_is_never_asked(corpus, tmp_path, monkeypatch):
    def changed() -> float:
        raise AssertionError("somebody may set this clock")

    monkeypatch.setattr(time, "time", changed)
    assert train(TRAINING, corpus, tmp_path).steps == 30


def test_minutes_end_a_run_with_its_decay(corpus, tmp_path, monkeypatch):
    seconds = iter(np.arange(0.0, 1e4, 0.05))
    clock = SimpleNamespace(monotonic=lambda: float(next(seconds)), perf_counter=time.perf_counter,
                            process_time=time.process_time)  # fmt: skip
    monkeypatch.setattr("shapewright.lab.train.time", clock)
    open_end = Schedule(kind="wsd", peak=0.01, final=0.0, warmup=3, steps=None)
    records = []
    outcome = train(replace(TRAINING, schedule=open_end, minutes=0.1), corpus, tmp_path, watch=records.append)
    contents = load_checkpoint(tmp_path / "checkpoint.pt")
    assert contents["steps"] == outcome.steps
    assert 0.7 < contents["decay_from"] / outcome.steps < 0.9
    assert records[-1].learning_rate < 0.01 / 2


def test_gradients_do_not_depend_on_the_micro_batch(corpus):
    whole, pieces = (TrainState(replace(SETUP, micro_batch=m), corpus) for m in (4, 1))
    assert whole.take_step(0.01) == pytest.approx(pieces.take_step(0.01), rel=1e-6)
    for one, other in zip(whole.net.parameters(), pieces.net.parameters(), strict=True):
        assert torch.allclose(one, other, atol=1e-5)


def test_both_number_formats_are_tried_without_touching_a_run(corpus):
    best, times = faster_precision(TRAINING, corpus)
    assert set(times) == {"fp32", "bf16"}
    assert times[best] == min(times.values())


def test_bf16_learns_too(corpus, tmp_path):
    lower = replace(TRAINING, setup=replace(SETUP, precision="bf16"))
    assert train(lower, corpus, tmp_path).held_out_loss < 5.0


def test_schedules_warm_up_hold_and_decay():
    wsd = Schedule(kind="wsd", peak=1.0, final=0.0, warmup=10, steps=100, decay_from=decay_start(100, 0.2))
    rates = [wsd.rate(step) for step in range(100)]
    assert rates[0] == pytest.approx(0.1)
    assert set(rates[10:81]) == {1.0}
    assert rates[90] == pytest.approx(0.5)
    assert 0 < rates[99] <= 0.051
    cosine = replace(wsd, kind="cosine", final=0.1, decay_from=None)
    assert cosine.rate(55) == pytest.approx(0.55, abs=0.01)
    assert cosine.rate(100) == pytest.approx(0.1)
    assert replace(wsd, steps=None, decay_from=None).rate(10**6) == 1.0


@pytest.fixture(scope="module")
def design():
    from shapewright.designs.build import make_design
    from shapewright.search.budget import Budget
    from shapewright.search.joint import Options

    return make_design("laptop_8core", Budget(kind="time", value=60.0), Options())


def test_a_design_becomes_the_run_it_describes(design):
    found = training_of(design)
    recipe = design.recipe
    assert found.setup.batch == design.run.global_batch_sequences
    assert found.schedule.peak == recipe.learning_rate.value
    assert found.schedule.steps * found.setup.batch_tokens == pytest.approx(design.run.tokens.value, rel=0.05)
    assert found.predicted_loss is design.predicted.loss
    assert found.predicted_step is design.predicted.step_time_s
    other = training_of(design, steps=50, precision="bf16")
    assert (other.schedule.steps, other.setup.precision) == (50, "bf16")
    assert other.predicted_loss is other.predicted_step is None
    timed = training_of(design, minutes=1.0)
    assert timed.schedule.steps is None
    assert timed.predicted_loss is not None
    assert training_of(design, minutes=2.0).predicted_loss is None


def test_a_design_for_another_vocabulary_is_refused(design):
    with pytest.raises(UsageError, match="vocabulary"):
        training_of(replace(design, shape=replace(design.shape, vocab_size=50304)))
    with pytest.raises(UsageError, match="no recipe"):
        training_of(replace(design, recipe=None))
