"""Searches that take longer than a request waits: accepted, answered at their own address, given up when nobody asks."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator

import pytest
from starlette.testclient import TestClient
from typer.testing import CliRunner

from shapewright.cli.main import app
from shapewright.errors import UsageError
from shapewright.studio import jobs as jobs_module
from shapewright.studio.jobs import Jobs, Unfinished
from shapewright.studio.workers import ProblemError, problem_of

SCALE = {"architectures": ["transformer", "lstm"], "devices": "1..128", "beta": "50GB/s"}


@pytest.fixture
def hasty(client: TestClient) -> Iterator[TestClient]:
    """The studio of the other tests, whose requests wait for a hundredth of a second."""
    studio = client.app.state.studio  # type: ignore[attr-defined]
    patient, studio.jobs = studio.jobs, Jobs(0.01)
    yield client
    client.portal.call(_close, studio.jobs)  # type: ignore[union-attr]
    studio.jobs = patient


async def _close(jobs: Jobs) -> None:
    jobs.close()


def test_a_long_search_is_accepted_and_answered_at_its_own_address(hasty: TestClient) -> None:
    response = hasty.post("/api/scale", json=SCALE)
    assert response.status_code == 202, response.text
    address = response.headers["location"]
    assert response.json()["ask_again"] == address
    while (response := hasty.get(address)).status_code == 202:
        assert response.headers["location"] == address
    words = ["scale", "transformer", "lstm", "--devices", "1..128", "--beta", "50GB/s", "--json"]
    assert response.json() == json.loads(CliRunner().invoke(app, words).stdout)
    assert hasty.get(address).json() == response.json(), "an answer may be fetched twice"


def test_a_job_may_be_given_up_and_is_nobody_elses(hasty: TestClient) -> None:
    address = hasty.post("/api/scale", json={**SCALE, "beta": "51GB/s"}).headers["location"]
    other = hasty.post("/api/scale", json={**SCALE, "beta": "51GB/s"}).headers["location"]
    assert address != other
    assert hasty.delete(address).status_code == 204
    assert hasty.get(address).status_code == hasty.delete(address).status_code == 404
    while (response := hasty.get(other)).status_code == 202:
        pass
    assert response.status_code == 200


def test_a_problem_waits_at_the_address_too(hasty: TestClient) -> None:
    response = hasty.post("/api/design", json={"hardware": "1xh100_sxm", "flops": 1.1e27})
    while response.status_code == 202:
        response = hasty.get(response.headers["location"])
    assert response.status_code == 409
    assert response.json()["error"]["meaning"] == "infeasible"


def test_the_page_shows_that_a_search_is_at_work(hasty: TestClient) -> None:
    query = "accelerator=h100_sxm&devices=8&budget=2.25&unit=hours"
    page = hasty.get(f"/answer?{query}").text
    assert "At work for" in page
    job = page.partition("&amp;job=")[2].partition('"')[0]
    while "At work for" in page:
        page = hasty.get(f"/answer?{query}&job={job}").text
        assert page.partition("&amp;job=")[2].partition('"')[0] in {job, ""}
    assert 'id="hero-title"' in page
    assert "job=" not in page, "what the page links to is its state alone"
    assert 'id="hero-title"' in hasty.get(f"/answer?{query}&job=forgotten").text


async def _never() -> None:
    await asyncio.sleep(3600)


def test_what_nobody_asks_for_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(jobs_module, "LEASE_S", 0.05)
    monkeypatch.setattr(jobs_module, "MOST", 2)

    async def leave() -> None:
        jobs = Jobs(0.01)
        for _ in range(2):
            with pytest.raises(Unfinished) as later:
                await jobs.ask(_never())
        with pytest.raises(ProblemError, match="too many"):
            await jobs.ask(_never())
        for _ in range(3):  # who goes on asking keeps it
            await asyncio.sleep(0.03)
            with pytest.raises(Unfinished):
                await jobs.look(later.value.name)
        await asyncio.sleep(0.1)
        with pytest.raises(KeyError):
            await jobs.look(later.value.name)
        assert asyncio.all_tasks() == {asyncio.current_task()}, "nothing is worked on any more"

    asyncio.run(leave())


def test_an_error_of_a_question_passes_through() -> None:
    async def wrong() -> None:
        raise ProblemError(problem_of(UsageError("beta (=x) is none", "it is a rate", "give 50GB/s")))

    with pytest.raises(ProblemError, match="beta"):
        asyncio.run(Jobs().ask(wrong()))
