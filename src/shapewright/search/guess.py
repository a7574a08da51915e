"""Where a search starts, and what it assumes unless told: size, sequence length, vocabulary and batch."""

from __future__ import annotations

import numpy as np

from shapewright.cost.device import peak_of
from shapewright.errors import UnknownFigureError, UsageError
from shapewright.hardware.cluster import Cluster
from shapewright.plan.pairs import Workload
from shapewright.plan.power import cluster_power
from shapewright.scaling.law import Law, predict_loss
from shapewright.search.budget import Budget, device_seconds

USUAL_SEQ_LEN = 4096
"""Tokens per sequence of a given model, unless told."""
EXPECTED_MFU = 0.4
"""Utilisation of the first guess only; the answer does not depend on it once the lattice holds the optimum."""


MOST_FLOPS = 1e35
"""No training is larger: a hundred million times all that was ever computed for one model."""


def guess_flops(budget: Budget, workload: Workload) -> float:
    """Training FLOP that the budget buys at the expected utilisation.

    Raises:
        UsageError: they are beyond :data:`MOST_FLOPS`.
        UnknownFigureError: the budget is of energy, and nobody states the power of the device.
    """
    flops = _flops(budget, workload)
    if flops > MOST_FLOPS:
        raise UsageError(
            f"budget {budget.kind} (={budget.value:g}) buys {flops:.1e} FLOP",
            f"nothing is designed beyond {MOST_FLOPS:g}",
            "give a smaller budget",
        )
    return flops


def _flops(budget: Budget, workload: Workload) -> float:
    cluster = workload.cluster
    if budget.kind == "flops":
        return budget.value
    seconds = device_seconds(budget, cluster)
    if seconds is None:
        power = cluster_power(cluster)
        if power is None:
            raise UnknownFigureError(
                "power", cluster.accelerator.name, "an energy budget needs it", "tdp=700W"
            )
        seconds = budget.value / power.value
    return (
        seconds
        * cluster.num_devices
        * peak_of(cluster.accelerator, workload.precision.matmul_format)
        * EXPECTED_MFU
    )


def best_size(law: Law, flops: float, unique_tokens: float | None = None) -> float:
    """Parameters outside the embeddings with the lowest predicted loss at 6 N D = ``flops`` and a usual aspect."""
    sizes = np.geomspace(1e4, 1e14, 401)
    width = np.maximum((sizes / 12 * 100) ** (1 / 3), 8)
    prediction = predict_loss(
        law,
        active_params=sizes,
        embedding_params=0.0,
        tokens=np.maximum(flops / (6 * sizes), 1.0),
        width=width,
        depth=np.maximum(width / 100, 1),
        unique_tokens=unique_tokens,
    )
    return float(sizes[np.argmin(prediction.loss)])


def default_seq_len(flops: float) -> int:
    """256 tokens for budgets below 1e17 FLOP, 1,024 below 1e20, 2,048 below 1e21, else 4,096.

    Small models learn little from long contexts and pay for them; the lengths are those of the ladders and
    models of these budgets (nanoGPT's character model 256, GPT-2 1,024, Pythia 2,048, OLMo 4,096).
    """
    return next(
        (length for limit, length in ((1e17, 256), (1e20, 1024), (1e21, 2048)) if flops < limit),
        USUAL_SEQ_LEN,
    )


def default_vocab(flops: float) -> int:
    """50,304 (the padded tokenizer that the default law's runs used), or bytes for budgets below 1e17 FLOP.

    Below that a table of 50,304 rows would outweigh the model it serves.
    """
    return 50304 if flops >= 1e17 else 256


def round_batch(sequences: float, cluster: Cluster) -> int:
    """A global batch near ``sequences`` that many plans divide: a multiple of the devices where there are fewer
    devices than sequences, else of their largest divisor that is no larger; at least 1."""
    devices = cluster.num_devices
    unit = (
        devices
        if sequences >= devices
        else max(d for d in range(1, devices + 1) if devices % d == 0 and d <= max(sequences, 1))
    )
    count = max(round(sequences / unit), 1)
    # Few factors beside powers of two, so that micro-batches of 2, 4 and 8 divide it too: a batch of 7 would have to
    # run one sequence at a time.
    digits = 1 if count < 16 else 2
    power = 2 ** max(int(np.floor(np.log2(count))) - digits, 0)
    return int(unit * max(round(count / power), 1) * power)
