"""Would the choice have been right? Predicted losses, choices among measured shapes, best sizes, known models.

Decisions: slices are ``loss/SUBSET``, ``loss/isoflop/CORPUS`` and ``loss/mixtures/CORPUS`` (errors of predicted losses),
``regret_loss/SCHEDULE`` and ``regret_hours/SCHEDULE`` (there ``median_ape`` is the *mean* regret, ``bias`` its median,
``coverage_90`` the share of budgets whose measured loss lies in the interval of the choice's predicted one, and the
baseline chooses by FLOP alone).
The intervals of ``loss/isoflop`` have the width that the other budgets' errors give. ``all`` holds every distinct
measurement of the file once. A named file is scored alone; without one, the iso-FLOP corpora and the known models are
scored as well.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from shapewright.errors import DocumentError, ShapewrightError
from shapewright.scaling.assess import HoldOut, coverage_of_others
from shapewright.scaling.forms import Array
from shapewright.scaling.law import Law, predict_from_inputs
from shapewright.scaling.protocol_gemstones import GEMSTONES_SEQ_LEN, GEMSTONES_VOCAB
from shapewright.validation.frontier import DEVICES_PER_NODE, Step, predict_steps, price_step
from shapewright.validation.gemstones import SUBSETS, Row, Setup, distinct, read_rows, setups
from shapewright.validation.isoflops import Minimum, corpora, left_out_minima
from shapewright.validation.known import KnownModel, known_models
from shapewright.validation.known_hardware import Comparison, compare_all
from shapewright.validation.losses import Predictions, chinchilla_losses, laws_by_shape, predict_losses
from shapewright.validation.mixtures import CORPUS, Mixtures, left_out_mixtures
from shapewright.validation.published import Skip
from shapewright.validation.regret import Choice, Chooser, budgets, choose_all, curves, hours_per_token

SCHEDULES = ("constant", "decayed")
"""Schedules under which shapes compete; half the rate was an ablation."""
OURS, ALONE, FLOP_ONLY = "ours", "ours, cost model alone", "FLOP only"


@dataclass(frozen=True, kw_only=True, slots=True)
class Slice:
    """The errors of one slice, as fractions."""

    name: str
    count: int
    covered: int
    median_ape: float
    p90_ape: float
    bias: float
    """Median of the signed error."""
    coverage_90: float
    """Share inside the 90 % interval."""
    baseline_median_ape: float


@dataclass(frozen=True, kw_only=True, slots=True)
class Report:
    """Everything that was scored."""

    slices: tuple[Slice, ...]
    skipped: tuple[Skip, ...]
    steps: tuple[Step, ...]
    choices: tuple[Choice, ...]
    minima: tuple[Minimum, ...]
    known: tuple[KnownModel, ...]
    """Against the law's split of the same compute, hardware left aside."""
    compared: tuple[Comparison, ...]
    """Against our choice for the same hardware and time."""
    not_compared: tuple[Skip, ...]

    @property
    def step_error(self) -> tuple[float, float]:
        """Median error of the predicted steps: with the two factors, and by the cost model alone."""
        measured = [step.setup.step_time for step in self.steps]
        alone = [abs(step.alone / m - 1.0) for step, m in zip(self.steps, measured, strict=True)]
        return float(np.median([abs(step.error) for step in self.steps])), float(np.median(alone))


def validate_designs(
    path: Path, *, folder: Path | None = None, models: Sequence[str] | None = None
) -> Report:
    """Score the file, and with ``folder`` (of open scaling data) the iso-FLOP corpora and the known models.

    ``models`` are the known models to compare on their hardware; None for all.

    Raises:
        DocumentError: the file cannot be used.
        UsageError: a file of the folder cannot be used.
    """
    rows, skips = read_rows(path)
    laws, without_law = laws_by_shape(rows)
    rows_told = [row for row in rows if row.shape in laws]
    if not rows_told:
        raise DocumentError(
            f"{path}: none of its {len(rows):,} rows can be predicted", without_law[0].reason,
            "add the other shapes, or name a file of shapes that the law has not seen",
        )  # fmt: skip
    slices = _loss_slices(rows_told, laws, missed=len(skips) + len(rows) - len(rows_told))
    trained, without_step = _priceable(setups(rows_told))
    steps = predict_steps(trained.values())
    choices, few = _choices(rows_told, trained, steps, laws)
    slices += _regret_slices(choices)
    minima = [m for name, (runs, near) in _corpora(folder) for m in left_out_minima(name, runs, near)]
    slices += _isoflop_slices(minima)
    compared, not_compared = compare_all(models) if folder else ([], [])
    mixtures = left_out_mixtures(folder) if folder else None
    slices += [_mixture_slice(mixtures)] if mixtures else []
    return Report(
        slices=tuple(slices), skipped=(*skips, *without_law, *without_step, *few), steps=tuple(steps.values()),
        choices=tuple(choices), minima=tuple(minima), known=tuple(known_models() if folder else ()),
        compared=tuple(compared), not_compared=tuple(not_compared),
    )  # fmt: skip


def _corpora(folder: Path | None) -> Iterable[tuple[str, Any]]:
    return corpora(folder).items() if folder else ()


def _priceable(found: Mapping[str, Setup]) -> tuple[dict[str, Setup], list[Skip]]:
    """The shapes whose step can be predicted, and why the others cannot."""
    good: dict[str, Setup] = {}
    skips = []
    for name, setup in found.items():
        try:
            price_step(setup)
        except ShapewrightError as error:
            skips.append(Skip(row=name, reason=str(error).splitlines()[0]))
        else:
            good[name] = setup
    return good, skips


def _loss_slices(rows: Sequence[Row], laws: Mapping[str, Law], *, missed: int) -> list[Slice]:
    told = predict_losses(rows, laws)
    once = {row.line for row in distinct(rows)}
    found = [_loss_slice("all", told.where([row.line in once for row in rows]), missed)]
    for subset in SUBSETS:
        part = told.where([row.subset == subset for row in rows])
        if part.rows:
            found.append(_loss_slice(f"loss/{subset}", part, 0))
    return found


def _loss_slice(name: str, told: Predictions, missed: int) -> Slice:
    measured = told.measured
    return _slice(
        name, told.loss / measured - 1.0, told.baseline / measured - 1.0, missed=missed,
        inside=(told.low <= measured) & (measured <= told.high),
    )  # fmt: skip


def _slice(name: str, errors: Array, baseline: Array, *, missed: int = 0, inside: Any) -> Slice:
    return Slice(
        name=name, count=len(errors) + missed, covered=len(errors), median_ape=float(np.median(np.abs(errors))),
        p90_ape=float(np.quantile(np.abs(errors), 0.9)), bias=float(np.median(errors)),
        coverage_90=float(np.mean(inside)),
        baseline_median_ape=float(np.median(np.abs(baseline))),
    )  # fmt: skip


def _choices(
    rows: Sequence[Row], trained: Mapping[str, Setup], steps: Mapping[str, Step], laws: Mapping[str, Law]
) -> tuple[list[Choice], list[Skip]]:
    """Every chooser at every budget, under each schedule."""
    choices, skips = [], []
    for schedule in SCHEDULES:
        measured = curves(rows, trained, schedule)
        if not len(budgets(measured)):
            reason = (
                f"{len(measured)} shapes have a measured {schedule} curve: a choice needs two that overlap"
            )
            skips.append(Skip(row=f"regret/{schedule}", reason=reason))
            continue
        for chooser in choosers(trained, steps, laws, schedule):
            choices += choose_all(chooser, measured, schedule)
    return choices, skips


def choosers(
    trained: Mapping[str, Setup], steps: Mapping[str, Step], laws: Mapping[str, Law], schedule: str
) -> tuple[Chooser, ...]:
    """Ours with and without the factors for MI250X, and Chinchilla at one rate for all shapes.

    The rate is the median measured one, 6 N per token over measured seconds: a hindsight that nobody has.
    """
    decayed = float(schedule == "decayed")

    def by_law(shape: str, tokens: float) -> tuple[float, float, float]:
        setup, law = trained[shape], laws[shape]
        head, span = law.constants["head_vocab"], law.constants["attention_span"]
        inner = setup.params - 2.0 * GEMSTONES_VOCAB * setup.width
        told = predict_from_inputs(
            law, size=inner + head * setup.width + span * setup.width * setup.depth, tokens=tokens,
            width=setup.width, depth=setup.depth, decayed=decayed, lr_halvings=0.0,
        )  # fmt: skip
        return float(told.loss), float(told.low), float(told.high)

    def by_chinchilla(shape: str, tokens: float) -> tuple[float, float, float]:
        loss = float(chinchilla_losses(np.array([trained[shape].params]), np.array([tokens]))[0])
        return loss, loss, loss

    rate = float(np.median([6.0 * s.params / hours_per_token(s, s.step_time) for s in trained.values()]))
    with_factors = {name: hours_per_token(step.setup, step.predicted) for name, step in steps.items()}
    alone = {name: hours_per_token(step.setup, step.alone) for name, step in steps.items()}
    by_flop = {name: 6.0 * setup.params / rate for name, setup in trained.items()}
    return (
        Chooser(name=OURS, hours_per_token=with_factors, loss=by_law),
        Chooser(name=ALONE, hours_per_token=alone, loss=by_law),
        Chooser(name=FLOP_ONLY, hours_per_token=by_flop, loss=by_chinchilla),
    )


def _regret_slices(choices: Sequence[Choice]) -> list[Slice]:
    found = []
    for kind in ("loss", "hours"):
        for schedule in ("all", *SCHEDULES):
            mine, flop = (
                [c for c in choices if c.chooser == name and schedule in ("all", c.schedule)]
                for name in (OURS, FLOP_ONLY)
            )
            if mine:
                found.append(
                    _regret_slice(
                        f"regret_{kind}/{schedule}", mine, _regrets(mine, kind), _regrets(flop, kind)
                    )
                )
    return found


def _regrets(choices: Sequence[Choice], kind: str) -> Array:
    return np.array([c.regret_loss if kind == "loss" else c.regret_hours for c in choices])


def _regret_slice(name: str, choices: Sequence[Choice], regrets: Array, baseline: Array) -> Slice:
    return Slice(
        name=name, count=len(regrets), covered=len(regrets), median_ape=float(np.mean(regrets)),
        p90_ape=float(np.quantile(regrets, 0.9)), bias=float(np.median(regrets)),
        coverage_90=float(np.mean([c.low <= c.measured_loss <= c.high for c in choices])),
        baseline_median_ape=float(np.mean(baseline)),
    )  # fmt: skip


def mean_regrets(choices: Sequence[Choice]) -> list[dict[str, Any]]:
    """Mean regret of every chooser under every schedule."""
    keys = dict.fromkeys((c.schedule, c.chooser) for c in choices)
    table = []
    for schedule, chooser in keys:
        mine = [c for c in choices if (c.schedule, c.chooser) == (schedule, chooser)]
        table.append({
            "schedule": schedule, "chooser": chooser, "budgets": len(mine),
            "regret_loss": float(np.mean(_regrets(mine, "loss"))),
            "regret_hours": float(np.mean(_regrets(mine, "hours"))),
        })  # fmt: skip
    return table


def _isoflop_slices(minima: Sequence[Minimum]) -> list[Slice]:
    found = []
    for corpus in dict.fromkeys(m.corpus for m in minima):
        mine = [m for m in minima if m.corpus == corpus]
        residuals = np.concatenate([m.residuals for m in mine])
        baseline = np.concatenate([m.baseline_residuals for m in mine])
        held = HoldOut(residuals=residuals, groups=tuple(f"{m.flops:g}" for m in mine for _ in m.residuals))
        found.append(
            _slice(
                f"loss/isoflop/{corpus}",
                np.expm1(residuals),
                np.expm1(baseline),
                inside=coverage_of_others(held),
            )
        )
    return found


def _mixture_slice(mixtures: Mixtures) -> Slice:
    return _slice(
        f"loss/mixtures/{CORPUS}",
        np.expm1(mixtures.residuals),
        np.expm1(mixtures.baseline_residuals),
        inside=mixtures.inside,
    )


def best_sizes(minima: Sequence[Minimum]) -> list[dict[str, Any]]:
    """Per corpus and over all: the median error of the best size, and of 20 tokens per parameter."""
    table = []
    for corpus in (*dict.fromkeys(m.corpus for m in minima), *(("all",) if minima else ())):
        mine = [m for m in minima if corpus in ("all", m.corpus)]
        off = np.array([m.size_predicted / m.size - 1.0 for m in mine])
        table.append({
            "corpus": corpus, "budgets": len(mine), "size_median_ape": float(np.median(np.abs(off))),
            "size_bias": float(np.median(off)),
            "size_baseline_median_ape": float(np.median([abs(m.size_baseline / m.size - 1.0) for m in mine])),
            "loss_median_ape": float(np.median([abs(m.loss_predicted / m.loss - 1.0) for m in mine])),
        })  # fmt: skip
    return table


def document(report: Report) -> dict[str, Any]:
    """The document of ``--json``."""
    steps = [
        {
            "shape": step.setup.shape, "devices": step.setup.nodes * DEVICES_PER_NODE, "measured_s": step.setup.step_time,
            "predicted_s": step.predicted, "error": step.error, "cost_model_alone_s": step.alone,
            "factors": list(step.factors), "global_batch_tokens": step.setup.batch * GEMSTONES_SEQ_LEN,
        }
        for step in report.steps
    ]  # fmt: skip
    return {
        "slices": [asdict(s) for s in report.slices],
        "skipped": [asdict(s) for s in report.skipped],
        "choosers": mean_regrets(report.choices),
        "choices": [asdict(c) for c in report.choices],
        "steps": steps,
        "best_sizes": best_sizes(report.minima),
        "minima": [asdict(m) for m in report.minima],
        "known_models": [asdict(c) for c in report.compared],
        "known_models_not_compared": [asdict(s) for s in report.not_compared],
        "known_models_law_only": [asdict(k) for k in report.known],
    }
