"""The documentation is true: its commands run, its Python runs, its generated parts cover the program, it builds."""

from __future__ import annotations

import importlib.util
import re
import shlex
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest
from typer.testing import CliRunner

import shapewright
from shapewright.cli.main import app

DOCS = Path(__file__).parents[2] / "docs"
ALL = tuple(sorted(page for page in DOCS.rglob("*.md") if not {"generated", "_build"} & set(page.parts)))


def _holding(fence: str, *more: Path) -> list[str]:
    """The pages with a block of this kind, by their names below the documentation."""
    pages = (page for page in (*ALL, *more) if fence in page.read_text(encoding="utf-8"))
    return [page.relative_to(DOCS.parent).as_posix() for page in pages]


MACHINE = "## 8."
"""The section of the tutorial that measures and trains on the machine at hand."""


def _commands(text: str) -> list[list[str]]:
    """The commands that a text prints, in their order, as words."""
    lines = [line for block in re.findall(r"```console\n(.*?)```", text, re.S) for line in block.splitlines()]
    found = [shlex.split(line.strip().removeprefix("$ ")) for line in lines if line.strip()]
    assert found
    assert {words[0] for words in found} == {"shapewright"}
    return [words[1:] for words in found]


def _run(words: list[str]) -> None:
    done = CliRunner().invoke(app, words)
    assert done.exit_code == 0, f"{words}: {done.exception!r} {done.output}"


@pytest.mark.parametrize("page", _holding("```console\n", DOCS.parent / "AGENTS.md"))
def test_every_command_runs_in_the_order_printed(
    page: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    for words in _commands((DOCS.parent / page).read_text(encoding="utf-8").partition(MACHINE)[0]):
        _run(words)


@pytest.mark.torch
def test_the_tutorial_ends_on_the_machine_at_hand(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("torch", reason="needs torch")
    monkeypatch.chdir(tmp_path)
    measure, *others = _commands((DOCS / "tutorial.md").read_text(encoding="utf-8").partition(MACHINE)[2])
    try:
        _run(measure)
    except AssertionError as error:
        if "MeasurementError" not in str(error):
            raise
        pytest.skip(f"this machine is too busy to be measured: {error}")
    for words in others:
        _run(words)


@pytest.mark.parametrize("page", _holding("```python\n"))
def test_the_python_runs(page: str, tmp_path: Path) -> None:
    for block in re.findall(r"```python\n(.*?)```", (DOCS.parent / page).read_text(encoding="utf-8"), re.S):
        done = subprocess.run(
            [sys.executable, "-c", block], cwd=tmp_path, capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, done.stderr
        assert done.stdout.strip()


def test_commands_that_are_only_shown_name_verbs_and_options_that_exist() -> None:
    for page in ALL:
        for block in re.findall(r"```text\n(.*?)```", page.read_text(encoding="utf-8"), re.S):
            for line in block.replace("\\\n", " ").splitlines():
                if line.strip().startswith("shapewright "):
                    _check_words(shlex.split(line)[1:], f"{page.name}: {line}")


def _check_words(words: list[str], where: str) -> None:
    from typer.main import get_command

    command = get_command(app)
    while words and words[0] in getattr(command, "commands", {}):
        command = command.commands[words.pop(0)]  # type: ignore[attr-defined]
    assert not getattr(command, "commands", None), f"{where}: no such verb"
    known = {option for parameter in command.params for option in parameter.opts}
    for word in words:
        if word.startswith("--"):
            assert word.partition("=")[0] in known, f"{where}: {word}"


def test_no_help_has_words_in_brackets_which_the_terminal_takes_for_a_style() -> None:
    from typer.main import get_command

    commands = [get_command(app)]
    for command in commands:
        commands += getattr(command, "commands", {}).values()
        for parameter in command.params:
            said = getattr(parameter, "help", None) or ""
            assert not re.search(r"\[[a-z]", said), f"{command.name} {parameter.name}: {said}"
    assert len(commands) > 20


def test_quoted_accuracy_is_that_of_the_tables() -> None:
    figures = _module(DOCS.parent / "benchmarks" / "figures.py")
    tables = figures.read_tables()
    assert len(figures.pages()) >= 3
    for page in figures.pages():
        text = page.read_text(encoding="utf-8")
        assert figures.fill(text, tables) == text, f"{page.name}: run python -m benchmarks figures"
        assert not re.search(r"^\s*<!--", text, re.M), (
            f"{page.name}: a comment that begins a line ends its paragraph"
        )


def _module(path: Path) -> ModuleType:
    spec = importlib.util.spec_from_file_location(f"{path.parent.name}_{path.stem}", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_reference_covers_every_verb_and_every_noun() -> None:
    from shapewright.designs.document import json_schema

    python = (DOCS / "reference" / "python.md").read_text(encoding="utf-8")
    assert [name for name in shapewright.__all__ if not re.search(rf"\b{name}\b", python)] == []
    generate = _module(DOCS / "generate.py")
    commands = generate.command_line()
    for name in (command.name for command in app.registered_commands):
        assert f"## shapewright {name}\n" in commands
    nouns = generate.schema()
    for name, noun in json_schema()["$defs"].items():
        assert ("properties" in noun) == (f"\n## {name}\n" in nouns), name
    equations = generate.equations()
    assert all(f"## {title}\n" in equations for title in generate.EQUATIONS)
    assert "```text\nblocks  b = ceil(m/bm) ceil(n/bn) s\n" in equations
    assert "2301.03598" in equations


def test_it_builds_without_a_warning(tmp_path: Path) -> None:
    pytest.importorskip("sphinx", reason="needs sphinx")
    pytest.importorskip("furo", reason="needs furo")
    pytest.importorskip("myst_parser", reason="needs myst-parser")
    options = ["-t", "quick", "-W", "--keep-going", "-q", "-b", "dummy", "-d", str(tmp_path / "trees")]
    command = [sys.executable, "-m", "sphinx", *options, str(DOCS), str(tmp_path / "out")]
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
