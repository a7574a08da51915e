"""The report of ``shapewright validate designs`` as text of at most 80 columns."""

from __future__ import annotations

from collections.abc import Iterator

from shapewright.validation.designs import Report, best_sizes, mean_regrets
from shapewright.validation.known import median_saving
from shapewright.validation.known_text import lines as known_lines


def lines(report: Report) -> Iterator[str]:
    """The report, line by line."""
    yield f"{'slice':<32} {'rows':>5} {'done':>5} {'median':>6} {'p90':>5} {'bias':>6} {'in 90%':>6} {'base':>5}"
    for s in report.slices:
        yield (
            f"{s.name:<32} {s.count:>5,} {s.covered:>5,} {s.median_ape:>6.2%} {s.p90_ape:>5.1%} {s.bias:>+6.2%} "
            f"{s.coverage_90:>6.0%} {s.baseline_median_ape:>5.1%}"
        )
    yield "regret_*: the mean regret stands under median; base chooses by FLOP alone"
    yield from _choosers(report)
    yield from _steps(report)
    yield from _sizes(report)
    yield from _known(report)
    if report.skipped:
        yield f"{len(report.skipped):,} rows or shapes were not scored; --json lists each with its reason"


def _choosers(report: Report) -> Iterator[str]:
    if report.choices:
        yield ""
        yield f"{'mean regret, by chooser':<36} {'budgets':>7} {'loss':>7} {'device-hours':>12}"
    for row in mean_regrets(report.choices):
        name = f"{row['schedule']}: {row['chooser']}"
        yield f"{name:<36} {row['budgets']:>7} {row['regret_loss']:>7.2%} {row['regret_hours']:>12.1%}"


def _steps(report: Report) -> Iterator[str]:
    if report.steps:
        ours, alone = report.step_error
        yield ""
        yield f"Steps of {len(report.steps)} shapes: median error {ours:.1%}; cost model alone {alone:.1%}"
    for step in report.steps:
        yield (
            f"  {step.setup.shape:<8} measured {step.setup.step_time:>6.3f} s  predicted {step.predicted:>6.3f} s "
            f"({step.error:+.0%})  alone {step.alone:>6.3f} s"
        )


def _sizes(report: Report) -> Iterator[str]:
    if report.minima:
        yield ""
        yield f"{'best size, budgets left out':<28} {'budgets':>7} {'size':>6} {'bias':>7} {'20 D/N':>6} {'loss':>6}"
    for row in best_sizes(report.minima):
        yield (
            f"{row['corpus']:<28} {row['budgets']:>7} {row['size_median_ape']:>6.1%} {row['size_bias']:>+7.1%} "
            f"{row['size_baseline_median_ape']:>6.0%} {row['loss_median_ape']:>6.2%}"
        )


def _known(report: Report) -> Iterator[str]:
    yield from known_lines(report.compared, report.not_compared)
    if report.known:
        yield ""
        yield (
            f"By the law alone, {len(report.known)} dense models: its split of the same FLOP saves "
            f"{median_saving(list(report.known)):.0%} (median)"
        )
