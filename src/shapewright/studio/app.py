"""The application: routes, guard, and the life of the workers."""

from __future__ import annotations

import os
import secrets
from collections.abc import AsyncIterator, Callable, Iterable, Sequence
from contextlib import asynccontextmanager
from importlib.resources import files
from pathlib import Path
from typing import Any

from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from shapewright.studio import answers, api, pages
from shapewright.studio.guard import Guard
from shapewright.studio.jobs import PATIENCE_S, Jobs
from shapewright.studio.ladders import COMMAND, Ladders
from shapewright.studio.openapi import document
from shapewright.studio.questions import Verb
from shapewright.studio.service import Studio
from shapewright.studio.workers import Workers

LOOPBACK = frozenset({"127.0.0.1", "localhost", "::1"})
SPARE = 2
"""Workers for what may take minutes: while one does, another answers."""
_STATIC = {
    "studio.css": ("shapewright.studio", "text/css"),
    "studio.js": ("shapewright.studio", "text/javascript"),
    "htmx.min.js": ("shapewright.studio", "text/javascript"),
    "licenses.md": ("shapewright.studio", "text/plain"),
    "vega.min.js": ("shapewright.report", "text/javascript"),
    "vega-lite.min.js": ("shapewright.report", "text/javascript"),
    "vega-embed.min.js": ("shapewright.report", "text/javascript"),
    "vega-licenses.md": ("shapewright.report", "text/plain"),
}
"""The only files that are served: by name, from the packages that hold them."""
_FILE_NAMES = {"licenses.md": "LICENSES.md", "vega-licenses.md": "LICENSES.md"}


def create_app(
    *,
    ladders: Path = Path("ladders"),
    hosts: Iterable[str] = LOOPBACK,
    workers: int | None = None,
    timeout_s: float = 60.0,
    search_timeout_s: float = 600.0,
    patience_s: float = PATIENCE_S,
    command: Sequence[str] = COMMAND,
    verbs: Sequence[Verb] = (),
    run_verb: Callable[[str, dict[str, Any]], Any] | None = None,
) -> Starlette:
    """The studio as an ASGI application.

    Args:
        ladders: the folder in which ladders are looked for and started.
        hosts: names under which it may be reached.
        workers: processes that answer; by default one per core, at least two.
        timeout_s: the longest that an answer may take which searches nothing [s].
        search_timeout_s: the longest that a search may take [s].
        patience_s: how long a request waits for a search before it is told to ask again [s].
        command: what runs a verb of the command line in a process of its own.
        verbs: further verbs to pass on, each at an address of its own.
        run_verb: answers one of them by its name and options; a worker calls it.
    """
    token = secrets.token_urlsafe(24)

    @asynccontextmanager
    async def life(app: Starlette) -> AsyncIterator[None]:
        count = workers or len(os.sched_getaffinity(0))
        studio = Studio(
            Workers(count, timeout_s=timeout_s, long_timeout_s=search_timeout_s, prepare=answers.warm_up),
            Workers(SPARE, kept_free=0, timeout_s=search_timeout_s, niceness=5, prepare=answers.warm_up),
            Ladders(ladders.absolute(), command),
            Jobs(patience_s),
        )
        app.state.studio, app.state.token = studio, token
        app.state.openapi = document(verbs)
        try:
            yield
        finally:
            studio.close()

    return Starlette(
        routes=[
            *api.ROUTES,
            *(api.verb_route(verb, run_verb) for verb in verbs if run_verb is not None),
            *pages.ROUTES,
            Route("/static/{name}", _static),
        ],
        middleware=[Middleware(Guard, hosts=frozenset(hosts), token=token)],
        lifespan=life,
    )


async def _static(request: Request) -> Response:
    name = str(request.path_params["name"])
    if name not in _STATIC:
        return JSONResponse({"detail": "Not Found"}, 404)
    package, media = _STATIC[name]
    content = files(package).joinpath("static", _FILE_NAMES.get(name, name)).read_bytes()
    return Response(content, media_type=media, headers={"cache-control": "max-age=3600"})
