"""What a row may have been measured on where neither it nor a recipe says so: a distribution over published deployments.

Decisions: a disaggregated row that keeps silent about its workers is not one deployment but many. The published ones
(``data/recipes``) stand in, each with a weight that falls with the distance of what both state: concurrency, lengths,
devices of a worker (or of the whole), engine, format, version and model. Every combination of a recipe and one of its
concurrencies counts once. What the row does state overrides: a neighbour's pools are laid out again on the stated
devices, its decoders' slots keep their ratio to the load. Recipes of the row's own pair of model and system are left
out, and so are those of all pairs that are held out: what is predicted for such a row is what a stranger's row of that
hardware would get. No measured time is read. The scales of the distances were chosen on rows that are not held out.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cache

import numpy as np
from numpy.typing import NDArray

from shapewright.plan.serving_step import Layout
from shapewright.validation.serving_recipes import Key, Pool, Recipe, Setup, all_recipes

Array = NDArray[np.float64]
LIKELY = 12
"""Deployments that one row may stand for at most."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Stated:
    """What a row says about its deployment; 0 where it says nothing."""

    key: Key
    version: str
    concurrency: float
    """Requests in flight over the whole deployment."""
    prefill_world: int = 0
    """Devices of a worker that prefills."""
    decode_world: int = 0
    """Devices of a worker that decodes."""
    whole: int = 0
    """Devices of all workers."""

    @property
    def numbers(self) -> dict[str, float]:
        """All that it says in numbers."""
        found = {
            name: float(getattr(self, name))
            for name in ("concurrency", "prefill_world", "decode_world", "whole")
        }
        found |= {"isl": float(self.key.isl), "osl": float(self.key.osl)}
        return {name: value for name, value in found.items() if value}


NUMBERS = {
    "concurrency": 0.6, "isl": 0.5, "osl": 0.5, "prefill_world": 0.8, "decode_world": 0.8, "whole": 0.8,
}  # fmt: skip
"""Distances of logarithms at which a neighbour's weight falls by e."""
WORDS = {"engine": 0.5, "precision": 1.5, "model": 2.0}
"""The same of a word that differs, as if its distance were 1."""
VERSION = 1.0
"""The same of an engine's version."""


@dataclass(frozen=True, slots=True)
class _Table:
    """Every recipe at each of its concurrencies."""

    recipes: tuple[Recipe, ...]
    words: dict[str, NDArray[np.str_]]
    numbers: dict[str, Array]
    """Logarithms."""
    held_out: NDArray[np.bool_]


def likely(stated: Stated, held_out: Callable[[str, str], bool]) -> tuple[Setup, ...]:
    """Deployments that a row may stand for, the likeliest first; their weights add to one.

    Args:
        stated: what it says.
        held_out: whether a pair of model and system is only reported on.
    """
    table = _table(held_out)
    own = (table.words["model"] == stated.key.model) & (table.words["system"] == stated.key.system)
    far = np.zeros(len(table.recipes))
    for name, scale in WORDS.items():
        far += (table.words[name] != getattr(stated.key, name)) / scale
    far += np.array([stated.version not in recipe.versions for recipe in table.recipes]) / VERSION
    for name, value in stated.numbers.items():
        far += np.abs(table.numbers[name] - np.log(value)) / NUMBERS[name]
    far[own | table.held_out] = np.inf
    near = np.argsort(far, kind="stable")[: 4 * LIKELY]
    found: dict[Setup, float] = {}
    for i in near:
        setup = _laid_out(table.recipes[i].setup, stated, float(np.exp(table.numbers["concurrency"][i])))
        found[setup] = found.get(setup, 0.0) + float(np.exp(far[near[0]] - far[i]))
    best = sorted(found.items(), key=lambda item: -item[1])[:LIKELY]
    total = sum(weight for _, weight in best)
    return tuple(replace(setup, weight=weight / total) for setup, weight in best)


@cache
def _table(held_out: Callable[[str, str], bool]) -> _Table:
    lines = [(key, load, recipe) for key, recipes in all_recipes().items() for load, recipe in recipes]
    recipes = tuple(recipe for _, _, recipe in lines)
    pools = [(recipe.setup.prefill or recipe.setup.decode, recipe.setup.decode) for recipe in recipes]
    numbers = {
        "isl": [key.isl for key, _, _ in lines], "osl": [key.osl for key, _, _ in lines],
        "concurrency": [load for _, load, _ in lines],
        "prefill_world": [int(first.layout.world) for first, _ in pools],
        "decode_world": [int(second.layout.world) for _, second in pools],
        "whole": [first.num_devices + second.num_devices for first, second in pools],
    }  # fmt: skip
    words = {
        name: np.array([getattr(key, name) for key, _, _ in lines])
        for name in ("model", "system", "engine", "precision")
    }
    return _Table(
        recipes, words, {name: np.log(np.array(values, float)) for name, values in numbers.items()},
        np.array([held_out(key.model, key.system) for key, _, _ in lines]),
    )  # fmt: skip


def _laid_out(setup: Setup, stated: Stated, load: float) -> Setup:
    """A published deployment with what a row states in the place of its own."""
    slots = None if setup.slots is None else max(float(round(setup.slots * stated.concurrency / load)), 1.0)
    prefill = setup.prefill and _resized(setup.prefill, stated.prefill_world)
    return replace(setup, prefill=prefill, decode=_resized(setup.decode, stated.decode_world), slots=slots)


def _resized(pool: Pool, world: int) -> Pool:
    layout = pool.layout
    if not world or world == int(layout.world):
        return pool
    grouped, spread = int(layout.adp) > 1, int(layout.ep) > 1
    return replace(
        pool,
        layout=Layout(tp=1 if grouped else world, adp=world if grouped else 1, ep=world if spread else 1),
    )
