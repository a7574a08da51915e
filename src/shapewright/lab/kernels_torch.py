"""The kernels of a measurement in torch, on the processor or on a CUDA device.

Decisions: attention is the trainer's own; it and memory-bound kernels run forward and backward through autograd, as a
training step runs them, with its overhead; products run in the layouts of the three passes. 16-bit operands are 16-bit
tensors. fp8 products are ``torch._scaled_mm`` with a scale per tensor. On a CUDA device time is taken by events around
the repeats, which the stream runs back to back.
"""

from __future__ import annotations

import torch
from torch.nn import functional

from shapewright.architecture.shape import DeltaNet
from shapewright.lab.attend import attend
from shapewright.lab.cases import Case
from shapewright.lab.probe import Builder, Kernel, Timer, cpu_clock, wall_clock
from shapewright.lab.recurrent_layers import DeltaLayer

POOL = 2**24
"""Elements of the pool of operands on a processor; 16 times as many on a CUDA device."""
DTYPES = {"fp32": torch.float32, "tf32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}


class TorchKernels:
    """Builds kernels over one pool of numbers per format."""

    def __init__(self, device: str) -> None:
        self.device = torch.device(device)
        self.size = POOL * (16 if device == "cuda" else 1)
        self.pools: dict[str, torch.Tensor] = {}
        self.used = 0

    def take(self, number_format: str, *shape: int, grad: bool = False) -> torch.Tensor:
        """A window of the format's pool, each time another one."""
        if number_format not in self.pools:
            torch.manual_seed(0)
            pool = torch.randn(self.size, device=self.device) * 0.1
            self.pools[number_format] = pool.to(DTYPES[number_format])
        size = 1
        for extent in shape:
            size *= extent
        if size > self.size:
            raise MemoryError(f"{size} elements are more than the pool holds")
        start = self.used if self.used + size <= self.size else 0
        self.used = start + size
        return self.pools[number_format][start : start + size].view(shape).detach().requires_grad_(grad)

    def build(self, case: Case) -> Kernel:
        """The kernel of a case.

        Raises:
            TypeError: the format does not exist here.
        """
        if case.number_format == "fp8":
            return self._gemm_fp8(**case.named)
        if case.number_format not in DTYPES:
            raise TypeError(f"torch multiplies no {case.number_format}")
        built = getattr(self, f"_{case.kind}")(case.number_format, **case.named)
        return built if self.device.type == "cpu" else _with_tf32(built, case.number_format == "tf32")

    def _gemm(self, fmt: str, m: int, n: int, k: int, layout: int) -> Kernel:
        a = self.take(fmt, k, m).T if layout == 2 else self.take(fmt, m, k)
        b = self.take(fmt, n, k).T if layout == 0 else self.take(fmt, k, n)
        return lambda: a @ b

    def _gemm_fp8(self, m: int, n: int, k: int, layout: int) -> Kernel:
        if self.device.type != "cuda" or layout:
            raise TypeError("fp8 products run on CUDA devices, x w^T only")
        a, b = (self.take("bf16", rows, k).to(torch.float8_e4m3fn) for rows in (m, n))
        one = torch.ones((), device=self.device)
        return lambda: torch._scaled_mm(a, b.T, scale_a=one, scale_b=one, out_dtype=torch.bfloat16)  # pyright: ignore[reportPrivateImportUsage]

    def _attention(self, fmt: str, batch: int, heads: int, tokens: int, head_dim: int) -> Kernel:
        q, k, v = (self.take(fmt, batch, tokens, heads, head_dim, grad=True) for _ in range(3))
        g = self.take(fmt, batch, tokens, heads, head_dim)
        return lambda: _backward(attend(q, k, v), g, q, k, v)

    def _decode(self, fmt: str, batch: int, heads: int, keys: int, head_dim: int) -> Kernel:
        q = self.take(fmt, batch, heads, 1, head_dim)
        k, v = (self.take(fmt, batch, heads, keys, head_dim) for _ in range(2))
        return lambda: functional.scaled_dot_product_attention(q, k, v)

    def _delta(self, fmt: str, batch: int, heads: int, tokens: int, head_dim: int) -> Kernel:
        a = DeltaNet(key_heads=heads, value_heads=heads, key_dim=head_dim, value_dim=head_dim)
        layer = DeltaLayer(a, heads * head_dim).to(self.device)
        x = self.take(fmt, batch, tokens, sum(layer.sizes), grad=True)
        g = self.take(fmt, batch, tokens, heads * head_dim)
        return lambda: _backward(layer.mix(x), g, x, *layer.parameters())

    def _norm(self, fmt: str, tokens: int, width: int) -> Kernel:
        x, w, g = (
            self.take(fmt, tokens, width, grad=True),
            self.take(fmt, width, grad=True),
            self.take(fmt, tokens, width),
        )
        return lambda: _backward(functional.rms_norm(x, (width,), w), g, x, w)

    def _rotary(self, fmt: str, tokens: int, width: int) -> Kernel:
        x, g = self.take(fmt, tokens, width, grad=True), self.take(fmt, tokens, width)
        cos, sin = self.take(fmt, tokens, width // 2), self.take(fmt, tokens, width // 2)

        def kernel() -> None:
            a, b = x.chunk(2, -1)
            _backward(torch.cat((a * cos - b * sin, b * cos + a * sin), -1), g, x)

        return kernel

    def _residual(self, fmt: str, tokens: int, width: int) -> Kernel:
        x, y, g, h = (self.take(fmt, tokens, width) for _ in range(4))
        return lambda: (x + y, g + h)

    def _gated(self, fmt: str, tokens: int, width: int) -> Kernel:
        x, g = self.take(fmt, tokens, 2 * width, grad=True), self.take(fmt, tokens, width)

        def kernel() -> None:
            a, b = x.chunk(2, -1)
            _backward(functional.silu(a) * b, g, x)

        return kernel

    def _copy(self, fmt: str, bytes: int) -> Kernel:
        source = torch.ones(bytes // 8, device=self.device)
        target = torch.zeros_like(source)
        return lambda: target.copy_(source)

    def _overhead(self, fmt: str) -> Kernel:
        x, y = self.take(fmt, 8), self.take(fmt, 8)
        return lambda: x + y


def _backward(out: torch.Tensor, gradient: torch.Tensor, *leaves: torch.Tensor) -> None:
    out.backward(gradient)
    for leaf in leaves:
        leaf.grad = None


def _with_tf32(kernel: Kernel, allowed: bool) -> Kernel:
    def switched() -> object:
        torch.set_float32_matmul_precision("high" if allowed else "highest")
        return kernel()

    return switched


def event_clock(kernel: Kernel, repeats: int) -> tuple[float, float]:
    """Seconds of one call on the current CUDA stream, by events around ``repeats`` calls, twice."""
    start, end = torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)
    torch.cuda.synchronize()
    start.record()
    for _ in range(repeats):
        kernel()
    end.record()
    end.synchronize()
    seconds = start.elapsed_time(end) * 1e-3 / repeats
    return seconds, seconds


def library(backend: str, threads: int) -> tuple[str, Builder, Timer]:
    """Version, builder of kernels and timer."""
    if backend == "cuda":
        return f"torch {torch.__version__}", TorchKernels("cuda").build, event_clock
    torch.set_num_threads(threads)
    return f"torch {torch.__version__}", TorchKernels("cpu").build, cpu_clock if threads == 1 else wall_clock
