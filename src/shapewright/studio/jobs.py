"""Answers that take longer than anybody waits for one response: begun, looked at again, given up.

Decisions: the rule which questions these are is not about their names but about what they do. What searches (a design,
and the verbs that are passed on) may become a job; what prices or reads one thing is answered at once. Every searching
question is asked in the one way: whoever asks waits for ``patience_s``, and gets the answer, or the name of a job to ask
again with. Names cannot be guessed, so nobody ends the job of another. A job ends with its answer, with the time limit
of the workers, or where nobody has asked for it for ``LEASE_S``; the computation behind it ends when no other job and no
other visitor waits for the same.
"""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Coroutine
from dataclasses import dataclass
from time import monotonic
from typing import Any

from shapewright.studio.workers import Problem, ProblemError

PATIENCE_S = 5.0
"""How long one request waits for an answer before it is told to come back [s]."""
LEASE_S = 30.0
"""How long a job is kept that nobody asks for [s]; its answer, too."""
MOST = 32
"""Jobs that are kept at once; more are refused."""


@dataclass(slots=True)
class _Job:
    """One question that is worked on, or was."""

    answer: asyncio.Future[Any]
    begun: float
    end: asyncio.TimerHandle | None = None
    """Gives the job up; put off by everyone who asks."""


class Unfinished(Exception):  # noqa: N818 - a state, not an error
    """The answer is not there yet; ask again with ``name``."""

    def __init__(self, name: str, seconds: float) -> None:
        super().__init__(f"not answered after {seconds:.0f} s")
        self.name = name
        self.seconds = seconds


class Jobs:
    """The jobs of one studio."""

    def __init__(self, patience_s: float = PATIENCE_S) -> None:
        self._patience_s = patience_s
        self._jobs: dict[str, _Job] = {}

    async def ask(self, answer: Coroutine[Any, Any, Any]) -> Any:
        """The answer of a question that is asked for the first time; who leaves meanwhile is not kept a job.

        Raises:
            Unfinished: it takes longer, and is a job now.
            ProblemError: that was the answer, or there are too many jobs.
        """
        job = _Job(answer=asyncio.ensure_future(answer), begun=monotonic())
        try:
            if await self._there(job):
                return job.answer.result()
        except asyncio.CancelledError:
            job.answer.cancel()
            raise
        if len(self._jobs) >= MOST:
            job.answer.cancel()
            raise ProblemError(
                Problem(
                    exit_code=2, what="too many long questions at once", slow=True, why=f"{MOST} are worked on already",
                    fix="ask again in a minute",
                )
            )  # fmt: skip
        name = secrets.token_urlsafe(12)
        self._jobs[name] = job
        self._put_off(name, job)
        raise Unfinished(name, monotonic() - job.begun)

    async def look(self, name: str) -> Any:
        """The answer of a job; who leaves meanwhile may come back.

        Raises:
            Unfinished: it is not there yet.
            ProblemError: that was the answer.
            KeyError: there is no such job, or not any more.
        """
        job = self._jobs[name]
        self._put_off(name, job)
        there = await self._there(job)
        if name in self._jobs:
            self._put_off(name, job)
        if not there:
            raise Unfinished(name, monotonic() - job.begun)
        if job.answer.cancelled():
            raise KeyError(name)
        return job.answer.result()

    def drop(self, name: str) -> None:
        """Give a job up.

        Raises:
            KeyError: there is no such job, or not any more.
        """
        job = self._jobs.pop(name)
        if job.end is not None:
            job.end.cancel()
        if not job.answer.cancel() and not job.answer.cancelled():
            job.answer.exception()  # a problem that nobody came back for is no surprise

    def close(self) -> None:
        """Give all jobs up."""
        for name in list(self._jobs):
            self.drop(name)

    async def _there(self, job: _Job) -> bool:
        done, _ = await asyncio.wait({job.answer}, timeout=self._patience_s)
        return bool(done)

    def _put_off(self, name: str, job: _Job) -> None:
        if job.end is not None:
            job.end.cancel()
        job.end = asyncio.get_running_loop().call_later(LEASE_S, self.drop, name)
