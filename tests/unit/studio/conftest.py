"""One studio for all tests of this folder: its workers take a second to start."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("starlette", reason="needs starlette")

from starlette.testclient import TestClient

import shapewright as sw
from shapewright.cli.verbs import answer, askable
from shapewright.designs.document import Design
from shapewright.studio.app import create_app


@pytest.fixture(scope="session")
def client(tmp_path_factory: pytest.TempPathFactory) -> Iterator[TestClient]:
    """A client of a running studio that speaks as a script does: no origin, no token."""
    folder: Path = tmp_path_factory.mktemp("ladders")
    app = create_app(ladders=folder, workers=2, verbs=askable(), run_verb=answer)
    with TestClient(app, base_url="http://127.0.0.1") as found:
        yield found


@pytest.fixture(scope="session")
def design() -> Design:
    """The design of eight H100 for two hours."""
    return sw.design("8xh100_sxm", hours=2)


@pytest.fixture(scope="session")
def ask(client: TestClient) -> Callable[[str, Any], Any]:
    """Asks a verb, and asks again while its search is at work."""

    def asked(verb: str, question: Any) -> Any:
        response = client.post(f"/api/{verb}", json=question)
        while response.status_code == 202:
            response = client.get(response.headers["location"])
        return response

    return asked
