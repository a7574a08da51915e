"""Published recipes of disaggregated benchmark runs: what a row of measurements leaves unsaid.

Decisions: InferenceX (SemiAnalysis) publishes the deployments that it measures: workers that prefill and that decode,
how each is split, the tokens drafted per step and the requests that the decoders run at most. The sample of measured
points that NVIDIA publishes is made of its results, and most of its disaggregated rows keep the concurrency but not the
workers. Since each recipe has its own list of concurrencies, a row's model, system, engine, version, format, lengths and
concurrency name one recipe or a few; what the row does state (devices of a worker, or of the whole) narrows them down.
No measured time is read. Where several recipes remain, all of them are predicted and the weighted median is taken.

Source: configurations of github.com/SemiAnalysisAI/InferenceX and the github.com/NVIDIA/srt-slurm recipes that they name,
December 2025 to April 2026; facts in our own columns. InferenceX's lists count the requests of one decoding worker in a
few recipes; the table counts those of the whole.
"""

from __future__ import annotations

import csv
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from importlib.resources import files

from shapewright.plan.serving_step import Layout


@dataclass(frozen=True, kw_only=True, slots=True)
class Pool:
    """Equal workers of one deployment."""

    layout: Layout
    workers: int
    """Their number; 0 where it is not stated and as many are taken as the load needs."""

    @property
    def num_devices(self) -> int:
        """Devices of all workers."""
        return int(self.layout.num_devices) * self.workers


@dataclass(frozen=True, kw_only=True, slots=True)
class Setup:
    """One deployment that a row may have been measured on."""

    decode: Pool
    """The workers that decode; of an aggregated deployment all."""
    prefill: Pool | None = None
    """The workers that prefill; None where the same ones do both."""
    drafted: int | None = None
    """Tokens drafted per step; None where nothing is known."""
    slots: float | None = None
    """Requests that all decoders run at most; None for what their cache holds."""
    hold: int = 0
    """Steps for which the scheduler may hold a new prompt back."""
    prompts: int | None = None
    """Prompts that one attention group prefills in one step at most; None for what the engine's chunk holds."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Recipe:
    """One line of the table."""

    versions: tuple[str, ...]
    setup: Setup


@cache
def _recipes() -> dict[tuple[object, ...], list[Recipe]]:
    found: dict[tuple[object, ...], list[Recipe]] = {}
    path = files("shapewright") / "data" / "recipes" / "inferencex.csv"
    for line in csv.DictReader(path.read_text().splitlines()):
        setup = Setup(
            prefill=_pool(line, "prefill"), decode=_pool(line, "decode"),
            drafted=int(line["drafts"]), slots=float(line["slots"]) if line["slots"] else None,
            prompts=int(line["prompts"]) if line["prompts"] else None,
        )  # fmt: skip
        recipe = Recipe(versions=tuple(line["versions"].split("|")), setup=setup)
        key = tuple(line[name] for name in ("model", "system", "engine", "precision"))
        for load in line["concurrency"].split():
            found.setdefault((*key, int(line["isl"]), int(line["osl"]), float(load)), []).append(recipe)
    return found


def _pool(line: dict[str, str], role: str) -> Pool:
    tp, adp, ep = (int(line[f"{role}_{name}"]) for name in ("tp", "adp", "ep"))
    return Pool(layout=Layout(tp=tp, adp=adp, ep=ep), workers=int(line[f"{role}_workers"]))


def find_recipes(
    model: str,
    system: str,
    engine: str,
    precision: str,
    isl: int,
    osl: int,
    concurrency: float,
    *,
    version: str,
) -> Sequence[Setup]:
    """Deployments published for these numbers; of the stated version where there are any, else of all."""
    found = _recipes().get((model, system, engine, precision, isl, osl, concurrency), [])
    same = [recipe for recipe in found if version in recipe.versions]
    return list(dict.fromkeys(recipe.setup for recipe in same or found))


LATEST_WAIT = "2026-01-29"
"""Day from which the launch of DeepSeek in fp8 on B200 by TensorRT-LLM waits for full batches."""


def hold_steps(
    model: str, system: str, engine: str, precision: str, isl: int, osl: int, concurrency: float, *, layout: Layout,
    date: str,
) -> int:  # fmt: skip
    """Steps for which the published launch of an aggregated deployment lets new prompts wait, by its arguments.

    SGLang looks for new requests every ``scheduler-recv-interval`` steps; TensorRT-LLM gathers prompts for up to
    ``batch_wait_timeout_iters``, and with attention groups for up to ``timeout_iters`` until each has one.
    """
    if engine == "sglang":
        if system in ("b200_sxm", "b300_sxm") and model in ("deepseek-v3", "qwen3.5-397b-a17b"):
            small = concurrency < 16 or (model == "deepseek-v3" and precision == "fp8" and layout.world == 4)
            return 10 if small else 30
        return 10 if model == "glm-5" and precision == "fp4" else 0
    if engine != "trtllm":
        return 0
    if int(layout.adp) > 1:
        return {"deepseek-v3": 60, "gpt-oss-120b": 50}.get(model, 0)
    if isl == osl == 1024:
        if model == "llama-3.1-70b" and int(layout.tp) < 8:
            return 20
        late = (model, system, precision) == ("deepseek-v3", "b200_sxm", "fp8") and date >= LATEST_WAIT
        return 40 if late and concurrency >= 64 else 0
    return 0
