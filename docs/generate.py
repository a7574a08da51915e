"""Writes the generated parts of the documentation: the command line, the schema, the equations and the pictures.

Run by Sphinx (``make docs``), or alone: ``python docs/generate.py``. Everything goes to ``docs/generated`` and
``docs/pictures``, which are not kept: they are the code, said in words.

Decisions: the command line is read from the application itself, so a new verb appears by itself. Equations are the
docstrings of the modules that compute them, verbatim. Pictures are drawn from a design made on the spot; those of the
studio need Chromium and are left out where it is not installed.
"""

from __future__ import annotations

import ast
import importlib.util
import inspect
import re
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from shapewright.report.figures import CHARTS

EQUATIONS = {
    "A matrix product": "shapewright.cost.matmul",
    "Attention": "shapewright.cost.attention",
    "Scans": "shapewright.cost.scan",
    "Experts": "shapewright.cost.moe",
    "Memory traffic": "shapewright.cost.bandwidth",
    "Collectives": "shapewright.cost.collective",
    "Power and energy": "shapewright.cost.energy",
    "Intervals of kernels": "shapewright.cost.interval",
    "A device that nobody measured": "shapewright.cost.transfer",
    "A training step": "shapewright.plan.training",
    "Pipeline schedules": "shapewright.plan.schedules",
    "Memory": "shapewright.plan.memory",
    "Goodput": "shapewright.plan.goodput",
    "What a framework adds": "shapewright.plan.framework",
    "Serving": "shapewright.plan.serving",
    "A pass of a serving engine": "shapewright.plan.serving_step",
    "Any architecture on many devices": "shapewright.outlook.scale",
    "Loss laws": "shapewright.scaling.law",
    "Loss families": "shapewright.scaling.forms",
    "Batch and learning rate": "shapewright.scaling.hyperparameters",
    "The recipe": "shapewright.scaling.recipe",
    "The best size": "shapewright.scaling.allocation",
    "Compute-equivalent gain": "shapewright.scaling.gain",
    "Repeated data": "shapewright.scaling.repetition",
    "Experts and loss": "shapewright.scaling.experts",
    "Hidden size, MLP and loss": "shapewright.scaling.protocol_conditional",
    "Mixers and loss": "shapewright.scaling.mixers",
    "Low precision and loss": "shapewright.scaling.precision",
}
STUDIO = (("studio-light", "light", 1280), ("studio-dark", "dark", 1280), ("studio-phone", "light", 390))
BLANK = '<svg xmlns="http://www.w3.org/2000/svg" width="1" height="1"/>\n'
HARDWARE, DAYS = "64xh100_sxm", 30.0
"""The request of the pictures."""


def write_all(docs: Path, *, quick: bool = False) -> bool:
    """Write everything; whether the pictures of the studio could be made.

    ``quick`` leaves pictures out, for a build that only checks the text: those that are missing stay blank.
    """
    generated, pictures = docs / "generated", docs / "pictures"
    for folder in (generated, pictures):
        folder.mkdir(exist_ok=True)
    (generated / "cli.md").write_text(command_line(), encoding="utf-8")
    (generated / "schema.md").write_text(schema(), encoding="utf-8")
    (generated / "equations.md").write_text(equations(), encoding="utf-8")
    if quick:
        for name in CHARTS:
            if not (pictures / f"{name}.svg").exists():
                (pictures / f"{name}.svg").write_text(BLANK, encoding="utf-8")
        return False
    draw_charts(pictures)
    return draw_studio(pictures)


def command_line() -> str:
    """Every verb with its arguments and options, from the application."""
    from typer.main import get_command

    from shapewright.cli.main import app

    return "\n".join(_verbs(get_command(app), ("shapewright",)))


def _verbs(command: Any, names: tuple[str, ...]) -> Iterator[str]:
    for name, sub in sorted(getattr(command, "commands", {}).items()):
        path = (*names, name)
        level = "#" * min(len(path), 4)
        yield f"{level} {' '.join(path)}\n"
        yield _help(sub.help or "") + "\n"
        yield from _parameters(sub, " ".join(path))
        yield from _verbs(sub, path)


def _help(text: str) -> str:
    """A docstring as Markdown; its examples become code."""
    text = re.sub(r"\[/?(?:bold|italic|dim)?\]", "", inspect.cleandoc(text))
    prose, _, example = text.partition("Example:")
    shown = f"\n```console\n$ {' '.join(example.split())}\n```" if example.strip() else ""
    return _escape(prose.strip()) + shown


def _parameters(command: Any, path: str) -> Iterator[str]:
    rows: list[tuple[str, str, str]] = []
    for parameter in command.params:
        if parameter.name in {"help", "install_completion", "show_completion"}:
            continue
        if parameter.param_type_name == "argument":
            name = f"`{(parameter.metavar or parameter.name).upper()}`"
        else:
            name = ", ".join(f"`{option}`" for option in (*parameter.opts, *parameter.secondary_opts))
        default = parameter.default
        plain = default is not None and not callable(default) and default not in (False, (), [])
        shown = str(default) if plain and "Sentinel" not in repr(default) else ""
        shown = shown.replace(str(Path.cwd()), ".")
        rows.append((name, _escape(getattr(parameter, "help", "") or ""), f"`{shown}`" if shown else ""))
    if rows:
        known = any(row[2] for row in rows)
        yield f"| `{path}` | |{' default |' if known else ''}\n|---|---|{'---|' if known else ''}"
        yield "\n".join(f"| {' | '.join(row if known else row[:2])} |" for row in rows) + "\n"


def schema() -> str:
    """Every noun of ``design.json`` with its fields, from the JSON Schema."""
    from shapewright.designs.document import json_schema

    whole = json_schema()
    nouns = {"Design": whole, **dict(sorted(whole["$defs"].items()))}
    parts = []
    for name, noun in nouns.items():
        if "properties" not in noun:
            continue
        parts.append(f"## {name}\n\n{_escape(noun.get('description', ''))}\n")
        parts.append("| field | type | |\n|---|---|---|")
        required = set(noun.get("required", ()))
        for field, of in noun["properties"].items():
            said = _escape(of.get("description", "")) or ("" if field in required else "optional")
            parts.append(f"| `{field}` | {_type(of)} | {said} |")
        parts.append("")
    return "\n".join(parts)


def _type(of: dict[str, Any]) -> str:
    if "$ref" in of:
        name = of["$ref"].rpartition("/")[2]
        return f"[{name}](#{name.lower()})"
    if "anyOf" in of:
        return " or ".join(_type(each) for each in of["anyOf"])
    if "oneOf" in of:
        return " or ".join(_type(each) for each in of["oneOf"])
    if of.get("type") == "array":
        return f"list of {_type(of['items'])}" if "items" in of else "list"
    if "const" in of:
        return f"`{of['const']}`"
    if "enum" in of:
        return ", ".join(f"`{value}`" for value in of["enum"])
    return str(of.get("type", "anything"))


def equations() -> str:
    """The docstrings of the modules that compute, verbatim, with what their functions add."""
    parts = []
    for title, module in EQUATIONS.items():
        spec = importlib.util.find_spec(module)
        if spec is None or spec.origin is None:
            continue
        tree = ast.parse(Path(spec.origin).read_text(encoding="utf-8"))
        said = [ast.get_docstring(tree) or ""]
        for node in tree.body:
            if isinstance(node, ast.FunctionDef) and not node.name.startswith("_") and "." in module:
                text = (ast.get_docstring(node) or "").partition("\n\nArgs:")[0].partition("\n\nRaises:")[0]
                if re.search(r"\d{4}\.\d{4,5}|``.*[=^].*``", text):
                    said.append(f"{node.name}: {text}")
        parts.append(f"## {title}\n\n`{module}`\n\n" + "\n\n".join(map(_markdown, said)) + "\n")
    return "\n".join(parts)


def _markdown(text: str) -> str:
    """A docstring as Markdown: what follows a double colon is code, everything else is prose."""
    parts: list[str] = []
    prose: list[str] = []
    code: list[str] = []
    inside = False
    for line in [*text.splitlines(), ""]:
        if inside and (line.startswith("    ") or not line.strip()):
            code.append(line)
            continue
        if inside:
            parts.append("```text\n" + inspect.cleandoc("\n" + "\n".join(code)).rstrip() + "\n```")
            inside, code = False, []
        if line.rstrip().endswith("::"):
            prose.append(line.rstrip().removesuffix(":") if line.strip() != "::" else "")
            inside = True
        elif line.strip():
            prose.append(line)
        if (inside or not line.strip()) and any(prose):
            parts.append(_prose("\n".join(prose)))
            prose = []
    if inside:
        parts.append("```text\n" + inspect.cleandoc("\n" + "\n".join(code)).rstrip() + "\n```")
    if any(prose):
        parts.append(_prose("\n".join(prose)))
    return "\n\n".join(parts)


def _prose(text: str) -> str:
    """A paragraph in which only names and formulas between backquotes are code."""
    text = re.sub(r":[a-z]+:`~?([^`]+)`", r"``\1``", text)
    pieces = re.split(r"``(.+?)``", text, flags=re.DOTALL)
    return "".join(
        f"`{' '.join(piece.split())}`" if at % 2 else re.sub(r"([\\*_<>|\[\]$`])", r"\\\1", piece)
        for at, piece in enumerate(pieces)
    )


def _escape(text: str) -> str:
    """A text in which nothing is markup of a table."""
    return " ".join(text.split()).replace("|", "\\|").replace("<", "&lt;").replace("``", "`")


def draw_charts(folder: Path) -> None:
    """Every chart of a design, for light and dark pages."""
    from shapewright.api import design
    from shapewright.report.pictures import pictures

    made = design(HARDWARE, days=DAYS)
    for name, content in pictures(made).items():
        (folder / name).write_bytes(content)


def draw_studio(folder: Path) -> bool:
    """Screens of the studio; False where there is no browser to take them with."""
    chromium = shutil.which("chromium")
    if chromium is None or importlib.util.find_spec("playwright") is None:
        return False
    import socket
    import tempfile
    import threading
    import time

    import uvicorn
    from playwright.sync_api import sync_playwright

    from shapewright.studio.app import create_app

    listener = socket.create_server(("127.0.0.1", 0))
    app = create_app(ladders=Path(tempfile.gettempdir()) / "shapewright-docs-ladders")
    server = uvicorn.Server(uvicorn.Config(app, log_level="error"))
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]})
    thread.start()
    try:
        while not server.started:
            time.sleep(0.05)
        state = "accelerator=h100_sxm&devices=64&budget=30&unit=days&try_width=4992&try_devices=1"
        with sync_playwright() as playwright:
            browser = playwright.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
            for name, colours, width in STUDIO:
                context = browser.new_context(
                    viewport={"width": width, "height": 1500 if width > 400 else 844}, color_scheme=colours
                )
                page = context.new_page()
                page.goto(f"http://127.0.0.1:{listener.getsockname()[1]}/?{state}")
                page.wait_for_selector(".hero", timeout=120_000)
                page.wait_for_selector(".tile:not(.waiting)", timeout=60_000)
                page.wait_for_selector("#tried .good, #tried .bad", timeout=60_000)
                page.wait_for_timeout(1500)
                page.screenshot(path=folder / f"{name}.png")
                context.close()
            browser.close()
    finally:
        server.should_exit = True
        thread.join()
    return True


if __name__ == "__main__":
    print("pictures of the studio:", "made" if write_all(Path(__file__).parent) else "left out, no Chromium")
