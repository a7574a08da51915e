"""What is asked of a deployment, one way to serve, and all ways that were found."""

from __future__ import annotations

from dataclasses import dataclass

from shapewright.plan.serving_step import Layout


@dataclass(frozen=True, kw_only=True, slots=True)
class ServingGoal:
    """What is asked of a deployment."""

    isl: float
    """Tokens of a prompt."""
    osl: float
    """Tokens of an answer."""
    ttft: float | None = None
    """Longest mean time to first token [s]; None for no goal."""
    tpot: float | None = None
    """Longest mean time per output token [s]."""
    rate: float | None = None
    """Requests per second that arrive at the whole deployment (Poisson); None for constant concurrency."""
    cached: float = 0.0
    """Share of a prompt found in the prefix cache [1]."""
    spread: float = 0.0
    """Squared coefficient of variation of the prompts' lengths [1]."""
    gaps: float = 1.0
    """Squared coefficient of variation of the time between arrivals [1]; 1 is Poisson."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Deployment:
    """One way to serve, with what it gives."""

    layout: Layout
    replicas: int
    prefill_replicas: int
    """Of them, those that only prefill; 0 where every replica does both."""
    concurrency: float
    """Requests in flight per (decoding) replica."""
    ttft: float
    tpot: float
    per_user: float
    """Output tokens per second and user [1/s]."""
    per_device: float
    """Output tokens per second and device of the deployment [1/s]."""
    rate: float
    """Requests per second of the whole deployment [1/s]."""
    weights: float
    """Bytes per device."""
    cache: float
    """Bytes per device that the running requests occupy."""
    capacity: float
    """Requests that one replica's cache holds."""
    binds: str
    """What most of the time per token goes to."""
    parts: tuple[tuple[str, float], ...]
    """Seconds per output token by cause."""
    meets: bool
    """Whether it meets the goals."""


@dataclass(frozen=True, kw_only=True, slots=True)
class ServingPlan:
    """All that was found."""

    goal: ServingGoal
    front: tuple[Deployment, ...]
    """No other is better for users and for devices; from the fastest for a user to the cheapest."""
    picks: tuple[tuple[str, Deployment], ...]
    counts: tuple[tuple[str, int], ...]
    """Configurations looked at, by what became of them."""
    floor_tpot: float
    """Least time per output token of any layout, one request at a time [s]."""
    light_tpot: float
    """Time in which all devices read the active weights once at their peak bandwidth [s]."""
    floor_ttft: float
    """Least time to first token of any layout [s]."""
    largest_rate: float | None
    """Requests per second that the best layout keeps up with, where arrivals are stated [1/s]."""


BINDS = {
    "products": "reading weights and multiplying (products)", "attention": "attention over the cache",
    "experts": "reading and multiplying experts", "state": "recurrent states",
    "memory": "norms and activations", "reduce": "all-reduces of tensor parallelism",
    "exchange": "exchange of tokens between experts", "host": "the engine's host time",
    "prefill": "prompts of other requests",
}  # fmt: skip
