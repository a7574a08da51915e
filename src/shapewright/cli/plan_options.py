"""Options of a training plan that several verbs take: listed once, as groups.

Decisions: a group is a dataclass whose fields are options; a command takes it as one parameter, and :func:`grouped`
shows Typer (and whoever else reads the signature) the options themselves. What a group was given becomes pins of the
search and modes of the run by its own methods.
"""

from __future__ import annotations

import inspect
import typing
from collections.abc import Callable
from dataclasses import asdict, dataclass, fields, is_dataclass
from functools import wraps
from typing import Any

from shapewright.cli import options as o
from shapewright.errors import UsageError

_WORDS = ("recompute", "sharding", "schedule", "context", "offload")
_SWITCHES = ("sequence_parallel", "async_tp")


@dataclass(frozen=True, kw_only=True, slots=True)
class Axes:
    """How a step is split over devices; what is not given is searched."""

    tp: o.Tp = None
    pp: o.Pp = None
    vpp: o.Vpp = None
    cp: o.Cp = None
    ep: o.Ep = None
    etp: o.Etp = None
    dp_shard: o.DpShard = None
    dp_replicate: o.DpReplicate = None
    micro_batch: o.MicroBatch = None
    recompute: o.Recompute = None
    sharding: o.Sharding = None

    def pins(self) -> dict[str, int]:
        """The axes that were given, as :class:`shapewright.search.joint.Options` takes them.

        Raises:
            UsageError: a count below 1, or a word that is not known.
        """
        return _pins(self)


@dataclass(frozen=True, kw_only=True, slots=True)
class Modes:
    """How the split step runs; what is not given is as usual."""

    schedule: o.Schedule = None
    sequence_parallel: o.SequenceParallel = None
    async_tp: o.AsyncTp = None
    context: o.ContextOrder = None
    recompute_layers: o.RecomputeLayers = None
    offload: o.Offload = None
    sync_every: o.SyncEvery = None

    def pins(self) -> dict[str, int]:
        """The modes that were given, as :class:`shapewright.search.joint.Options` takes them.

        Raises:
            UsageError: a count below 1, or a word that is not known.
        """
        return _pins(self)


@dataclass(frozen=True, kw_only=True, slots=True)
class Run:
    """What is trained, beside the model, and on what terms."""

    optimizer: o.OptimizerName = "adamw"
    imbalance: o.Imbalance = 1.0
    cuda_graphs: o.CudaGraphs = False
    lora: o.Lora = 0
    mtbf: o.Mtbf = None

    def modes(self) -> Any:
        """The same as :class:`shapewright.plan.modes.Modes`.

        Raises:
            UsageError: a time that is none.
        """
        from shapewright.plan.goodput import DEVICE_MTBF_S
        from shapewright.plan.modes import Modes as RunModes
        from shapewright.units import parse_quantity

        return RunModes(
            optimizer=self.optimizer,
            imbalance=self.imbalance,
            cuda_graphs=self.cuda_graphs,
            adapter_rank=self.lora,
            device_mtbf_s=DEVICE_MTBF_S if self.mtbf is None else parse_quantity(self.mtbf, "s", "--mtbf"),
        )


def grouped(command: Callable[..., None]) -> Callable[..., None]:
    """A command whose parameters that are groups are replaced by the options of the group."""
    hints = typing.get_type_hints(command, include_extras=True)
    groups = {name: kind for name, kind in hints.items() if isinstance(kind, type) and is_dataclass(kind)}
    shown: list[inspect.Parameter] = []
    for parameter in inspect.signature(command).parameters.values():
        kind = groups.get(parameter.name)
        options = (
            {parameter.name: (hints[parameter.name], parameter.default)}
            if kind is None
            else {f.name: (typing.get_type_hints(kind, include_extras=True)[f.name], f.default) for f in fields(kind)}
        )  # fmt: skip
        shown += [
            inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=default, annotation=hint)
            for name, (hint, default) in options.items()
        ]

    @wraps(command)
    def flat(**given: Any) -> None:
        for name, kind in groups.items():
            mine = {f.name for f in fields(kind)} & given.keys()
            given[name] = kind(**{option: given.pop(option) for option in mine})
        command(**given)

    flat.__signature__ = inspect.Signature(shown)  # type: ignore[attr-defined]
    flat.__annotations__ = {parameter.name: parameter.annotation for parameter in shown}
    return flat


def _pins(group: Axes | Modes) -> dict[str, int]:
    from shapewright.plan.parallel import RECOMPUTE, SHARDING, WORDS

    words = {**WORDS, "recompute": RECOMPUTE, "sharding": SHARDING}
    given = {name: value for name, value in asdict(group).items() if value is not None}
    pins = o.positive({name: value for name, value in given.items() if name not in (*_WORDS, *_SWITCHES)})
    pins |= {name: int(given[name]) for name in _SWITCHES if name in given}
    return pins | {name: _index(name, given[name], words[name]) for name in _WORDS if name in given}


def _index(name: str, word: str, words: tuple[str, ...]) -> int:
    if word not in words:
        raise UsageError(
            f"--{name} (={word!r}) is not known", f"known: {', '.join(words)}", f"try: --{name} {words[0]}"
        )
    return words.index(word)
