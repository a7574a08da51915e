"""Where a run's records go beside its own log: TensorBoard, Weights & Biases, trackio.

Decisions: each is a package of its own, loaded only when it is asked for; all get the same numbers under the same names
at the same steps. The run's own log stays the record: what these services keep can be made again from it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from shapewright.errors import UnknownNameError, UsageError

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
def logger(name: str | None, folder: Path, project: str) -> Iterator[Watch]:
    """A watcher that logs to ``name``; one that does nothing where it is None.

    Raises:
        UnknownNameError: no such logger.
        UsageError: its package is not installed.
    """
    if name is None:
        yield lambda record: None
        return
    if name not in KNOWN:
        raise UnknownNameError("--log-to", name, KNOWN)
    try:
        write, close = _tensorboard(folder) if name == "tensorboard" else _service(name, project)
    except ImportError as error:
        raise UsageError(
            f"{name} is not installed",
            "--log-to writes through its package",
            "install it: pip install 'shapewright[log]'",
        ) from error
    try:
        yield lambda record: write(
            record.step, {k: v for k in FIELDS if (v := getattr(record, k)) is not None}
        )
    finally:
        close()


def _tensorboard(folder: Path) -> tuple[Callable[[int, dict[str, float]], None], Callable[[], None]]:
    from torch.utils.tensorboard import SummaryWriter

    writer = SummaryWriter(str(folder / "tensorboard"))

    def write(step: int, values: dict[str, float]) -> None:
        for key, value in values.items():
            writer.add_scalar(key, value, step)

    return write, writer.close


def _service(name: str, project: str) -> tuple[Callable[[int, dict[str, float]], None], Callable[[], None]]:
    """wandb and trackio share one interface."""
    import importlib

    service = importlib.import_module(name)
    service.init(project=f"shapewright-{project}")
    return lambda step, values: service.log(values, step=step), service.finish
