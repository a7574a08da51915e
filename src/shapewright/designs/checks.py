"""Numbers of a document that no design can have.

Decisions: the schema says which keys and types there are; what reads the document as a design may rely on finite
numbers, on positive sizes, times and limits, and on words that exist. A file that was edited by hand is refused here,
by the path of the number, before anything is drawn from it.
"""

from __future__ import annotations

import math
from dataclasses import fields, is_dataclass
from typing import Any

from shapewright.designs.document import Design
from shapewright.errors import DocumentError
from shapewright.evidence import Figure
from shapewright.plan.parallel import WORDS

FIX = "mend the file, or write it again with: shapewright design"
LARGEST = 1e100
"""No quantity here comes near it; beyond it arithmetic with other numbers overflows."""
_POSITIVE = frozenset({
    "step_time_s", "memory_bytes", "memory_limit_bytes", "train_flops", "global_batch_sequences", "sequence_length",
    "intensity", "achieved_flops", "roof_flops", "flops", "hidden_size", "vocab_size", "count", "heads", "kv_heads",
    "head_dim", "ffn_size", "tp", "pp", "vpp", "cp", "ep", "etp", "dp_shard", "dp_replicate", "micro_batch", "sync_every",
})  # fmt: skip


def check_numbers(design: Design) -> None:
    """Refuse a document with a number that cannot be.

    Raises:
        DocumentError: names the path of the number, its value and the rule.
    """
    _check(design, "design")
    plan = design.plan
    for name, words in WORDS.items():
        value = getattr(plan, name)
        if value not in range(len(words)):
            raise DocumentError(f"design.plan.{name} (={value!r}) must be from 0 to {len(words) - 1}",
                                f"it stands for {', '.join(words)}", FIX)  # fmt: skip


def _check(value: Any, path: str) -> None:
    name = path.rpartition(".")[2]
    if is_dataclass(value) and not isinstance(value, type):
        if isinstance(value, Figure) and name in _POSITIVE:
            _check_positive(value.value, f"{path}.value")
        for field in fields(value):
            _check(getattr(value, field.name), f"{path}.{field.name}")
    elif isinstance(value, tuple):
        for index, item in enumerate(value):
            _check(item, f"{path}[{index}]")
    elif isinstance(value, (int, float)) and not isinstance(value, bool):
        if not abs(value) < LARGEST:
            raise DocumentError(
                f"{path} (={_short(value)}) must be finite", f"no quantity is beyond {LARGEST:g}", FIX
            )
        if name in _POSITIVE:
            _check_positive(value, path)


def _check_positive(value: float, path: str) -> None:
    if not value > 0:
        raise DocumentError(
            f"{path} (={_short(value)}) must be positive", "it is a size, a time or a limit", FIX
        )


def _short(value: float) -> str:
    return (
        f"{value:g}"
        if not isinstance(value, int) or math.log10(abs(value) + 1) < 20
        else "an integer of many digits"
    )
