"""One accelerator with its calibration, ready to price operators.

Decisions: every method takes scalars or arrays that broadcast and returns seconds; families and formats without
a fit of their own use the nearest one of the same device (``FALLBACK``), never a guess about another family.
A prediction is for a kernel inside a model: weights cold in memory. Of several measured kernels that can do the same
work the fastest is priced. At the level ``residual`` the physics is corrected by the measured kernels nearest to it
(:mod:`shapewright.cost.residual`), for products, attention, scans and experts; the evidence then says ``measured``.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from shapewright.cost import fourier, recurrence
from shapewright.cost.attention import BACKWARD, decode_time, prefill_time, query_pairs
from shapewright.cost.bandwidth import pointwise_time
from shapewright.cost.collective import (
    FITTED_AS,
    KINDS,
    SCALE_OUT_DEPTH,
    SCALE_OUT_EFFICIENCY,
    SCALE_OUT_LAUNCH_S,
    collective_time,
)
from shapewright.cost.device import Device, device_of
from shapewright.cost.energy import Board, mean_power, slow_down, wanted_power
from shapewright.cost.families import BACKENDS, GROUPS, WIDE
from shapewright.cost.formats import FORMATS, kernel_format
from shapewright.cost.matmul import matmul_time
from shapewright.cost.moe import moe_time
from shapewright.cost.residual import MeasuredLevel, Residual, installed_tables
from shapewright.cost.scan import scan_time, stream_time
from shapewright.cost.transfer import StandIn, calibrated
from shapewright.cost.unique import price_unique
from shapewright.errors import NotCoveredError, UnknownNameError
from shapewright.hardware.accelerator import Accelerator
from shapewright.hardware.calibration import Calibration, Fit
from shapewright.hardware.cluster import Tier

Array = NDArray[np.float64]
Level = Literal["physics", "residual"]
LEVELS: tuple[Level, ...] = ("physics", "residual")
FALLBACK = {
    "fp16": ("bf16",), "tf32": ("bf16",), "fp32": ("bf16",), "fp8": ("bf16",), "fp8_block": ("fp8", "bf16"),
    "nvfp4": ("fp8", "bf16"), "int8": ("fp8", "bf16"), "int8_wo": ("bf16",), "int4_wo": ("int8_wo", "bf16"),
    "bytes": ("fp8",),
}  # fmt: skip
"""Which format's coefficients stand in, in order; they are ratios to the wanted format's own peak and bytes."""
SCAN_BACKWARD = {"delta": 2.75, "kda": 2.75, "rwkv7": 3.0, "gla": 3.35, "ssd": 2.3, "mlstm": 2.3}
"""Gradient of a chunked scan over its forward pass. Measured on GB200 (flash-linear-attention's README, forward and
forward with gradient): gated delta rule 1.265 and 4.738 ms, GLA 1.765 and 7.670, retention (scalar decay, as Mamba-2
and mLSTM have) .787 and 2.618. KDA is taken as the delta rule, RWKV-7 between it and GLA; assumed [1]."""
SCAN_FITS = {"delta": "gdn/scan", "kda": "kda/scan", "rwkv7": "kda/scan", "ssd": "mamba2/scan"}
"""Measured kernels of a kind of scan; the rest, and what is not measured here, borrow ``gdn/scan``."""
SCAN_WORK = {"rwkv7": 1.75}
"""FLOP of a chunk over those of the borrowed kernel's (see :class:`shapewright.architecture.operator.Scan`)."""
ASSUMED = {"lstm": recurrence.EVIDENCE, "fourier": fourier.EVIDENCE}
"""Kinds of mixers whose physics has no calibration of its own per accelerator."""
STEP_TOKENS = 16
"""Up to this many tokens per sequence the state is read and written once (decode); more is a chunked scan."""
USUAL_HEAD_DIM = 128.0
"""The head size whose fit speaks for attention as a whole."""
DECODE_QUERIES = 16
"""Up to this many queries per sequence a kernel splits the keys (decode); more is prefill."""


@dataclass(frozen=True, kw_only=True, slots=True)
class CostModel:
    """One accelerator with its calibration."""

    accelerator: Accelerator
    calibration: Calibration
    stand_in: StandIn = field(default_factory=StandIn)
    """Numbers of a relative in place of those nobody published for this accelerator."""
    measured: MeasuredLevel | None = None
    """The measured kernels that correct the physics; None at the level ``physics``."""

    def fit(self, family: str, number_format: str) -> Fit:
        """The fit that prices a family in a format, its own or the fallback.

        Raises:
            NotCoveredError: neither exists.
        """
        for name in (number_format, *FALLBACK.get(number_format, ())):
            for fit in self.calibration.fits:
                if fit.family == family and fit.number_format == name:
                    return fit
        return self.calibration.find(family, number_format)

    def memory_fit(self, activations: str = "bytes") -> Fit:
        """The fit of memory-bound kernels for activations of a format, where there is one; else of bytes as such.

        Raises:
            NotCoveredError: no memory-bound kernel is calibrated here.
        """
        for fit in self.calibration.fits:
            if fit.family == "memory" and fit.number_format == activations:
                return fit
        return self.fit("memory", "bytes")

    def attention_fit(self, family: str, number_format: str, head_dim: float, windowed: bool) -> Fit:
        """The fit of the attention kernel of a head size; of the nearest size where that one was not measured.

        Of several backends' kernels, that with the most measured rows.

        Raises:
            NotCoveredError: no attention kernel is calibrated here.
        """
        return max(
            self.attention_fits(family, number_format, head_dim, windowed), key=lambda fit: fit.num_rows
        )

    def attention_fits(
        self, family: str, number_format: str, head_dim: float, windowed: bool
    ) -> tuple[Fit, ...]:
        """The fits of all backends' kernels of a head size, or of the nearest size.

        Raises:
            NotCoveredError: no attention kernel is calibrated here.
        """
        formats = (number_format, *FALLBACK.get(number_format, ()))

        def distance(fit: Fit) -> tuple[int, float, bool]:
            size = fit.family.partition("/")[2].partition(".")[0]
            place = formats.index(fit.number_format) if fit.number_format in formats else len(formats)
            gap = abs(math.log(max(head_dim, 1.0) / float(size.rstrip("w")))) if size else 0.0
            return place, gap, size.endswith("w") != windowed

        fits = [fit for fit in self.calibration.fits if fit.family.partition("/")[0] == family]
        if not fits:
            return (self.calibration.find(family, number_format),)
        nearest = min(map(distance, fits))
        return tuple(fit for fit in fits if distance(fit) == nearest)

    def device(self, number_format: str) -> Device:
        """The nominal numbers for a format."""
        return device_of(
            self.accelerator, number_format, slots=self.stand_in.slots, cache=self.stand_in.cache
        )

    def matmul(self, m: ArrayLike, n: ArrayLike, k: ArrayLike, number_format: str) -> Array:
        """Seconds of one product ``[m, k] x [k, n]``; sizes broadcast, each distinct product is priced once."""
        fit, device, fmt = (
            self.fit("matmul", number_format),
            self.device(number_format),
            kernel_format(number_format),
        )

        def price(*mnk: NDArray) -> Array:
            rows, columns, depth = mnk
            seconds = matmul_time(fit.coefficients, device, fmt, rows, columns, depth)
            seconds = self._corrected(seconds, fit, m=rows, n=columns, k=depth)
            size = (rows * fmt.activation_bytes + columns * fmt.weight_bytes) * depth + 2.0 * rows * columns
            return self.sustained(seconds, 2.0 * rows * columns * depth, size, number_format, "matmul")

        return price_unique(price, m, n, k)

    def grouped_matmul(
        self,
        tokens: ArrayLike,
        experts: ArrayLike,
        topk: ArrayLike,
        n: ArrayLike,
        k: ArrayLike,
        number_format: str,
    ) -> Array:
        """Seconds of ``tokens * topk`` rows spread evenly over the ``experts`` weights of ``k x n`` held here."""
        rows = np.asarray(tokens, np.float64) * np.asarray(topk, np.float64)
        experts = np.asarray(experts, np.float64)
        # One launch; each touched expert is a product of its own rows, and together they fill the device.
        touched = np.maximum(np.minimum(experts, rows), 1.0)
        return self.matmul(np.ceil(rows / touched), np.asarray(n) * touched, k, number_format)

    def experts(
        self, *, tokens: Any, hidden: Any, inter: Any, topk: Any, experts: Any, number_format: str, ep: Any = 1,
        distribution: Any = 0, matrices: Any = 3, kernel: str | None = None,
    ) -> Array:  # fmt: skip
        """Seconds of one rank's layer of experts, forward: routing, grouped products, sum; sizes broadcast.

        ``inter`` is an expert's width on this rank, ``experts`` counts those of all ``ep`` ranks; see
        :func:`shapewright.cost.moe.moe_time`. ``kernel`` names a measured one (``vllm.triton``); None takes the
        fastest.

        Raises:
            NotCoveredError: no such kernel is calibrated here, or the format has no published peak.
        """
        kernels = [fit for fit in self._expert_fits(number_format) if kernel in (None, _kernel_name(fit))]
        if not kernels:
            have = sorted({_kernel_name(fit) for fit in self._expert_fits(number_format)})
            raise NotCoveredError(
                f"experts in {number_format} on {self.accelerator.name} have no kernel {kernel or 'measured'}",
                f"measured: {', '.join(have) or 'none'}", "choose another format or kernel",
            )  # fmt: skip
        device, fmt = self.device(number_format), kernel_format(number_format)
        sizes = np.broadcast_arrays(
            *(
                np.asarray(x, np.float64)
                for x in (tokens, hidden, inter, topk, experts, ep, distribution, matrices)
            )
        )

        def price(*flat: NDArray) -> Array:
            best = np.full(flat[0].size, np.inf)
            for fit in kernels:
                shape = fit.family.partition("/")[2].partition(".")[0]
                served = (flat[5] > 1) == shape.startswith("parted")
                served &= (flat[7] < 3) == shape.endswith("_plain")
                t, d, f, top, e, p, kind, num = (column[served] for column in flat)
                if t.size:
                    seconds = moe_time(
                        fit.coefficients, device, fmt, tokens=t, hidden=d, inter=f, topk=top, experts=e, ep=p,
                        distribution=kind, matrices=num,
                    )  # fmt: skip
                    seconds = self._corrected(
                        seconds, fit, num_tokens=t, hidden_size=d, inter_size=f, topk=top, num_experts=e,
                        moe_tp_size=np.ones_like(t), moe_ep_size=p, distribution=kind,
                    )  # fmt: skip
                    best[served] = np.minimum(best[served], seconds)
            return best

        seconds = price_unique(price, *sizes)
        if not np.isfinite(seconds).all():
            raise NotCoveredError(
                f"experts in {number_format} on {self.accelerator.name} have no kernel for this layer",
                "experts without a gate, or spread over ranks, were not measured in this format",
                "choose another number format",
            )
        return seconds

    def _expert_fits(self, number_format: str) -> list[Fit]:
        fits = [fit for fit in self.calibration.fits if fit.family.startswith("moe/")]
        for name in (number_format, *FALLBACK.get(number_format, ())):
            found = [fit for fit in fits if fit.number_format == name]
            if found:
                return found
        return []

    def attention(
        self, *, batch: Any, q_len: Any, kv_len: Any, heads: Any, kv_heads: Any, head_dim: Any, v_head_dim: Any,
        causal: Any = True, window: Any = None, number_format: str = "bf16", backward: bool = False,
    ) -> Array:  # fmt: skip
        """Seconds of fused attention; sizes broadcast. ``backward`` gives the gradient's time (measured ratio)."""
        wide = np.inf if window is None else window
        device = self.device(number_format)
        width = kernel_format(number_format).weight_bytes
        columns = np.broadcast_arrays(
            *(
                np.asarray(x, np.float64)
                for x in (batch, q_len, kv_len, heads, kv_heads, head_dim, v_head_dim, wide)
            ),
            np.asarray(causal),
        )

        def price(*flat: NDArray) -> Array:
            seconds = np.empty(flat[0].size)
            few, narrow = flat[1] <= DECODE_QUERIES, flat[7] < flat[2]
            share = flat[3] / flat[4]
            group = np.where(few, np.where(share == 1, 1, np.where(share > WIDE, 2, 0)), 0)
            # One kernel per head size, windowed or not, prefill or decode; few distinct ones occur.
            for head, windowed, decode, size in sorted(
                {*zip(flat[5].tolist(), narrow.tolist(), few.tolist(), group.tolist(), strict=True)}
            ):
                rows = (flat[5] == head) & (narrow == windowed) & (few == decode) & (group == size)
                b, q, kv, h, g, hd, vd, w, c = (column[rows] for column in flat)
                sizes: dict[str, Any] = dict(
                    batch=b, q_len=q, kv_len=kv, heads=h, kv_heads=g, head_dim=hd, v_head_dim=vd, window=w
                )
                shape = dict(batch_size=b, num_heads=h, num_key_value_heads=g, head_dim=hd)
                shape["window_size"] = np.where(np.isfinite(w) & windowed, w, 0.0)
                if decode:
                    fits = self.attention_fits("attention_decode", number_format, head, windowed)
                    serving = [fit for fit in fits if _serves(fit, size)]
                    times = [
                        self._corrected(
                            decode_time(fit.coefficients, device, kv_bytes=width, **sizes),
                            fit,
                            step=kv - 1.0,
                            **shape,
                        )
                        for fit in serving or fits
                    ]
                    seconds[rows] = np.min(times, axis=0)
                else:
                    fit = self.attention_fit("attention", number_format, head, windowed)
                    causal = c.astype(bool)
                    taken = prefill_time(fit.coefficients, device, causal=causal, kv_bytes=width, **sizes)
                    # Only causal attention over a whole sequence was measured.
                    known = causal & (q == kv)
                    seconds[rows] = np.where(known, self._corrected(taken, fit, isl=q, **shape), taken)
            b, q, kv, h, g, hd, vd, w, c = flat
            flops = 2.0 * b * h * query_pairs(q, kv, c.astype(bool), w) * (hd + vd)
            size = b * (q * h + kv * g) * (hd + vd) * width
            return self.sustained(seconds, flops, size, number_format, "attention")

        seconds = price_unique(price, *columns)
        return seconds * BACKWARD if backward else seconds

    def scan(
        self,
        *,
        kind: str,
        batch: Any,
        seq_len: Any,
        heads: Any,
        key_dim: Any,
        value_dim: Any,
        key_heads: Any = None,
        backward: bool = False,
    ) -> Array:
        """Seconds of a linear recurrence (a kind of :data:`SCAN_BACKWARD`) over whole sequences; sizes broadcast.

        Up to :data:`STEP_TOKENS` tokens are a decode step, bounded by its states. ``key_heads`` are the heads of
        queries and keys where several states share one; None for as many. ``backward`` gives the gradient's time by
        the measured ratio. All kinds cut the sequence into chunks, so one without measurements here borrows the span
        of another.
        """
        fit, step = self._physics("scan", kind), self._step_fit(kind)
        device = self.device("bf16" if "bf16" in self.accelerator.peak_flops else "fp32")
        work = SCAN_WORK.get(kind, 1.0)

        def price(*flat: NDArray) -> Array:
            b, t, h, dk, dv, g = flat
            state = 8.0 * b * h * dk * dv + 2.0 * b * t * (2.0 * g * dk + 2.0 * h * dv)
            few = stream_time(step.coefficients, device, num_bytes=state, units=b * h)
            taken = work * scan_time(
                fit.coefficients,
                device,
                sequences=b,
                length=t,
                heads=h,
                key_dim=dk,
                value_dim=dv,
                key_heads=g,
            )
            taken = self._corrected(
                taken,
                fit,
                batch_size=b,
                seq_len=t,
                num_k_heads=g,
                head_k_dim=dk,
                num_v_heads=h,
                head_v_dim=dv,
            )
            return np.where(t <= STEP_TOKENS, few, taken)

        shared = heads if key_heads is None else key_heads
        sizes = np.broadcast_arrays(batch, seq_len, heads, key_dim, value_dim, shared)
        seconds = price_unique(price, *sizes)
        return seconds * SCAN_BACKWARD[kind] if backward else seconds

    def recurrence(
        self, *, batch: Any, seq_len: Any, units: Any, gates: Any, heads: Any = 1, backward: bool = False
    ) -> Array:
        """Seconds of a recurrence that waits for a product at every token (LSTM, sLSTM); sizes broadcast."""
        device = self.device("bf16" if "bf16" in self.accelerator.peak_flops else "fp32")
        seconds = recurrence.recurrence_time(
            device, self.accelerator, batch=batch, steps=seq_len, units=units, gates=gates, heads=heads
        )
        return seconds * recurrence.BACKWARD if backward else seconds

    def fourier(self, *, sequences: Any, length: Any, backward: bool = False) -> Array:
        """Seconds of ``sequences`` convolutions as long as the sequence, in a fused kernel; sizes broadcast."""
        device = self.device("bf16" if "bf16" in self.accelerator.peak_flops else "fp32")
        seconds = fourier.fused_time(device, self.accelerator, sequences=sequences, length=length)
        return seconds * fourier.BACKWARD if backward else seconds

    def _step_fit(self, kind: str) -> Fit:
        have = {fit.family for fit in self.calibration.fits}
        wanted = SCAN_FITS.get(kind, "gdn/scan").replace("/scan", "/recurrent")
        return self.fit(wanted if wanted in have else "gdn/recurrent", "bf16")

    def pointwise(self, num_bytes: ArrayLike, activations: str = "bytes") -> Array:
        """Seconds of a kernel bounded by its ``num_bytes`` of memory traffic, its launch included.

        A processor moves bytes of different formats at different rates: ``activations`` names their format, and is
        used where such a fit exists.
        """
        number_format = "bf16" if {"bf16", "fp16"} & set(self.accelerator.peak_flops) else "fp32"
        seconds = pointwise_time(
            self.memory_fit(activations).coefficients, self.device(number_format), num_bytes
        )
        return self.sustained(seconds, np.zeros(seconds.shape), num_bytes, number_format, "memory")

    def collective(self, kind: str, num_bytes: ArrayLike, group_size: int, tier: Tier) -> Array:
        """Seconds of a collective over ``group_size`` devices of ``tier``.

        ``num_bytes`` is the full tensor: what every device holds before an ``all_reduce`` or ``reduce_scatter`` and
        after an ``all_gather``; for ``all_to_all`` the sum of what all devices hold; for ``send`` the message.
        """
        if kind not in KINDS:
            raise UnknownNameError("collective", kind, KINDS)
        coefficients: Mapping[str, float] = self.fit("collective", FITTED_AS.get(kind, kind)).coefficients
        if tier.role != "scale_up":
            coefficients = {
                **coefficients, "hop_s": tier.latency.value, "efficiency": SCALE_OUT_EFFICIENCY, "shared": 0.4,
                "depth": SCALE_OUT_DEPTH, "launch_s": SCALE_OUT_LAUNCH_S,
            }  # fmt: skip
        return collective_time(coefficients, kind, num_bytes, group_size, tier.bandwidth.value)

    def evidence(self, family: str, number_format: str) -> Fit:
        """The fit behind a family's prices; for attention that of the usual head size.

        At the level ``residual`` its kind is ``measured``, its interval that of the corrected prediction, and its
        ranges say between which sizes kernels were measured; outside them the physics stands alone.

        Raises:
            NotCoveredError: the family is not calibrated here.
        """
        fit = self._physics(family, number_format)
        found = self._residual(fit)
        if found is None:
            return fit
        return replace(
            fit, kind="measured", low=found.low, high=found.high,
            source=f"{found.logs.size} measured kernels around the physics of: {fit.source}",
        )  # fmt: skip

    def _physics(self, family: str, number_format: str) -> Fit:
        if family == "scan":
            have = {fit.family for fit in self.calibration.fits}
            if number_format in ASSUMED:
                return ASSUMED[number_format]
            wanted = SCAN_FITS.get(number_format, "gdn/scan")
            return self.fit(wanted if wanted in have else "gdn/scan", "bf16")
        if family in ("attention", "attention_decode"):
            return self.attention_fit(family, number_format, USUAL_HEAD_DIM, windowed=False)
        return self.fit({"moe": "matmul"}.get(family, family), number_format)

    def _residual(self, fit: Fit) -> Residual | None:
        """The measured kernels of a fit; None at the level of physics, and where the fit is a relative's."""
        if self.measured is None or fit.kind != "fitted":
            return None
        own = fit.family.partition("/")[0] in ("matmul", "moe")
        device = self.device(fit.number_format if own else "bf16")
        return self.measured.residual(fit, device, FORMATS.get(fit.number_format, FORMATS["bf16"]))

    def _corrected(self, seconds: Array, fit: Fit, **columns: NDArray) -> Array:
        found = self._residual(fit)
        return seconds if found is None else seconds * found.factor(columns)

    def board(self) -> Board:
        """The board's power: fitted, or scaled from a relative's by the power per FLOP (derived).

        Raises:
            NotCoveredError: the board's power limit is unknown.
        """
        if self.accelerator.tdp is None:
            raise NotCoveredError(
                f"{self.accelerator.name} has no published TDP",
                "power is counted relative to it",
                "give one: --set tdp=700W",
            )
        fit, limit = self.calibration.find("energy", "board"), self.accelerator.tdp.value
        if fit.kind == "fitted":
            return Board(limit=fit.ranges["power_limit_w"][0], coefficients=fit.coefficients)
        return Board(limit=limit, coefficients=fit.coefficients)

    def joules(
        self,
        *,
        seconds: ArrayLike,
        flops: ArrayLike,
        num_bytes: ArrayLike,
        number_format: str,
        kind: str = "matmul",
    ) -> Array:
        """Energy of a kernel that takes ``seconds`` [J]: mean board power times its time.

        ``kind`` is ``matmul``, ``attention``, ``attention_decode``, ``moe``, ``scan`` or ``memory``. The power limit in
        force is the accelerator's ``power_cap``, or its TDP.

        Raises:
            NotCoveredError: no power was fitted here or on a relative, or the TDP is unknown.
        """
        board, cap = self.board(), self.accelerator.power_cap
        wanted = self._wanted(board, seconds, flops, num_bytes, number_format, kind)
        return mean_power(board, wanted, cap.value if cap is not None else None) * np.asarray(
            seconds, np.float64
        )

    def sustained(
        self, seconds: Array, flops: ArrayLike, num_bytes: ArrayLike, number_format: str, kind: str
    ) -> Array:
        """``seconds`` measured under the TDP, as they become under a lower ``power_cap``; unchanged without one."""
        cap, tdp = self.accelerator.power_cap, self.accelerator.tdp
        if cap is None or tdp is None or cap.value >= tdp.value:
            return seconds
        board = self.board()
        wanted = self._wanted(board, seconds, flops, num_bytes, number_format, kind)
        return seconds * slow_down(board, wanted, cap.value)

    def _wanted(
        self,
        board: Board,
        seconds: ArrayLike,
        flops: ArrayLike,
        num_bytes: ArrayLike,
        number_format: str,
        kind: str,
    ) -> Array:
        device, t = self.device(number_format), np.asarray(seconds, np.float64)
        return wanted_power(
            board,
            flop_rate=np.asarray(flops, np.float64) / t / device.peak,
            byte_rate=np.asarray(num_bytes, np.float64) / t / device.bandwidth,
            number_format=number_format,
            kind=kind,
        )

    def interval(self, family: str, number_format: str) -> tuple[float, float]:
        """The 90 % interval of a single kernel's time as multipliers of the prediction.

        Raises:
            NotCoveredError: the family is not calibrated here.
        """
        fit = self.evidence(family, number_format)
        return fit.low, fit.high


def _kernel_name(fit: Fit) -> str:
    """Backend and library of an expert kernel's fit: ``vllm.triton`` of ``moe/whole_plain.vllm.triton``."""
    return fit.family.partition(".")[2]


def _serves(fit: Fit, group: int) -> bool:
    """Whether a decode kernel serves groups of query heads of this size (see ``families.GROUPS``)."""
    backend = fit.family.partition(".")[2]
    return backend in BACKENDS[:2] or not backend or backend == f"trtllm{GROUPS[group]}"


def cost_model(accelerator: Accelerator, level: Level = "physics") -> CostModel:
    """The cost model of an accelerator: its shipped calibration, or one transferred from its nearest relative.

    ``level`` ``residual`` corrects the physics by measured kernels where the accelerator has any.

    Raises:
        UnknownNameError: there is no such level.
        NotCoveredError: the level is ``residual`` and the measured tables are not installed.
        NotCoveredError: it has no memory bandwidth or no peak in a 16 or 32-bit format.
    """
    if accelerator.memory_bandwidth is None or not {"bf16", "fp16", "fp32", "tf32"} & set(
        accelerator.peak_flops
    ):
        raise NotCoveredError(
            f"{accelerator.name} cannot be priced",
            "a peak in bf16, fp16 or fp32 and a memory bandwidth are needed",
            "give them: --set memory_bandwidth=2TB/s --set peak_flops.bf16=100TFLOP/s",
        )
    if level not in LEVELS:
        raise UnknownNameError("level", level, LEVELS)
    calibration, stand_in = calibrated(accelerator)
    measured = MeasuredLevel(tables=installed_tables(accelerator.name)) if level == "residual" else None
    return CostModel(accelerator=accelerator, calibration=calibration, stand_in=stand_in, measured=measured)
