"""What keeps strangers out: other hosts' names, other origins, large or slow uploads; and the headers of every answer.

Decisions: the studio trusts the machine it runs on and nobody else. A request must name the host that was bound
(otherwise a page elsewhere could reach it by a name of its own, DNS rebinding); a browser that says it comes from
another site may open the page, and nothing else; a browser that changes something must show the token that only our own
page can read. A script sends none of these headers and needs none.
"""

from __future__ import annotations

import asyncio
import re
import secrets
from urllib.parse import urlsplit

from starlette.datastructures import Headers, MutableHeaders
from starlette.requests import Request
from starlette.responses import PlainTextResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from shapewright.studio.workers import Problem, ProblemError

UPLOAD_BYTES = 4_000_000
"""The largest body that is read; the largest config.json known has 3 MB."""
UPLOAD_S = 15.0
"""Time that a body may take to arrive."""
UPLOAD_DEPTH = 64
"""Levels of nesting in a JSON text."""
TOKEN_HEADER = "x-csrf-token"
POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self' 'unsafe-inline'; img-src 'self' data: blob:; "
    "connect-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
)
HEADERS = {
    "content-security-policy": POLICY,
    "x-content-type-options": "nosniff",
    "referrer-policy": "no-referrer",
    "cross-origin-resource-policy": "same-origin",
    "cross-origin-opener-policy": "same-origin",
}


class Guard:
    """The middleware in front of everything."""

    def __init__(self, app: ASGIApp, *, hosts: frozenset[str], token: str) -> None:
        self._app = app
        self._hosts = hosts
        self._token = token

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return

        async def guarded_send(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                for name, value in HEADERS.items():
                    headers.setdefault(name, value)
                headers.setdefault("cache-control", "no-store")
            await send(message)

        refusal = self._refusal(scope["method"], scope["path"], Headers(scope=scope))
        if refusal is not None:
            await PlainTextResponse(refusal + "\n", status_code=403)(scope, receive, guarded_send)
            return
        await self._app(scope, receive, guarded_send)

    def _refusal(self, method: str, path: str, headers: Headers) -> str | None:
        host = headers.get("host", "")
        if _bare(host) not in self._hosts:
            return "this host name is not served here; name it with --allow-host"
        origin, site = headers.get("origin"), headers.get("sec-fetch-site")
        if origin is not None and (origin == "null" or urlsplit(origin).netloc != host):
            return "requests from other origins are refused"
        if site in {"cross-site", "same-site"}:
            page = headers.get("sec-fetch-mode") == "navigate" and method == "GET"
            if not page or path.startswith("/api/"):
                return "requests from other sites are refused"
        if method in {"POST", "DELETE"} and (origin is not None or site is not None):
            shown = headers.get(TOKEN_HEADER, "")
            if not secrets.compare_digest(shown.encode(), self._token.encode()):
                return "the token of this page is missing or old; reload the page"
        return None


def _bare(host: str) -> str:
    """A host without its port."""
    return host.rpartition("]")[0].lstrip("[") if host.startswith("[") else host.partition(":")[0].lower()


async def read_body(request: Request) -> bytes:
    """The body of a request, bounded in size, in time and in depth.

    Raises:
        ProblemError: it is larger, slower or deeper than allowed.
    """

    async def collect() -> bytes:
        parts, size = [], 0
        async for part in request.stream():
            size += len(part)
            if size > UPLOAD_BYTES:
                raise ProblemError(
                    Problem(
                        exit_code=2, what=f"the body is larger than {UPLOAD_BYTES:,} bytes",
                        why="a design has some tens of kilobytes", fix="is this the right file?",
                    )
                )  # fmt: skip
            parts.append(part)
        return b"".join(parts)

    try:
        body = await asyncio.wait_for(collect(), UPLOAD_S)
    except TimeoutError as error:
        raise ProblemError(
            Problem(
                exit_code=2, what=f"the body did not arrive within {UPLOAD_S:g} s", why="it is cut off", fix=""
            )
        ) from error  # fmt: skip
    if await asyncio.to_thread(depth, body) > UPLOAD_DEPTH:
        raise ProblemError(
            Problem(
                exit_code=2, what=f"the JSON is nested deeper than {UPLOAD_DEPTH} levels",
                why="no design and no configuration is", fix="is this the right file?",
            )
        )  # fmt: skip
    return body


_STRING = re.compile(rb'"(?:[^"\\]|\\.)*"', re.DOTALL)
_OTHERS = bytes(set(range(256)) - set(b"[]{}"))


def depth(text: bytes) -> int:
    """The nesting of brackets outside strings, counted without building anything; stops where it is too deep."""
    level = deepest = 0
    for bracket in _STRING.sub(b"", text).translate(None, _OTHERS):
        level += 1 if bracket in b"[{" else -1
        deepest = max(deepest, level)
        if deepest > UPLOAD_DEPTH:
            break
    return deepest
