"""Workers: a slow one is ended, a dead one is replaced, a long job leaves room for a short one."""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Iterator
from operator import mul
from pathlib import Path

import pytest

from shapewright.errors import InfeasibleError
from shapewright.studio.cache import Answers
from shapewright.studio.workers import ABANDONED, Problem, ProblemError, Workers, problem_of
from shapewright.units import parse_quantity


@pytest.fixture(scope="module")
def loop() -> Iterator[asyncio.AbstractEventLoop]:
    """The loop on which the workers of this file are asked."""
    found = asyncio.new_event_loop()
    yield found
    found.close()


@pytest.fixture(scope="module")
def workers(loop: asyncio.AbstractEventLoop) -> Iterator[Workers]:
    """Two workers with little patience."""

    async def start() -> Workers:
        return Workers(2, timeout_s=1.0)

    found = loop.run_until_complete(start())
    yield found
    found.close()


def ask(loop: asyncio.AbstractEventLoop, workers: Workers, job, *arguments, long: bool = False):
    return loop.run_until_complete(workers.run(job, *arguments, long=long))


def test_a_job_answers(loop: asyncio.AbstractEventLoop, workers: Workers) -> None:
    assert ask(loop, workers, mul, 2, 21) == 42


@pytest.mark.parametrize(
    ("job", "named"),
    [
        ((time.sleep, 30.0), "no answer within 1 s"),
        ((os._exit, 3), "ended"),
        ((bytearray, 64 * 2**30), "too large"),
    ],
)
def test_what_goes_wrong_is_a_problem_and_the_next_job_answers(
    loop: asyncio.AbstractEventLoop, workers: Workers, job: tuple, named: str
) -> None:
    with pytest.raises(ProblemError, match=named):
        ask(loop, workers, *job)
    assert ask(loop, workers, mul, 2, 1) == 2
    assert ask(loop, workers, mul, 2, 2) == 4


def test_an_error_crosses_the_pipe_with_its_parts(loop: asyncio.AbstractEventLoop, workers: Workers) -> None:
    with pytest.raises(ProblemError) as caught:
        ask(loop, workers, parse_quantity, "7 apples", "B", "size")
    problem = caught.value.problem
    assert (problem.exit_code, problem.meaning) == (2, "usage")
    assert "7 apples" in problem.what
    assert problem.fix == "for example: 80GB, 24GiB"


def test_problems_name_parameters_and_not_options() -> None:
    error = InfeasibleError("nothing fits", "of 7", "give --seq-len 8", {"memory": 7})
    expected = Problem(
        exit_code=3, what="nothing fits", why="of 7", fix="give seq_len 8", reasons={"memory": 7}
    )
    assert problem_of(error) == expected
    assert problem_of(KeyError("x")).exit_code == 1


def test_long_jobs_leave_a_worker_for_short_ones(loop: asyncio.AbstractEventLoop, workers: Workers) -> None:
    async def both() -> list[str]:
        order: list[str] = []

        async def long(name: str) -> None:
            await workers.run(time.sleep, 0.3, long=True)
            order.append(name)

        async def short() -> None:
            await workers.run(mul, 1, 1, long=False)
            order.append("short")

        await asyncio.gather(long("first"), long("second"), short())
        return order

    assert loop.run_until_complete(both())[0] == "short"


def test_a_question_asked_twice_at_once_is_computed_once(loop: asyncio.AbstractEventLoop) -> None:
    answers, asked = Answers(), []

    async def ask_once(_: object) -> int:
        asked.append(1)
        await asyncio.sleep(0.01)
        return 7

    async def many() -> list[int]:
        return await asyncio.gather(*(answers.get("question", ask_once) for _ in range(5)))

    assert loop.run_until_complete(many()) == [7] * 5
    assert len(asked) == 1
    assert answers.known("question")


def test_a_slow_answer_is_forgotten_and_a_refusal_kept(loop: asyncio.AbstractEventLoop) -> None:
    answers = Answers()

    async def fail(*, slow: bool) -> None:
        raise ProblemError(Problem(exit_code=2, what="no", slow=slow))

    for name, slow in (("slow", True), ("refused", False)):
        with pytest.raises(ProblemError):
            loop.run_until_complete(answers.get(name, lambda _, slow=slow: fail(slow=slow)))
        loop.run_until_complete(asyncio.sleep(0))
        assert answers.known(name) is not slow


def test_a_job_that_nobody_waits_for_any_more_is_never_begun(
    loop: asyncio.AbstractEventLoop, workers: Workers, tmp_path: Path
) -> None:
    answers, begun = Answers(), tmp_path / "begun"

    async def leave_early() -> None:
        busy = [asyncio.ensure_future(workers.run(time.sleep, 0.2, long=False)) for _ in range(2)]
        await asyncio.sleep(0)
        ask = asyncio.ensure_future(
            answers.get("stale", lambda wanted: workers.run(Path.touch, begun, long=False, wanted=wanted))
        )
        await asyncio.sleep(0.05)
        ask.cancel()
        await asyncio.gather(*busy)
        await workers.run(mul, 1, 1, long=False)

    loop.run_until_complete(leave_early())
    assert not begun.exists()
    assert not answers.known("stale")


def test_a_running_job_that_nobody_waits_for_is_ended(
    loop: asyncio.AbstractEventLoop, workers: Workers, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("shapewright.studio.workers.LOOK_S", 0.02)
    with pytest.raises(ProblemError, match="nobody waits"):
        loop.run_until_complete(
            workers.run(time.sleep, 0.9, long=False, wanted=iter([True, False, False]).__next__)
        )
    assert ask(loop, workers, mul, 3, 3) == 9


def test_who_comes_while_an_answer_is_given_up_gets_it_anew(loop: asyncio.AbstractEventLoop) -> None:
    answers, asked = Answers(), []

    async def given_up_once(_: object) -> int:
        asked.append(1)
        if len(asked) == 1:
            raise ProblemError(ABANDONED)
        return 7

    assert loop.run_until_complete(answers.get("question", given_up_once)) == 7
    assert len(asked) == 2
