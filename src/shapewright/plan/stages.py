"""How the layers of a model are dealt to the stages of a pipeline.

Decisions: chunks (``pp * vpp`` of them, in the order of the model) differ by one layer at most. Where the layers do not
divide, the last chunk is short first, since it holds the head, then the first, which holds the embedding, then those before
the last: what comes late in a pipeline shortens its ramp twice. Llama 3.1 405B's 126 layers on 16 stages come out as
published (Grattafiori et al. 2024, arXiv 2407.21783, section 3.3.2: one layer less on the first and on the last).
Interleaved chunks are short at these two places only, in pipelines of three stages or more, so that full stages set the
pace; only those two may be without a layer.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from shapewright.architecture.operator import Size

Array = NDArray[Any]


def can_stage(depth: Size, pp: Size, vpp: Size) -> Any:
    """Whether ``depth`` layers can be dealt to ``pp`` stages of ``vpp`` chunks."""
    depth, pp, chunks = np.asarray(depth), np.asarray(pp), np.asarray(pp) * vpp
    short = -depth % chunks
    return (short == 0) | (short <= 2) & (pp > 2) | (np.asarray(vpp) == 1) & (depth >= chunks)


def stage_layers(depth: Size, pp: Size, vpp: Size) -> tuple[Array, Array]:
    """(layers of a full stage, chunks that are one layer short).

    Interleaved chunks that no plan may have, but published runs had, are taken as equal shares of their stage.
    """
    depth, pp = np.asarray(depth, float), np.asarray(pp, float)
    short = -depth % (pp * vpp)
    short = np.where((np.asarray(vpp) > 1) & (short > 2), -depth % pp, short)
    return (depth + short) / pp, short


def short_ends(short: Size) -> tuple[Array, Array]:
    """Whether the first and the last chunk are among ``short`` ones."""
    return np.asarray(short) > 1, np.asarray(short) > 0


def is_short(place: int, chunks: int, short: int) -> bool:
    """Whether the chunk at this place of the model is one layer short."""
    if place == 0:
        return short > 1
    return chunks - 1 - place < (short - 1 if short > 1 else short)


def stages_text(depth: int, pp: int, vpp: int) -> str:
    """``chunks of 8 layers, 2 of them 7``; empty where all are equal."""
    layers = chunk_layers(depth, pp, vpp)
    short = layers.count(max(layers) - 1)
    what = "stages" if vpp == 1 else "chunks"
    return f"{what} of {max(layers)} layers, {short} of them {max(layers) - 1}" if short else ""


def chunk_layers(depth: int, pp: int, vpp: int) -> tuple[int, ...]:
    """Layers of every chunk, in the order of the model; chunk ``i`` lives on stage ``i % pp``."""
    chunks = pp * vpp
    short = -depth % chunks
    full = (depth + short) // chunks
    return tuple(full - is_short(place, chunks, short) for place in range(chunks))
