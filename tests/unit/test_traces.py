"""Every figure of a Design traces to a law, a calibration, a datasheet, a publication or what was asked for."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import fields, is_dataclass, replace
from typing import Any

import pytest

import shapewright as sw
from shapewright.cost.transfer import calibrated
from shapewright.designs.document import Design
from shapewright.evidence import Figure
from shapewright.hardware.catalog import parse_cluster
from shapewright.scaling.law import law_names, load_law
from shapewright.search.joint import Options

REQUESTS = (
    ("8xh100_sxm", {"hours": 24}, Options(shape={"depth": 24})),
    ("8xmi300x", {"dollars": "5k"}, Options(shape={"depth": 24})),
    ("laptop_8core", {"minutes": 10}, Options()),
    ("16xb200_sxm", {"hours": 48}, Options(family="64 experts", shape={"depth": 24}, plan={"tp": 1})),
)
STRUCTURE = (
    "operator graph", "operator graph and plan", "operator graph and tokens", "tokens / batch", "the budget", "the plan",
    "asked for", "given", "kernels alone", "step time and law", "energy of the kernels and law",
)  # fmt: skip
"""What follows from the shape, the plan and the request by arithmetic that is in the code."""
PUBLICATION = re.compile(
    r"arXiv \d{4}\.\d{4,5}|https?://|\b[\w.-]+/[\w.-]+@[0-9a-f]{7,}|et al\. \d{4}|common practice: GPT-3|"
    r"Step Law's own schedule|cosine over the whole run|N tokens \(Porian|[Uu]ser guide|[Dd]atasheet|data/ladders"
)


def sources(value: Any, path: str = "design") -> Iterator[tuple[str, str, str]]:
    """(Path, kind, source) of every part of a document that states evidence."""
    if is_dataclass(value) and not isinstance(value, type):
        if hasattr(value, "kind") and hasattr(value, "source"):
            yield path, value.kind, value.source
        for field in fields(value):
            yield from sources(getattr(value, field.name), f"{path}.{field.name}")
    elif isinstance(value, tuple):
        for index, item in enumerate(value):
            yield from sources(item, f"{path}[{index}]")


def evidence_of(hardware: str) -> set[str]:
    """Sources of every figure of the cluster, its device and its calibration."""
    cluster = parse_cluster(hardware)
    found = {source for _, _, source in sources(cluster)}
    accelerator = cluster.accelerator
    found |= {f.source for f in accelerator.peak_flops.values()}
    found |= {fit.source for fit in calibrated(accelerator)[0].fits}
    return {source for source in found if source}


def traces(kind: str, source: str, evidence: set[str]) -> bool:
    """Whether a source leads somewhere that a reader can open."""
    if not source or source == "no source":
        return kind == "assumed"  # it says itself that nobody states it
    if source.startswith(("plan.", "search.")):
        return True  # a documented constant or rule of the code
    if source.startswith(STRUCTURE):
        return True
    law = re.match(r"law (\w+)", source)
    if law is not None:
        return law.group(1) in law_names()
    known = [load_law(name).source for name in law_names()]
    if any(source.startswith(text) or text in source for text in known):
        return True
    return any(text in source for text in evidence) or bool(PUBLICATION.search(source)) or _fitted(source)


def _fitted(source: str) -> bool:
    """Calibrations and framework fits name what they were fitted on."""
    return bool(
        re.search(
            r"aiconfigurator-core \d|\d+ published runs|transferred from \w+|no measured kernels|vendor peaks",
            source,
        )
    )


def untraced(design: Design, hardware: str) -> list[str]:
    evidence = evidence_of(hardware)
    return [
        f"{path}: {kind}, {source!r}"
        for path, kind, source in sources(design)
        if not traces(kind, source, evidence)
    ]


@pytest.mark.parametrize(("hardware", "budget", "options"), REQUESTS)
def test_every_figure_traces(hardware, budget, options):
    design = sw.design(hardware, options=options, **budget)
    assert len(list(sources(design))) > 30
    assert not untraced(design, hardware)


def test_a_figure_out_of_the_air_is_found():
    design = sw.design(
        "8xh100_sxm", hours=24, options=Options(shape={"depth": 24, "ffn_size": 8192}, plan={"tp": 1})
    )
    guess = Figure(value=0.61, unit="1", kind="fitted", source="experience")
    wrong = replace(design, predicted=replace(design.predicted, mfu=guess))
    assert untraced(wrong, "8xh100_sxm") == ["design.predicted.mfu: fitted, 'experience'"]


def test_a_far_extrapolation_is_marked_everywhere(capsys):
    from rich.console import Console

    from shapewright.report.console import print_design
    from shapewright.report.html import html_report

    design = sw.design(
        "64xh100_sxm",
        flops=1e25,
        options=Options(law="gemstones", shape={"depth": 48, "ffn_size": 16384}, plan={"tp": 8}),
    )
    assert any("FAR EXTRAPOLATION" in warning for warning in design.warnings)
    assert "FAR EXTRAPOLATION" in design.to_json()
    assert "FAR EXTRAPOLATION" in html_report(design)
    print_design(design, Console(width=80))
    assert "FAR EXTRAPOLATION" in capsys.readouterr().out
