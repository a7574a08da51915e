"""Processes that answer questions, each under a time limit and a memory limit.

Decisions: a worker that is stuck cannot be asked to stop, so it is ended and a new one takes its place; the others go
on. That is why this is not the pool of the standard library, which gives up all its processes when one dies. Jobs
that may be long take all workers but one, so that a short one never waits for them. A job whose visitor has left
while it waited for a worker is never begun; one that runs is ended a little later, since who reloads a page comes back.
Errors cross the pipe as :class:`Problem`, which is plain data.
"""

from __future__ import annotations

import asyncio
import contextlib
import multiprocessing
import os
import re
import resource
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from multiprocessing.connection import Connection
from typing import Any

from shapewright.errors import InfeasibleError, ShapewrightError

MEMORY_BYTES = 4 * 2**30
"""Memory of one worker; an answer that needs more is refused."""
START_S = 60.0
"""Time a new worker may take to import what it needs."""
WAITING = 64
"""Jobs that may wait; more are refused at once, which is kinder than a queue of minutes."""
LOOK_S = 1.0
"""How often a running job looks whether anybody waits for it; the second time that nobody does, it is ended [s]."""
_OPTION = re.compile(r"--([a-z][a-z-]*)")
MEANING = {1: "bug", 2: "usage", 3: "infeasible", 4: "not covered", 5: "measurement failed"}


@dataclass(frozen=True, kw_only=True, slots=True)
class Problem:
    """An error as data: the three parts of its message, and the exit code that the command line would end with."""

    exit_code: int
    what: str
    why: str = ""
    fix: str = ""
    reasons: dict[str, int] = field(default_factory=dict)
    """Rejected candidates by reason, where nothing was feasible."""
    slow: bool = False
    """True where no worker answered in time; the question may be asked again."""

    @property
    def meaning(self) -> str:
        """The exit code in words."""
        return MEANING[self.exit_code]


class ProblemError(Exception):
    """A question that got a problem for an answer."""

    def __init__(self, problem: Problem) -> None:
        super().__init__(problem.what)
        self.problem = problem


def _parameter(option: re.Match[str]) -> str:
    """An option of the command line as the parameter that it is here."""
    return option[1].replace("-", "_")


def problem_of(error: BaseException) -> Problem:
    """An exception as data; what nobody raised on purpose is our own bug and says no more than its kind."""
    if isinstance(error, ProblemError):
        return error.problem
    if isinstance(error, ShapewrightError):
        reasons = dict(error.reasons) if isinstance(error, InfeasibleError) else {}
        what, why, fix = (_OPTION.sub(_parameter, text) for text in (error.what, error.why, error.fix))
        return Problem(exit_code=error.exit_code, what=what, why=why, fix=fix, reasons=reasons)
    if isinstance(error, MemoryError):
        return Problem(
            exit_code=2, what="the question is too large for one answer",
            why=f"it needs more than {MEMORY_BYTES // 2**30} GiB", fix="ask for fewer devices, or fix some numbers",
        )  # fmt: skip
    return Problem(
        exit_code=1, what=f"this is a bug of Shapewright: {type(error).__name__}: {error}",
        why="no input should lead here", fix="report it with the question that was asked",
    )  # fmt: skip


ABANDONED = Problem(exit_code=2, what="nobody waits for this answer any more", slow=True)


def _serve(pipe: Connection, prepare: Callable[[], Any] | None, niceness: int) -> None:
    """The loop of a worker process."""
    import signal

    os.nice(niceness)

    signal.signal(signal.SIGINT, signal.SIG_IGN)  # an interrupt is the parent's business
    with contextlib.suppress(ValueError, OSError):
        # Data, not address space: what draws pictures reserves far more addresses than it uses.
        resource.setrlimit(resource.RLIMIT_DATA, (MEMORY_BYTES, MEMORY_BYTES))
    if prepare is not None:
        prepare()
    with contextlib.suppress(BrokenPipeError, EOFError):  # nobody listens any more: the studio has ended
        pipe.send("ready")
        _answer_all(pipe)


def _answer_all(pipe: Connection) -> None:
    while True:
        job, arguments = pipe.recv()
        try:
            answer = (True, job(*arguments))
        except BaseException as error:  # everything must cross the pipe, or the parent waits in vain
            answer = (False, problem_of(error))
        pipe.send(answer)


class Worker:
    """One process and the pipe to it."""

    def __init__(self, prepare: Callable[[], Any] | None, niceness: int) -> None:
        self._prepare = prepare
        self._niceness = niceness
        self._closed = False
        self._start()

    def _start(self) -> None:
        context = multiprocessing.get_context("spawn")
        self._pipe, other = context.Pipe()
        self._process = context.Process(
            target=_serve, args=(other, self._prepare, self._niceness), daemon=True
        )
        self._process.start()
        other.close()
        self._ready = False

    def call(
        self,
        job: Callable[..., Any],
        arguments: tuple[Any, ...],
        timeout_s: float,
        wanted: Callable[[], bool] = lambda: True,
    ) -> Any:
        """The answer of a job; blocks at most ``timeout_s`` once the worker is ready.

        Raises:
            ProblemError: the job raised, took too long, was not ``wanted`` any more, or its process died.
        """
        try:
            if not self._ready:
                if not self._pipe.poll(START_S):
                    raise EOFError
                self._pipe.recv()
                self._ready = True
            self._pipe.send((job, arguments))
            if not self._answered(timeout_s, wanted):
                self._replace()
                raise ProblemError(
                    Problem(
                        exit_code=2, what=f"no answer within {timeout_s:g} s", slow=True,
                        why="the question is large, or the machine is busy",
                        fix="ask again, or fix some numbers so that there is less to search",
                    )
                )  # fmt: skip
            fine, answer = self._pipe.recv()
        except (EOFError, OSError) as error:
            self._replace()
            raise ProblemError(
                Problem(
                    exit_code=2, what="the process that was to answer ended", slow=True,
                    why="it was killed, or memory ran out", fix="ask again, or ask for something smaller",
                )
            ) from error  # fmt: skip
        if not fine:
            raise ProblemError(answer)
        return answer

    def _answered(self, timeout_s: float, wanted: Callable[[], bool]) -> bool:
        """Whether an answer comes in time.

        Raises:
            ProblemError: nobody waits for it any more; the process is replaced.
        """
        end, missed = time.monotonic() + timeout_s, 0
        while (left := end - time.monotonic()) > 0:
            if self._pipe.poll(min(left, LOOK_S)):
                return True
            missed = 0 if wanted() else missed + 1
            if missed == 2:
                self._replace()
                raise ProblemError(ABANDONED)
        return False

    def close(self) -> None:
        """End the process for good."""
        self._closed = True
        self._process.kill()
        self._process.join()

    def _replace(self) -> None:
        """End the process and start another, unless the studio has ended."""
        self._process.kill()
        self._process.join()
        self._pipe.close()
        if not self._closed:
            self._start()


class Workers:
    """A few workers and the queue before them."""

    def __init__(
        self,
        count: int,
        *,
        kept_free: int = 1,
        timeout_s: float = 20.0,
        long_timeout_s: float | None = None,
        niceness: int = 0,
        prepare: Callable[[], Any] | None = None,
    ) -> None:
        """Start ``count`` processes at ``niceness``, of which long jobs leave ``kept_free`` to short ones.

        A short job may take ``timeout_s``, a long one ``long_timeout_s`` (the same where it is not given).
        """
        self._workers = [Worker(prepare, niceness) for _ in range(max(count, kept_free + 1))]
        self._threads = ThreadPoolExecutor(len(self._workers), thread_name_prefix="studio-worker")
        self._idle: asyncio.LifoQueue[Worker] = asyncio.LifoQueue()
        for worker in self._workers:
            self._idle.put_nowait(worker)
        self._long = asyncio.Semaphore(len(self._workers) - kept_free)
        self._timeout_s = {False: timeout_s, True: timeout_s if long_timeout_s is None else long_timeout_s}
        self.num_asked = 0
        """Jobs that are worked on or wait for it."""

    async def run(
        self, job: Callable[..., Any], *arguments: Any, long: bool, wanted: Callable[[], bool] = lambda: True
    ) -> Any:
        """The answer of ``job(*arguments)``, both picklable; ``long`` for searches and the like.

        Raises:
            ProblemError: it raised, took too long, too many are waiting, or it was not ``wanted`` any more.
        """
        if self.num_asked >= WAITING:
            raise ProblemError(
                Problem(
                    exit_code=2, what="too many questions at once", slow=True, why=f"{WAITING} are waiting already",
                    fix="ask again in a moment",
                )
            )  # fmt: skip
        self.num_asked += 1
        try:
            async with self._long if long else contextlib.nullcontext():
                worker = await self._idle.get()
                if not wanted():
                    self._idle.put_nowait(worker)
                    raise ProblemError(ABANDONED)
                call = asyncio.get_running_loop().run_in_executor(
                    self._threads, worker.call, job, arguments, self._timeout_s[long], wanted
                )
                # The worker is idle again when its call ends, not when the one who asked stops waiting for it.
                call.add_done_callback(lambda _: self._idle.put_nowait(worker))
                return await asyncio.shield(call)
        finally:
            self.num_asked -= 1

    def close(self) -> None:
        """End all workers."""
        for worker in self._workers:
            worker.close()
        self._threads.shutdown(wait=False, cancel_futures=True)
