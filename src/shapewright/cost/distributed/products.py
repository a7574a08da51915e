"""Matrix products ``[m, k] x [k, n]`` over P devices: 1D, 2D (Cannon), 2.5D and 3D, and how little they can send.

Words a device sends, square n x n matrices, p = P^(1/3)::

    1D    (P-1)/P n^2                 2.5D  2 n^2 / sqrt(c P) + 3 (c-1) n^2 / P, c copies
    2D    2 n^2 / sqrt(P)             3D    3 n^2 (1 - 1/p) / P^(2/3)      equals the bound

References: Cannon 1969; Solomonik and Demmel 2011 (2.5D); Agarwal et al. 1995 (3D); bounds: Irony, Toledo and Tiskin 2004,
doi 10.1016/j.jpdc.2004.03.021 (with memory M), Al Daas et al. 2022, arXiv 2205.13407 (any memory).
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike

from shapewright.cost.distributed.form import Array, Form, check_devices, check_split, floats


def products_bound(
    m: ArrayLike,
    n: ArrayLike,
    k: ArrayLike,
    devices: ArrayLike,
    *,
    word: float = 2.0,
    memory: ArrayLike = np.inf,
) -> Array:
    """Bytes that some device must send or receive [B]; ``memory`` is what a device can hold [B].

    Three regimes by the shape (arXiv 2205.13407, theorem 3): few devices keep the smallest matrix everywhere, more
    cut two dimensions, most cut all three. With little memory the older bound is the higher one.
    """
    m, n, k, p, held = floats(m, n, k, devices, memory)
    large, middle, small = np.sort(np.stack([m, n, k]), axis=0)[::-1]
    one = (large * middle + large * small) / p + middle * small
    two = 2.0 * np.sqrt(large * middle * small**2 / p) + large * middle / p
    three = 3.0 * (large * middle * small / p) ** (2.0 / 3.0)
    touched = np.where(p <= large / middle, one, np.where(p <= large * middle / small**2, two, three))
    # What a device needs beyond its even share of the three matrices.
    any_memory = touched - (m * k + k * n + m * n) / p
    held = held / word
    with np.errstate(invalid="ignore"):
        little = m * n * k / (2.0 * np.sqrt(2.0) * p * np.sqrt(held)) - held
    return np.maximum(np.maximum(any_memory, np.where(np.isfinite(held), little, 0.0)), 0.0) * word


def product_1d(
    m: ArrayLike, n: ArrayLike, k: ArrayLike, devices: ArrayLike, *, alpha: ArrayLike, beta: ArrayLike,
    rate: ArrayLike, word: float = 2.0, overlap: bool = False,
) -> Form:  # fmt: skip
    """Rows of the first matrix stay, the second goes round a ring; ``rate`` is FLOP/s of one device.

    With ``overlap`` each block is multiplied while the next one travels.

    Raises:
        UsageError: more devices than rows.
    """
    check_split(devices, m, "the rows of a 1D product")
    m, n, k, p, alpha, beta, rate = floats(m, n, k, devices, alpha, beta, rate)
    work = 2.0 * m * n * k / (p * rate)
    block = k * n / p * word
    hop = alpha + beta * block
    seconds = work / p + (p - 1) * np.maximum(hop, work / p) if overlap else work + (p - 1) * hop
    return Form(name="1D", seconds=seconds, compute_s=work, sent_bytes=(p - 1) * block, messages=p - 1,
                held_bytes=(m * k + m * n) / p * word + 2.0 * block,
                bound_bytes=products_bound(m, n, k, p, word=word))  # fmt: skip


def product_2d(
    m: ArrayLike, n: ArrayLike, k: ArrayLike, devices: ArrayLike, *, alpha: ArrayLike, beta: ArrayLike,
    rate: ArrayLike, word: float = 2.0, overlap: bool = False,
) -> Form:  # fmt: skip
    """Cannon's algorithm on a square grid: both matrices are skewed once, then shifted sqrt(P) - 1 times.

    Raises:
        UsageError: the devices form no square, or a side is longer than a dimension.
    """
    check_devices(devices, 2, "a 2D product")
    check_split(
        np.sqrt(np.asarray(devices, float)), np.minimum(np.minimum(m, n), k), "the blocks of a 2D product"
    )
    m, n, k, p, alpha, beta, rate = floats(m, n, k, devices, alpha, beta, rate)
    side = np.sqrt(p)
    work = 2.0 * m * n * k / (p * rate)
    shift = np.where(p > 1, 2.0 * alpha + beta * (m * k + k * n) / p * word, 0.0)
    step = work / side
    later = (side - 1) * (np.maximum(shift, step) if overlap else shift + step)
    return Form(name="2D", seconds=shift + step + later, compute_s=work,
                sent_bytes=np.where(p > 1, side * (m * k + k * n) / p * word, 0.0),
                messages=np.where(p > 1, 2.0 * side, 0.0),
                held_bytes=(2.0 * (m * k + k * n) + m * n) / p * word,
                bound_bytes=products_bound(m, n, k, p, word=word))  # fmt: skip


def product_25d(
    m: ArrayLike, n: ArrayLike, k: ArrayLike, devices: ArrayLike, copies: ArrayLike, *, alpha: ArrayLike,
    beta: ArrayLike, rate: ArrayLike, word: float = 2.0,
) -> Form:  # fmt: skip
    """Cannon's algorithm on ``copies`` layers, each for its share of the shifts.

    Blocks are gathered over the layers, shifted sqrt(P / c^3) times (the skew included), and the result is reduced and
    scattered over the layers.

    Raises:
        UsageError: P / c is no square, or c exceeds the cube root of P.
    """
    devices, copies = np.broadcast_arrays(np.asarray(devices, float), np.asarray(copies, float))
    check_devices(devices / copies, 2, "a layer of a 2.5D product")
    check_split(copies, np.floor(np.cbrt(devices) + 1e-9), "the shifts of a 2.5D product")
    m, n, k, p, c, alpha, beta, rate = floats(m, n, k, devices, copies, alpha, beta, rate)
    work = 2.0 * m * n * k / (p * rate)
    inputs, output = (m * k + k * n) / p * word, m * n / p * word
    shifts = np.where(p > c, np.sqrt(p / c**3), 0.0)
    # Rings over the layers: two gathers and one scatter of c - 1 hops each; shifts carry c times the block.
    layers = (c - 1) * (3.0 * alpha + beta * (inputs + output))
    shifted = shifts * (2.0 * alpha + beta * c * inputs)
    return Form(name=f"2.5D x{int(np.max(c))}", seconds=layers + shifted + work, compute_s=work,
                sent_bytes=(c - 1) * (inputs + output) + shifts * c * inputs,
                messages=3.0 * (c - 1) + 2.0 * shifts, held_bytes=c * (2.0 * inputs + output),
                bound_bytes=products_bound(m, n, k, p, word=word))  # fmt: skip


def product_3d(
    m: ArrayLike, n: ArrayLike, k: ArrayLike, devices: ArrayLike, *, alpha: ArrayLike, beta: ArrayLike,
    rate: ArrayLike, word: float = 2.0,
) -> Form:  # fmt: skip
    """A cube of devices: both matrices are gathered along a side each, the result is reduced along the third.

    Raises:
        UsageError: the devices form no cube, or a side is longer than a dimension.
    """
    check_devices(devices, 3, "a 3D product")
    check_split(
        np.cbrt(np.asarray(devices, float)), np.minimum(np.minimum(m, n), k), "the blocks of a 3D product"
    )
    m, n, k, p, alpha, beta, rate = floats(m, n, k, devices, alpha, beta, rate)
    side = np.round(np.cbrt(p))
    work = 2.0 * m * n * k / (p * rate)
    words = (m * k + k * n + m * n) / p * word
    return Form(name="3D", seconds=work + (side - 1) * (3.0 * alpha + beta * words), compute_s=work,
                sent_bytes=(side - 1) * words, messages=3.0 * (side - 1), held_bytes=side * words,
                bound_bytes=products_bound(m, n, k, p, word=word))  # fmt: skip
