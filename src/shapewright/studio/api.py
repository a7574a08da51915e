"""The HTTP interface: the verbs as JSON, for scripts and for the page.

Decisions: a problem is a document of its own with the exit code that the command line would end with; usage is status
422, infeasible 409, an unknown address 404, a busy or slow studio 503, and only our own bugs are 500. What searches and
is not answered within a few seconds is accepted (202) and answered at the address of its job (``jobs``). Bodies are JSON
and nothing else, which a foreign page cannot send without asking first.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from dataclasses import asdict
from functools import wraps
from math import isfinite
from typing import Any

from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, Response
from starlette.routing import Route

from shapewright.errors import ShapewrightError
from shapewright.studio import answers
from shapewright.studio.guard import read_body
from shapewright.studio.jobs import Unfinished
from shapewright.studio.ladders import LadderView
from shapewright.studio.questions import (
    DesignQuestion,
    EstimateQuestion,
    LadderQuestion,
    LintQuestion,
    Verb,
    read_question,
)
from shapewright.studio.service import Studio
from shapewright.studio.workers import Problem, ProblemError, problem_of

STATUS = {1: 500, 2: 422, 3: 409, 4: 422, 5: 409}


def status_of(problem: Problem) -> int:
    """The HTTP status of a problem."""
    return 503 if problem.slow else STATUS[problem.exit_code]


def problem_response(problem: Problem) -> Response:
    """A problem as JSON."""
    body = {"error": {**asdict(problem), "meaning": problem.meaning}}
    del body["error"]["slow"]
    headers = {"retry-after": "2"} if problem.slow else None
    return JSONResponse(body, status_of(problem), headers)


def _json(body: str | bytes) -> Response:
    return Response(body, media_type="application/json")


def studio_of(request: Request) -> Studio:
    """The studio that serves a request."""
    return request.app.state.studio


def _verb(handler: Any) -> Any:
    """A handler whose problems become responses."""

    @wraps(handler)
    async def wrapped(request: Request) -> Response:
        try:
            return await handler(request)
        except Unfinished as later:
            return job_response(later)
        except (ProblemError, ShapewrightError) as error:
            return problem_response(problem_of(error))

    return wrapped


def job_response(later: Unfinished) -> Response:
    """Where an answer will be that is not there yet."""
    address = f"/api/jobs/{later.name}"
    body = {"job": later.name, "seconds": round(later.seconds, 1), "ask_again": address}
    return JSONResponse(body, 202, {"location": address, "retry-after": "1"})


async def while_there(request: Request, answer: Coroutine[Any, Any, Response]) -> Response:
    """The answer, or an empty one as soon as nobody listens: a slider that moved on, a tab or a script that ended."""
    found, gone = asyncio.ensure_future(answer), asyncio.ensure_future(_gone(request))
    try:
        await asyncio.wait({found, gone}, return_when=asyncio.FIRST_COMPLETED)
        return found.result() if found.done() else Response(status_code=204)
    finally:
        found.cancel()
        gone.cancel()


async def _gone(request: Request) -> None:
    while (await request.receive())["type"] != "http.disconnect":
        pass


async def _body(request: Request) -> bytes:
    kind = request.headers.get("content-type", "").partition(";")[0].strip()
    if kind != "application/json":
        raise ProblemError(
            Problem(exit_code=2, what=f"content-type (={kind[:60]!r}) must be application/json", why="bodies are JSON")
        )  # fmt: skip
    return await read_body(request)


@_verb
async def design(request: Request) -> Response:
    """POST /api/design."""
    question = read_question(DesignQuestion, await _body(request))
    studio = studio_of(request)

    async def answer() -> Response:
        return _json((await studio.design(question)).to_json())

    return await while_there(request, studio.jobs.ask(answer()))


@_verb
async def estimate(request: Request) -> Response:
    """POST /api/estimate."""
    question = read_question(EstimateQuestion, await _body(request))
    return _json((await studio_of(request).estimate(question)).to_json())


@_verb
async def lint(request: Request) -> Response:
    """POST /api/lint."""
    question = read_question(LintQuestion, await _body(request))
    return JSONResponse(await studio_of(request).lint(question))


@_verb
async def explain(request: Request) -> Response:
    """POST /api/explain."""
    body = await _body(request)
    return JSONResponse(await studio_of(request).workers.run(answers.explain, body, long=False))


@_verb
async def export(request: Request) -> Response:
    """POST /api/export/{format}."""
    body = await _body(request)
    name = request.path_params["format"]
    return JSONResponse(await studio_of(request).workers.run(answers.export, body, name, long=False))


@_verb
async def report(request: Request) -> Response:
    """POST /api/report."""
    body = await _body(request)
    return Response(
        await studio_of(request).workers.run(answers.report, body, long=False), media_type="text/html"
    )


@_verb
async def documents(request: Request) -> Response:
    """POST /api/documents/{kind}: keep an uploaded design.json or config.json for the page."""
    kind = request.path_params["kind"]
    if kind not in {"design", "config"}:
        return JSONResponse({"detail": "Not Found"}, 404)
    return JSONResponse({"digest": await studio_of(request).open(kind, await _body(request)), "kind": kind})


@_verb
async def hardware(request: Request) -> Response:
    """GET /api/hardware and /api/hardware/{name}."""
    name = request.path_params.get("name")
    if name is None:
        from shapewright.hardware.catalog import accelerator_names, cluster_names

        return JSONResponse({"accelerators": list(accelerator_names()), "systems": list(cluster_names())})
    return JSONResponse(await studio_of(request).workers.run(answers.hardware, name, long=False))


@_verb
async def models(request: Request) -> Response:
    """GET /api/models and /api/models/{name}."""
    name = request.path_params.get("name")
    if name is None:
        from shapewright.architecture.catalog import model_names

        return JSONResponse({"models": list(model_names())})
    return JSONResponse(await studio_of(request).workers.run(answers.model, name, long=False))


@_verb
async def schema(_: Request) -> Response:
    """GET /api/schema."""
    from shapewright.designs.document import json_schema

    return JSONResponse(json_schema())


@_verb
async def job(request: Request) -> Response:
    """GET /api/jobs/{name} is the answer once it is there, DELETE gives it up."""
    jobs, name = studio_of(request).jobs, request.path_params["name"]
    try:
        if request.method == "DELETE":
            jobs.drop(name)
            return PlainTextResponse("", 204)
        return await while_there(request, jobs.look(name))
    except KeyError:
        return JSONResponse({"detail": "no such job, or nobody asked for it in time"}, 404)


async def openapi(request: Request) -> Response:
    """GET /api/openapi.json."""
    return JSONResponse(request.app.state.openapi)


def verb_route(verb: Verb, run: Callable[[str, dict[str, Any]], Any]) -> Route:
    """POST /api/{verb}: a verb that the studio passes on."""

    @_verb
    async def passed_on(request: Request) -> Response:
        question = read_question(verb.question, await _body(request))
        given = question.model_dump(exclude_unset=True)
        studio = studio_of(request)

        async def answer() -> Response:
            return JSONResponse(await studio.pass_on(run, verb.name, given))

        return await while_there(request, studio.jobs.ask(answer()))

    return Route(f"/api/{verb.name}", passed_on, methods=["POST"], name=f"verb-{verb.name}")


def _told(view: LadderView) -> dict[str, Any]:
    """A ladder as JSON; the loss of a run that diverged is null."""
    rows = [{**row, "loss": row["loss"] if isfinite(row["loss"]) else None} for row in view.rows]
    return {**asdict(view), "rows": rows}


@_verb
async def ladders(request: Request) -> Response:
    """GET /api/ladders lists them, POST starts one."""
    found = studio_of(request).ladders
    if request.method == "POST":
        question = read_question(LadderQuestion, await _body(request))
        return JSONResponse({"name": found.start(question.minutes)}, 201)
    return JSONResponse({"ladders": [_told(found.view(name)) for name in found.names()]})


@_verb
async def ladder(request: Request) -> Response:
    """GET /api/ladders/{name} looks at one, DELETE stops it."""
    found, name = studio_of(request).ladders, request.path_params["name"]
    if request.method == "DELETE":
        await asyncio.to_thread(found.stop, name)
        return PlainTextResponse("", 204)
    return JSONResponse(_told(found.view(name)))


ROUTES = [
    Route("/api/openapi.json", openapi),
    Route("/api/schema", schema),
    Route("/api/design", design, methods=["POST"]),
    Route("/api/estimate", estimate, methods=["POST"]),
    Route("/api/lint", lint, methods=["POST"]),
    Route("/api/explain", explain, methods=["POST"]),
    Route("/api/export/{format}", export, methods=["POST"]),
    Route("/api/report", report, methods=["POST"]),
    Route("/api/documents/{kind}", documents, methods=["POST"]),
    Route("/api/hardware", hardware),
    Route("/api/hardware/{name}", hardware),
    Route("/api/models", models),
    Route("/api/models/{name}", models),
    Route("/api/jobs/{name}", job, methods=["GET", "DELETE"]),
    Route("/api/ladders", ladders, methods=["GET", "POST"]),
    Route("/api/ladders/{name}", ladder, methods=["GET", "DELETE"]),
]
