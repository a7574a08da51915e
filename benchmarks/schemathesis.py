"""Requests made up from the OpenAPI description by schemathesis against a running studio: how many end in a 5xx.

Starting ladders is left out, since it would start them.
"""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

from benchmarks.studio import running

EXAMPLES = 10


def run() -> Iterator[str]:
    """The whole interface, bodies that are whole designs too."""
    with running() as studio:
        command = [
            str(Path(sys.executable).with_name("schemathesis")), "run", f"http://127.0.0.1:{studio.port}/api/openapi.json",
            "--checks", "not_a_server_error", "--max-examples", str(EXAMPLES), "--phases", "examples,coverage,fuzzing",
            "--exclude-path", "/api/ladders", "--no-color", "--suppress-health-check", "all",
        ]  # fmt: skip
        done = subprocess.run(command, capture_output=True, text=True, check=False)
    said = re.search(r"(\d[\d,]*) generated.*", done.stdout)
    tail = done.stdout.strip().splitlines()[-1] if done.stdout.strip() else done.stderr.strip()[-200:]
    yield f"schemathesis: exit code {done.returncode}; {said.group(0) if said else ''} {tail}"
