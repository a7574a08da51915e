"""Where the arms of a search are priced: here, or on the machines of a Ray cluster.

Decisions: an engine maps a function over tasks and returns the results in the order of the tasks; each task is priced
by the same code on the same numbers, so the answer does not depend on the engine, to the bit on equal processors.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, TypeVar

from shapewright.errors import MissingPackageError, UnknownNameError

Task = TypeVar("Task")
Result = TypeVar("Result")
ENGINES = ("local", "ray")


@contextmanager
def session(engine: str) -> Iterator[None]:
    """Keeps the engine up for all tasks inside: starting Ray takes longer than pricing an arm.

    Raises:
        UnknownNameError: no such engine.
        MissingPackageError: Ray is not installed.
    """
    if engine not in ENGINES:
        raise UnknownNameError("engine", engine, ENGINES)
    if engine == "local":
        yield
        return
    ray = _ray()
    started = not ray.is_initialized()
    if started:
        # A cluster named by RAY_ADDRESS is joined; without one the processors of this machine are used.
        ray.init(logging_level=logging.ERROR, log_to_driver=False, include_dashboard=False)
    try:
        yield
    finally:
        if started:
            ray.shutdown()


def run_tasks(engine: str, function: Callable[[Task], Result], tasks: Sequence[Task]) -> list[Result]:
    """``function`` of every task, in their order.

    Raises:
        UnknownNameError: no such engine.
        MissingPackageError: Ray is not installed.
    """
    if engine == "local" or not tasks:
        return [function(task) for task in tasks]
    with session(engine):
        ray = _ray()
        remote: Any = ray.remote(function)
        return ray.get([remote.remote(task) for task in tasks])


def _ray() -> Any:
    try:
        import ray
    except ImportError as error:
        raise MissingPackageError("--engine ray", "ray", extra="cluster") from error
    return ray
