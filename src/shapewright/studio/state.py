"""The state of the page: all of it is in the URL, so a link shares it and a reload restores it.

Decisions: parameters have the names of the options they stand for; empty ones are as good as absent, unknown ones are
refused. ``keep`` holds the states that were kept for a comparison, each a query of its own; ``try_*`` are the sliders,
as steps away from the design, so that a link shows what its sender saw.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, fields, replace
from typing import Annotated, Any, Literal
from urllib.parse import parse_qsl, urlencode

from pydantic import Field, ValidationError

from shapewright.errors import UsageError
from shapewright.studio.questions import (
    STRICT,
    Amount,
    Axis,
    Count,
    DesignQuestion,
    EstimateQuestion,
    Name,
    ShapePins,
    adapter,
)
from shapewright.units import parse_quantity

Unit = Literal["days", "hours", "minutes", "dollars", "MWh", "flops"]
UNITS: tuple[Unit, ...] = ("days", "hours", "minutes", "dollars", "MWh", "flops")
Step = Annotated[int, Field(ge=-16, le=16)]
Digest = Annotated[str, Field(pattern=r"^[0-9a-f]{16}$")]
KEPT = 5
"""States beside the present one in a comparison."""
_JOULES_PER_MWH = 3.6e9


@dataclass(frozen=True, kw_only=True, slots=True)
class State:
    """What the page shows."""

    __pydantic_config__ = STRICT

    mode: Literal["design", "estimate"] = "design"
    accelerator: Name = "h100_sxm"
    devices: Count = 8
    budget: Amount = 3.0
    unit: Unit = "days"
    model: Name | None = None
    """Of an estimate: a known model, where no ``config`` was uploaded."""
    config: Digest | None = None
    """Of an estimate: an uploaded config.json."""
    tokens: Annotated[str, Field(max_length=20)] | None = None
    opened: Digest | None = None
    """An uploaded design.json; everything else is then as it says."""
    seq_len: Count | None = None
    batch: Count | None = None
    precision: Name | None = None
    setting: Annotated[tuple[Annotated[str, Field(max_length=80)], ...], Field(max_length=8)] = ()
    family: Name | None = None
    """What to lay out; dense where nothing is said."""
    unique_tokens: Annotated[str, Field(max_length=20)] | None = None
    """Tokens of the corpus, for example ``1T``; every token is fresh where nothing is said."""
    max_tpot: Annotated[str, Field(max_length=20)] | None = None
    """Of a design: the longest time per token when it is served, for example ``10ms``."""
    max_token_price: Amount | None = None
    """Of a design: the most dollars for a million tokens when it is served."""
    serve: Annotated[str, Field(max_length=120)] | None = None
    """Of a design: a lifetime of serving that counts, too."""
    width: Axis | None = None
    depth: Annotated[int, Field(ge=1, le=2000)] | None = None
    heads: Axis | None = None
    kv_heads: Axis | None = None
    head_dim: Axis | None = None
    ffn_size: Axis | None = None
    keep: Annotated[tuple[Annotated[str, Field(max_length=1000)], ...], Field(max_length=KEPT)] = ()
    try_width: Axis | None = None
    try_heads: Axis | None = None
    try_devices: Step | None = None
    try_memory: Step | None = None
    try_network: Step | None = None
    try_budget: Step | None = None

    @property
    def hardware(self) -> str:
        """As the command line names it."""
        return self.accelerator if self.devices == 1 else f"{self.devices}x{self.accelerator}"

    @property
    def pinned(self) -> bool:
        """Whether numbers of the shape are fixed."""
        return any(getattr(self, name) is not None for name in _SHAPE)

    @property
    def moved(self) -> bool:
        """Whether a slider stands elsewhere than the design."""
        return any(getattr(self, name) is not None for name in _TRY)

    def query(self) -> str:
        """The URL query that stands for this state."""
        pairs: list[tuple[str, Any]] = []
        for f in fields(self):
            value = getattr(self, f.name)
            if isinstance(value, tuple):
                pairs += [(f.name, item) for item in value]
            elif value is not None and (value != f.default or f.name in {"accelerator", "devices"}):
                pairs.append((f.name, f"{value:g}" if isinstance(value, float) else value))
        return urlencode(pairs)

    def alone(self) -> State:
        """Without what was kept and without sliders: the state that a comparison keeps."""
        return replace(self, keep=(), **dict.fromkeys(_TRY))

    def kept(self) -> tuple[State, ...]:
        """The states that were kept.

        Raises:
            UsageError: one of them is none.
        """
        return tuple(read_state(parse_qsl(query)).alone() for query in self.keep)

    def question(self) -> DesignQuestion | EstimateQuestion:
        """What the page asks; for an uploaded configuration the shape is asked beside it.

        Raises:
            UsageError: a model is to be given and is not, or a quantity is none.
        """
        if self.mode == "design":
            name, scale = ("energy", _JOULES_PER_MWH) if self.unit == "MWh" else (self.unit, 1.0)
            amount: dict[str, Any] = {name: self.budget * scale}
            return DesignQuestion(
                hardware=self.hardware,
                seq_len=self.seq_len,
                global_batch=self.batch,
                precision=self.precision,
                settings=self.setting,
                family=self.family or "dense",
                unique_tokens=_positive(self.unique_tokens, "1", "unique_tokens"),
                max_tpot=_positive(self.max_tpot, "s", "max_tpot"),
                max_token_price=self.max_token_price,
                serve=self.serve,
                shape=ShapePins(**{name: getattr(self, name) for name in _SHAPE}),
                **amount,
            )
        if self.model is None and self.config is None:
            raise UsageError(
                "no model is given", "an estimate is of a given model", "name one, or upload its config.json"
            )
        return EstimateQuestion(
            on=self.hardware,
            model=None if self.config else self.model,
            tokens=_positive(self.tokens, "1", "tokens"),
            seq_len=self.seq_len,
            global_batch=self.batch,
            precision=self.precision,
            unique_tokens=_positive(self.unique_tokens, "1", "unique_tokens"),
            settings=self.setting,
        )


def _positive(text: str | None, unit: str, name: str) -> float | None:
    """A quantity of the address in SI; None where none is given."""
    if text is None:
        return None
    value = parse_quantity(text, unit, name)
    if not 0 < value <= 1e30:
        raise UsageError(f"{name} (={text}) must be positive", "it is an amount", "leave it empty for none")
    return value


_SHAPE = ("width", "depth", "heads", "kv_heads", "head_dim", "ffn_size")
_TRY = ("try_width", "try_heads", "try_devices", "try_memory", "try_network", "try_budget")


def read_state(pairs: Iterable[tuple[str, str]]) -> State:
    """The state of a URL's query.

    Raises:
        UsageError: a parameter is unknown, or its value cannot be.
    """
    given: dict[str, Any] = {}
    for name, value in pairs:
        if not value.strip():
            continue
        if name in {"keep", "setting"}:
            given.setdefault(name, []).append(value)
        else:
            given[name] = value.strip()
    try:
        return adapter(State).validate_python(given)
    except ValidationError as error:
        first = error.errors(include_url=False, include_context=False)[0]
        name = ".".join(map(str, first["loc"]))
        shown = str(first.get("input", ""))[:60]
        raise UsageError(
            f"{name} (={shown!r}): {first['msg']}", "it is a parameter of this page's address", "mend it, or start again"
        ) from error  # fmt: skip
