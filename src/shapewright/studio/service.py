"""The studio behind its pages and its interface: questions in, answers out, each computed once.

Decisions: what the page shows first has workers of its own; whole designs and the verbs that are passed on, which may
take minutes, go to others of low priority, so that no script makes a visitor wait.
"""

from __future__ import annotations

import json
from typing import Any

from shapewright.architecture.shape import Shape
from shapewright.designs.document import Design
from shapewright.errors import ShapewrightError
from shapewright.studio import answers
from shapewright.studio.cache import Answers, Documents
from shapewright.studio.jobs import Jobs
from shapewright.studio.ladders import Ladders
from shapewright.studio.questions import (
    DesignQuestion,
    EstimateQuestion,
    LintQuestion,
    adapter,
)
from shapewright.studio.state import State
from shapewright.studio.workers import Problem, ProblemError, Workers, problem_of


class Studio:
    """One running studio."""

    def __init__(self, workers: Workers, spare: Workers, ladders: Ladders, jobs: Jobs) -> None:
        """``workers`` answer the page; ``spare`` works out at low priority what may take long."""
        self.workers = workers
        self.spare = spare
        self.ladders = ladders
        self.jobs = jobs
        self.documents = Documents()
        self._answers = Answers()

    def close(self) -> None:
        """End everything that was started."""
        self.jobs.close()
        self.ladders.close()
        self.workers.close()
        self.spare.close()

    @property
    def num_asked(self) -> int:
        """Questions that are worked on or wait for it."""
        return self.workers.num_asked + self.spare.num_asked

    async def design(self, question: DesignQuestion) -> Design:
        """See :func:`answers.design`."""
        return await self._ask(self.spare, answers.design, question, long=True)

    async def estimate(self, question: EstimateQuestion) -> Design:
        """See :func:`answers.estimate`."""
        return await self._ask(self.workers, answers.estimate, question)

    async def lint(self, question: LintQuestion) -> dict[str, Any]:
        """See :func:`answers.lint`."""
        return await self._ask(self.workers, answers.lint, question)

    async def show(self, state: State) -> Design:
        """The design that a state of the page shows; picks and levers may be missing.

        Raises:
            ProblemError: there is none.
        """
        question = None if state.opened else self._question(state)
        if not isinstance(question, DesignQuestion) or self._answers.known((answers.design, _key(question))):
            return await self.whole(state)
        # A shape that is fixed whole is priced in a twentieth of a second; only a search is long.
        fixed = question.shape.width is not None and question.shape.depth is not None
        return await self._ask(self.workers, answers.design_at_once, question, long=not fixed)

    async def whole(self, state: State) -> Design:
        """The document that a state of the page stands for, with all that belongs to it.

        Raises:
            ProblemError: there is none.
        """
        if state.opened is not None:
            return self._document(state.opened, Design)
        question = self._question(state)
        if isinstance(question, DesignQuestion):
            return await self.design(question)
        if state.config is not None:
            shape = self._document(state.config, Shape)
            return await self._answers.get(
                (answers.estimate_shape, state.config, _key(question)),
                lambda wanted: self.workers.run(
                    answers.estimate_shape, shape, question, long=False, wanted=wanted
                ),
            )
        return await self.estimate(question)

    def shown(self, state: State) -> bool:
        """Whether the design of a state is there without any wait."""
        if state.opened is not None:
            return True
        try:
            question = self._question(state)
        except ProblemError:
            return True
        jobs = (
            (answers.design, answers.design_at_once)
            if isinstance(question, DesignQuestion)
            else (answers.estimate,)
        )
        return state.config is None and any(self._answers.known((job, _key(question))) for job in jobs)

    async def lint_shown(self, design: Design) -> list[dict[str, Any]]:
        """The findings about the shape of a design on its own hardware, under its plan and batch."""
        return await self._answers.get(
            (answers.lint_design, design.to_json()),
            lambda wanted: self.workers.run(answers.lint_design, design, long=False, wanted=wanted),
        )

    async def pass_on(self, run: Any, name: str, given: dict[str, Any]) -> Any:
        """The answer of a verb of the command line."""
        key = (run, name, json.dumps(given, sort_keys=True))
        return await self._answers.get(
            key, lambda wanted: self.spare.run(run, name, given, long=True, wanted=wanted)
        )

    async def open(self, kind: str, body: bytes) -> str:
        """Read an uploaded document in a worker and keep it; returns its digest."""
        job = answers.open_design if kind == "design" else answers.open_config
        return self.documents.keep(body, await self.workers.run(job, body, long=False))

    async def _ask(self, workers: Workers, job: Any, question: Any, *, long: bool = False) -> Any:
        return await self._answers.get(
            (job, _key(question)), lambda wanted: workers.run(job, question, long=long, wanted=wanted)
        )

    def _question(self, state: State) -> DesignQuestion | EstimateQuestion:
        try:
            return state.question()
        except ShapewrightError as error:
            raise ProblemError(problem_of(error)) from error

    def _document(self, digest: str, kind: type) -> Any:
        found = self.documents.find(digest)
        if not isinstance(found, kind):
            raise ProblemError(
                Problem(
                    exit_code=2, what="this file is not open any more",
                    why="opened files are kept in memory only, and this studio does not have it",
                    fix="open the file again",
                )
            )  # fmt: skip
        return found


def _key(question: Any) -> bytes:
    return adapter(type(question)).dump_json(question)
