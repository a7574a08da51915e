"""The OpenAPI description, written from the same dataclasses that validate the requests."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import shapewright
from shapewright.designs.document import adapter as design_adapter
from shapewright.studio.questions import (
    DesignQuestion,
    EstimateQuestion,
    LadderQuestion,
    LintQuestion,
    Verb,
    adapter,
)

_REF = "#/components/schemas/{model}"
_PROBLEM = {
    "type": "object",
    "required": ["error"],
    "properties": {
        "error": {
            "type": "object",
            "required": ["exit_code", "meaning", "what", "why", "fix", "reasons"],
            "properties": {
                "exit_code": {"type": "integer", "description": "As the command line would end."},
                "meaning": {"type": "string"},
                "what": {"type": "string", "description": "What is wrong: parameter and value."},
                "why": {"type": "string", "description": "The rule."},
                "fix": {"type": "string", "description": "What to do."},
                "reasons": {"type": "object", "additionalProperties": {"type": "integer"},
                            "description": "Rejected candidates by reason, where nothing was feasible."},
            },
        }
    },
}  # fmt: skip


_JOB = {
    "type": "object",
    "required": ["job", "seconds", "ask_again"],
    "properties": {
        "job": {"type": "string", "description": "Its name."},
        "seconds": {"type": "number", "description": "How long it has been at work."},
        "ask_again": {
            "type": "string",
            "description": "The address of the answer, as in the header Location.",
        },
    },
}


def document(verbs: Sequence[Verb] = ()) -> dict[str, Any]:
    """The description of the interface, with the verbs that are passed on."""
    schemas: dict[str, Any] = {"Problem": _PROBLEM, "Job": _JOB}
    for kind in (DesignQuestion, EstimateQuestion, LintQuestion, LadderQuestion):
        schemas |= _named(kind.__name__, adapter(kind).json_schema(ref_template=_REF))
    schemas |= _named("Design", design_adapter().json_schema(ref_template=_REF))
    anything: dict[str, Any] = {"type": "object"}
    paths: dict[str, Any] = {
        "/api/design": _post("Design a model for hardware and budget", "DesignQuestion", "Design", searches=True),
        "/api/estimate": _post("Price the training of a given model", "EstimateQuestion", "Design"),
        "/api/lint": _post("Which numbers of a shape cost time here", "LintQuestion", anything),
        "/api/explain": _post("Explain a design", "Design", anything),
        "/api/export/{format}": _post(
            "A design as a file for another tool", "Design", anything,
            parameters=[_path("format", ["deepspeed", "huggingface", "megatron", "torchtitan", "trace"])],
        ),
        "/api/report": _post("A design as one offline page", "Design", {"type": "string"}, media="text/html"),
        "/api/documents/{kind}": _post(
            "Open a design.json or a config.json in the page", anything, anything,
            parameters=[_path("kind", ["design", "config"])],
        ),
        "/api/hardware": _get("The names of the catalogue", anything),
        "/api/hardware/{name}": _get("One accelerator or system", anything, parameters=[_path("name")]),
        "/api/models": _get("The names of the known models", anything),
        "/api/models/{name}": _get("One known model", anything, parameters=[_path("name")]),
        "/api/schema": _get("The JSON Schema of design.json", anything),
        "/api/jobs/{name}": {
            **_get(
                "The answer of a search that took longer than its first request, once it is there",
                {}, parameters=[_path("name")], searches=True,
            ),
            "delete": {
                "summary": "Give a search up", "parameters": [_path("name")],
                "responses": {"204": {"description": "given up"}, **_problems()},
            },
        },
        "/api/ladders": {
            **_get("The ladders of this machine", anything),
            **_post("Start a ladder", "LadderQuestion", anything, success="201"),
        },
        "/api/ladders/{name}": {
            **_get("One ladder as it stands", anything, parameters=[_path("name")]),
            "delete": {
                "summary": "Stop a ladder; what it finished stays", "parameters": [_path("name")],
                "responses": {"204": {"description": "stopped"}, **_problems()},
            },
        },
    }  # fmt: skip
    for verb in verbs:
        schemas |= _named(verb.question.__name__, adapter(verb.question).json_schema(ref_template=_REF))
        paths[f"/api/{verb.name}"] = _post(verb.summary, verb.question.__name__, anything, searches=True)
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "Shapewright",
            "version": shapewright.__version__,
            "description": "Designs neural networks for the hardware that will run them. Every question here is a "
            "verb of the command line; numbers are SI. What searches (202 among its responses) is answered at once "
            "where a few seconds are enough; otherwise it becomes a job, whose address gives the answer once it is there. "
            "A job that nobody asks for is given up after half a minute.",
        },
        "paths": paths,
        "components": {"schemas": schemas},
    }


def _named(name: str, schema: dict[str, Any]) -> dict[str, Any]:
    inner = schema.pop("$defs", {})
    return {**inner, name: schema}


def _schema(of: str | dict[str, Any]) -> dict[str, Any]:
    return {"$ref": _REF.format(model=of)} if isinstance(of, str) else of


def _content(of: str | dict[str, Any], media: str = "application/json") -> dict[str, Any]:
    return {media: {"schema": _schema(of)}}


def _problems() -> dict[str, Any]:
    meanings = {
        "403": "refused: another host, another origin, or no token",
        "404": "no such address",
        "409": "infeasible, or a measurement that cannot run now (exit codes 3 and 5)",
        "422": "usage, or not covered (exit codes 2 and 4)",
        "503": "busy or slow: ask again",
    }
    return {
        code: {"description": text, "content": _content("Problem")} if code in {"409", "422", "503"}
        else {"description": text}
        for code, text in meanings.items()
    }  # fmt: skip


def _answers(content: dict[str, Any], *, success: str = "200", searches: bool = False) -> dict[str, Any]:
    found: dict[str, Any] = {success: {"description": "the answer", "content": content}}
    if searches:
        headers = {
            "Location": {"description": "Where the answer will be.", "schema": {"type": "string"}},
            "Retry-After": {"description": "Seconds.", "schema": {"type": "string"}},
        }
        found["202"] = {"description": "at work: ask again", "headers": headers, "content": _content("Job")}
    return {**found, **_problems()}


def _post(
    summary: str,
    body: str | dict[str, Any],
    answer: str | dict[str, Any],
    *,
    parameters: list[dict[str, Any]] | None = None,
    media: str = "application/json",
    success: str = "200",
    searches: bool = False,
) -> dict[str, Any]:
    return {
        "post": {
            "summary": summary,
            "parameters": parameters or [],
            "requestBody": {"required": True, "content": _content(body)},
            "responses": _answers(_content(answer, media), success=success, searches=searches),
        }
    }  # fmt: skip


def _get(
    summary: str,
    answer: dict[str, Any],
    *,
    parameters: list[dict[str, Any]] | None = None,
    searches: bool = False,
) -> dict[str, Any]:
    return {
        "get": {
            "summary": summary,
            "parameters": parameters or [],
            "responses": _answers(_content(answer), searches=searches),
        }
    }


def _path(name: str, values: list[str] | None = None) -> dict[str, Any]:
    schema: dict[str, Any] = {"type": "string", "minLength": 1}
    if values:
        schema["enum"] = values
    return {"name": name, "in": "path", "required": True, "schema": schema}
