"""A declared mixer as one operator."""

from __future__ import annotations

from shapewright.architecture.declared_mixer import DeclaredMixer
from shapewright.architecture.operator import Declared, Operator, Size


def declared_operators(a: DeclaredMixer, width: Size, *, batch: Size, seq_len: Size) -> tuple[Operator, ...]:
    """Its formulas at these sizes; the output is kept for the backward pass.

    Raises:
        UsageError: a formula comes out negative, or a span below one step.
    """
    sizes = {"B": batch, "T": seq_len, "d": width}
    return (
        Declared(
            name="declared.mixer", place="layer", flops=a.value("flops", **sizes), moved=a.value("bytes", **sizes),
            span=a.value("span", **sizes), independent=a.value("independent", **sizes), step_s=a.step_s, share=a.share,
            passed=a.value("passed", **sizes), params=a.value("params", **sizes), saved=batch * seq_len * width,
        ),
    )  # fmt: skip
