"""From timings of this machine to the coefficients that the cost model prices with.

Decisions: the physics is the cost model's own, called as it calls it (weights cold, traffic as the architecture
counts it); only the bounds differ, for a core is not a multiprocessor: its bandwidth is quoted for a copy out of
cache, so a kernel may exceed it, and an unfused framework may reach a tenth of it. Coefficients of effects that a
processor does not have (waves, splits of k, clocks that follow the power) are held fixed. Least squares on the
log ratio with a soft-L1 loss and a weak pull to the start, as for the shipped calibrations.

Rows are split by a fixed hash of their sizes: 3 in 10 are held out, and the errors and the interval come from
them alone. Products with sizes that are not a multiple of 8 are never fitted: their penalty is the cost model's
own, and how well it holds here is reported apart.

Memory-bound kernels are fitted as the layer's sum (norms, rotary, residuals, gated activation, forward and
backward), because the cost model has one rate for all of them, and that rate must be right for the mix.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from hashlib import blake2b
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import least_squares

from shapewright.cost import attention, bandwidth, matmul, scan
from shapewright.cost.coefficient import Coefficient
from shapewright.cost.device import Device
from shapewright.cost.formats import kernel_format
from shapewright.cost.price_scan import SCAN_BACKWARD
from shapewright.errors import MeasurementError
from shapewright.hardware.calibration import Fit
from shapewright.lab.bench import Timing
from shapewright.lab.cases import GPU, LAYER, POINTWISE, PROCESSOR, layer_cases

Array = NDArray[np.float64]
Bounds = tuple[float, float, float]
Predict = Callable[[Mapping[str, float], Mapping[str, Array]], Array]


def _fixed(value: float) -> Bounds:
    return (value, value, value)


MATMUL: Mapping[str, Bounds] = {
    "launch_s": (3e-6, 2e-7, 1e-3), "mma": (0.97, 0.3, 1.1), "memory": (1.0, 0.2, 8.0), "l2": (3.0, 0.2, 40.0),
    "tile_m": (1.0, 0.01, 64.0), "tile_n": (1.0, 0.01, 64.0), "block_s": (1e-8, 1e-10, 1e-5),
    "fill": (0.05, 1e-3, 6.0), "epilogue": (0.02, 1e-4, 2.0), "step_s": (1e-9, 1e-11, 1e-6),
    "reread": (0.01, 1e-4, 3.0), "cache_share": (0.5, 0.05, 1.5), "cache_speed": (3.0, 1.0, 20.0),
    "memory_latency_s": (1e-7, 1e-9, 1e-4),
    "occupancy": _fixed(8.0), "whole_waves": _fixed(1e-3), "split_s": _fixed(2e-5), "sustained": _fixed(1e-4),
    "floor_s": _fixed(1e-7),
}  # fmt: skip
"""Start, least and greatest value of each coefficient of a product on a processor; equal ends hold it fixed."""
PREFILL: Mapping[str, Bounds] = {
    "launch_s": (1e-5, 1e-6, 1e-2), "mma": (0.5, 0.005, 1.2), "exp": (0.05, 5e-4, 16.0), "half_dim": (8.0, 0.1, 256.0),
    "memory": (1.0, 0.02, 8.0), "block_s": (1e-6, 1e-8, 1e-3), "key_tile": (64.0, 8.0, 512.0),
    "exposed": _fixed(1.0), "join": _fixed(1.0), "wide_dim": _fixed(4000.0), "chain": _fixed(0.3),
    "whole_waves": _fixed(1e-3), "sustained": _fixed(1e-4),
}  # fmt: skip
"""The same for attention; a core multiplies, exponentiates and waits for memory one after the other."""
DECODE: Mapping[str, Bounds] = {
    "launch_s": (1e-5, 1e-6, 1e-2), "mma": (0.5, 1e-3, 64.0), "memory": (0.5, 0.005, 8.0), "block_s": (1e-6, 1e-9, 1e-3),
    "occupancy": _fixed(8.0), "split_s": _fixed(1e-8), "step_s": _fixed(1e-9), "row_s": _fixed(1e-9),
}  # fmt: skip
"""The same for one query per sequence, which the cost model pads to a tile of 64 rows and a processor does not."""
MEMORY: Mapping[str, Bounds] = {
    "launch_s": (5e-6, 2e-7, 1e-3), "memory": (0.3, 0.005, 8.0), "ramp_s": (1e-6, 1e-9, 1e-3),
}  # fmt: skip
SCAN: Mapping[str, Bounds] = {
    "launch_s": (1e-4, 1e-6, 1e-2), "chunk_s": (1e-4, 1e-7, 1e-2), "wave_s": (1e-5, 1e-9, 1e-2),
    "memory": (0.05, 1e-4, 2.0), "work_s": _fixed(1e-9), "join": _fixed(1.0),
}  # fmt: skip
"""The same for a chunked scan, with the convolution before it and the gated norm after it."""
FAMILIES: Mapping[str, tuple[tuple[Coefficient, ...], Mapping[str, Bounds]]] = {
    "matmul": (matmul.COEFFICIENTS, MATMUL), "attention": (attention.PREFILL, PREFILL),
    "attention_decode": (attention.DECODE, DECODE), "gdn/scan": (scan.SCAN, SCAN),
    "memory": (bandwidth.COEFFICIENTS, MEMORY),
}  # fmt: skip
"""The cost model's coefficients of each family, and the bounds of those that a processor has."""

SCALE = 0.06
"""Errors beyond this are counted linearly."""
PULL = 0.02
"""One unit of log away from the start costs as much as an error of this on one row."""
HELD_OUT = (0, 1, 2)
"""Parts of the hash that are scored and never fitted."""
MIN_ROWS = {"matmul": 12, "attention": 6, "attention_decode": 3, "gdn/scan": 5, "memory": 5}
"""Fewer rows than this are no calibration."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Rows:
    """Kernels of one family and format, one row each."""

    family: str
    number_format: str
    columns: Mapping[str, Array]
    seconds: Array
    """Best measured time [s]."""

    def take(self, mask: NDArray[np.bool_]) -> Rows:
        """The rows of a mask."""
        columns = {name: column[mask] for name, column in self.columns.items()}
        return Rows(
            family=self.family, number_format=self.number_format, columns=columns, seconds=self.seconds[mask]
        )

    def held_out(self) -> NDArray[np.bool_]:
        """Which rows are scored and not fitted, by a hash of their sizes."""
        keys = ["|".join(f"{v:g}" for v in row) for row in zip(*self.columns.values(), strict=True)]
        parts = [int.from_bytes(blake2b(key.encode(), digest_size=4).digest()) % 10 for key in keys]
        return np.isin(parts, HELD_OUT)


def gemm_rows(timings: Iterable[Timing], number_format: str, *, odd: bool = False) -> Rows:
    """The products of a format: those whose sizes are multiples of 8, or the ``odd`` others."""
    found = [
        t
        for t in timings
        if t.case.kind == "gemm" and t.case.number_format == number_format and t.case.odd == odd
    ]
    return _rows(
        "matmul",
        number_format,
        [t.case.named for t in found],
        [t.best for t in found],
        ("m", "n", "k", "layout"),
    )


def attention_rows(timings: Iterable[Timing], number_format: str, kind: str = "attention") -> Rows:
    """Attention over a sequence, or with ``kind`` ``decode`` of one query per sequence."""
    found = [t for t in timings if t.case.kind == kind and t.case.number_format == number_format]
    family, length = ("attention", "tokens") if kind == "attention" else ("attention_decode", "keys")
    return _rows(family, number_format, [t.case.named for t in found], [t.best for t in found],
                 ("batch", "heads", length, "head_dim"))  # fmt: skip


def scan_rows(timings: Iterable[Timing]) -> Rows:
    """Gated DeltaNet between its products; filed under bf16, where the cost model looks for scans of any format."""
    found = [t for t in timings if t.case.kind == "delta"]
    return _rows("gdn/scan", "bf16", [t.case.named for t in found], [t.best for t in found],
                 ("batch", "heads", "tokens", "head_dim"))  # fmt: skip


def memory_rows(timings: Iterable[Timing], number_format: str) -> Rows:
    """The memory-bound kernels of a layer, summed, at every (tokens, width) where all were timed."""
    best = {t.case: t.best for t in timings if t.case.kind in POINTWISE}
    sizes, seconds = [], []
    for tokens, width in dict.fromkeys((*PROCESSOR.rows, *GPU.rows)):
        kernels = layer_cases(number_format, tokens, width)
        if all(case in best for case in kernels):
            sizes.append({"tokens": tokens, "width": width})
            seconds.append(sum(LAYER[case.kind] * best[case] for case in kernels))
    return _rows("memory", number_format, sizes, seconds, ("tokens", "width"))


def _rows(
    family: str, number_format: str, sizes: list[dict[str, int]], seconds: list[float], names: tuple[str, ...]
) -> Rows:
    columns = {name: np.array([size[name] for size in sizes], np.float64) for name in names}
    return Rows(
        family=family, number_format=number_format, columns=columns, seconds=np.array(seconds, np.float64)
    )


def predictor(family: str, device: Device, number_format: str, *, backward: bool) -> Predict:
    """Seconds of a family's rows as the cost model prices them.

    ``backward`` says that the memory-bound kernels and attention were timed with their backward pass.
    """
    fmt = kernel_format(number_format)

    def product(c: Mapping[str, float], x: Mapping[str, Array]) -> Array:
        return matmul.matmul_time(c, device, fmt, x["m"], x["n"], x["k"])

    def prefill(c: Mapping[str, float], x: Mapping[str, Array]) -> Array:
        lengths = dict(q_len=x["tokens"], kv_len=x["tokens"])
        seconds = attention.prefill_time(c, device, kv_bytes=fmt.weight_bytes, **lengths, **_heads(x))
        return seconds * (1.0 + attention.BACKWARD if backward else 1.0)

    def decode(c: Mapping[str, float], x: Mapping[str, Array]) -> Array:
        lengths = dict(q_len=np.ones_like(x["keys"]), kv_len=x["keys"])
        return attention.decode_time(c, device, kv_bytes=fmt.weight_bytes, **lengths, **_heads(x))

    def scanned(c: Mapping[str, float], x: Mapping[str, Array]) -> Array:
        seconds = scan.scan_time(c, device, sequences=x["batch"], length=x["tokens"], heads=x["heads"],
                                 key_dim=x["head_dim"], value_dim=x["head_dim"])  # fmt: skip
        return seconds * (1.0 + SCAN_BACKWARD["delta"] if backward else 1.0)

    def layer(c: Mapping[str, float], x: Mapping[str, Array]) -> Array:
        seconds = np.zeros_like(x["tokens"])
        for kind, count in LAYER.items():
            elements, factor = POINTWISE[kind]
            traffic = elements * x["tokens"] * kernel_width(kind, x["width"]) * fmt.activation_bytes
            seconds = seconds + count * bandwidth.pointwise_time(c, device, traffic)
            if backward or kind == "residual":
                seconds = seconds + count * bandwidth.pointwise_time(c, device, traffic * factor)
        return seconds

    return {
        "matmul": product,
        "attention": prefill,
        "attention_decode": decode,
        "gdn/scan": scanned,
        "memory": layer,
    }[family]


def kernel_width(kind: str, width: Array) -> Array:
    """Width of a layer's memory-bound kernel in a model of ``width``, as ``cases.layer_cases`` times it."""
    return {"rotary": 2.0 * width, "gated": np.round(width * 8 / 3 / 8) * 8}.get(kind, width)


def _heads(x: Mapping[str, Array]) -> dict[str, Any]:
    return dict(
        batch=x["batch"],
        heads=x["heads"],
        kv_heads=x["heads"],
        head_dim=x["head_dim"],
        v_head_dim=x["head_dim"],
    )


def processor_bounds(family: str) -> dict[str, Bounds]:
    """Bounds of every coefficient of a family; one that means nothing on a processor stays at its start."""
    coefficients, own = FAMILIES[family]
    return {c.name: own.get(c.name, _fixed(c.start)) for c in coefficients}


def gpu_bounds(family: str) -> dict[str, Bounds]:
    """The bounds of the shipped calibrations."""
    return {c.name: (max(c.start, 1e-12), max(c.low, 1e-12), c.high) for c in FAMILIES[family][0]}


def fit_coefficients(rows: Rows, predict: Predict, bounds: Mapping[str, Bounds]) -> dict[str, float]:
    """The coefficients within ``bounds`` under which ``predict`` comes nearest to the rows."""
    fixed = {name: start for name, (start, low, high) in bounds.items() if low == high}
    free = {name: values for name, values in bounds.items() if name not in fixed}
    start, low, high = (np.log([values[i] for values in free.values()]) for i in range(3))
    measured = np.log(rows.seconds)

    def residuals(x: Array) -> Array:
        c = {**fixed, **dict(zip(free, np.exp(x + start), strict=True))}
        return np.concatenate([np.log(predict(c, rows.columns)) - measured, PULL * x])

    # Steps of 2 % see through the rounding up to whole tiles; the wide loss first, so that a far start gets near.
    x = np.zeros(len(free))
    for scale in (10 * SCALE, SCALE):
        x = least_squares(
            lambda z: residuals(z - 1.0), x + 1.0, bounds=(low - start + 1.0, high - start + 1.0), loss="soft_l1",
            f_scale=scale, diff_step=0.02, max_nfev=80,
        ).x - 1.0  # fmt: skip
    fitted = dict(zip(free, np.exp(x + start), strict=True))
    return {name: float(f"{fitted.get(name, fixed.get(name)):.6g}") for name in bounds}


def enough(rows: Rows) -> bool:
    """Whether there are rows enough for a calibration."""
    return rows.seconds.size >= MIN_ROWS[rows.family]


def fit_rows(rows: Rows, device: Device, bounds: Mapping[str, Bounds], *, backward: bool, source: str) -> Fit:
    """Fit a family on seven tenths of its rows and score it on the others.

    ``bounds`` are :func:`processor_bounds` or :func:`gpu_bounds`; ``backward`` as for :func:`predictor`.

    Raises:
        MeasurementError: too few rows were timed.
    """
    if not enough(rows):
        raise MeasurementError(
            f"{rows.family}/{rows.number_format}: {rows.seconds.size} sizes were timed",
            f"a calibration needs at least {MIN_ROWS[rows.family]}",
            "give it more time (--seconds 80), or wait until the machine is less busy",
        )
    predict = predictor(rows.family, device, rows.number_format, backward=backward)
    return fit_scored(rows, predict, bounds, source=source)


def fit_scored(rows: Rows, predict: Predict, bounds: Mapping[str, Bounds], *, source: str) -> Fit:
    """Fit ``predict`` on seven tenths of the rows and score it on the others."""
    held = rows.held_out()
    fitted, scored = rows.take(~held), rows.take(held)
    coefficients = fit_coefficients(fitted, predict, bounds)
    ratio = scored.seconds / predict(coefficients, scored.columns)
    error = np.abs(1.0 / ratio - 1.0)
    low, high = interval(ratio)
    digits = lambda value: float(f"{value:.4g}")  # noqa: E731
    return Fit(
        family=rows.family, number_format=rows.number_format, coefficients=coefficients, kind="fitted", source=source,
        num_rows=fitted.seconds.size, num_held_out=scored.seconds.size,
        median_error=digits(np.median(error)) if error.size else 0.0,
        p90_error=digits(np.quantile(error, 0.9)) if error.size else 0.0, low=digits(low), high=digits(high),
        ranges={name: (float(v.min()), float(v.max())) for name, v in fitted.columns.items() if name != "layout"},
    )  # fmt: skip


def interval(ratio: Array) -> tuple[float, float]:
    """Multipliers that hold nine in ten fresh rows, from measured over predicted on held-out rows.

    Split-conformal on both tails (Vovk et al. 2005), which takes the extremes where there are fewer than 20 rows;
    with fewer than 5, half and twice.
    """
    if ratio.size < 5:
        return 0.5, 2.0
    rank = min(float(np.ceil((ratio.size + 1) * 0.95)) / ratio.size, 1.0)
    return float(np.quantile(ratio, 1.0 - rank)), float(np.quantile(ratio, rank))


def median_error(rows: Rows, device: Device, coefficients: Mapping[str, float]) -> float | None:
    """Median error of coefficients on rows that took no part in them; None without rows."""
    if rows.seconds.size == 0:
        return None
    predicted = predictor(rows.family, device, rows.number_format, backward=True)(coefficients, rows.columns)
    return float(np.median(np.abs(predicted / rows.seconds - 1.0)))
