"""``shapewright export``: a design as a file that another tool runs."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from shapewright.cli import options as o
from shapewright.cli.common import print_json, print_text, refuse_existing, talk, write_text


def command(
    format_: Annotated[
        str,
        typer.Argument(metavar="FORMAT", help="huggingface, torchtitan, megatron, deepspeed or trace."),
    ],
    design: Annotated[Path, typer.Argument(metavar="DESIGN", help="A design.json.")],
    output: Annotated[
        Path | None, typer.Option("--out", help="Write the file here instead of printing it.")
    ] = None,
    force: o.Force = False,
    json: o.Json = False,
) -> None:
    """Write a design as a file that a training framework or a trace viewer reads.

    Example: shapewright export torchtitan design.json --out recipe.py
    """
    from shapewright.designs.files import load_design
    from shapewright.export.formats import check_format, export

    check_format(format_)
    refuse_existing(output, overwrite=force)
    found = export(load_design(design), format_)
    if output is not None:
        write_text(output, found.text, overwrite=force)
    if json:
        print_json(
            {
                "format": format_,
                "file_name": found.file_name,
                "remarks": list(found.remarks),
                "text": found.text,
            }
        )
    elif output is None:
        print_text(found.text)
    console = talk()
    for remark in found.remarks:
        console.print(f"note: {remark}")
    if output is not None:
        console.print(f"wrote {output}")
