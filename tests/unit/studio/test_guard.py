"""What strangers can do: nothing."""

from __future__ import annotations

import json
from typing import Any

import pytest
from starlette.testclient import TestClient

from shapewright.studio.guard import UPLOAD_BYTES, UPLOAD_DEPTH, depth

OWN = {"origin": "http://127.0.0.1", "sec-fetch-site": "same-origin"}


@pytest.mark.parametrize(
    "headers",
    [
        {"host": "evil.example"},
        {"host": "127.0.0.1.evil.example"},
        {"origin": "http://evil.example"},
        {"origin": "http://127.0.0.1:9"},
        {"origin": "null"},
        {"sec-fetch-site": "cross-site", "sec-fetch-mode": "no-cors"},
        {"sec-fetch-site": "same-site", "sec-fetch-mode": "cors"},
        {"sec-fetch-site": "cross-site", "sec-fetch-mode": "navigate"},
    ],
)
def test_another_host_or_origin_is_refused(client: TestClient, headers: dict[str, str]) -> None:
    assert client.get("/api/models", headers=headers).status_code == 403
    assert client.post("/api/design", json={"hardware": "h100_sxm"}, headers=headers).status_code == 403


def test_a_link_from_elsewhere_opens_the_page_and_nothing_else(client: TestClient) -> None:
    link = {"sec-fetch-site": "cross-site", "sec-fetch-mode": "navigate"}
    assert client.get("/", headers=link).status_code == 200
    assert client.get("/api/ladders", headers=link).status_code == 403


def test_a_browser_shows_the_token_of_its_page(client: TestClient) -> None:
    question = {"on": "h100_sxm", "model": "llama-3-8b"}
    assert client.post("/api/lint", json=question, headers=OWN).status_code == 403
    wrong = {**OWN, "x-csrf-token": "guess"}
    assert client.post("/api/lint", json=question, headers=wrong).status_code == 403
    page = client.get("/").text
    token = page.partition('name="csrf-token" content="')[2].partition('"')[0]
    right = {**OWN, "x-csrf-token": token}
    assert client.post("/api/lint", json=question, headers=right).status_code == 200


def test_every_answer_carries_the_policy(client: TestClient) -> None:
    for path in ("/", "/answer", "/api/models", "/static/studio.js", "/nothing"):
        headers = client.get(path).headers
        assert "default-src 'none'" in headers["content-security-policy"], path
        assert headers["x-content-type-options"] == "nosniff", path
        assert "access-control-allow-origin" not in headers, path


@pytest.mark.parametrize(
    "path",
    [
        "/static/../app.py", "/static/%2e%2e%2fapp.py", "/static/..%2f..%2f..%2fetc%2fpasswd", "/save/..%2fsecret",
        "/api/ladders/..%2f..", "/api/hardware/..%2f..%2fetc%2fpasswd", "/api/hardware/secret.toml",
        "/api/models/..%2fconfig.json",
    ],
)  # fmt: skip
def test_a_path_never_reaches_the_file_system(client: TestClient, path: str) -> None:
    response = client.get(path)
    assert response.status_code in {404, 422}
    assert "root:" not in response.text


@pytest.mark.parametrize(
    ("body", "named"),
    [
        (b" " * (UPLOAD_BYTES + 1), "larger"),
        (b"[" * (UPLOAD_DEPTH + 1) + b"]" * (UPLOAD_DEPTH + 1), "deeper"),
        (b'{"a":' * 100_000, "deeper"),
        (b"\xff\xfe", "not JSON"),
        (b"", "not JSON"),
        (b"[]", "schema_version"),
        (b'{"schema_version": 1}', "schema"),
    ],
)
def test_a_wrong_upload_is_refused(client: TestClient, body: bytes, named: str) -> None:
    response = client.post(
        "/api/documents/design", content=body, headers={"content-type": "application/json"}
    )
    assert response.status_code == 422
    assert named in json.dumps(response.json())


def test_forms_are_no_json(client: TestClient) -> None:
    assert client.post("/api/ladders", data={"minutes": "30"}).status_code == 422


@pytest.mark.parametrize(
    ("document", "levels"),
    [({}, 1), ([[[]]], 3), ("[[[[", 0), ({"a": ['\\"[[', {"b": "]]"}]}, 3), (1, 0)],
)
def test_depth_counts_brackets_outside_strings(document: Any, levels: int) -> None:
    assert depth(json.dumps(document).encode()) == levels
