"""Kinds of models that a search lays out: the pattern of token mixers, and dense or mixtures of experts.

Decisions: a family fixes what is not a number, so that each is one table of layers; every pattern is one that a
published model was trained with, at that model's ratios. What a mixer does to the loss is a prior that is wide and
mostly centred on zero (:mod:`scaling.mixers`), so a hybrid wins by its cost alone. Mixtures are laid out as sparse as
published models are; beyond the runs behind their law the interval widens and the design says so
(:mod:`scaling.experts`). Families beside ``dense`` are searched when asked for.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from shapewright.architecture.shape import (
    MLSTM,
    Block,
    Channel,
    DeltaNet,
    DenseFFN,
    ExpertsFFN,
    LatentAttention,
    Mamba2,
    Mixer,
    SelfAttention,
)
from shapewright.errors import UnknownNameError

Array = NDArray[Any]


@dataclass(frozen=True, kw_only=True, slots=True)
class Family:
    """What all candidates of one table share."""

    name: str
    mixers: tuple[tuple[str, int], ...]
    """(kind, layers) of one period of the stack; full attention first where there is any."""
    experts: int = 0
    """Routed experts; 0 for a dense feed-forward layer."""
    topk: int = 0
    shared: int = 0
    """Experts that see every token, as wide as a routed one."""
    evidence: str
    """The model that the pattern is taken from."""

    @property
    def period(self) -> int:
        """Layers after which the pattern repeats."""
        return sum(layers for _, layers in self.mixers)


@dataclass(frozen=True, kw_only=True, slots=True)
class Heads:
    """Columns of a table of layers; each is a (W, 1) array."""

    width: Array
    heads: Array
    kv_heads: Array
    head_dim: Array
    ffn_size: Array


WINDOW = 1024
"""Tokens that a sliding layer sees (Gemma 3)."""
STATE_HEAD = 128
"""Width of a head of a gated DeltaNet (Qwen3-Next); models whose width it does not divide have no such candidates."""
MEMORY_VALUE, MEMORY_KEY = 512, 256
"""Width of a value and of a key head of a matrix LSTM (xLSTM 7B: 8 heads in a width of 4,096)."""
PATTERNS: dict[str, tuple[tuple[tuple[str, int], ...], str]] = {
    "dense": ((("attention", 1),), "Llama 3"),
    "sliding": ((("attention", 1), ("sliding", 5)), "Gemma 3: one full layer after five windows of 1,024"),
    "mla": ((("mla", 1),), "DeepSeek-V2: latent of four heads, rotary half a head"),
    "deltanet": ((("attention", 1), ("gated_deltanet", 3)), "Qwen3-Next: one full layer after three"),
    "mamba2": ((("attention", 1), ("mamba2", 7)), "Jamba: one full layer after seven"),
    "xlstm": ((("mlstm", 1),), "xLSTM 7B (arXiv 2503.13427): the matrix LSTM in every layer, no attention"),
}
"""Pattern to its period and where it is from."""
EXPERTS: dict[str, tuple[int, int, int, str]] = {
    "8 experts": (8, 2, 0, "Mixtral"),
    "32 experts": (32, 4, 0, "gpt-oss 20B"),
    "64 experts": (64, 8, 0, "OLMoE"),
    "128 experts": (128, 8, 1, "128 and one shared: GLM-4.5-Air, Qwen3-MoE without the shared one"),
    "128 experts top-4": (128, 4, 0, "gpt-oss 120B"),
    "256 experts": (256, 8, 1, "DeepSeek-V3"),
    "384 experts": (384, 8, 1, "Kimi K2"),
    "512 experts": (512, 10, 1, "Qwen3-Next"),
}
"""Mixture to (experts, top-k, shared) and where it is from."""
KINDS = ("dense", "moe", "hybrid", "all")
"""What can be asked for."""


def _family(pattern: str, mixture: str | None) -> Family:
    mixers, source = PATTERNS[pattern]
    if mixture is None:
        return Family(name=pattern, mixers=mixers, evidence=source)
    experts, topk, shared, origin = EXPERTS[mixture]
    name = mixture if pattern == "dense" else f"{pattern}, {mixture}"
    return Family(
        name=name, mixers=mixers, experts=experts, topk=topk, shared=shared, evidence=f"{source}; {origin}"
    )


BOTH: dict[str, tuple[str, ...]] = {
    "sliding": ("128 experts", "128 experts top-4"),
    "mla": ("128 experts", "256 experts", "384 experts"),
    "deltanet": ("128 experts", "512 experts"),
    "mamba2": ("128 experts",),
}
"""The mixtures that other mixers are laid out with: gpt-oss 120B (windows), DeepSeek-V3 and Kimi K2, Qwen3-Next, Nemotron 3,
and the milder one beside; no published mixture has a matrix LSTM."""
FAMILIES: dict[str, Family] = {
    family.name: family
    for family in (
        *(_family(pattern, None) for pattern in PATTERNS),
        *(_family("dense", mixture) for mixture in EXPERTS),
        *(_family(pattern, mixture) for pattern, mixtures in BOTH.items() for mixture in mixtures),
    )
}
"""Every family by name."""


def families(kind: str) -> tuple[Family, ...]:
    """The families of ``kind``: ``dense``, ``moe`` (full attention with experts), ``hybrid`` (other mixers, dense),
    ``all``, the name of one, or several joined by ``+``. Those of full attention come first, because they bound the others.

    Raises:
        UnknownNameError: no such kind or family.
    """
    if "+" in kind:
        found = [family for part in kind.split("+") for family in families(part.strip())]
        return tuple(sorted(dict.fromkeys(found), key=lambda family: tuple(FAMILIES).index(family.name)))
    plain = FAMILIES["dense"]
    mixtures = [FAMILIES[name] for name in EXPERTS]
    hybrids = [FAMILIES[name] for name in PATTERNS if name != "dense"]
    known: dict[str, Sequence[Family]] = {
        "dense": [plain],
        "moe": [plain, *mixtures],
        "hybrid": [plain, *hybrids],
        "all": [plain, *(family for family in FAMILIES.values() if family is not plain)],
        **{name: [family] for name, family in FAMILIES.items() if name != "dense"},
    }
    if kind not in known:
        raise UnknownNameError("--search", kind, known, "try: --search all")
    return tuple(known[kind])


def blocks_of(family: Family, at: Heads) -> tuple[Block, ...]:
    """The layers of a table as blocks whose counts add to one average layer."""
    channel = _channel(family, at)
    return tuple(
        Block(mixer=_mixer(kind, at), channel=channel, count=layers / family.period)
        for kind, layers in family.mixers
    )


def fits(family: Family, at: Heads) -> Array:
    """(W,) Rows that the family can be laid out with: whole heads in every mixer, experts at least 64 wide."""
    width, head_dim = at.width[:, 0], at.head_dim[:, 0]
    kinds = {kind for kind, _ in family.mixers}
    good = np.ones(width.size, bool)
    if kinds & {"gated_deltanet", "mamba2"}:
        good &= (width % STATE_HEAD == 0) & (width >= 4 * STATE_HEAD)
    if "mlstm" in kinds:
        good &= (width % MEMORY_VALUE == 0) & (width >= 2 * MEMORY_VALUE)
    if "mla" in kinds:
        good &= (head_dim >= 64) & (at.heads[:, 0] >= 4)
    if family.experts:
        good &= at.ffn_size[:, 0] // family.topk >= 64
    return good


def _mixer(kind: str, at: Heads) -> Mixer:
    if kind in ("attention", "sliding"):
        return SelfAttention(
            heads=at.heads,
            kv_heads=at.kv_heads,
            head_dim=at.head_dim,
            window=WINDOW if kind == "sliding" else None,
        )
    if kind == "mla":
        return LatentAttention(
            heads=at.heads,
            kv_lora_rank=4 * at.head_dim,
            qk_nope_head_dim=at.head_dim,
            qk_rope_head_dim=at.head_dim // 2,
            v_head_dim=at.head_dim,
        )
    if kind == "gated_deltanet":
        heads = np.maximum(at.width // STATE_HEAD, 1)
        return DeltaNet(key_heads=heads, value_heads=2 * heads, key_dim=STATE_HEAD, value_dim=STATE_HEAD)
    if kind == "mlstm":
        return MLSTM(heads=at.width // MEMORY_VALUE, key_dim=MEMORY_KEY, value_dim=MEMORY_VALUE)
    assert kind == "mamba2"
    # Expansion by two, heads of 64, keys and queries shared by groups that tensor parallelism can split.
    return Mamba2(
        heads=at.width // 32, head_dim=64, state_size=128, groups=np.minimum(8, at.width // STATE_HEAD)
    )


def _channel(family: Family, at: Heads) -> Channel:
    if not family.experts:
        return DenseFFN(ffn_size=at.ffn_size)
    # The experts that a token sees together are as wide as the dense layer would be, in steps of 64.
    each = np.maximum(np.round(at.ffn_size / (family.topk + family.shared) / 64), 1).astype(np.int64) * 64
    return ExpertsFFN(
        ffn_size=each,
        experts=family.experts,
        topk=family.topk,
        shared_ffn_size=family.shared * each if family.shared else 0,
    )
