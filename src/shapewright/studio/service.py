"""The studio behind its pages and its interface: questions in, answers out, each computed once."""

from __future__ import annotations

import json
from typing import Any

from shapewright.architecture.shape import Shape
from shapewright.designs.document import Design
from shapewright.errors import ShapewrightError
from shapewright.studio import answers
from shapewright.studio.cache import Answers, Documents
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

    def __init__(self, workers: Workers, ladders: Ladders) -> None:
        self.workers = workers
        self.ladders = ladders
        self.documents = Documents()
        self._answers = Answers()

    async def design(self, question: DesignQuestion) -> Design:
        """See :func:`answers.design`."""
        # A shape that is fixed whole is priced in a tenth of a second; only a search is long.
        fixed = question.shape.width is not None and question.shape.depth is not None
        return await self._ask(answers.design, question, long=not fixed)

    async def estimate(self, question: EstimateQuestion) -> Design:
        """See :func:`answers.estimate`."""
        return await self._ask(answers.estimate, question, long=False)

    async def lint(self, question: LintQuestion) -> dict[str, Any]:
        """See :func:`answers.lint`."""
        return await self._ask(answers.lint, question, long=False)

    async def show(self, state: State) -> Design:
        """The design that a state of the page shows.

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
                lambda: self.workers.run(answers.estimate_shape, shape, question, long=False),
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
        job = answers.design if isinstance(question, DesignQuestion) else answers.estimate
        return state.config is None and self._answers.known((job, _key(question)))

    async def lint_shown(self, design: Design) -> dict[str, Any]:
        """The findings about the shape of a design on its own hardware, under its plan."""
        plan = design.plan
        question = LintQuestion(
            on=design.request.hardware, seq_len=design.run.sequence_length, precision=design.run.precision,
            settings=design.request.settings, tp=int(plan.tp), pp=int(plan.pp), vpp=int(plan.vpp),
            micro_batch=int(plan.micro_batch),
        )  # fmt: skip
        return await self._answers.get(
            (answers.lint_shape, repr(design.shape), _key(question)),
            lambda: self.workers.run(answers.lint_shape, design.shape, question, long=False),
        )

    async def pass_on(self, run: Any, name: str, given: dict[str, Any]) -> Any:
        """The answer of a verb of the command line."""
        key = (run, name, json.dumps(given, sort_keys=True))
        return await self._answers.get(key, lambda: self.workers.run(run, name, given, long=True))

    async def open(self, kind: str, body: bytes) -> str:
        """Read an uploaded document in a worker and keep it; returns its digest."""
        job = answers.open_design if kind == "design" else answers.open_config
        return self.documents.keep(body, await self.workers.run(job, body, long=False))

    async def _ask(self, job: Any, question: Any, *, long: bool) -> Any:
        return await self._answers.get(
            (job, _key(question)), lambda: self.workers.run(job, question, long=long)
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
