"""One accelerator with its calibration, ready to price operators.

Decisions: every method takes scalars or arrays that broadcast and returns seconds; which fit prices what is chosen in
:mod:`shapewright.cost.choice`, and attention, scans, experts and power have rooms of their own beside this one.
A prediction is for a kernel inside a model: weights cold in memory. Of several measured kernels that can do the same
work the fastest is priced. At the level ``residual`` the physics is corrected by the measured kernels nearest to it
(:mod:`shapewright.cost.residual`), for products, attention, scans and experts; the evidence then says ``measured``.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from shapewright.cost import fourier, recurrence
from shapewright.cost.attention import BACKWARD, query_pairs
from shapewright.cost.bandwidth import pointwise_time
from shapewright.cost.choice import attention_fits, base_of, fit_of, most_measured, scan_fits
from shapewright.cost.collective import (
    FITTED_AS,
    KINDS,
    SCALE_OUT_DEPTH,
    SCALE_OUT_EFFICIENCY,
    SCALE_OUT_LAUNCH_S,
    collective_time,
)
from shapewright.cost.device import Device, device_of
from shapewright.cost.energy import Board
from shapewright.cost.families import family_of
from shapewright.cost.formats import FORMATS, kernel_format
from shapewright.cost.matmul import matmul_time
from shapewright.cost.price_attention import fused_attention
from shapewright.cost.price_experts import BACKWARD as EXPERTS_BACKWARD
from shapewright.cost.price_experts import expert_fits, experts_time, kernel_name
from shapewright.cost.price_power import Kernel, board_of, capped, kernel_joules, slowed
from shapewright.cost.price_scan import SCAN_BACKWARD, chunked_scan
from shapewright.cost.residual import MeasuredLevel, Residual, installed_tables
from shapewright.cost.transfer import StandIn, calibrated
from shapewright.cost.unique import price_unique
from shapewright.errors import NotCoveredError, UnknownNameError
from shapewright.hardware.accelerator import Accelerator
from shapewright.hardware.calibration import Calibration, Fit
from shapewright.hardware.cluster import Tier

Array = NDArray[np.float64]
Level = Literal["physics", "residual"]
LEVELS: tuple[Level, ...] = ("physics", "residual")
ASSUMED = {"lstm": recurrence.EVIDENCE, "fourier": fourier.EVIDENCE, "declared": recurrence.DECLARED}
"""Kinds of mixers whose physics has no calibration of its own per accelerator."""
CORRECTED = frozenset({"matmul", "attention", "attention_decode", "gdn", "kda", "mamba2", "moe"})
"""Families whose prices the level ``residual`` corrects."""
NARROW = frozenset({"fp8", "fp8_block", "nvfp4", "int8"})
"""Formats of a cache that is narrower than what is multiplied."""
USUAL_HEAD_DIM = 128.0
"""The head size whose fit speaks for attention as a whole."""


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
        return fit_of(self.calibration, family, number_format)

    def memory_fit(self, activations: str = "bytes") -> Fit:
        """The fit of memory-bound kernels for activations of a format, where there is one; else of bytes as such.

        Raises:
            NotCoveredError: no memory-bound kernel is calibrated here.
        """
        return self.calibration.get("memory", activations) or self.fit("memory", "bytes")

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
            seconds = self.corrected(seconds, fit, m=rows, n=columns, k=depth)
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
        distribution: Any = 0, matrices: Any = 3, kernel: str | None = None, backward: bool = False,
    ) -> Array:  # fmt: skip
        """Seconds of one rank's layer of experts: routing, grouped products, sum; sizes broadcast.

        ``inter`` is an expert's width on this rank, ``experts`` counts those of all ``ep`` ranks; see
        :func:`shapewright.cost.moe.moe_time`. ``kernel`` names a measured one (``vllm.triton``); None takes the
        fastest. ``backward`` gives the gradients' time.

        Raises:
            NotCoveredError: no such kernel is calibrated here, or the format has no published peak.
        """
        measured = expert_fits(self.calibration, number_format)
        kernels = tuple(fit for fit in measured if kernel in (None, kernel_name(fit)))
        if not kernels:
            have = ", ".join(sorted({kernel_name(fit) for fit in measured}))
            raise NotCoveredError(
                f"experts in {number_format} on {self.accelerator.name} have no kernel {kernel or 'measured'}",
                f"measured: {have or 'none'}", "choose another format or kernel",
            )  # fmt: skip
        device, fmt = self.device(number_format), kernel_format(number_format)
        sizes = (tokens, hidden, inter, topk, experts, ep, distribution, matrices)
        seconds = price_unique(
            lambda *flat: experts_time(kernels, device, fmt, self.corrected, *flat),
            *np.broadcast_arrays(*(np.asarray(x, np.float64) for x in sizes)),
        )
        if not np.isfinite(seconds).all():
            raise NotCoveredError(
                f"experts in {number_format} on {self.accelerator.name} have no kernel for this layer",
                "experts without a gate, or spread over ranks, were not measured in this format",
                "choose another number format",
            )
        return seconds * EXPERTS_BACKWARD if backward else seconds

    def attention(
        self, *, batch: Any, q_len: Any, kv_len: Any, heads: Any, kv_heads: Any, head_dim: Any, v_head_dim: Any,
        causal: Any = True, window: Any = None, number_format: str = "bf16", backward: bool = False,
        kernel: str | None = None,
    ) -> Array:  # fmt: skip
        """Seconds of fused attention; sizes broadcast. ``backward`` gives the gradient's time (measured ratio).

        ``number_format`` is that of the cached keys and values. ``kernel`` names a measured one
        (``vllm.flash_attn_fa3``); None takes the fastest.

        Raises:
            NotCoveredError: no such kernel was measured for one of the head sizes.
        """
        wide = np.inf if window is None else window
        # Rates of measured kernels count over the 16-bit peak, whatever the cache holds.
        device = self.device("bf16" if number_format in NARROW else number_format)
        width = kernel_format(number_format).weight_bytes
        columns = np.broadcast_arrays(
            *(
                np.asarray(x, np.float64)
                for x in (batch, q_len, kv_len, heads, kv_heads, head_dim, v_head_dim, wide)
            ),
            np.asarray(causal),
        )

        def price(*flat: NDArray) -> Array:
            seconds = fused_attention(
                self.calibration, device, number_format, width, self.corrected, *flat, kernel=kernel
            )
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
        trained: bool = False,
    ) -> Array:
        """Seconds of a linear recurrence (a kind of ``price_scan.SCAN_BACKWARD``) over whole sequences; sizes broadcast.

        Up to ``price_scan.STEP_TOKENS`` tokens are a decode step, bounded by its states. ``key_heads`` are the heads of
        queries and keys where several states share one; None for as many. ``backward`` gives the gradient's time by the
        measured ratio; with ``trained`` or ``backward`` only kernels that have a gradient count.
        """
        device = self.device("bf16" if "bf16" in self.accelerator.peak_flops else "fp32")
        shared = heads if key_heads is None else key_heads
        sizes = np.broadcast_arrays(batch, seq_len, heads, key_dim, value_dim, shared)
        seconds = chunked_scan(
            self.calibration, device, kind, self.corrected, *sizes, gradient=trained or backward
        )
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
        found = self.residual(fit) if base_of(fit) in CORRECTED else None
        if found is None:
            return fit
        return replace(
            fit, kind="measured", low=found.low, high=found.high, num_held_out=found.logs.size,
            median_error=found.median_error, p90_error=found.p90_error,
            source=f"{found.logs.size} measured kernels around the physics of: {fit.source}",
        )  # fmt: skip

    def _physics(self, family: str, number_format: str) -> Fit:
        if family == "scan":
            if number_format in ASSUMED:
                return ASSUMED[number_format]
            return most_measured(scan_fits(self.calibration, number_format, "scan"))
        if family in ("attention", "attention_decode"):
            return most_measured(
                attention_fits(self.calibration, family, number_format, USUAL_HEAD_DIM, windowed=False)
            )
        if family == "collective":
            number_format = FITTED_AS.get(number_format, number_format)
        return self.fit({"moe": "matmul"}.get(family, family), number_format)

    def residual(self, fit: Fit) -> Residual | None:
        """The measured kernels of a fit; None at the level of physics, and where the fit is a relative's."""
        if self.measured is None or fit.kind != "fitted":
            return None
        device = self.device(fit.number_format if family_of(fit.family).own_peak else "bf16")
        return self.measured.residual(fit, device, FORMATS.get(fit.number_format, FORMATS["bf16"]))

    def corrected(self, seconds: Array, fit: Fit, **columns: NDArray) -> Array:
        """``seconds`` of a fit's kernel at this model's level; ``columns`` are the sizes as the tables name them."""
        found = self.residual(fit)
        return seconds if found is None else seconds * found.factor(columns)

    def board(self) -> Board:
        """The board's power: fitted, or scaled from a relative's by the power per FLOP (derived).

        Raises:
            NotCoveredError: the board's power limit is unknown.
        """
        return board_of(self.accelerator, self.calibration)

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
        kernel = Kernel(
            seconds=seconds, flops=flops, num_bytes=num_bytes, number_format=number_format, kind=kind
        )
        return kernel_joules(self.accelerator, self.board(), self.device(number_format), kernel)

    def sustained(
        self, seconds: Array, flops: ArrayLike, num_bytes: ArrayLike, number_format: str, kind: str
    ) -> Array:
        """``seconds`` measured under the TDP, as they become under another ``power_cap``; unchanged without one."""
        cap = capped(self.accelerator)
        if cap is None:
            return seconds
        kernel = Kernel(
            seconds=seconds, flops=flops, num_bytes=num_bytes, number_format=number_format, kind=kind
        )
        return slowed(self.board(), self.device(number_format), kernel, cap)

    def interval(self, family: str, number_format: str) -> tuple[float, float]:
        """The 90 % interval of a single kernel's time as multipliers of the prediction.

        Raises:
            NotCoveredError: the family is not calibrated here.
        """
        fit = self.evidence(family, number_format)
        return fit.low, fit.high


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
