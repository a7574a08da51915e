"""A law: a loss family with parameters, covariance and provenance, and what it predicts.

Decisions: a law says in which units it counts size (``param_convention``) and the code converts; a caller
never has to know. The 90 % interval adds three variances of ln loss: of the parameters (their covariance), of
single runs around the law (``residual_sd``), and of the law itself beyond the compute it was fitted on
(``drift_per_decade``, measured by holding out the largest compute). A loss is only comparable with losses on
the same data and tokenizer: the interval does not cover a change of corpus.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import cache, cached_property
from importlib import resources
from typing import Any, Literal

import numpy as np

from shapewright.errors import NotCoveredError, UnknownNameError, UsageError
from shapewright.scaling.experts import beyond_sd, ln_growth, total_over_active
from shapewright.scaling.forms import Array, Form, Inputs, get_form
from shapewright.scaling.repetition import REPETITION_SD, effective_tokens, excess_factor

ParamConvention = Literal["all", "non_embedding", "compute"]
Values = Any
"""A number or an array of numbers; all broadcast."""

Z90 = 1.6448536269514722
"""Two-sided 90 % quantile of the normal distribution."""
FAR_COMPUTE = 100.0
"""A loss predicted for more than this factor of compute outside the runs of its law is marked wherever it is shown."""
CHUNK = 1 << 15
"""Rows evaluated at once: ten float64 columns of it stay in a 4 MB cache."""


NO_GROWTH = (np.zeros(()), np.zeros(()))


@dataclass(frozen=True, kw_only=True, slots=True)
class Check:
    """One thing that was measured about a law on data it was not fitted on, or about its fit."""

    name: str
    """What was measured."""
    value: float
    """The result."""
    unit: str
    """``fraction`` of loss, ``fraction`` of rows, ``nat``, ``1``..."""
    how: str
    """How it was measured."""


@dataclass(frozen=True, kw_only=True)
class Law:
    """A named loss law."""

    name: str
    """Name in the catalogue."""
    family: str
    """The form (``forms.FORMS``)."""
    parameters: Mapping[str, float]
    """Parameters in the units of the formula."""
    covariance: tuple[tuple[float, ...], ...]
    """Covariance of the fitted vector; its axes are ``form.axes()``."""
    residual_sd: float
    """Standard deviation of one run around the law [ln loss], shapes not fitted on included."""
    drift_per_decade: float
    """Standard deviation added per factor of ten of compute beyond the fitted range [ln loss]."""
    dataset: str
    """Corpus and tokenizer that the loss refers to."""
    source: str
    """Where the runs come from."""
    licence: str
    """Licence of the runs; ``none`` where their repository carries none."""
    rows: int
    """Measurements fitted on."""
    runs: int
    """Independent runs (clusters) among them."""
    fitted_range: Mapping[str, tuple[float, float]]
    """Smallest and largest ``params``, ``tokens`` and ``flops`` fitted on, and ``aspect`` (width over depth)."""
    param_convention: ParamConvention
    """Size counted as: ``all`` parameters; ``non_embedding``; ``compute``: parameters multiplied per token, with
    the head at ``head_vocab`` and attention at ``attention_span``."""
    flop_convention: str
    """What ``flops`` of the fitted range counts."""
    constants: Mapping[str, float] = field(default_factory=dict)
    """``head_vocab`` and ``attention_span`` of the ``compute`` convention."""
    unit: str = "nat/token"
    """Unit of the loss."""
    notes: tuple[str, ...] = ()
    """What a reader must know: identifiability, what the data leave open."""
    checks: tuple[Check, ...] = ()
    """What was measured about it."""
    residual_scale: Mapping[str, float] = field(default_factory=dict)
    """Factor on ``residual_sd`` where an input is 1 (a decayed rate, half the rate); empty where rows scatter alike."""
    command: str = ""
    """The command that writes this law again."""

    @property
    def form(self) -> Form:
        """The loss family."""
        return get_form(self.family)

    @cached_property
    def theta(self) -> Array:
        """Parameters as the fitted vector."""
        return self.form.to_theta(self.parameters)

    @cached_property
    def covariance_factor(self) -> Array:
        """F with F F^T equal to the covariance: rows of g F give the spread of a prediction."""
        values, vectors = np.linalg.eigh(np.array(self.covariance))
        return vectors * np.sqrt(np.clip(values, 0.0, None))


@dataclass(frozen=True, kw_only=True, slots=True)
class LossPrediction:
    """Predicted loss with its interval; arrays of the broadcast shape of the inputs."""

    loss: Array
    """Predicted loss [nat/token]."""
    low: Array
    """Lower end of the 90 % interval."""
    high: Array
    """Upper end of the 90 % interval."""
    extrapolation: Array
    """Factor of compute outside the fitted range (above or below); 1 inside."""
    law: str
    """Name of the law."""


def law_size(
    law: Law, *, active_params: Values, embedding_params: Values, width: Values, depth: Values
) -> Array:
    """Model size as ``law`` counts it.

    ``compute`` counts the parameters a token is multiplied with: those outside the embeddings, a head of
    ``head_vocab`` x width, and attention as ``attention_span`` x width per layer (scores and values over half
    a sequence on average, the causal triangle). Both constants are those of the law's own runs, so that a
    larger vocabulary or a longer sequence does not count as a larger model.
    """
    if law.param_convention == "all":
        return np.asarray(active_params, float)
    inner = np.asarray(active_params, float) - embedding_params
    if law.param_convention == "non_embedding":
        return inner
    head, span = law.constants["head_vocab"], law.constants["attention_span"]
    return inner + head * np.asarray(width, float) + span * np.asarray(width, float) * depth


def predict_loss(
    law: Law,
    *,
    active_params: Values,
    embedding_params: Values,
    tokens: Values,
    width: Values,
    depth: Values,
    params: Values | None = None,
    granularity: Values = 1.0,
    activation: Values = 1.0,
    fineness: Values = 2.0,
    mlp_ratio: Values | None = None,
    unique_tokens: Values | None = None,
    decayed: Values = 1.0,
    lr_halvings: Values = 0.0,
) -> LossPrediction:
    """Predict the final loss of training runs; all arguments broadcast.

    Args:
        law: the law.
        active_params: parameters that one token passes through, embeddings and head included.
        embedding_params: parameters of the embedding tables and of an untied head.
        tokens: training tokens.
        width: width of the residual stream.
        depth: number of layers.
        params: all parameters, where experts make them more than the active ones (:mod:`experts`); None for a
            dense model.
        granularity: experts that a token sees, shared ones too; 1 for a dense model.
        activation: share of the experts' width that a token sees; 1 for a dense model (:mod:`leverage`).
        fineness: twice the width over that of an expert.
        mlp_ratio: parameters of the channel mixers over those of the token mixers, for laws that weigh it; None for what
            the models behind the law's size term had.
        unique_tokens: tokens of the corpus, where training repeats it (:mod:`repetition`); None for no repetition.
        decayed: 1 for a learning rate decayed to (near) zero at the end, 0 for a constant one.
        lr_halvings: by how many factors of two the learning rate lies below the law's own recipe.

    Raises:
        UsageError: a size or the number of tokens is not positive, or total parameters are fewer than active ones.
        NotCoveredError: experts, where the law was fitted on dense shapes alone.
    """
    size = law_size(
        law, active_params=active_params, embedding_params=embedding_params, width=width, depth=depth
    )
    ratio = 1.0 if params is None else total_over_active(params, active_params)
    if "mlp_ratio" in law.form.inputs and np.any(np.asarray(ratio) > 1.0 + 1e-9):
        raise NotCoveredError(
            f"law {law.name} does not cover mixtures of experts",
            "it was fitted on dense shapes",
            "take another law, for example --law chinchilla_shape",
        )
    usual = law.parameters.get("usual_mlp", 1.0)
    inner = np.maximum(np.asarray(active_params, float) - embedding_params, 1.0)
    growth = ln_growth(ratio, granularity)
    if "total" in law.form.inputs:
        growth = np.zeros(()), beyond_sd(ratio)
    elif "activation" in law.form.inputs:
        growth = NO_GROWTH
    return _predict(
        law, growth, unique_tokens,
        size=size, total=size * ratio, granularity=granularity, activation=activation, fineness=fineness, tokens=tokens,
        width=width, depth=depth,
        relative_width=np.asarray(width, float) / np.sqrt(inner), mlp_ratio=usual if mlp_ratio is None else mlp_ratio,
        decayed=decayed, lr_halvings=lr_halvings,
    )  # fmt: skip


def predict_from_inputs(law: Law, **inputs: Values) -> LossPrediction:
    """Predict from the inputs of the law's form (``size`` in the law's own convention)."""
    return _predict(law, NO_GROWTH, None, **inputs)


def shifted(prediction: LossPrediction, shift: float, sd: float) -> LossPrediction:
    """``prediction`` with ln loss moved by ``shift``, whose standard deviation ``sd`` widens the interval."""
    before = np.log(prediction.high / prediction.loss) / Z90
    factor = np.exp(Z90 * np.hypot(before, sd))
    loss = prediction.loss * np.exp(shift)
    return replace(prediction, loss=loss, low=loss / factor, high=loss * factor)


def _predict(
    law: Law, growth: tuple[Array, Array], unique: Values | None, **inputs: Values
) -> LossPrediction:
    """Predict; ``growth`` is what experts add to ln size and its standard deviation, where the form does not say it
    itself; ``unique`` the tokens of a corpus that is repeated."""
    needed = {name: np.asarray(inputs[name], float) for name in law.form.inputs}
    for name in ("size", "tokens", "width", "depth"):
        if name in needed and not np.all(needed[name] > 0):
            worst = float(np.min(needed[name]))
            raise UsageError(
                f"{name} (={worst:g}) is not positive",
                "a loss law needs positive sizes",
                f"give a positive {name}",
            )
    added, unsure = growth
    corpus = np.asarray(np.inf if unique is None else unique, float)
    shape = np.broadcast_shapes(
        added.shape, unsure.shape, corpus.shape, *(value.shape for value in needed.values())
    )
    flat = {name: np.broadcast_to(value, shape).ravel() for name, value in needed.items()}
    flops = 6.0 * flat["size"] * flat["tokens"]
    low_flops, high_flops = law.fitted_range["flops"]
    extrapolation = np.maximum(np.maximum(flops / high_flops, low_flops / flops), 1.0)
    scatter = np.full(flops.shape, law.residual_sd)
    for name, factor in law.residual_scale.items():
        scatter = scatter * factor ** flat[name]
    variance = scatter**2 + (law.drift_per_decade * np.log10(extrapolation)) ** 2
    if added.any():
        flat["size"] = flat["size"] * np.exp(np.broadcast_to(added, shape).ravel())
    if unsure.any():
        variance = variance + (size_slope(law, flat) * np.broadcast_to(unsure, shape).ravel()) ** 2
    if unique is not None:
        flat, cost = _repeated(law, flat, np.broadcast_to(corpus, shape).ravel())
        variance = variance + (REPETITION_SD * cost) ** 2
    loss, parameter_variance = _mean_and_variance(law, flat)
    factor = np.exp(Z90 * np.sqrt(variance + parameter_variance))
    return LossPrediction(
        loss=loss.reshape(shape), low=(loss / factor).reshape(shape), high=(loss * factor).reshape(shape),
        extrapolation=extrapolation.reshape(shape), law=law.name,
    )  # fmt: skip


def _repeated(law: Law, flat: Inputs, unique: Array) -> tuple[dict[str, Array], Array]:
    """The inputs of fresh tokens that would do as well as the repeated ones, and what repetition costs [ln loss]."""
    factor = excess_factor(flat["size"], flat["tokens"], unique)
    worth = {**flat, "size": flat["size"] * factor, "tokens": effective_tokens(flat["tokens"], unique)}
    if "total" in flat:
        worth["total"] = flat["total"] * factor
    fresh, _ = law.form.evaluate(law.theta, flat, False)
    repeated, _ = law.form.evaluate(law.theta, worth, False)
    return worth, np.log(repeated / fresh)


def size_slope(law: Law, inputs: Inputs) -> Array:
    """d ln loss / d ln size at the inputs of the law's form; a mixture grows with all its experts."""
    step = 1e-4

    def moved(by: float) -> Array:
        grown = {name: inputs[name] * np.exp(by) for name in ("size", "total") if name in inputs}
        return np.log(law.form.evaluate(law.theta, {**inputs, **grown}, False)[0])

    return (moved(step) - moved(-step)) / (2.0 * step)


def _mean_and_variance(law: Law, flat: Inputs) -> tuple[Array, Array]:
    """Loss, and variance of ln loss from the parameters' covariance, in cache-sized pieces."""
    count = flat["size"].size
    loss, variance = np.empty(count), np.empty(count)
    evaluate, theta, factor = law.form.evaluate, law.theta, law.covariance_factor
    for first in range(0, count, CHUNK):
        piece = slice(first, first + CHUNK)
        loss[piece], gradient = evaluate(theta, {name: value[piece] for name, value in flat.items()}, True)
        spread = np.stack(gradient, axis=0).T @ factor
        variance[piece] = np.einsum("ij,ij->i", spread, spread)
    return loss, variance


def far_remarks(law: Law, flops: float) -> tuple[str, ...]:
    """One line where losses at this compute [FLOP] lie far outside the law's runs; none elsewhere."""
    low, high = law.fitted_range["flops"]
    factor = max(flops / high, low / flops)
    if factor <= FAR_COMPUTE:
        return ()
    return (
        f"FAR EXTRAPOLATION: the loss law {law.name} was fitted on {low:.1e} to {high:.1e} FLOP; this is a factor of "
        f"{factor:,.0f} outside. Take losses as an index for ranking, not as figures.",
    )


def law_names() -> tuple[str, ...]:
    """Names of the laws that ship."""
    folder = resources.files("shapewright") / "data" / "laws"
    return tuple(
        sorted(entry.name.removesuffix(".toml") for entry in folder.iterdir() if entry.name.endswith(".toml"))
    )


def load_law(name: str) -> Law:
    """The shipped law called ``name``, or the law in the file of that path, which is then its name.

    Raises:
        UnknownNameError: no law has that name.
        DocumentError: the file cannot be read, or is no law.
    """
    from shapewright.scaling.lawfile import load_law_file

    return load_law_file(name) if name.endswith(".toml") else _shipped(name)


@cache
def _shipped(name: str) -> Law:
    from shapewright.scaling.lawfile import read_law

    if name not in law_names():
        raise UnknownNameError("law", name, law_names(), "or name a law's file: my_law.toml")
    text = (resources.files("shapewright") / "data" / "laws" / f"{name}.toml").read_text(encoding="utf-8")
    return read_law(text, where=f"{name}.toml")


DEFAULT_LAW = "chinchilla_shape"
"""Chinchilla for size and tokens (57 million to 16 billion parameters, the widest range with open points),
Gemstones for the shape factor."""
SMALL_LAW = "porian_shape"
"""Porian's runs for size and tokens (5 to 900 million parameters), Gemstones for the shape factor: for budgets below
the smallest Chinchilla run, where two powers fitted on large models overshoot (at 2e14 FLOP by 58 % against the
Transformers of Gundlach et al., which neither law was fitted on; this law by 1.5 %)."""


BYTES_LAW = "stdlib_bytes"
"""The project's own ladder of byte models: what a laptop trains in minutes. Its losses are of source code, in nat per
byte, so it serves models of bytes only."""
BYTES = "nat/byte"
"""Unit of laws of bytes."""
BYTES_VOCAB = 256
BYTES_FLOPS = 1e16
"""Budgets below this take ``BYTES_LAW`` where the vocabulary is bytes [FLOP] (assumed: three decades above its runs,
where its interval is as wide as that of a borrowed law)."""


def default_law(*, flops: float | None = None, vocab_size: int | None = None) -> Law:
    """The law used where nobody names one: ``DEFAULT_LAW``, or ``SMALL_LAW`` below its smallest run, or ``BYTES_LAW``.

    Args:
        flops: training budget [FLOP]; None where it is not known yet.
        vocab_size: vocabulary of the model; None where it is not known yet.
    """
    if flops is not None and flops < BYTES_FLOPS and vocab_size == BYTES_VOCAB:
        return load_law(BYTES_LAW)
    law = load_law(DEFAULT_LAW)
    return load_law(SMALL_LAW) if flops is not None and flops < law.fitted_range["flops"][0] else law
