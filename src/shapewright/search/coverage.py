"""Which families a search can price on its hardware: one without a calibrated kernel is left out by name.

Decisions: asked before anything is laid out, of one plain layer under a plan with and without expert parallelism, since
what is calibrated hangs on the kind of kernel and its number format and not on sizes; every engine then searches the same
families. A family that was asked for alone is not left out but refused, with the same words.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import gcd

import numpy as np

from shapewright.architecture.shape import Shape
from shapewright.errors import NotCoveredError
from shapewright.plan.pairs import Workload, price_local
from shapewright.plan.parallel import Plan
from shapewright.search.families import Family, Heads, blocks_of

Pair = tuple[Family, Workload]
"""A family and the workload, in one number format, that it is searched in."""
SAMPLE = Heads(
    **{name: np.array([[size]]) for name, size in
       {"width": 4096, "heads": 32, "kv_heads": 8, "head_dim": 128, "ffn_size": 14336}.items()}
)  # fmt: skip
"""A layer that every family can be laid out with (Llama-3-8B's)."""
VOCAB = 50304


def covered(
    kinds: Sequence[Family], workloads: Sequence[Workload]
) -> tuple[list[Pair], dict[str, NotCoveredError]]:
    """What can be searched, and why the rest cannot, by family and, where only some formats lack it, format.

    Args:
        kinds: the families asked for.
        workloads: one in each number format searched.

    Raises:
        NotCoveredError: nothing is left.
    """
    pairs, missing = [], {}
    for family in kinds:
        for workload in workloads:
            error = _error(family, workload) if len(kinds) > 1 else None
            if error is None:
                pairs.append((family, workload))
            else:
                missing[family.name, workload.precision.name] = error
    if not pairs:
        first = next(iter(missing.values()))
        raise NotCoveredError(
            f"none of {len(kinds)} families can be priced on {workloads[0].cluster.accelerator.name}: {first.what}",
            first.why,
            first.fix,
        )
    whole = {family.name for family, _ in pairs}
    return pairs, {
        f"{family} in {number_format}" if family in whole else family: error
        for (family, number_format), error in missing.items()
    }


def _error(family: Family, workload: Workload) -> NotCoveredError | None:
    layers = Shape(
        name="sample", vocab_size=VOCAB, hidden_size=SAMPLE.width, tied_embeddings=False,
        blocks=blocks_of(family, SAMPLE),
    )  # fmt: skip
    devices = workload.cluster.num_devices
    spread = np.array([1, gcd(devices, max(family.experts, 1))])
    try:
        price_local(layers, Plan(dp_shard=np.full(2, devices), ep=spread), workload)
    except NotCoveredError as error:
        return error
    return None
