"""What the loss of a design would read on other corpora: why a loss is a figure of one corpus and tokenizer only.

Decisions: every law that ships is asked for the same model and tokens; those of the chosen corpus, of another unit, or a
hundred times beyond their runs in compute are left out. The spread is no interval of the prediction, which is for the
law's own corpus: it says how far a loss measured on other text may lie from it. On Dolma the default law, of MassiveText,
is 10 to 13 % low, the law fitted there 2 to 3 % (``python -m benchmarks archc``).
"""

from __future__ import annotations

from collections.abc import Iterable

from shapewright.designs.document import Trust
from shapewright.errors import ShapewrightError
from shapewright.scaling.law import FAR_COMPUTE, Law, law_names, load_law
from shapewright.search.learning import Traits, learned_loss


def elsewhere(law: Law, traits: Traits, *, tokens: float, number_format: str) -> dict[str, float]:
    """Loss of the same model and tokens by the law of each other corpus, lowest first; by the law's name."""
    found: dict[str, tuple[float, str]] = {}
    for other in map(load_law, law_names()):
        if other.unit != law.unit or other.dataset == law.dataset:
            continue
        try:
            told = learned_loss(other, traits, tokens=tokens, number_format=number_format)
        except ShapewrightError:
            continue
        if float(told.extrapolation) <= FAR_COMPUTE:
            found.setdefault(other.dataset, (float(told.loss), other.name))
    return {name: loss for loss, name in sorted(found.values())}


def corpus_trust(law: Law, losses: dict[str, float]) -> Trust:
    """The line of the document that names the corpus."""
    text = f"the loss is for {law.dataset}, and compares with losses on the same text and tokenizer only"
    if losses:
        low, high = _ends(losses)
        text += f"; by {len(losses)} laws of other corpora the same run reads {low} to {high} (--law NAME asks one)"
    return Trust(name="corpus", kind="fitted", text=text, source=law.source)


def _ends(losses: dict[str, float]) -> Iterable[str]:
    names = list(losses)
    return (f"{losses[name]:.2f} ({name})" for name in (names[0], names[-1]))
