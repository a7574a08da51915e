"""A loss is a figure of one corpus and tokenizer: what the laws of others say of the same run."""

from __future__ import annotations

import pytest

from shapewright.architecture.catalog import load_model
from shapewright.designs.corpora import corpus_trust, elsewhere
from shapewright.scaling.law import FAR_COMPUTE, law_names, load_law
from shapewright.search.learning import learned_loss, traits_of


@pytest.mark.parametrize("name", ["chinchilla_shape", "gemstones"])
def test_other_corpora_are_asked_for_the_same_run(name: str) -> None:
    law, traits = load_law(name), traits_of(load_model("pythia-1b"))
    losses = elsewhere(law, traits, tokens=3e11, number_format="bf16")
    assert len(losses) >= 5
    assert list(losses.values()) == sorted(losses.values())
    for other, loss in losses.items():
        told = learned_loss(load_law(other), traits, tokens=3e11, number_format="bf16")
        assert float(told.loss) == loss
        assert told.extrapolation <= FAR_COMPUTE
        assert load_law(other).dataset != law.dataset
    assert len({load_law(other).dataset for other in losses}) == len(losses)
    row = corpus_trust(law, losses)
    assert law.dataset in row.text
    assert f"{min(losses.values()):.2f}" in row.text
    assert f"{max(losses.values()):.2f}" in row.text


def test_a_law_of_bytes_is_compared_with_none() -> None:
    law = load_law("stdlib_bytes")
    assert [other for other in law_names() if load_law(other).unit == law.unit] == [law.name]
    losses = elsewhere(law, traits_of(load_model("pythia-14m")), tokens=1e9, number_format="bf16")
    assert losses == {}
    assert "--law" not in corpus_trust(law, losses).text
