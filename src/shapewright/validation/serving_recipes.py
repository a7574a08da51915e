"""Published recipes of disaggregated benchmark runs: what a row of measurements leaves unsaid.

Decisions: InferenceX (SemiAnalysis) publishes the deployments that it measures: workers that prefill and that decode,
how each is split, the tokens drafted per step and the requests that the decoders run at most. The sample of measured
points that NVIDIA publishes is made of its results, and most of its disaggregated rows keep the concurrency but not the
workers. Since each recipe has its own list of concurrencies, a row's model, system, engine, version, format, lengths and
concurrency name one recipe or a few; what the row does state (devices of a worker, or of the whole) narrows them down.
No measured time is read. Where several recipes remain, all of them are predicted (``serving_mixture``).

Sources, their licences and the columns stand in ``data/recipes/SOURCES.md``; ``shapewright fit recipes`` rewrites the table.
"""

from __future__ import annotations

import csv
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from importlib.resources import files

from shapewright.plan.serving_step import Layout

FOLDER = files("shapewright") / "data" / "recipes"


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
    weight: float = 0.0
    """Its share among those that a row may stand for; 0 where nothing tells them apart."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Recipe:
    """One line of the table."""

    versions: tuple[str, ...]
    setup: Setup


@dataclass(frozen=True, kw_only=True, slots=True)
class Key:
    """What recipes are found by, beside the concurrency."""

    model: str
    system: str
    engine: str
    precision: str
    isl: int
    osl: int


@cache
def all_recipes() -> dict[Key, list[tuple[float, Recipe]]]:
    """Every recipe of separate workers at each of its concurrencies."""
    found: dict[Key, list[tuple[float, Recipe]]] = {}
    for line in csv.DictReader((FOLDER / "inferencex.csv").read_text().splitlines()):
        if "0" in (line["prefill_workers"], line["decode_workers"]):
            continue
        setup = Setup(
            prefill=_pool(line, "prefill"), decode=_pool(line, "decode"),
            drafted=int(line["drafts"]), slots=float(line["slots"]) if line["slots"] else None,
            prompts=int(line["prompts"]) if line["prompts"] else None,
        )  # fmt: skip
        recipe = Recipe(versions=tuple(line["versions"].split("|")), setup=setup)
        words = {name: line[name] for name in ("model", "system", "engine", "precision")}
        key = Key(**words, isl=int(line["isl"]), osl=int(line["osl"]))
        found.setdefault(key, []).extend((float(load), recipe) for load in line["concurrency"].split())
    return found


def _pool(line: dict[str, str], role: str) -> Pool:
    tp, adp, ep = (int(line[f"{role}_{name}"]) for name in ("tp", "adp", "ep"))
    return Pool(layout=Layout(tp=tp, adp=adp, ep=ep), workers=int(line[f"{role}_workers"]))


def find_recipes(key: Key, concurrency: float, *, version: str) -> Sequence[Setup]:
    """Deployments published for these numbers; of the stated version where there are any, else of all."""
    found = [recipe for load, recipe in all_recipes().get(key, ()) if load == concurrency]
    same = [recipe for recipe in found if version in recipe.versions]
    return list(dict.fromkeys(recipe.setup for recipe in same or found))


@dataclass(frozen=True, kw_only=True, slots=True)
class Hold:
    """One line of the table of schedulers that hold prompts back; what is None holds for all."""

    words: dict[str, str]
    """Fields of ``Key`` that a run must have."""
    lengths: tuple[int, int] | None
    devices: tuple[float, float]
    """Fewest and most devices of a replica."""
    several_groups: bool | None
    min_load: float
    since: str
    """First day (ISO)."""
    steps: int

    def fits(self, key: Key, concurrency: float, layout: Layout, date: str) -> bool:
        """Whether a run was launched so."""
        return (
            all(getattr(key, name) == word for name, word in self.words.items())
            and self.lengths in (None, (key.isl, key.osl))
            and self.devices[0] <= float(layout.num_devices) <= self.devices[1]
            and self.several_groups in (None, int(layout.adp) > 1)
            and concurrency >= self.min_load and date >= self.since
        )  # fmt: skip


@cache
def _holds() -> tuple[Hold, ...]:
    return tuple(
        Hold(
            words={name: line[name] for name in ("engine", "model", "system", "precision") if line[name]},
            lengths=(int(line["isl"]), int(line["osl"])) if line["isl"] else None,
            devices=(float(line["min_devices"] or 1), float(line["max_devices"] or "inf")),
            several_groups=line["groups"] == "2" if line["groups"] else None,
            min_load=float(line["min_load"] or 0), since=line["since"], steps=int(line["steps"]),
        ) for line in csv.DictReader((FOLDER / "holds.csv").read_text().splitlines())
    )  # fmt: skip


def hold_steps(key: Key, concurrency: float, *, layout: Layout, date: str) -> int:
    """Steps for which the published launch of an aggregated deployment lets new prompts wait, by its arguments.

    SGLang looks for new requests every ``scheduler-recv-interval`` steps; TensorRT-LLM gathers prompts for up to
    ``batch_wait_timeout_iters``, and with attention groups for up to ``timeout_iters`` until each has one.
    """
    return next((hold.steps for hold in _holds() if hold.fits(key, concurrency, layout, date)), 0)
