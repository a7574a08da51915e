"""The report in a real browser: it draws its charts under its own policy and complains about nothing."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

import pytest

from shapewright.designs.document import Design
from shapewright.report.html import html_report

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")
FLAGS = "--headless --no-sandbox --disable-gpu --disable-background-networking --disable-component-update --disable-sync"


@pytest.mark.skipif(CHROMIUM is None, reason="needs chromium")
@pytest.mark.parametrize("colours", [0, 1], ids=["dark", "light"])
@pytest.mark.parametrize("width", [1280, 500])
def test_the_page_draws_its_charts_without_a_word(
    colours: int, width: int, design: Design, tmp_path: Path
) -> None:
    page = tmp_path / "report.html"
    page.write_text(html_report(design), encoding="utf-8")
    options = {
        "window-size": f"{width},900",
        "blink-settings": f"preferredColorScheme={colours}",
        "user-data-dir": tmp_path / "profile",
        "virtual-time-budget": 20000,
        "enable-logging": "stderr",
    }
    flags = [f"--{name}={value}" for name, value in options.items()]
    command = [str(CHROMIUM), *FLAGS.split(), *flags, "--dump-dom", page.as_uri()]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=True)
    assert 'data-charts="drawn"' in done.stdout
    assert len(re.findall(r'role="graphics-document"', done.stdout)) == 6
    said = [line for line in done.stderr.splitlines() if "CONSOLE" in line]
    assert not said, said
