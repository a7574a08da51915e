"""Runs in the columns of ``gemstones_train.csv``: read, checked, and turned into shapes that can be priced.

Decisions: a row that states something impossible is skipped with its reason; a file without the columns, or without
one usable row, is refused. A measurement listed under several subsets counts once wherever subsets meet. The models
are described by their published architecture (a Gemma with heads of 128, half as many key heads, a gated layer of
four widths), which gives the stated parameters of every shape exactly; a row whose parameters it does not give is
some other model, and its step is not predicted.
"""

from __future__ import annotations

import csv
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from statistics import median

from shapewright.architecture.graph import num_params
from shapewright.architecture.shape import Block, DenseFFN, Norm, SelfAttention, Shape
from shapewright.errors import DocumentError
from shapewright.scaling.law import Law
from shapewright.scaling.protocol_gemstones import GEMSTONES_SEQ_LEN, GEMSTONES_VOCAB, schedule_of_subset
from shapewright.validation.published import Skip

COLUMNS = (
    "run_name", "params_active_precise", "width", "depth", "tokens", "step", "num_nodes", "seconds_per_step",
    "final_loss", "subset",
)  # fmt: skip
"""Columns of a file."""
SUBSETS = (
    "hot", "hot_477", "hot_100b+", "hot_100b+_477", "hot_120b+_only", "cool_begin", "cool_end", "lr_ablation_hot",
)  # fmt: skip
"""Subsets whose learning-rate schedule is known (mcleish7/gemstone-scaling-laws@5f42047)."""
HEAD_DIM = 128
"""Width of a head of every Gemstone (arXiv 2502.06857, section 3)."""
FITTED_SHAPES = frozenset({
    "256x23", "256x27", "256x71", "256x80", "384x13", "512x11", "512x13", "512x14", "512x16", "768x3", "768x45",
    "1024x28", "1280x36", "1792x7", "1792x18", "2560x8",
})  # fmt: skip
"""The 16 shapes of gemstones_train.csv, on which the law ``gemstones`` and the factors of the step are fitted. Each is
predicted with itself left out; the shapes of any other file by the law and the factors as they ship."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Row:
    """One measured point of a training run."""

    line: int
    """Line of the file."""
    run: str
    width: int
    depth: int
    params: float
    """Parameters, embedding and head included."""
    tokens: float
    """Tokens trained on so far."""
    batch: int
    """Sequences per step."""
    nodes: int
    """Nodes of Frontier."""
    step_time: float
    """Mean time of a step of the run [s]."""
    loss: float
    """[nat/token]"""
    subset: str

    @property
    def shape(self) -> str:
        """``width x depth``."""
        return f"{self.width}x{self.depth}"

    @property
    def schedule(self) -> str:
        """``constant``, ``decayed`` or ``half_rate``."""
        decayed, halvings = schedule_of_subset(self.subset)
        return "decayed" if decayed else "half_rate" if halvings else "constant"

    @property
    def measurement(self) -> tuple[str, float, str]:
        """What tells one measurement from another, whatever subsets list it."""
        return (self.run, self.tokens, self.schedule)


def read_rows(path: Path) -> tuple[list[Row], list[Skip]]:
    """Read a file.

    Raises:
        DocumentError: the file cannot be read, lacks columns, or holds no usable row.
    """
    fix = "name a CSV with the columns of gemstones_train.csv"
    try:
        with path.open(newline="", encoding="utf-8") as handle:
            reader = csv.DictReader(handle)
            records = [(reader.line_num, record) for record in reader]
            header = reader.fieldnames or []
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise DocumentError(f"{path} cannot be read", str(error), fix) from error
    missing = [column for column in COLUMNS if column not in header]
    if missing:
        raise DocumentError(
            f"{path} lacks columns {', '.join(missing)}", f"needed: {', '.join(COLUMNS)}", fix
        )
    rows: list[Row] = []
    skips: list[Skip] = []
    losses: dict[tuple[str, float, str], float] = {}
    for line, record in records:
        try:
            row = _row(line, record)
            if losses.setdefault(row.measurement, row.loss) != row.loss:
                raise ValueError(f"run {row.run} states another loss at {row.tokens:.4g} tokens")
        except ValueError as reason:
            skips.append(Skip(row=f"line {line}", reason=str(reason)))
        else:
            rows.append(row)
    if not rows:
        first = f"{skips[0].row}: {skips[0].reason}" if skips else "there are no rows"
        raise DocumentError(f"{path} holds no usable row", first, fix)
    return rows, skips


def _row(line: int, record: dict[str, str]) -> Row:
    def positive(column: str) -> float:
        text = record[column]
        try:
            value = float(text)
        except (TypeError, ValueError):
            raise ValueError(f"{column} (={text!r}) is not a number") from None
        if not 0 < value < float("inf"):
            raise ValueError(f"{column} (={text!r}) is not positive and finite")
        return value

    def count(column: str) -> int:
        value = positive(column)
        if value != round(value):
            raise ValueError(f"{column} (={record[column]!r}) is not a whole number")
        return int(value)

    if record["subset"] not in SUBSETS:
        raise ValueError(f"subset (={record['subset']!r}) is not known; known: {', '.join(SUBSETS)}")
    tokens = positive("tokens")
    return Row(
        line=line, run=record["run_name"], width=count("width"), depth=count("depth"),
        params=positive("params_active_precise"), tokens=tokens,
        batch=max(round(tokens / positive("step") / GEMSTONES_SEQ_LEN), 1), nodes=count("num_nodes"),
        step_time=positive("seconds_per_step"), loss=positive("final_loss"), subset=record["subset"],
    )  # fmt: skip


def distinct(rows: Iterable[Row]) -> list[Row]:
    """The first row of every measurement."""
    first: dict[tuple[str, float, str], Row] = {}
    for row in rows:
        first.setdefault(row.measurement, row)
    return list(first.values())


@dataclass(frozen=True, kw_only=True, slots=True)
class Setup:
    """How one shape was trained."""

    shape: str
    width: int
    depth: int
    params: float
    batch: int
    """Sequences per step."""
    nodes: int
    step_time: float
    """Measured [s]."""

    @property
    def batch_tokens(self) -> int:
        """Tokens per step."""
        return self.batch * GEMSTONES_SEQ_LEN


def setups(rows: Iterable[Row]) -> dict[str, Setup]:
    """How each shape was trained: the median over its rows at the full learning rate, else over all of them."""
    by_shape: dict[str, list[Row]] = {}
    for row in rows:
        by_shape.setdefault(row.shape, []).append(row)
    found = {}
    for name, members in by_shape.items():
        chosen = [row for row in members if row.schedule == "constant"] or members
        first = chosen[0]
        found[name] = Setup(
            shape=name, width=first.width, depth=first.depth, params=first.params,
            batch=round(median(row.batch for row in chosen)), nodes=round(median(row.nodes for row in chosen)),
            step_time=median(row.step_time for row in chosen),
        )  # fmt: skip
    return found


def gemstone(setup: Setup) -> Shape:
    """The architecture of one shape.

    Raises:
        DocumentError: it would not have the stated parameters.
    """
    heads = max(setup.width // HEAD_DIM, 1)
    mixer = SelfAttention(heads=heads, kv_heads=max(heads // 2, 1), head_dim=HEAD_DIM)
    block = Block(
        mixer=mixer, channel=DenseFFN(ffn_size=4 * setup.width, gated=True), count=setup.depth, norm=Norm()
    )
    shape = Shape(
        name=setup.shape, vocab_size=GEMSTONES_VOCAB, hidden_size=setup.width, tied_embeddings=False, blocks=(block,)
    )  # fmt: skip
    if float(num_params(shape)) != setup.params:
        raise DocumentError(
            f"params_active_precise (={setup.params:.0f}) of {setup.shape} is not that of a Gemstone",
            f"its architecture has {num_params(shape):.0f} parameters",
            "the steps of other models are scored by: shapewright validate training",
        )
    return shape


def law_inputs(law: Law, rows: Iterable[Row]) -> dict[str, list[float]]:
    """Columns that ``law`` predicts the rows from; sizes as the law counts them."""
    head, span = law.constants["head_vocab"], law.constants["attention_span"]
    table: dict[str, list[float]] = {
        name: [] for name in ("size", "tokens", "width", "depth", "decayed", "lr_halvings")
    }
    for row in rows:
        decayed, halvings = schedule_of_subset(row.subset)
        inner = row.params - 2.0 * GEMSTONES_VOCAB * row.width
        values = (
            inner + head * row.width + span * row.width * row.depth,
            row.tokens, row.width, row.depth, decayed, halvings,
        )  # fmt: skip
        for column, value in zip(table.values(), values, strict=True):
            column.append(float(value))
    return table
