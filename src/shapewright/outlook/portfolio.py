"""What ideas are worth at the target budget, with their risk, against spending the same on more compute.

``ln gain(C) = ln g + s ln(C / C0)`` beyond the compute C0 where it was seen; both g and s are normal in this form, with the
widths of their 90 % intervals, so the further the target, the wider the answer. An idea is tested before it is adopted:
its value is ``E[max(ln gain, 0)]``, what the test costs is a share of the budget, and the baseline candidate, scaling
further, turns the same share into compute for certain. An idea leads where its value exceeds the baseline's.

Decisions: gains are in device-time (FLOP times utilisation), as a budget is; ideas of one group replace each other and the
best counts, groups multiply, which published bundles do not quite do: the product is an upper bound and is marked so.
Neglects: that ideas interact, that a test can be wrong, and what a reader of papers sees of failures.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy.stats import norm

from shapewright.errors import UsageError
from shapewright.outlook.ideas import Idea, shipped_ideas
from shapewright.scaling.law import FAR_COMPUTE, Z90, Law, default_law, far_remarks, load_law, predict_loss
from shapewright.search.guess import best_size

TEST_SHARE = 0.02
"""Compute of a ladder that gives a verdict, over the target's, where an idea does not say [assumed]."""
BASELINE = "scale further"


@dataclass(frozen=True, kw_only=True, slots=True)
class Held:
    """One candidate at the target."""

    name: str
    group: str
    gain: float
    """Median gain in device-time at the target."""
    low: float
    """Lower end of its 90 % interval."""
    high: float
    chance: float
    """Probability that it helps at all."""
    value: float
    """Expected ln gain if adopted only where a test shows one."""
    test_share: float
    """Cost of that test over the target budget."""
    lead: float
    """``value`` less what the same share buys as compute: above 0 it beats scaling further."""
    loss_change: float
    """Predicted change of the loss at the median gain, same budget."""
    saved: float
    """Share of the budget that reaches the same loss with the median gain."""
    extrapolated: float
    """Target compute over the largest at which it was seen."""
    slope: float
    slope_known: bool
    kind: str
    source: str


@dataclass(frozen=True, kw_only=True, slots=True)
class Portfolio:
    """The whole answer."""

    target_flops: float
    loss: float
    """Predicted loss at the target without any idea."""
    law: str
    held: tuple[Held, ...]
    """By lead, best first; scaling further among them."""
    chosen: tuple[str, ...]
    """The best of every group that beats the baseline."""
    together: float
    """Product of their expected gains: an upper bound."""
    together_low: float
    together_high: float
    remarks: tuple[str, ...]


def portfolio(
    target_flops: float,
    *,
    ideas: Sequence[Idea] | None = None,
    test_share: float = TEST_SHARE,
    law: str | None = None,
) -> Portfolio:
    """Value ideas at a training compute.

    Args:
        target_flops: the budget they are for [FLOP].
        ideas: the candidates; None for the project's list.
        test_share: cost of a test where an idea states none.
        law: name of the loss law; None for the default one.

    Raises:
        UsageError: the target or the share is out of range.
    """
    if not 1e12 <= target_flops <= 1e32:
        raise UsageError(f"--flops (={target_flops:g}) is no training compute", "it lies between 1e12 and 1e32",
                         "for example --flops 1e24")  # fmt: skip
    if not 0 < test_share < 1:
        raise UsageError(
            f"--test-share (={test_share:g}) is not a share", "it lies between 0 and 1", "for example 0.02"
        )
    chosen_law = load_law(law) if law else default_law(flops=target_flops)
    base = _loss(chosen_law, target_flops)
    held = [_held(idea, target_flops, test_share, chosen_law, base) for idea in ideas or shipped_ideas()]
    best = _best_of_groups(held)
    held.append(_baseline(test_share, chosen_law, target_flops, base))
    held.sort(key=lambda each: -each.lead)
    logs = [math.log(each.gain) for each in best]
    spread = math.hypot(*(math.log(each.high / each.low) / 2 for each in best)) if best else 0.0
    total = sum(logs)
    return Portfolio(
        target_flops=target_flops, loss=base, law=chosen_law.name, held=tuple(held),
        chosen=tuple(each.name for each in best), together=math.exp(total), together_low=math.exp(total - spread),
        together_high=math.exp(total + spread),
        remarks=(*_remarks(held, test_share), *far_remarks(chosen_law, target_flops)),
    )  # fmt: skip


def gain_at(idea: Idea, flops: float) -> tuple[float, float]:
    """Mean and standard deviation of ln gain in device-time at a compute."""
    distance = math.log(flops / idea.at_flops)
    # A shrinkage that nobody saw may take away beyond the largest scale; it gives nothing below it.
    slope = idea.slope if idea.slope_known or distance > 0 else 0.0
    mean = math.log(idea.gain * idea.hardware) + slope * distance
    width = math.log(idea.gain_high / idea.gain_low) / (2 * Z90)
    drift = (idea.slope_high - idea.slope_low) / (2 * Z90) * distance
    return mean, math.hypot(width, drift)


def expected_positive(mean: float, sd: float) -> float:
    """``E[max(x, 0)]`` of a normal x: what an option on it is worth."""
    if sd == 0:
        return max(mean, 0.0)
    z = mean / sd
    return float(mean * norm.cdf(z) + sd * norm.pdf(z))


def _held(idea: Idea, target: float, test_share: float, law: Law, base: float) -> Held:
    mean, sd = gain_at(idea, target)
    share = test_share if idea.test_flops is None else idea.test_flops / target
    value = expected_positive(mean, sd)
    return Held(
        name=idea.name, group=idea.group, gain=math.exp(mean), low=math.exp(mean - Z90 * sd),
        high=math.exp(mean + Z90 * sd), chance=float(norm.cdf(mean / sd)) if sd else float(mean > 0), value=value,
        test_share=share, lead=value - math.log1p(share), loss_change=_loss(law, target * math.exp(mean)) - base,
        saved=1.0 - math.exp(-mean), extrapolated=target / idea.at_flops, slope=idea.slope,
        slope_known=idea.slope_known, kind=idea.kind, source=idea.source,
    )  # fmt: skip


def _baseline(share: float, law: Law, target: float, base: float) -> Held:
    """The cost of one test, spent on compute instead."""
    return Held(
        name=BASELINE, group=BASELINE, gain=1 + share, low=1 + share, high=1 + share, chance=1.0, value=math.log1p(share),
        test_share=share, lead=0.0, loss_change=_loss(law, target * (1 + share)) - base, saved=1.0 - 1.0 / (1 + share),
        extrapolated=1.0, slope=0.0, slope_known=True, kind="derived", source=f"law {law.name}: {law.source}",
    )  # fmt: skip


def _loss(law: Law, flops: float) -> float:
    """Lowest predicted loss of a compute at the law's own best size."""
    size = best_size(law, flops)
    width = max((size / 12 * 100) ** (1 / 3), 8.0)
    found = predict_loss(
        law,
        active_params=size,
        embedding_params=0.0,
        tokens=flops / (6 * size),
        width=width,
        depth=max(width / 100, 1.0),
    )
    return float(np.ravel(found.loss)[0])


def _best_of_groups(held: Sequence[Held]) -> list[Held]:
    best: dict[str, Held] = {}
    for each in held:
        if (
            each.lead > 0
            and each.gain > 1
            and (each.group not in best or each.value > best[each.group].value)
        ):
            best[each.group] = each
    return sorted(best.values(), key=lambda each: -each.value)


def _remarks(held: Sequence[Held], test_share: float) -> tuple[str, ...]:
    far = [each.name for each in held if each.extrapolated > FAR_COMPUTE]
    guessed = [each.name for each in held if not each.slope_known]
    texts = [f"a test costs {test_share:.1%} of the budget where an idea does not say [assumed]"]
    if far:
        texts.append(f"seen only at less than a hundredth of the target: {', '.join(far)}")
    if guessed:
        texts.append("seen at one scale, slope -.08 (-.20 to .04) assumed from bundles that were seen at two: "
                     f"{', '.join(guessed)}")  # fmt: skip
    texts.append("published gains are those that were published: ideas that failed are not in the list")
    return tuple(texts)
