"""From a priced plan to the pace of its step, which ``plan.timeline`` lays on streams."""

from __future__ import annotations

from typing import Any

import numpy as np

from shapewright.designs.breakdown import PricedPlan
from shapewright.plan.timeline import STREAMS, Pace, Wait

STREAM_OF_AXIS = {"tp": STREAMS[1], "etp": STREAMS[1], "cp": STREAMS[2], "ep": STREAMS[3]}
"""The stream of a collective inside a layer by the axis in brackets at the end of its name."""


def pace_of(priced: PricedPlan) -> Pace:
    """The pace of one plan's step; laid, it takes the step's time (``tests/unit/test_timeline.py``)."""
    steps, passes, plan = priced.steps, priced.steps.passes, priced.plan

    def one(value: Any) -> float:
        return float(np.asarray(value, float).ravel()[0])

    forward, backward = one(passes.forward), one(passes.backward)
    layers = one(passes.layers)
    waits: dict[str, list[float]] = {}
    for item in priced.local.costs.layer.items:
        if item.cause == "communication":
            stream = STREAM_OF_AXIS.get(item.name.rpartition("(")[2].rstrip(")"), STREAMS[1])
            pair = waits.setdefault(stream, [0.0, 0.0])
            pair[0] += layers * one(item.forward)
            pair[1] += layers * one(item.backward)
    micro_batches = round(one(steps.num_micro_batches))
    # What fully sharded layers wait for their weights and for the host is inside the passes already.
    inside = micro_batches * one(steps.waiting)
    exposed = one(steps.exposed_dp) - inside - one(steps.exposed_inward)
    return Pace(
        stages=int(plan.pp),
        chunks=int(plan.vpp),
        micro_batches=micro_batches,
        schedule=int(plan.schedule),
        forward_s=forward,
        backward_s=backward,
        weight_s=one(passes.weight),
        pair_s=one(passes.pair),
        first_forward_s=one(passes.first_forward),
        first_backward_s=one(passes.first_backward),
        last_forward_s=one(passes.last_forward),
        last_backward_s=one(passes.last_backward),
        send_s=one(passes.send),
        chunk_layers=layers / int(plan.vpp),
        short_chunks=round(one(passes.short)),
        inward_s=one(steps.inward),
        exposed_inward_s=one(steps.exposed_inward),
        outward_s=one(steps.outward),
        exposed_outward_s=max(exposed, 0.0),
        optimizer_s=one(steps.optimizer),
        host_s=one(steps.host),
        jitter_s=one(steps.jitter),
        waits=tuple(Wait(stream=s, forward_s=f, backward_s=b) for s, (f, b) in waits.items()),
    )
