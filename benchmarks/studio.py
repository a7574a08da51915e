"""How quickly the studio answers: first answers and sliders while a ladder runs, and many visitors at once.

Wall time is what a visitor waits; the CPU time of the studio's own processes per request is what it costs on an idle
machine. Both are printed, since the machine may be shared. The ladder is a real one, at low priority as the studio
starts it. Of the crowd every answer is compared with what Python computes for the same question here, and every
fragment of a slider with the one that was asked for alone.
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
from typing import Any
from urllib.parse import urlencode

FIRST: tuple[dict[str, Any], ...] = (
    {"accelerator": "h100_sxm", "devices": 8, "unit": "days", "budget": 3},
    {"accelerator": "h100_sxm", "devices": 64, "unit": "days", "budget": 30},
    {"accelerator": "mi300x", "devices": 1024, "unit": "dollars", "budget": 2e6},
    {"accelerator": "rtx_4090", "devices": 1, "unit": "hours", "budget": 24},
    {"accelerator": "b200_sxm", "devices": 256, "unit": "days", "budget": 20},
    {"accelerator": "a100_sxm", "devices": 16, "unit": "flops", "budget": 1e21},
    {"accelerator": "h100_sxm", "devices": 8, "mode": "estimate", "model": "falcon-7b"},
    {"accelerator": "h200_sxm", "devices": 64, "mode": "estimate", "model": "llama-3-70b"},
)
"""What the page is opened with; each with three budgets, or three lengths of the sequence."""
TIMES = 3
EXPERTS = {"accelerator": "h100_sxm", "devices": 8, "unit": "hours", "budget": 2, "family": "32 experts"}
CLIENTS, SECONDS = 20, 60.0
SLIDES = 100


class Running:
    """A studio in processes of its own."""

    def __init__(self, port: int, process: subprocess.Popen[str]) -> None:
        self.port = port
        self.process = process

    def ask(self, method: str, path: str, body: object = None) -> tuple[int, bytes, float]:
        """Status, body and seconds of one question, asked again while its search is at work."""
        headers = {"content-type": "application/json"} if body is not None else {}
        text = json.dumps(body) if body is not None else None
        start = time.perf_counter()
        while True:
            connection = HTTPConnection("127.0.0.1", self.port, timeout=120)
            connection.request(method, path, text, headers)
            response = connection.getresponse()
            content = response.read()
            connection.close()
            if response.status != 202:
                return response.status, content, time.perf_counter() - start
            method, path, text = "GET", response.headers["location"], None

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
        status, body, _ = studio.ask("POST", "/api/ladders", {"minutes": 120})
        ladder = json.loads(body).get("name") if status == 201 else None
        when = "while a ladder runs" if ladder else "without a ladder"
        time.sleep(10.0)  # until it trains
        yield from _first(studio, when)
        yield from _sliders(studio, FIRST[0], when)
        yield from _sliders(studio, EXPERTS, when)
        if ladder:
            studio.ask("DELETE", f"/api/ladders/{ladder}")
        yield from _crowd(studio)


def _percentiles(walls: list[float]) -> str:
    walls = sorted(walls)
    return (
        f"median {statistics.median(walls) * 1e3:.0f} ms, 95th percentile "
        f"{walls[min(int(0.95 * len(walls)), len(walls) - 1)] * 1e3:.0f} ms"
    )


def _first(studio: Running, when: str) -> Iterator[str]:
    walls, before, wrong = [], studio.cpu_seconds(), 0
    for turn in range(TIMES):
        for state in FIRST:
            more = (
                {"budget": state["budget"] * (1 + 0.1 * turn)}
                if "budget" in state
                else {"seq_len": 2048 << turn}
            )
            start = studio.cpu_seconds()
            status, body, seconds = studio.ask("GET", f"/answer?{urlencode({**state, **more})}")
            walls.append(seconds)
            wrong += status != 200 or b"hero-title" not in body
            if turn == TIMES - 1:
                yield f"studio: first answer {state}: {seconds:.2f} s, {studio.cpu_seconds() - start:.2f} s of CPU"
    cpu = (studio.cpu_seconds() - before) / len(walls)
    yield (
        f"studio: {len(walls)} first answers {when}: {_percentiles(walls)}, {cpu:.2f} s of CPU each, "
        f"{wrong} without a design"
    )


def _sliders(studio: Running, state: dict[str, Any], when: str) -> Iterator[str]:
    base = urlencode(state)
    studio.ask("GET", f"/answer?{base}")
    before, walls, wrong = studio.cpu_seconds(), [], 0
    for index in range(SLIDES):
        # Nothing comes from the cache: memory and budget never meet twice in the same positions.
        path = f"/try?{base}&try_memory={index % 17 - 8}&try_budget={index // 17 * 3 - 8}&try_devices={index % 3 - 1}"
        if "family" not in state:
            path += f"&try_width={1600 + 64 * (index % 45)}&try_heads={12 + index % 36}"
        status, body, seconds = studio.ask("GET", path)
        walls.append(seconds)
        wrong += status != 200 or b"<tbody>" not in body
    cpu = (studio.cpu_seconds() - before) / SLIDES
    name = state.get("family", "dense")
    yield (
        f"studio: {SLIDES} sliders ({name}) {when}: {_percentiles(walls)}, {cpu * 1e3:.0f} ms of CPU each, "
        f"{wrong} without figures"
    )


def _crowd(studio: Running) -> Iterator[str]:
    questions = [
        ("POST", "/api/design", {"hardware": f"{n}xh100_sxm", "hours": hours}) for n in (1, 2, 4, 8) for hours in (1, 5)
    ]  # fmt: skip
    questions += [
        ("POST", "/api/estimate", {"on": f"{n}xh100_sxm", "model": "llama-3-8b"}) for n in (2, 8, 16, 64)
    ]
    questions += [
        ("POST", "/api/design", {"hardware": "8xh100_sxm", "hours": hours,
                                 "shape": {"width": 64 * w, "depth": 24, "heads": w, "head_dim": 64}})
        for w in (16, 20, 24, 32) for hours in (3, 4, 6)
    ]  # fmt: skip
    expected = [_direct(body) for _, _, body in questions]
    page = urlencode({"accelerator": "h100_sxm", "devices": 8, "budget": 2, "unit": "hours"})
    for at in range(17):
        questions.append(("GET", f"/try?{page}&try_budget={at - 8}&try_memory={(3 * at) % 17 - 8}", None))
        expected.append(studio.ask(*questions[-1])[1])
    walls, wrong, errors = [], [], []
    end = time.monotonic() + SECONDS

    def visit(client: int) -> None:
        count = client
        while time.monotonic() < end:
            count += 1
            try:
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
    yield (
        f"studio: {CLIENTS} clients for {SECONDS:.0f} s: {len(walls):,} answers, {len(errors)} errors, {len(wrong)} wrong; "
        f"{_percentiles(walls)}"
    )


def _direct(question: dict[str, Any]) -> bytes:
    """The document that Python makes of a question, without the studio."""
    import shapewright as sw
    from shapewright.search.joint import Options

    if "model" in question:
        return sw.estimate(question["model"], question["on"]).to_json().encode()
    options = Options(shape=question.get("shape", {}))
    return sw.design(question["hardware"], hours=question["hours"], options=options).to_json().encode()
