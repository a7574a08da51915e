"""The shape of a model: what Shapewright designs.

A shape is a vocabulary, a width and a sequence of blocks; each block pairs a token mixer (attention, a recurrence, a
convolution) with a channel mixer (a dense or a mixture-of-experts feed-forward layer, a memory, or none). A vision
model is the same shape with patches for tokens. Sizes may be NumPy arrays that broadcast: then one Shape stands for a
whole table of candidates.

Decisions: what changes a count (parameters, FLOP, bytes) is a field; what does not (the activation function,
the rotary base, the cap on logits, the value of epsilon) is not. Which layer comes where is not kept either:
equal layers are counted, since neither cost nor memory of a model depends on their order.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from shapewright.architecture.channel_mixers import DenseFFN, ExpertsFFN, HashedTable, NoFFN, ProductKeyMemory
from shapewright.architecture.convolution_mixers import Convolution, LongConvolution
from shapewright.architecture.declared_mixer import DeclaredMixer
from shapewright.architecture.operator import Size
from shapewright.architecture.recurrent_mixers import (
    LSTM,
    MLSTM,
    RWKV7,
    SLSTM,
    DeltaNet,
    GatedLinear,
    KimiDelta,
    Mamba2,
)
from shapewright.architecture.softmax_mixers import LatentAttention, SelfAttention, SparseAttention


@dataclass(frozen=True, kw_only=True, slots=True)
class Norm:
    """A normalisation layer."""

    kind: Literal["rmsnorm", "layernorm"] = "rmsnorm"
    scale: bool = True
    bias: bool = False

    def params(self, width: Size) -> Size:
        """Parameters of one norm over ``width`` features."""
        return width * (int(self.scale) + int(self.bias))


Mixer = (
    SelfAttention | LatentAttention | SparseAttention | DeltaNet | KimiDelta | GatedLinear | RWKV7 | Mamba2 | MLSTM
    | SLSTM | LSTM | Convolution | LongConvolution | DeclaredMixer
)  # fmt: skip
Channel = DenseFFN | ExpertsFFN | ProductKeyMemory | HashedTable | NoFFN


@dataclass(frozen=True, kw_only=True, slots=True)
class Block:
    """``count`` equal layers: norm, mixer, residual, norm, channel mixer, residual; without a channel mixer
    (:class:`NoFFN`) only the first half."""

    mixer: Mixer
    channel: Channel
    count: Size
    norm: Norm = Norm()
    norm_placement: Literal["pre", "post", "output", "sandwich"] = "pre"
    """Where the norms of a sublayer are: before it, after its residual addition (the first Transformer), on
    its output before the addition (OLMo 2), or both before it and on its output (Gemma 2)."""
    parallel: bool = False
    """Mixer and channel mixer read the same residual stream and are added at once."""
    shared_norm: bool = False
    """With ``parallel``: one norm serves both."""
    ternary: bool = False
    """Products hold weights of -1, 0 and 1 (BitNet b1.58, arXiv 2402.17764); training keeps them in full beside."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Patches:
    """An image cut into square patches, each projected to a token."""

    image_size: int
    """Height and width of the image [pixel]."""
    patch_size: int
    """Height and width of a patch [pixel]."""
    channels: int = 3
    class_token: bool = True
    """One learned token in front, from which the class is read."""
    bias: bool = True

    @property
    def num_patches(self) -> int:
        """Patches of one image."""
        return (self.image_size // self.patch_size) ** 2

    @property
    def num_tokens(self) -> int:
        """Tokens of one image: the sequence length of the model."""
        return self.num_patches + int(self.class_token)


@dataclass(frozen=True, kw_only=True, slots=True)
class Shape:
    """A whole model."""

    name: str
    vocab_size: Size
    """Rows of the embedding table and outputs of the head; for a vision model, the classes of its head."""
    hidden_size: Size
    """Width of the residual stream."""
    blocks: tuple[Block, ...]
    """Runs of equal layers, in order of first appearance."""
    tied_embeddings: bool = False
    final_norm: Norm | None = Norm()
    learned_positions: Size = 0
    """Length of a learned position table; 0 for rotary or none."""
    context_length: int | None = None
    """Longest sequence it is meant for, where known."""
    embedding_norm: Norm | None = None
    """Norm on the embeddings (BLOOM)."""
    head_bias: bool = False
    """Bias of the head."""
    patches: Patches | None = None
    """How an image becomes tokens; None for a model of text."""

    @property
    def num_layers(self) -> Size:
        """Layers in all."""
        total: Size = 0
        for block in self.blocks:
            total = total + block.count
        return total
