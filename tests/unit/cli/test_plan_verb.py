"""``shapewright plan`` and the modes of ``estimate`` as a person meets them."""

from __future__ import annotations

import json

import pytest
from typer.testing import CliRunner

from shapewright.cli.main import app
from shapewright.errors import InfeasibleError, NotCoveredError, ShapewrightError, UsageError


def run(*arguments: str):
    return CliRunner().invoke(app, list(arguments))


def test_the_answer_comes_in_the_fixed_order_and_fits_80_columns() -> None:
    done = run("plan", "llama-3-8b", "--on", "64xh100_sxm", "--batch", "256", "--show", "3")
    assert done.exit_code == 0, done.output
    titles = ["Request", "Assumed", "Answer", "Why", "Trust", "Next"]
    places = [done.stdout.index(title) for title in titles]
    assert places == sorted(places)
    body = done.stdout[: done.stdout.index("Next")]
    assert max(map(len, body.splitlines())) <= 80


def test_json_holds_the_front_and_the_command_that_looks_closer() -> None:
    done = run("plan", "llama-3-8b", "--on", "8xh100_sxm", "--batch", "64", "--precision", "fp8", "--json")
    found = json.loads(done.stdout)
    assert [row["step_time_s"] for row in found["front"]] == sorted(r["step_time_s"] for r in found["front"])
    closer = found["next"].split()[1:]
    again = run(*closer, "--precision", "fp8", "--json")
    told = json.loads(again.stdout)["predicted"]
    step = told["step_time_s"]["value"]
    assert step == pytest.approx(found["front"][0]["step_time_s"], rel=1e-6)
    assert step * told["power_w"]["value"] == pytest.approx(found["front"][0]["energy_j"], rel=1e-6)


@pytest.mark.parametrize(
    ("arguments", "error", "said"),
    [
        (("--schedule", "zigzag"), UsageError, "known: 1F1B, GPipe"),
        (("--offload", "disk"), UsageError, "known: none, optimizer"),
        (("--optimizer", "adam"), UsageError, "known: adamw"),
        (("--imbalance", "0.5"), UsageError, "at least 1"),
        (("--lora", "-1"), UsageError, "at least 0"),
        (("--tp", "7"), InfeasibleError, "tp = 7"),
        (("--dp-shard", "8", "--batch", "3"), InfeasibleError, "global batch"),
        (("--precision", "nvfp4"), NotCoveredError, "fp4"),
    ],
)
def test_a_wrong_input_says_what_would_do(
    arguments: tuple[str, ...], error: type[ShapewrightError], said: str
) -> None:
    done = run("plan", "llama-3-8b", "--on", "8xh100_sxm", *arguments)
    assert isinstance(done.exception, error), done.output
    assert said in str(done.exception)


def test_an_estimate_takes_every_mode() -> None:
    done = run(
        "estimate", "llama-3-8b", "--on", "64xh100_sxm", "--pp", "4", "--tp", "2", "--schedule", "zero-bubble",
        "--no-sequence-parallel", "--async-tp", "--recompute", "full", "--recompute-layers", "2", "--batch", "256",
        "--optimizer", "adamw-bf16", "--cuda-graphs", "--mtbf", "20000h", "--offload", "optimizer", "--json",
    )  # fmt: skip
    assert done.exit_code == 0, done.exception
    document = json.loads(done.stdout)
    plan = document["plan"]
    assert (plan["schedule"], plan["sequence_parallel"], plan["async_tp"], plan["offload"]) == (2, 0, 1, 1)
    assert 0.9 < document["predicted"]["goodput"]["value"] < 1
    assert document["pace"]["stages"] == 4


def test_a_plan_that_does_not_fit_names_three_changes_and_their_cost() -> None:
    done = run("estimate", "llama-3-8b", "--on", "64xh100_sxm", "--dp-replicate", "64", "--batch", "128")
    assert isinstance(done.exception, InfeasibleError)
    text = str(done.exception)
    assert " B (" in text
    assert text.count("fits with --") == 3
    assert text.count("step +") + text.count("step -") == 3


def test_verbs_that_plan_take_the_same_options() -> None:
    from inspect import signature

    from shapewright.cli import design, estimate, plan
    from shapewright.cli.plan_options import Axes, Modes, Run

    shown = {verb: set(signature(verb.command).parameters) for verb in (design, estimate, plan)}
    for group, verbs in (
        (Axes, (design, estimate, plan)),
        (Modes, (estimate, plan)),
        (Run, (estimate, plan)),
    ):
        for verb in verbs:
            assert set(group.__slots__) <= shown[verb], verb.__name__
            assert not {"axes", "modes", "run"} & shown[verb]


def test_axes_of_experts_are_refused_where_there_are_none() -> None:
    done = run("design", "8xh100_sxm", "--hours", "2", "--ep", "2")
    assert isinstance(done.exception, UsageError)
    assert "--ep (=2) splits experts" in str(done.exception)
