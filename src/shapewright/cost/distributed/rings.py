"""Ring attention as real kernels run it: pieces priced by the cost model, joined by passes over memory.

A step multiplies the queries of a device with one piece of keys and values. Plain order: a whole block or a triangle;
zigzag order: all queries with half a piece, or half the queries with a whole one. Joining a block to the others' result
is passes over memory: forward, the block's output is converted to fp32 (``2 + 4`` bytes an element) and joined to the
running one (``4 + 4 + 4``); backward, the gradients of queries, keys and values are added to sums in fp32 (``2 + 4 + 4``),
and the latter two travel with them. Keys and values go round forward; backward they and
their gradients in fp32 do. Reference: zhuzilin/ring-flash-attention.

Neglected: the launch of the point-to-point calls, and contention of copies with the kernels they overlap.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from shapewright.cost.distributed.attention import ring_attention, zigzag_attention
from shapewright.cost.price import CostModel

FORWARD_BYTES, BACKWARD_BYTES = 18.0, 10.0
"""Traffic per element of joining a block: output forward; each gradient backward [B]."""


@dataclass(frozen=True, kw_only=True, slots=True)
class RingLayer:
    """One causal attention layer with its sequence over a ring of devices, one sequence."""

    model: CostModel
    devices: int
    tokens: int
    """Tokens of each device."""
    heads: int
    kv_heads: int
    head_dim: int
    alpha: float
    """Latency of a message between neighbours [s]."""
    beta: float
    """Time of a byte between neighbours [s/B]."""

    def ideal(self, *, backward: bool) -> float:
        """An even share of the pairs at the speed of one device on its own tokens [s]."""
        return self.devices * self._kernel(self.tokens, self.tokens, causal=True, backward=backward)

    def seconds(self, order: Literal["ring", "zigzag"], *, backward: bool) -> float:
        """From the first device's start to the last one's end, one direction [s]."""
        p, n = self.devices, self.tokens
        elements = float(n * self.heads * self.head_dim)
        keys = 2.0 * n * self.kv_heads * self.head_dim
        joined = BACKWARD_BYTES * (elements + keys) if backward else FORWARD_BYTES * elements
        merge = float(self.model.pointwise(joined))
        # bf16 keys and values forward; with their fp32 gradients backward.
        moved = keys * (6.0 if backward else 2.0)
        if order == "ring":
            block = self._kernel(n, n, causal=False, backward=backward)
            form, work = ring_attention, block * p**2 / 2.0
        else:
            form = zigzag_attention
            halves = (self._kernel(n, n // 2, causal=False, backward=backward),
                      self._kernel(n // 2, n, causal=False, backward=backward))  # fmt: skip
            # The middle device sees as many steps of one kind as of the other, and starts with its own triangle.
            own = self._kernel(n, n, causal=True, backward=backward)
            work = p**2 * (own + (p - 1) * sum(halves) / 2.0) / p
        found = form(work, moved * p, elements * p, p, alpha=self.alpha, beta=self.beta, merge_s=merge)
        return float(found.seconds)

    def efficiency(self, order: Literal["ring", "zigzag"], *, backward: bool = True) -> float:
        """Ideal over predicted time; with ``backward`` of both directions together."""
        directions = (False, True) if backward else (False,)
        ideal = sum(self.ideal(backward=b) for b in directions)
        return ideal / sum(self.seconds(order, backward=b) for b in directions)

    def _kernel(self, q_len: int, kv_len: int, *, causal: bool, backward: bool) -> float:
        return float(
            self.model.attention(
                batch=1, q_len=q_len, kv_len=kv_len, heads=self.heads, kv_heads=self.kv_heads, head_dim=self.head_dim,
                v_head_dim=self.head_dim, causal=causal, backward=backward,
            )
        )  # fmt: skip
