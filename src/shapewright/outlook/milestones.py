"""The training compute of notable models, each figure with its derivation, source and confidence.

Decisions: the project ships its own table (``data/history/milestones.csv``). Where a paper states parameters and
tokens, operations per example, or chip-hours, the FLOP are computed here from those facts, so that the derivation is
code; where nothing of it is public the estimate is Epoch AI's and says so. Epoch AI's own CSV of notable models is read
when it is given, and replaces the table. Confidence is Epoch AI's scale: ``confident`` within a factor of 3,
``likely`` within 10, ``speculative`` within 30 (90 %). A row that cannot be used is counted with its reason.
Neglected by 6 N D: attention scores, embeddings, recomputation, failed runs.
"""

from __future__ import annotations

import csv
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

from shapewright.errors import DocumentError, UnknownNameError, UsageError
from shapewright.evidence import Figure, Kind
from shapewright.hardware.accelerator import Accelerator
from shapewright.hardware.catalog import DATA
from shapewright.outlook.lineages import shipped

TABLE = DATA / "history" / "milestones.csv"
"""The project's own table."""
CONFIDENCE = {"confident": 3.0, "likely": 10.0, "speculative": 30.0}
"""Factor within which the figure lies (90 %), by confidence."""
UTILISATION = 0.33
"""Model FLOP over peak FLOP where only chip-hours are known: the median of 34 published MFU [measured]."""
UTILISATION_SOURCE = "median of the 34 published MFU in Epoch AI's table (quartiles .27 and .43)"
ALEXNET = "AlexNet"
MODALITIES = (
    "text", "vision", "image", "video", "3d", "speech", "audio", "multimodal", "biology", "games", "robotics",
    "weather", "other",
)  # fmt: skip
"""What a model is trained on; ``vision`` recognises and ``image`` generates."""
_EPOCH_DOMAINS = {
    "language": "text", "vision": "vision", "image generation": "image", "video": "video", "3d modeling": "3d",
    "speech": "speech", "audio": "audio", "multimodal": "multimodal", "biology": "biology", "medicine": "biology",
    "games": "games", "robotics": "robotics", "earth science": "weather",
}  # fmt: skip
_EPOCH_COLUMNS = ("Model", "Publication date", "Domain", "Training compute (FLOP)", "Confidence", "Link")
_METHODS: dict[str, Kind] = {
    "6ND": "derived", "operations": "derived", "chip-hours": "derived", "published": "vendor", "Epoch AI": "derived",
}  # fmt: skip


@dataclass(frozen=True, kw_only=True, slots=True)
class Milestone:
    """One trained model."""

    name: str
    date: str
    """Publication, ``YYYY-MM`` or ``YYYY-MM-DD``."""
    modalities: tuple[str, ...]
    flop: Figure
    """Training compute with its derivation, source and the interval of its confidence [FLOP]."""
    confidence: str
    """``confident``, ``likely`` or ``speculative``; ``unknown`` where a file does not say."""
    method: str
    """``6ND``, ``operations``, ``chip-hours``, ``published`` or ``Epoch AI`` (an estimate)."""
    parameters: float | None = None
    """Parameters active per token, where they were used."""
    chip: str | None = None
    """Name of the accelerator in the catalogue."""
    chip_count: float | None = None
    chip_hours: float | None = None
    number_format: str | None = None

    @property
    def year(self) -> float:
        """The date as a year with a fraction; a date without a day counts from the first of its month."""
        parts = [int(part) for part in self.date.split("-")]
        month, day = (*parts[1:], 1, 1)[:2]
        return parts[0] + (month - 1) / 12 + (day - 1) / 365.25

    @property
    def device(self) -> Accelerator | None:
        """The accelerator it was trained on; None where it is unknown."""
        return shipped(self.chip) if self.chip else None


@dataclass(frozen=True, kw_only=True, slots=True)
class Milestones:
    """A table of models by date, with what was left out."""

    rows: tuple[Milestone, ...]
    source: str
    skipped: Mapping[str, int]
    """Rows that could not be used, by reason."""

    def find(self, name: str) -> Milestone:
        """The model of a name, without regard to case; the start of a name is enough where only one has it.

        Raises:
            UnknownNameError: no model, or more than one, has this name.
        """
        wanted = name.strip().lower()
        exact = [row for row in self.rows if row.name.lower() == wanted]
        found = exact or [row for row in self.rows if row.name.lower().startswith(wanted)]
        if len(found) == 1 or exact:
            return found[0]
        raise UnknownNameError(
            "model",
            name,
            (row.name.lower() for row in found or self.rows),
            "list them: shapewright history --json",
        )

    def only(self, *, domain: str | None = None, since: float | None = None) -> Milestones:
        """The rows of a modality from a year on.

        Raises:
            UnknownNameError: no such modality.
            UsageError: no row is left.
        """
        if domain is not None and domain not in MODALITIES:
            raise UnknownNameError("--domain", domain, MODALITIES)
        rows = tuple(
            row
            for row in self.rows
            if (domain is None or domain in row.modalities) and (since is None or row.year >= since)
        )
        if not rows:
            raise UsageError(
                f"no model of {domain or 'any modality'} since {since:g} has a known training compute",
                f"table: {self.source}", "choose an earlier --since, or another --domain",
            )  # fmt: skip
        return Milestones(rows=rows, source=self.source, skipped=self.skipped)


@lru_cache(maxsize=1)
def own_milestones() -> Milestones:
    """The table that ships with the project."""
    with TABLE.open(encoding="utf-8", newline="") as handle:
        rows = tuple(sorted(map(_own_row, csv.DictReader(handle)), key=lambda row: (row.year, row.name)))
    return Milestones(rows=rows, source=f"the project's table of {len(rows)} milestones", skipped={})


def _own_row(row: Mapping[str, str]) -> Milestone:
    number = {key: float(row[key]) if row[key] else None for key in (
        "parameters", "examples", "flop_per_example", "flop", "chip_count", "chip_hours")}  # fmt: skip
    value, how = _derived(row["method"], number, row["chip"], row["format"])
    spread = CONFIDENCE[row["confidence"]]
    return Milestone(
        name=row["name"], date=row["date"], modalities=(row["modality"],), confidence=row["confidence"],
        method=row["method"], parameters=number["parameters"], chip=row["chip"] or None,
        chip_count=number["chip_count"], chip_hours=number["chip_hours"], number_format=row["format"] or None,
        flop=Figure(value=value, unit="FLOP", kind=_METHODS[row["method"]], source=f"{row['source']} ({how})",
                    low=value / spread, high=value * spread),
    )  # fmt: skip


def _derived(method: str, number: Mapping[str, float | None], chip: str, fmt: str) -> tuple[float, str]:
    """The FLOP of a row and how they were found."""

    def have(key: str) -> float:
        value = number[key]
        assert value is not None, f"{method} needs {key}"
        return value

    if method == "6ND":
        return 6.0 * have("parameters") * have("examples"), "6 x active parameters x tokens"
    if method == "operations":
        return have("flop_per_example") * have("examples"), "3 x forward FLOP x examples"
    if method == "chip-hours":
        peak = format_peak(shipped(chip), fmt)
        assert peak is not None, f"{chip} has no peak in {fmt}"
        return have("chip_hours") * 3600.0 * peak * UTILISATION, f"chip-hours at {UTILISATION:g} of peak"
    return have("flop"), "stated" if method == "published" else "estimate of Epoch AI, CC-BY 4.0"


def format_peak(accelerator: Accelerator, number_format: str) -> float | None:
    """Dense peak in a format, or in the other 16-bit one where the chip has only that [FLOP/s]."""
    names = {"bf16": ("bf16", "fp16"), "fp16": ("fp16", "bf16")}.get(number_format, (number_format,))
    return next(
        (accelerator.peak_flops[name].value for name in names if name in accelerator.peak_flops), None
    )


def read_epoch(path: str | Path) -> Milestones:
    """Epoch AI's CSV of notable models (epoch.ai/data/ai-models, CC-BY 4.0).

    Raises:
        DocumentError: the file cannot be read, or lacks a column.
    """
    path = Path(path)
    try:
        with path.open(encoding="utf-8", newline="") as handle:
            reader = csv.DictReader(handle)
            missing = [name for name in _EPOCH_COLUMNS if name not in (reader.fieldnames or ())]
            if missing:
                raise DocumentError(
                    f"{path} lacks the column {missing[0]!r}",
                    f"Epoch AI's table of notable models has: {', '.join(_EPOCH_COLUMNS)}",
                    "download it: https://epoch.ai/data/ai-models",
                )
            lines = list(reader)
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise DocumentError(
            f"{path} cannot be read", str(error), "give the CSV of https://epoch.ai/data/ai-models"
        ) from error
    skipped: Counter[str] = Counter()
    rows = []
    for line in lines:
        row = _epoch_row(line)
        if isinstance(row, str):
            skipped[row] += 1
        else:
            rows.append(row)
    if not rows:
        raise DocumentError(f"{path} has no row with a date and a training compute", "nothing can be drawn")
    rows.sort(key=lambda row: (row.year, row.name))
    return Milestones(
        rows=tuple(rows), source=f"Epoch AI, notable models (CC-BY 4.0), {path.name}", skipped=dict(skipped)
    )


def _epoch_row(line: Mapping[str, str]) -> Milestone | str:
    """A milestone, or the reason why the line is none."""
    try:
        flop = float(line["Training compute (FLOP)"].replace(",", ""))
    except ValueError:
        return "no training compute"
    date = line["Publication date"].strip()
    if not _is_date(date):
        return "no publication date"
    if not flop > 0:
        return "training compute is not positive"
    confidence = line["Confidence"].strip().lower()
    confidence = confidence if confidence in CONFIDENCE else "unknown"
    domains = (part.strip().lower() for part in line["Domain"].split(","))
    modalities = tuple(dict.fromkeys(_EPOCH_DOMAINS.get(domain, "other") for domain in domains))
    spread = CONFIDENCE.get(confidence)
    link = " ".join(line["Link"].split()) or "no link"
    return Milestone(
        name=line["Model"].strip(), date=date, modalities=modalities, confidence=confidence, method="Epoch AI",
        flop=Figure(value=flop, unit="FLOP", kind="derived", source=f"Epoch AI, notable models (CC-BY 4.0): {link}",
                    low=flop / spread if spread else None, high=flop * spread if spread else None),
    )  # fmt: skip


def _is_date(text: str) -> bool:
    parts = text.split("-")
    return len(parts) in (1, 2, 3) and all(part.isdigit() for part in parts) and len(parts[0]) == 4


def records(rows: Iterable[Milestone], *, top: int = 1) -> tuple[Milestone, ...]:
    """Those that were among the ``top`` largest when they appeared; 1 is the running record."""
    largest: list[float] = []
    found = []
    for row in sorted(rows, key=lambda row: row.year):
        if len(largest) < top or row.flop.value > min(largest):
            found.append(row)
            largest = sorted([*largest, row.flop.value])[-top:]
    return tuple(found)
