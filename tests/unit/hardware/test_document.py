"""Bad files: one clear error each, with the file and the path in it, and nothing guessed."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from shapewright.errors import DocumentError
from shapewright.hardware.catalog import parse_cluster, read_accelerator

HEAD = """
name = "my_chip"
label = "My chip"
vendor = "me"
generation = "mine"
device_class = "datacenter"
release_date = "2026-01"
"""
GOOD = HEAD + 'memory_bandwidth = { value = "3 TB/s", kind = "assumed", source = "my own test" }\n'


def read(tmp_path: Path, text: str | bytes) -> None:
    path = tmp_path / "my_chip.toml"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    read_accelerator(path)


def test_the_good_file_is_read(tmp_path: Path) -> None:
    read(tmp_path, GOOD)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (GOOD + "memory_bandwith = 3\n", "memory_bandwith is not a known key.*did you mean memory_bandwidth"),
        (GOOD.replace("3 TB/s", "-3 TB/s"), "memory_bandwidth.value.*greater than zero"),
        (GOOD.replace("3 TB/s", "0 TB/s"), "memory_bandwidth.value.*greater than zero"),
        (GOOD.replace("3 TB/s", "1e999 TB/s"), "memory_bandwidth.value.*too large"),
        (GOOD.replace("3 TB/s", "3 TB"), "memory_bandwidth.value.*unit of B/s"),
        (GOOD.replace('"3 TB/s"', "3"), "memory_bandwidth.value.*unit of B/s"),
        (GOOD.replace('kind = "assumed"', 'kind = "guessed"'), "memory_bandwidth.kind.*one of: measured"),
        (GOOD.replace('kind = "assumed", ', ""), "memory_bandwidth.kind is missing"),
        (GOOD.replace("my own test", "typo"), "memory_bandwidth.source.*key of .sources."),
        (GOOD.replace('{ value = "3 TB/s", kind = "assumed", source = "my own test" }', "3"), "memory_bandwidth.*table"),
        (GOOD.replace('name = "my_chip"\n', ""), "name is missing"),
        (GOOD.replace('"my_chip"', '"My Chip"'), "name.*lower-case"),
        (GOOD.replace('"datacenter"', '"data center"'), "device_class.*one of: datacenter"),
        (GOOD.replace('"2026-01"', '"January"'), "release_date.*YYYY"),
        (GOOD + "matrix_tile = [16, 8]\n", "matrix_tile.*three positive"),
        (GOOD + "num_dies = 0\n", "num_dies.*at least 1"),
        (GOOD + '[peak_flops]\nbf15 = { value = "1 TFLOP/s", kind = "assumed", source = "a b" }\n', "peak_flops.bf15.*bf16"),
        (GOOD + '[scale_up]\nlink = "wire"\n', "scale_up.bandwidth.*required"),
        (GOOD + '[scale_up]\nlink = "wire"\ntopology = "star"\nbandwidth = { value = "1 GB/s", kind = "assumed",'
         ' source = "a b" }\n', "scale_up.topology.*switch"),
        (GOOD + "name = ", "not valid TOML"),
        (GOOD + "aliases = 3\n", "aliases.*list of texts"),
        (GOOD + "sources = 3\n", "sources.*table of citations"),
        (b"\x7fELF\x00\x01\x02", "not text"),
        (GOOD.encode() + b"# \xff\n", "not text"),
        (GOOD + "#" * 2_000_000, "has 2.0 MB"),
    ],
)  # fmt: skip
def test_each_mistake_has_one_clear_error(tmp_path: Path, text: str | bytes, message: str) -> None:
    with pytest.raises(DocumentError) as caught:
        read(tmp_path, text)
    flat = " ".join(str(caught.value).split())
    assert "my_chip.toml" in flat
    assert re.search(message, flat), flat


def test_an_absent_file_and_a_folder_are_named(tmp_path: Path) -> None:
    with pytest.raises(DocumentError, match=r"nowhere\.toml cannot be read"):
        parse_cluster(str(tmp_path / "nowhere.toml"))
    folder = tmp_path / "folder.toml"
    folder.mkdir()
    with pytest.raises(DocumentError, match="not a file"):
        parse_cluster(str(folder))


def test_notes_follow_the_citation_and_sources_are_looked_up(tmp_path: Path) -> None:
    path = tmp_path / "my_chip.toml"
    path.write_text(
        HEAD
        + 'tdp = { value = "300 W", kind = "vendor", source = "sheet", note = "at most", low = "290 W" }\n'
        '[sources]\nsheet = "A data sheet"\n'
    )
    figure = read_accelerator(path).tdp
    assert figure is not None
    assert (figure.source, figure.low, figure.high) == ("A data sheet; at most", 290.0, None)
