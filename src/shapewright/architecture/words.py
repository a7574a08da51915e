"""Mixers and channel mixers in words, one short phrase each."""

from __future__ import annotations

from shapewright.architecture.shape import (
    LSTM,
    MLSTM,
    RWKV7,
    SLSTM,
    Channel,
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
    Mixer,
    NoFFN,
    ProductKeyMemory,
    SelfAttention,
    SparseAttention,
)


def mixer_words(mixer: Mixer) -> str:
    """A token mixer: its name and the sizes that matter."""
    match mixer:
        case SelfAttention() as a:
            limit = (
                f", window {a.window}"
                if a.window is not None
                else f", chunk {a.chunk}"
                if a.chunk is not None
                else ""
            )
            shared = ", keys and values of an earlier layer" if a.shares_kv else ""
            return (
                f"attention, {a.heads} heads of {a.head_dim} on {a.kv_heads} key-value heads{limit}{shared}"
            )
        case LatentAttention() as a:
            return f"latent attention, {a.heads} heads of {a.head_dim}, latent {a.kv_lora_rank}"
        case SparseAttention() as a:
            chosen = f"{a.select_count} blocks of {a.select_block}, window {a.window}"
            return (
                f"sparse attention, {a.heads} heads of {a.head_dim} on {a.kv_heads} key-value heads, {chosen}"
            )
        case DeltaNet() as a:
            states = f"{a.value_heads} states of {a.key_dim} x {a.value_dim}"
            return f"gated DeltaNet, {states}, {a.key_heads} key heads"
        case KimiDelta() as a:
            return f"KDA, {a.heads} states of {a.head_dim} x {a.head_dim}"
        case GatedLinear() as a:
            return f"gated linear attention, {a.heads} states of {a.key_dim} x {a.value_dim}"
        case RWKV7() as a:
            return f"RWKV-7, {a.heads} states of {a.head_dim} x {a.head_dim}"
        case Mamba2() as a:
            return f"Mamba-2, {a.heads} states of {a.state_size} x {a.head_dim}, {a.groups} groups"
        case MLSTM() as a:
            return f"mLSTM, {a.heads} states of {a.key_dim} x {a.value_dim}"
        case SLSTM() as a:
            return f"sLSTM, {a.heads} heads of {a.head_dim}"
        case LSTM() as a:
            return f"LSTM, {a.cell_size} units"
        case Convolution() as a:
            return f"{'gated ' if a.gated else ''}convolution, {a.channels} channels, {a.taps} taps"
        case LongConvolution() as a:
            return f"long convolution, {a.order} over {a.channels} channels"
        case DeclaredMixer() as a:
            return f"declared: {a.title}"


def channel_words(channel: Channel) -> str:
    """A channel mixer; empty where there is none."""
    match channel:
        case NoFFN():
            return ""
        case DenseFFN() as c:
            factors = "" if c.monarch_blocks is None else f", {c.monarch_blocks} Monarch blocks"
            return f"{'gated ' if c.gated else ''}ffn {c.ffn_size}{factors}"
        case ExpertsFFN() as c:
            shared = f" and shared {c.shared_ffn_size}" if c.shared_ffn_size else ""
            return f"{c.topk} of {c.experts} {'gated ' if c.gated else ''}experts of {c.ffn_size}{shared}"
        case ProductKeyMemory() as c:
            return f"memory of {c.num_keys} x {c.num_keys} slots, {c.heads} heads read {c.topk} each"
        case HashedTable() as c:
            return f"table of {c.table_rows} rows of {c.row_size}, {c.lookups} per token"
