"""A law from somebody's own file of runs.

Decisions: a file needs ``params, tokens, loss`` (and ``width, depth`` for the shape form); further columns that
are understood are ``run`` (rows of one run are one cluster), ``embedding_params``, ``decayed``, ``lr_halvings`` and
``flops``. A schedule that never changes cannot be fitted and is held at no effect. Where a FLOP column does not
follow 6 N D with one factor, the file mixes conventions, and that is said.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from shapewright.errors import UsageError
from shapewright.scaling.forms import Array, get_form
from shapewright.scaling.runs import Runs, read_runs
from shapewright.scaling.study import Identity, Study, compute_cuts, study

MIXED_FLOPS = 1.3
"""Spread of FLOP / (6 N D) over the rows (90th over 10th percentile) above which conventions are called mixed."""
FITTED = ("chinchilla", "overtrained", "shape")
"""Forms whose inputs a file of runs holds."""
DEFAULT_SEQ_LEN = 2048
"""Training context assumed for the shape form where none is given."""


def study_file(
    path: Path,
    *,
    form: str = "chinchilla",
    name: str = "",
    where: Mapping[str, Sequence[str]] | None = None,
    drop_bad: bool = False,
    vocab_size: int | None = None,
    seq_len: int = DEFAULT_SEQ_LEN,
    draws: int = 200,
    command: str = "",
) -> Study:
    """Fit the law of a file.

    Args:
        path: a CSV file of runs.
        form: one of ``FITTED``.
        name: name of the law; the file's by default.
        where: rows to keep, by column and values.
        drop_bad: leave out rows that cannot be fitted instead of refusing the file.
        vocab_size: vocabulary, for the shape form: it counts the head, and the embeddings where the file does not.
        seq_len: training context, for the shape form.
        draws: bootstrap resamples.
        command: the command line, kept in the law.

    Raises:
        UsageError: what is missing or cannot be fitted, by name.
    """
    family = get_form(form)
    if family.name not in FITTED:
        raise UsageError(
            f"form {family.name} cannot be fitted to a file",
            "it is composed of published parts, or needs columns that files of runs do not have",
            f"use one of {', '.join(FITTED)}",
        )
    shaped = "width" in family.inputs
    need = ("params", "tokens", "loss", "width", "depth") if shaped else ("params", "tokens", "loss")
    runs = read_runs(path, need=need, where=where, drop_bad=drop_bad)
    inputs: dict[str, Array] = {"size": runs.params, "tokens": runs.tokens}
    fixed: dict[str, float] = {}
    constants: dict[str, float] = {}
    if shaped:
        inputs, constants = _shape_inputs(path, runs, vocab_size, seq_len)
        if len(np.unique(inputs["decayed"])) < 2:
            fixed["gamma"] = 0.0
        if len(np.unique(inputs["lr_halvings"])) < 2:
            fixed["lam"] = 0.0
    flops = 6.0 * inputs["size"] * inputs["tokens"]
    return study(
        family, inputs, runs.loss, draws=draws, groups=_groups(runs), fixed=fixed, cuts=compute_cuts(flops),
        fitted_range=_ranges(runs), remarks=[*runs.warnings, *_about(path, runs), *_about_fixed(fixed)],
        identity=Identity(
            name=name or path.stem, dataset="as in the file", source=path.name, licence="of the file",
            param_convention="compute" if shaped else "all",
            flop_convention="6 M D, M = parameters outside the embeddings + head + causal attention" if shaped else "6 N D",
            constants=constants, command=command,
        ),
    )  # fmt: skip


def _shape_inputs(
    path: Path, runs: Runs, vocab_size: int | None, seq_len: int
) -> tuple[dict[str, Array], dict[str, float]]:
    assert runs.width is not None
    assert runs.depth is not None
    if vocab_size is None:
        raise UsageError(
            "the shape form needs the vocabulary", "it counts what a token is multiplied with: layers, head, attention",
            "add --vocab 50304 (the runs' own)",
        )  # fmt: skip
    embeddings = runs.embedding_params if runs.embedding_params is not None else 2.0 * vocab_size * runs.width
    inner = runs.params - embeddings
    if not np.all(inner > 0):
        row = int(np.argmin(inner)) + 2
        raise UsageError(
            f"{path}: line {row} has fewer parameters than its embeddings",
            f"two tables of {vocab_size} x width are taken to be counted in params",
            "give the column embedding_params (0 where params leaves them out)",
        )
    size = inner + vocab_size * runs.width + seq_len * runs.width * runs.depth
    inputs = {
        "size": size, "tokens": runs.tokens, "width": runs.width, "depth": runs.depth,
        "decayed": runs.decayed, "lr_halvings": runs.lr_halvings,
    }  # fmt: skip
    return inputs, {"head_vocab": float(vocab_size), "attention_span": float(seq_len)}


def _groups(runs: Runs) -> Sequence[str]:
    if runs.width is not None:
        return runs.shape
    return runs.run if len(set(runs.run)) > 1 else [str(i) for i in range(len(runs.loss))]


def _ranges(runs: Runs) -> dict[str, Array]:
    ranges = {"params": runs.params}
    if runs.width is not None and runs.depth is not None:
        ranges |= {"width": runs.width, "depth": runs.depth, "aspect": runs.width / runs.depth}
    return ranges


def _about(path: Path, runs: Runs) -> list[str]:
    """Warnings about the table that reading it cannot give."""
    remarks = []
    if runs.flops is not None:
        ratio = runs.flops / (6.0 * runs.params * runs.tokens)
        low, high = np.quantile(ratio, [0.1, 0.9])
        if high > MIXED_FLOPS * low:
            remarks.append(
                f"{path.name}: its FLOP are {low:.3g} to {high:.3g} times 6 N D: conventions are mixed, or the "
                "parameters leave something out (embeddings, head, attention)"
            )
    told_apart = (runs.params, runs.tokens, runs.width, runs.depth, runs.decayed, runs.lr_halvings)
    cells = list(zip(*(column for column in told_apart if column is not None), strict=True))
    again = len(cells) - len(set(cells))
    if again:
        remarks.append(
            f"{path.name}: {again} rows have the size and tokens of another row and another loss (seeds, or runs that were "
            "not tuned); each counts as a run of its own"
        )
    if len(runs.loss) < 20:
        remarks.append(f"{path.name}: {len(runs.loss)} rows; intervals from fewer than 20 rows are rough")
    ratio = runs.tokens / runs.params
    if ratio.max() < 2.0 * ratio.min():
        remarks.append(
            f"{path.name}: tokens per parameter span only {ratio.min():.3g} to {ratio.max():.3g}: size and tokens grow "
            "together, so their exponents cannot be told apart"
        )
    return remarks


def _about_fixed(fixed: Mapping[str, float]) -> list[str]:
    return [
        f"{name} held at {value:g}: the schedule is the same in every row" for name, value in fixed.items()
    ]
