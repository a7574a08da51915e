"""Tuning: what is timed, what the cost model leaves out, and that kernels change the time and not the result."""

from __future__ import annotations

from dataclasses import replace

import pytest

torch = pytest.importorskip("torch")

from shapewright.architecture.shape import Block, DeltaNet, DenseFFN, SelfAttention, Shape  # noqa: E402
from shapewright.lab import tune as module  # noqa: E402
from shapewright.lab.nets import Net, choose_kernels, initialise  # noqa: E402
from shapewright.lab.state import Setup  # noqa: E402
from shapewright.lab.tune import tune  # noqa: E402

pytestmark = pytest.mark.torch

FFN = DenseFFN(ffn_size=32)
SHAPE = Shape(
    name="both", vocab_size=256, hidden_size=16,
    blocks=(Block(mixer=SelfAttention(heads=2, kv_heads=1, head_dim=8), channel=FFN, count=1),
            Block(mixer=DeltaNet(key_heads=2, value_heads=2, key_dim=8, value_dim=8), channel=FFN, count=1)),
)  # fmt: skip
SETUP = Setup(shape=SHAPE, seq_len=64, batch=4, micro_batch=4, precision="fp32", weight_decay=0.1, beta1=0.9, beta2=0.99,
              epsilon=1e-8, gradient_clip=1.0, init_std=0.1, output_init_std=0.1)  # fmt: skip


@pytest.mark.parametrize(("block", "chunk"), [(16, 16), (None, 32), (256, None)])
def test_kernels_do_not_change_the_result(block, chunk):
    net = Net(SHAPE)
    initialise(net, std=0.2, output_std=0.2, seed=0)
    tokens = torch.randint(256, (2, 100))
    with torch.no_grad():
        before = net(tokens)
        choose_kernels(net, attention_block=block, scan_chunk=chunk)
        assert torch.allclose(net(tokens), before, atol=1e-4)


def seconds(setup: Setup) -> float:
    """A made machine: bf16 is twice as fast, micro-batches cost, blocks of 64 and chunks of 32 are best."""
    taken = 1.0 if setup.precision == "fp32" else 0.5
    taken *= 1.0 + 0.1 * (setup.batch / setup.micro_batch - 1)
    taken *= {64: 0.8, 128: 1.0, 256: 1.1, None: 3.0}[setup.attention_block]
    return taken * {None: 1.0, 16: 1.2, 32: 0.7, 64: 1.0}[setup.scan_chunk]


def test_one_choice_after_another_with_slow_ones_left_out(monkeypatch):
    monkeypatch.setattr(module, "shortest", lambda setup, corpus, device: seconds(setup))
    found = tune(replace(SETUP, micro_batch=2), None, predict=seconds)
    s = found.setup
    assert (s.precision, s.micro_batch, s.attention_block, s.scan_chunk) == ("bf16", 4, 64, 32)
    assert found.speedup == pytest.approx(1.1 * 2 / 0.8 / 0.7)
    assert {t.choice for t in found.trials} == {"format", "micro-batch", "attention", "scan"}
    pruned = tune(replace(SETUP, precision="bf16"), None, predict=seconds).trials[0]
    assert (pruned.choice, pruned.value, pruned.remark, pruned.seconds) == ("format", "fp32", "pruned", None)


def test_the_fastest_tile_of_a_width_is_kept_and_reaches_its_layer(monkeypatch):
    def timed(setup, corpus, device):
        return seconds(setup) * (0.9 if setup.tiles == ((32, 512),) else 1.0)

    trials = [
        module.Trial(
            choice="tile", value=f"{tile} of 32", seconds=tile * 1e-6, predicted=None, taken=tile == 512
        )
        for tile in (512, 1024)
    ]
    monkeypatch.setattr(module, "shortest", timed)
    monkeypatch.setattr(module, "_tiles", lambda setup: (trials, ((32, 512),)))
    found = tune(SETUP, None, device="cuda")
    assert found.setup.tiles == ((32, 512),)
    assert found.after_s == pytest.approx(timed(found.setup, None, "cuda"))
    net = Net(SHAPE)
    choose_kernels(net, attention_block=None, scan_chunk=None, tiles=dict(found.setup.tiles))
    assert [layer.ffn.tile for layer in net.layers] == [512, 512]


def test_a_candidate_that_fails_is_noted_and_not_taken(monkeypatch):
    def timed(setup, corpus, device):
        if setup.compiled or setup.precision == "bf16":
            raise RuntimeError("no such instruction\nmore")
        return seconds(setup)

    monkeypatch.setattr(module, "shortest", timed)
    found = tune(SETUP, None, compile=True)
    failed = [t for t in found.trials if t.seconds is None]
    assert [(t.choice, t.remark) for t in failed if t.choice == "format"] == [
        ("format", "no such instruction")
    ]
    assert failed[-1].choice == "compile"
    assert found.setup.precision == "fp32"
    assert not found.setup.compiled


def test_a_compiled_step_that_is_faster_is_kept(monkeypatch):
    monkeypatch.setattr(
        module, "shortest", lambda s, corpus, device: seconds(s) * (0.5 if s.compiled else 1.0)
    )
    found = tune(SETUP, None, compile=True)
    assert found.setup.compiled
    assert (found.trials[-1].choice, found.trials[-1].taken) == ("compile", True)


def test_it_runs_here(monkeypatch, tmp_path):
    from shapewright.lab.corpus import read_corpus

    monkeypatch.setattr(module, "STEPS", 1)
    text = tmp_path / "text.txt"
    text.write_bytes(b"abcdefgh " * 500)
    before = torch.get_num_threads()
    found = tune(SETUP, read_corpus(text))
    torch.set_num_threads(before)
    assert found.after_s <= found.before_s
    assert all(t.seconds is not None for t in found.trials)


@pytest.fixture(scope="module")
def design(tmp_path_factory):
    import shapewright as sw
    from shapewright.search.joint import Options

    path = tmp_path_factory.mktemp("design") / "design.json"
    options = Options(seq_len=64, global_batch=4, precision="fp32")
    sw.estimate(replace(SHAPE, blocks=SHAPE.blocks[:1]), "laptop_8core", tokens=1e5, options=options).save(
        path
    )
    return path


def command(design, *words):
    from typer.testing import CliRunner

    from shapewright.cli.main import app

    return CliRunner().invoke(app, ["tune", str(design), *words])


def test_the_command_says_what_tuning_bought_and_train_runs_as_chosen(design, monkeypatch, tmp_path):
    import json

    monkeypatch.setattr(module, "shortest", lambda setup, corpus, device: seconds(setup))
    (tmp_path / "text.txt").write_bytes(b"abcdefgh " * 500)
    done = command(
        design, "--data", str(tmp_path / "text.txt"), "--threads", "1", "--out", str(tmp_path / "t.json")
    )
    assert done.exit_code == 0
    told = json.loads((tmp_path / "t.json").read_text())
    assert (told["precision"], told["attention_block"], told["scan_chunk"]) == ("bf16", 64, None)
    assert told["tiles"] == []
    assert f"{told['before_s'] / told['after_s']:.2f}x" in done.stdout
    assert f"next: shapewright train {design} --tuned {tmp_path / 't.json'}" in done.stdout


def test_what_cannot_be_kept_is_said_before_anything_is_timed(design, monkeypatch, tmp_path):
    def timed(*arguments, **options):
        raise AssertionError("nothing is timed")

    monkeypatch.setattr(module, "shortest", timed)
    (tmp_path / "t.json").write_text("")
    for out, match in (
        (tmp_path / "t.json", "exists already"),
        (tmp_path / "t.json" / "x", "cannot be written to"),
    ):
        done = command(design, "--out", str(out))
        assert match in str(done.exception)
        assert done.exception.exit_code == 2


def test_an_interrupt_ends_with_5(design, monkeypatch, tmp_path):
    def interrupted(*arguments, **options):
        raise KeyboardInterrupt

    monkeypatch.setattr(module, "shortest", interrupted)
    done = command(design, "--out", str(tmp_path / "t.json"))
    assert done.exception.exit_code == 5
    assert not (tmp_path / "t.json").exists()
