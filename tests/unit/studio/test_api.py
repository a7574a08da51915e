"""The HTTP interface: the verbs as JSON, and problems that say what the command line would say."""

from __future__ import annotations

import json
from collections.abc import Callable
from importlib.resources import files
from pathlib import Path
from typing import Any

import jsonschema
import pytest
from starlette.testclient import TestClient
from typer.testing import CliRunner

from shapewright.cli.main import app
from shapewright.cli.verbs import answer, askable
from shapewright.designs.document import Design, adapter, json_schema
from shapewright.errors import UsageError
from shapewright.studio.openapi import document


@pytest.fixture(scope="session")
def designed(ask: Callable[[str, Any], Any]) -> dict[str, Any]:
    """The answer to one question."""
    response = ask("design", {"hardware": "8xh100_sxm", "hours": 2})
    assert response.status_code == 200, response.text
    return response.json()


def test_a_design_is_the_document_of_the_python_interface(designed: dict[str, Any], design: Design) -> None:
    jsonschema.validate(designed, json_schema())
    assert adapter().validate_python(designed) == design


def test_an_estimate_takes_a_name_or_a_configuration(client: TestClient) -> None:
    named = client.post("/api/estimate", json={"on": "8xh100_sxm", "model": "llama-3-8b"})
    config = {
        "model_type": "llama", "hidden_size": 4096, "intermediate_size": 14336, "num_hidden_layers": 32,
        "num_attention_heads": 32, "num_key_value_heads": 8, "vocab_size": 128256, "tie_word_embeddings": False,
    }  # fmt: skip
    sent = client.post("/api/estimate", json={"on": "8xh100_sxm", "config": config})
    assert named.status_code == sent.status_code == 200, sent.text
    step = [response.json()["predicted"]["step_time_s"]["value"] for response in (named, sent)]
    assert step[0] == pytest.approx(step[1])


def test_lint_explain_export_and_report_read_what_design_wrote(
    client: TestClient, designed: dict[str, Any]
) -> None:
    lint = client.post("/api/lint", json={"on": "h100_sxm", "model": "falcon-7b"}).json()
    assert {finding["parameter"] for finding in lint["findings"]} >= {"heads"}
    assert client.post("/api/explain", json=designed).json()["step_shares"]["compute"] > 0.3
    exported = client.post("/api/export/huggingface", json=designed).json()
    assert exported["file_name"] == "config.json"
    report = client.post("/api/report", json=designed)
    assert report.headers["content-type"].startswith("text/html")
    assert designed["shape"]["name"] in report.text


def test_the_catalogues_are_listed_and_shown(client: TestClient) -> None:
    assert "h100_sxm" in client.get("/api/hardware").json()["accelerators"]
    assert client.get("/api/hardware/dgx_h100").json()["num_devices"] == 8
    assert "llama-3-8b" in client.get("/api/models").json()["models"]
    assert client.get("/api/models/llama-3-8b").json()["params"] == pytest.approx(8.03e9, rel=1e-3)
    assert client.get("/api/schema").json() == json_schema()


@pytest.mark.parametrize(
    ("verb", "question", "status", "code", "named"),
    [
        ("design", {"hardware": "8xh100_sxn", "days": 1}, 422, 2, "h100_sxm"),
        ("design", {"hardware": "8xh100_sxm"}, 422, 2, "budget"),
        ("design", {"hardware": "8xh100_sxm", "days": 1, "dollars": 5}, 422, 2, "budget"),
        ("design", {"hardware": "8xh100_sxm", "days": -1}, 422, 2, "days"),
        ("design", {"hardware": "8xh100_sxm", "dayz": 1}, 422, 2, "dayz"),
        ("design", {"hardware": "1xh100_sxm", "flops": 1e27}, 409, 3, "memory"),
        ("design", {"hardware": "8xgtx_580", "days": 1, "precision": "fp8"}, 422, 4, "fp8"),
        ("design", {"hardware": "8xh100_sxm", "days": 1, "plan": {"recompute": "some"}}, 422, 2, "recompute"),
        ("design", {"hardware": "8xh100_sxm", "days": 1, "law": "../../etc/passwd"}, 422, 2, "law"),
        ("estimate", {"on": "8xh100_sxm", "model": "lama-3-8b"}, 422, 2, "llama-3-8b"),
        ("estimate", {"on": "8xh100_sxm", "model": "/etc/passwd"}, 422, 2, "/etc/passwd"),
        ("estimate", {"on": "8xh100_sxm"}, 422, 2, "exactly one"),
        ("estimate", {"on": "8xh100_sxm", "config": {"model_type": "mystery"}}, 422, 4, "mystery"),
        ("lint", {"on": "~/secret.toml", "model": "llama-3-8b"}, 422, 2, "not a name"),
        ("explain", {"schema_version": 99}, 422, 2, "schema_version"),
        ("export/vllm9", {}, 422, 2, "schema_version"),
    ],
)  # fmt: skip
def test_a_wrong_question_gets_one_clear_problem(
    ask: Callable[[str, Any], Any], verb: str, question: dict[str, Any], status: int, code: int, named: str
) -> None:
    response = ask(verb, question)
    error = response.json()["error"]
    assert (response.status_code, error["exit_code"]) == (status, code), error
    assert named in f"{error['what']} {error['why']} {error['fix']} {error['reasons']}"


def test_every_route_is_described(client: TestClient) -> None:
    from shapewright.studio.api import ROUTES

    whole = document(askable())
    described = {(path, method.upper()) for path, item in whole["paths"].items() for method in item}
    served = {(r.path, method) for r in ROUTES for method in (r.methods or ()) if method != "HEAD"}
    served |= {(f"/api/{verb.name}", "POST") for verb in askable()}
    assert served - described == {("/api/openapi.json", "GET")}
    assert described <= served
    assert client.get("/api/openapi.json").json() == json.loads(json.dumps(whole))


def test_a_verb_is_passed_on(ask: Callable[[str, Any], Any]) -> None:
    question = {"architectures": ["transformer", "lstm"], "devices": "1..64", "beta": "50GB/s"}
    passed = ask("scale", question)
    assert passed.status_code == 200, passed.text
    words = ["scale", "transformer", "lstm", "--devices", "1..64", "--beta", "50GB/s", "--json"]
    assert passed.json() == json.loads(CliRunner().invoke(app, words).stdout)


@pytest.mark.parametrize(
    ("verb", "question", "words"),
    [
        ("compare", {"architectures": ["transformer", "kda"], "on": "8xh100_sxm", "budget": "30d"},
         "transformer kda --on 8xh100_sxm --budget 30d"),
        ("kernels", {"model": "llama-3-8b", "tp": 2}, "llama-3-8b --tp 2"),
        ("plan", {"model": "llama-3-8b", "on": "8xh100_sxm", "tp": 2}, "llama-3-8b --on 8xh100_sxm --tp 2"),
        ("portfolio", {"flops": 1e24}, "--flops 1e24"),
        ("serve-plan", {"model": "llama-3-8b", "on": "2xh100_sxm", "tpot": "20ms"},
         "llama-3-8b --on 2xh100_sxm --tpot 20ms"),
        ("whatif", {"hardware": "8xh100_sxm", "hours": 2, "settings": ["memory=2x"]},
         "--on 8xh100_sxm --hours 2 --set memory=2x"),
    ],
)  # fmt: skip
def test_every_verb_answers_as_on_the_command_line(
    ask: Callable[[str, Any], Any], verb: str, question: dict[str, Any], words: str
) -> None:
    passed = ask(verb, question)
    assert passed.status_code == 200, passed.text
    assert passed.json() == json.loads(CliRunner().invoke(app, [verb, *words.split(), "--json"]).stdout)


def test_this_machine_is_read_where_the_studio_was_started(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UsageError, match="folder in which the studio was started"):
        answer("plan", {"model": "llama-3-8b", "on": "this"})
    known = Path(str(files("shapewright") / "data" / "accelerators" / "h100_sxm.toml"))
    (tmp_path / "this.toml").write_text(known.read_text())
    assert answer("plan", {"model": "llama-3-8b", "on": "8xthis"})["num_plans"] > 1
    assert [path.name for path in tmp_path.iterdir()] == ["this.toml"]


@pytest.mark.parametrize(
    ("question", "named"),
    [
        ({}, "architectures"),
        ({"architectures": [".."]}, "could be a path"),
        ({"architectures": ["."]}, "could be a path"),
        ({"architectures": ["../s"]}, "could be a path"),
        ({"architectures": ["~root"]}, "could be a path"),
        ({"architectures": []}, "architectures"),
        ({"architectures": ["transformr"]}, "transformer"),
        ({"architectures": ["/etc/passwd"]}, "could be a path"),
        ({"architectures": ["config.json"]}, "could be a path"),
        ({"architectures": ["../secret"]}, "could be a path"),
        ({"architectures": ["transformer"], "report": "page.html"}, "report"),
        ({"architectures": ["transformer"], "on": "my.toml"}, "could be a path"),
        ({"architectures": ["transformer"], "every": 0}, "every"),
    ],
)
def test_a_verb_that_is_passed_on_names_no_file(
    client: TestClient, question: dict[str, Any], named: str
) -> None:
    response = client.post("/api/scale", json=question)
    assert response.status_code == 422, response.text
    assert named in response.text
