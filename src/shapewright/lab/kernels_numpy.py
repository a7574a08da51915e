"""The kernels of a measurement in NumPy: what the core's own dependencies can time.

Decisions: fp32 only (NumPy has no other product that training uses). Memory-bound kernels and attention are
written as a framework without fusion runs them, forward only; their backward pass is priced by the counted
traffic. The residual is two additions, as the backward pass adds two gradients.
"""

from __future__ import annotations

import numpy as np

from shapewright.lab.cases import Case
from shapewright.lab.probe import Builder, Kernel, Timer, cpu_clock, wall_clock

POOL = 2**24
"""Elements of the pool of operands."""


class NumpyKernels:
    """Builds kernels over one pool of numbers."""

    def __init__(self) -> None:
        self.pool = np.random.default_rng(0).standard_normal(POOL, dtype=np.float32) * np.float32(0.1)
        self.used = 0

    def take(self, *shape: int) -> np.ndarray:
        """A window of the pool, each time another one."""
        size = int(np.prod(shape))
        start = self.used if self.used + size <= POOL else 0
        self.used = start + size
        if size > POOL:
            raise MemoryError(f"{size} elements are more than the pool holds")
        return self.pool[start : start + size].reshape(shape)

    def build(self, case: Case) -> Kernel:
        """The kernel of a case.

        Raises:
            TypeError: the format is not fp32.
        """
        if case.number_format != "fp32":
            raise TypeError(f"numpy multiplies no {case.number_format}")
        return getattr(self, f"_{case.kind}")(**case.named)

    def _gemm(self, m: int, n: int, k: int, layout: int) -> Kernel:
        a = self.take(k, m).T if layout == 2 else self.take(m, k)
        b = self.take(n, k).T if layout == 0 else self.take(k, n)
        return lambda: a @ b

    def _attention(self, batch: int, heads: int, tokens: int, head_dim: int) -> Kernel:
        q, k, v = (self.take(batch, heads, tokens, head_dim) for _ in range(3))
        mask = np.triu(np.full((tokens, tokens), -np.inf, np.float32), 1)
        return lambda: _softmax(q @ k.transpose(0, 1, 3, 2) + mask) @ v

    def _decode(self, batch: int, heads: int, keys: int, head_dim: int) -> Kernel:
        q = self.take(batch, heads, 1, head_dim)
        k, v = (self.take(batch, heads, keys, head_dim) for _ in range(2))
        return lambda: _softmax(q @ k.transpose(0, 1, 3, 2)) @ v

    def _norm(self, tokens: int, width: int) -> Kernel:
        x, w = self.take(tokens, width), self.take(width)
        return lambda: x * (1.0 / np.sqrt(np.mean(x * x, axis=-1, keepdims=True) + np.float32(1e-5))) * w

    def _rotary(self, tokens: int, width: int) -> Kernel:
        x, cos, sin = self.take(tokens, width), self.take(tokens, width // 2), self.take(tokens, width // 2)
        a, b = x[:, : width // 2], x[:, width // 2 :]
        return lambda: np.concatenate((a * cos - b * sin, b * cos + a * sin), axis=-1)

    def _residual(self, tokens: int, width: int) -> Kernel:
        x, y, g, h = (self.take(tokens, width) for _ in range(4))
        return lambda: (x + y, g + h)

    def _gated(self, tokens: int, width: int) -> Kernel:
        x = self.take(tokens, 2 * width)
        a, b = x[:, :width], x[:, width:]
        return lambda: a / (1 + np.exp(-a)) * b

    def _copy(self, bytes: int) -> Kernel:
        source = np.ones(bytes // 8, np.float32)
        target = np.zeros_like(source)
        return lambda: np.copyto(target, source)

    def _overhead(self) -> Kernel:
        x, y = self.take(8), self.take(8)
        return lambda: x + y


def _softmax(scores: np.ndarray) -> np.ndarray:
    weights = np.exp(scores - scores.max(axis=-1, keepdims=True))
    return weights / weights.sum(axis=-1, keepdims=True)


def library(threads: int) -> tuple[str, Builder, Timer]:
    """Version, builder of kernels and timer."""
    return f"numpy {np.__version__}", NumpyKernels().build, cpu_clock if threads == 1 else wall_clock
