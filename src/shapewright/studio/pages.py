"""The pages: the whole page, and the fragments that htmx puts into it.

Decisions: a fragment is an address of its own with the state in its query, so each can be opened alone. A problem is
shown where its answer would stand, with status 200, since for the page it is an answer. A search that takes longer shows
how long it has been at work and asks for itself again (``job`` in its query). Files to save are made from the state
again, from the cached answer.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import Callable, Coroutine
from dataclasses import replace
from functools import cache, wraps
from typing import Any
from urllib.parse import parse_qsl

from jinja2 import Environment, PackageLoader
from markupsafe import Markup
from starlette.requests import Request
from starlette.responses import HTMLResponse, PlainTextResponse, Response
from starlette.routing import Route

import shapewright
from shapewright.designs.document import Design
from shapewright.errors import ShapewrightError
from shapewright.export.formats import FORMATS, OF_A_STEP
from shapewright.plan.precision import PRECISIONS
from shapewright.report.ladder import ladder_chart
from shapewright.report.markdown import markdown_report
from shapewright.search.families import FAMILIES
from shapewright.studio import answers, view
from shapewright.studio.api import problem_response, status_of, studio_of, while_there
from shapewright.studio.jobs import Unfinished
from shapewright.studio.sliders import tried
from shapewright.studio.state import KEPT, UNITS, State, read_state
from shapewright.studio.workers import Problem, ProblemError, problem_of
from shapewright.units import format_duration


@cache
def _templates() -> Environment:
    loader = PackageLoader("shapewright.studio")
    return Environment(loader=loader, autoescape=True, trim_blocks=True, lstrip_blocks=True)


def _render(name: str, **values: Any) -> str:
    return _templates().get_template(name).render(**values)


_NO_STATE = {"page", "job"}
"""What the query of a fragment may say beside the state of the page."""


def _state(request: Request) -> State:
    pairs = parse_qsl(request.url.query, max_num_fields=64)
    return read_state((name, value) for name, value in pairs if name not in _NO_STATE)


async def _patiently(request: Request, answer: Callable[[], Coroutine[Any, Any, Any]]) -> Any:
    """The answer of a search, asked for the first time or again.

    Raises:
        Unfinished: it is not there yet.
    """
    jobs, name = studio_of(request).jobs, request.query_params.get("job")
    if name is not None:
        with contextlib.suppress(KeyError):  # a job that was given up is asked anew
            return await jobs.look(name)
    return await jobs.ask(answer())


def _fragment(name: str) -> Any:
    """A handler that returns a template's values; its problems are rendered with the template named ``name``."""

    def decorate(handler: Any) -> Any:
        @wraps(handler)
        async def wrapped(request: Request) -> Response:
            try:
                return await while_there(request, handler(request))
            except Unfinished as later:
                return HTMLResponse(_render("waiting.html", **_waiting(request, later)))
            except (ProblemError, ShapewrightError, ValueError) as error:
                return HTMLResponse(_render(name, problem=_told(error)))

        return wrapped

    return decorate


def _waiting(request: Request, later: Unfinished | None = None) -> dict[str, Any]:
    """What is shown while a search is at work, and the address to ask again."""
    state, path = _state(request), request.url.path
    query = state.query() + (f"&job={later.name}" if later else "")
    beside = path == "/beside"
    return {
        "address": f"{path if beside else '/answer'}?{query}",
        "target": "#beside" if beside else "#waiting",
        "title": "" if beside else f"{_VERBS[state.mode]} {_asked(state)} for {state.hardware}",
        "so_far": format_duration(later.seconds, 2) if later else "",
        "others": max(studio_of(request).num_asked - 1, 0),
        "state": state,
    }


_VERBS = {"design": "Designing", "estimate": "Pricing"}


def _asked(state: State) -> str:
    return state.model or "your model" if state.mode == "estimate" else "a model"


def _told(error: Exception) -> Problem:
    if isinstance(error, ValueError) and not isinstance(error, ShapewrightError):
        return Problem(exit_code=2, what="the address of this page cannot be read", why=str(error))
    return problem_of(error)


async def index(request: Request) -> Response:
    """GET /: the page; with the answer in it where that is known already."""
    studio = studio_of(request)
    ready, status = None, 200
    try:
        state = _state(request)
    except (ShapewrightError, ValueError) as error:
        state, status = State(), 422
        ready = Markup(_render("problem.html", problem=_told(error)))
    else:
        if studio.shown(state):
            ready = Markup(await _answer(state, studio.show(state)))
    return HTMLResponse(_page(request, state, ready), status)


def _page(request: Request, state: State, ready: str | None) -> str:
    from shapewright.architecture.catalog import model_names
    from shapewright.hardware.catalog import accelerator_names, cluster_names

    themes = json.dumps(view.THEMES).replace("<", "\\u003c")
    return _render(
        "page.html",
        state=state,
        ready=ready,
        token=request.app.state.token,
        version=shapewright.__version__,
        title=f"{_asked(state)} on {state.hardware}".capitalize(),
        waiting=None if ready else Markup(_render("waiting.html", **_waiting(request))),
        hardware=(*accelerator_names(), *cluster_names()),
        models=model_names(),
        units=UNITS,
        precisions=("auto", *PRECISIONS),
        families=("moe", "hybrid", "all", *(name for name in FAMILIES if name != "dense")),
        themes=Markup(themes),
    )


@_fragment("problem.html")
async def answer(request: Request) -> Response:
    """GET /answer: the design of a state, all of it."""
    state, studio = _state(request), studio_of(request)
    if request.query_params.get("page") == "1":  # without scripts: one page, once it is whole
        body = await _answer(state, studio.show(state))
        return HTMLResponse(_page(request, state, Markup(body)))
    return HTMLResponse(await _answer(state, _patiently(request, lambda: studio.show(state))))


async def _answer(state: State, found: Coroutine[Any, Any, Design]) -> str:
    try:
        design = await found
    except ProblemError as error:
        return _render("problem.html", problem=error.problem)
    still = state.alone()
    keep = (*state.keep, still.query())[-KEPT:] if still.query() not in state.keep else state.keep
    free = replace(
        state, **dict.fromkeys(("family", "width", "depth", "heads", "kv_heads", "head_dim", "ffn_size"))
    )
    # Charts take tens of milliseconds to lay out; meanwhile other visitors are served.
    values = await asyncio.to_thread(view.answer, state, design)
    return _render(
        "answer.html",
        **values,
        query=state.query(),
        base_query=replace(still, keep=state.keep).query(),
        keep_query=replace(state, keep=keep).query(),
        free_query=free.query(),
        exports=tuple(name for name in FORMATS if design.recipe is not None or name in OF_A_STEP),
    )


@_fragment("tiles.html")
async def lint(request: Request) -> Response:
    """GET /lint: the numbers of the shape, coloured by their cost."""
    state, studio = _state(request), studio_of(request)
    design = await studio.show(state)
    try:
        findings = await studio.lint_shown(design)
    except ProblemError as error:
        return HTMLResponse(_render("tiles.html", tiles=view.tiles(design, []), problem=error.problem))
    found = _render("tiles.html", tiles=view.tiles(design, findings), findings=view.findings_rows(findings))
    return HTMLResponse(found)


@_fragment("beside.html")
async def beside(request: Request) -> Response:
    """GET /beside: the picks among the ties and what more of a resource would buy, which take longer than the answer."""
    state, studio = _state(request), studio_of(request)
    design = await _patiently(request, lambda: studio.whole(state))
    return HTMLResponse(_render("beside.html", **view.beside(design)))


@_fragment("tried.html")
async def trial(request: Request) -> Response:
    """GET /try: what the sliders would give; the address of the page follows them."""
    state, studio = _state(request), studio_of(request)
    design = await studio.show(state.alone())
    state = _without_rest(state, design)
    other = await studio.show(tried(state, design))
    headers = {"hx-replace-url": "/?" + state.query()}
    follows = state.try_width is not None and state.try_heads is None
    return HTMLResponse(
        _render("tried.html", follows=follows, **view.trial(state, design, other)), headers=headers
    )


def _without_rest(state: State, design: Any) -> State:
    """Sliders that stand where the design stands are left out of the address."""
    rest = {s.name: None for s in view.sliders(state, design) if s.value == s.rest}
    return replace(state, **rest)


@_fragment("problem.html")
async def compare(request: Request) -> Response:
    """GET /compare: what was kept and what is shown, side by side."""
    state, studio = _state(request), studio_of(request)
    shown, problems, keep = [], [], []
    for other, query in zip((*state.kept(), state.alone()), (*state.keep, ""), strict=True):
        try:
            shown.append((other, await studio.show(other)))
            if query:
                keep.append(query)
        except ProblemError as error:
            problems.append(error.problem)
    found = view.comparison(shown, tuple(keep))
    for column in found["columns"]:
        column["without"] = replace(state, keep=column["rest"]).query()
    return HTMLResponse(_render("compare.html", **found, problems=problems))


@_fragment("ladders.html")
async def ladders(request: Request) -> Response:
    """GET /ladders: the ladders of this machine; the fragment asks for itself again while one runs."""
    found = studio_of(request).ladders
    views = await asyncio.to_thread(lambda: [found.view(name) for name in found.names()[:4]])
    rows = []
    for item in views:
        spec = ladder_chart(item.rows)
        best = min((row["loss"] for row in item.rows if row["role"] != "tune"), default=None)
        expected = max(item.expected_runs, len(item.rows), 1)
        done = len(item.rows) >= item.expected_runs > 0
        rows.append(
            {
                "name": item.name, "running": item.running, "done": len(item.rows), "expected": expected,
                "status": "running" if item.running else "finished" if done else "stopped",
                "best": f"{best:.3f} nat/byte" if best is not None else "",
                "spec": json.dumps(spec) if spec else "", "last_words": item.last_words,
                "share": f"{item.share:.0%}", "in_progress": item.in_progress,
                "left": f"about {format_duration(item.left_s, 2)} left" if item.left_s else "",
            }
        )  # fmt: skip
    return HTMLResponse(_render("ladders.html", ladders=rows, running=any(item.running for item in views)))


async def save(request: Request) -> Response:
    """GET /save/{name}: the design of a state as a file."""
    name = request.path_params["name"]
    studio = studio_of(request)
    try:
        design = await studio.whole(_state(request).alone())
        body = design.to_json().encode()
        if name == "design.json":
            return _file(body, name, "application/json")
        if name == "report.html":
            return _file(await studio.workers.run(answers.report, body, long=False), name, "text/html")
        if name == "design.md":
            return _file(markdown_report(design), name, "text/markdown")
        chart, _, suffix = name.rpartition(".")
        if suffix in {"svg", "png"}:
            picture = await studio.workers.run(answers.picture, body, chart, suffix, long=False)
            return _file(picture, name, "image/svg+xml" if suffix == "svg" else "image/png")
        if name in FORMATS:
            found = await studio.workers.run(answers.export, body, name, long=False)
            return _file(found["text"], found["file_name"], "text/plain")
    except (ProblemError, ShapewrightError) as error:
        return problem_response(problem_of(error))
    except ValueError as error:
        return PlainTextResponse(f"{error}\n", status_of(_told(error)))
    return PlainTextResponse("Not Found\n", 404)


def _file(body: str | bytes, name: str, media: str) -> Response:
    headers = {"content-disposition": f'attachment; filename="{name}"'}
    return Response(body, media_type=media, headers=headers)


ROUTES = [
    Route("/", index),
    Route("/answer", answer),
    Route("/lint", lint),
    Route("/beside", beside),
    Route("/try", trial),
    Route("/compare", compare),
    Route("/ladders", ladders),
    Route("/save/{name}", save),
]
