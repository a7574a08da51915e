"""The charts of a Design as pictures: SVG and PNG by name."""

from __future__ import annotations

from shapewright.designs.document import Design
from shapewright.errors import NotCoveredError, UnknownNameError
from shapewright.report.charts import Spec, chart_png, chart_svg
from shapewright.report.figures import CHARTS

SUFFIXES = ("svg", "png")


def picture(design: Design, name: str, suffix: str, *, dark: bool = False) -> bytes:
    """One chart as a file.

    Args:
        design: whose chart.
        name: one of ``CHARTS``.
        suffix: ``svg`` or ``png``.
        dark: drawn for a dark page.

    Raises:
        UnknownNameError: there is no such chart, or no such format.
        NotCoveredError: the Design has nothing for it to show, or the package that draws is not installed.
    """
    if name not in CHARTS:
        raise UnknownNameError("chart", name, CHARTS)
    if suffix not in SUFFIXES:
        raise UnknownNameError("format", suffix, SUFFIXES)
    spec = CHARTS[name][2](design)
    if spec is None:
        raise NotCoveredError(
            f"this design has no {name} chart", "it holds nothing that the chart would show", ""
        )
    return draw(spec, suffix, dark=dark)


def draw(spec: Spec, suffix: str, *, dark: bool = False) -> bytes:
    """A chart as the content of a file of this suffix.

    Raises:
        NotCoveredError: the package that draws is not installed.
    """
    return chart_svg(spec, dark=dark).encode() if suffix == "svg" else chart_png(spec, dark=dark)


def picture_names(design: Design) -> tuple[tuple[str, str], ...]:
    """Name and suffix of every picture that the Design has."""
    return tuple(
        (name, suffix)
        for name, (_, _, chart) in CHARTS.items()
        if chart(design) is not None
        for suffix in SUFFIXES
    )


def pictures(design: Design, *, dark: bool = False) -> dict[str, bytes]:
    """Every chart that the Design has, as SVG and as PNG, by file name.

    Raises:
        NotCoveredError: the package that draws is not installed.
    """
    return {
        f"{name}.{suffix}": picture(design, name, suffix, dark=dark) for name, suffix in picture_names(design)
    }
