"""The timeline against the closed forms that sweeps use, and against what schedules promise."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from shapewright.architecture.catalog import resolve_model
from shapewright.designs.breakdown import memory_parts, price_plan, step_parts
from shapewright.designs.pacing import pace_of
from shapewright.hardware.catalog import parse_cluster
from shapewright.plan.memory import in_flight
from shapewright.plan.orders import stage_orders
from shapewright.plan.parallel import SCHEDULES, Plan
from shapewright.plan.passes import Passes
from shapewright.plan.schedules import pipeline_seconds
from shapewright.plan.stages import can_stage, chunk_layers, stage_layers
from shapewright.plan.timeline import Pace, lay
from shapewright.search.joint import Options, workload_for


def closed(pace: Pace) -> float:
    parts = pipeline_seconds(
        Passes(
            stages=pace.stages,
            chunks=pace.chunks,
            micro_batches=pace.micro_batches,
            schedule=pace.schedule,
            layers=np.asarray(pace.chunk_layers * pace.chunks),
            short=np.asarray(float(pace.short_chunks)),
            forward=pace.forward_s,
            backward=pace.backward_s,
            weight=pace.weight_s,
            pair=pace.pair_s,
            first_forward=pace.first_forward_s,
            first_backward=pace.first_backward_s,
            last_forward=pace.last_forward_s,
            last_backward=pace.last_backward_s,
            send=pace.send_s,
        )
    )
    return float(sum(parts))


def uneven(
    schedule: str, stages: int, chunks: int, micro_batches: int, layers: int, short: int, **more: float
) -> Pace:
    """Full chunks of ``layers`` layers that take 1 and 2.1 each, and ``short`` chunks of one less."""
    full = layers * chunks
    passes = {"forward_s": 1.0 * full, "backward_s": 2.1 * full, "weight_s": 0.9 * full, "pair_s": 2.8 * full}
    return pace(
        schedule,
        stages,
        chunks,
        micro_batches,
        **(passes | more | {"chunk_layers": layers, "short_chunks": short}),
    )


def pace(schedule: str, stages: int, chunks: int, micro_batches: int, **more: float) -> Pace:
    return Pace(
        stages=stages,
        chunks=chunks,
        micro_batches=micro_batches,
        schedule=SCHEDULES.index(schedule),
        **({"forward_s": 1.0, "backward_s": 2.1, "weight_s": 0.9, "pair_s": 3.1} | more),
    )


ENDS = {"first_forward_s": 0.05, "first_backward_s": 0.1, "last_forward_s": 0.3, "last_backward_s": 0.6}
"""A light embedding and a heavy head, as models have."""


@pytest.mark.parametrize("stages", [1, 2, 4, 8])
@pytest.mark.parametrize("schedule", ["1F1B", "GPipe", "zero-bubble"])
@pytest.mark.parametrize("ends", [{}, ENDS])
@pytest.mark.parametrize("send", [0.0, 0.05])
def test_plain_schedules_equal_their_closed_forms(
    schedule: str, stages: int, ends: dict[str, float], send: float
) -> None:
    for micro_batches in (stages, 2 * stages + 1, 24):
        one = pace(schedule, stages, 1, micro_batches, send_s=send, **ends)
        assert closed(one) == pytest.approx(lay(one).step_time_s, rel=1e-9), micro_batches


@pytest.mark.parametrize("stages", [2, 4, 8])
@pytest.mark.parametrize("chunks", [2, 3, 4])
def test_interleaving_equals_its_closed_form(stages: int, chunks: int) -> None:
    for groups in (1, 2, 5):
        for more in ({}, {"send_s": 0.05}, ENDS):
            one = pace("1F1B", stages, chunks, groups * stages, **more)
            assert closed(one) == pytest.approx(lay(one).step_time_s, rel=1e-9)
        both = pace("1F1B", stages, chunks, groups * stages, send_s=0.05, **ENDS)
        assert 0 <= closed(both) / lay(both).step_time_s - 1 < 0.025, "some sends hide behind the embedding"


@pytest.mark.parametrize("stages", [2, 4, 8, 16])
@pytest.mark.parametrize("overlap", [1.0, 0.8])
def test_dual_pipe_equals_its_closed_form(stages: int, overlap: float) -> None:
    for micro_batches in (2 * stages, 2 * stages + 2, 4 * stages):
        one = pace("DualPipe", stages, 1, micro_batches, backward_s=1.9, pair_s=2.9 * overlap)
        assert closed(one) == pytest.approx(lay(one).step_time_s, rel=1e-9)
        longer = replace(one, backward_s=2.1, pair_s=3.1 * overlap)
        exact = 1e-9 if stages <= 8 else 0.03
        assert closed(longer) == pytest.approx(lay(longer).step_time_s, rel=exact)
        shorter = replace(one, backward_s=1.7, pair_s=2.7 * overlap)
        assert closed(shorter) == pytest.approx(lay(shorter).step_time_s, rel=0.03)


@pytest.mark.parametrize("stages", [2, 3, 4, 8])
@pytest.mark.parametrize("schedule", ["1F1B", "GPipe"])
@pytest.mark.parametrize("layers", [1, 2, 5])
def test_uneven_stages_equal_their_closed_forms(schedule: str, stages: int, layers: int) -> None:
    """Any head, and an embedding that outweighs it too."""
    for short in range(1, stages):
        for micro_batches in (stages, 2 * stages + 1):
            for embedding, head in ((0.0, 0.0), (0.1, 0.8), (0.3, 4.0), (2.0, 1.5)):
                one = uneven(
                    schedule, stages, 1, micro_batches, layers, short, send_s=0.05, first_forward_s=embedding,
                    first_backward_s=2 * embedding, last_forward_s=head, last_backward_s=2 * head,
                )  # fmt: skip
                assert closed(one) == pytest.approx(lay(one).step_time_s, rel=1e-9), (
                    short,
                    micro_batches,
                    head,
                )


@pytest.mark.parametrize("stages", [3, 4, 8])
@pytest.mark.parametrize("chunks", [2, 3])
def test_uneven_interleaving_equals_its_closed_form(stages: int, chunks: int) -> None:
    for short in (1, 2):
        for layers in (1, 2, 5):
            for groups in (1, 2, 5):
                for head in (0.0, 0.5, 1.5):
                    ends = {"last_forward_s": head, "last_backward_s": 2 * head, "send_s": 0.05}
                    one = uneven("1F1B", stages, chunks, groups * stages, layers, short, **ends)
                    assert closed(one) == pytest.approx(lay(one).step_time_s, rel=1e-9), (
                        short,
                        layers,
                        groups,
                        head,
                    )
                    heavy = replace(one, first_forward_s=0.05, first_backward_s=0.1)
                    assert closed(heavy) == pytest.approx(lay(heavy).step_time_s, rel=0.025)


@pytest.mark.parametrize(
    ("schedule", "all_stages"), [("zero-bubble", (2, 3, 4, 8)), ("DualPipe", (4, 8, 16))]
)
def test_uneven_stages_of_other_schedules_are_near(schedule: str, all_stages: tuple[int, ...]) -> None:
    for stages in all_stages:
        for short in range(1, stages):
            for micro_batches in (2 * stages, 4 * stages):
                for layers in (2, 4):
                    one = uneven(
                        schedule, stages, 1, micro_batches, layers, short, backward_s=1.9 * layers, **ENDS
                    )
                    assert closed(one) == pytest.approx(lay(one).step_time_s, rel=0.07), (
                        stages,
                        short,
                        layers,
                    )


@pytest.mark.parametrize(
    ("depth", "pp", "vpp", "dealt"),
    [
        (126, 16, 1, (7, *[8] * 14, 7)),
        (126, 8, 8, (1, *[2] * 62, 1)),
        (61, 16, 1, (3, *[4] * 13, 3, 3)),
        (31, 4, 1, (8, 8, 8, 7)),
        (5, 4, 1, (1, 2, 1, 1)),
        (2, 4, 1, (0, 1, 1, 0)),
        (32, 4, 2, (4,) * 8),
    ],
)
def test_short_chunks_are_last_first_and_before_the_last(
    depth: int, pp: int, vpp: int, dealt: tuple[int, ...]
) -> None:
    assert can_stage(depth, pp, vpp)
    assert chunk_layers(depth, pp, vpp) == dealt
    layers, short = stage_layers(depth, pp, vpp)
    assert layers * pp - short == depth


def test_what_cannot_be_dealt() -> None:
    assert not can_stage(1, 4, 1), "an inner stage without a layer"
    assert not can_stage(60, 8, 2), "four short chunks, of which interleaving allows two"
    assert not can_stage(7, 2, 4), "no full stage would pace a pipeline of two"


def test_an_embedding_heavier_than_the_head_is_an_upper_bound() -> None:
    one = pace("1F1B", 4, 1, 12, first_forward_s=0.3, first_backward_s=0.6)
    simulated = lay(one).step_time_s
    assert simulated <= closed(one) <= simulated + 3 * 1.3


@pytest.mark.parametrize("schedule", SCHEDULES)
def test_every_stage_runs_every_pass_once(schedule: str) -> None:
    for order in stage_orders(stages=4, chunks=1, micro_batches=10, schedule=SCHEDULES.index(schedule)):
        ways = {part[1] for t in order for part in (t.forward, t.backward) if part}
        count = 10 // len(ways)
        for half in ("forward", "backward"):
            seen = sorted(part for task in order if (part := getattr(task, half)))
            assert seen == [(i, way) for i in range(count) for way in sorted(ways)] or sorted(seen) == sorted(
                (i, way) for i in range(count) for way in ways
            )


def test_fewer_bubbles_from_gpipe_to_dual_pipe() -> None:
    idle = [lay(pace(name, 8, 1, 32)).bubble_s for name in ("1F1B", "zero-bubble", "DualPipe")]
    assert idle == sorted(idle, reverse=True)
    assert lay(pace("1F1B", 8, 4, 32)).bubble_s == pytest.approx(idle[0] / 4)


@pytest.mark.parametrize(("schedule", "chunks"), [("1F1B", 1), ("GPipe", 1), ("1F1B", 2), ("1F1B", 4)])
def test_micro_batches_in_flight_are_those_that_the_first_stage_holds(schedule: str, chunks: int) -> None:
    stages, micro_batches = 4, 12
    order = stage_orders(
        stages=stages, chunks=chunks, micro_batches=micro_batches, schedule=SCHEDULES.index(schedule)
    )[0]
    held = most = 0
    for task in order:
        held += (task.forward is not None) - (task.backward is not None)
        most = max(most, held)
    plan = Plan(pp=stages, vpp=chunks, schedule=SCHEDULES.index(schedule))
    assert float(in_flight(plan, np.asarray(micro_batches))) == pytest.approx(most / chunks)


@pytest.mark.parametrize(
    "plan",
    [
        Plan(dp_shard=64, sharding=3, micro_batch=1),
        Plan(tp=4, dp_shard=16, sharding=2),
        Plan(tp=2, pp=4, dp_shard=8, sharding=1, recompute=2),
        Plan(tp=2, pp=4, dp_shard=8, sharding=1, schedule=1),
        Plan(tp=2, pp=4, dp_shard=8, sharding=1, schedule=2),
        Plan(tp=2, pp=4, vpp=2, dp_shard=8, sharding=1),
        Plan(pp=8, dp_shard=8, sharding=1, schedule=3),
        Plan(dp_shard=8, dp_replicate=8, sharding=3, sync_every=50),
        Plan(dp_shard=64, sharding=1, offload=1),
    ],
    ids=lambda plan: plan.describe(),
)
def test_a_priced_plan_takes_the_time_of_its_timeline(plan: Plan) -> None:
    workload = workload_for(parse_cluster("64xh100_sxm"), Options())
    workload = replace(workload, framework=replace(workload.framework, jitter=0.01))
    priced = price_plan(resolve_model("llama-3-8b"), plan, workload, global_batch=256)
    # With both ends at work, the closed forms of these two are upper bounds.
    slack = 0.06 if plan.schedule == 3 else 0.02 if plan.vpp > 1 else 1e-9
    assert priced.step_time == pytest.approx(lay(pace_of(priced)).step_time_s, rel=slack)


@pytest.mark.parametrize(
    ("plan", "slack"),
    [
        (Plan(tp=8, pp=8), 1e-9),
        (Plan(pp=16, dp_shard=4, sharding=1, recompute=1, micro_batch=2), 1e-9),
        (Plan(pp=16, dp_shard=4, sharding=1, schedule=1), 1e-9),
        (Plan(pp=16, dp_shard=4, sharding=1, schedule=2), 0.01),
        (Plan(pp=16, dp_shard=4, sharding=1, schedule=3), 0.02),
        (Plan(tp=2, pp=4, vpp=2, dp_shard=8, sharding=1), 0.01),
    ],
    ids=lambda value: value.describe() if isinstance(value, Plan) else None,
)
def test_uneven_stages_take_the_time_of_their_timeline_and_add_up(plan: Plan, slack: float) -> None:
    """Thirty layers: two short stages of four, eight and sixteen."""
    shape = resolve_model("llama-3-8b")
    shape = replace(shape, blocks=(replace(shape.blocks[0], count=30),))
    priced = price_plan(shape, plan, workload_for(parse_cluster("64xh100_sxm"), Options()), global_batch=256)
    assert priced.step_time == pytest.approx(lay(pace_of(priced)).step_time_s, rel=slack)
    assert sum(part.value for part in step_parts(priced)) == pytest.approx(priced.step_time, rel=1e-9)
    assert sum(part.value for part in memory_parts(priced)) == pytest.approx(priced.memory, rel=1e-9)
