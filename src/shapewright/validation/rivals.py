"""Known models whose hardware and budget were published, and by name those of which they were not.

Decisions: a model is compared where its tokens, its accelerator and either the number of devices or the device-hours are
published. Where only the hours are, as many devices are assumed as spend them in sixty days (a power of two; marked). A
model that learned from another's outputs or weights is left out: no law of runs from scratch says its loss. Words without
a form factor mean the SXM part.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from shapewright.architecture.catalog import ModelFacts, model_facts, model_names
from shapewright.validation.published import Skip

PARTS = {
    "A100 40GB": "a100_sxm_40gb", "A100 40GB SXM": "a100_sxm_40gb", "A100 80GB": "a100_sxm",
    "A100 80GB SXM": "a100_sxm", "H100": "h100_sxm", "H100 80GB": "h100_sxm", "H100 80GB SXM": "h100_sxm",
    "H100 80GB SXM, 700 W": "h100_sxm", "H800": "h800_sxm", "V100": "v100_sxm2", "TPU v4": "tpu_v4",
    "TPU v5e": "tpu_v5e", "TPU v5p": "tpu_v5p",
}  # fmt: skip
"""Published words to the catalogue's accelerator."""
TAUGHT = {
    "gemma-2-2b": "distilled (arXiv 2408.00118)", "gemma-2-9b": "distilled (arXiv 2408.00118)",
    "gemma-3-1b": "distilled (arXiv 2503.19786)", "gemma-3-4b": "distilled (arXiv 2503.19786)",
    "gemma-3-12b": "distilled (arXiv 2503.19786)", "gemma-3-27b": "distilled (arXiv 2503.19786)",
    "llama-3.2-1b": "pruned and distilled (model card)", "llama-3.2-3b": "pruned and distilled (model card)",
    "llama-4-maverick": "distilled beside its training (model card)",
}  # fmt: skip
"""Models that no law of runs from scratch describes."""
USUAL_RUN_S = 60 * 86_400.0
"""Length of a run whose number of devices is unpublished [s] (assumed)."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Rival:
    """A known model and the hardware it was trained on."""

    name: str
    tokens: float
    accelerator: str
    num_devices: int
    devices_assumed: bool
    """The number of devices is not published; it is that of a run of sixty days."""
    published_hours: float | None
    """Device-hours of pre-training as published; None where they are not."""

    @property
    def hardware(self) -> str:
        """As :func:`parse_cluster` reads it."""
        return f"{self.num_devices}x{self.accelerator}"


def rivals() -> tuple[list[Rival], list[Skip]]:
    """The models that can be compared, and every other model of the catalogue with the reason."""
    found, skipped = [], []
    for name in model_names():
        rival = _rival(model_facts(name))
        (found if isinstance(rival, Rival) else skipped).append(rival)
    return found, skipped


def _rival(facts: ModelFacts) -> Rival | Skip:
    def skip(reason: str) -> Skip:
        return Skip(row=facts.name, reason=reason)

    if facts.name in TAUGHT:
        return skip(f"not trained from scratch: {TAUGHT[facts.name]}")
    if facts.tokens is None:
        return skip("tokens unpublished")
    if facts.hardware is None:
        return skip("hardware unpublished")
    part = PARTS.get(facts.hardware)
    if part is None:
        return skip(f"no cost model of its hardware ({facts.hardware})")
    if facts.num_devices is None and facts.device_time is None:
        return skip("number of devices and hours unpublished")
    hours = facts.device_time.value / 3600.0 if facts.device_time else None
    return Rival(
        name=facts.name, tokens=facts.tokens.value, accelerator=part,
        num_devices=int(facts.num_devices.value) if facts.num_devices else _of_sixty_days(hours or 0.0),
        devices_assumed=facts.num_devices is None, published_hours=hours,
    )  # fmt: skip


def _of_sixty_days(hours: float) -> int:
    return int(2 ** max(round(np.log2(hours * 3600.0 / USUAL_RUN_S)), 3))
