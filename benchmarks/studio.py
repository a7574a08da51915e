"""How quickly the studio answers: first answers, sliders while a ladder runs, and many visitors at once.

Wall time is what a visitor waits; the CPU time of the studio's own processes per request is what it costs on an idle
machine. Both are printed, since the machine may be shared. The ladder is a real one, at low priority as the studio
starts it.
"""

from __future__ import annotations

import json
import os
import signal
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from http.client import HTTPConnection
from pathlib import Path
from urllib.parse import urlencode

FIRST = (
    {"accelerator": "h100_sxm", "devices": 8},
    {"accelerator": "h100_sxm", "devices": 64, "budget": 30},
    {"accelerator": "mi300x", "devices": 1024, "budget": 2e6, "unit": "dollars"},
)
CLIENTS, SECONDS = 20, 60.0
SLIDES = 100


class Running:
    """A studio in processes of its own."""

    def __init__(self, port: int, process: subprocess.Popen[str]) -> None:
        self.port = port
        self.process = process

    def ask(self, method: str, path: str, body: object = None) -> tuple[int, bytes, float]:
        """Status, body and seconds of one request."""
        connection = HTTPConnection("127.0.0.1", self.port, timeout=120)
        headers = {"content-type": "application/json"} if body is not None else {}
        start = time.perf_counter()
        connection.request(method, path, json.dumps(body) if body is not None else None, headers)
        response = connection.getresponse()
        content = response.read()
        seconds = time.perf_counter() - start
        connection.close()
        return response.status, content, seconds

    def cpu_seconds(self) -> float:
        """CPU time of the studio and its workers; of no ladder."""
        parents, times, tick = {}, {}, os.sysconf("SC_CLK_TCK")
        for stat in Path("/proc").glob("[0-9]*/stat"):
            try:
                fields = stat.read_text().rpartition(")")[2].split()
            except OSError:
                continue
            pid = int(stat.parent.name)
            parents[pid], times[pid] = int(fields[1]), (int(fields[11]) + int(fields[12])) / tick
        tree = {self.process.pid}
        tree |= {pid for pid, parent in parents.items() if parent == self.process.pid and not _niced(pid)}
        return sum(times.get(pid, 0.0) for pid in tree)


def _niced(pid: int) -> bool:
    try:
        return os.getpriority(os.PRIO_PROCESS, pid) > os.getpriority(os.PRIO_PROCESS, 0)
    except ProcessLookupError:
        return True


@contextmanager
def running() -> Iterator[Running]:
    """A studio that ends with the block."""
    with tempfile.TemporaryDirectory() as folder:
        words = ["studio", "--port", "0", "--workers", "2", "--timeout", "60", "--ladders", folder]
        process = subprocess.Popen(
            [sys.executable, "-c", "from shapewright.cli.main import main; main()", *words],
            stderr=subprocess.PIPE,
            text=True,
        )
        assert process.stderr is not None
        port = int(process.stderr.readline().partition("127.0.0.1:")[2].partition("/")[0])
        found = Running(port, process)
        try:
            for name in ("h100_sxm", "a100_sxm"):  # both workers are up when both have answered
                found.ask("GET", f"/api/hardware/{name}")
            time.sleep(3.0)
            yield found
        finally:
            process.send_signal(signal.SIGINT)
            process.wait(30)


def run() -> Iterator[str]:
    """All of it."""
    load = os.getloadavg()[0]
    yield f"studio: {os.cpu_count()} cores, load average {load:.1f} before the start"
    with running() as studio:
        yield from _first(studio)
        status, body, _ = studio.ask("POST", "/api/ladders", {"minutes": 120})
        ladder = json.loads(body).get("name") if status == 201 else None
        yield from _sliders(studio, "while a ladder runs" if ladder else "without a ladder")
        if ladder:
            studio.ask("DELETE", f"/api/ladders/{ladder}")
        yield from _crowd(studio)


def _first(studio: Running) -> Iterator[str]:
    for state in FIRST:
        before = studio.cpu_seconds()
        status, _, seconds = studio.ask("GET", f"/answer?{urlencode(state)}")
        cpu = studio.cpu_seconds() - before
        yield f"studio: first answer {state}: {seconds:.2f} s, {cpu:.2f} s of CPU, status {status}"


def _sliders(studio: Running, when: str) -> Iterator[str]:
    base = urlencode(FIRST[0])
    before, walls, wrong = studio.cpu_seconds(), [], 0
    for index in range(SLIDES):
        moves = (f"try_width={1600 + 64 * (index % 45)}", f"try_budget={index % 17 - 8}", f"try_heads={12 + index % 36}",
                 f"try_memory={index % 17 - 8}", f"try_devices={index % 5 - 2}")  # fmt: skip
        # Two sliders off their rest, never the same pair twice: nothing comes from the cache.
        path = f"/try?{base}&{moves[index % 5]}&{moves[(index + 1 + index // 5) % 5]}"
        status, body, seconds = studio.ask("GET", path)
        walls.append(seconds)
        wrong += status != 200 or b"<tbody>" not in body
    cpu = (studio.cpu_seconds() - before) / SLIDES
    walls.sort()
    yield (
        f"studio: {SLIDES} sliders {when}: median {statistics.median(walls) * 1e3:.0f} ms, 95th percentile "
        f"{walls[int(0.95 * SLIDES)] * 1e3:.0f} ms, {cpu * 1e3:.0f} ms of CPU each, {wrong} without figures"
    )


def _crowd(studio: Running) -> Iterator[str]:
    questions = [
        ("POST", "/api/design", {"hardware": f"{n}xh100_sxm", "hours": hours}) for n in (1, 2, 4, 8) for hours in (1, 5)
    ]  # fmt: skip
    questions += [
        ("POST", "/api/estimate", {"on": f"{n}xh100_sxm", "model": "llama-3-8b"}) for n in (2, 8, 16, 64)
    ]
    questions += [
        ("POST", "/api/design", {"hardware": "8xh100_sxm", "hours": 4,
                                 "shape": {"width": 64 * w, "depth": 24, "heads": w, "head_dim": 64}})
        for w in (16, 20, 24, 32)
    ]  # fmt: skip
    expected = [studio.ask(*question)[1] for question in questions]
    walls, wrong, errors = [], [], []
    end = time.monotonic() + SECONDS

    def visit(client: int) -> None:
        count = client
        while time.monotonic() < end:
            count += 1
            try:
                if count % 4 == 0:
                    page = urlencode(
                        {"accelerator": "h100_sxm", "devices": 8, "budget": 1 + client, "unit": "hours"}
                    )
                    status, body, seconds = studio.ask(
                        "GET", f"/try?{page}&try_budget={count % 17 - 8}&try_memory={count // 4 % 17 - 8}"
                    )
                    fine = b"<tbody>" in body
                else:
                    at = count % len(questions)
                    status, body, seconds = studio.ask(*questions[at])
                    fine = body == expected[at]
            except OSError as error:
                errors.append(repr(error))
                continue
            walls.append(seconds)
            if status != 200:
                errors.append(str(status))
            elif not fine:
                wrong.append(count)

    threads = [threading.Thread(target=visit, args=(client,)) for client in range(CLIENTS)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    walls.sort()
    yield (
        f"studio: {CLIENTS} clients for {SECONDS:.0f} s: {len(walls):,} answers, {len(errors)} errors, {len(wrong)} wrong; "
        f"median {statistics.median(walls) * 1e3:.0f} ms, 95th percentile {walls[int(0.95 * len(walls))] * 1e3:.0f} ms"
    )
