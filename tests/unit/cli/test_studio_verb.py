"""``shapewright studio`` before it listens: what cannot be is said in one error."""

from __future__ import annotations

import socket

import pytest
from typer.testing import CliRunner

from shapewright.cli.main import app
from shapewright.errors import UsageError


def test_a_port_that_is_taken_is_named() -> None:
    pytest.importorskip("uvicorn", reason="needs uvicorn")
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        done = CliRunner().invoke(app, ["studio", "--port", str(port)])
    assert isinstance(done.exception, UsageError)
    assert f"127.0.0.1:{port}" in done.exception.what
    assert "--port" in done.exception.fix


@pytest.mark.parametrize("words", [("--port", "70000"), ("--workers", "0"), ("--timeout", "0")])
def test_a_number_out_of_range_is_usage(words: tuple[str, str]) -> None:
    assert CliRunner().invoke(app, ["studio", *words]).exit_code == 2
