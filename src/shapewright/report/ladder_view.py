"""A ladder on the console and as a page, while it climbs and when it is done.

Decisions: the page of a ladder that runs loads itself again and shows no verdict: looking again and again until one
appears would break the rate of false ones. What was not done in time is named.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from shapewright.report.gain_view import Gains, answer_lines, gain_charts, trust_lines, why_lines
from shapewright.report.ladder import ladder_chart
from shapewright.report.view import Chart, Grid, View
from shapewright.scaling.gain_runs import Runs
from shapewright.units import format_count, format_duration

MOST_NAMED = 8
"""Runs that are not done, named at most."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Verdicts:
    """What a finished ladder of arms says."""

    found: Runs | None
    """None where an arm has no finished run."""
    base: str
    gains: Gains
    refused: str
    """Why there are no gains; empty where there are."""


@dataclass(frozen=True, kw_only=True, slots=True)
class LadderState:
    """A ladder at one moment, as it is shown."""

    request: str
    assumed: tuple[str, ...]
    remarks: tuple[str, ...]
    """What happened: damaged checkpoints, diverged runs, changes of plan."""
    rates: tuple[str, ...]
    """The learning rate of each arm."""
    rows: Sequence[Mapping[str, Any]]
    """Finished branches."""
    expected: int
    """Branches in all."""
    share: float
    """Of the work that is done."""
    left_s: float | None
    """Until the expected end; None where it is not known."""
    ends: str
    """That end on the clock of the wall; empty where it is not known."""
    running: tuple[tuple[str, str, str], ...]
    """Name, step and loss of every run in progress."""
    left_out: tuple[str, ...]
    """Runs that are not done, where nobody runs them."""
    folder: str
    live: bool
    """Whether it runs now."""


def progress_text(state: LadderState) -> str:
    """How far it is, and when it will be done."""
    text = f"{len(state.rows)} of {state.expected} branches, {state.share:.0%} of the work"
    if state.live and state.left_s:
        text += f"; about {format_duration(state.left_s)} left, until {state.ends}"
    return text


def ladder_view(state: LadderState, verdicts: Verdicts | None) -> View:
    """Sections in the order of every verb; ``verdicts`` None while it runs, and for a ladder without arms."""
    answer: list[str | Grid] = [progress_text(state)]
    if state.running:
        answer.append(Grid(headers=("run", "step", "loss"), numbers=("step", "loss"), rows=state.running))
    if state.live:
        answer.append(
            "the verdict comes at the end: one that is looked for until it appears is false too often"
        )
    why: list[str] = list(state.rates)
    trust: list[str] = []
    charts: list[Chart] = []
    if verdicts is not None:
        if verdicts.refused:
            answer.append(f"no verdict: {verdicts.refused}")
        answer += answer_lines(verdicts.base, verdicts.gains)
        why += why_lines(verdicts.gains)
        if verdicts.found is not None and verdicts.gains:
            trust += trust_lines(verdicts.found, verdicts.gains)
            charts += gain_charts(verdicts.found, verdicts.base, verdicts.gains)
    spec = ladder_chart(state.rows)
    if spec is not None:
        charts.append(
            Chart(name="ladder", title="Loss of every run", caption="held-out text; crosses: sweeps of the learning rate",
                  spec=spec, grid=_rows(state.rows))
        )  # fmt: skip
    sections: tuple[tuple[str, tuple[str | Grid, ...]], ...] = (
        ("Request", (state.request,)),
        ("Assumed", state.assumed),
        ("Answer", tuple(answer)),
        ("Why", tuple(why)),
        ("Trust", (*trust, *state.remarks, *_cut(state))),
        ("Next", tuple(_next(state, verdicts))),
    )
    return View(
        title="A ladder of small models",
        sections=tuple((name, lines) for name, lines in sections if lines),
        charts=tuple(charts),
    )


def _cut(state: LadderState) -> Iterable[str]:
    if state.left_out and not state.live:
        named = ", ".join(state.left_out[:MOST_NAMED])
        more = f" and {len(state.left_out) - MOST_NAMED} more" if len(state.left_out) > MOST_NAMED else ""
        yield f"not done in time: {named}{more}"


def _next(state: LadderState, verdicts: Verdicts | None) -> Iterable[str]:
    if state.left_out and not state.live:
        yield f"shapewright ladder resume {state.folder}"
    if verdicts is not None and verdicts.gains:
        names = " ".join((*verdicts.gains, verdicts.base))
        yield f"shapewright gain {names} --runs {state.folder} --on h100_sxm"
    elif verdicts is None and not state.live:
        yield f"shapewright fit law {state.folder}/runs.csv --where role=rung"


def _rows(rows: Sequence[Mapping[str, Any]]) -> Grid:
    return Grid(
        headers=("run", "parameters", "tokens per parameter", "rate", "steps", "loss", "seconds"),
        numbers=("parameters", "tokens per parameter", "rate", "steps", "loss", "seconds"),
        rows=tuple(
            (str(r["name"]), format_count(r["params"]), f"{r['ratio']:g}", f"{r['lr']:.3g}", str(r["steps"]),
             f"{r['loss']:.4f}", f"{r['seconds']:.1f}")
            for r in rows
        ),
    )  # fmt: skip
