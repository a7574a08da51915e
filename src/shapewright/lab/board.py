"""The live board of a training run: where it stands, how fast it is, and how that compares with what was predicted."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rich.panel import Panel
from rich.table import Table
from rich.text import Text

from shapewright.architecture.graph import build_graph

if TYPE_CHECKING:
    from shapewright.lab.train import Record
    from shapewright.lab.training import Training

BARS = "▁▂▃▄▅▆▇█"
WIDTH = 48
"""Columns of the curve of the loss."""


class Board:
    """Draws the records of one run."""

    def __init__(self, training: Training, peak: float | None) -> None:
        """``peak`` of the device in the run's format [FLOP/s]; None where it is not known, and then no MFU is shown."""
        s = training.setup
        forward = build_graph(s.shape, batch=s.batch, seq_len=s.seq_len).flops()
        self.step_flops, self.peak = 3.0 * float(forward), peak
        self.training = training
        self.losses: list[float] = []

    def show(self, record: Record) -> Panel:
        """The board after one more record."""
        self.losses.append(record.loss)
        grid = Table.grid(padding=(0, 2))
        of = f" of {record.steps:,}" if record.steps else ""
        grid.add_row("step", f"{record.step:,}{of}", f"{record.elapsed_s / 60:.1f} min")
        predicted = self.training.predicted_loss
        against = f"predicted at the end {predicted.value:.4f}" if predicted else ""
        grid.add_row("loss", f"{record.loss:.4f}", against)
        grid.add_row("", Text(self.curve()), "")
        told = record.predicted_step_time_s
        against = f"predicted {1e3 * told:.1f} ({record.step_time_s / told - 1:+.0%})" if told else ""
        grid.add_row("step time", f"{1e3 * record.step_time_s:.1f} ms", against)
        mfu = f"MFU {self.step_flops / record.step_time_s / self.peak:.0%}" if self.peak else ""
        grid.add_row("tokens/s", f"{record.tokens_per_s:,.0f}", mfu)
        grid.add_row("rate", f"{record.learning_rate:.3g}", "")
        return Panel(grid, title=self.training.setup.shape.name, expand=False)

    def curve(self) -> str:
        """The losses as bars, the latest at the right."""
        count = len(self.losses)
        width = min(count, WIDTH)
        groups = [self.losses[i * count // width : (i + 1) * count // width] for i in range(width)]
        means = [sum(group) / len(group) for group in groups]
        low, high = min(means), max(means)
        span = (high - low) or 1.0
        return "".join(BARS[round((len(BARS) - 1) * (mean - low) / span)] for mean in means)
