"""What the verbs of primitives are asked for: an architecture by name, and the problem it is put to."""

from __future__ import annotations

import tomllib
from dataclasses import dataclass, fields, replace
from difflib import get_close_matches
from pathlib import Path

from shapewright.architecture.catalog import model_names, resolve_model
from shapewright.architecture.declared_mixer import DeclaredMixer
from shapewright.architecture.presets import NAMES, model_around, preset
from shapewright.architecture.shape import Shape
from shapewright.cost.price import cost_model
from shapewright.designs.files import load_design
from shapewright.errors import DocumentError, UnitError, UnknownNameError, UsageError
from shapewright.hardware.catalog import load_accelerator, parse_cluster
from shapewright.outlook.scale_problem import Problem, Sync
from shapewright.plan.framework import KERNELS_ALONE
from shapewright.plan.pairs import Workload
from shapewright.plan.precision import default_precision, find_precision
from shapewright.scaling.hyperparameters import kaplan_critical_batch_tokens
from shapewright.search.budget import UNITS, Budget, BudgetKind
from shapewright.units import parse_quantity

USUAL_LOSS = 2.2
"""Loss at which the critical batch of weak scaling is read where none is given: a 7B model near its best [nat/token]."""
LARGEST = 2**20
"""Devices of the installation whose tiers are used."""
ALIASES = {"attention": "transformer", "gdn": "gated_deltanet", "deltanet": "gated_deltanet", "mamba_2": "mamba2",
           "rwkv": "rwkv7", "conv": "convolution", "sparse": "nsa"}  # fmt: skip


def architecture(name: str, params: float) -> Shape:
    """The model of a primitive of ``params`` parameters, a known model, or that of a file.

    Raises:
        UnknownNameError: none of these.
    """
    key = name.lower().replace("-", "_")
    key = ALIASES.get(key, key)
    if key in NAMES:
        return preset(key, params)
    if name.endswith(".toml"):
        mixer = read_primitive(Path(name))
        return model_around(mixer.title, lambda width: mixer, params)
    try:
        return resolve_model(name)
    except UnknownNameError as error:
        names = (*NAMES, *ALIASES, *model_names())
        near = get_close_matches(key, names, n=1)
        raise UnknownNameError(
            "architecture",
            name,
            (*NAMES, *near),
            f"primitives: {', '.join(NAMES)}; models: shapewright models",
        ) from error


def read_primitive(path: Path) -> DeclaredMixer:
    """A primitive that somebody declares; see :mod:`shapewright.architecture.declared_mixer`.

    Raises:
        DocumentError: no such file, no TOML, an unknown or a missing key.
    """
    try:
        table = tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise DocumentError(
            f"{path} cannot be read as a primitive", str(error), "see shapewright scale --help"
        ) from error
    known = {field.name for field in fields(DeclaredMixer)}
    title = table.get("title", path.stem)
    for key in table:
        if key not in known:
            raise DocumentError(
                f"primitive {title!r}: {key} is not known", f"known: {', '.join(sorted(known))}"
            )
    for key, least in (("flops", "0"), ("bytes", "0"), ("span", "1"), ("independent", "1")):
        if key not in table:
            why = (
                "every primitive takes steps that follow one another"
                if key == "span"
                else "no roof is assumed away"
            )
            raise DocumentError(
                f"primitive {title!r}: {key} is missing", why, f'nearest that works: {key} = "{least}"'
            )
    for key, value in table.items():
        number = key in ("step_s", "share", "heads")
        if number != (isinstance(value, int | float) and not isinstance(value, bool)) or (
            number and value <= 0
        ):
            raise DocumentError(f"primitive {title!r}: {key} (={value!r}) is not valid",
                                "it is a positive number" if number else "it is a formula in quotes")  # fmt: skip
    return DeclaredMixer(**{"title": title, **table})


def scale_problem(
    hardware: str, most: int, *, seq_len: int, tokens: float, weak: bool = False,
    critical_batch: float | None = None, sync: Sync = "all-reduce", every: int = 100, precision: str | None = None,
    alpha: str | None = None, beta: str | None = None, settings: tuple[str, ...] = (),
) -> Problem:  # fmt: skip
    """The problem on up to ``most`` devices of ``hardware``; ``alpha`` and ``beta`` replace figures of its tiers.

    Raises:
        UsageError: a value out of range, or hardware with a count.
        UnknownNameError: unknown hardware or precision.
    """
    for name, value in (("--seq-len", seq_len), ("--tokens", tokens)):
        if value < 1:
            raise UsageError(f"{name} (={value:g}) must be at least 1", "it counts tokens", "for example 8k")
    accelerator = load_accelerator(hardware)
    # The network of a large installation, also where one device is asked about: a refusal names larger counts.
    cluster = parse_cluster(f"{max(most, LARGEST)}x{accelerator.name}", settings)
    tiers = list(cluster.tiers)
    for text, field, unit, name in ((alpha, "latency", "s", "--alpha"), (beta, "bandwidth", "B/s", "--beta")):
        if text is None or not tiers:
            continue
        values = [parse_quantity(part, unit, name) for part in text.split(",")]
        if len(values) > len(tiers) or min(values) <= 0:
            raise UsageError(f"{name} (={text!r}) does not fit {len(tiers)} tiers", "one value, or one per tier, positive",
                             f"tiers: {', '.join(t.name for t in tiers)}")  # fmt: skip
        for tier, value in zip(range(len(tiers) - len(values), len(tiers)), values, strict=True):
            figure = getattr(tiers[tier], field)
            tiers[tier] = replace(
                tiers[tier],
                **{field: replace(figure, value=value, kind="assumed", source=f"given as {name}")},
            )
    cluster = replace(cluster, tiers=tuple(tiers))
    chosen = find_precision(precision) if precision else default_precision(cluster.accelerator)
    batch = critical_batch
    if batch is None and weak:
        batch = float(kaplan_critical_batch_tokens(USUAL_LOSS))
    return Problem(cluster=cluster, model=cost_model(cluster.accelerator), precision=chosen,
                   seq_len=seq_len, tokens=tokens, weak=weak, critical_batch=batch, sync=sync, every=every)  # fmt: skip


@dataclass(frozen=True, kw_only=True, slots=True)
class KernelRequest:
    """A training step on one device whose kernels are asked about."""

    shape: Shape
    workload: Workload
    tokens: float
    tp: int
    micro_batch: int


def kernel_request(
    model: str, hardware: str, *, params: float, tokens: float | None = None, seq_len: int | None = None,
    tp: int | None = None, micro_batch: int | None = None, precision: str | None = None,
    settings: tuple[str, ...] = (),
) -> KernelRequest:  # fmt: skip
    """The step of a design.json (its plan and run where nothing else is said), or of a named architecture.

    Raises:
        UsageError: a split that does not divide the heads, or a run without tokens.
        UnknownNameError: an unknown architecture, accelerator or precision.
    """
    if tokens is not None and not tokens >= 1:
        raise UsageError(
            f"--tokens (={tokens:g}) must be at least 1", "a run reads some", "for example: --tokens 1T"
        )
    design = load_design(Path(model)) if _is_design(model) else None
    shape = design.shape if design is not None else architecture(model, params)
    if design is not None:
        tokens = tokens or (design.run.tokens.value if design.run.tokens is not None else None)
        seq_len, precision = seq_len or design.run.sequence_length, precision or design.run.precision
        tp, micro_batch = tp or int(design.plan.tp), micro_batch or int(design.plan.micro_batch)
    tp = tp or 1
    for block in shape.blocks:
        heads = int(block.mixer.heads)
        if heads % tp:
            good = [t for t in range(1, heads + 1) if heads % t == 0]
            raise UsageError(f"--tp (={tp}) splits {heads} heads finer than the work", "a rank holds whole heads",
                             f"nearest that works: {min(good, key=lambda t: abs(t - tp))}")  # fmt: skip
    cluster = parse_cluster(f"{max(tp, 1)}x{load_accelerator(hardware).name}", settings)
    chosen = find_precision(precision) if precision else default_precision(cluster.accelerator)
    workload = Workload(cluster=cluster, model=cost_model(cluster.accelerator), precision=chosen,
                        framework=KERNELS_ALONE, seq_len=seq_len or 8192)  # fmt: skip
    return KernelRequest(
        shape=shape, workload=workload, tokens=tokens or 1e12, tp=tp, micro_batch=micro_batch or 1
    )


def _is_design(text: str) -> bool:
    """Whether the text names a file that states a design and not a config.json."""
    path = Path(text)
    if not (text.endswith(".json") and path.is_file()):
        return False
    return '"schema_version"' in path.read_text(encoding="utf-8", errors="replace")[:4000]


def parse_budget(text: str) -> Budget:
    """A budget by its unit: ``30d``, ``2M USD``, ``$2M``, ``1e22 FLOP``, ``5 GWh``, ``1T tokens``.

    A number without a unit is refused: it could be dollars as well as tokens.

    Raises:
        UsageError: no unit of a budget, or nothing of it.
    """
    plain = text.strip()
    money: tuple[BudgetKind, ...] = ("dollars",) if plain.startswith("$") or plain.endswith("USD") else ()
    kinds: tuple[BudgetKind, ...] = ("time", *money, "energy", "flops")
    if plain.endswith("tokens"):
        plain = plain.removesuffix("tokens").strip()
        kinds = ("tokens",)
    for kind in kinds:
        try:
            value = parse_quantity(plain, UNITS[kind], "--budget")
        except UnitError:
            continue
        return Budget(kind=kind, value=value)
    raise UsageError(f"--budget (={text!r}) is no time, money, energy, FLOP or tokens", "it is a number with a unit",
                     "for example --budget 30d, --budget '2M USD', --budget '1e22 FLOP', --budget '1T tokens'")  # fmt: skip
