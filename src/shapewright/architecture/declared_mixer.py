"""A token mixer that somebody declares by its numbers: an idea before there is code for it.

A file states what one layer does to ``B`` sequences of ``T`` tokens at the model's width ``d``, each as a formula::

    kind = "declared"
    title = "my idea"
    params = "4 * d * d"
    flops = "2 * B * T * d * 256"        forward
    bytes = "8 * B * T * d"              forward, of device memory
    span = "ceil(T / 64)"                steps that must follow one another
    independent = "B * d / 128"          chains of such steps that can run at once
    state = "d * 128"                    elements that decoding keeps per sequence
    passed = "B * d * 128"               elements that cross where the sequence is split; 0 where it cannot be
    step_s = 3e-6                        one step of one chain [s]
    share = 0.5                          of the matrix peak that its products reach

Decisions: every primitive has a span, so none is assumed; a formula that comes out negative is refused when it is asked.
Formulas know ``B T d``, numbers, ``+ - * / ** %``, and ``ceil floor log2 sqrt min max``.
"""

from __future__ import annotations

import ast
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from shapewright.architecture.operator import Size
from shapewright.errors import UsageError

_CALLS: dict[str, Callable[..., Any]] = {
    "ceil": np.ceil, "floor": np.floor, "log2": np.log2, "sqrt": np.sqrt, "min": np.minimum, "max": np.maximum,
}  # fmt: skip
_OPERATORS: dict[type, Callable[[Any, Any], Any]] = {
    ast.Add: lambda a, b: a + b, ast.Sub: lambda a, b: a - b, ast.Mult: lambda a, b: a * b,
    ast.Div: lambda a, b: a / b, ast.Pow: lambda a, b: a**b, ast.Mod: lambda a, b: a % b,
}  # fmt: skip


@dataclass(frozen=True, kw_only=True, slots=True)
class DeclaredMixer:
    """A mixer by formulas; see the module."""

    kind: Literal["declared"] = "declared"
    flops: str
    bytes: str
    span: str
    independent: str
    title: str = "declared"
    params: str = "0"
    state: str = "0"
    passed: str = "0"
    step_s: float = 3e-6
    """One step of one chain [s]."""
    share: float = 0.5
    """Of the matrix peak [1]."""
    heads: Size = 1
    """What tensor parallelism can spread."""

    @property
    def kv_heads(self) -> Size:
        """Heads that groups of ``heads`` share."""
        return self.heads

    @property
    def head_dim(self) -> Size:
        """Width of one head: not known."""
        return 1

    @property
    def state_elements(self) -> Size:
        """Elements that decoding keeps per sequence; formulas of the width are asked with :meth:`value`."""
        return 0

    def cached(self, context: Size) -> Size:
        """Elements that grow with the context: none are declared."""
        return 0

    def value(self, name: str, **sizes: Size) -> Size:
        """One formula at ``B``, ``T`` and ``d``.

        Raises:
            UsageError: it is no formula, or comes out negative, or (a span) below one step.
        """
        text = str(getattr(self, name))
        found = evaluate(text, f"primitive {self.title!r}: {name}", sizes)
        least = 1.0 if name in ("span", "independent") else 0.0
        if np.any(np.asarray(found) < least):
            worst = float(np.min(np.asarray(found)))
            what = "every primitive takes at least one step" if least else "work is never negative"
            raise UsageError(
                f"primitive {self.title!r}: {name} (={text!r}) comes out as {worst:g}", what,
                f"nearest that works: {name} = \"max({text}, {least:g})\"",
            )  # fmt: skip
        return found


def evaluate(text: str, where: str, sizes: dict[str, Size]) -> Size:
    """A formula's value; nothing but arithmetic is run.

    Raises:
        UsageError: an unknown name, a call that is not offered, or no formula at all.
    """

    def refuse(what: str) -> UsageError:
        return UsageError(
            f"{where} (={text!r}): {what}", f"formulas know {', '.join(sizes)} and {', '.join(_CALLS)}",
            'for example "2 * B * T * d"',
        )  # fmt: skip

    def value(node: ast.AST) -> Any:
        match node:
            case ast.Expression(body=body):
                return value(body)
            case ast.Constant(value=number) if isinstance(number, int | float) and not isinstance(
                number, bool
            ):
                return float(number)
            case ast.Name(id=name) if name in sizes:
                return np.asarray(sizes[name], float)
            case ast.Name(id=name):
                raise refuse(f"{name} is not known")
            case ast.UnaryOp(op=ast.USub(), operand=inner):
                return -value(inner)
            case ast.BinOp(left=left, op=op, right=right) if type(op) in _OPERATORS:
                return _OPERATORS[type(op)](value(left), value(right))
            case ast.Call(func=ast.Name(id=name), args=args, keywords=[]) if name in _CALLS:
                return _CALLS[name](*(value(a) for a in args))
        raise refuse("it is no arithmetic")

    try:
        tree = ast.parse(text, mode="eval")
    except SyntaxError as error:
        raise refuse("it is no formula") from error
    return value(tree)
