"""The charts of a Design as Vega-Lite specifications, which are plain dictionaries.

Decisions: each chart is a pure function of the Design; its data are the Design's own numbers in SI, and only axes
and tooltips scale them. Width follows the page. A chart that has nothing to show is None. Colours of letters and
axes come from ``theme.vega_config`` at the last moment, so that one specification serves light and dark pages.
"""

from __future__ import annotations

import copy
from typing import Any

from shapewright.errors import MissingPackageError
from shapewright.report.curve import loss_curve
from shapewright.report.roofs import roofline
from shapewright.report.stacks import memory_stack, step_time_stack
from shapewright.report.theme import PAGE, vega_config
from shapewright.report.timeline import timeline
from shapewright.report.tradeoff import pareto
from shapewright.report.vega import Spec

__all__ = [
    "Spec",
    "chart_png",
    "chart_svg",
    "loss_curve",
    "memory_stack",
    "pareto",
    "roofline",
    "step_time_stack",
    "timeline",
]


def chart_svg(spec: Spec, *, width: int = 640, dark: bool = False) -> str:
    """A chart as SVG text.

    Raises:
        MissingPackageError: the package that draws is not installed.
    """
    return str(_converter().vegalite_to_svg(_standalone(spec, width, dark)))


def chart_png(spec: Spec, *, width: int = 640, dark: bool = False, scale: float = 2.0) -> bytes:
    """A chart as a PNG picture with ``scale`` pixels for each pixel of the width.

    Raises:
        MissingPackageError: the package that draws is not installed.
    """
    return bytes(_converter().vegalite_to_png(_standalone(spec, width, dark), scale=scale))


def _standalone(spec: Spec, width: int, dark: bool) -> Spec:
    """With a width and colours of its own, since there is no page to take them from."""
    config = {**vega_config(dark=dark), "background": PAGE[dark]}
    return {**copy.deepcopy(spec), "width": width, "config": config}


def _converter() -> Any:
    try:
        import vl_convert
    except ImportError as error:
        raise MissingPackageError(
            "a picture of a chart",
            "vl-convert-python",
            extra="report",
            otherwise="take the HTML report, which needs no package",
        ) from error
    return vl_convert
