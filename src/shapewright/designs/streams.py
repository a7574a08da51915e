"""Which stream of a device each part of a step keeps busy or waits for: the tracks of a timeline."""

from __future__ import annotations

from shapewright.designs.document import Part

STREAMS = (
    "compute",
    "tensor-parallel communication",
    "context-parallel communication",
    "expert-parallel communication",
    "data-parallel communication",
    "pipeline",
)
"""The tracks in order."""

_STREAM_OF_AXIS = {"tp": 1, "cp": 2, "ep": 3, "dp": 4, "pp": 5}


def stream_of(part: Part) -> int:
    """The track of a part: communication and bubbles by the axis they belong to, everything else computes."""
    if part.cause == "bubble":
        return STREAMS.index("pipeline")
    if part.cause != "communication":
        return STREAMS.index("compute")
    # Parts that communicate end with their axis in brackets, since the same collective serves several.
    axis = part.name.rpartition("(")[2].rstrip(")")
    return _STREAM_OF_AXIS.get(axis, STREAMS.index("data-parallel communication"))
