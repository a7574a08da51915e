"""What a run leaves for others: checkpoints for transformers, logs for services, the board; and what it reads."""

from __future__ import annotations

import json
import sys
from dataclasses import replace
from types import SimpleNamespace

import pytest

torch = pytest.importorskip("torch")

from shapewright.architecture.shape import Block, DeltaNet, DenseFFN, Norm, SelfAttention, Shape  # noqa: E402
from shapewright.errors import (  # noqa: E402
    DocumentError,
    MissingPackageError,
    NotCoveredError,
    UnknownNameError,
    UsageError,
)
from shapewright.lab.board import Board  # noqa: E402
from shapewright.lab.corpus import read_corpus  # noqa: E402
from shapewright.lab.export import config_of, write_checkpoint  # noqa: E402
from shapewright.lab.loggers import logger  # noqa: E402
from shapewright.lab.nets import Net, initialise  # noqa: E402
from shapewright.lab.state import save_checkpoint  # noqa: E402

pytestmark = pytest.mark.torch

ATTENTION = SelfAttention(heads=4, kv_heads=2, head_dim=8)


def shape(mixer=ATTENTION, **block):
    return Shape(name="small", vocab_size=256, hidden_size=32, context_length=64, tied_embeddings=True,
                 blocks=(Block(mixer=mixer, channel=DenseFFN(ffn_size=88), count=2, **block),))  # fmt: skip


@pytest.mark.parametrize(
    ("chosen", "family"),
    [
        (shape(), "llama"),
        (shape(replace(ATTENTION, window=32)), "mistral"),
        (shape(replace(ATTENTION, qk_norm="head")), "qwen3"),
        (shape(replace(ATTENTION, qkv_bias=True)), "qwen2"),
        (shape(replace(ATTENTION, qk_norm="full"), norm_placement="output"), "olmo2"),
    ],
)
def test_transformers_loads_the_checkpoint_and_says_the_same(chosen, family, tmp_path):
    transformers = pytest.importorskip("transformers")
    net = Net(chosen)
    initialise(net, std=0.2, output_std=0.1, seed=0)
    (tmp_path / "run").mkdir()
    save_checkpoint(tmp_path / "run" / "checkpoint.pt", {"net": net.state_dict()})
    write_checkpoint(chosen, tmp_path / "run", tmp_path / "out")
    assert json.loads((tmp_path / "out" / "config.json").read_text())["model_type"] == family
    theirs, found = transformers.AutoModelForCausalLM.from_pretrained(
        tmp_path / "out", output_loading_info=True
    )
    assert not found["missing_keys"]
    assert not found["unexpected_keys"]
    tokens = torch.randint(256, (2, 48))
    with torch.no_grad():
        assert torch.allclose(net(tokens), theirs.eval()(tokens).logits, atol=1e-4)


def test_a_shape_without_a_family_is_refused_before_it_trains():
    with pytest.raises(NotCoveredError):
        config_of(shape(DeltaNet(key_heads=2, value_heads=2, key_dim=8, value_dim=8)))
    biased = SelfAttention(heads=4, kv_heads=4, head_dim=8, rotary_fraction=0.0, qkv_bias=True, out_bias=True)
    plain = Shape(
        name="gpt2", vocab_size=256, hidden_size=32, learned_positions=64, tied_embeddings=True,
        final_norm=Norm(kind="layernorm", bias=True),
        blocks=(Block(mixer=biased, channel=DenseFFN(ffn_size=128, gated=False, bias=True), count=2,
                      norm=Norm(kind="layernorm", bias=True)),),
    )  # fmt: skip
    with pytest.raises(NotCoveredError, match="renamed for llama"):
        config_of(plain)


RECORD = SimpleNamespace(step=10, steps=100, loss=1.5, learning_rate=0.01, tokens=640, tokens_per_s=3200.0,
                         step_time_s=0.02, predicted_step_time_s=None, elapsed_s=0.2)  # fmt: skip


def stand_in(told, **changes):
    return SimpleNamespace(**{"init": lambda **k: told.append(k), "log": lambda v, step: told.append((step, v)),
                              "finish": lambda: told.append("finished")} | changes)  # fmt: skip


@pytest.mark.parametrize("name", ["wandb", "trackio"])
def test_services_get_the_numbers_at_their_steps(name, monkeypatch, tmp_path):
    told = []
    monkeypatch.setitem(sys.modules, name, stand_in(told))
    with logger(name, tmp_path / "run", "64x2") as watch:
        watch(RECORD)
    place = {"dir": str(tmp_path / "run")} if name == "wandb" else {}
    assert told[0] == {"project": "shapewright-64x2", "name": "run", **place}
    assert told[1][0] == 10
    assert told[1][1]["loss"] == 1.5
    assert "predicted_step_time_s" not in told[1][1]
    assert told[2] == "finished"


def test_a_service_that_fails_is_told_once_and_prints_nothing_on_stdout(monkeypatch, tmp_path, capsys):
    def refuse(*args, **kwargs):
        print("chatter")
        raise RuntimeError("no space\nmore")

    remarks = []
    monkeypatch.setitem(sys.modules, "trackio", stand_in([], log=refuse))
    with logger("trackio", tmp_path, "64x2", remarks.append) as watch:
        watch(RECORD)
        watch(RECORD)
    assert remarks == ["trackio failed and is left alone; the run's own log goes on: no space"]
    assert capsys.readouterr().out == ""
    monkeypatch.setitem(sys.modules, "wandb", stand_in([], init=refuse))
    with pytest.raises(UsageError, match="wandb does not start") as caught, logger("wandb", tmp_path, "x"):
        pass
    assert "WANDB_MODE=offline" in caught.value.fix


def test_tensorboard_reads_back_what_was_logged(tmp_path):
    pytest.importorskip("tensorboard")
    from tensorboard.backend.event_processing.event_file_loader import EventFileLoader

    with logger("tensorboard", tmp_path, "64x2") as watch:
        watch(RECORD)
        watch(replace_record(step=20, loss=1.25))
    (path,) = (tmp_path / "tensorboard").iterdir()
    found = {
        (value.tag, event.step): value.tensor.float_val[0]
        for event in EventFileLoader(str(path)).Load()
        for value in event.summary.value
    }
    assert (found["loss", 10], found["loss", 20]) == (1.5, 1.25)
    assert found["learning_rate", 10] == pytest.approx(0.01)
    assert ("predicted_step_time_s", 10) not in found


def test_wandb_keeps_a_run_offline(monkeypatch, tmp_path, capsys):
    pytest.importorskip("wandb")
    monkeypatch.setenv("WANDB_MODE", "offline")
    with logger("wandb", tmp_path, "64x2") as watch:
        watch(RECORD)
    assert list(tmp_path.glob("wandb/offline-run-*/run-*.wandb"))
    assert capsys.readouterr().out == ""


def test_trackio_keeps_a_run_on_this_machine(monkeypatch, tmp_path, capsys):
    monkeypatch.setenv("TRACKIO_DIR", str(tmp_path / "kept"))
    pytest.importorskip("trackio")
    with logger("trackio", tmp_path, "64x2") as watch:
        watch(RECORD)
    assert list((tmp_path / "kept").iterdir())
    assert capsys.readouterr().out == ""


def test_a_logger_that_is_not_there_is_said(monkeypatch, tmp_path):
    monkeypatch.setitem(sys.modules, "wandb", None)
    with pytest.raises(MissingPackageError, match="wandb"), logger("wandb", tmp_path, "x"):
        pass
    with pytest.raises(UnknownNameError, match="trackio"), logger("tracko", tmp_path, "x"):
        pass


def test_the_board_shows_loss_speed_and_what_was_predicted():
    from rich.console import Console

    figure = SimpleNamespace(value=1.2)
    training = SimpleNamespace(
        setup=SimpleNamespace(shape=shape(), batch=2, seq_len=32), predicted_loss=figure, predicted_step=None
    )
    board = Board(training, peak=1e10)
    console = Console(width=80, record=True)
    for loss in (3.0, 2.0, 1.0):
        panel = board.show(replace_record(loss=loss, predicted_step_time_s=0.025))
    console.print(panel)
    text = console.export_text()
    assert "█▅▁" in text or "█▄▁" in text
    assert "predicted at the end 1.2000" in text
    assert "predicted 25.0 (-20%)" in text
    mfu = board.step_flops / 0.02 / 1e10
    assert f"MFU {mfu:.0%}" in text


def replace_record(**changes):
    return SimpleNamespace(**{**vars(RECORD), **changes})


def test_rows_of_json_lines_and_parquet_are_text(tmp_path):
    lines = [json.dumps({"id": i, "text": f"row {i} " * 20}) for i in range(40)]
    (tmp_path / "a.jsonl").write_text("\n".join(lines) + "\n")
    corpus = read_corpus(tmp_path / "a.jsonl")
    assert b"row 3 row 3" in corpus.train.tobytes()
    assert b'"text"' not in corpus.train.tobytes()
    arrow = pytest.importorskip("pyarrow")
    import pyarrow.parquet as parquet

    table = arrow.table({"n": [1] * 40, "content": [f"row {i} " * 20 for i in range(40)]})
    parquet.write_table(table, tmp_path / "b.parquet")
    same = read_corpus(tmp_path / "b.parquet")
    assert same.train.tobytes() == corpus.train.tobytes()
    (tmp_path / "c.jsonl").write_text('{"a": "x", "b": "y"}\n')
    with pytest.raises(DocumentError, match="no field 'text'"):
        read_corpus(tmp_path / "c.jsonl")
    (tmp_path / "d.jsonl").write_text("{broken\n")
    with pytest.raises(DocumentError, match="line 1 is no JSON"):
        read_corpus(tmp_path / "d.jsonl")
    (tmp_path / "e.parquet").write_bytes(b"nothing")
    with pytest.raises(DocumentError, match="no Parquet"):
        read_corpus(tmp_path / "e.parquet")


def test_a_tokenizer_makes_tokens_whose_losses_stay_comparable(tmp_path):
    tokenizers = pytest.importorskip("tokenizers")
    from tokenizers import models, pre_tokenizers, trainers

    text = "the quick brown fox jumps over the lazy dog\n" * 200
    (tmp_path / "text.txt").write_text(text)
    made = tokenizers.Tokenizer(models.BPE())
    made.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    made.train_from_iterator(
        [text],
        trainers.BpeTrainer(
            vocab_size=300, initial_alphabet=pre_tokenizers.ByteLevel.alphabet(), show_progress=False
        ),
    )
    made.save(str(tmp_path / "tokenizer.json"))
    plain, corpus = (
        read_corpus(tmp_path / "text.txt"),
        read_corpus(tmp_path / "text.txt", tmp_path / "tokenizer.json"),
    )
    assert corpus.vocab_size == made.get_vocab_size()
    assert corpus.train.max() < corpus.vocab_size
    assert corpus.bytes_per_token == pytest.approx(len(plain.held_out) / len(corpus.held_out))
    assert corpus.bytes_per_token > 2
    assert corpus.digest != plain.digest
    with pytest.raises(UsageError, match="is no tokenizer"):
        read_corpus(tmp_path / "text.txt", tmp_path / "text.txt")


def test_a_model_of_images_is_estimated_and_learns_the_digits(tmp_path):
    pytest.importorskip("sklearn")
    from typer.testing import CliRunner

    import shapewright as sw
    from shapewright.architecture.shape import Patches
    from shapewright.cli.main import app
    from shapewright.search.joint import Options

    mixer = SelfAttention(heads=2, kv_heads=2, head_dim=16, causal=False, rotary_fraction=0.0)
    images = Shape(
        name="vit", vocab_size=10, hidden_size=32, patches=Patches(image_size=8, patch_size=2, channels=1),
        learned_positions=17, blocks=(Block(mixer=mixer, channel=DenseFFN(ffn_size=64), count=1),),
    )  # fmt: skip
    design = sw.estimate(
        images, "laptop_8core", tokens=60 * 32 * 17, options=Options(global_batch=32, precision="fp32")
    )
    assert design.run.sequence_length == 17
    assert design.predicted.loss is design.run.law is None
    assert any("no shipped law is of images" in each.text for each in design.assumptions)
    with pytest.raises(UsageError, match=r"seq_len \(=64\) is not that of an image \(=17\)"):
        sw.estimate(images, "laptop_8core", options=Options(seq_len=64))
    path = tmp_path / "vit.json"
    design.save(path)

    def train(*words):
        return CliRunner().invoke(app, ["train", str(path), *words, "--out", str(tmp_path / "run")])

    done = train("--data", "digits", "--json")
    told = json.loads(done.stdout)
    assert told["held_out_loss"] < 2.0 < 2.303  # ln 10 is a guess
    assert told["bits_per_byte"] is None
    assert told["corpus"] == "scikit-learn digits"
    assert "1,461 images to train on" in done.stderr
    wrong = train("--data", str(path))
    assert isinstance(wrong.exception, UsageError)
    assert "does not suit" in str(wrong.exception)
