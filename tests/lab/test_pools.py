"""Processes of a ladder: a killed one ends it, none outlives its driver, and Ctrl-C asks all to end."""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
import time
from pathlib import Path

import pytest

from shapewright.lab.pools import WorkerDiedError, begin, cuda_devices, in_processes


def until(holds, seconds: float = 300.0) -> None:
    """Wait for ``holds()``."""
    end = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < end, "it never came to be"
        time.sleep(0.02)


def alive(pid: int) -> bool:
    """Whether a process runs; one that ended and was not collected does not."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    except OSError:
        return False


def wait_for(marker: str, pids: str) -> str:
    """A task that says which process it is in and lasts until ``marker`` is there."""
    Path(pids, str(os.getpid())).touch()
    until(Path(marker).exists)
    return "done"


def test_a_killed_worker_ends_the_ladder_and_no_other_goes_on(tmp_path):
    pids = tmp_path / "pids"
    pids.mkdir()
    results = in_processes(wait_for, [(str(tmp_path / "never"), str(pids))] * 2, 2, lambda: None)
    with pytest.raises(WorkerDiedError):
        for _ in kill_first(results, pids):
            pass
    until(lambda: not any(alive(int(each.name)) for each in pids.iterdir()))


def kill_first(results, pids):
    """Kill one worker as soon as both are there, then hand on the results."""

    def kill() -> None:
        until(lambda: len(list(pids.iterdir())) == 2)
        os.kill(int(next(pids.iterdir()).name), signal.SIGKILL)

    killer = threading.Thread(target=kill)
    killer.start()
    yield from results
    killer.join()


def drive(marker: str, pids: str) -> None:
    """A driver in a process of its own, which hears Ctrl-C even where the tests were started to ignore it."""
    signal.signal(signal.SIGINT, signal.default_int_handler)
    for _ in in_processes(wait_for, [(marker, pids)] * 2, 2, Path(marker).touch):
        pass


@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGINT])
def test_workers_end_with_their_driver(how, tmp_path):
    """Killed, it leaves nobody who writes on; on Ctrl-C it asks its workers to end, and waits for them."""
    pids, marker = tmp_path / "pids", tmp_path / "stop"
    pids.mkdir()
    driver = multiprocessing.get_context("spawn").Process(target=drive, args=(str(marker), str(pids)))
    driver.start()
    until(lambda: len(list(pids.iterdir())) == 2)
    assert driver.pid is not None
    os.kill(driver.pid, how)
    until(lambda: not any(alive(int(each.name)) for each in pids.iterdir()))
    driver.join(20)
    assert driver.exitcode is not None
    assert marker.exists() == (how == signal.SIGINT)


def test_each_process_sees_a_cuda_device_in_turn(monkeypatch):
    monkeypatch.setattr(threading.Thread, "start", lambda self: None)
    before = signal.getsignal(signal.SIGINT)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "3, GPU-77")
    devices = cuda_devices()
    assert devices == ("3", "GPU-77")
    taken = multiprocessing.get_context("spawn").Value("i", 0)
    seen = []
    try:
        for _ in range(3):
            begin(taken, devices)
            seen.append(os.environ["CUDA_VISIBLE_DEVICES"])
    finally:
        signal.signal(signal.SIGINT, before)
    assert seen == ["3", "GPU-77", "3"]
