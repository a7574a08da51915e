"""One layer: sublayers joined to the residual stream by norms and additions."""

from __future__ import annotations

from dataclasses import replace

from shapewright.architecture.blocks.attention import attention_operators
from shapewright.architecture.blocks.convolution import convolution_operators, long_convolution_operators
from shapewright.architecture.blocks.declared import declared_operators
from shapewright.architecture.blocks.ffn import dense_operators, experts_operators
from shapewright.architecture.blocks.latent import absorbed_operators, latent_operators
from shapewright.architecture.blocks.memory import hashed_operators, product_key_operators
from shapewright.architecture.blocks.pointwise import norm_operator, residual_operator
from shapewright.architecture.blocks.recurrent import (
    delta_operators,
    gated_linear_operators,
    kimi_delta_operators,
    mamba2_operators,
    mlstm_operators,
    rwkv7_operators,
)
from shapewright.architecture.blocks.sparse import sparse_operators
from shapewright.architecture.blocks.stepwise import lstm_operators, slstm_operators
from shapewright.architecture.operator import Matmul, Operator, Pointwise, Size
from shapewright.architecture.shape import (
    LSTM,
    MLSTM,
    RWKV7,
    SLSTM,
    Block,
    Convolution,
    DeclaredMixer,
    DeltaNet,
    DenseFFN,
    ExpertsFFN,
    GatedLinear,
    HashedTable,
    KimiDelta,
    LatentAttention,
    LongConvolution,
    Mamba2,
    NoFFN,
    ProductKeyMemory,
    SelfAttention,
    SparseAttention,
)


def block_operators(
    block: Block, width: Size, *, batch: Size, seq_len: Size, past_len: Size = 0, decode: bool = False
) -> tuple[Operator, ...]:
    """The operators of one layer of ``block`` for ``batch`` sequences of ``seq_len`` new tokens."""
    tokens = batch * seq_len
    mixer = _mixer(block, width, batch, seq_len, past_len, decode)
    channel = _channel(block, width, batch, seq_len)
    if block.ternary:
        mixer, channel = _ternary(mixer, decode), _ternary(channel, decode)
    if block.parallel:
        norms = [norm_operator("attention.norm", block.norm, tokens=tokens, width=width)]
        if not block.shared_norm:
            norms.append(norm_operator("ffn.norm", block.norm, tokens=tokens, width=width))
        residual = residual_operator("ffn.residual", tokens=tokens, width=width, branches=2)
        return (*norms, *mixer, *channel, residual)
    first = _sublayer("attention", mixer, block, width, tokens)
    if isinstance(block.channel, NoFFN):
        return first
    return (*first, *_sublayer("ffn", channel, block, width, tokens))


def _mixer(
    block: Block, width: Size, batch: Size, seq_len: Size, past_len: Size, decode: bool
) -> tuple[Operator, ...]:
    size = {"batch": batch, "seq_len": seq_len}
    match block.mixer:
        case SelfAttention() as a:
            return attention_operators(a, width, past_len=past_len, **size)
        case LatentAttention() as a:
            lower = absorbed_operators if decode else latent_operators
            return lower(a, width, past_len=past_len, **size)
        case SparseAttention() as a:
            return sparse_operators(a, width, past_len=past_len, **size)
        case DeltaNet() as a:
            return delta_operators(a, width, decode=decode, **size)
        case KimiDelta() as a:
            return kimi_delta_operators(a, width, decode=decode, **size)
        case GatedLinear() as a:
            return gated_linear_operators(a, width, **size)
        case RWKV7() as a:
            return rwkv7_operators(a, width, **size)
        case Mamba2() as a:
            return mamba2_operators(a, width, decode=decode, **size)
        case MLSTM() as a:
            return mlstm_operators(a, width, **size)
        case SLSTM() as a:
            return slstm_operators(a, width, decode=decode, **size)
        case LSTM() as a:
            return lstm_operators(a, width, **size)
        case Convolution() as a:
            return convolution_operators(a, width, decode=decode, **size)
        case LongConvolution() as a:
            return long_convolution_operators(a, width, past_len=past_len, decode=decode, **size)
        case DeclaredMixer() as a:
            return declared_operators(a, width, **size)


def _channel(block: Block, width: Size, batch: Size, seq_len: Size) -> tuple[Operator, ...]:
    tokens = batch * seq_len
    match block.channel:
        case NoFFN():
            return ()
        case DenseFFN() as channel:
            return dense_operators(channel, width, tokens=tokens)
        case ExpertsFFN() as channel:
            return experts_operators(channel, width, tokens=tokens, norm=block.norm)
        case ProductKeyMemory() as channel:
            return product_key_operators(channel, width, tokens=tokens)
        case HashedTable() as channel:
            return hashed_operators(channel, width, batch=batch, seq_len=seq_len)


def _ternary(ops: tuple[Operator, ...], decode: bool) -> tuple[Operator, ...]:
    """Products with ternary weights: the input is scaled to 8 bits, and training quantises its full weights anew."""
    found: list[Operator] = []
    for op in ops:
        if isinstance(op, Matmul):
            size = op.m * op.k + (0 if decode else op.n * op.k)
            found.append(
                Pointwise(name=f"{op.name}.quantise", place="layer", read=size, written=size / 2, split="features",
                          backward_factor=1.0)
            )  # fmt: skip
            op = replace(op, ternary=True)
        found.append(op)
    return tuple(found)


def _sublayer(
    name: str, ops: tuple[Operator, ...], block: Block, width: Size, tokens: Size
) -> tuple[Operator, ...]:
    """``ops`` between the norms and the addition that the block's placement asks for."""
    before = norm_operator(f"{name}.norm", block.norm, tokens=tokens, width=width)
    residual = residual_operator(f"{name}.residual", tokens=tokens, width=width)
    if block.norm_placement == "pre":
        return (before, *ops, residual)
    if block.norm_placement == "post":
        return (*ops, residual, before)
    # A norm on the sublayer's output makes that output something to keep.
    kept = (*ops[:-1], replace(ops[-1], saved=ops[-1].saved + tokens * width))
    after = norm_operator(f"{name}.output_norm", block.norm, tokens=tokens, width=width, keep_output=False)
    if block.norm_placement == "output":
        return (*kept, after, residual)
    return (before, *kept, after, residual)
