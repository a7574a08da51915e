"""Fitting the power of a board to kernels with measured watts.

Decisions: the same split by hash as for times, and a loss (Cauchy) that lets a second population go: readings that still
hold idle time, six tenths of the power of their equals (:mod:`shapewright.cost.energy`). Only kernels longer than
``SHORTEST`` are fitted,
because the sensor averages over 100 ms and short ones rest on few samples. The measured duration is given, so the
fit is of power alone. Files are those of aiconfigurator's vLLM 0.22.0 tables with power (one parquet per family).
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from hashlib import blake2b
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import least_squares

from shapewright.cost.attention import query_pairs
from shapewright.cost.device import device_of
from shapewright.cost.energy import COEFFICIENTS, OF_KIND, Board, mean_power, wanted_power
from shapewright.cost.families.experts import DISTRIBUTIONS
from shapewright.cost.formats import FORMATS
from shapewright.cost.interval import conformal
from shapewright.cost.router import routed
from shapewright.errors import DocumentError, MissingPackageError, NotCoveredError
from shapewright.hardware.accelerator import Accelerator
from shapewright.hardware.calibration import Fit

Array = NDArray[np.float64]
SHORTEST = 5e-5
"""Shortest kernel that is fitted [s]."""
PULL = 0.1
"""One unit of log away from the start costs as much as an error of this on one row."""
LONG = 1e-4
"""Shortest kernel that is scored [s]."""
SHIFT = 40.0
"""Taken off the logs, so that none is near zero: SciPy's difference steps are relative."""
REPORT, APART = (0, 1, 2), (3,)
SOURCE = "measured board power, ai-dynamo/aiconfigurator@095f58a, vLLM 0.22.0"


@dataclass(frozen=True, kw_only=True, slots=True)
class PowerRows:
    """Kernels of one accelerator, kind and format with measured power."""

    kind: str
    number_format: str
    seconds: Array
    flop_rate: Array
    """FLOP/s over the peak."""
    byte_rate: Array
    """B/s over the bandwidth."""
    watts: Array
    limit: float
    part: NDArray[np.int64]

    def power(self, coefficients: dict[str, float]) -> Array:
        """Predicted board power [W]."""
        board = Board(limit=self.limit, coefficients=coefficients)
        wanted = wanted_power(
            board,
            flop_rate=self.flop_rate,
            byte_rate=self.byte_rate,
            number_format=self.number_format,
            kind=self.kind,
        )
        return mean_power(board, wanted)

    def take(self, mask: NDArray[np.bool_]) -> PowerRows:
        """The rows of a mask."""
        names = ("seconds", "flop_rate", "byte_rate", "watts", "part")
        return replace(self, **{name: getattr(self, name)[mask] for name in names})


_FILES = {
    "gemm": ("matmul", "gemm_dtype"), "context_attention": ("attention", "kv_cache_dtype"),
    "generation_attention": ("attention_decode", "kv_cache_dtype"), "moe": ("moe", "moe_dtype"),
    "gdn": ("scan", ""), "computescale": ("memory", ""),
}  # fmt: skip


def read_power(folder: Path, accelerator: Accelerator) -> list[PowerRows]:
    """The kernels with measured power of one accelerator.

    Raises:
        MissingPackageError: pyarrow is not installed.
        NotCoveredError: the folder holds none of the files.
        DocumentError: a file cannot be read or lacks a column.
    """
    try:
        import pyarrow as pa
        import pyarrow.parquet as pq
    except ImportError as error:
        raise MissingPackageError("a Parquet file", "pyarrow", extra="silicon") from error
    found = []
    for name, (kind, column) in _FILES.items():
        path = folder / f"{name}.parquet"
        if not path.exists():
            continue
        try:
            table = pq.read_table(path, filters=[("accelerator", "=", accelerator.name)])
            x = {n: table[n].to_numpy(zero_copy_only=False) for n in table.column_names}
            formats = x[column] if column else np.full(table.num_rows, "bfloat16", dtype=object)
            for theirs in np.unique(formats.astype(str)).tolist():
                ours = {"bfloat16": "bf16"}.get(theirs, theirs)
                mask = (formats == theirs) & (x["power_w"] > 0) & (x["latency_ms"] > 0)
                if ours in FORMATS and mask.any():
                    found.append(_rows(accelerator, kind, ours, {n: v[mask] for n, v in x.items()}))
        except (pa.ArrowInvalid, OSError, KeyError) as error:
            raise DocumentError(
                f"{path} cannot be used", str(error), "see the columns in the docs"
            ) from error
    if not found:
        raise NotCoveredError(
            f"{folder} holds no measured power of {accelerator.name}", "files: gemm.parquet, moe.parquet, ...",
            "name the folder: --power FOLDER",
        )  # fmt: skip
    return found


def _rows(accelerator: Accelerator, kind: str, number_format: str, x: dict[str, NDArray]) -> PowerRows:
    f = {n: v.astype(np.float64) for n, v in x.items() if v.dtype.kind in "if"}
    width = FORMATS[number_format].weight_bytes
    if kind == "matmul":
        flops = 2.0 * f["m"] * f["n"] * f["k"]
        size = (f["m"] * f["k"] + f["n"] * f["k"]) * width + 2.0 * f["m"] * f["n"]
    elif kind == "attention":
        window = np.where(f["window_size"] > 0, f["window_size"], np.inf)
        pairs = query_pairs(f["isl"], f["isl"], True, window)
        flops = 4.0 * f["batch_size"] * f["num_heads"] * f["head_dim"] * pairs
        size = (
            f["batch_size"]
            * f["isl"]
            * f["head_dim"]
            * (4.0 * f["num_heads"] + 4.0 * f["num_key_value_heads"])
        )
    elif kind == "attention_decode":
        keys = np.minimum(f["step"] + 1, np.where(f["window_size"] > 0, f["window_size"], np.inf))
        flops = 4.0 * f["batch_size"] * f["num_heads"] * f["head_dim"] * keys
        size = 2.0 * width * f["batch_size"] * f["num_key_value_heads"] * f["head_dim"] * keys
    elif kind == "moe":
        inter = f["inter_size"] / f["moe_tp_size"]
        kinds = np.array([DISTRIBUTIONS.index(name) for name in x["distribution"]])
        load = routed(f["num_tokens"], f["topk"], f["num_experts"], f["moe_ep_size"], kinds)
        flops = 6.0 * load.rows * f["hidden_size"] * inter
        weights = load.touched * 3.0 * f["hidden_size"] * inter * width
        passes = load.rows * (f["hidden_size"] + inter) + f["num_tokens"] * f["topk"] * f["hidden_size"]
        size = weights + 6.0 * passes
    elif kind == "scan":
        tokens = f["num_tokens"]
        heads = f["num_v_heads"]
        flops = np.where(x["phase"] == "context", tokens * heads * 2.0e5, 0.0)
        size = tokens * (2 * f["num_k_heads"] * f["head_k_dim"] + heads * f["head_v_dim"]) * 4.0
    else:
        flops, size = np.zeros(f["m"].size), 2.0 * f["m"] * f["k"]
    device = device_of(accelerator, number_format if kind in ("matmul", "moe") else "bf16")
    seconds = f["latency_ms"] * 1e-3
    rates = dict(flop_rate=flops / seconds / device.peak, byte_rate=size / seconds / device.bandwidth)
    dims = sorted(set(f) - {"latency_ms", "power_w", "power_limit_w"})
    rows = zip(*(f[n].tolist() for n in dims), strict=True)
    keys = (f"{kind}|{number_format}|" + "|".join(f"{v:g}" for v in row) for row in rows)
    part = np.array([int.from_bytes(blake2b(key.encode(), digest_size=4).digest()) % 10 for key in keys])
    return PowerRows(kind=kind, number_format=number_format, seconds=seconds, watts=f["power_w"],
                     limit=float(f["power_limit_w"][0]), part=part, **rates)  # fmt: skip


def fit_power(tables: list[PowerRows], *, max_rows: int = 3000) -> Fit:
    """Fit the power of one board; the fit's errors are on held-out kernels longer than ``LONG``."""
    fitted = []
    for table in tables:
        known = table.take(~np.isin(table.part, REPORT + APART) & (table.seconds > SHORTEST))
        pick = np.random.default_rng(0).permutation(known.seconds.size)[:max_rows]
        mask = np.zeros(known.seconds.size, bool)
        mask[pick] = True
        fitted.append(known.take(mask))
    spec = list(COEFFICIENTS)
    for t in tables:
        spec += [replace(c, name=f"{c.name}/{t.kind}/{t.number_format}") for c in OF_KIND]
    start = np.log([c.start for c in spec])

    def coefficients(x: Array) -> dict[str, float]:
        return dict(zip((c.name for c in spec), np.exp(x + SHIFT).tolist(), strict=True))

    def residuals(x: Array) -> Array:
        c = coefficients(x)
        return np.concatenate([*(np.log(t.power(c) / t.watts) for t in fitted), PULL * (x - (start - SHIFT))])

    bounds = (np.log([c.low for c in spec]) - SHIFT, np.log([c.high for c in spec]) - SHIFT)
    found = least_squares(
        residuals, start - SHIFT, bounds=bounds, loss="cauchy", f_scale=0.06, diff_step=1e-5, max_nfev=80
    )
    best = {name: float(f"{value:.5g}") for name, value in coefficients(found.x).items()}
    errors, ratios = [], []
    for t in tables:
        scored = t.take(np.isin(t.part, REPORT) & (t.seconds > LONG))
        errors.append(np.abs(scored.power(best) / scored.watts - 1.0))
        apart = t.take(np.isin(t.part, APART) & (t.seconds > LONG))
        ratios.append(apart.watts / apart.power(best))
    error, (low, high) = np.concatenate(errors), conformal(np.concatenate(ratios))
    return Fit(
        family="energy", number_format="board", coefficients=best, kind="fitted", source=SOURCE,
        num_rows=sum(t.seconds.size for t in fitted), num_held_out=error.size, median_error=float(f"{np.median(error):.4g}"),
        p90_error=float(f"{np.quantile(error, 0.9):.4g}"), low=float(f"{low:.4g}"), high=float(f"{high:.4g}"),
        ranges={"power_limit_w": (tables[0].limit, tables[0].limit)},
    )  # fmt: skip
