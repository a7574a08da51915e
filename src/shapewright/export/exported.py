"""What every export has in common: the noun that comes out, and the questions asked of every Design.

Decisions: what a target cannot say is refused, by name of the field and with the change that would do. What it
says in other words with the same meaning is written; where the meaning differs a little (another sharding of the
same state, say) the file is written and a remark says how. A figure that no Design holds, such as the base of the
rotary embedding, is left to the target's default.
"""

from __future__ import annotations

from dataclasses import dataclass

from shapewright.architecture.shape import Block, DenseFFN, ExpertsFFN, SelfAttention, Shape
from shapewright.designs.document import Design
from shapewright.errors import DocumentError, NotCoveredError, UsageError
from shapewright.plan.pairs import ADAMW
from shapewright.plan.parallel import MODES, WORDS, Plan
from shapewright.scaling.recipe import Recipe


@dataclass(frozen=True, kw_only=True, slots=True)
class Exported:
    """One file for one tool."""

    text: str
    file_name: str
    """What the tool, or the custom of its users, calls such a file."""
    remarks: tuple[str, ...] = ()
    """Where the file says something else than the Design, and what it leaves to its user."""


def not_covered(target: str, what: str, fix: str) -> NotCoveredError:
    """The error for something that a target has no words for."""
    return NotCoveredError(
        f"{target} cannot express {what}", "a file that says less than the design is no export", fix
    )


def recipe_of(design: Design, target: str) -> Recipe:
    """The recipe of the design.

    Raises:
        NotCoveredError: the run is of another optimizer than the recipe is for, or trains adapters.
        UsageError: it has none, since it is an estimate of a single step.
    """
    if design.run.adapter_rank:
        raise not_covered(
            target,
            f"adapters of rank {design.run.adapter_rank} beside frozen weights",
            "estimate without --lora",
        )
    if design.run.optimizer != ADAMW:
        raise not_covered(
            target,
            f"a recipe for {design.run.optimizer}: ours is {ADAMW}'s",
            "estimate with --optimizer adamw",
        )
    if design.recipe is None:
        raise UsageError(
            f"the design has no recipe, which {target} needs for its learning rate and steps",
            "an estimate without tokens prices one step",
            "write it again with tokens: shapewright estimate MODEL --on HARDWARE --tokens 1e12 --out design.json",
        )
    return design.recipe


def num_micro_batches(design: Design) -> int:
    """Micro-batches of one data-parallel copy in one step: the steps of gradient accumulation.

    Raises:
        DocumentError: the global batch is not a whole number of them.
    """
    plan, batch = design.plan, design.run.global_batch_sequences
    unit = int(plan.dp) * int(plan.micro_batch)
    if batch % unit:
        raise DocumentError(
            f"run.global_batch_sequences (={batch}) is not a multiple of dp * micro_batch (={unit})",
            "every data-parallel copy runs the same number of micro-batches",
            "write the design again with: shapewright design",
        )
    return batch // unit


def whole_plan(plan: Plan) -> dict[str, int]:
    """The numbers of one plan as Python integers."""
    return {name: int(getattr(plan, name)) for name in Plan.__slots__}


def refuse_modes(plan: Plan, target: str, *, expressed: tuple[str, ...] = ()) -> None:
    """Refuse modes of a plan (schedule, offload, ...) that differ from the usual and that the target has no words for.

    Raises:
        NotCoveredError: names the mode, its value and the usual one.
    """
    usual = whole_plan(Plan())
    for name, value in whole_plan(plan).items():
        if name in MODES and name not in expressed and value != usual[name]:
            words = WORDS.get(name)
            said, plain_one = (words[value], words[usual[name]]) if words else (value, usual[name])
            raise not_covered(target, f"plan.{name} (={said})", f"design with plan.{name} {plain_one}")


def refuse_unusual_decoder(shape: Shape, target: str) -> None:
    """Refuse what no decoder library of the targets has: images, post-norms, parallel blocks, unusual attention.

    Raises:
        NotCoveredError: names the part.
    """
    unusual = {
        "patches of an image": shape.patches is not None,
        "a norm on the embeddings": shape.embedding_norm is not None,
        "a bias of the head": shape.head_bias,
        "a model without a final norm": shape.final_norm is None,
    }
    for block in shape.blocks:
        unusual |= {
            f"norms placed {block.norm_placement!r}": block.norm_placement != "pre",
            "mixer and feed-forward in parallel": block.parallel,
            "a norm without scale": not block.norm.scale,
            f"a {block.norm.kind} {'with' if block.norm.bias else 'without'} bias": block.norm.bias
            != (block.norm.kind == "layernorm"),
        }
        if isinstance(block.mixer, SelfAttention):
            unusual |= _unusual_attention(block.mixer)
    for what, present in unusual.items():
        if present:
            raise not_covered(target, what, "design with the usual pre-norm decoder, or export huggingface")


def feed_forward(block: Block, target: str) -> DenseFFN | ExpertsFFN:
    """The feed-forward layer of a block.

    Raises:
        NotCoveredError: there is none, or its experts are of an unusual kind.
    """
    channel = block.channel
    if not isinstance(channel, DenseFFN | ExpertsFFN):
        raise not_covered(target, "layers without a feed-forward layer", "export huggingface")
    if isinstance(channel, ExpertsFFN) and (channel.separate_norms or channel.latent_size is not None):
        what = "with norms of their own" if channel.separate_norms else "behind a projection"
        raise not_covered(target, f"experts {what}", "export huggingface")
    return channel


def _unusual_attention(a: SelfAttention) -> dict[str, bool]:
    return {
        "attention without a causal mask": not a.causal,
        "chunked attention": a.chunk is not None,
        "value heads of another width": a.v_head_dim not in (None, a.head_dim),
        "values that are keys": a.values_are_keys,
        f"a norm over {a.qk_norm} of the queries and keys": a.qk_norm not in ("none", "head"),
        "a norm of queries and keys without scale": a.qk_norm == "head" and not a.qk_norm_scale,
    }


def headline(design: Design) -> str:
    """One line: what this file trains, on what, what it should take, and what wrote it."""
    step = design.predicted.step_time_s
    return plain(
        f"{design.shape.name} on {design.request.hardware}: {design.plan.describe()}; predicted step {step}; "
        f"written by Shapewright {design.shapewright_version}"
    )


def plain(text: str) -> str:
    """Text of a document as one line that ends no comment and no string of the file it is put in."""
    return "".join(c for c in " ".join(text.split()) if c.isprintable() and c not in "\"'\\`$")
