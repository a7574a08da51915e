"""Published training runs as questions: one row of the table becomes a shape, a cluster and a plan.

The columns are those of ``published_training.csv`` (see the reference data's README). A field that the source
does not state takes the default named here, and the row says so; a row that cannot be asked is a
:class:`Skip` with its reason, never dropped.
"""

from __future__ import annotations

import csv
import re
from dataclasses import dataclass, replace
from hashlib import blake2b
from pathlib import Path

from shapewright.architecture.graph import num_active_params, num_params
from shapewright.architecture.shape import Block, DenseFFN, ExpertsFFN, Norm, SelfAttention, Shape
from shapewright.errors import DocumentError, ShapewrightError
from shapewright.hardware.catalog import parse_cluster
from shapewright.hardware.cluster import Cluster
from shapewright.plan.parallel import Plan
from shapewright.plan.products import ADAPTER_RANK
from shapewright.validation.published_plan import ALTERNATING, UnaskedError, integer, plan_of

HARDWARE = {
    "a100-sxm": "a100_sxm",
    "a100-80g-sxm": "a100_sxm",
    "a100-40g-sxm": "a100_sxm_40gb",
    "h100-sxm": "h100_sxm",
    "h100-96g-500w": "h100_96gb",
    "h200-sxm": "h200_sxm",
    "h200-nvl": "h200_nvl",
    "b200": "b200_sxm",
    "gb200": "gb200",
    "b300": "b300_sxm",
    "gb300": "gb300",
    "mi300x": "mi300x",
    "mi325x": "mi325x",
    "mi350x": "mi350x",
    "mi355x": "mi355x",
    "tpu-v3": "tpu_v3",
    "tpu-v4": "tpu_v4",
    "tpu-v5e": "tpu_v5e",
    "tpu-v5p": "tpu_v5p",
    "tpu-v6e": "tpu_v6e",
    "tpu-ironwood": "tpu_v7",
    "l40s": "l40s",
}
"""Hardware names of the table and of the catalogue."""
PRECISION = {
    "bf16": "bf16",
    "fp16": "fp16",
    "fp8": "fp8",
    "mxfp8": "fp8",
    "fp8-cs": "fp8",
    "fp8-mx": "fp8",
    "nvfp4": "nvfp4",
    "nvfp4 (bf16 tail)": "nvfp4-tail",
    "": "bf16",
}
"""Number formats; all 8-bit recipes are priced alike, an unstated one is taken as bf16."""
EIGHT_BIT_SOURCES = ("mlcommons/", "NVIDIA-NeMo/Megatron-Bridge")
"""Sources whose dense rows are fp8 where they state no format: of those that state one, nearly all are narrower than 16
bits (MLPerf submissions, NVIDIA's performance summaries)."""
GENERATIONS: dict[str, tuple[str, tuple[str, ...]]] = {
    "megatron-core": (
        "Megatron-Core with Transformer Engine (NeMo, Megatron-Bridge), 2024 to May 2026",
        ("megatron-bridge", "nemo", "nvidia nemo", "megatron-core"),
    ),
    "megatron-core-26.06": (
        "Megatron-Core with Transformer Engine (Megatron-Bridge), from June 2026",
        (),
    ),
    "megatron-deepspeed": (
        "Megatron-LM and Megatron-DeepSpeed, 2021 to 2023",
        ("megatron-deepspeed", "megatron-lm", "deepspeed"),
    ),
    "fsdp": (
        "PyTorch FSDP trainers (llm-foundry, torchtitan, fms-fsdp), 2023 to 2026",
        ("llm-foundry", "torchtitan", "fms-fsdp"),
    ),
    "internevo": ("InternEvo, 2024", ("internevo",)),
    "maxtext": ("MaxText and Levanter on XLA, 2023 to 2026", ("maxtext", "levanter")),
    "primus": ("AMD Primus on ROCm, 2025 to 2026", ("primus", "pytorch 2.", "llmboost")),
}
"""Label and the beginnings of the framework names of each generation."""
MEMORY_READ: dict[str, tuple[str, float]] = {
    "pytorch/torchtitan": ("reserved", 2**30),
    "mlcommons/": ("allocated", 2**30),
}
"""By the beginning of a source: what its peak memory counts (``plan.memory.METERS``) and its unit [B]. torchtitan prints the
allocator's peak reserve in GiB; the logs of NVIDIA's MLPerf submissions the peak of allocated tensors in GiB, which the
optimizer's share confirms: from 4 to 64 copies of Llama 3.1 405B the peak falls by 11.6 bytes a parameter in GiB, 10.8 in
GB, where master weights and moments take 12. Other sources are taken as the driver's count in GB."""
EAGER_LOSS, COMPILED_LOSS_SINCE = 14.0, "2025-03"
"""Bytes per logit where the loss is not compiled: 16-bit logits, their fp32 copy's logarithms, and two fp32 gradients; and
the month since when torchtitan compiles it (4 bytes: logits and their gradient in 16 bits)."""
GRAPHS_SINCE = "2026-06"
"""Month since when Megatron-Bridge's recipes run whole iterations as CUDA graphs with fused dispatch of experts: the
same plans became up to 1.6 times faster between containers 26.04 and 26.06."""
HYBRIDS = ("nemotron-h", "nemotron_3", "nemotron-3", "nemotronh", "mamba", "jamba", "zamba")
"""Beginnings of models whose state-space layers the table does not describe."""
_NETWORK = re.compile(r"inter-node (\d+(?:\.\d+)?) Gb/s|(\d+)x(\d+)Gb (?:RoCE|IB|InfiniBand)")
"""Bandwidth of a node's network as notes state it: in all, or as so many cards of so much."""
_PADDED = "tokendrop"
"""Notes of runs that drop and pad tokens to a fixed number per expert: the host need not wait for the router's counts."""
DEFAULT_VOCAB = 51200
"""Megatron-LM's padded GPT-2 vocabulary, where a row states none."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Row:
    """One published point, ready to be predicted."""

    id: str
    source: str
    hardware: str
    precision: str
    framework: str
    generation: str | None
    """Its generation, a key of GENERATIONS."""
    moe: bool
    shape: Shape
    cluster: Cluster
    plan: Plan
    trainable: float
    """Share of the parameters that train."""
    fixed_recompute: bool
    """False where the source does not state it: then the least that fits is taken."""
    seq_len: int
    global_batch: int
    step_time: float
    """Measured [s]."""
    peak_memory: float | None
    """Measured [B]."""
    padded_experts: bool
    """True where every expert gets a fixed number of tokens."""
    loss_bytes: float
    """Bytes per logit that exist at the loss."""
    meter: str
    """What it counts, of ``plan.memory.METERS``."""
    defaults: tuple[str, ...]
    """Fields that the source does not state."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Skip:
    """One row that is not predicted, and why."""

    row: str
    reason: str


def is_held_out(row: Row) -> bool:
    """Three tenths of the (model, hardware) pairs, by a fixed hash: fits never see them."""
    key = f"{row.shape.name}|{row.hardware}".encode()
    return int.from_bytes(blake2b(key, digest_size=4).digest(), "big") % 10 < 3


def generation_of(framework: str, hardware: str = "", date: str = "") -> str | None:
    """The generation of a framework name, where the device and the month tell generations apart; None if unknown.

    Megatron-LM on Hopper and later is Megatron-Core; MLPerf submissions name containers, which hold NVIDIA's NeMo on
    its devices and Primus on AMD's.
    """
    lowered = framework.lower()
    found = None
    for name, (_, beginnings) in GENERATIONS.items():
        if beginnings and lowered.startswith(beginnings):
            found = name
            break
    nvidia = hardware.startswith(("h100", "h200", "b200", "b300", "gb200", "gb300", "l40s"))
    if hardware.startswith("mi"):
        found = "primus"
    elif nvidia and (found is None or (found == "megatron-deepspeed" and lowered.startswith("megatron-lm"))):
        found = "megatron-core"
    if found == "megatron-core" and date >= GRAPHS_SINCE:
        found = "megatron-core-26.06"
    return found


def read_rows(path: Path) -> tuple[list[Row], list[Skip]]:
    """Read the table.

    Raises:
        DocumentError: the file cannot be read or lacks columns.
    """
    try:
        with path.open(newline="", encoding="utf-8") as handle:
            reader = csv.DictReader(handle)
            records = list(reader)
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise DocumentError(
            f"{path} cannot be read", str(error), "name a CSV with the columns of published_training.csv"
        ) from error
    needed = {
        "id",
        "hardware",
        "num_devices",
        "layers",
        "hidden",
        "heads",
        "seq_len",
        "global_batch_seqs",
        "step_time_s",
    }
    missing = needed - set(records[0] if records else ())
    if missing:
        raise DocumentError(
            f"{path} lacks columns {', '.join(sorted(missing))}",
            "a training point needs them",
            "see the reference data's README for the columns",
        )
    rows, skips = [], []
    for record in records:
        try:
            rows.append(_row(record))
        except UnaskedError as reason:
            skips.append(Skip(row=record["id"], reason=str(reason)))
        except (ShapewrightError, ValueError, ZeroDivisionError) as error:
            skips.append(Skip(row=record["id"], reason=str(error).splitlines()[0]))
    return rows, skips


def _row(record: dict[str, str]) -> Row:
    if record["hardware"] not in HARDWARE:
        raise UnaskedError(f"hardware {record['hardware']} is not in the catalogue")
    if any(word in record["model"].lower() for word in HYBRIDS):
        raise UnaskedError(f"model {record['model']} has layers that are not attention")
    if record["precision"] not in PRECISION:
        raise UnaskedError(f"precision {record['precision']} is not modelled")
    devices = integer(record, "num_devices")
    defaults = [
        key
        for key in ("precision", "vocab", "micro_batch", "recompute", "dp_sharding", "tp")
        if not record[key]
    ]
    seq_len, batch = integer(record, "seq_len"), integer(record, "global_batch_seqs")
    shape = _shape(record)
    hardware = HARDWARE[record["hardware"]]
    cluster = _cluster(devices, hardware, record["notes"])
    generation = generation_of(record["framework"], hardware, record["date"])
    precision = PRECISION[record["precision"]]
    if not record["precision"] and not record["experts"] and record["source"].startswith(EIGHT_BIT_SOURCES):
        precision = "fp8"
    trainable = 1.0
    if record["task"] == "lora":
        trainable = 2 * ADAPTER_RANK / float(shape.hidden_size)
    plan = plan_of(record, shape, cluster, generation, batch, trainable)
    if record["step_time_s"]:
        step_time = float(record["step_time_s"])
    elif record["tokens_per_s_per_device"]:
        step_time = batch * seq_len / (float(record["tokens_per_s_per_device"]) * devices)
    else:
        raise UnaskedError("neither step time nor tokens per second is stated")
    meter, unit = next(
        (read for key, read in MEMORY_READ.items() if record["source"].startswith(key)), ("device", 1e9)
    )
    return Row(
        id=record["id"],
        source=record["source"],
        hardware=hardware,
        precision=precision,
        framework=record["framework"],
        generation=generation,
        moe=bool(record["experts"]),
        shape=shape,
        cluster=cluster,
        plan=plan,
        trainable=trainable,
        fixed_recompute=bool(record["recompute"]) or int(plan.recompute) > 0,
        seq_len=seq_len,
        global_batch=batch,
        step_time=step_time,
        peak_memory=float(record["peak_mem_gb"]) * unit if record["peak_mem_gb"] else None,
        padded_experts=_PADDED in record["notes"],
        loss_bytes=EAGER_LOSS
        if record["source"].startswith(ALTERNATING) and record["date"] < COMPILED_LOSS_SINCE
        else 4.0,
        meter=meter,
        defaults=tuple(defaults),
    )


def _cluster(devices: int, hardware: str, notes: str) -> Cluster:
    """The usual system of the device, with the network between nodes that the notes state."""
    cluster = parse_cluster(f"{devices}x{hardware}")
    stated = _NETWORK.search(notes)
    if stated is None or len(cluster.tiers) < 2:
        return cluster
    whole, cards, each = stated.groups()
    per_device = float(whole or float(cards) * float(each)) / cluster.tiers[0].size
    return parse_cluster(f"{devices}x{hardware}", [f"scale_out.bandwidth={per_device:g}Gb/s"])


def _shape(record: dict[str, str]) -> Shape:
    """The stated dimensions; gated or plain, and shared experts, by what meets the stated parameters best."""
    hidden, heads = integer(record, "hidden"), integer(record, "heads")
    experts, ffn = integer(record, "experts", 0), integer(record, "ffn", 4 * hidden)
    mixer = SelfAttention(heads=heads, kv_heads=integer(record, "kv_heads", heads), head_dim=hidden // heads)
    total = float(record["params_total_b"] or 0) * 1e9
    active = float(record["params_active_b"] or 0) * 1e9

    def build(gated: bool, tied: bool, shared: int = 0) -> Shape:
        channel = (
            ExpertsFFN(
                ffn_size=ffn,
                experts=experts,
                topk=integer(record, "topk"),
                gated=gated,
                shared_ffn_size=shared,
            )
            if experts
            else DenseFFN(ffn_size=ffn, gated=gated)
        )
        return Shape(
            name=record["model"],
            vocab_size=integer(record, "vocab", DEFAULT_VOCAB),
            hidden_size=hidden,
            tied_embeddings=tied,
            blocks=(Block(mixer=mixer, channel=channel, count=integer(record, "layers"), norm=Norm()),),
        )

    if not total:
        return build(gated=ffn != 4 * hidden, tied=ffn == 4 * hidden)
    options = [build(gated, tied) for gated in (True, False) for tied in (False, True)]
    best = min(options, key=lambda shape: abs(float(num_params(shape)) - total))
    if experts and active:
        gap = active - float(num_active_params(best))
        per_width = (3 if best.blocks[0].channel.gated else 2) * hidden * int(best.num_layers)
        shared = round(gap / per_width / ffn) * ffn
        if shared > 0:
            channel = replace(best.blocks[0].channel, shared_ffn_size=shared)
            best = replace(best, blocks=(replace(best.blocks[0], channel=channel),))
    return best
