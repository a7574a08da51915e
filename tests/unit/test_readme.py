"""Every command and every line of Python in the README works as printed."""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner

from shapewright.cli.main import app

README = (Path(__file__).parents[2] / "README.md").read_text()
MAKEFILE = (Path(__file__).parents[2] / "Makefile").read_text()


def _run(command: list[str], folder: Path) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "NO_COLOR": "1"}
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False, env=environment)


def test_every_command_runs_in_the_order_printed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    commands = [
        line[2:] for block in re.findall(r"```console\n(.*?)```", README, re.S) for line in block.splitlines()
    ]
    assert len(commands) >= 12
    for command in commands:
        words = shlex.split(command)
        assert words[0] == "shapewright", command
        done = CliRunner().invoke(app, words[1:])
        assert done.exit_code == 0, f"{command}: {done.exception!r} {done.output}"
        assert done.output.strip(), command


def test_the_python_runs(tmp_path: Path) -> None:
    (block,) = re.findall(r"```python\n(.*?)```", README, re.S)
    done = _run([sys.executable, "-c", block], tmp_path)
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "design.json").exists()


def test_the_make_targets_exist() -> None:
    for target in re.findall(r"^make (\w+)", README, re.M):
        assert re.search(rf"^{target}:", MAKEFILE, re.M), target
