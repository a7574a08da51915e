"""Reading measured serving points: the columns of ``silicon_sample.csv``, or of somebody else's file.

Decisions: only what a row states is used; where it states nothing a default stands in, and the row says which. The
file is known to state some things in two ways, told apart here: where ``moe_tp_size`` equals ``moe_ep_size`` above 1
both name the devices of one replica (their measured values repeat those of rows that say so); ``tp_size`` 72 on an
aggregated row is a whole NVL72. Concurrency is that of the whole deployment, from ``silicon_concurrency`` in the source
column, else from the batch sizes. What a disaggregated row does not say about its workers is taken from the recipes that
were published for its concurrency (``serving_recipes``); only where there is none does a rule of thumb stand in.
"""

from __future__ import annotations

import csv
import math
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from hashlib import blake2b
from importlib import resources
from importlib.util import find_spec
from pathlib import Path

from shapewright.errors import DocumentError, MissingPackageError
from shapewright.plan.serving_step import Layout
from shapewright.validation.serving_recipes import Pool, Setup, find_recipes, hold_steps

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
        return part_of(self.model, self.system) in REPORT_PARTS


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
        "the measured serving points (silicon_sample.csv)", "aiconfigurator-core 0.12.0", extra="silicon",
        otherwise="name a file: --data FILE",
    )  # fmt: skip


def read_serving(path: Path, *, recipes: bool = True) -> tuple[list[ServedRow], list[tuple[str, str]]]:
    """The rows of a file, and (row, reason) of those that state no point.

    Args:
        path: CSV.
        recipes: where a row is silent, take what was published for its run; else defaults alone.

    Raises:
        DocumentError: the file has not the required columns.
    """
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
    setups: tuple[Setup, ...] = ()
    if prefill is not None and recipes:
        setups = _published(text, model, precision, isl, osl, concurrency, Setup(
            decode=Pool(layout=layout, workers=workers), prefill=prefill, drafted=None))  # fmt: skip
    random = bool(RANDOM.search(text.get("silicon_data_source", "")))
    if not setups:
        setups = (_assumed(text, layout, prefill, workers, concurrency, defaults),)
    elif not workers:
        defaults.append("recipe")
    if random and recipes and setups[0].prefill is None:
        hold = hold_steps(model, text["system"], text["backend"], precision, isl, osl, concurrency,
                          layout=setups[0].decode.layout, date=_date(text))  # fmt: skip
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
    text: Mapping[str, str], model: str, precision: str, isl: int, osl: int, concurrency: float, stated: Setup
) -> tuple[Setup, ...]:
    """Deployments of published recipes that agree with all that the row states."""
    found = find_recipes(
        model, text["system"], text["backend"], precision, isl, osl, concurrency, version=text.get("backend_version", "")
    )  # fmt: skip
    assert stated.prefill is not None
    if stated.decode.workers and stated.prefill.workers:
        # Rows that state their workers come from the part of that database that holds no drafts.
        same = [s for s in found if s.prefill and not s.drafted and _size(s.decode) == _size(stated.decode)
                and _size(s.prefill) == _size(stated.prefill)]  # fmt: skip
        limits = {(s.slots, s.prompts) for s in same}
        slots, prompts = limits.pop() if len(limits) == 1 else (None, None)
        return (replace(stated, drafted=0, slots=slots, prompts=prompts),)
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
    text: Mapping[str, str], layout: Layout, prefill: Pool | None, workers: int, concurrency: float,
    defaults: list[str],
) -> Setup:  # fmt: skip
    """The deployment that a row states, with defaults where it is silent and no recipe is known."""
    rack = int(layout.num_devices) if int(layout.world) > LARGEST_GROUP and not workers else 0
    if text["mode"] == "agg" and int(layout.world) > LARGEST_GROUP:
        rack = int(layout.num_devices)
    if rack and (prefill is None or int(prefill.layout.world) == rack):
        layout, prefill, workers = _rack(rack)
        defaults.append("split of the devices")
    elif prefill is not None and not workers:
        layout, workers = _decode_pool(layout, concurrency)
        defaults.append("decode_num_workers")
    return Setup(decode=Pool(layout=layout, workers=max(int(workers), 1)), prefill=prefill)


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


def _rack(devices: int) -> tuple[Layout, Pool, int]:
    """More devices than share a sequence, stated as one number: a rack whose parts prefill and decode.

    No group of 20, 28, 36 or 72 divides the heads; rows that are called disaggregated state the same number for
    prefill and for decoding. The larger half decodes, by powers of two, in one worker of attention groups.
    """
    world = 2 ** int(math.log2(max(devices / 2, 1)))
    return Layout(tp=1, adp=world, ep=world), Pool(layout=Layout(tp=1, adp=4, ep=4), workers=0), 1


SMALL_LOAD = 16
"""Requests per device up to which a decode pool of unstated size is taken to be four tensor-parallel workers."""
MEDIUM_LOAD = 64
"""The same for two; beyond it one worker, of attention groups where experts are spread."""


def _decode_pool(layout: Layout, concurrency: float) -> tuple[Layout, int]:
    """A decode pool whose workers are not stated: several small ones under small load, one large one under much."""
    world = layout.world
    if layout.adp > 1:
        return layout, 1
    if concurrency <= SMALL_LOAD * world:
        return layout, 4
    if concurrency <= MEDIUM_LOAD * world:
        return layout, 2
    return (Layout(tp=1, adp=world, ep=world) if layout.ep > 1 else layout), 1


def grouped(rows: list[ServedRow]) -> Iterator[tuple[tuple[str, ...], list[int]]]:
    """Indices of the rows that one price list serves: same model, system, engine and formats."""
    found: dict[tuple[str, ...], list[int]] = {}
    for i, row in enumerate(rows):
        key = (row.model, row.system, row.engine, row.precision, row.products or "", row.experts or "")
        found.setdefault(key, []).append(i)
    yield from found.items()
