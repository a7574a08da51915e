"""A ladder while it climbs, on the console and as a page in its folder, and what it says at the end.

Decisions: on a terminal a board is drawn anew every second; elsewhere there is a line for every run that ends. The page
is written anew at most every ten seconds, and loads itself again until the ladder is done.
"""

from __future__ import annotations

import threading
import time
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Any

from shapewright.cli.common import out, print_json, talk
from shapewright.errors import MeasurementError, ShapewrightError, UsageError

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from shapewright.lab.ladder import Clock
    from shapewright.lab.rungs import Plan, RateLaw, Row
    from shapewright.report.ladder_view import LadderState, Verdicts

PAGE_EVERY_S, RELOAD_S = 10.0, 5
FEW_STEPS = 1000
"""Runs of fewer steps are said to be short of them."""
DRAW_EVERY_S = 1.0
"""Seconds between two drawings of the board."""


def climb_and_show(
    plan: Plan, folder: Path, workers: int, engine: str, json: bool, clock: Clock | None
) -> None:
    """Run what is left of a ladder, watch it, and say what it found.

    Raises:
        MeasurementError: it was interrupted, a process died, or a file could not be written.
    """
    from shapewright.lab.ladder import climb, finished, left_out
    from shapewright.lab.state import only_one

    began = time.monotonic()
    remarks: list[str] = []
    page = _Page(folder, workers, remarks)
    try:
        with only_one(folder), _board(page) as say:

            def tell(line: str) -> None:
                if not line.startswith("finished "):
                    remarks.append(line)
                say(line)

            page.write()
            plan, rates = climb(plan, folder, workers=workers, tell=tell, engine=engine, clock=clock)
    except KeyboardInterrupt:
        raise MeasurementError(
            "the ladder was interrupted",
            f"what is finished stays in {folder}",
            f"go on: shapewright ladder resume {folder}",
        ) from None
    budget = "" if clock is None else f" of {clock.seconds / 60:g}"
    spent = time.monotonic() - (began if clock is None else clock.began)
    remarks.append(f"took {spent / 60:.1f}{budget} minutes")
    verdicts = _verdicts(plan, folder) if plan.arms else None
    state = page.state(live=False, rates=rates, left_out=left_out(plan, folder))
    page.write_last(state, verdicts)
    if json:
        print_json(_document(plan, folder, state, rates, finished(folder), verdicts))
        return
    from shapewright.report.ladder_view import ladder_view
    from shapewright.report.view import print_view

    print_view(ladder_view(state, verdicts), out())
    talk().print(f"wrote {folder / 'runs.csv'} and {folder / 'report.html'}", markup=False, soft_wrap=True)


class _Page:
    """The page in the ladder's folder."""

    def __init__(self, folder: Path, workers: int, remarks: list[str]) -> None:
        self.folder, self.workers, self.remarks = folder, workers, remarks
        self._written = float("-inf")

    def state(
        self, *, live: bool, rates: dict[str, RateLaw] | None = None, left_out: tuple[str, ...] = ()
    ) -> LadderState:
        """The ladder as it stands."""
        from shapewright.lab.ladder import jobs_of
        from shapewright.lab.standing import standing
        from shapewright.report.ladder_view import LadderState

        now = standing(self.folder, workers=self.workers, running=live)
        plan = now.plan
        arms = f"{', '.join(plan.arms)} at " if plan.arms else ""
        lengths = sorted({ratio for job in jobs_of(plan)[1] for ratio in job.ratios})
        return LadderState(
            request=f"{arms}{plan.top + 1} sizes, {now.sizes[0]:,} to {now.sizes[-1]:,} parameters, on "
            f"{Path(plan.data).name if plan.data else 'the source of the standard library'}, in {plan.minutes:g} minutes",
            assumed=(
                f"one {'thread' if plan.device == 'cpu' else 'CUDA device'} a process, fp32, batches of 1,024 bytes; AdamW, "
                "warm-up, constant rate, cooldown over the last fifth of every branch",
                *(_compared(lengths, plan.swept) if plan.arms else ()),
            ),
            remarks=tuple(dict.fromkeys((*((plan.note,) if plan.note else ()), *self.remarks, *_weak(plan, now.rows)))),
            rates=tuple(_rate_lines(rates or {})),
            rows=now.rows, expected=max(now.expected, len(now.rows)), share=now.share, left_s=now.left_s,
            ends=time.strftime("%H:%M", time.localtime(time.time() + (now.left_s or 0.0))),
            running=tuple((r.name, f"{r.step:,} of {r.steps:,}", f"{r.loss:.3f}") for r in now.running),
            left_out=left_out, folder=str(self.folder), live=live,
        )  # fmt: skip

    def write(self) -> None:
        """The page of a ladder that runs, where the last one is old enough."""
        from shapewright.lab.state import write_atomic
        from shapewright.report.ladder_view import ladder_view
        from shapewright.report.view import html_view

        if time.monotonic() - self._written < PAGE_EVERY_S:
            return
        self._written = time.monotonic()
        try:
            text = html_view(ladder_view(self.state(live=True), None), refresh_s=RELOAD_S)
            write_atomic(self.folder / "report.html", text.encode())
        except (ShapewrightError, OSError):
            return  # what a page cannot show, a full disk too, the runs themselves will say

    def write_last(self, state: LadderState, verdicts: Verdicts | None) -> None:
        """The page of a ladder that is done, or cut."""
        from shapewright.lab.state import write_atomic
        from shapewright.report.ladder_view import ladder_view
        from shapewright.report.view import html_view

        write_atomic(self.folder / "report.html", html_view(ladder_view(state, verdicts)).encode())


def _weak(plan: Plan, rows: Sequence[Row]) -> Iterator[str]:
    """What the runs of a comparison cannot rule out."""
    rungs = [row for row in rows if row["role"] == "rung"]
    if not plan.arms or not rungs:
        return
    if plan.seeds == 1:
        yield "one seed of each run: intervals rest on how runs scatter about the fit, and not on repeated ones"
    fewest = min(row["steps"] for row in rungs)
    if fewest < FEW_STEPS:
        yield f"the shortest run has {fewest} steps: small models are short of steps as well as of parameters"


def _compared(lengths: list[float], swept: int) -> tuple[str, ...]:
    """What a comparison takes for granted."""
    return (
        f"all arms see the same bytes in the same order; rates are swept per arm at {swept} of the lower sizes and "
        "carried upward by one power of size (transferred, not tuned, above them)",
        f"each run is judged at {' and '.join(f'{x:g}' for x in lengths)} tokens per parameter of the base",
    )


def _rate_lines(rates: dict[str, RateLaw]) -> Iterator[str]:
    for arm, law in rates.items():
        best = ", ".join(f"{rate:.3g} at {size:,.0f}" for size, rate in law.tuned.items())
        yield (f"{arm}: best learning rates {best} parameters outside the embedding N; carried upward as "
               f"{law.scale:.3g} N^-{law.power:.2f}")  # fmt: skip
        if law.at_end:
            yield f"the best rate of some sweep of {arm} is its first or last: rates are not tuned there"


@contextmanager
def _board(page: _Page) -> Iterator[Any]:
    """Draws the board on a terminal; yields what takes a line."""
    from rich.live import Live
    from rich.text import Text

    from shapewright.report.ladder_view import progress_text

    talker = talk()

    def lines() -> Text:
        try:
            state = page.state(live=True)
        except (ShapewrightError, OSError):
            return Text("")  # between two writes
        rows = [
            progress_text(state),
            *(f"  {name:36} {step:>18}  {loss}" for name, step, loss in state.running),
        ]
        return Text("\n".join(rows))

    live = Live(lines(), console=talker, auto_refresh=False, transient=True) if talker.is_terminal else None
    done = threading.Event()

    def watch() -> None:
        while not done.wait(DRAW_EVERY_S):
            if live is not None:
                live.update(lines(), refresh=True)
            page.write()

    watcher = threading.Thread(target=watch, daemon=True)
    with live or nullcontext():
        watcher.start()
        try:
            if live is not None:
                yield lambda line: live.console.print(line, markup=False)
            else:
                yield lambda line: talker.print(
                    f"{line} ({progress_text(page.state(live=True))})", markup=False
                )
        finally:
            done.set()
            watcher.join()


def _verdicts(plan: Plan, folder: Path) -> Verdicts:
    from shapewright.cli.gain import gains_of
    from shapewright.lab.ladder import finished
    from shapewright.report.ladder_view import Verdicts
    from shapewright.scaling.gain_runs import read_gain_runs

    done = {row["arm"] for row in finished(folder) if row["role"] == "rung"}
    without = [arm for arm in plan.arms if arm not in done]
    if without:
        refused = f"no run of {' and '.join(without)} is finished but for the sweeps of the learning rate"
        return Verdicts(found=None, base=plan.arms[0], gains={}, refused=refused)
    found = read_gain_runs(folder)
    try:
        gains, refused = gains_of(found, [*plan.arms[1:], plan.arms[0]], found.tuning), ""
    except UsageError as error:
        gains, refused = {}, "; ".join(part for part in (error.what, error.why, error.fix) if part)
    return Verdicts(found=found, base=plan.arms[0], gains=gains, refused=refused)


def _document(
    plan: Plan,
    folder: Path,
    state: LadderState,
    rates: dict[str, RateLaw],
    rows: list[Any],
    verdicts: Verdicts | None,
) -> dict[str, Any]:
    from shapewright.cli.answer import document as plain
    from shapewright.cli.gain import document

    told = {arm: {"scale": r.scale, "power": r.power, "at_end": list(r.at_end)} for arm, r in rates.items()}
    gains: dict[str, Any] | None = None
    if verdicts is not None:
        found = verdicts.found
        told_of = document(found, verdicts.base, found.tuning, verdicts.gains) if found is not None else {}
        gains = {**told_of, "refused": verdicts.refused}
    return plain(
        {"folder": str(folder), "minutes": plan.minutes, "rates": told, "runs": rows, "left_out": state.left_out,
         "remarks": state.remarks, "gain": gains}
    )  # fmt: skip
