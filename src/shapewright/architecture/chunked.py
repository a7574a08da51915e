"""What a linear recurrence computes chunk by chunk, by the kind of its transition.

FLOP per token and head, with chunks of C tokens, keys of k and values of v:

- ``delta`` and ``kda`` (delta rule, arXiv 2412.06464 and 2510.26692): 6 C k + 4 C v + 2 C^2 / 3 + 6 k v. Products of keys
  with keys and with queries, the triangular inverse and the two products with it, values, three with the state.
- ``rwkv7`` (diagonal and rank-one transition, arXiv 2503.14456): 10 C k + 8 C v + 2 C^2 / 3 + 8 k v. Four score matrices of
  two pairs of vectors, the inverse, three products with it, two outputs, four with the state.
- ``ssd`` (Mamba-2, arXiv 2405.21060), ``gla`` (arXiv 2312.06635) and ``mlstm`` (arXiv 2503.13427): 2 C k g / h + 2 C v + 4 k
  v, where the h heads share g groups of keys.

Gates, decays and normalisers are neglected. Sizes are numbers or arrays that broadcast.
"""

from __future__ import annotations

from typing import Any


def chunk_flops(kind: str, chunk: Any, key_dim: Any, value_dim: Any, shared: Any) -> Any:
    """FLOP per token and head; ``shared`` is the number of groups of keys over that of heads."""
    c, k, v = chunk, key_dim, value_dim
    if kind in ("delta", "kda"):
        return 6.0 * c * k + 4.0 * c * v + 2.0 * c**2 / 3.0 + 6.0 * k * v
    if kind == "rwkv7":
        return 10.0 * c * k + 8.0 * c * v + 2.0 * c**2 / 3.0 + 8.0 * k * v
    return 2.0 * c * k * shared + 2.0 * c * v + 4.0 * k * v


def transition(kind: str, key_dim: Any) -> Any:
    """Elements per head that say what becomes of an earlier state.

    A scalar decay is one number, a decay per channel one per key channel, the delta rule a matrix over the keys.
    """
    return {"delta": key_dim**2, "kda": key_dim**2, "rwkv7": key_dim**2, "gla": key_dim}.get(kind, 1)
