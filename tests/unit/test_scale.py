"""From one device to a million: against a naive twin, by what must be so, and what is refused."""

from __future__ import annotations

import json
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from shapewright.architecture.graph import num_params
from shapewright.architecture.presets import NAMES, preset
from shapewright.cli.main import app
from shapewright.errors import InfeasibleError, UnknownNameError, UsageError
from shapewright.outlook.requests import architecture, scale_problem
from shapewright.outlook.scale import curve, step_seconds
from shapewright.outlook.scale_problem import Problem, device_counts, with_wires
from shapewright.outlook.scaling import crossings, scaling
from shapewright.plan.framework import KERNELS_ALONE
from shapewright.plan.layer import price_model
from shapewright.plan.shard import Split


@pytest.fixture(scope="module")
def problem() -> Problem:
    return scale_problem("h100_sxm", 2**20, seq_len=8192, tokens=2.0**22)


@pytest.mark.parametrize("name", NAMES)
def test_models_of_one_size_differ_in_the_primitive_alone(name: str) -> None:
    shape = preset(name, 1e9)
    if name != "moe":
        inner = float(num_params(shape)) - 2 * shape.vocab_size * shape.hidden_size
        assert inner == pytest.approx(1e9, rel=0.03)
    assert shape.hidden_size == preset("transformer", 1e9).hidden_size


def test_one_step_on_eight_devices_is_what_its_layers_add_up_to(problem: Problem) -> None:
    shape = preset("transformer", 1e9)
    found = curve(shape, problem, np.array([8])).points[0]
    split = found.split
    costs = price_model(
        shape, Split(tp=split["tp"], cp=split["cp"], ep=split["ep"]), micro_batch=split["micro_batch"], seq_len=8192,
        precision=problem.precision, framework=KERNELS_ALONE, model=problem.model, cluster=problem.cluster,
    )  # fmt: skip
    micro_batches = 512 / split["dp"] / split["micro_batch"]
    layers = shape.num_layers / split["pp"]
    stage = layers * float(np.ravel(costs.layer.forward * (1 + split["recompute"]) + costs.layer.backward)[0])
    ends = sum(float(np.ravel(x)[0]) for x in (costs.head.forward, costs.head.backward, costs.embedding.forward,
                                               costs.embedding.backward))  # fmt: skip
    others = sum(
        found.parts.get(n, 0.0) for n in ("bubble", "stage hops", "data-parallel wires", "optimizer")
    )
    assert found.seconds == pytest.approx(micro_batches * (stage + ends) + others)
    assert sum(found.parts.values()) == pytest.approx(found.seconds)


def test_more_devices_are_faster_and_less_efficient_and_send_no_less_than_the_bound(problem: Problem) -> None:
    for name in ("transformer", "gated_deltanet", "lstm", "moe"):
        points = curve(preset(name, 7e9), problem, device_counts("1..1e6")).points
        seconds = [p.seconds for p in points]
        # A count may force a worse split than half of it allows, but not by much.
        assert all(b <= 1.4 * a for a, b in pairwise(seconds)), name
        assert points[-1].efficiency < 0.05
        assert all(p.sent_over_bound is None or p.sent_over_bound > 0.9 for p in points), name
        assert all(p.joules_per_token and p.dollars_per_token for p in points)


def test_the_lstm_waits_for_its_steps_and_devices_do_not_help(problem: Problem) -> None:
    counts = device_counts("8,1024")
    lstm, transformer = (curve(preset(name, 7e9), problem, counts).points for name in ("lstm", "transformer"))
    assert (
        lstm[0].parts["span roof"] + lstm[0].parts.get("tensor-parallel wires", 0.0) > 0.6 * lstm[0].seconds
    )
    assert lstm[0].seconds > 3 * transformer[0].seconds
    assert lstm[1].seconds > 20 * transformer[1].seconds


def test_scans_overtake_attention_where_sequences_are_long() -> None:
    for seq_len, faster in ((2048, False), (131_072, True)):
        long = scale_problem("h100_sxm", 64, seq_len=seq_len, tokens=2.0**22)
        a, b = (step_seconds(preset(name, 7e9), long, 64) for name in ("transformer", "gated_deltanet"))
        assert (b < 0.8 * a) == faster


def test_weak_scaling_pays_for_the_batch(problem: Problem) -> None:
    weak = replace(problem, weak=True, tokens=16_384.0, critical_batch=4e6)
    points = curve(preset("transformer", 7e9), weak, device_counts("8,1024")).points
    assert points[1].efficiency / points[0].efficiency == pytest.approx(
        (1 + 8 * 16_384 / 4e6) / (1 + 1024 * 16_384 / 4e6), rel=0.05
    )
    assert points[1].loses == "critical batch"


def test_seldom_exchanges_save_slow_wires(problem: Problem) -> None:
    slow = with_wires(replace(problem, weak=True, tokens=16_384.0), beta=0.002)
    shape = preset("transformer", 1e9)
    times = {sync: step_seconds(shape, replace(slow, sync=sync), 4096) for sync in
             ("all-reduce", "compressed", "diloco", "streaming")}  # fmt: skip
    assert times["all-reduce"] > 1.5 * times["compressed"]
    assert times["all-reduce"] > 1.5 * times["diloco"]
    assert times["diloco"] > 1.02 * times["streaming"]
    # One message instead of a tree of them is what gossip saves.
    far = with_wires(replace(problem, weak=True, tokens=16_384.0), alpha=2000.0)
    gossip, diloco = (step_seconds(shape, replace(far, sync=sync), 4096) for sync in ("gossip", "diloco"))
    assert gossip < diloco


def test_break_even_wires_make_two_architectures_equal(problem: Problem) -> None:
    shapes = [preset(name, 7e9) for name in ("transformer", "gated_deltanet")]
    found = scaling(shapes, problem, device_counts("1024,8192"), at=8192)
    (even,) = found.break_evens
    assert even.latency_s is not None
    factor = even.latency_s / problem.cluster.tiers[-1].latency.value
    a, b = (step_seconds(shape, with_wires(problem, alpha=factor), 8192) for shape in shapes)
    assert b / a == pytest.approx(1.0, abs=0.08)
    assert len(found.curves) == 2
    assert len(crossings(found.curves)) == len(found.crossings)


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("5", "nearest that works: 4"),
        ("8..2", "runs backwards"),
        ("many", "is not a range"),
        ("0..8", "is not a range"),
    ],
)
def test_device_counts_that_are_none_are_refused(text: str, says: str) -> None:
    with pytest.raises(UsageError) as caught:
        device_counts(text)
    assert says in str(caught.value)


def test_what_cannot_be_held_or_filled_is_refused_with_the_nearest_that_works(problem: Problem) -> None:
    one = scale_problem("h100_sxm", 1, seq_len=8192, tokens=2.0**22)
    with pytest.raises(InfeasibleError) as caught:
        curve(preset("transformer", 70e9), one, np.array([1]))
    assert "do not fit" in str(caught.value)
    assert "nearest that works: 32 devices" in str(caught.value)
    short = replace(problem, tokens=8192.0)
    with pytest.raises(InfeasibleError) as caught:
        curve(preset("lstm", 1e9), short, np.array([2**20]))
    assert "finer than the work" in str(caught.value)
    with pytest.raises(UsageError, match="nearest that works: 8,192 tokens"):
        curve(preset("lstm", 1e9), replace(problem, tokens=100.0), np.array([8]))
    with pytest.raises(UnknownNameError):
        architecture("transfromer", 1e9)


IDEA = """
flops = "4 * B * T * d * 128"
bytes = "8 * B * T * d"
span = "ceil(T / 64)"
independent = "B * d / 128"
passed = "B * d * 128"
params = "4 * d * d"
"""


def test_a_declared_primitive_is_compared_like_any_other(tmp_path: Path, problem: Problem) -> None:
    path = tmp_path / "idea.toml"
    path.write_text(IDEA)
    points = curve(architecture(str(path), 1e9), problem, device_counts("8,512")).points
    scan = curve(preset("gated_deltanet", 1e9), problem, device_counts("8,512")).points
    assert 0.4 * scan[0].seconds < points[0].seconds < 1.2 * scan[0].seconds
    # Ten times the steps: the span roof takes over.
    path.write_text(IDEA.replace("ceil(T / 64)", "T"))
    slow = curve(architecture(str(path), 1e9), problem, device_counts("8,512")).points
    assert slow[0].binds == "span roof"


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ('span = "ceil(T / 64)"\n', 'nearest that works: span = "1"'),
        (("8 * B * T * d", "B * T - 1e12"), "work is never negative"),
        (("ceil(T / 64)", "T / 1e9"), "at least one step"),
        (("ceil(T / 64)", "chunks"), "chunks is not known"),
        (("ceil(T / 64)", "__import__('os')"), "it is no arithmetic"),
        (("params", "parms"), "parms is not known"),
    ],
)
def test_a_primitive_without_a_span_or_with_negative_work_is_refused(
    tmp_path: Path, problem: Problem, change: str | tuple[str, str], says: str
) -> None:
    path = tmp_path / "idea.toml"
    path.write_text(IDEA.replace(*change) if isinstance(change, tuple) else IDEA.replace(change, ""))
    with pytest.raises(UsageError) as caught:
        curve(architecture(str(path), 1e9), problem, np.array([8]))
    assert says in str(caught.value)


def test_the_command_answers_in_words_and_json() -> None:
    runner = CliRunner()
    arguments = ["scale", "transformer", "lstm", "--devices", "8,512", "--size", "1B"]
    shown = runner.invoke(app, arguments)
    assert shown.exit_code == 0, shown.output
    assert max(map(len, shown.stdout.splitlines())) <= 80
    document = json.loads(runner.invoke(app, [*arguments, "--json"]).stdout)
    assert [c["name"] for c in document["curves"]] == ["transformer", "lstm"]
    assert document["curves"][0]["points"][0]["devices"] == 8
