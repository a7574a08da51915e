"""The aligned values that a designed shape may take on a device.

Decisions: widths and feed-forward sizes are multiples of the device's matrix tile (codesign rules: Anthony et
al. 2024, arXiv 2401.14489; tensor cores want 128-byte rows), heads are 64 or 128 wide, key-value heads
follow one stated policy, and the vocabulary is given. Widths and depths are one fixed grid for each device, whatever
sizes are asked for: the same shapes compete at every budget, so a larger one never ends in a worse choice for want of a
shape. There are eight widths to an octave, or as many as alignment allows (a tile, four heads from 2,048 on), so they lie 6
to 12 % apart, and 25 % at most; depths about 12 %. What the lattice leaves out is said in the design.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields, is_dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from shapewright.architecture.graph import (
    mlp_to_attention,
    num_active_params,
    num_embedding_params,
    num_params,
)
from shapewright.architecture.shape import Shape
from shapewright.errors import UsageError
from shapewright.hardware.accelerator import Accelerator
from shapewright.plan.pairs import average_layer
from shapewright.scaling.experts import SPARSEST_RATIO
from shapewright.search.families import FAMILIES, Family, Heads, blocks_of, fits
from shapewright.search.learning import Traits, activation_of, fineness_of, granularity_of, mixer_shares

Array = NDArray[Any]

FFN_RATIOS = (8 / 3, 3.5, 4.0)
"""Width of a gated feed-forward layer over the model's: 8/3 keeps the parameters of a plain layer of 4
(Shazeer 2020, arXiv 2002.05202), 3.5 is Llama-3's, 4 is common in small models."""

NARROW_FFN_RATIOS = (1.0, 1.5, 2.0)
"""Laid out beside them where the law weighs the MLP against attention: such laws prefer about as much of each."""

WIDE, FOUR_HEADS = 2048, 512
"""From this width on a model steps by four heads of 128."""
NARROWEST, PER_OCTAVE = 32, 8
"""Narrowest width, and widths from one power of two to the next, fewer where alignment allows no more."""
FEWEST_HEADS = 4
"""Heads of a model from 64 wide up; narrower ones have two. On bytes one head of 40 costs 40x3 1.9 % of loss against
five of 8, and at 32x4 two heads of 16 are .4 % better than one of 32 and 1.1 % better than four of 8
(benchmarks/LOG.md); no published language model from 128 wide up has fewer than four."""
DEPTHS = (
    *(
        2,
        3,
        4,
        5,
        6,
        8,
        10,
        12,
        14,
        16,
        18,
        20,
        22,
        24,
        28,
        32,
        36,
        40,
        44,
        48,
        54,
        60,
        64,
        72,
        80,
        88,
        96,
        112,
        128,
    ),
    *(144, 160),
)
"""Depths with many divisors, about 12 % apart: pipelines and people like them."""
ASPECT = (8.0, 512.0)
"""Smallest and largest width over depth considered. Gemstones measured 3.2 to 600."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Candidates:
    """Candidate shapes: a table of distinct layers, and for each shape its layer and its depth."""

    layers: Shape
    """Sizes are (W, 1) arrays or numbers; the counts of its blocks add to one average layer."""
    layer: Array
    """(S,) index into ``layers``."""
    depth: Array
    """(S,) layers of each shape."""
    params: Array
    """(S,) parameters."""
    active_params: Array
    """(S,) parameters that one token passes through."""
    embedding_params: Array
    """(S,)"""
    mlp_ratio: Array
    """(S,) parameters of the channel mixers over those of the token mixers."""

    def take(self, rows: Array) -> Candidates:
        """The candidates at ``rows``, of the same table of layers."""
        return replace(
            self,
            layer=self.layer[rows],
            depth=self.depth[rows],
            params=self.params[rows],
            active_params=self.active_params[rows],
            embedding_params=self.embedding_params[rows],
            mlp_ratio=self.mlp_ratio[rows],
        )

    def compact(self, rows: Array) -> Candidates:
        """The candidates at ``rows`` with a table of their own layers only."""
        used, layer = np.unique(self.layer[rows], return_inverse=True)
        size = np.shape(self.layers.hidden_size)

        def cut(noun: Any) -> Any:
            """The noun with every array cut to the layers used."""
            changes = {}
            for field in fields(noun):
                value = getattr(noun, field.name)
                if isinstance(value, np.ndarray):
                    changes[field.name] = np.broadcast_to(value, size)[used]
                elif is_dataclass(value):
                    changes[field.name] = cut(value)
            return replace(noun, **changes)

        layers = replace(cut(self.layers), blocks=tuple(cut(block) for block in self.layers.blocks))
        return replace(self.take(rows), layers=layers, layer=layer)

    def column(self, values: Any) -> Array:
        """(S,) A size of the layers at every shape."""
        return np.broadcast_to(values, np.shape(self.layers.hidden_size))[self.layer, 0]

    @property
    def traits(self) -> Traits:
        """What a law sees of them: (S,) columns."""
        return Traits(
            params=self.params,
            active_params=self.active_params,
            embedding_params=self.embedding_params,
            width=self.column(self.layers.hidden_size),
            depth=self.depth,
            mlp_ratio=self.mlp_ratio,
            granularity=self.column(granularity_of(self.layers)),
            activation=self.column(activation_of(self.layers)),
            fineness=self.column(fineness_of(self.layers)),
            shares=mixer_shares(self.layers),
        )

    def shape(self, index: int) -> Shape:
        """One candidate as a plain Shape."""
        at, depth = int(self.layer[index]), int(self.depth[index])
        size = np.shape(self.layers.hidden_size)

        def plain(noun: Any) -> Any:
            """The noun with every array replaced by its number in this row."""
            changes = {}
            for field in fields(noun):
                value = getattr(noun, field.name)
                if isinstance(value, np.ndarray):
                    changes[field.name] = int(np.broadcast_to(value, size)[at, 0])
                elif is_dataclass(value):
                    changes[field.name] = plain(value)
            return replace(noun, **changes)

        shape = plain(self.layers)
        blocks = tuple(
            replace(plain(block), count=round(float(block.count) * depth)) for block in self.layers.blocks
        )
        return replace(shape, name=f"{shape.hidden_size}x{depth}", blocks=blocks)


def single(shape: Shape) -> Candidates:
    """One given shape as a table of one."""
    layers = average_layer(replace(shape, hidden_size=np.array([[shape.hidden_size]])))
    one = [np.array([float(count(shape))]) for count in (num_params, num_active_params, num_embedding_params)]
    return Candidates(
        layers=layers,
        layer=np.array([0]),
        depth=np.array([int(shape.num_layers)]),
        params=one[0],
        active_params=one[1],
        embedding_params=one[2],
        mlp_ratio=np.array([float(mlp_to_attention(shape))]),
    )


def granularity(accelerator: Accelerator, width: int) -> int:
    """Multiple that widths are rounded to: the device's tile for wide models, less for narrow ones.

    16-bit matrix units want rows of 128 bytes, 64 elements (A100 and later, codesign rules section 1); a
    model narrower than 16 tiles would have too few values to choose from, so it steps by a quarter tile.
    """
    tile = 128 if accelerator.device_class != "cpu" else 32
    return tile if width >= 16 * tile else max(tile // 4, 8)


def _aligned(value: float, unit: int) -> int:
    return max(round(value / unit), 1) * unit


def lattice(
    accelerator: Accelerator,
    family: Family = FAMILIES["dense"],
    *,
    min_params: float,
    max_params: float,
    vocab_size: int,
    tied_embeddings: bool,
    fixed: Mapping[str, int] | None = None,
    ffn_ratios: Sequence[float] = FFN_RATIOS,
) -> Candidates:
    """Every aligned shape of a family between two sizes (active parameters).

    ``fixed`` pins ``width``, ``depth``, ``heads``, ``kv_heads``, ``head_dim`` or ``ffn_size`` (the width that a token
    passes through: all its experts together in a mixture); ``ffn_ratios`` are that width over the model's.
    """
    fixed = fixed or {}
    at = _layer_table(accelerator, _widths(accelerator, min_params, max_params, fixed), fixed, ffn_ratios)
    keep = fits(family, at)
    at = Heads(**{f.name: getattr(at, f.name)[keep] for f in fields(Heads)})
    layers = Shape(
        name="lattice",
        vocab_size=vocab_size,
        hidden_size=at.width,
        tied_embeddings=tied_embeddings,
        blocks=blocks_of(family, at),
    )
    depths = np.array([fixed["depth"]] if "depth" in fixed else [d for d in DEPTHS if d % family.period == 0])
    if "depth" in fixed and fixed["depth"] % family.period:
        depths = depths[:0]
    full = at.width.shape
    embeddings = np.broadcast_to(num_embedding_params(layers), full)

    def whole(count: Any) -> Array:
        one_layer = np.broadcast_to(count, full) - embeddings - at.width
        return one_layer * depths[None, :] + embeddings + at.width

    params, active = whole(num_params(layers)), whole(num_active_params(layers))
    aspect = at.width / depths[None, :]
    wanted = (active >= min_params) & (active <= max_params) & (params <= SPARSEST_RATIO * active)
    if "width" not in fixed and "depth" not in fixed:
        wanted &= (aspect >= ASPECT[0]) & (aspect <= ASPECT[1])
    layer, column = np.nonzero(wanted)
    return Candidates(
        layers=layers,
        layer=layer,
        depth=depths[column],
        params=params[wanted],
        active_params=active[wanted],
        embedding_params=embeddings[layer, 0],
        mlp_ratio=np.broadcast_to(mlp_to_attention(layers), full)[layer, 0],
    )


def _widths(
    accelerator: Accelerator, min_params: float, max_params: float, fixed: Mapping[str, int]
) -> list[int]:
    if "width" in fixed:
        return [fixed["width"]]
    # 12 width^2 depth parameters: the narrowest and widest that the aspect limits allow, and one beyond each.
    low, high = ((ASPECT[0] * min_params / 12) ** (1 / 3), (ASPECT[1] * max_params / 12) ** (1 / 3))
    grid = width_grid(accelerator, high)
    return grid[max(int(np.searchsorted(grid, low)) - 1, 0) :]


def width_grid(accelerator: Accelerator, high: float) -> list[int]:
    """Every width of the device's grid up to the first that is not below ``high``."""
    widths = [NARROWEST]
    while widths[-1] < high:
        at = widths[-1]
        octave = 2 ** int(np.log2(at))
        unit = FOUR_HEADS if at >= WIDE else granularity(accelerator, at)
        widths.append(at + max(octave // PER_OCTAVE, unit))
    return widths


def _layer_table(
    accelerator: Accelerator, widths: list[int], fixed: Mapping[str, int], ffn_ratios: Sequence[float]
) -> Heads:
    rows: dict[tuple[int, int, int, int, int], None] = {}
    for width in widths:
        unit = granularity(accelerator, width)
        for head_dim in _head_dims(width, fixed):
            heads = fixed.get("heads", max(width // head_dim, 1))
            kv_heads = fixed.get("kv_heads", default_kv_heads(heads))
            if heads % kv_heads:
                continue
            sizes = (
                [fixed["ffn_size"]]
                if "ffn_size" in fixed
                else [_aligned(width * ratio, unit) for ratio in ffn_ratios]
            )
            for ffn_size in sizes:
                rows[(width, heads, kv_heads, head_dim, ffn_size)] = None
    if not rows:
        raise UsageError(
            f"shape (={dict(fixed)}) is no shape",
            "heads must divide the width and kv_heads the heads",
            "free one of --width, --heads, --kv-heads, --head-dim",
        )
    columns = (np.array(c, dtype=np.int64)[:, None] for c in zip(*rows, strict=True))
    return Heads(**dict(zip((f.name for f in fields(Heads)), columns, strict=True)))


def default_kv_heads(heads: int) -> int:
    """Grouped-query policy: 8 key-value heads where they divide the heads, else 4, else as many as heads.

    Eight is what Llama-3, Mistral and Qwen use at every size; it keeps one head per device of an 8-wide domain.
    """
    if heads < 8:
        return heads
    return next((kv for kv in (8, 4) if heads % kv == 0), heads)


def _head_dims(width: int, fixed: Mapping[str, int]) -> list[int]:
    if "head_dim" in fixed:
        return [fixed["head_dim"]]
    if "heads" in fixed:
        return [width // fixed["heads"]] if width % fixed["heads"] == 0 else []
    # Sixteen heads and more come in fours, so that tensor parallelism and key-value groups divide them; wide
    # models take heads of 128, since heads of 64 cost attention 22 % on H100 and 41 % on B200 (measured prefill).
    wanted = (128,) if width >= WIDE else (64, 128)
    dims = [
        d
        for d in wanted
        if width % d == 0 and width // d >= FEWEST_HEADS and (width // d < 16 or (width // d) % 4 == 0)
    ]
    if not dims and width < 1024:
        # A narrow model takes its widest head that leaves several: no law here knows heads, and time alone would
        # ask for one.
        few = FEWEST_HEADS if width >= 64 else 2
        dims = [d for d in (64, 32, 16, 8) if d <= width // few and width % d == 0][:1]
    return dims if "width" not in fixed or dims else [d for d in (128, 64, 32, 16, 8) if width % d == 0][:1]
