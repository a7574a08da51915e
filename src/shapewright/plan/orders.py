"""The order in which each stage of a pipeline runs its passes, by schedule.

A task is a forward pass (F), a whole backward pass (B), the gradient of inputs alone (I), the weights' gradients left over
(W), or a forward and a backward pass of opposite directions at once (X). Sources: GPipe, arXiv 1811.06965; 1F1B and
interleaving, arXiv 2104.04473, section 2.2; zero-bubble H1, arXiv 2401.10241, section 3; DualPipe, arXiv 2412.19437,
figure 5, whose two directions each carry half of the micro-batches.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Task:
    """One pass of one stage: (micro-batch, chunk or direction) of each half."""

    kind: str
    forward: tuple[int, int] | None = None
    backward: tuple[int, int] | None = None
    of: tuple[int, int] = (0, 0)
    """Micro-batch, and chunk or direction, whose weights' gradients a W makes."""

    @property
    def name(self) -> str:
        """For a trace: kind and micro-batch."""
        if self.kind == "X" and self.forward is not None and self.backward is not None:
            return f"forward {self.forward[0]} + backward {self.backward[0]}"
        if self.forward is not None:
            return f"forward {self.forward[0]}"
        if self.backward is not None:
            return f"{'input gradients' if self.kind == 'I' else 'backward'} {self.backward[0]}"
        return f"weight gradients {self.of[0]}"


def stage_orders(*, stages: int, chunks: int, micro_batches: int, schedule: int) -> list[list[Task]]:
    """The tasks of every stage in order; ``schedule`` indexes ``plan.parallel.SCHEDULES``."""
    if stages == 1:
        return [[task for i in range(micro_batches) for task in (_forward(i), _backward(i))]]
    if chunks > 1:
        return [_interleaved(stages, chunks, micro_batches, s) for s in range(stages)]
    order = (_one_forward_one_backward, _gpipe, _zero_bubble, _dual_pipe)[schedule]
    return [order(stages, micro_batches, s) for s in range(stages)]


def _forward(micro_batch: int, chunk: int = 0) -> Task:
    return Task("F", forward=(micro_batch, chunk))


def _backward(micro_batch: int, chunk: int = 0) -> Task:
    return Task("B", backward=(micro_batch, chunk))


def _gpipe(stages: int, micro_batches: int, stage: int) -> list[Task]:
    del stages, stage
    return [_forward(i) for i in range(micro_batches)] + [_backward(i) for i in range(micro_batches)]


def _one_forward_one_backward(stages: int, micro_batches: int, stage: int) -> list[Task]:
    ahead = min(stages - stage - 1, micro_batches)
    tasks = [_forward(i) for i in range(ahead)]
    for i in range(micro_batches - ahead):
        tasks += [_forward(ahead + i), _backward(i)]
    return tasks + [_backward(i) for i in range(micro_batches - ahead, micro_batches)]


def _interleaved(stages: int, chunks: int, micro_batches: int, stage: int) -> list[Task]:
    """Groups of as many micro-batches as stages go through chunk after chunk, backward in reverse."""
    there, back = [], []
    for first in range(0, micro_batches, stages):
        group = range(first, min(first + stages, micro_batches))
        there += [(i, chunk) for chunk in range(chunks) for i in group]
        back += [(i, chunk) for chunk in reversed(range(chunks)) for i in group]
    ahead = min(2 * (stages - stage - 1) + (chunks - 1) * stages, len(there))
    tasks = [_forward(*there[k]) for k in range(ahead)]
    for k in range(len(there) - ahead):
        tasks += [_forward(*there[ahead + k]), _backward(*back[k])]
    return tasks + [_backward(*back[k]) for k in range(len(there) - ahead, len(there))]


def _zero_bubble(stages: int, micro_batches: int, stage: int) -> list[Task]:
    """1F1B with each weights' gradient put off by as many micro-batches as the stage's number: no more memory."""
    ahead = min(stages - stage - 1, micro_batches)
    tasks = [_forward(i) for i in range(ahead)]
    weights = 0
    for i in range(micro_batches):
        if ahead + i < micro_batches:
            tasks.append(_forward(ahead + i))
        tasks.append(Task("I", backward=(i, 0)))
        if i - weights >= stage or ahead + i >= micro_batches:
            tasks.append(Task("W", of=(weights, 0)))
            weights += 1
    return tasks + [Task("W", of=(i, 0)) for i in range(weights, micro_batches)]


def _dual_pipe(stages: int, micro_batches: int, stage: int) -> list[Task]:
    """Micro-batches enter at both ends; a stage's own direction comes first, and the other half mirrors it."""
    half = stages // 2
    depth = min(stage, stages - 1 - stage)
    gap = half - depth - 1
    ways = (0, 1) if stage < half else (1, 0)
    forwards, backwards = [0, 0], [0, 0]
    late: list[tuple[int, int]] = []
    tasks: list[Task] = []

    def ahead(way: int) -> tuple[int, int]:
        forwards[way] += 1
        return forwards[way] - 1, ways[way]

    def back(way: int) -> tuple[int, int]:
        backwards[way] += 1
        return backwards[way] - 1, ways[way]

    def alone(way: int, *, split: bool = False) -> None:
        which = back(way)
        tasks.append(Task("I" if split else "B", backward=which))
        if split:
            late.append(which)

    def weights() -> None:
        tasks.append(Task("W", of=late.pop(0)))

    def both(way: int) -> None:
        tasks.append(Task("X", forward=ahead(way), backward=back(1 - way)))

    tasks += [Task("F", forward=ahead(0)) for _ in range(2 * gap)]
    for _ in range(depth + 1):
        tasks += [Task("F", forward=ahead(0)), Task("F", forward=ahead(1))]
    for _ in range(gap):
        alone(1, split=True)
        weights()
        tasks.append(Task("F", forward=ahead(1)))
    for i in range(micro_batches // 2 - stages + depth + 1):
        if i == 0 and gap == 0:  # the middle stages would wait for each other
            tasks.append(Task("F", forward=ahead(0)))
            alone(1)
        else:
            both(0)
        both(1)
    for _ in range(gap):
        alone(1)
        both(1)
    # In the second half of the last backward passes only inputs' gradients are urgent.
    ends = [way for _ in range(depth + 1) for way in (1, 0)]
    for i, way in enumerate(ends):
        alone(way, split=i > depth)
    for _ in range(gap):
        weights()
        alone(0, split=True)
    while late:
        weights()
    return tasks
