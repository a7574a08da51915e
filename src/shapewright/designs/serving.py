"""A design that will be served: training plus lifetime serving, among shapes that the loss law cannot tell apart.

Decisions: the training budget is spent whole by every candidate, so what is left to choose is the serving cost at a
loss that is no worse than the tie width of the law above the pure-training optimum's. Key-value heads, head size, layers,
width and (where the family is searched) the mixer pattern move; each candidate is planned on the same accelerators by
the closed form of ``plan.serving``, at its best split and concurrency within the goals, prefilling and decoding together.
The best few of these and the pure-training optimum are then planned whole, as ``serve-plan`` does, so that both tell the
same of one model. The law sees key-value heads only by their parameters, so groups larger than ``WIDEST_GROUP`` are not
offered.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from shapewright.architecture.shape import SelfAttention, Shape
from shapewright.cost.price import cost_model
from shapewright.designs.document import Assumption, Reason
from shapewright.errors import InfeasibleError, UsageError
from shapewright.hardware.cluster import Cluster
from shapewright.plan.deployment import ServingGoal
from shapewright.plan.engine import Engine, find_engine
from shapewright.plan.serving_formats import ServingFormats, serving_formats
from shapewright.plan.serving_search import plan_serving, serving_rate
from shapewright.search.budget import Budget
from shapewright.search.joint import Options, rank
from shapewright.search.ranking import Ranking
from shapewright.search.serve import without
from shapewright.units import format_count, format_quantity, parse_quantity

WIDEST_GROUP = 16
"""Query heads that share a key head at most; published models go to 16 (GLM-4.5: 12, Qwen3-235B: 16)."""
KV_HEADS = (2, 4, 8)
HEAD_DIMS = (64, 128)
FINALISTS = 3
"""Shapes that are planned whole."""
LOOKED_AT = 40
"""Shapes of each lattice that are planned: those of the fewest active parameters within the tie."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Serve:
    """What the model will be served for."""

    isl: float = 4000.0
    osl: float = 1000.0
    tokens: float = 1e13
    """Output tokens over its life."""
    tpot: float | None = None
    ttft: float | None = None
    precision: str | None = None
    engine: str = "vllm"

    def describe(self) -> str:
        """In words."""
        goals = "".join(
            f", {name} at most {format_quantity(value, 's')}"
            for name, value in (("a token", self.tpot), ("the first", self.ttft)) if value
        )  # fmt: skip
        return f"{format_count(self.tokens)} output tokens, {self.isl:,.0f} in and {self.osl:,.0f} out{goals}"


_LEAST = {"isl": 1.0, "osl": 2.0, "tokens": 1.0}
"""Fewest tokens; a time per output token is between two of them."""
_UNITS = {"isl": "1", "osl": "1", "tokens": "1", "tpot": "s", "ttft": "s"}


def parse_serve(text: str) -> Serve:
    """``isl=4000 osl=1000 tokens=1e13 tpot=20ms`` as a workload.

    Raises:
        UsageError: a word is no ``name=value``, a name is not known or a value not positive.
    """
    values: dict[str, float | str] = {}
    if not text.strip():
        raise UsageError("--serve is empty", "it says what is served", 'try: --serve "tokens=1e13 tpot=20ms"')
    for word in text.replace(",", " ").split():
        name, equals, value = word.partition("=")
        if not equals or name not in (*_UNITS, "precision", "engine"):
            known = ", ".join((*_UNITS, "precision", "engine"))
            raise UsageError(
                f"--serve has {word!r}", f"it is a list of name=value with the names {known}",
                'try: --serve "isl=4000 osl=1000 tokens=1e13 tpot=20ms"',
            )  # fmt: skip
        if name in _UNITS:
            number = parse_quantity(value, _UNITS[name], f"--serve {name}")
            least = _LEAST.get(name, 0.0)
            if number <= 0 or number < least:
                rule = f"at least {least:g}" if least else "positive"
                raise UsageError(
                    f"--serve {name} (={value}) must be {rule}",
                    "it counts tokens" if least else "it is a time",
                    f"try: {name}={'1000' if least else '20ms'}",
                )
            values[name] = number
        else:
            values[name] = value
    return Serve(**values)  # type: ignore[arg-type]


@dataclass(frozen=True, kw_only=True, slots=True)
class Rated:
    """A shape with its serving rate."""

    shape: Shape
    loss: float
    tokens_per_s: float
    """Output tokens per second and device [1/s]; 0 where it is not rated yet."""
    how: str
    """Split and concurrency."""
    ranking: Ranking
    """Where it is laid out."""
    index: int
    """Its place there."""
    pins: dict[str, int]
    """What fixes it, for what is asked about it afterwards."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Chosen:
    """The choice, ranked alone so that everything after reads it as any other design."""

    ranking: Ranking
    options: Options
    reasons: tuple[Reason, ...]
    assumptions: tuple[Assumption, ...]


def choose_served(
    ranking: Ranking, cluster: Cluster, budget: Budget, options: Options, serve: Serve
) -> Chosen:
    """The cheapest shape to serve among those that train as well as the best.

    Raises:
        InfeasibleError: no such shape can be served within the goals.
    """
    best = ranking.best
    bar = float(ranking.loss[best]) + ranking.tie_width
    engine = find_engine(serve.engine)
    rated = [
        found for item in _lattices(ranking, cluster, budget, options)
        for index in _eligible(item, bar) if (found := _rate(item, index, cluster, engine, serve)) is not None
    ]  # fmt: skip
    optimum = _planned(_candidate(ranking, best), cluster, engine, serve)
    finalists = [_planned(each, cluster, engine, serve) for each in _fastest(rated)]
    able = [each for each in (optimum, *finalists) if each is not None]
    if not able:
        raise InfeasibleError(
            "no shape that trains as well as the best can be served within the goals",
            f"{serve.describe()} on {cluster.name}", "loosen tpot or ttft in --serve, or use more devices",
        )  # fmt: skip
    chosen = max(able, key=lambda item: item.tokens_per_s)
    pinned = replace(options, shape=chosen.pins, family=chosen.ranking.arm_of(chosen.index).family)
    others = np.arange(chosen.ranking.loss.size) != chosen.index
    dearer = int(np.isfinite(chosen.ranking.loss[others]).sum())
    alone = without(chosen.ranking, others, {"not the cheapest to serve at a loss as good": dearer})
    price = cluster.price_per_device_hour
    return Chosen(
        ranking=alone, options=pinned,
        reasons=(_comparison(chosen, optimum, ranking, serve, price.value if price else None),),
        assumptions=(
            Assumption(name="serving", text=f"{serve.describe()}; {engine.label}, {chosen.how}", kind="assumed",
                       source="asked for"),
            Assumption(
                name="key heads", kind="assumed", source="designs.serving",
                text=f"the loss law sees key-value heads by their parameters only; groups of at most {WIDEST_GROUP}; "
                f"{len(rated):,} shapes within the tie of the lowest loss were planned for serving",
            ),
        ),
    )  # fmt: skip


def _lattices(ranking: Ranking, cluster: Cluster, budget: Budget, options: Options) -> list[Ranking]:
    """The ranking, and those with other key-value heads and head sizes, where they are not pinned."""
    found = [ranking]
    for head_dim in (options.shape["head_dim"],) if "head_dim" in options.shape else HEAD_DIMS:
        for kv_heads in (options.shape["kv_heads"],) if "kv_heads" in options.shape else KV_HEADS:
            pins = {**options.shape, "head_dim": head_dim, "kv_heads": kv_heads}
            try:
                found.append(rank(cluster, budget, replace(options, shape=pins)))
            except (InfeasibleError, UsageError):
                continue
    return found


def _eligible(ranking: Ranking, bar: float) -> list[int]:
    within = ranking.order[ranking.loss[ranking.order] <= bar]
    return within[np.argsort(ranking.active_params[within], kind="stable")][:LOOKED_AT].tolist()


def _fastest(rated: list[Rated]) -> list[Rated]:
    """The few with the highest rates; of lattices that share a shape it counts once."""
    first = {str(each.pins): each for each in sorted(rated, key=lambda each: each.tokens_per_s)}
    return sorted(first.values(), key=lambda each: -each.tokens_per_s)[:FINALISTS]


def _rate(ranking: Ranking, index: int, cluster: Cluster, engine: Engine, serve: Serve) -> Rated | None:
    """A candidate with its rate by replicas that prefill and decode; None where it cannot be served or offered."""
    found = _candidate(ranking, index)
    mixer = found.shape.blocks[0].mixer
    if isinstance(mixer, SelfAttention) and mixer.heads / mixer.kv_heads > WIDEST_GROUP:
        return None
    rate = shape_rate(found.shape, cluster, engine, serve)
    return None if rate is None else replace(found, tokens_per_s=rate[0], how=rate[1])


def _planned(rated: Rated, cluster: Cluster, engine: Engine, serve: Serve) -> Rated | None:
    """The same with the cheapest deployment within the goals of all; None where there is none."""
    goal = ServingGoal(isl=serve.isl, osl=serve.osl, tpot=serve.tpot, ttft=serve.ttft)
    try:
        plan = plan_serving(
            rated.shape, cluster=cluster, model=cost_model(cluster.accelerator), engine=engine,
            formats=_formats(rated.shape, cluster, serve), goal=goal,
        )  # fmt: skip
    except InfeasibleError:
        return None
    d = plan.picks[0][1]
    apart = f", {d.prefill_replicas} of {d.replicas} replicas prefill" if d.prefill_replicas else ""
    how = f"tp {d.layout.tp}, {d.concurrency:.0f} requests at a time{apart}, {d.tpot * 1e3:.3g} ms a token"
    return replace(rated, tokens_per_s=d.per_device, how=how)


def _candidate(ranking: Ranking, index: int) -> Rated:
    """A candidate that is not rated yet."""
    shape = ranking.shape(index)
    mixer = shape.blocks[0].mixer
    heads = mixer if isinstance(mixer, SelfAttention) else None
    pins = {"width": int(shape.hidden_size), "depth": int(shape.num_layers), "ffn_size": _ffn(shape)}
    if heads is not None:
        pins |= {"heads": int(heads.heads), "kv_heads": int(heads.kv_heads), "head_dim": int(heads.head_dim)}
    return Rated(shape=shape, loss=float(ranking.loss[index]), tokens_per_s=0.0, how="", ranking=ranking, index=index,
                 pins=pins)  # fmt: skip


def _ffn(shape: Shape) -> int:
    return int(getattr(shape.blocks[0].channel, "ffn_size", 0))


def shape_rate(shape: Shape, cluster: Cluster, engine: Engine, serve: Serve) -> tuple[float, str] | None:
    """Output tokens per second and device at the best split within the goals; None where there is none."""
    return serving_rate(shape, cluster=cluster, engine=engine, formats=_formats(shape, cluster, serve),
                        goal=ServingGoal(isl=serve.isl, osl=serve.osl, tpot=serve.tpot, ttft=serve.ttft))  # fmt: skip


def _formats(shape: Shape, cluster: Cluster, serve: Serve) -> ServingFormats:
    name = serve.precision or ("fp8" if "fp8" in cluster.accelerator.peak_flops else "bf16")
    return serving_formats(name, shape, cluster.accelerator)


def _comparison(
    chosen: Rated, optimum: Rated | None, ranking: Ranking, serve: Serve, price: float | None
) -> Reason:
    best_loss = float(ranking.loss[ranking.best])
    if optimum is None:
        text = (
            f"the pure-training optimum, {_words(ranking, ranking.best)}, cannot be served within the goals at all; "
            f"this shape gives {chosen.tokens_per_s:,.0f} tokens/s per device"
        )
    else:
        gain = chosen.tokens_per_s / optimum.tokens_per_s - 1.0
        text = (
            f"served at {chosen.tokens_per_s:,.0f} tokens/s per device ({chosen.how}); the pure-training optimum, "
            f"{_words(optimum.ranking, optimum.index)}, gives {optimum.tokens_per_s:,.0f}: {gain:+.0%} at a predicted loss "
            f"{chosen.loss - best_loss:+.4f}. "
            f"Lifetime serving {_cost(serve, chosen, price)} instead of {_cost(serve, optimum, price)}, beside the same "
            "training budget"
        )
    return Reason(topic="serving", loss_change=chosen.loss - best_loss, text=text)


def _cost(serve: Serve, rated: Rated, price: float | None) -> str:
    hours = serve.tokens / rated.tokens_per_s / 3600.0
    return (
        f"{format_quantity(hours * price, 'USD')}"
        if price is not None
        else f"{format_count(hours)} device-hours"
    )


def _words(ranking: Ranking, index: int) -> str:
    shape, family = ranking.shape(index), ranking.arm_of(index).family
    mixer = shape.blocks[0].mixer
    heads = f", {mixer.kv_heads} key heads of {mixer.head_dim}" if isinstance(mixer, SelfAttention) else ""
    return f"{shape.hidden_size}x{shape.num_layers}{heads}" + (f" ({family})" if family != "dense" else "")
