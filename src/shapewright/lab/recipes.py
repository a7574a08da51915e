"""The table of published serving recipes, written from clones of the repositories that publish them.

Decisions: InferenceX keeps what it measures in one file of settings that changes with every campaign, so every day's last
revision of it is read, and equal deployments are one line with the image versions and concurrencies of all days. It names
workers and their splits; slots, drafts and prompts per step stand in the recipe of srt-slurm that an entry names, or in the
name or the environment that it gives. Only numbers and names of settings are taken. Entries that are known to say something
else than they mean are read as they mean:

* TensorRT-LLM's lists for H200, and the oldest ones for GB200 without attention groups, count the requests of one decoder;
* SGLang's oldest entries for GB200 state nodes (of four devices), and attention groups where the recipe has none.

Reading needs git and PyYAML.
"""

from __future__ import annotations

import csv
import io
import re
import subprocess
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from shapewright.errors import DocumentError, MissingPackageError, NotCoveredError

SETTINGS = ".github/configs/nvidia-master.yaml"
SINCE, UNTIL = "2025-11-01", "2026-04-30"
"""Days of the campaigns in the sample of measured points."""
SYSTEMS = {
    "b200": "b200_sxm",
    "b300": "b300_sxm",
    "h200": "h200_sxm",
    "h100": "h100_sxm",
    "gb200": "gb200",
    "gb300": "gb300",
}
MODELS = {"dsr1": "deepseek-v3", "gptoss": "gpt-oss-120b", "kimik2.5": "kimi-k2.5"}
ENGINES = {"dynamo-trt": "trtllm", "dynamo-sglang": "sglang", "dynamo-vllm": "vllm"}
NODE = 4
"""Devices of a node of GB200."""
OLDEST = "0.5.1-rc0.pre3"
GROUPS_UNTIL = "2026-02-08"
"""Day since which SGLang's entries for GB200 state their pools as they are."""
DRAFTS = 2
"""Drafted tokens of an entry that drafts and does not say how many."""
COLUMNS = (
    "model", "system", "engine", "versions", "precision", "isl", "osl", "drafts", "prefill_workers", "prefill_tp",
    "prefill_adp", "prefill_ep", "decode_workers", "decode_tp", "decode_adp", "decode_ep", "slots", "prompts",
    "concurrency",
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class _Entry:
    """One deployment of the settings, as it stands there."""

    name: str
    model: str
    framework: str
    precision: str
    isl: int
    osl: int
    drafting: bool
    loads: tuple[int, ...]
    prefill: tuple[Any, ...]
    """Workers, tp, ep, whether attention is split into groups."""
    decode: tuple[Any, ...]
    words: str
    """Everything else that it sets."""


@dataclass(frozen=True, slots=True)
class _Limits:
    """What a recipe of srt-slurm sets: requests and drafts of a decoder, prompts and tokens of a prefill step."""

    requests: int | None
    drafts: int
    prompts: int | None
    tokens: int | None


def recipe_table(inferencex: Path, srt_slurm: Path) -> str:
    """The CSV ``data/recipes/inferencex.csv``.

    Args:
        inferencex: a clone of github.com/SemiAnalysisAI/InferenceX with its history (a bare one will do).
        srt_slurm: the same of github.com/NVIDIA/srt-slurm.

    Raises:
        DocumentError: a folder holds no such history.
        MissingPackageError: PyYAML is not installed.
        NotCoveredError: git is not.
    """
    limits = dict(_recipes(srt_slurm))
    lines: dict[tuple[Any, ...], set[int]] = {}
    for entry, (versions, last) in _entries(inferencex).items():
        if entry.model in MODELS and entry.framework in ENGINES:
            key, loads = _line(entry, versions, last, limits)
            lines.setdefault(key, set()).update(loads)
    rows = sorted(([*key, " ".join(map(str, sorted(loads)))] for key, loads in lines.items()),
                  key=lambda row: [str(item) for item in row[:8]])  # fmt: skip
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(COLUMNS)
    writer.writerows(rows)
    return text.getvalue()


def _entries(repository: Path) -> dict[_Entry, tuple[tuple[str, ...], str]]:
    """Every deployment with the versions of its images, and the last day that it stood there."""
    days: dict[str, str] = {}
    for line in _git(repository, "log", "--format=%h %cd", "--date=short", "--", SETTINGS).splitlines():
        commit, day = line.split()
        if SINCE <= day <= UNTIL:
            days.setdefault(day, commit)
    if not days:
        raise DocumentError(
            f"{repository} has no revision of {SETTINGS} from {SINCE} to {UNTIL}", "recipes are read from its history",
            "clone github.com/SemiAnalysisAI/InferenceX whole, without --depth",
        )  # fmt: skip
    found: dict[_Entry, tuple[set[str], str]] = {}
    for day in sorted(days):
        for name, value in _yaml(_git(repository, "show", f"{days[day]}:{SETTINGS}")).items():
            for entry in _deployments(name, value):
                images = found.get(entry, (set(), ""))[0] | {_version(value["image"])}
                found[entry] = (images, day)
    return {entry: (tuple(sorted(images)), last) for entry, (images, last) in found.items()}


def _deployments(name: str, value: Mapping[str, Any]) -> Iterator[_Entry]:
    lengths = value.get("seq-len-configs") or value.get("scenarios", {}).get("fixed-seq-len", [])
    for item in lengths:
        for point in item["search-space"]:
            if "prefill" not in point:
                continue
            pools = [point["prefill"], point["decode"]]
            words = [str(word) for pool in pools for word in pool.get("additional-settings") or ()]
            prefill, decode = (
                tuple(pool.get(k) for k in ("num-worker", "tp", "ep", "dp-attn")) for pool in pools
            )
            yield _Entry(
                name, value.get("model-prefix") or name.split("-")[0], value["framework"], value["precision"],
                int(item["isl"]), int(item["osl"]), point.get("spec-decoding", "none") == "mtp",
                tuple(point.get("conc-list") or (point.get("conc-start"), point.get("conc-end"))),
                prefill, decode, " ".join(words),
            )  # fmt: skip


def _version(image: str) -> str:
    return re.split(r"-cu|-run|-amd", image.split(":")[-1].removeprefix("v"))[0]


def _recipes(repository: Path) -> Iterator[tuple[str, _Limits]]:
    """Limits of TensorRT-LLM's recipes by path, as they stood at the end of each campaign; the first that has it counts."""
    known: set[str] = set()
    for day in CAMPAIGNS:
        commit = _git(repository, "log", f"--before={day}", "-1", "--format=%h", "--all").strip()
        if not commit:
            raise DocumentError(
                f"{repository} has no revision before {day}", "recipes are read from its history",
                "clone github.com/NVIDIA/srt-slurm whole, without --depth",
            )  # fmt: skip
        for path in _git(repository, "ls-tree", "-r", "--name-only", commit, "recipes").splitlines():
            if path in known or not path.endswith(".yaml"):
                continue
            backend = _yaml(_git(repository, "show", f"{commit}:{path}")).get("backend") or {}
            if backend.get("type") != "trtllm":
                continue
            known.add(path)
            settings = backend.get("trtllm_config") or {}
            first, rest = settings.get("prefill", {}), settings.get("decode", {})
            drafts = (rest.get("speculative_config") or {}).get("num_nextn_predict_layers", 0)
            yield path, _Limits(rest.get("max_batch_size"), drafts, first.get("max_batch_size"),
                                first.get("max_num_tokens"))  # fmt: skip


CAMPAIGNS = ("2026-02-15", "2026-03-25", "2026-04-20")


def _line(
    entry: _Entry, versions: tuple[str, ...], last: str, recipes: Mapping[str, _Limits]
) -> tuple[tuple[Any, ...], list[int]]:
    """The columns of one deployment but its concurrencies, and those."""
    engine, system = ENGINES[entry.framework], entry.name.split("-")[2]
    limits = _limits(entry, recipes)
    prefill, decode = _pools(entry, engine, system, last)
    one_decoder = engine == "trtllm" and (system == "h200" or (versions == (OLDEST,) and not entry.decode[3]))
    loads = [load * (decode[0] if one_decoder else 1) for load in entry.loads]
    slots = "" if limits.requests is None else limits.requests * decode[2] * decode[0]
    prompts: int | str = ""
    if limits.prompts and limits.tokens:
        prompts = max(min(limits.prompts, limits.tokens // entry.isl), 1)
    return (
        MODELS[entry.model], SYSTEMS[system], engine, "|".join(versions), entry.precision, entry.isl, entry.osl,
        limits.drafts, *prefill, *decode, slots, prompts,
    ), loads  # fmt: skip


def _limits(entry: _Entry, recipes: Mapping[str, _Limits]) -> _Limits:
    """By the recipe that an entry names, else by the names in it."""

    def number(*patterns: str) -> int | None:
        hits = (re.search(pattern + r"(\d+)", entry.words) for pattern in patterns)
        return next((int(hit.group(1)) for hit in hits if hit), None)

    requests = number("batch", "DECODE_MAX_BATCH_SIZE=")
    named = re.search(r"CONFIG_FILE=(recipes/\S+)", entry.words)
    if named and named.group(1) in recipes:
        found = recipes[named.group(1)]
        return _Limits(found.requests or requests, found.drafts, found.prompts, found.tokens)
    drafts = (number("mtp", "DECODE_MTP_SIZE=") or DRAFTS) if entry.drafting else 0
    return _Limits(requests, drafts, number("PREFILL_MAX_BATCH_SIZE="), number("PREFILL_MAX_NUM_TOKENS="))


def _pools(entry: _Entry, engine: str, system: str, last: str) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """(workers, tp, attention groups, ep) of the workers that prefill and that decode."""
    pools = [list(entry.prefill), list(entry.decode)]
    if engine == "sglang" and system == "gb200" and last < GROUPS_UNTIL:
        nodes = [re.search(rf"{role}_NODES=(\d+)", entry.words) for role in ("PREFILL", "DECODE")]
        if max(pools[0][1], pools[0][2], pools[1][1], pools[1][2]) == 1:
            for pool, hit in zip(pools, nodes, strict=True):
                pool[1] = pool[2] = int(hit.group(1)) * NODE // pool[0] if hit else 1
        if re.search("low-latency|1p_4d", entry.words):
            pools[0][3] = pools[1][3] = False
    found = []
    for workers, tp, ep, groups in pools:
        world = max(tp or 1, ep or 1)
        found.append((workers, 1 if groups else world, world if groups else 1, ep or 1))
    return found[0], found[1]


def _yaml(text: str) -> dict[str, Any]:
    try:
        import yaml
    except ImportError:
        raise MissingPackageError("reading the recipes' files", "pyyaml", extra="serving") from None
    try:
        found = yaml.load(text, Loader=getattr(yaml, "CSafeLoader", yaml.SafeLoader))
    except yaml.YAMLError:
        # A revision that its own authors could not read either: the next day's stands in.
        return {}
    return found if isinstance(found, dict) else {}


def _git(repository: Path, *words: str) -> str:
    try:
        done = subprocess.run(
            ["git", "-C", str(repository), *words], capture_output=True, text=True, check=False
        )
    except FileNotFoundError:
        raise NotCoveredError(
            "git is not installed", "recipes are read from a history", "install git"
        ) from None
    if done.returncode:
        raise DocumentError(
            f"{repository} cannot be read by git: {(done.stderr.strip() or 'no reason given').splitlines()[-1]}",
            "recipes are read from a clone's history", "git clone https://github.com/SemiAnalysisAI/InferenceX",
        )  # fmt: skip
    return done.stdout
