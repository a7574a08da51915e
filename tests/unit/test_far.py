"""A loss far outside the runs of its law is marked in every output that shows it."""

from __future__ import annotations

import io
import json
from dataclasses import replace

import pytest
from rich.console import Console
from typer.testing import CliRunner

import shapewright as sw
from shapewright.cli.main import app
from shapewright.designs.document import Design
from shapewright.outlook.whatif import whatif
from shapewright.report.console import print_design, print_explanation
from shapewright.report.explanation import explanation
from shapewright.report.html import html_report
from shapewright.report.markdown import markdown_report
from shapewright.report.view import html_view
from shapewright.report.whatif_view import whatif_view
from shapewright.scaling.law import FAR_COMPUTE, far_remarks, load_law
from shapewright.search.budget import Budget
from shapewright.search.joint import Options

MARK = "FAR EXTRAPOLATION"


@pytest.fixture(scope="module")
def far() -> Design:
    return sw.estimate(
        "llama-3-8b", "8xh100_sxm", tokens=1e15, options=Options(plan={"tp": 2, "dp_shard": 4})
    )


def printed(show, design: Design) -> str:
    console = Console(width=80, record=True, file=io.StringIO())
    show(design, console)
    return console.export_text()


def test_every_output_of_a_design_marks_it(far: Design) -> None:
    assert far.predicted.extrapolation is not None
    assert far.predicted.extrapolation > FAR_COMPUTE
    texts = {
        "console": printed(print_design, far),
        "explain": printed(print_explanation, far),
        "html": html_report(far),
        "markdown": markdown_report(far),
        "json": far.to_json(),
        "explain json": json.dumps(explanation(far)),
        "notebook": far._repr_html_(),
    }
    assert not [name for name, text in texts.items() if MARK not in text]


def test_it_stands_beside_the_loss_itself(far: Design) -> None:
    line = next(text for text in markdown_report(far).splitlines() if text.startswith("| loss "))
    assert MARK in line
    near = replace(far, predicted=replace(far.predicted, extrapolation=50.0))
    assert not any(MARK in text for text in markdown_report(near).splitlines() if text.startswith("| loss "))


def test_verbs_that_are_no_design_mark_it_too() -> None:
    law = load_law("chinchilla_shape")
    assert far_remarks(law, law.fitted_range["flops"][1] * 99) == ()
    assert MARK in far_remarks(law, law.fitted_range["flops"][1] * 101)[0]
    for words in (
        ["portfolio", "--flops", "1e26"],
        ["compare", "transformer", "mamba2", "--on", "64xb200_sxm", "--budget", "20000d"],
    ):
        for options in ([], ["--json"]):
            run = CliRunner().invoke(app, [*words, *options])
            assert run.exit_code == 0, run.output
            assert MARK in run.stdout, words


def test_hardware_that_does_not_exist_is_marked_too() -> None:
    few = Options(plan={"micro_batch": 1, "recompute": 2})
    for days, far in ((8000.0, True), (8.0, False)):
        found = whatif("8xh100_sxm", Budget(kind="time", value=days * 86400.0), few, settings=["memory=1.5x"])
        assert any(MARK in remark for remark in found.remarks) == far
        assert (MARK in html_view(whatif_view(found))) == far
