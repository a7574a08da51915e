"""What the verbs of primitives are asked for: an architecture by name, and the problem it is put to."""

from __future__ import annotations

from dataclasses import replace
from difflib import get_close_matches

from shapewright.architecture.catalog import model_names, resolve_model
from shapewright.architecture.presets import NAMES, preset
from shapewright.architecture.shape import Shape
from shapewright.cost.price import cost_model
from shapewright.errors import UnknownNameError, UsageError
from shapewright.hardware.catalog import load_accelerator, parse_cluster
from shapewright.outlook.scale import Problem, Sync
from shapewright.plan.precision import default_precision, find_precision
from shapewright.scaling.hyperparameters import kaplan_critical_batch_tokens
from shapewright.units import parse_quantity

USUAL_LOSS = 2.2
"""Loss at which the critical batch of weak scaling is read where none is given: a 7B model near its best [nat/token]."""
ALIASES = {"attention": "transformer", "gdn": "gated_deltanet", "deltanet": "gated_deltanet", "mamba_2": "mamba2",
           "rwkv": "rwkv7", "conv": "convolution", "sparse": "nsa"}  # fmt: skip


def architecture(name: str, params: float) -> Shape:
    """The model of a primitive of ``params`` parameters, a known model, or that of a file.

    Raises:
        UnknownNameError: none of these.
    """
    key = name.lower().replace("-", "_")
    key = ALIASES.get(key, key)
    if key in NAMES:
        return preset(key, params)
    try:
        return resolve_model(name)
    except UnknownNameError as error:
        names = (*NAMES, *ALIASES, *model_names())
        near = get_close_matches(key, names, n=1)
        raise UnknownNameError(
            "architecture",
            name,
            (*NAMES, *near),
            f"primitives: {', '.join(NAMES)}; models: shapewright models",
        ) from error


def scale_problem(
    hardware: str, most: int, *, seq_len: int, tokens: float, weak: bool = False,
    critical_batch: float | None = None, sync: Sync = "all-reduce", every: int = 100, precision: str | None = None,
    alpha: str | None = None, beta: str | None = None, settings: tuple[str, ...] = (),
) -> Problem:  # fmt: skip
    """The problem on up to ``most`` devices of ``hardware``; ``alpha`` and ``beta`` replace figures of its tiers.

    Raises:
        UsageError: a value out of range, or hardware with a count.
        UnknownNameError: unknown hardware or precision.
    """
    for name, value in (("--seq-len", seq_len), ("--tokens", tokens)):
        if value < 1:
            raise UsageError(f"{name} (={value:g}) must be at least 1", "it counts tokens", "for example 8k")
    accelerator = load_accelerator(hardware)
    cluster = parse_cluster(f"{most}x{accelerator.name}", settings)
    tiers = list(cluster.tiers)
    for text, field, unit, name in ((alpha, "latency", "s", "--alpha"), (beta, "bandwidth", "B/s", "--beta")):
        if text is None or not tiers:
            continue
        values = [parse_quantity(part, unit, name) for part in text.split(",")]
        if len(values) > len(tiers) or min(values) <= 0:
            raise UsageError(f"{name} (={text!r}) does not fit {len(tiers)} tiers", "one value, or one per tier, positive",
                             f"tiers: {', '.join(t.name for t in tiers)}")  # fmt: skip
        for tier, value in zip(range(len(tiers) - len(values), len(tiers)), values, strict=True):
            figure = getattr(tiers[tier], field)
            tiers[tier] = replace(
                tiers[tier],
                **{field: replace(figure, value=value, kind="assumed", source=f"given as {name}")},
            )
    cluster = replace(cluster, tiers=tuple(tiers))
    chosen = find_precision(precision) if precision else default_precision(cluster.accelerator)
    batch = critical_batch
    if batch is None and weak:
        batch = float(kaplan_critical_batch_tokens(USUAL_LOSS))
    return Problem(cluster=cluster, model=cost_model(cluster.accelerator), precision=chosen,
                   seq_len=seq_len, tokens=tokens, weak=weak, critical_batch=batch, sync=sync, every=every)  # fmt: skip
