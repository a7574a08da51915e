"""Ladders of small models that run on this machine, as the page watches them.

Decisions: a ladder is its folder and runs as the command line runs it, in a process of its own at low priority, so
that the page stays quick and a reload, or a second tab, finds it where it is. Folders are found by listing the one
place that the owner named; a name from outside is compared with that list and never joined to a path. What an ended
studio leaves behind goes on with ``shapewright ladder resume``.
"""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from shapewright.errors import MeasurementError, ShapewrightError, UnknownNameError
from shapewright.lab.needs import require_torch
from shapewright.lab.standing import standing

# A session of its own is a scheduling group of its own on Linux, and between groups a process's niceness counts for
# nothing: the group has one itself.
START = """
import contextlib, os, pathlib
os.nice(15)
with contextlib.suppress(OSError):
    pathlib.Path("/proc/self/autogroup").write_text("15")
from shapewright.cli.main import main
main()
"""
COMMAND = (sys.executable, "-c", START)


@dataclass(frozen=True, kw_only=True, slots=True)
class LadderView:
    """One ladder as it stands."""

    name: str
    running: bool
    """Whether this studio runs it now."""
    minutes: float
    """What it was planned for."""
    sizes: tuple[int, ...]
    """Parameters of its rungs, ascending."""
    expected_runs: int
    """Branches that it will finish, without wider sweeps."""
    rows: tuple[dict[str, Any], ...]
    """The branches that are finished."""
    share: float
    """Of the work that is done, 0 to 1."""
    left_s: float | None
    """Seconds until it is expected to be done; None where it does not run or nothing is known yet."""
    in_progress: tuple[str, ...]
    """The runs in progress, for people."""
    last_words: str
    """The end of what its process said, where it failed."""


class Ladders:
    """The ladders in one folder."""

    def __init__(self, folder: Path, command: Sequence[str] = COMMAND) -> None:
        self.folder = folder
        self._command = tuple(command)
        self._processes: dict[str, subprocess.Popen[bytes]] = {}

    def names(self) -> tuple[str, ...]:
        """The names of the folders that hold a ladder, the newest first."""
        if not self.folder.is_dir():
            return tuple(self._processes)
        found = {path.parent.name: path.stat().st_mtime for path in self.folder.glob("*/ladder.json")}
        starting = [name for name in self._processes if name not in found]
        return (*starting, *sorted(found, key=lambda name: -found[name]))

    def view(self, name: str) -> LadderView:
        """One ladder.

        Raises:
            UnknownNameError: there is none of this name.
        """
        folder = self._folder(name)
        running = self._running(name)
        last = "" if running else self._last_words(folder)
        try:
            now = standing(folder, workers=len(os.sched_getaffinity(0)), running=running)
        except ShapewrightError:
            return LadderView(
                name=name, running=running, minutes=0.0, sizes=(), expected_runs=0, rows=(), share=0.0, left_s=None,
                in_progress=(), last_words=last,
            )  # fmt: skip
        return LadderView(
            name=name, running=running, minutes=now.plan.minutes, sizes=now.sizes, expected_runs=now.expected,
            rows=now.rows, share=now.share, left_s=now.left_s if running else None,
            in_progress=tuple(f"{r.name}: step {r.step:,} of {r.steps:,}, loss {r.loss:.3f}" for r in now.running),
            last_words=last,
        )  # fmt: skip

    def start(self, minutes: float) -> str:
        """Start a ladder; returns its name.

        Raises:
            MissingPackageError: torch is not installed.
            MeasurementError: one runs already, or the folder cannot be written to.
        """
        require_torch("a ladder")
        busy = [name for name in self._processes if self._running(name)]
        if busy:
            raise MeasurementError(
                f"{busy[0]} is running", "two ladders would slow each other down", "wait for it, or stop it"
            )
        number = 1
        while (self.folder / f"ladder-{number}").exists():
            number += 1
        name = f"ladder-{number}"
        folder = self.folder / name
        try:
            folder.mkdir(parents=True)
            with (folder / "ladder.log").open("wb") as log:
                self._processes[name] = subprocess.Popen(
                    [*self._command, "ladder", "run", "--minutes", f"{minutes:g}", "--out", str(folder)],
                    stdout=log,
                    stderr=subprocess.STDOUT,
                    stdin=subprocess.DEVNULL,
                    start_new_session=True,
                )
        except OSError as error:
            raise MeasurementError(
                f"{folder} cannot be written", str(error), "name another place with --ladders"
            ) from error
        return name

    def stop(self, name: str) -> None:
        """Stop a ladder that runs; what it finished stays.

        Raises:
            UnknownNameError: there is none of this name.
        """
        self._folder(name)
        process = self._processes.get(name)
        if process is not None and process.poll() is None:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGINT)
            try:
                process.wait(5)
            except subprocess.TimeoutExpired:
                with contextlib.suppress(ProcessLookupError):
                    os.killpg(process.pid, signal.SIGKILL)
                process.wait()

    def close(self) -> None:
        """Stop what this studio started."""
        for name in list(self._processes):
            self.stop(name)

    def _running(self, name: str) -> bool:
        process = self._processes.get(name)
        return process is not None and process.poll() is None

    def _folder(self, name: str) -> Path:
        known = self.names()
        if name not in known:
            raise UnknownNameError("ladder", name, known, "start one")
        return self.folder / known[known.index(name)]

    def _last_words(self, folder: Path) -> str:
        log = folder / "ladder.log"
        if not log.exists():
            return ""
        process = self._processes.get(folder.name)
        failed = process is not None and process.returncode not in (None, 0)
        return log.read_text(encoding="utf-8", errors="replace")[-600:] if failed else ""
