"""``shapewright schema``: the JSON Schema of the design document."""

from __future__ import annotations

import json as library
from typing import Annotated

import typer

from shapewright.cli.common import print_text


def schema_text() -> str:
    """The schema as JSON text."""
    from shapewright.designs.document import json_schema

    return library.dumps(json_schema(), indent=2) + "\n"


def command(
    *,
    json: Annotated[
        bool, typer.Option("--json", help="As every verb; a schema is JSON without it, too.")
    ] = False,
) -> None:
    """Print the JSON Schema of design.json.

    Example: shapewright schema > design.schema.json
    """
    print_text(schema_text())
