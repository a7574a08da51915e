"""Where a run's records go beside its own log: TensorBoard, Weights & Biases, trackio.

Decisions: each is a package of its own, loaded only when it is asked for; all get the same numbers under the same names
at the same steps. The run's own log stays the record: what these services keep can be made again from it, so one that
fails on the way is told once and left alone. What they print goes to stderr, since stdout is the answer's.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, redirect_stdout
from pathlib import Path
from typing import Any

from shapewright.errors import MissingPackageError, UnknownNameError, UsageError

KNOWN = ("tensorboard", "trackio", "wandb")
FIELDS = ("loss", "learning_rate", "tokens", "tokens_per_s", "step_time_s", "predicted_step_time_s")
Watch = Callable[[Any], None]


def both(first: Watch, second: Watch) -> Watch:
    """Tell two."""

    def tell(record: Any) -> None:
        first(record)
        second(record)

    return tell


@contextmanager
def logger(
    name: str | None, folder: Path, project: str, tell: Callable[[str], None] = lambda text: None
) -> Iterator[Watch]:
    """A watcher that logs to ``name``; one that does nothing where it is None.

    Args:
        name: one of ``KNOWN``.
        folder: of the run; TensorBoard and wandb keep their files there, trackio in its own place.
        project: the model's name.
        tell: called with a remark where the logger fails during the run.

    Raises:
        UnknownNameError: no such logger.
        MissingPackageError: its package is not installed.
        UsageError: it does not start.
    """
    if name is None:
        yield lambda record: None
        return
    if name not in KNOWN:
        raise UnknownNameError("--log-to", name, KNOWN)
    try:
        with redirect_stdout(sys.stderr):
            write, close = _tensorboard(folder) if name == "tensorboard" else _service(name, folder, project)
    except ImportError as error:
        raise MissingPackageError(f"--log-to {name}", name, extra="log") from error
    except Exception as error:
        # A service refuses in classes of its own: no account, no network, a full disk.
        offline = (
            "log on this machine only: WANDB_MODE=offline"
            if name == "wandb"
            else "mend it, or leave --log-to out"
        )
        raise UsageError(f"{name} does not start", _first_line(error), offline) from error
    failed = False

    def guarded(call: Callable[[], None]) -> None:
        nonlocal failed
        if failed:
            return
        try:
            with redirect_stdout(sys.stderr):
                call()
        except Exception as error:
            failed = True
            tell(f"{name} failed and is left alone; the run's own log goes on: {_first_line(error)}")

    def watch(record: Any) -> None:
        values = {key: value for key in FIELDS if (value := getattr(record, key)) is not None}
        guarded(lambda: write(record.step, values))

    try:
        yield watch
    finally:
        guarded(close)


def _first_line(error: Exception) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0][:200]


def _tensorboard(folder: Path) -> tuple[Callable[[int, dict[str, float]], None], Callable[[], None]]:
    from torch.utils.tensorboard import SummaryWriter

    writer = SummaryWriter(str(folder / "tensorboard"))

    def write(step: int, values: dict[str, float]) -> None:
        for key, value in values.items():
            writer.add_scalar(key, value, step)

    return write, writer.close


def _service(
    name: str, folder: Path, project: str
) -> tuple[Callable[[int, dict[str, float]], None], Callable[[], None]]:
    """wandb and trackio share one interface, but for where files go."""
    import importlib

    service = importlib.import_module(name)
    place = {"dir": str(folder)} if name == "wandb" else {}
    folder.mkdir(parents=True, exist_ok=True)
    service.init(project=f"shapewright-{project}", name=folder.name, **place)
    return lambda step, values: service.log(values, step=step), service.finish
