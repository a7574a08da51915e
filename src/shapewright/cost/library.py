"""The names of measured kernels: ``vllm.flash_attn_fa3``, ``sglang.fa3_fp8``, ``trtllm``.

Decisions: the name is the backend's and then what its table calls the kernel, so that a fit says what was timed; 8-bit
queries are told by ``_fp8``. Rows are columns of numbers, so they hold the place of their kernel's name in
:attr:`~shapewright.cost.family.Measurements.libraries` (column ``library``), which takes no part in the split of the
rows. A row that does not say its kernel (somebody's file, a prediction) has ``ANY`` and is priced with the best one.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

BACKENDS = ("vllm", "sglang", "trtllm")
"""Whose kernels a row measures; the column ``backend`` of families that differ by it holds the place here."""
ANY = -1.0
"""The kernel of a row that does not say."""
ANONYMOUS = frozenset({"", "default", "torch_flow"})
"""What tables call a backend's only kernel."""


def library_name(backend: str, text: str, *, fp8: bool = False) -> str:
    """The name of the kernel that a backend's table calls ``text``; ``fp8`` where its queries are in 8 bits."""
    short = text.rpartition(".")[2].removeprefix(f"{backend}_")
    return f"{backend}{'' if text in ANONYMOUS else '.' + short}{'_fp8' if fp8 else ''}"


def library_names(libraries: Sequence[str], places: NDArray[np.float64]) -> NDArray[np.str_]:
    """The names at ``places``; empty for :data:`ANY`."""
    return np.array([*libraries, ""])[np.asarray(places).astype(int)]


def named(base: NDArray[np.str_], library: NDArray[np.str_]) -> NDArray[np.str_]:
    """``base.library``, or what there is of both."""
    both = (base != "") & (library != "")
    return np.char.add(np.char.add(base, np.where(both, ".", "")), library)


def matches(variant: str, wanted: str) -> bool:
    """Whether a fit's variant is the wanted one, or one of its kernels: ``128.vllm.fa3`` of ``128``."""
    return wanted in ("", variant) or variant.startswith(f"{wanted}.")
