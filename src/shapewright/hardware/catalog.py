"""Finding an accelerator, its calibration, its price and its clusters by name.

Decisions: names are looked up without regard to case, ``-`` or spaces, first as a path ending in ``.toml``,
then ``this`` (the file ``this.toml`` in the current folder, written by ``shapewright measure``), then in the
user's folder (environment variable SHAPEWRIGHT_HARDWARE), then in the catalogue; the user's file wins. The
catalogue is one TOML per accelerator and is not parsed before it is asked for.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Mapping
from dataclasses import replace
from functools import lru_cache
from pathlib import Path
from typing import Any

from shapewright.errors import DocumentError, NotCoveredError, UnknownNameError, UsageError
from shapewright.evidence import Figure
from shapewright.hardware.accelerator import Accelerator
from shapewright.hardware.accelerator_file import parse_accelerator
from shapewright.hardware.calibration import Calibration
from shapewright.hardware.calibration_file import parse_calibration, parse_fits
from shapewright.hardware.cluster import Cluster
from shapewright.hardware.document import read_toml, top
from shapewright.hardware.settings import apply_settings
from shapewright.hardware.system import System, build_cluster, parse_system

DATA = Path(__file__).resolve().parents[1] / "data"
"""The folder of the files that ship with the package."""
_MAX_DEVICES = 10_000_000
_COUNT_FIRST = re.compile(r"^\s*(?P<count>\d+)\s*[xX×*]\s*(?P<name>\S.*)$")
_COUNT_LAST = re.compile(r"^(?P<name>.+):\s*(?P<count>\d+)\s*$")
USER_FOLDER = "SHAPEWRIGHT_HARDWARE"
"""The environment variable that names the user's own folder of TOML files."""


def normal_name(name: str) -> str:
    """A name as it is looked up: lower case, with underscores."""
    return name.strip().lower().replace("-", "_").replace(" ", "_")


def read_accelerator(path: Path | str) -> Accelerator:
    """Read one TOML file that describes an accelerator.

    Raises:
        DocumentError: it cannot be read, or does not follow the format.
    """
    path = Path(path)
    if path.parent == DATA / "accelerators" and path.is_file():
        return _shipped_accelerator(path.stem)
    return replace(parse_accelerator(read_toml(path), str(path)), path=str(path.absolute()))


@lru_cache(maxsize=128)
def _shipped_accelerator(name: str) -> Accelerator:
    """An accelerator of the catalogue, parsed once: a search asks for the same one many times."""
    path = DATA / "accelerators" / f"{name}.toml"
    return parse_accelerator(read_toml(path), str(path))


def load_accelerator(name: str) -> Accelerator:
    """The accelerator of a name, an alias, ``this``, or the path of a TOML file.

    Raises:
        UnknownNameError: nothing has this name.
        UsageError: ``this`` has not been measured.
        DocumentError: its file does not follow the format.
    """
    return read_accelerator(_find(name))


def accelerator_names() -> tuple[str, ...]:
    """The names of the catalogue and of the user's folder, sorted."""
    user = {name for name, path in _user_files().items() if not _is_system(read_toml(path))}
    return tuple(sorted({path.stem for path in (DATA / "accelerators").glob("*.toml")} | user))


def load_calibration(device: str | Accelerator) -> Calibration:
    """The calibration of an accelerator's own measurements.

    A file of the user's (``this.toml`` too) holds it in its ``[[calibration]]`` tables, the catalogue in
    ``data/calibrations/NAME.toml``.

    Raises:
        NotCoveredError: this accelerator has none. Transfer from a relative is the cost model's business.
    """
    accelerator = load_accelerator(device) if isinstance(device, str) else device
    if accelerator.path is not None:
        fits = parse_fits(read_toml(Path(accelerator.path)), accelerator.path, "calibration")
        if fits:
            return Calibration(accelerator=accelerator.name, fits=fits)
    else:
        shipped = _shipped_calibration(accelerator.name)
        if shipped is not None:
            return shipped
    raise NotCoveredError(
        f"{accelerator.name} has no calibration of its own",
        "nobody's measurements on it were fitted",
        "measure it there: shapewright measure",
    )


@lru_cache(maxsize=32)
def _shipped_calibration(name: str) -> Calibration | None:
    """The calibration that ships for an accelerator, parsed once: its file is long, and a page asks many times."""
    path = DATA / "calibrations" / f"{name}.toml"
    return parse_calibration(read_toml(path), str(path)) if path.exists() else None


def cluster_names() -> tuple[str, ...]:
    """The names of the systems that ship with the package and of the user's folder, sorted."""
    user = {name for name, path in _user_files().items() if _is_system(read_toml(path))}
    return tuple(sorted({*_systems(), *user}))


def parse_cluster(text: str, settings: Iterable[str] = ()) -> Cluster:
    """The cluster that ``64xh100_sxm``, ``h100_sxm:8``, ``dgx_h100``, ``4xgb200_nvl72``, ``h100_sxm`` or ``this`` means.

    A bare accelerator is one device; N of a system are N times its devices. Network and host power are those of
    the accelerator's usual system, or stated defaults. ``settings`` are as in :func:`apply_settings`.

    Raises:
        UsageError: the number of devices is not between 1 and ten million.
        UnknownNameError: no system and no accelerator has this name.
        DocumentError: a TOML file does not follow the format.
    """
    count, name = _split_count(text)
    system = _find_system(name)
    if system is not None:
        accelerator = load_accelerator(system.accelerator)
        num_devices = count * system.num_devices
        label = system.name if count == 1 else f"{count}x{system.name}"
    else:
        accelerator = load_accelerator(name)
        num_devices = count
        label = accelerator.name if count == 1 else f"{count}x{accelerator.name}"
        usual = (each for each in _systems().values() if each.usual and each.accelerator == accelerator.name)
        system = next(usual, None) if accelerator.path is None else None
    if num_devices > _MAX_DEVICES:
        raise UsageError(
            f"hardware (={text!r}) has {num_devices} devices", f"the most is {_MAX_DEVICES}", "use fewer"
        )
    price = _prices().get(accelerator.name) if accelerator.path is None else None
    return apply_settings(build_cluster(label, accelerator, num_devices, system, price), settings)


def _split_count(text: str) -> tuple[int, str]:
    match = _COUNT_FIRST.match(text) or _COUNT_LAST.match(text)
    if match is None:
        return 1, text
    count = int(match.group("count"))
    if count < 1:
        raise UsageError(
            f"hardware (={text!r}) has {count} devices",
            "a cluster has at least one",
            "for example 8xh100_sxm",
        )
    return count, match.group("name")


def _find_system(name: str) -> System | None:
    """The system of a name or path; None where the name is not one of a system."""
    is_path = name.strip().endswith(".toml")
    path = Path(name.strip()).expanduser() if is_path else _user_files().get(normal_name(name))
    if path is None:
        return _systems().get(normal_name(name))
    document = read_toml(path)
    return parse_system(document, str(path)) if _is_system(document) else None


def _is_system(document: Mapping[str, Any]) -> bool:
    """Whether a document describes a system: only systems count their devices."""
    return "num_devices" in document


@lru_cache(maxsize=1)
def _systems() -> dict[str, System]:
    systems = (
        parse_system(read_toml(path), str(path)) for path in sorted((DATA / "clusters").glob("*.toml"))
    )
    return {system.name: system for system in systems}


@lru_cache(maxsize=1)
def _prices() -> dict[str, Figure]:
    """Rent of a device by accelerator [USD/h]."""
    path = DATA / "prices" / "cloud.toml"
    return top(str(path), read_toml(path)).figures("per_device_hour", "USD/h", accelerator_names())


def _find(name: str) -> Path:
    if name.strip().endswith(".toml"):
        return Path(name.strip()).expanduser()
    wanted = normal_name(name)
    if wanted == "this":
        path = Path.cwd() / "this.toml"
        if not path.exists():
            raise UsageError(
                "hardware (='this') has not been measured", f"there is no {path}", "run: shapewright measure"
            )
        return path
    user = _user_files()
    if wanted in user:
        return user[wanted]
    index = _catalogue_index()
    if wanted not in index:
        known = {*accelerator_names(), *cluster_names()}
        raise UnknownNameError("hardware", name, known, "list them: shapewright hardware")
    return index[wanted]


def _user_files() -> dict[str, Path]:
    folder = os.environ.get(USER_FOLDER)
    if not folder:
        return {}
    if not Path(folder).expanduser().is_dir():
        raise UsageError(
            f"{USER_FOLDER} (={folder!r}) is not a folder", "it names a folder of TOML files", "mend it"
        )
    return {normal_name(path.stem): path for path in sorted(Path(folder).expanduser().glob("*.toml"))}


@lru_cache(maxsize=1)
def _catalogue_index() -> dict[str, Path]:
    """Every name and alias of the catalogue; a name given twice is our own mistake."""
    index: dict[str, Path] = {}
    for path in sorted((DATA / "accelerators").glob("*.toml")):
        for name in (path.stem, *(normal_name(alias) for alias in read_toml(path).get("aliases", []))):
            if name in index:
                raise DocumentError(
                    f"{path}: the name {name} is taken by {index[name].name}", "names are unique"
                )
            index[name] = path
    return index
