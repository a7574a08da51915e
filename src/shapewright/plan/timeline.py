"""One training step laid on streams: what runs when, on every stage of a pipeline.

The timeline is the definition of a step; the closed forms of ``plan.schedules``, which a sweep uses, are held equal to it by
``tests/unit/test_timeline.py``, and the trace is read off it. Decisions:

- A pass of a stage is one task. What its layers wait for (collectives of tensor, context and expert parallelism) is part of
  the task and drawn on the stream of its axis at the end of it.
- Plain schedules wait for their sends on both sides, so a send lengthens the pass; interleaved ones send behind the other
  chunks, so it delays only whoever needs it; the two directions of DualPipe hide each other's.
- Weights that come in before the first pass, and gradients that leave behind the last backward pass, run on a stream of
  their own; the part that outlasts the passes stands before and after the pipeline. Neglected: that stages other than the
  pacing one end earlier, and could start there.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from shapewright.plan.orders import Task, stage_orders
from shapewright.plan.stages import is_short

STREAMS = (
    "compute",
    "tensor-parallel communication",
    "context-parallel communication",
    "expert-parallel communication",
    "data-parallel communication",
    "pipeline",
)


@dataclass(frozen=True, kw_only=True, slots=True)
class Wait:
    """Collectives inside the layers of a stage, per pass of one micro-batch."""

    stream: str
    """One of :data:`STREAMS`."""
    forward_s: float
    backward_s: float


@dataclass(frozen=True, kw_only=True, slots=True)
class Pace:
    """Everything that a step's timeline follows from; times in seconds."""

    stages: int
    chunks: int
    micro_batches: int
    schedule: int
    """Index into ``plan.parallel.SCHEDULES``."""
    forward_s: float
    """The layers of one full stage, one micro-batch."""
    backward_s: float
    """The same, recompute included."""
    weight_s: float
    """The part of it that makes weights' gradients."""
    pair_s: float
    """A forward and a backward pass that overlap (DualPipe)."""
    first_forward_s: float = 0.0
    first_backward_s: float = 0.0
    """What the embedding adds to the first stage."""
    last_forward_s: float = 0.0
    last_backward_s: float = 0.0
    """What the head adds to the last."""
    send_s: float = 0.0
    """From one stage to the next."""
    chunk_layers: float = 1.0
    """Layers of a full chunk."""
    short_chunks: int = 0
    """Chunks that are one layer short (``plan.stages`` says which)."""
    inward_s: float = 0.0
    """Weights on the wire before and behind the first forward pass."""
    exposed_inward_s: float = 0.0
    outward_s: float = 0.0
    """Gradients on the wire behind and after the last backward pass."""
    exposed_outward_s: float = 0.0
    optimizer_s: float = 0.0
    host_s: float = 0.0
    """Waiting for an optimizer on the host."""
    jitter_s: float = 0.0
    """Waiting for the slowest device."""
    waits: tuple[Wait, ...] = ()


@dataclass(frozen=True, slots=True)
class Event:
    """One bar of the timeline."""

    name: str
    stage: int
    stream: str
    start_s: float
    end_s: float


@dataclass(frozen=True, kw_only=True, slots=True)
class Timeline:
    """All bars of one step."""

    events: tuple[Event, ...]
    step_time_s: float
    pipeline_s: float
    """From the first pass to the last."""
    busy_s: tuple[float, ...]
    """By stage: time in passes."""

    @property
    def bubble_s(self) -> float:
        """Idle time of the busiest stage between the first pass of any stage and the last."""
        return self.pipeline_s - max(self.busy_s)


def lay(pace: Pace) -> Timeline:
    """Lay one step on its streams, pass by pass."""
    start = pace.exposed_inward_s
    placed, busy, end = _simulate(pace)
    events: list[Event] = []
    if pace.inward_s or pace.exposed_inward_s:
        length = max(pace.inward_s, pace.exposed_inward_s)
        events += [Event("weights", s, STREAMS[4], 0.0, length) for s in range(pace.stages)]
    for stage, task, begin, finish in placed:
        events += _bars(pace, stage, task, start + begin, start + finish)
    finish = start + end
    if pace.outward_s or pace.exposed_outward_s:
        begin = max(finish - max(pace.outward_s - pace.exposed_outward_s, 0.0), 0.0)
        events += [
            Event("gradients", s, STREAMS[4], begin, finish + pace.exposed_outward_s)
            for s in range(pace.stages)
        ]
    finish += pace.exposed_outward_s
    for name, seconds in (
        ("optimizer", pace.optimizer_s),
        ("optimizer on the host", pace.host_s),
        ("waiting for the slowest device", pace.jitter_s),
    ):
        if seconds:
            events += [Event(name, s, STREAMS[0], finish, finish + seconds) for s in range(pace.stages)]
            finish += seconds
    return Timeline(events=tuple(events), step_time_s=finish, pipeline_s=end, busy_s=tuple(busy))


def _bars(pace: Pace, stage: int, task: Task, begin: float, finish: float) -> list[Event]:
    """The bars of one pass: compute first, then what it waited for, stream by stream."""
    two_ways = pace.stages > 1 and pace.schedule == 3
    forward, backward = (
        0.0 if part is None else _share(pace, _position(pace, stage, part[1], two_ways))
        for part in (task.forward, task.backward)
    )
    lengths = [(wait.stream, forward * wait.forward_s + backward * wait.backward_s) for wait in pace.waits]
    if task.kind in "WX":  # weights' gradients wait for nothing; overlapped passes hide each other's waits
        lengths = []
    blocking = pace.stages > 1 and pace.chunks == 1 and pace.schedule != 3 and task.kind != "W"
    if blocking and pace.send_s:
        lengths.append((STREAMS[5], pace.send_s))
    worked = max(finish - begin - sum(length for _, length in lengths), 0.0)
    events = [Event(task.name, stage, STREAMS[0], begin, begin + worked)]
    clock = begin + worked
    for stream, length in lengths:
        if length > 0:
            events.append(Event(task.name, stage, stream, clock, clock + length))
            clock += length
    return events


def _simulate(pace: Pace) -> tuple[list[tuple[int, Task, float, float]], list[float], float]:
    """(task with its times by stage, busy seconds by stage, end): every stage runs its order as soon as it can."""
    orders = stage_orders(
        stages=pace.stages, chunks=pace.chunks, micro_batches=pace.micro_batches, schedule=pace.schedule
    )
    two_ways = pace.stages > 1 and pace.schedule == 3
    done: dict[tuple[str, int, int, int], float] = {}
    clock, place = [0.0] * pace.stages, [0] * pace.stages
    placed: list[tuple[int, Task, float, float]] = []
    busy = [0.0] * pace.stages
    ready = _needs(pace, done, two_ways)
    left = sum(len(order) for order in orders)
    while left:
        before = left
        for stage, order in enumerate(orders):
            while place[stage] < len(order):
                task = order[place[stage]]
                when = ready(stage, task)
                if when is None:
                    break
                begin = max(clock[stage], when)
                finish = begin + _duration(pace, stage, task, two_ways)
                if task.forward is not None:
                    done["F", *task.forward, stage] = finish
                if task.backward is not None:
                    done["B", *task.backward, stage] = finish
                placed.append((stage, task, begin, finish))
                busy[stage] += finish - begin
                clock[stage] = finish
                place[stage] += 1
                left -= 1
        assert left < before, "a schedule whose stages wait for each other in a circle"
    return placed, busy, max(clock)


def _position(pace: Pace, stage: int, chunk: int, two_ways: bool) -> int:
    """Place of a stage's chunk in the model; with two directions ``chunk`` is the direction."""
    if two_ways:
        return stage if chunk == 0 else pace.stages - 1 - stage
    return chunk * pace.stages + stage


def _share(pace: Pace, position: int) -> float:
    """The chunk at this place of the model, as a share of a full stage."""
    short = is_short(position, pace.stages * pace.chunks, pace.short_chunks)
    return (1.0 - short / pace.chunk_layers) / pace.chunks


def _needs(
    pace: Pace, done: dict[tuple[str, int, int, int], float], two_ways: bool
) -> Callable[[int, Task], float | None]:
    """When the inputs of a task are there; None while they are not known."""
    last = pace.stages - 1 if two_ways else pace.stages * pace.chunks - 1
    delay = pace.send_s if pace.chunks > 1 else 0.0

    def neighbour(kind: str, micro_batch: int, chunk: int, stage: int, step: int) -> float | None:
        if two_ways:
            return done.get((kind, micro_batch, chunk, stage + (step if chunk == 0 else -step)))
        there = _position(pace, stage, chunk, two_ways) + step
        found = done.get((kind, micro_batch, there // pace.stages, there % pace.stages))
        return None if found is None else found + delay

    def ready(stage: int, task: Task) -> float | None:
        times: list[float | None] = [0.0]
        if task.forward is not None:
            micro_batch, chunk = task.forward
            if _position(pace, stage, chunk, two_ways) > 0:
                times.append(neighbour("F", micro_batch, chunk, stage, -1))
        if task.backward is not None:
            micro_batch, chunk = task.backward
            if _position(pace, stage, chunk, two_ways) < last:
                times.append(neighbour("B", micro_batch, chunk, stage, 1))
            else:
                times.append(done.get(("F", micro_batch, chunk, stage)))
        known = [time for time in times if time is not None]
        return max(known) if len(known) == len(times) else None

    return ready


def _duration(pace: Pace, stage: int, task: Task, two_ways: bool) -> float:
    last = pace.stages - 1 if two_ways else pace.stages * pace.chunks - 1
    send = pace.send_s if pace.stages > 1 and pace.chunks == 1 and not two_ways else 0.0
    if task.kind == "W":
        return pace.weight_s * _share(pace, _position(pace, stage, task.of[1], two_ways))
    seconds = 0.0
    for part, own, first, final in (
        (task.forward, pace.forward_s, pace.first_forward_s, pace.last_forward_s),
        (task.backward, pace.backward_s, pace.first_backward_s, pace.last_backward_s),
    ):
        if part is None:
            continue
        position = _position(pace, stage, part[1], two_ways)
        share = _share(pace, position)
        if task.kind == "X":  # each pass its share of the pair
            own = pace.pair_s / 2
        elif task.kind == "I":
            own -= pace.weight_s
        seconds += send + own * share
        seconds += (first if position == 0 else 0.0) + (final if position == last else 0.0)
    return seconds


def total(events: Sequence[Event], stream: str, stage: int) -> float:
    """Seconds that one stage's stream is busy."""
    return sum(e.end_s - e.start_s for e in events if e.stream == stream and e.stage == stage)
