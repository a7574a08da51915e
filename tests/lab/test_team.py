"""Several processes train as one: the same text, losses and weights, and each other's checkpoints."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from typing import Any

import pytest

torch = pytest.importorskip("torch")

import shapewright as sw  # noqa: E402
from shapewright.errors import MeasurementError, NotCoveredError, UsageError  # noqa: E402
from shapewright.lab import team as module  # noqa: E402
from shapewright.lab.learn import read_run  # noqa: E402
from shapewright.lab.nets import Net, initialise  # noqa: E402
from shapewright.lab.state import load_checkpoint  # noqa: E402
from shapewright.lab.team import Layout, choose_layout, started, team_of  # noqa: E402
from shapewright.lab.train import train  # noqa: E402
from shapewright.plan.parallel import SHARDING, Plan  # noqa: E402
from shapewright.search.joint import Options  # noqa: E402

pytestmark = pytest.mark.torch

RUN = Path(__file__).with_name("run_team.py")
SAME = {"rel": 1e-5}


@pytest.fixture(scope="module")
def script() -> Any:
    spec = spec_from_file_location("run_team", RUN)
    assert spec is not None
    assert spec.loader is not None
    loaded = module_from_spec(spec)
    spec.loader.exec_module(loaded)
    return loaded


@pytest.fixture(scope="module")
def folder(script: Any, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What all cases left, and the runs of one process beside them."""
    folder = tmp_path_factory.mktemp("team")
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    (folder / "resumed").mkdir()

    def cut(record: Any) -> None:
        raise InterruptedError

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("shapewright.lab.train.SAVE_EVERY_S", 0.0)
        with pytest.raises(InterruptedError):
            train(script.TRAINING, script.corpus(), folder / "resumed" / "cut", watch=cut)
    for name, training in (("one", script.TRAINING), ("short", script.SHORT), ("cut", script.CUT_TRAINING)):
        outcome = train(training, script.corpus(), folder / name)
        (folder / f"{name}.json").write_text(json.dumps(script.told_of(outcome, folder / name)))
    (folder / "wrong" / "damaged").mkdir(parents=True)
    (folder / "wrong" / "file").write_text("")
    whole = (folder / "one" / "checkpoint.pt").read_bytes()
    (folder / "wrong" / "damaged" / "checkpoint.pt").write_bytes(whole[:-9])
    (folder / "command").mkdir()
    (folder / "command" / "text.txt").write_bytes(script.corpus().train.tobytes())
    options = Options(seq_len=16, global_batch=8, precision="fp32")
    small = sw.estimate(script.SHARED, "laptop_8core", tokens=1e4, options=options)
    small.save(folder / "command" / "design.json")
    torch.set_num_threads(before)
    subprocess.run(
        [sys.executable, str(RUN), str(folder)], check=True, env={**os.environ, "OMP_NUM_THREADS": "1"}
    )
    return folder


def answers(folder: Path, case: str) -> list[Any]:
    """What each process of a case saw."""
    told = [json.loads(path.read_text()) for path in sorted((folder / case).glob("told*.json"))]
    assert [each.get("trace") for each in told] == [None] * len(told)
    return [each["answer"] for each in told]


@pytest.mark.parametrize(("case", "one"), [("two", "short"), ("four", "short"), ("other_layers", "cut")])
def test_losses_and_weights_are_those_of_one_process(folder, case, one):
    expected = json.loads((folder / f"{one}.json").read_text())
    whole = load_checkpoint(folder / one / "checkpoint.pt")
    told = answers(folder, case)
    for rank, answer in enumerate(told):
        for i, run in enumerate(answer):
            assert run["losses"] == pytest.approx(expected["losses"], **SAME)
            assert run["held_out"] == pytest.approx(expected["held_out"], **SAME)
            assert run["heard"] == ([6] if rank == 0 else [])
            contents = load_checkpoint(folder / case / f"run{i}" / "checkpoint.pt")
            assert contents["net"].keys() == whole["net"].keys()
            for name, weight in whole["net"].items():
                assert torch.allclose(contents["net"][name], weight, atol=2e-4), name
            for i, state in whole["optimizer"]["state"].items():
                assert contents["optimizer"]["state"][i]["exp_avg"].shape == state["exp_avg"].shape


def test_a_run_goes_on_in_other_processes_and_ends_alike(folder):
    expected = json.loads((folder / "one.json").read_text())
    for answer in answers(folder, "resumed"):
        assert answer["said"] == "5 interrupted after step 10"
        assert answer["step"] == 10
        assert answer["losses"] == pytest.approx(expected["losses"], **SAME)
        assert answer["held_out"] == pytest.approx(expected["held_out"], **SAME)


def test_what_is_wrong_is_said_in_every_process(folder):
    first, second = answers(folder, "wrong")
    assert first == second
    starts = {
        "batch": "2 a batch of 3 sequences does not divide over 2", "held": "5 ", "differ": "2 the processes were told",
        "nan": "5 the loss is nan at step 1", "damaged": "5 ", "full": "5 ", "heads": "2 3 heads do not divide",
        "columns": "2 41 feed-forward columns", "experts": "4 ExpertsLayer", "lstm": "4 a layer of LSTMLayer",
    }  # fmt: skip
    assert {name: text[: len(starts[name])] for name, text in first.items()} == starts
    assert "damaged" in first["damaged"]
    assert "cannot be written" in first["held"] + first["full"]


def test_the_command_line_speaks_once_and_refuses_what_does_not_divide(folder):
    (run, again, odd), (run1, again1, odd1) = answers(folder, "command")
    assert (run["code"], run1["code"], run1["out"]) == (0, 0, "")
    document = json.loads(run["out"])
    assert (document["steps"], document["processes"]) == (10, 2)
    ran = read_run(folder / "command" / "one")
    assert (ran.result["processes"], ran.design.shape.name) == (2, "16x1")
    assert (again["code"], again1["code"]) == (2, 2)
    assert "holds a run already" in again["error"]
    assert (odd["code"], odd1["code"], odd1["out"]) == (2, 2, "")
    assert "--tp (=3) does not divide the number of processes (=2)" in odd["error"]


def test_collectives_are_timed_as_long_as_the_slowest_process(folder):
    first, second, third = answers(folder, "timed")
    assert first == second == third
    assert {kind for kind, _, _ in first} == {"all_reduce", "all_gather", "reduce_scatter", "all_to_all"}
    # 64 floats are cut into 7 x 9: every process's part is cut again for three.
    assert {size for _, size, _ in first} == {252, 4 * 9 * (2**14 // 9)}
    assert all(seconds > 0 for _, _, seconds in first)


def test_the_layout_is_the_plans_or_what_was_asked_for():
    sharded = Plan(tp=2, dp_shard=4, dp_replicate=2, sharding=SHARDING.index("parameters"))
    assert choose_layout(sharded, 16, device="cuda") == Layout(replicate=2, shard=4, tp=2)
    assert choose_layout(Plan(dp_shard=4, sharding=1), 4, device="cuda") == Layout(shard=4, regather=False)
    assert choose_layout(Plan(dp_shard=4, sharding=0), 4, device="cuda") == Layout(replicate=4)
    assert choose_layout(sharded, 1, device="cuda") == Layout()
    assert choose_layout(Plan(), 3, device="cuda") == Layout(shard=3)
    assert choose_layout(sharded, 6, tp=3, sharding="none", device="cuda") == Layout(replicate=2, tp=3)
    here = {"device": "cpu"}
    assert choose_layout(Plan(dp_shard=4, sharding=1), 4, **here) == Layout(replicate=4), "memory is one"
    assert choose_layout(Plan(), 3, **here) == Layout(replicate=3)
    assert choose_layout(sharded, 16, **here) == choose_layout(sharded, 16, device="cuda")
    with pytest.raises(UsageError, match="8 processes were started"):
        choose_layout(sharded, 8, device="cuda")
    with pytest.raises(NotCoveredError, match=r"pp \(=2\)"):
        choose_layout(Plan(pp=2), 2, device="cuda")
    with pytest.raises(UsageError, match="'all'"):
        choose_layout(Plan(), 2, sharding="all", device="cuda")


def test_processes_are_torchruns(monkeypatch):
    for name in module.VARIABLES:
        monkeypatch.delenv(name, raising=False)
    assert started() == 1
    with (
        pytest.raises(UsageError, match="needs 2 processes, and 1 run") as caught,
        team_of(Layout(tp=2), "cpu"),
    ):
        pass
    assert "torchrun --nproc-per-node 2" in caught.value.fix
    monkeypatch.setenv("WORLD_SIZE", "2")
    with pytest.raises(UsageError, match="lacks RANK, LOCAL_RANK, MASTER_ADDR, MASTER_PORT"):
        started()
    for name, value in zip(module.VARIABLES, ("1", "1", "2", "127.0.0.1", "1"), strict=True):
        monkeypatch.setenv(name, value)
    monkeypatch.setattr("torch.distributed.is_gloo_available", lambda: False)
    with pytest.raises(NotCoveredError, match="built without gloo"), team_of(Layout(tp=2), "cpu"):
        pass
    monkeypatch.undo()


def test_a_missing_process_is_said(monkeypatch):
    from datetime import timedelta

    for name, value in zip(module.VARIABLES, ("1", "1", "2", "127.0.0.1", "9"), strict=True):
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(module, "PATIENCE", timedelta(seconds=0.1))
    with (
        pytest.raises(MeasurementError, match=r"do not find each other at 127.0.0.1:9"),
        team_of(Layout(tp=2), "cpu"),
    ):
        pass


def test_every_weight_follows_the_seed(script):
    one, other = (Net(script.CUT), Net(script.CUT))
    for net in (one, other):
        initialise(net, std=0.1, output_std=0.05, seed=3)
    for (name, weight), same in zip(one.named_parameters(), other.parameters(), strict=True):
        assert torch.equal(weight, same), name
