"""The gated activation as one Triton kernel each way, for CUDA devices, in tiles that are chosen by measurement.

Decisions: torch runs ``silu(gate) * up`` as two kernels forward and five backward, over halves of one product that lie
apart; fused, each pass reads and writes every element once, which is all that this memory-bound work has to do. The tile
(elements of one program) changes the time and never the result; ``time_tiles`` times the candidates on the device, and
a layer keeps the one it was given. Arithmetic is in fp32, whatever the operands. On a processor the kernels run in Triton's
interpreter only, where the tests hold them against torch's autograd.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
import triton
import triton.language as tl
from torch import Tensor

TILES = (256, 512, 1024, 2048, 4096)
"""Elements of one program; all powers of two."""
TILE = 1024
"""Where nothing was timed."""
TIMED = 20


@triton.jit
def _forward(wide, out, width, TILE: tl.constexpr):
    row = tl.program_id(0).to(tl.int64)  # a batch may have more elements than 32 bits count
    columns = tl.program_id(1) * TILE + tl.arange(0, TILE)
    inside = columns < width
    gate = tl.load(wide + row * 2 * width + columns, mask=inside, other=0.0).to(tl.float32)
    up = tl.load(wide + row * 2 * width + width + columns, mask=inside, other=0.0).to(tl.float32)
    result = gate / (1.0 + tl.exp(-gate)) * up
    tl.store(out + row * width + columns, result.to(out.dtype.element_ty), mask=inside)


@triton.jit
def _backward(wide, gradient, out, width, TILE: tl.constexpr):
    row = tl.program_id(0).to(tl.int64)  # a batch may have more elements than 32 bits count
    columns = tl.program_id(1) * TILE + tl.arange(0, TILE)
    inside = columns < width
    gate = tl.load(wide + row * 2 * width + columns, mask=inside, other=0.0).to(tl.float32)
    up = tl.load(wide + row * 2 * width + width + columns, mask=inside, other=0.0).to(tl.float32)
    g = tl.load(gradient + row * width + columns, mask=inside, other=0.0).to(tl.float32)
    share = 1.0 / (1.0 + tl.exp(-gate))
    to_gate = g * up * share * (1.0 + gate * (1.0 - share))
    to_up = g * gate * share
    tl.store(out + row * 2 * width + columns, to_gate.to(out.dtype.element_ty), mask=inside)
    tl.store(out + row * 2 * width + width + columns, to_up.to(out.dtype.element_ty), mask=inside)


class _Gated(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, wide: Tensor, tile: int) -> Tensor:
        wide = wide.contiguous()
        rows, width = wide.numel() // wide.shape[-1], wide.shape[-1] // 2
        out = torch.empty(*wide.shape[:-1], width, dtype=wide.dtype, device=wide.device)
        launched: Any = _forward
        launched[(rows, triton.cdiv(width, tile))](wide, out, width, TILE=tile)
        ctx.save_for_backward(wide)
        ctx.tile = tile
        return out

    @staticmethod
    def backward(ctx: Any, *gradients: Any) -> tuple[Tensor, None]:
        (wide,) = ctx.saved_tensors
        rows, width = wide.numel() // wide.shape[-1], wide.shape[-1] // 2
        out = torch.empty_like(wide)
        _backward[(rows, triton.cdiv(width, ctx.tile))](
            wide, gradients[0].contiguous(), out, width, TILE=ctx.tile
        )
        return out, None


def gated(wide: Tensor, tile: int = TILE) -> Tensor:
    """``silu(gate) * up`` of ``wide`` (..., 2 f), gate first, to (..., f)."""
    return _Gated.apply(wide, tile)  # pyright: ignore[reportReturnType]


def time_tiles(
    rows: int, width: int, *, dtype: torch.dtype, device: str, tiles: Sequence[int] = TILES
) -> dict[int, float]:
    """Seconds of both passes by tile on a CUDA device."""
    wide = torch.randn(rows, 2 * width, dtype=dtype, device=device, requires_grad=True)
    gradient = torch.randn(rows, width, dtype=dtype, device=device)
    found: dict[int, float] = {}
    for tile in tiles:
        gated(wide, tile).backward(gradient)
        start, end = torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)
        torch.cuda.synchronize()
        start.record()
        for _ in range(TIMED):
            gated(wide, tile).backward(gradient)
        end.record()
        end.synchronize()
        found[tile] = start.elapsed_time(end) * 1e-3 / TIMED
    return found
