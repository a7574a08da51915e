"""A studio that listens, and a real Chromium that looks at it; both skip with their reason where they cannot be had."""

from __future__ import annotations

import shutil
import socket
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")
FLAGS = "--no-sandbox --disable-gpu --disable-background-networking --disable-component-update --disable-sync"
LADDER = (sys.executable, str(Path(__file__).with_name("climbing.py")))
"""Writes the files of a ladder as a real one does, a run every half second."""


AXE = Path(__file__).parents[2] / "node_modules" / "axe-core" / "axe.min.js"
"""Where ``npm install --no-save axe-core`` puts it; it is no part of the project."""


@contextmanager
def studio(folder: Path, **options: Any) -> Iterator[str]:
    """The address of a studio that runs until the block ends."""
    uvicorn = pytest.importorskip("uvicorn", reason="needs uvicorn")
    pytest.importorskip("starlette", reason="needs starlette")
    from shapewright.studio.app import create_app

    app = create_app(ladders=folder, workers=2, command=LADDER, **options)
    listener = socket.create_server(("127.0.0.1", 0))
    server = uvicorn.Server(uvicorn.Config(app, log_level="error"))
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]})
    thread.start()
    while not server.started:
        time.sleep(0.02)
    try:
        yield f"http://127.0.0.1:{listener.getsockname()[1]}"
    finally:
        server.should_exit = True
        thread.join()


@pytest.fixture(scope="module")
def address(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """One studio for all tests of a file: its thread, too, is to be gone when others patch clocks."""
    with studio(tmp_path_factory.mktemp("ladders")) as found:
        yield found


@pytest.fixture(scope="session")
def listening() -> Any:
    """Starts a studio with options of its own."""
    return studio


@pytest.fixture(scope="session")
def axe() -> str:
    """The text of axe-core."""
    if not AXE.exists():
        pytest.skip("needs axe-core: npm install --no-save axe-core")
    return AXE.read_text(encoding="utf-8")


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    """One Chromium for all tests of a file: Playwright's loop runs in this thread until it stops, and stops no later."""
    if CHROMIUM is None:
        pytest.skip("needs chromium")
    sync_api = pytest.importorskip("playwright.sync_api", reason="needs playwright")
    with sync_api.sync_playwright() as playwright:
        found = playwright.chromium.launch(executable_path=CHROMIUM, args=FLAGS.split())
        yield found
        found.close()


@pytest.fixture
def open_tab(browser: Any, address: str) -> Iterator[Callable[..., Any]]:
    """Opens tabs; afterwards none may have said a word or asked for anything elsewhere."""
    contexts, said = [], []

    def tab(*, width: int = 1280, colours: str = "light", allowed: Sequence[str] = ()) -> Any:
        context = browser.new_context(viewport={"width": width, "height": 900}, color_scheme=colours)
        contexts.append(context)
        page = context.new_page()
        page.set_default_timeout(120_000)

        def hear(message: Any) -> None:
            if message.type in {"error", "warning"} and not any(part in message.text for part in allowed):
                said.append(message.text)

        page.on("console", hear)
        page.on("pageerror", lambda error: said.append(str(error)))
        page.on("request", lambda request: _stay_home(request.url, said))
        return page

    yield tab
    for context in contexts:
        context.close()
    assert not said, said


def _stay_home(url: str, said: list[str]) -> None:
    if not url.startswith(("http://127.0.0.1:", "http://localhost:", "data:", "blob:")):
        said.append(f"asked elsewhere: {url}")
