"""Answers by their questions, and documents by their digests: bounded, in memory, gone with the process.

Decisions: two visitors who ask the same at once wait for one answer. Problems of the question are kept like answers;
a slow answer is not, since the next try may be faster. Who works an answer out is told whether anybody still waits for
it, so that a slider that has moved on costs nothing once it is out of date; who comes while one is being given up has it
worked out anew.
"""

from __future__ import annotations

import asyncio
import hashlib
from collections import Counter, OrderedDict
from collections.abc import Awaitable, Callable, Hashable
from typing import Any

from shapewright.architecture.shape import Shape
from shapewright.designs.document import Design
from shapewright.studio.workers import ABANDONED, ProblemError

ANSWERS, DOCUMENTS = 512, 64


class Answers:
    """Answers by question, the least recently used forgotten first."""

    def __init__(self) -> None:
        self._known: OrderedDict[Hashable, asyncio.Future[Any]] = OrderedDict()
        self._waiting: Counter[Hashable] = Counter()

    def known(self, question: Hashable) -> bool:
        """Whether the answer is there without any wait."""
        found = self._known.get(question)
        return found is not None and found.done()

    async def get(self, question: Hashable, ask: Callable[[Callable[[], bool]], Awaitable[Any]]) -> Any:
        """The answer to a question, from memory, from one who asked before, or from ``ask``.

        ``ask`` is given a function that says whether anybody still waits.

        Raises:
            ProblemError: that was the answer.
        """
        self._waiting[question] += 1
        try:
            while True:
                try:
                    return await asyncio.shield(self._asked(question, ask))
                except ProblemError as error:
                    if error.problem is not ABANDONED:
                        raise
        finally:
            self._waiting[question] -= 1
            if not self._waiting[question]:
                del self._waiting[question]

    def _asked(
        self, question: Hashable, ask: Callable[[Callable[[], bool]], Awaitable[Any]]
    ) -> asyncio.Future[Any]:
        found = self._known.get(question)
        if found is None:
            found = asyncio.ensure_future(ask(lambda: self._waiting[question] > 0))
            self._known[question] = found
            found.add_done_callback(lambda done: self._forget_failures(question, done))
            while len(self._known) > ANSWERS:
                self._known.popitem(last=False)
        self._known.move_to_end(question)
        return found

    def _forget_failures(self, question: Hashable, done: asyncio.Future[Any]) -> None:
        error = None if done.cancelled() else done.exception()
        lasting = error is None or (isinstance(error, ProblemError) and not error.problem.slow)
        if (done.cancelled() or not lasting) and self._known.get(question) is done:
            del self._known[question]


class Documents:
    """Designs and shapes that visitors opened, by digest."""

    def __init__(self) -> None:
        self._kept: OrderedDict[str, Design | Shape] = OrderedDict()

    def keep(self, body: bytes, document: Design | Shape) -> str:
        """Keep what was read from ``body``; returns its name."""
        name = hashlib.sha256(body).hexdigest()[:16]
        self._kept[name] = document
        self._kept.move_to_end(name)
        while len(self._kept) > DOCUMENTS:
            self._kept.popitem(last=False)
        return name

    def find(self, name: str) -> Design | Shape | None:
        """The document of a name; None where it is not kept any more."""
        return self._kept.get(name)
