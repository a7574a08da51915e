"""What may be asked from outside: the edge of the studio, validated by pydantic, unknown keys refused.

Decisions: names are those of catalogues; a text that could be a path never reaches a function that would open it.
The options are those of the command line under the same names. Every number and every list is bounded, so that the
time an answer takes is bounded by the question.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field, fields, replace
from functools import cache
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError

from shapewright.errors import DocumentError, UsageError
from shapewright.search.budget import Budget
from shapewright.search.joint import Options
from shapewright.search.serve import ServingLimits

STRICT = ConfigDict(extra="forbid", use_attribute_docstrings=True)
Name = Annotated[str, Field(min_length=1, max_length=80)]
Amount = Annotated[float, Field(gt=0, le=1e30, allow_inf_nan=False)]
Count = Annotated[int, Field(ge=1, le=10_000_000)]
Axis = Annotated[int, Field(ge=1, le=100_000)]
Setting = Annotated[str, Field(min_length=3, max_length=80)]
_HARDWARE = re.compile(r"[A-Za-z0-9_ :×-]+")


@dataclass(frozen=True, kw_only=True, slots=True)
class ShapePins:
    """Numbers of the shape that are not to be searched."""

    __pydantic_config__ = STRICT

    width: Axis | None = None
    depth: Annotated[int, Field(ge=1, le=2000)] | None = None
    heads: Axis | None = None
    kv_heads: Axis | None = None
    head_dim: Axis | None = None
    ffn_size: Axis | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class PlanPins:
    """Axes of the plan that are not to be searched."""

    __pydantic_config__ = STRICT

    tp: Axis | None = None
    pp: Axis | None = None
    vpp: Axis | None = None
    cp: Axis | None = None
    ep: Axis | None = None
    etp: Axis | None = None
    dp_shard: Axis | None = None
    dp_replicate: Axis | None = None
    micro_batch: Axis | None = None
    recompute: Name | None = None
    """``none``, ``selective`` or ``full``."""
    sharding: Name | None = None
    """What ``dp_shard`` splits: ``none``, ``optimizer``, ``gradients`` or ``parameters``."""


@dataclass(frozen=True, kw_only=True, slots=True)
class DesignQuestion:
    """What model should this budget train on this hardware? Exactly one budget is given."""

    __pydantic_config__ = STRICT

    hardware: Name
    """For example ``64xh100_sxm``, ``dgx_b200`` or ``this``."""
    days: Amount | None = None
    hours: Amount | None = None
    minutes: Amount | None = None
    dollars: Amount | None = None
    """[USD]"""
    energy: Amount | None = None
    """[J]"""
    flops: Amount | None = None
    """Training FLOP."""
    seq_len: Count | None = None
    vocab_size: Count | None = None
    precision: Name | None = None
    framework: Name | None = None
    law: Name | None = None
    global_batch: Count | None = None
    """Sequences per step."""
    unique_tokens: Amount | None = None
    """Tokens of the corpus, which training repeats where it reads more; left out where every token is fresh."""
    family: Name = "dense"
    """What to lay out: ``dense``, ``moe``, ``hybrid``, ``all``, or one family such as ``64 experts``."""
    max_tpot: Amount | None = None
    """Longest time per token when it is served [s]."""
    max_token_price: Amount | None = None
    """Most dollars for a million tokens when it is served [USD]."""
    serve: Annotated[str, Field(max_length=120)] | None = None
    """Count lifetime serving, too: ``isl=4000 osl=1000 tokens=1e13 tpot=20ms ttft=2s``."""
    shape: ShapePins = field(default_factory=ShapePins)
    plan: PlanPins = field(default_factory=PlanPins)
    settings: Annotated[tuple[Setting, ...], Field(max_length=16)] = ()
    """Overrides of hardware figures, for example ``memory_bandwidth=4TB/s``."""


@dataclass(frozen=True, kw_only=True, slots=True)
class EstimateQuestion:
    """What does training a given model cost here, under a plan or under the best one?"""

    __pydantic_config__ = STRICT

    on: Name
    """For example ``64xh100_sxm``."""
    model: Name | None = None
    """A known model."""
    config: dict[str, Any] | None = None
    """A Hugging Face ``config.json``, in place of a known model."""
    tokens: Amount | None = None
    """Training tokens: adds time, energy, dollars and loss."""
    seq_len: Count | None = None
    precision: Name | None = None
    framework: Name | None = None
    law: Name | None = None
    global_batch: Count | None = None
    unique_tokens: Amount | None = None
    """Tokens of the corpus, which training repeats where it reads more."""
    plan: PlanPins = field(default_factory=PlanPins)
    settings: Annotated[tuple[Setting, ...], Field(max_length=16)] = ()


@dataclass(frozen=True, kw_only=True, slots=True)
class LintQuestion:
    """Which numbers of a shape do not fall on this hardware, and what does each cost?"""

    __pydantic_config__ = STRICT

    on: Name
    model: Name | None = None
    config: dict[str, Any] | None = None
    """A Hugging Face ``config.json``, in place of a known model."""
    seq_len: Count | None = None
    precision: Name | None = None
    tp: Axis = 1
    pp: Axis = 1
    vpp: Axis = 1
    micro_batch: Axis = 1
    settings: Annotated[tuple[Setting, ...], Field(max_length=16)] = ()


@dataclass(frozen=True, kw_only=True, slots=True)
class LadderQuestion:
    """Train a ladder of small models on this machine."""

    __pydantic_config__ = STRICT

    minutes: Annotated[float, Field(gt=0, le=1440, allow_inf_nan=False)] = 30.0
    """Time for the whole ladder on an idle machine."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Verb:
    """A verb of the command line that the studio passes on."""

    name: str
    summary: str
    question: type[BaseModel]
    """Its options, as the command line reads them, without those that name files."""


@cache
def adapter(kind: type) -> TypeAdapter[Any]:
    """The validator of a question."""
    return TypeAdapter(kind)


def read_question(kind: type, body: bytes) -> Any:
    """A question from the JSON of a request.

    Raises:
        DocumentError: the text is not JSON, or does not follow the schema; the message names the first path.
    """
    try:
        return adapter(kind).validate_json(body)
    except ValidationError as error:
        first = error.errors(include_url=False, include_context=False)[0]
        where = ".".join(map(str, first["loc"])) or "body"
        count = error.error_count()
        if first["type"] == "string_pattern_mismatch":
            raise DocumentError(
                f"{where} (={str(first['input'])[:60]!r}) could be a path",
                "a text is a name of a catalogue, a number or a quantity; files are named on the command line only",
                "send a name, for example llama-3-8b",
            ) from error
        raise DocumentError(
            f"{where}: {first['msg']}",
            f"{count} {'place does' if count == 1 else 'places do'} not follow the schema of {kind.__name__}",
            "the schema is in /api/openapi.json",
        ) from error


def check_hardware(name: str) -> str:
    """A name of hardware that cannot be a path.

    Raises:
        UsageError: it has other letters than names have.
    """
    if not _HARDWARE.fullmatch(name):
        raise UsageError(
            f"hardware (={name[:60]!r}) is not a name",
            "letters, digits, _ - : x only; files are named on the command line",
            "for example: 64xh100_sxm",
        )
    return name


def budget_of(question: DesignQuestion) -> Budget:
    """The one budget of a question.

    Raises:
        UsageError: none or several were given.
    """
    from shapewright.api import budget_from

    names = ("days", "hours", "minutes", "dollars", "energy", "flops")
    return budget_from(**{name: getattr(question, name) for name in names})


def options_of(question: DesignQuestion | EstimateQuestion) -> Options:
    """What the question fixes.

    Raises:
        UsageError: a word of the plan is not known.
    """
    options = Options(
        seq_len=question.seq_len,
        precision=question.precision,
        framework=question.framework,
        law=question.law,
        global_batch=question.global_batch,
        unique_tokens=question.unique_tokens,
        plan=_plan(question.plan),
    )
    if isinstance(question, EstimateQuestion):
        return options
    limits = ServingLimits(tpot=question.max_tpot, dollars_per_million=question.max_token_price)
    return replace(
        options,
        family=question.family,
        vocab_size=question.vocab_size,
        shape=_given(question.shape),
        serving=limits if limits != ServingLimits() else None,
    )


def _plan(pins: PlanPins) -> dict[str, int]:
    from shapewright.plan.parallel import RECOMPUTE, SHARDING

    numbers = {}
    for name, value in _given(pins).items():
        words = {"recompute": RECOMPUTE, "sharding": SHARDING}.get(name)
        if words is None:
            numbers[name] = value
        elif value in words:
            numbers[name] = words.index(value)
        else:
            raise UsageError(
                f"plan.{name} (={value!r}) is not known", f"known: {', '.join(words)}", f"try: {words[0]}"
            )
    return numbers


def _given(pins: Any) -> dict[str, Any]:
    return {f.name: value for f in fields(pins) if (value := getattr(pins, f.name)) is not None}
