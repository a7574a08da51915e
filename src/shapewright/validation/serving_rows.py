"""Reading measured serving points: the columns of ``silicon_sample.csv``, or of somebody else's file.

Decisions: only what a row states is used; where it states nothing a default stands in, and the row says which. The
file is known to state some things in two ways, told apart here: where ``moe_tp_size`` equals ``moe_ep_size`` above 1
both name the devices of one replica (their measured values repeat those of rows that say so); ``tp_size`` 72 on an
aggregated row is a whole NVL72. Concurrency is that of the whole deployment, from ``silicon_concurrency`` in the source
column, else from the batch sizes. What a disaggregated row does not say about its workers is taken from the recipes that
were published for its concurrency (``serving_recipes``); where there is none, or with recipes left out, a distribution
over what was published for other pairs of model and system stands in (``serving_prior``).
"""

from __future__ import annotations

import csv
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from hashlib import blake2b
from importlib import resources
from importlib.util import find_spec
from pathlib import Path

from shapewright.errors import DocumentError, MissingPackageError
from shapewright.plan.serving_step import Layout
from shapewright.validation.serving_prior import Stated, likely
from shapewright.validation.serving_recipes import Key, Pool, Setup, find_recipes, hold_steps

SHAPES = {
    "DeepSeek-R1": "deepseek-v3", "DeepSeek-V3": "deepseek-v3", "DeepSeek-V3.1": "deepseek-v3",
    "Llama-3.1-8B-Instruct": "llama-3.1-8b", "Llama-3.1-70B": "llama-3.1-70b", "MiniMax-M2.5": "minimax-m2",
    "Qwen3-235B-A22B": "qwen3-235b-a22b", "Qwen3.5-397B-A17B": "qwen3.5-397b-a17b",
}  # fmt: skip
"""Checkpoints whose architecture the catalogue holds under another name."""
REQUIRED = ("backend", "model_path", "system", "mode", "isl", "osl", "silicon_ttft_ms", "silicon_tpot_ms")
SUFFIX = re.compile(r"-(FP8|NVFP4)$", re.IGNORECASE)
REPORT_PARTS = (0, 1, 2)
"""Parts of ten by the hash of model and system whose rows are only reported, never fitted on."""


@dataclass(frozen=True, kw_only=True, slots=True)
class ServedRow:
    """One measured point as its row states it."""

    id: str
    engine: str
    version: str
    date: str
    """Day of the measurement; empty where it is not stated."""
    model: str
    """Name of the catalogue's shape."""
    system: str
    precision: str
    products: str | None
    """Stated format of the products; None where the row states none."""
    experts: str | None
    isl: int
    osl: int
    concurrency: float
    """Requests in flight over the whole deployment."""
    setups: tuple[Setup, ...]
    """What it ran on; several where the row does not tell them apart."""
    lengths: float
    """Mean length of prompts and answers over the stated one [1]."""
    ttft_s: float
    tpot_s: float
    defaults: tuple[str, ...]
    """What the row does not state."""

    @property
    def decode(self) -> Pool:
        """The workers that decode, in the first of its deployments."""
        return self.setups[0].decode

    @property
    def prefill(self) -> Pool | None:
        """The workers that prefill, in the first of its deployments; None where the same ones do both."""
        return self.setups[0].prefill

    @property
    def mean_isl(self) -> float:
        """Mean tokens of a prompt."""
        return self.isl * self.lengths

    @property
    def mean_osl(self) -> float:
        """Mean tokens of an answer."""
        return self.osl * self.lengths

    @property
    def run(self) -> str:
        """The campaign that measured it: version and day."""
        return f"{self.version or 'unstated'}@{self.date or 'unstated'}"

    @property
    def held_out(self) -> bool:
        """Whether it is only reported on: by a hash of architecture and system, so that twins stay together."""
        return held_out(self.model, self.system)


def held_out(model: str, system: str) -> bool:
    """Whether points of a model on a system are only reported on."""
    return part_of(model, system) in REPORT_PARTS


def part_of(model: str, system: str) -> int:
    """The part of ten that the points of a model on a system belong to."""
    return int.from_bytes(blake2b(f"{model}|{system}".encode(), digest_size=4).digest(), "big") % 10


def installed_sample() -> Path:
    """The sample inside aiconfigurator-core.

    Raises:
        MissingPackageError: the package is not installed.
    """
    if find_spec("aiconfigurator_core") is not None:
        path = Path(str(resources.files("aiconfigurator_core"))) / "systems" / "silicon_sample.csv"
        if path.exists():
            return path
    raise MissingPackageError(
        "the sample of measured serving points", "aiconfigurator-core 0.12.0", extra="silicon",
        otherwise="name a file: --data FILE",
    )  # fmt: skip


def read_serving(path: Path, *, recipes: bool = True) -> tuple[list[ServedRow], list[tuple[str, str]]]:
    """The rows of a file, and (row, reason) of those that state no point.

    Args:
        path: CSV.
        recipes: where a row is silent, take what was published for its run; else defaults alone.

    Raises:
        DocumentError: the file is no CSV, or has not the required columns.
    """
    try:
        with path.open(newline="", encoding="utf-8") as handle:
            reader = csv.DictReader(handle)
            missing = [name for name in REQUIRED if name not in (reader.fieldnames or ())]
            if missing:
                raise DocumentError(
                    f"{path} lacks the columns {', '.join(missing)}", "serving points are read from the columns of "
                    "silicon_sample.csv", f"give at least: {', '.join(REQUIRED)}",
                )  # fmt: skip
            rows, skipped = [], []
            for number, record in enumerate(reader, start=2):
                try:
                    rows.append(_row(record, number, recipes=recipes))
                except ValueError as error:
                    skipped.append((record.get("id") or f"line {number}", str(error)))
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise DocumentError(f"{path} is no CSV file", str(error), "give one serving point a row") from error
    return rows, skipped


def _row(record: Mapping[str, str | None], number: int, *, recipes: bool) -> ServedRow:
    text = {key: (value or "").strip() for key, value in record.items() if key is not None}
    defaults: list[str] = []
    ttft, tpot = float(text["silicon_ttft_ms"]) / 1e3, float(text["silicon_tpot_ms"]) / 1e3
    isl, osl = int(float(text["isl"])), int(float(text["osl"]))
    if min(ttft, tpot) <= 0 or min(isl, osl) < 1:
        raise ValueError("times and lengths must be positive")
    name = SUFFIX.sub("", text["model_path"].rsplit("/", 1)[-1])
    precision = text.get("precision", "")
    if not precision:
        precision = _precision_of(text)
        defaults.append("precision")
    if text["mode"] not in ("agg", "disagg"):
        raise ValueError(f"mode (={text['mode']!r}) must be agg or disagg")
    stated = re.search(r"silicon_concurrency=([\d.]+)", text.get("silicon_data_source", ""))
    prefix = "decode_" if text["mode"] == "disagg" else ""
    layout = _layout(text, prefix, defaults)
    workers = _count(text, f"{prefix}num_workers") if prefix else 1
    prefill = None
    if prefix:
        prefill_layout = _layout(text, "prefill_", defaults)
        prefill = Pool(layout=prefill_layout, workers=_count(text, "prefill_num_workers"))
        if not _count(text, "prefill_num_workers"):
            defaults.append("prefill_num_workers")
    batch = _number(text, f"{prefix}batch_size")
    if stated:
        concurrency = float(stated.group(1))
    elif batch:
        concurrency = batch * (workers or 1) * max(_count(text, f"{prefix}attention_dp_size"), 1)
        defaults.append("concurrency")
    else:
        raise ValueError("neither silicon_concurrency nor a batch size is stated")
    model = SHAPES.get(name, name.lower())
    key = Key(
        model=model, system=text["system"], engine=text["backend"], precision=precision, isl=isl, osl=osl
    )
    setups: tuple[Setup, ...] = ()
    pools = (
        (prefill, Pool(layout=layout, workers=workers)) if prefill and workers and prefill.workers else None
    )
    if prefill is not None and recipes:
        setups = _published(text, key, concurrency, pools)
        if setups and pools is None:
            defaults.append("recipe")
    random = bool(RANDOM.search(text.get("silicon_data_source", "")))
    if not setups:
        setups = _assumed(text, key, concurrency, layout, pools, defaults)
    if random and recipes and setups[0].prefill is None:
        hold = hold_steps(key, concurrency, layout=setups[0].decode.layout, date=_date(text))
        setups = (replace(setups[0], hold=hold),)
    return ServedRow(
        id=text.get("id") or f"line {number}", engine=text["backend"], version=text.get("backend_version", ""),
        date=_date(text), model=model, system=text["system"], precision=precision,
        products=text.get("gemm_quant_mode") or None, experts=text.get("moe_quant_mode") or None, isl=isl, osl=osl,
        concurrency=concurrency, setups=setups, lengths=MIXED if random else 1.0,
        ttft_s=ttft, tpot_s=tpot, defaults=tuple(defaults),
    )  # fmt: skip


RANDOM = re.compile(r"^(db-dump|source_file=\d)")
"""Rows of InferenceX, by their source column: its lengths are drawn evenly from .8 to 1 of the stated ones."""
MIXED = 0.9


def _published(
    text: Mapping[str, str], key: Key, concurrency: float, pools: tuple[Pool, Pool] | None
) -> tuple[Setup, ...]:
    """Deployments of published recipes that agree with all that the row states."""
    found = [s for s in find_recipes(key, concurrency, version=text.get("backend_version", "")) if s.prefill]
    if pools:
        # Rows that state their workers come from the part of that database that holds no drafts.
        same = [s for s in found if s.prefill and not s.drafted
                and (_size(s.prefill), _size(s.decode)) == (_size(pools[0]), _size(pools[1]))]  # fmt: skip
        limits = {(s.slots, s.prompts) for s in same}
        slots, prompts = limits.pop() if len(limits) == 1 else (None, None)
        return (Setup(prefill=pools[0], decode=pools[1], drafted=0, slots=slots, prompts=prompts),)
    first, second = _count(text, "prefill_tp_size"), _count(text, "decode_tp_size") or _count(text, "tp_size")
    whole = {first, second} - {0, 1}
    return tuple(
        s for s in found if s.prefill is not None
        and (
            (s.prefill.layout.world, s.decode.layout.world) == (first, second) or first == second == 1
            or whole == {s.prefill.num_devices + s.decode.num_devices}
        )
    )  # fmt: skip


def _size(pool: Pool) -> tuple[int, int]:
    return int(pool.layout.world), pool.workers


def _assumed(
    text: Mapping[str, str], key: Key, concurrency: float, layout: Layout, pools: tuple[Pool, Pool] | None,
    defaults: list[str],
) -> tuple[Setup, ...]:  # fmt: skip
    """The deployment that a row states, or those that it may stand for where it is silent and no recipe is known."""
    if text["mode"] == "agg" and int(layout.world) <= LARGEST_GROUP:
        return (Setup(decode=Pool(layout=layout, workers=1)),)
    if pools:
        return (Setup(prefill=pools[0], decode=pools[1], drafted=0),)
    first, second = _count(text, "prefill_tp_size"), _count(text, "decode_tp_size") or _count(text, "tp_size")
    # Twice a number of devices that no group has that shares a sequence's attention: those of the whole.
    odd = second > LARGEST_GROUP or second & (second - 1)
    whole = second if odd and first in (0, second) else 0
    known = not whole and (first, second) != (1, 1)
    defaults.append("split of the devices" if whole else "decode_num_workers")
    return likely(Stated(
        key=key, version=text.get("backend_version", ""), concurrency=concurrency, whole=whole,
        prefill_world=first if known else 0, decode_world=second if known else 0,
    ), held_out)  # fmt: skip


def _date(text: Mapping[str, str]) -> str:
    found = re.search(r"measured=(\d{4}-\d\d-\d\d)", text.get("silicon_data_source", ""))
    return found.group(1) if found else ""


def _precision_of(text: Mapping[str, str]) -> str:
    """Where no precision is stated: that of the checkpoint's name, else of the products, else 16 bits."""
    name = text["model_path"].upper()
    if "NVFP4" in name or text.get("gemm_quant_mode") == "nvfp4":
        return "fp4"
    if "FP8" in name or text.get("gemm_quant_mode", "").startswith("fp8"):
        return "fp8"
    return "fp4" if "GPT-OSS" in name else "bf16"


def _number(text: Mapping[str, str], name: str) -> float:
    value = text.get(name, "")
    return float(value) if value else 0.0


def _count(text: Mapping[str, str], name: str) -> int:
    return int(_number(text, name))


def _layout(text: Mapping[str, str], prefix: str, defaults: list[str]) -> Layout:
    tp, adp, moe_tp, ep = (
        _count(text, f"{prefix}{name}")
        for name in ("tp_size", "attention_dp_size", "moe_tp_size", "moe_ep_size")
    )
    if not adp:
        defaults.append(f"{prefix}attention_dp_size")
    tp, adp = max(tp, 1), max(adp, 1)
    if moe_tp == ep > 1 or (adp > 1 and tp == adp):
        # One number in both columns: the devices of a replica, with experts spread over them.
        world = tp if moe_tp != ep else ep
        adp, ep = (world if moe_tp == ep and adp > 1 else 1), world
    elif prefix and adp == 1:
        world, ep = tp, (tp if ep > 1 else 1)
        adp = world if prefix == "prefill_" and ep > 1 else 1
    elif moe_tp and ep and moe_tp * ep > tp * adp:
        world = moe_tp * ep
    else:
        world = tp * adp
    if world > LARGEST_GROUP and adp == 1:
        adp, ep = world, world
    return Layout(
        tp=max(world // adp, 1),
        ep=max(min(ep, world), 1),
        adp=adp,
        pp=max(_count(text, f"{prefix}pp_size"), 1),
    )


LARGEST_GROUP = 16
"""Devices that share one sequence's attention at most; more of them are groups."""


def grouped(rows: list[ServedRow]) -> Iterator[tuple[tuple[str, ...], list[int]]]:
    """Indices of the rows that one price list serves: same model, system, engine and formats."""
    found: dict[tuple[str, ...], list[int]] = {}
    for i, row in enumerate(rows):
        key = (row.model, row.system, row.engine, row.precision, row.products or "", row.experts or "")
        found.setdefault(key, []).append(i)
    yield from found.items()
