"""A Shape as a torch module: what the operators of its graph describe, ready to train.

Decisions: one plain module, written for reading, with the products that the graph has (queries, keys and values at
once; gate and up projection at once), so that parameters and FLOP are the graph's exactly. Where a Shape leaves a
choice open, it is the usual one: SiLU in a gated feed-forward layer and GELU in a plain one, rotary embedding in
halves with base 10,000, epsilon 1e-5. An image's class is read from its class token, or from the mean of its tokens.
What is not written here is refused by name, never approximated.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from shapewright.architecture.shape import (
    LSTM,
    MLSTM,
    Block,
    Convolution,
    DeltaNet,
    DenseFFN,
    ExpertsFFN,
    LatentAttention,
    Mamba2,
    NoFFN,
    SelfAttention,
    Shape,
)
from shapewright.errors import NotCoveredError, UsageError
from shapewright.lab.attention_layers import AttentionLayer, LatentLayer
from shapewright.lab.channel_layers import ExpertsLayer, FFNLayer
from shapewright.lab.norms import NormLayer
from shapewright.lab.recurrent_layers import ConvolutionLayer, DeltaLayer, LSTMLayer, Mamba2Layer, MLSTMLayer

OUTPUTS = (".out.weight", "ffn.down.weight", "ffn.down", "ffn.shared.down.weight", "ffn.latent_up.weight")
"""Ends of the names of matrices that write to the residual stream."""


class Layer(nn.Module):
    """One layer of a block: sublayers joined to the residual stream as the Shape says."""

    def __init__(self, block: Block, width: int) -> None:
        super().__init__()
        self.place, self.parallel = block.norm_placement, block.parallel
        self.mixer = _mixer(block, width)
        self.ffn = _channel(block, width)
        count = 1 if self.ffn is None or (block.parallel and block.shared_norm) else 2
        count *= 2 if self.place == "sandwich" and not block.parallel else 1
        self.norms = nn.ModuleList(NormLayer(block.norm, width) for _ in range(count))

    def forward(self, x: Tensor) -> Tensor:
        """``x`` (batch, tokens, width) to the same shape."""
        n = self.norms
        if self.parallel and self.ffn is not None:
            return x + self.mixer(n[0](x)) + self.ffn(n[-1](x))
        for i, part in enumerate((self.mixer, self.ffn)):
            if part is not None:
                x = self._joined(x, part, i)
        return x

    def _joined(self, x: Tensor, part: nn.Module, i: int) -> Tensor:
        n = self.norms
        if self.place == "pre":
            return x + part(n[i](x))
        if self.place == "post":
            return n[i](x + part(x))
        if self.place == "output":
            return x + n[i](part(x))
        return x + n[i + len(n) // 2](part(n[i](x)))


class Net(nn.Module):
    """A whole model: token numbers (or images) to logits."""

    def __init__(self, shape: Shape) -> None:
        """Raises NotCoveredError where the Shape holds what is not written here."""
        super().__init__()
        refuse_uncovered(shape)
        self.shape, width = shape, int(shape.hidden_size)
        vocab, positions, patches = int(shape.vocab_size), int(shape.learned_positions), shape.patches
        self.embedding = None if patches is not None else nn.Embedding(vocab, width)
        self.patches = self.class_token = None
        if patches is not None:
            self.patches = nn.Linear(patches.channels * patches.patch_size**2, width, bias=patches.bias)
            self.class_token = nn.Parameter(torch.zeros(1, width)) if patches.class_token else None
        self.positions = nn.Parameter(torch.zeros(positions, width)) if positions else None
        self.embedding_norm = NormLayer(shape.embedding_norm, width) if shape.embedding_norm else None
        self.layers = nn.ModuleList(Layer(b, width) for b in shape.blocks for _ in range(int(b.count)))
        self.final_norm = NormLayer(shape.final_norm, width) if shape.final_norm else None
        self.head = None if shape.tied_embeddings else nn.Linear(width, vocab, bias=False)
        self.head_bias = nn.Parameter(torch.zeros(vocab)) if shape.head_bias else None

    def forward(self, inputs: Tensor) -> Tensor:
        """``inputs`` to logits.

        Args:
            inputs: (batch, tokens) int64 token numbers, or (batch, channels, height, width) images in 0 to 1.

        Returns:
            (batch, tokens, vocabulary), or (batch, classes) of images.
        """
        x = self._embedded(inputs)
        if self.positions is not None:
            if x.shape[1] > self.positions.shape[0]:
                raise UsageError(
                    f"{x.shape[1]} tokens per sequence exceed the {self.positions.shape[0]} learned positions",
                    "a learned table has one row per position", "train with shorter sequences",
                )  # fmt: skip
            x = x + self.positions[: x.shape[1]]
        if self.embedding_norm is not None:
            x = self.embedding_norm(x)
        for layer in self.layers:
            x = layer(x)
        if self.final_norm is not None:
            x = self.final_norm(x)
        if self.patches is not None:
            x = x.mean(1) if self.class_token is None else x[:, 0]
        weight = self.embedding if self.head is None else self.head
        assert weight is not None
        return functional.linear(x, weight.weight, self.head_bias)

    def _embedded(self, inputs: Tensor) -> Tensor:
        if self.patches is None:
            assert self.embedding is not None
            return self.embedding(inputs)
        p = self.shape.patches
        assert p is not None
        pieces = functional.unfold(inputs, p.patch_size, stride=p.patch_size).transpose(1, 2)
        x = self.patches(pieces)
        if self.class_token is not None:
            x = torch.cat((self.class_token.to(x.dtype).expand(x.shape[0], 1, -1), x), dim=1)
        return x


def _mixer(block: Block, width: int) -> nn.Module:
    match block.mixer:
        case SelfAttention() as a:
            return AttentionLayer(a, block.norm, width)
        case LatentAttention() as a:
            return LatentLayer(a, width)
        case DeltaNet() as a:
            return DeltaLayer(a, width)
        case Mamba2() as a:
            return Mamba2Layer(a, width)
        case MLSTM() as a:
            return MLSTMLayer(a, width)
        case LSTM() as a:
            return LSTMLayer(a, width)
        case Convolution() as a:
            return ConvolutionLayer(a, width)
    raise AssertionError("refuse_uncovered lets through what is written here")


def _channel(block: Block, width: int) -> nn.Module | None:
    match block.channel:
        case DenseFFN() as c:
            return FFNLayer(c, width)
        case ExpertsFFN() as c:
            return ExpertsLayer(c, width)
    return None


def refuse_uncovered(shape: Shape) -> None:
    """Raises NotCoveredError naming the first thing in ``shape`` that cannot be built."""
    missing = []
    if shape.patches is not None and shape.tied_embeddings:
        missing.append("an image model whose head is its embedding")
    for block in shape.blocks:
        missing += [*_missing_mixer(block.mixer), *_missing_channel(block.channel)]
        if block.ternary:
            missing.append("ternary weights")
    if missing:
        raise NotCoveredError(
            f"{shape.name}: {missing[0]} cannot be trained here",
            "attention (grouped, windowed, latent), gated DeltaNet, Mamba-2, mLSTM, LSTM, convolutions, dense and expert "
            "layers can", "export the design to a framework that does",
        )  # fmt: skip


def _missing_mixer(mixer: Any) -> list[str]:
    match mixer:
        case SelfAttention():
            told = {"shared keys and values": mixer.values_are_keys or mixer.shares_kv}
        case LatentAttention():
            told = {"chosen keys": mixer.selected is not None or mixer.indexer is not None}
        case Convolution():
            told = {"a convolution over the rows and columns of an image": mixer.dims != 1}
        case DeltaNet() | Mamba2() | MLSTM() | LSTM():
            told = {}
        case _:
            return [type(mixer).__name__]
    return [name for name, present in told.items() if present]


def _missing_channel(channel: Any) -> list[str]:
    match channel:
        case DenseFFN():
            told = {"block-diagonal feed-forward matrices": channel.monarch_blocks is not None}
        case ExpertsFFN():
            told = {"norms of the experts' own": channel.separate_norms}
        case NoFFN():
            told = {}
        case _:
            return [type(channel).__name__]
    return [name for name, present in told.items() if present]


def choose_kernels(
    net: Net,
    *,
    attention_block: int | None,
    scan_chunk: int | None,
    tiles: Mapping[int, int] = MappingProxyType({}),
) -> None:
    """Set how attention and scans are computed: the results do not depend on it, the time does.

    Args:
        net: the model.
        attention_block: queries of one block of attention on a processor; None for the library's fused kernel.
        scan_chunk: tokens of a chunk of every scan; None for each kind's own.
        tiles: elements of one program of the fused activation on CUDA devices, by the layer's width.
    """
    for module in net.modules():
        if isinstance(module, AttentionLayer | LatentLayer):
            module.block = attention_block
        elif scan_chunk is not None and isinstance(module, DeltaLayer | Mamba2Layer | MLSTMLayer):
            module.chunk = scan_chunk
        elif isinstance(module, FFNLayer):
            module.tile = tiles.get(module.size)


def initialise(net: Net, *, std: float, output_std: float, seed: int) -> None:
    """Normal weights: ``std`` everywhere but ``output_std`` in the matrices that write to the residual stream.

    Short convolutions are uniform by their taps (drawn anew here, so that the seed decides), a recurrent cell's matrices
    and biases uniform by its width, as their authors have them; biases of products are zero.
    """
    generator = torch.Generator().manual_seed(seed)
    biases = {f"{name}.bias" for name, part in net.named_modules() if isinstance(part, nn.Linear)}
    for name, parameter in net.named_parameters():
        cell = ".cell." in name
        if (parameter.dim() < 2 and not cell and name not in biases) or "norm" in name:
            continue
        with torch.no_grad():
            if name in biases:
                parameter.zero_()
            elif ".conv." in name or cell:
                # A cell's biases hold one number for each of its four gates' outputs.
                bound = (parameter.shape[1] if parameter.dim() > 1 else parameter.shape[0] // 4) ** -0.5
                parameter.uniform_(-bound, bound, generator=generator)
            else:
                parameter.normal_(0.0, output_std if name.endswith(OUTPUTS) else std, generator=generator)
