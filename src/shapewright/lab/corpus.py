"""Text to train on, as bytes or tokens: the standard library's own source, or any file or folder.

Decisions: a byte is a token, so any text is covered by 256 symbols and losses are comparable whatever the text.
Files are joined in the order of their paths with a zero byte between them. A file is held out by the hash of its
path in the folder, so the same files are held out on every machine; where there are too few files for that, the
last part of each is. Binary files (a zero byte near their beginning) are left out and counted.
"""

from __future__ import annotations

import hashlib
import sysconfig
from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from shapewright.errors import MissingPackageError, UsageError
from shapewright.lab.formats import JSON_LINES, SEPARATOR, load_tokenizer, text_of, tokens_of

Bytes = NDArray[Any]

VOCAB_SIZE = 256
"""Symbols of a byte."""
HELD_OUT_EVERY = 20
"""One file in so many is held out, or this share of each file where there are fewer."""
SNIFFED = 8192
"""Bytes looked at to tell text from binary [B]."""
MAX_BYTES = 2_000_000_000
"""Corpora are kept in memory whole [B]."""
ROWS = (*JSON_LINES, ".parquet")
"""Endings of files whose rows are joined by zero bytes here."""
DIGITS = "digits"
"""The name that stands for scikit-learn's handwritten digits where no file is called so."""
NOT_SOURCE = {"test", "tests", "idle_test", "site-packages", "dist-packages", "__pycache__"}
"""Folders of the standard library that are left out: tests, and what others installed."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Corpus:
    """Bytes to learn from and bytes to be judged by."""

    name: str
    """What it is, for people."""
    train: Bytes
    """(n,) uint8, or uint32 where they are tokens."""
    held_out: Bytes
    """(m,) of the same."""
    num_files: int
    skipped: tuple[str, ...]
    """Files left out because they are binary or empty."""
    vocab_size: int = VOCAB_SIZE
    """Symbols: those of a byte, or of a tokenizer."""
    bytes_per_token: float = 1.0
    """Of the held-out text: what makes losses of tokens comparable."""

    @property
    def digest(self) -> str:
        """Hash of all bytes: two runs with the same digest saw the same text."""
        return hashlib.sha256(self.train.tobytes() + b"|" + self.held_out.tobytes()).hexdigest()[:16]


def standard_library() -> Corpus:
    """The Python files of the running interpreter's standard library, without its tests.

    Raises:
        UsageError: this interpreter was installed without them.
    """
    folder = Path(sysconfig.get_paths()["stdlib"])
    paths = (p for p in folder.rglob("*.py") if not NOT_SOURCE & set(p.relative_to(folder).parts))
    version = sysconfig.get_config_var("py_version") or sysconfig.get_python_version()
    return _join(f"Python {version} standard library", folder, paths)


def read_corpus(path: Path | None, tokenizer: Path | None = None) -> Corpus:
    """The text of a file, of every file in a folder (hidden ones left out), or of the standard library.

    JSON lines and Parquet files give the texts of their rows. With a ``tokenizer.json`` text becomes tokens.

    Raises:
        UsageError: nothing is there, it cannot be read, it is binary, or too short or too long to train on.
    """
    if tokenizer is not None:
        return tokenised(read_corpus(path), tokenizer)
    if path is None:
        return standard_library()
    if str(path) == DIGITS and not path.exists():
        return digits()
    if path.is_file():
        return _join(path.name, path.parent, [path])
    if path.is_dir():
        inside = (
            p
            for p in path.rglob("*")
            if p.is_file() and not any(part.startswith(".") for part in p.relative_to(path).parts)
        )
        return _join(f"{path.name or path}/", path, inside)
    raise UsageError(
        f"--data (={str(path)!r}) is not there", "a corpus is a file or a folder", "check the path"
    )


def digits() -> Corpus:
    """Handwritten digits of 8 x 8 pixels with their classes (scikit-learn): rows of 64 pixels in 0 to 1, then the class.

    Every fifth image by the hash of its number is held out.

    Raises:
        MissingPackageError: scikit-learn is not installed.
    """
    try:
        from sklearn.datasets import load_digits
    except ImportError as error:
        raise MissingPackageError("the corpus of digits", "scikit-learn", extra="lab") from error
    pixels, classes = load_digits(return_X_y=True)
    rows = np.concatenate((pixels / 16.0, classes[:, None]), axis=1).astype(np.float32)
    held = np.array([_hash(str(i)) % 5 == 0 for i in range(len(rows))])
    return Corpus(name="scikit-learn digits", train=rows[~held], held_out=rows[held], num_files=len(rows), skipped=(),
                  vocab_size=10)  # fmt: skip


def tokenised(corpus: Corpus, tokenizer: Path) -> Corpus:
    """The corpus as tokens.

    Raises:
        UsageError: the file is no tokenizer.
    """
    loaded = load_tokenizer(tokenizer)
    train, held_out = (
        tokens_of(loaded, part.astype(np.uint8).tobytes()) for part in (corpus.train, corpus.held_out)
    )
    return replace(
        corpus, name=f"{corpus.name}, {tokenizer.name}", train=train, held_out=held_out,
        vocab_size=loaded.get_vocab_size(), bytes_per_token=len(corpus.held_out) / max(len(held_out), 1),
    )  # fmt: skip


def _join(name: str, folder: Path, paths: Iterable[Path]) -> Corpus:
    texts: dict[str, bytes] = {}
    skipped = []
    total = 0
    for path in sorted(paths, key=lambda p: p.relative_to(folder).as_posix()):
        key = path.relative_to(folder).as_posix()
        try:
            text = text_of(path)
        except OSError as error:
            raise UsageError(
                f"{path} cannot be read", error.strerror or str(error), "mend its permissions or move it away"
            ) from error
        if not text or (path.suffix not in ROWS and SEPARATOR in text[:SNIFFED]):
            skipped.append(key)
            continue
        total += len(text)
        if total > MAX_BYTES:
            raise UsageError(f"{name} holds more than {MAX_BYTES:,} bytes", "it is kept in memory whole",
                             "give a part of it")  # fmt: skip
        texts[key] = text
    if not texts:
        found = "every file is empty or binary" if skipped else "no file"
        raise UsageError(f"{name} holds no text", found, "give a text file, or a folder of text files")
    train, held_out = _split(texts)
    return Corpus(
        name=name, train=np.frombuffer(train, np.uint8), held_out=np.frombuffer(held_out, np.uint8),
        num_files=len(texts), skipped=tuple(skipped),
    )  # fmt: skip


def _split(texts: dict[str, bytes]) -> tuple[bytes, bytes]:
    """Whole files by the hash of their path, or the end of each where that holds none or all of them out."""
    chosen = {key for key in texts if _hash(key) % HELD_OUT_EVERY == 0}
    if len(texts) >= HELD_OUT_EVERY and chosen and len(chosen) < len(texts):
        parts = ([t for k, t in texts.items() if k not in chosen], [texts[k] for k in texts if k in chosen])
    else:
        cut = {key: len(text) - max(len(text) // HELD_OUT_EVERY, 1) for key, text in texts.items()}
        parts = ([t[: cut[k]] for k, t in texts.items()], [t[cut[k] :] for k, t in texts.items()])
    return SEPARATOR.join(parts[0]), SEPARATOR.join(parts[1])


def _hash(key: str) -> int:
    return int.from_bytes(hashlib.sha256(key.encode()).digest()[:8], "big")


class Windows:
    """Training windows in a fixed random order: every byte once per pass, then again in another order.

    The order depends on the seed and the position only, so a run that goes on sees what it would have seen.
    """

    def __init__(self, text: Bytes, *, seq_len: int, seed: int) -> None:
        """``text`` (n,), cut into windows of ``seq_len`` inputs and the byte that follows.

        Raises:
            UsageError: the text is shorter than one window.
        """
        if len(text) < 2 * seq_len + 1:
            raise UsageError(
                f"the corpus has {len(text):,} bytes to train on",
                f"a window of {seq_len} tokens needs at least {2 * seq_len + 1}", "give more text",
            )  # fmt: skip
        self._text, self._seq_len, self._seed = text, seq_len, seed
        self._count = (len(text) - 1) // seq_len - 1
        self._pass, self._order, self._shift = -1, np.zeros(0, np.int64), 0

    @property
    def per_pass(self) -> int:
        """Windows in one pass over the text."""
        return self._count

    def take(self, first: int, count: int) -> NDArray[np.int64]:
        """(count, seq_len + 1) Windows number ``first`` and following."""
        rows = []
        for index in range(first, first + count):
            number, place = divmod(index, self._count)
            if number != self._pass:
                rng = np.random.default_rng([self._seed, number])
                # A random shift moves the windows' borders in every pass.
                self._pass, self._order = number, rng.permutation(self._count)
                self._shift = int(rng.integers(self._seq_len))
            start = self._shift + int(self._order[place]) * self._seq_len
            rows.append(self._text[start : start + self._seq_len + 1])
        return np.stack(rows).astype(np.int64)


class Rows:
    """Images with their classes in a fixed random order: every one once per pass, then again in another order."""

    def __init__(self, rows: NDArray[np.float32], *, seed: int) -> None:
        """``rows`` (n, pixels and class)."""
        self._rows, self._seed = rows, seed
        self._pass, self._order = -1, np.zeros(0, np.int64)

    @property
    def per_pass(self) -> int:
        """Images in one pass."""
        return len(self._rows)

    def take(self, first: int, count: int) -> NDArray[np.float32]:
        """(count, pixels and class) Images number ``first`` and following."""
        found = []
        for index in range(first, first + count):
            number, place = divmod(index, len(self._rows))
            if number != self._pass:
                self._pass = number
                self._order = np.random.default_rng([self._seed, number]).permutation(len(self._rows))
            found.append(self._rows[self._order[place]])
        return np.stack(found)


def judged_windows(text: Bytes, *, seq_len: int, most: int = 512) -> NDArray[np.int64]:
    """(count, seq_len + 1) Windows spread evenly over held-out ``text``, at most ``most``.

    Raises:
        UsageError: the text is shorter than one window.
    """
    count = (len(text) - 1) // seq_len
    if count < 1:
        raise UsageError(
            f"the corpus has {len(text):,} held-out bytes", f"a window needs {seq_len + 1}", "give more text"
        )
    starts = np.unique(np.linspace(0, count - 1, min(count, most)).round().astype(int)) * seq_len
    return np.stack([text[s : s + seq_len + 1] for s in starts]).astype(np.int64)
