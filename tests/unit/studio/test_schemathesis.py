"""Requests made from the OpenAPI description, and designs with one thing wrong: never our own bug.

The bodies that are whole designs take long to make up; ``python -m benchmarks schemathesis`` makes up those too.
"""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from starlette.testclient import TestClient

from shapewright.cli.verbs import askable
from shapewright.designs.document import Design
from shapewright.studio.openapi import document

schemathesis = pytest.importorskip("schemathesis", reason="needs schemathesis")

SCHEMA = schemathesis.openapi.from_dict({**document(askable()), "servers": [{"url": "http://127.0.0.1"}]})
SMALL = SCHEMA.exclude(path_regex="^/api/(explain|export|report)").exclude(path="/api/ladders", method="POST")


@SMALL.parametrize()
@settings(max_examples=5, deadline=None, phases=[Phase.generate], suppress_health_check=list(HealthCheck))
def test_no_request_meets_a_bug(case: Any, client: TestClient) -> None:
    request = case.as_transport_kwargs(base_url="http://127.0.0.1")
    request["content"] = request.pop("data", None)
    request.pop("cookies", None)
    response = client.request(**{name: value for name, value in request.items() if value is not None})
    assert response.status_code < 500, response.text


@pytest.fixture(scope="session")
def designed(design: Design) -> dict[str, Any]:
    """A whole design as JSON."""
    return json.loads(design.to_json())


WRONG = st.one_of(
    st.none(), st.booleans(), st.integers(-(10**30), 10**30), st.floats(), st.text(max_size=5), st.just([]), st.just({})
)  # fmt: skip


@given(data=st.data())
@settings(max_examples=40, deadline=None, suppress_health_check=list(HealthCheck))
def test_a_design_with_one_thing_wrong_meets_no_bug(
    data: st.DataObject, designed: dict[str, Any], client: TestClient
) -> None:
    whole = json.loads(json.dumps(designed))
    place: Any = whole
    key = data.draw(st.sampled_from(sorted(place)))
    while isinstance(place[key], dict | list) and place[key] and data.draw(st.booleans()):
        place = place[key]
        key = data.draw(st.sampled_from(sorted(place) if isinstance(place, dict) else range(len(place))))
    place[key] = data.draw(WRONG)
    verb = data.draw(
        st.sampled_from(["explain", "report", "export/trace", "export/megatron", "documents/design"])
    )
    headers = {"content-type": "application/json"}
    response = client.post(f"/api/{verb}", content=json.dumps(whole), headers=headers)
    assert response.status_code < 500, response.text
