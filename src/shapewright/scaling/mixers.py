"""What a token mixer other than full attention does to the loss: priors with their evidence.

Decisions: a prior is a shift of ln loss at equal size and tokens, with its 90 % interval and the kind of evidence;
a mixed stack takes the average of its layers' shifts. Only where runs of both mixers on the same data over a range
of sizes are open is the shift measured. For the rest it is 0 with a width that says how little is known: public
comparisons are at one size, or report perplexities on other corpora, or leave out the tuning. A prior is no reason
to choose a mixer for its loss; it keeps the interval honest where one is chosen for its cost.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from shapewright.errors import UnknownNameError, UsageError
from shapewright.scaling.law import Z90, LossPrediction, shifted


@dataclass(frozen=True, kw_only=True, slots=True)
class MixerPrior:
    """Shift of ln loss against full attention at equal parameters and tokens."""

    name: str
    shift: float
    """Expected shift [ln loss]; negative is better."""
    low: float
    """Lower end of the 90 % interval."""
    high: float
    """Upper end."""
    kind: Literal["measured", "assumed", "derived"]
    evidence: str
    """What is known, and what is not."""


PRIORS: dict[str, MixerPrior] = {
    prior.name: prior
    for prior in (
        MixerPrior(
            name="attention", shift=0.0, low=0.0, high=0.0, kind="derived",
            evidence="the reference: every law was fitted on models with full attention",
        ),
        MixerPrior(
            name="sliding", shift=0.0, low=-0.005, high=0.01, kind="assumed",
            evidence="Gemma 3 report (arXiv 2503.19786, section 5): windows of 512 to 4,096 in five of six layers change "
            "perplexity little; no ladder of sizes is open",
        ),
        MixerPrior(
            name="mla", shift=0.0, low=-0.01, high=0.01, kind="assumed",
            evidence="DeepSeek-V2 (arXiv 2405.04434, appendix D) reports benchmarks no worse than multi-head attention "
            "at two sizes; no losses",
        ),
        MixerPrior(
            name="mlstm", shift=-0.008, low=-0.034, high=0.013, kind="measured",
            evidence="NX-AI/xlstm_scaling_laws@604bb30, runs of its authors, .08 to 2 B parameters on DCLM: 84 mLSTM runs, "
            "all at 16k context, against laws of the Llama runs beside them: median -.6 % against those at 2k, -1.1 % "
            "at 8k, -2.1 % at 16k, which learn less from a token (between the first two; 5 % at 16k to 95 % at 2k)",
        ),
        MixerPrior(
            name="mamba2", shift=0.0, low=-0.03, high=0.03, kind="assumed",
            evidence="no open ladder against attention on equal data; hybrids report slightly lower loss at 8 B "
            "(Waleffe et al. 2024, arXiv 2406.07887)",
        ),
        MixerPrior(
            name="gated_deltanet", shift=0.0, low=-0.03, high=0.03, kind="assumed",
            evidence="Yang et al. 2024 (arXiv 2412.06464) report lower perplexity at 1.3 B and 100 B tokens; one size, no "
            "open ladder",
        ),
        MixerPrior(
            name="kda", shift=0.0, low=-0.03, high=0.02, kind="assumed",
            evidence="Kimi Linear (arXiv 2510.26692) reports a hybrid of three KDA layers to one of latent attention as "
            "1.16 times as compute-efficient as attention; its runs are not open",
        ),
        MixerPrior(
            name="gla", shift=0.0, low=-0.02, high=0.05, kind="assumed",
            evidence="Yang et al. 2023 (arXiv 2312.06635) report perplexities near attention's at .34 and 1.3 B, behind it "
            "in recall; no open ladder",
        ),
        MixerPrior(
            name="rwkv7", shift=0.0, low=-0.03, high=0.04, kind="assumed",
            evidence="RWKV-7 (arXiv 2503.14456) compares released models on benchmarks; no ladder on equal data",
        ),
        MixerPrior(
            name="nsa", shift=0.0, low=-0.01, high=0.01, kind="assumed",
            evidence="NSA (arXiv 2502.11089, section 4) reports a loss slightly below full attention's at 27 B; one size",
        ),
    )
}  # fmt: skip
"""Mixer to prior."""


def mixed_shift(shares: Mapping[str, float]) -> tuple[float, float]:
    """Expected shift of ln loss of a stack and its standard deviation, from each mixer's share of layers.

    Raises:
        UnknownNameError: a mixer without a prior.
        UsageError: shares that do not add up to 1.
    """
    for name in shares:
        if name not in PRIORS:
            raise UnknownNameError("mixer", name, PRIORS)
    if abs(sum(shares.values()) - 1.0) > 1e-6 or min(shares.values(), default=-1.0) < 0:
        raise UsageError(
            f"shares of layers (={dict(shares)}) do not add up to 1",
            "every layer has one mixer",
            "divide by the layers",
        )
    shift = sum(share * PRIORS[name].shift for name, share in shares.items())
    # Shares of one family err together: standard deviations add, not variances.
    sd = sum(share * (PRIORS[name].high - PRIORS[name].low) / (2.0 * Z90) for name, share in shares.items())
    return shift, sd


def with_mixers(prediction: LossPrediction, shares: Mapping[str, float]) -> LossPrediction:
    """``prediction`` of a full-attention law for a stack of these mixers: shifted, and its interval widened."""
    return shifted(prediction, *mixed_shift(shares))
