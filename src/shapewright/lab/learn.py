"""What a training run teaches: its measured step moves this machine's calibration, its measured loss a local law.

Decisions: a run's folder holds the design it ran and what it measured, so it can be learned from later and elsewhere.
The machine's file has three factors between its kernels and whole steps (``lab.steps``); a run moves each by as much as
it has a part in the step and as little as is known of it, the linearised update that ``scaling.local`` describes, with
the factors' standard deviation taken from the held-out interval of the fit and shared among the runs counted so far. So
what a run found is taken to be the machine's and not its shape's: the interval of other shapes stays as wide as it was.
A run on other hardware, other threads, several processes or with tuned kernels says nothing of a plain step here.
"""

from __future__ import annotations

import json
import math
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from shapewright.architecture.graph import num_active_params, num_embedding_params
from shapewright.designs.document import Design
from shapewright.designs.files import load_design
from shapewright.errors import DocumentError, NotCoveredError, UsageError
from shapewright.evidence import MOVED
from shapewright.hardware.accelerator import Accelerator
from shapewright.hardware.calibration import Fit
from shapewright.lab.steps import FACTORS, group_of
from shapewright.scaling.law import BYTES, Z90, Law, law_size, load_law, predict_loss
from shapewright.scaling.local import Observation
from shapewright.scaling.protocol_ladder import FEWEST_STEPS

UNKNOWN_SD = 0.3
"""Standard deviation of each factor where the machine's file has none [1]. Kind: assumed; kernels alone were 15 to 50 %
short of steps on the machines tried."""
LEAST_NOISE = 0.01
"""A run's median step is not known better than this, whatever its lines say [1]."""
MARK = "run "
"""Start of the key of a run among the sources of a machine's file."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Ran:
    """A finished run: its design and what it measured."""

    folder: Path
    design: Design
    result: dict[str, Any]
    noise: float
    """Standard error of the median step, over it [1]."""

    @property
    def name(self) -> str:
        """For people, and to count it once."""
        r = self.result
        return f"{r['identity'][:8]}: {self.design.shape.name} {r['precision']}, {r['steps']:,} steps"


def read_run(folder: Path) -> Ran:
    """The run in a folder that ``shapewright train`` finished.

    Raises:
        DocumentError: the folder holds no finished run.
    """
    try:
        result = json.loads((folder / "result.json").read_text(encoding="utf-8"))
        lines = [json.loads(line) for line in (folder / "log.jsonl").read_text(encoding="utf-8").splitlines()]
        times = np.array([line["step_time_s"] for line in lines], float)
        needed = (
            "identity",
            "precision",
            "steps",
            "step_time_s",
            "held_out_loss",
            "corpus",
            "processes",
            "threads",
        )
        missing = [key for key in needed if key not in result]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise DocumentError(
            f"{folder} holds no finished run",
            str(error),
            "finish it: shapewright train design.json --out FOLDER",
        ) from error
    if missing or not times.size:
        raise DocumentError(
            f"{folder}/result.json lacks {', '.join(missing) or 'steps'}", "it is of another version, or was changed",
            "train again into another folder",
        )  # fmt: skip
    # 1.4826 MAD estimates a standard deviation; the median of n of them has 1.25 of it over the root of n.
    spread = 1.4826 * float(np.median(np.abs(times / np.median(times) - 1.0)))
    noise = max(1.25 * spread / math.sqrt(times.size), LEAST_NOISE)
    return Ran(folder=folder, design=load_design(folder / "design.json"), result=result, noise=noise)


def learn_step(
    ran: Ran, hardware: str, accelerator: Accelerator, fits: tuple[Fit, ...]
) -> tuple[Accelerator, tuple[Fit, ...], float]:
    """The machine's file after a run, and the step that was predicted before [s].

    Args:
        ran: the run.
        hardware: the machine's file, as ``--on`` takes it.
        accelerator: what it describes.
        fits: its calibration.

    Raises:
        UsageError: the run moved the file already, or was not a plain run on this machine.
    """
    _check_plain(ran, accelerator)
    key = MARK + ran.result["identity"][:8]
    if key in accelerator.sources:
        raise UsageError(
            f"{ran.folder} has moved {hardware} already", "a run counts once", "give another run"
        )
    before, parts, rest = _parts(ran, hardware)
    old = next((fit for fit in fits if fit.family == "step"), None)
    factors = np.array([1.0 if old is None else old.coefficients[name] for name in FACTORS])
    measured = float(ran.result["step_time_s"])
    sd = UNKNOWN_SD if old is None else max(math.log(old.high), -math.log(old.low)) / Z90
    counted = sum(each.startswith(MARK) for each in accelerator.sources)
    shared = sd**2 / (1.0 + counted * (sd / ran.noise) ** 2)
    a = np.array([parts[name] for name in FACTORS]) / measured
    prior = shared * np.diag(factors**2)
    gain = prior @ a / (a @ prior @ a + ran.noise**2)
    moved = np.maximum(factors + gain * (1.0 - rest / measured - a @ factors), 0.05 * factors)
    when = ran.result["finished"]
    source = "" if old is None else old.source.partition(MOVED)[0]
    runs = f"{counted + 1} training run{'s' * (counted > 0)}"
    source = f"{source or accelerator.sources['measurement']}{MOVED}{runs} here, last on {when}"
    spread = math.exp(Z90 * UNKNOWN_SD)
    base = old or Fit(
        family="step",
        number_format="any",
        coefficients={},
        kind="fitted",
        source="",
        low=1 / spread,
        high=spread,
    )
    fit = replace(
        base, coefficients={n: round(float(f), 4) for n, f in zip(FACTORS, moved, strict=True)}, source=source,
        num_rows=base.num_rows + 1,
    )  # fmt: skip
    told = f"{ran.name}: {1e3 * measured:.2f} ms a step, predicted {1e3 * before:.2f}, on {when}"
    sources = {**accelerator.sources, key: told}
    return replace(accelerator, sources=sources), (*(f for f in fits if f.family != "step"), fit), before


def _check_plain(ran: Ran, accelerator: Accelerator) -> None:
    r, threads = ran.result, accelerator.num_sms
    wrong = {
        "several processes": r["processes"] != 1,
        "tuned kernels": r["tuned"],
        f"a {r['device']} device": (r["device"] == "cpu") != (accelerator.device_class == "cpu"),
        f"{r['threads']} threads": threads is not None
        and r["device"] == "cpu"
        and r["threads"] != threads.value,
    }
    for what, present in wrong.items():
        if present:
            raise UsageError(
                f"{ran.folder} ran with {what}", f"{accelerator.name} is measured as one device without",
                "give a plain run: shapewright train design.json --out FOLDER, or leave --on out",
            )  # fmt: skip


def _parts(ran: Ran, hardware: str) -> tuple[float, dict[str, float], float]:
    """The step as predicted now, and its kernels alone by factor, and what has no factor [s]."""
    from shapewright.api import Options, estimate

    def asked(framework: str | None) -> Design:
        return estimate(
            ran.design.shape, hardware, tokens=1e6,
            options=Options(seq_len=ran.design.run.sequence_length, global_batch=ran.design.run.global_batch_sequences,
                            precision=ran.result["precision"], plan={"micro_batch": ran.result["micro_batch"]},
                            framework=framework),
        )  # fmt: skip

    kernels = asked("kernels")
    groups: dict[str | None, float] = {}
    for part in kernels.step_parts:
        groups[group_of(part.name)] = groups.get(group_of(part.name), 0.0) + part.value
    parts = {name: groups.get(name, 0.0) for name in FACTORS}
    return asked(None).predicted.step_time_s.value, parts, groups.get(None, 0.0)


def predicted_step(ran: Ran, hardware: str) -> float:
    """The run's step as the machine's file predicts it now [s]."""
    return _parts(ran, hardware)[0]


def observation(ran: Ran, law: Law) -> Observation:
    """What the run says about ``law``.

    Raises:
        NotCoveredError: its loss is in another unit than the law's.
        UsageError: the run is too short or was trained at another rate, or the law is of another text and was moved by
            runs already.
    """
    design, r = ran.design, ran.result
    if design.shape.patches is not None or r["vocab_size"] != 256 or law.unit != BYTES:
        raise NotCoveredError(
            f"{ran.folder} measured nats per {'image' if design.shape.patches else 'symbol of ' + r['corpus']}",
            f"law {law.name} predicts {law.unit} of {law.dataset}", "give a run on bytes, or fit a law of your own: "
            "shapewright ladder run, then shapewright fit law ladder/runs.csv",
        )  # fmt: skip
    recipe = design.recipe
    if r["steps"] < FEWEST_STEPS:
        raise UsageError(
            f"{ran.folder} has {r['steps']} steps", f"a loss after fewer than {FEWEST_STEPS} tells more about the warm-up",
            "train longer, or leave --law out",
        )  # fmt: skip
    if recipe is None or not math.isclose(r["learning_rate"], recipe.learning_rate.value, rel_tol=0.01):
        raise UsageError(
            f"{ran.folder} was trained at a rate (={r['learning_rate']:g}) of its own", "the law is of tuned runs",
            "train with the design's rate, or leave --law out",
        )  # fmt: skip
    expected, told = 1.0, design.predicted.loss
    if told is not None and design.run.law is not None and design.run.tokens is not None:
        # What the design adds to its law: mixers, repeated text.
        own = load_law(design.run.law)
        expected = told.value / plain_loss(design, own, design.run.tokens.value)
    same = _same_text(law.dataset, r["corpus"])
    if not same and any(check.name.startswith(MARK) for check in law.checks):
        raise UsageError(
            f"law {law.name} is of {law.dataset}", f"{ran.folder} was trained on {r['corpus']}",
            "a law is of one text: give another --law file",
        )  # fmt: skip
    return Observation(
        name=ran.name, loss=float(r["held_out_loss"]), expected=expected, tokens=float(r["tokens"]),
        size=float(law_size(law, **_sizes(design))), width=float(design.shape.hidden_size),
        depth=float(design.shape.num_layers), text=r["corpus"], same_text=same,
    )  # fmt: skip


def _same_text(dataset: str, corpus: str) -> bool:
    """Whether a law's text is a run's; the standard libraries of two versions are taken to be one."""
    library = "standard library"
    return dataset.startswith(corpus) or (library in dataset.partition(" (law of")[0] and library in corpus)


def _sizes(design: Design) -> dict[str, float]:
    return {
        "active_params": float(num_active_params(design.shape)),
        "embedding_params": float(num_embedding_params(design.shape)),
        "width": float(design.shape.hidden_size),
        "depth": float(design.shape.num_layers),
    }


def plain_loss(design: Design, law: Law, tokens: float) -> float:
    """What the law alone predicts of the design's shape."""
    return float(predict_loss(law, tokens=tokens, **_sizes(design)).loss)
