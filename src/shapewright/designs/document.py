"""The Design: the document that everything after the search reads, and nothing else.

It is JSON with a version and a published schema. Loading refuses unknown keys by their path; saving and
loading is lossless. Every quantity in it is a :class:`~shapewright.evidence.Figure`.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from pydantic import ConfigDict, TypeAdapter

from shapewright.architecture.shape import Shape
from shapewright.errors import DocumentError
from shapewright.evidence import Figure, Kind
from shapewright.plan.parallel import Plan
from shapewright.plan.timeline import Pace
from shapewright.scaling.recipe import Recipe

SCHEMA_VERSION = 1


@dataclass(frozen=True, kw_only=True, slots=True)
class Request:
    """What was asked for."""

    hardware: str
    """The cluster as the user named it."""
    budget_kind: str
    """``time``, ``dollars``, ``energy``, ``flops`` or ``tokens`` (estimate of a given model: ``plan``)."""
    budget: Figure | None
    """The budget; None where only a step is estimated."""
    model: str | None = None
    """The given model, where the shape was not to be designed."""
    settings: tuple[str, ...] = ()
    """Overrides of hardware figures, as given."""
    constraints: tuple[str, ...] = ()
    """Everything else that was fixed by the user, one line each."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Assumption:
    """Something the answer rests on that the user did not say."""

    name: str
    text: str
    """The value in words."""
    kind: str
    source: str


@dataclass(frozen=True, kw_only=True, slots=True)
class Run:
    """The training run: how much of what, beside the recipe that says how."""

    tokens: Figure | None
    """Training tokens; None where only a step is estimated."""
    global_batch_sequences: int
    sequence_length: int
    precision: str
    """For example ``bf16``."""
    optimizer: str
    """Whose state and traffic are counted; the recipe is AdamW's whatever it is."""
    law: str | None
    """The loss law; None where no loss is predicted."""
    adapter_rank: int = 0
    """Rank of low-rank adapters beside frozen weights; 0 where every weight trains."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Repetition:
    """A corpus that the run may read more than once."""

    unique_tokens: Figure
    epochs: Figure
    """Training tokens over unique tokens; below 1 where nothing repeats."""
    effective_tokens: Figure
    """Fresh tokens that would do as well."""
    loss_cost: Figure | None
    """Predicted loss less that of as many fresh tokens; None where no law covers the request."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Prediction:
    """What it will do, each with its 90 % interval and the kind of evidence behind it."""

    params: Figure
    active_params: Figure
    step_time_s: Figure
    tokens_per_s: Figure
    mfu: Figure
    """Model FLOP (no recompute) over dense peak of the number format."""
    train_time_s: Figure | None
    train_flops: Figure | None
    memory_bytes: Figure
    """Peak per device."""
    memory_limit_bytes: Figure
    power_w: Figure | None
    """Mean power of the whole cluster while training; None where no limit is published."""
    energy_j: Figure | None
    dollars: Figure | None
    loss: Figure | None
    """None where no law covers the request."""
    extrapolation: float | None = None
    """Factor of compute outside the runs of the loss law; 1 inside, None where no loss is predicted [1]."""
    goodput: Figure | None = None
    """Share of the wall-clock time that is progress, between checkpoints and restarts [1]; None on one device."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Part:
    """One part of a breakdown; the parts of one breakdown add up to its total."""

    name: str
    """For example ``ffn.up`` or ``all-gather (tp)``."""
    cause: str
    """For a step: ``compute``, ``memory``, ``communication``, ``bubble``, ``recompute`` or ``launch``;
    for memory: ``weights``, ``gradients``, ``optimizer``, ``activations``, ``logits``, ``buffers``, ``framework``."""
    value: float
    """[s] or [B]."""
    share: float
    """Of the total [1]."""


@dataclass(frozen=True, kw_only=True, slots=True)
class RooflinePoint:
    """One operator on the roofline of the device."""

    name: str
    intensity: float
    """FLOP per byte of device memory traffic."""
    achieved_flops: float
    """[FLOP/s]."""
    peak_flops: float
    """Dense peak of the operator's number format [FLOP/s]."""
    roof_flops: float
    """The lower of that peak and intensity times memory bandwidth [FLOP/s]."""
    seconds: float
    """Of its forward passes in one step of one device."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Mover:
    """One operator that multiplies nothing, against the memory roof of the device."""

    name: str
    bandwidth: float
    """Bytes of device memory traffic per second [B/s]."""
    seconds: float
    """Of its forward passes in one step of one device."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Reason:
    """One line of why: what was chosen, what the nearest alternative would have cost."""

    topic: str
    text: str
    step_time_change: float | None = None
    """Relative change of the step time under the alternative [1]."""
    loss_change: float | None = None
    """Change of the predicted loss under the alternative."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Candidate:
    """A runner-up: another shape with its best plan."""

    summary: str
    """Width x depth, with the family and the number format where several were searched."""
    width: int
    depth: int
    heads: int
    kv_heads: int
    ffn_size: int
    params: float
    plan: str
    tokens: float
    step_time_s: float
    mfu: float
    loss: float
    tie: bool
    """True where the difference to the choice is inside the uncertainty."""
    pareto: bool
    """True where no candidate has both lower loss and less time per token."""
    family: str = "dense"
    """What it is beside its sizes: ``dense``, a number of experts, a pattern of mixers (search.families)."""
    active_params: float | None = None
    """Parameters that one token passes through; None where all do."""


@dataclass(frozen=True, kw_only=True, slots=True)
class TieFamily:
    """The candidates that the uncertainty cannot tell from the choice; ranges are (lowest, highest)."""

    count: int
    tie_width: float
    """Differences of predicted loss below this are ties."""
    families: tuple[str, ...]
    width: tuple[int, int]
    depth: tuple[int, int]
    active_params: tuple[float, float]
    tokens: tuple[float, float]
    text: str


@dataclass(frozen=True, kw_only=True, slots=True)
class Pick:
    """The best member of the family in one respect."""

    name: str
    """For example ``cheapest`` or ``fastest to serve``."""
    summary: str
    plan: str
    loss: float
    text: str
    """The figure that it was picked by, in words."""
    kind: Kind
    source: str


@dataclass(frozen=True, kw_only=True, slots=True)
class Elasticity:
    """What ten per cent more of one resource would buy."""

    resource: str
    loss_change: float | None
    """Change of the lowest predicted loss; None where it could not be priced."""
    tokens_change: float | None
    """Relative change of the tokens that the choice reads [1]."""
    summary: str | None
    """The member of the family that would be chosen then."""
    text: str


@dataclass(frozen=True, kw_only=True, slots=True)
class Rejected:
    """How many candidates fell to one rule."""

    reason: str
    count: int


@dataclass(frozen=True, kw_only=True, slots=True)
class LossPoint:
    """Predicted loss of the best design at another budget: the curve through the choice."""

    flops: float
    loss: float
    low: float
    high: float
    extrapolated: bool


@dataclass(frozen=True, kw_only=True, slots=True)
class Trust:
    """One piece of evidence that the predictions rest on, with its measured error."""

    name: str
    """For example ``matmul/bf16``."""
    kind: str
    text: str
    source: str


@dataclass(frozen=True, kw_only=True, slots=True)
class Design:
    """The whole document."""

    __pydantic_config__ = ConfigDict(
        extra="forbid", use_attribute_docstrings=True, ser_json_inf_nan="strings"
    )

    schema_version: int
    shapewright_version: str
    request: Request
    assumptions: tuple[Assumption, ...]
    shape: Shape
    plan: Plan
    run: Run
    recipe: Recipe | None
    """Batch, learning rate, schedule and optimizer settings; None where only a step is estimated, or adapters train."""
    predicted: Prediction
    step_parts: tuple[Part, ...]
    """The step time, part by part [s]."""
    memory_parts: tuple[Part, ...]
    """The memory of the fullest device, part by part [B]."""
    memory_bandwidth: Figure
    """Peak of one device [B/s]: the slope of the roofline."""
    roofline: tuple[RooflinePoint, ...]
    reasons: tuple[Reason, ...]
    candidates: tuple[Candidate, ...]
    """The choice first, then the runners-up by loss."""
    rejected: tuple[Rejected, ...]
    num_candidates: int
    """(shape, plan) pairs that were priced or rejected."""
    loss_curve: tuple[LossPoint, ...]
    trust: tuple[Trust, ...]
    warnings: tuple[str, ...] = ()
    movers: tuple[Mover, ...] = ()
    """What stands on no place of the roofline: operators that move bytes and multiply nothing."""
    ties: TieFamily | None = None
    """The family of the choice; None where nothing was searched."""
    picks: tuple[Pick, ...] = ()
    """The best members of the family, one per respect."""
    elasticities: tuple[Elasticity, ...] = ()
    """What ten per cent more of each resource would buy."""
    repetition: Repetition | None = None
    """What repeating the data costs; None where every token is taken to be fresh."""
    pace: Pace | None = None
    """What the step's timeline follows from; None in documents of earlier versions."""

    def why(self) -> str:
        """The reasons as text."""
        return "\n".join(reason.text for reason in self.reasons)

    def _repr_html_(self) -> str:
        """What a notebook shows."""
        from shapewright.designs.notebook import notebook_html

        return notebook_html(self)

    def to_json(self) -> str:
        """The document as JSON text."""
        return adapter().dump_json(self, indent=2).decode() + "\n"

    def save(self, path: str | Path, *, overwrite: bool = False) -> None:
        """Write the document to a file.

        Raises:
            DocumentError: the file exists and ``overwrite`` is false.
        """
        path = Path(path)
        if path.exists() and not overwrite:
            raise DocumentError(
                f"{path} exists already", "nothing is overwritten without being asked", "pass overwrite=True"
            )
        path.write_text(self.to_json(), encoding="utf-8")


@cache
def adapter() -> TypeAdapter[Design]:
    """The validator and serialiser of the document."""
    return TypeAdapter(Design)


def json_schema() -> dict[str, Any]:
    """The JSON Schema of the document."""
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", **adapter().json_schema()}
