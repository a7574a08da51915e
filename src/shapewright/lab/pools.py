"""Where the runs of a ladder are: in processes here, or on the machines of a Ray cluster.

Decisions: both take the tasks in the order given and hand back results as they finish. A process here ends when the one
that started it is gone, lest it write into a ladder that goes on, and leaves Ctrl-C to that one, which asks it to end.
On Ray a task is tried again when its machine dies: it goes on from its checkpoint.
"""

from __future__ import annotations

import logging
import os
import signal
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any, TypeVar

from shapewright.errors import MissingPackageError

RETRIES = 3
PATIENCE_S = 20.0
"""Seconds that runs on a cluster have to save their checkpoints when the ladder ends early."""
LISTEN_S = 1.0
"""Seconds after which a wait for runs on a cluster begins anew."""
T = TypeVar("T")


class WorkerDiedError(Exception):
    """A process ended without a result."""


def in_processes(
    function: Callable[..., T],
    tasks: Sequence[tuple[Any, ...]],
    workers: int,
    stop: Callable[[], None],
    *,
    on_cuda: bool = False,
) -> Iterator[T]:
    """Results of ``function(*task)`` from ``workers`` processes; ``stop`` asks those that run to end early.

    With ``on_cuda`` each process sees one CUDA device, in turn.

    Raises:
        WorkerDiedError: a process was killed; tasks that had not begun are dropped.
    """
    import multiprocessing
    from concurrent.futures import ProcessPoolExecutor, as_completed
    from concurrent.futures.process import BrokenProcessPool

    context = multiprocessing.get_context("spawn")
    places = (context.Value("i", 0), cuda_devices()) if on_cuda else (None, ())
    pool = ProcessPoolExecutor(max_workers=workers, mp_context=context, initializer=begin, initargs=places)
    try:
        futures = [pool.submit(function, *task) for task in tasks]
        # A pool looks for dead processes among those it had when it was last woken, which may be all but the newest.
        pool.submit(int)
        for future in as_completed(futures):
            yield future.result()
    except BrokenProcessPool as error:
        raise WorkerDiedError from error
    except BaseException:
        stop()
        raise
    finally:
        pool.shutdown(wait=True, cancel_futures=True)


def on_ray(
    function: Callable[..., T],
    tasks: Sequence[tuple[Any, ...]],
    workers: int,
    stop: Callable[[], None],
    *,
    on_cuda: bool = False,
) -> Iterator[T]:
    """The same on a Ray cluster, one core (and one CUDA device) each, at most ``workers`` at once where it has fewer.

    A cluster named by RAY_ADDRESS is joined; without one Ray runs on this machine.

    Raises:
        MissingPackageError: Ray is not installed.
        WorkerDiedError: a task's machine died more often than it is tried again.
    """
    try:
        import ray
        from ray.exceptions import RayTaskError, WorkerCrashedError
    except ImportError as error:
        raise MissingPackageError("--engine ray", "ray", extra="cluster") from error
    started, waiting = not ray.is_initialized(), []
    if started:
        here: dict[str, Any] = {} if os.environ.get("RAY_ADDRESS") else {"num_cpus": workers}
        ray.init(logging_level=logging.ERROR, log_to_driver=False, include_dashboard=False, **here)
    try:
        remote: Any = ray.remote(num_cpus=1, num_gpus=int(on_cuda), max_retries=RETRIES)(function)
        waiting = [remote.remote(*task) for task in tasks]
        while waiting:
            # Not for ever: Ctrl-C is heard between two waits.
            done, waiting = ray.wait(waiting, timeout=LISTEN_S)
            if not done:
                continue
            try:
                yield ray.get(done[0])
            except RayTaskError as error:
                raise error.cause from error
            except WorkerCrashedError as error:
                raise WorkerDiedError from error
    except BaseException:
        stop()
        ray.wait(waiting, num_returns=len(waiting), timeout=PATIENCE_S) if waiting else None
        raise
    finally:
        if started:
            ray.shutdown()


def cuda_devices() -> tuple[str, ...]:
    """Names of the CUDA devices that this process may use, as CUDA_VISIBLE_DEVICES takes them."""
    stated = os.environ.get("CUDA_VISIBLE_DEVICES")
    if stated is not None:
        return tuple(name.strip() for name in stated.split(",") if name.strip())
    import torch

    return tuple(map(str, range(torch.cuda.device_count())))


def begin(taken: Any = None, devices: tuple[str, ...] = ()) -> None:
    """Leave Ctrl-C to the process that started this one, and end when it is gone.

    Args:
        taken: a number shared by all processes: how many began before.
        devices: CUDA devices; this process sees one of them.
    """
    if devices:
        with taken.get_lock():
            mine, taken.value = taken.value, taken.value + 1
        # CUDA reads it when it is first used, which is after this.
        os.environ["CUDA_VISIBLE_DEVICES"] = devices[mine % len(devices)]
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    parent = os.getppid()

    def look() -> None:
        while os.getppid() == parent:
            time.sleep(1.0)
        os._exit(1)

    threading.Thread(target=look, daemon=True).start()
