"""The answers: pure functions over the public interface that a worker runs.

Each takes a question (or a document) and returns a plain, picklable answer; what is wrong is raised as one of the
exceptions of :mod:`shapewright.errors`.
"""

from __future__ import annotations

import json
from dataclasses import asdict
from typing import Any

from shapewright.architecture.shape import Shape
from shapewright.designs.document import Design
from shapewright.errors import DocumentError, UsageError
from shapewright.studio.questions import (
    DesignQuestion,
    EstimateQuestion,
    LintQuestion,
    ShapePins,
    budget_of,
    check_hardware,
    options_of,
)


def design(question: DesignQuestion) -> Design:
    """The design with the lowest predicted loss."""
    return _design(question, aside=True)


def design_at_once(question: DesignQuestion) -> Design:
    """The same design without what takes longest and changes nothing else: its picks and levers."""
    return _design(question, aside=False)


def _design(question: DesignQuestion, *, aside: bool) -> Design:
    from shapewright.designs.build import make_design
    from shapewright.designs.serving import parse_serve

    return make_design(
        check_hardware(question.hardware),
        budget_of(question),
        options_of(question),
        question.settings,
        serve=parse_serve(question.serve) if question.serve else None,
        aside=aside,
    )


def estimate(question: EstimateQuestion) -> Design:
    """The estimate of a known model or of a configuration."""
    return estimate_shape(shape_of(question.model, question.config), question)


def estimate_shape(shape: Shape, question: EstimateQuestion) -> Design:
    """The estimate of a shape that was read before."""
    from shapewright.designs.estimate import make_estimate

    return make_estimate(
        shape,
        check_hardware(question.on),
        options_of(question),
        tokens=question.tokens,
        settings=question.settings,
    )


def lint(question: LintQuestion) -> dict[str, Any]:
    """The findings about a known model or a configuration, as ``shapewright lint --json`` prints them."""
    from shapewright.api import lint as lint_model

    report = lint_model(
        shape_of(question.model, question.config),
        check_hardware(question.on),
        seq_len=question.seq_len,
        precision=question.precision,
        settings=question.settings,
        tp=question.tp,
        pp=question.pp,
        vpp=question.vpp,
        micro_batch=question.micro_batch,
    )
    return {
        "model": report.model,
        "hardware": report.hardware,
        "plan": report.plan,
        "step_time_s": report.step_time_s,
        "findings": [asdict(finding) for finding in report.findings],
    }


def lint_design(design: Design) -> list[dict[str, Any]]:
    """The findings about the shape of a design, under its own plan and batch."""
    from shapewright.designs.lint import lint_design as lint

    return [asdict(finding) for finding in lint(design)]


def explain(body: bytes) -> dict[str, Any]:
    """What ``shapewright explain --json`` says about a document."""
    from shapewright.report.explanation import explanation

    return explanation(open_design(body))


def export(body: bytes, format_name: str) -> dict[str, Any]:
    """What ``shapewright export --json`` says about a document."""
    from shapewright.export.formats import export as export_design

    found = export_design(open_design(body), format_name)
    return {
        "format": format_name,
        "file_name": found.file_name,
        "remarks": list(found.remarks),
        "text": found.text,
    }


def report(body: bytes) -> str:
    """The offline report of a document."""
    from shapewright.report.html import html_report

    return html_report(open_design(body))


def picture(body: bytes, chart: str, suffix: str) -> bytes:
    """One chart of a document as SVG or PNG.

    Raises:
        UnknownNameError: there is no such chart.
        NotCoveredError: the Design has nothing for it to show, or the package that draws is not installed.
    """
    from shapewright.report.pictures import picture as draw

    return draw(open_design(body), chart, suffix)


def open_design(body: bytes) -> Design:
    """A document that was sent.

    Raises:
        DocumentError: see :func:`shapewright.designs.files.parse_design`.
    """
    from shapewright.designs.files import parse_design

    return parse_design(body, "design.json")


def open_config(body: bytes) -> Shape:
    """The shape of a ``config.json`` that was sent.

    Raises:
        DocumentError: it is not one JSON object of at most 4 MB, or no model has such values.
        NotCoveredError: its family has no description here.
    """
    from shapewright.architecture.huggingface import read_config

    try:
        document = json.loads(body)
    except (ValueError, RecursionError) as error:
        raise DocumentError(
            "config.json is not JSON", str(error), "send the config.json of a Hugging Face model"
        ) from error
    if not isinstance(document, dict):
        raise DocumentError("config.json is not a JSON object", f"it is a {type(document).__name__}", "")
    return read_config(document)


def shape_of(model: str | None, config: dict[str, Any] | None) -> Shape:
    """The shape of a known model or of a configuration, whichever was given.

    Raises:
        UsageError: not exactly one was given.
        UnknownNameError: no model has this name.
    """
    from shapewright.architecture.catalog import load_model
    from shapewright.architecture.huggingface import read_config

    if (model is None) == (config is None):
        raise UsageError(
            "exactly one of model and config must be given", "a model is asked about", 'for example: "model": "llama-3-8b"'
        )  # fmt: skip
    return load_model(model) if model is not None else read_config(config or {})


def hardware(name: str) -> dict[str, Any]:
    """Every figure of an accelerator or a system."""
    from shapewright.hardware.accelerator_file import all_figures
    from shapewright.hardware.catalog import parse_cluster

    cluster = parse_cluster(check_hardware(name))
    figures = all_figures(cluster.accelerator)
    return {
        "name": cluster.name,
        "accelerator": cluster.accelerator.name,
        "label": cluster.accelerator.label,
        "num_devices": cluster.num_devices,
        "figures": {path: asdict(figure) for path, figure in figures.items()},
        "tiers": [asdict(tier) for tier in cluster.tiers],
    }


def model(name: str) -> dict[str, Any]:
    """The shape of a known model and what was published about it."""
    from shapewright.architecture.catalog import load_model, model_facts
    from shapewright.architecture.graph import num_active_params, num_params

    shape = load_model(name)
    return {
        "shape": asdict(shape),
        "params": float(num_params(shape)),
        "active_params": float(num_active_params(shape)),
        "facts": asdict(model_facts(name)),
    }


def warm_up() -> None:
    """Import what answers need and fill the caches of the usual device, so that the first visitor does not wait."""
    small = ShapePins(width=1024, depth=24, heads=16, head_dim=64, ffn_size=4096)
    lint_design(design(DesignQuestion(hardware="8xh100_sxm", hours=1.0, shape=small)))
