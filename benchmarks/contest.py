"""The arms of the proof: what each trains, and how, in the same minutes on the same text.

Decisions: a copied shape keeps its published rate, decay, betas, weight decay, initial weights and form of schedule.
Three things are changed, each in its favour: bytes in place of its vocabulary, no dropout (no text is seen twice), and
where its published batch would leave fewer than ``LEAST_STEPS`` steps in the minutes, the batch is cut until so many
fit. Every arm runs on the same trainer, in the number format that is faster for it. The hardware-blind arm asks the
same law and the same recipe for the best model of the FLOP that the minutes would give at ``BLIND_MFU`` of peak: what
a planner does that knows a peak and a usual utilisation, and not how fast each shape runs.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

from shapewright.api import design
from shapewright.architecture.shape import Block, DenseFFN, Norm, SelfAttention, Shape
from shapewright.designs.document import Design
from shapewright.hardware.catalog import load_accelerator
from shapewright.lab.state import Setup
from shapewright.lab.training import training_of

LEAST_STEPS = 1000
BLIND_MFU = 0.4
"""Model FLOP over peak of well-run training: PaLM 46 %, Llama 3 38 to 43 % (arXiv 2204.02311, 2407.21783)."""
NAMES = ("shapewright", "flop-optimal", "nanogpt-6x384", "nanogpt-12x128", "tinystories-8m")
Name = Literal["shapewright", "flop-optimal", "nanogpt-6x384", "nanogpt-12x128", "tinystories-8m"]
TITLES = {
    "shapewright": "Shapewright's design",
    "flop-optimal": "best for the FLOP, blind to the hardware",
    "nanogpt-6x384": "nanoGPT's character model",
    "nanogpt-12x128": "12 x 128 by nanoGPT's recipe for a CPU",
    "tinystories-8m": "TinyStories-8M",
}


@dataclass(frozen=True, kw_only=True, slots=True)
class Entry:
    """One arm at one budget, before its speed is known."""

    setup: Setup
    peak: float
    """Largest learning rate."""
    final: float
    kind: Literal["cosine", "wsd"]
    warmup_share: float
    """Of all steps."""
    cut_batch: bool
    """Whether a batch that leaves too few steps is cut."""
    source: str


def entry(name: str, *, minutes: float, seed: int, folder: Path) -> Entry:
    """The arm ``name``; designs are made once per budget and kept in ``folder``, beside ``this.toml``."""
    if name in ("shapewright", "flop-optimal"):
        found = designed(name, minutes=minutes, folder=folder)
        training = training_of(found, minutes=minutes, seed=seed)
        # Everything fits at once here; smaller pieces of a batch only cost the arm time.
        setup = replace(training.setup, micro_batch=training.setup.batch)
        assert found.recipe is not None
        return Entry(
            setup=setup, peak=training.schedule.peak, final=0.0, kind="wsd", cut_batch=False,
            warmup_share=found.recipe.warmup_steps.value / found.recipe.steps.value,
            source="shapewright design" if name == "shapewright" else f"the same by FLOP at {BLIND_MFU:.0%} of peak",
        )  # fmt: skip
    return {"nanogpt-6x384": _nanogpt, "nanogpt-12x128": _nanogpt_cpu, "tinystories-8m": _tinystories}[name](
        seed
    )


def designed(name: str, *, minutes: float, folder: Path) -> Design:
    """The document of a designed arm, made when it is first asked for."""
    from shapewright.designs.files import load_design

    path = folder / f"{name}_{minutes:g}.json"
    if not path.exists():
        hardware = str(folder / "this.toml")
        if name == "shapewright":
            made = design(hardware, minutes=minutes)
        else:
            peaks = load_accelerator(hardware).peak_flops
            made = design(hardware, flops=BLIND_MFU * max(p.value for p in peaks.values()) * 60.0 * minutes)
        made.save(path)
    return load_design(path)


def _setup(shape: Shape, *, seq_len: int, batch: int, seed: int, beta2: float) -> Setup:
    depth = float(shape.num_layers)
    return Setup(
        shape=shape, seq_len=seq_len, batch=batch, micro_batch=batch, precision="fp32", weight_decay=0.1, beta1=0.9,
        beta2=beta2, epsilon=1e-8, gradient_clip=1.0, init_std=0.02, output_init_std=0.02 / (2.0 * depth) ** 0.5, seed=seed,
    )  # fmt: skip


def _gpt(name: str, *, width: int, depth: int, heads: int, context: int) -> Shape:
    mixer = SelfAttention(heads=heads, kv_heads=heads, head_dim=width // heads, rotary_fraction=0.0)
    norm = Norm(kind="layernorm")
    return Shape(
        name=name, vocab_size=256, hidden_size=width, tied_embeddings=True, learned_positions=context, final_norm=norm,
        blocks=(Block(mixer=mixer, channel=DenseFFN(ffn_size=4 * width, gated=False), count=depth, norm=norm),),
    )  # fmt: skip


def _nanogpt(seed: int) -> Entry:
    shape = _gpt("nanogpt-6x384", width=384, depth=6, heads=6, context=256)
    return Entry(
        setup=_setup(shape, seq_len=256, batch=64, seed=seed, beta2=0.99), peak=1e-3, final=1e-4, kind="cosine",
        warmup_share=100 / 5000, cut_batch=True, source="karpathy/nanoGPT config/train_shakespeare_char.py",
    )  # fmt: skip


def _nanogpt_cpu(seed: int) -> Entry:
    shape = _gpt("nanogpt-12x128", width=128, depth=12, heads=4, context=64)
    return Entry(
        setup=_setup(shape, seq_len=64, batch=12, seed=seed, beta2=0.99), peak=1e-3, final=1e-4, kind="cosine",
        warmup_share=100 / 2000, cut_batch=True, source="karpathy/nanoGPT README, the run on a CPU",
    )  # fmt: skip


def _tinystories(seed: int) -> Entry:
    """GPT-Neo: every second layer sees 256 tokens, the others all 512 (Eldan and Li 2023, arXiv 2305.07759)."""
    full = SelfAttention(heads=16, kv_heads=16, head_dim=16, rotary_fraction=0.0, out_bias=True)
    norm = Norm(kind="layernorm", bias=True)
    ffn = DenseFFN(ffn_size=1024, gated=False, bias=True)
    blocks = tuple(
        Block(mixer=mixer, channel=ffn, count=1, norm=norm)
        for _ in range(4)
        for mixer in (full, replace(full, window=256))
    )
    shape = Shape(name="tinystories-8m", vocab_size=256, hidden_size=256, tied_embeddings=True, learned_positions=512,
                  final_norm=norm, blocks=blocks)  # fmt: skip
    return Entry(
        setup=_setup(shape, seq_len=512, batch=80, seed=seed, beta2=0.95), peak=5e-4, final=5e-4, kind="cosine",
        warmup_share=0.0, cut_batch=True, source="model cards of TinyStories: rate 5e-4, constant",
    )  # fmt: skip
