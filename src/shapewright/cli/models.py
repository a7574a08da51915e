"""``shapewright models``: the models it knows, or one of them in detail."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated, Any

import typer

from shapewright.cli import options as o
from shapewright.cli.common import out, print_json
from shapewright.units import format_count, format_quantity

if TYPE_CHECKING:
    from rich.console import Console

    from shapewright.architecture.catalog import ModelFacts
    from shapewright.architecture.shape import Block, Shape

_CACHE_BYTES = 2
"""Bytes of a cached element where a cache is shown: 16-bit formats."""
_STATE_BYTES = 4
"""Bytes of an element of a recurrent state: fp32, as kernels keep it."""


def command(
    name: Annotated[
        str | None,
        typer.Argument(help="a known model, a config.json, or a folder that holds one; none: list all"),
    ] = None,
    context: Annotated[int, typer.Option(help="sequence length for FLOP and cache, in tokens", min=1)] = 4096,
    json: o.Json = False,
) -> None:
    """Show the known models, or the shape, parameters, FLOP and cache of one.

    Example: shapewright models llama-3-8b
    """
    if name is None:
        rows = _rows()
        if json:
            print_json(rows)
        else:
            _print_table(out(), rows)
        return
    from shapewright.architecture.catalog import known_facts, resolve_model

    shape, facts = resolve_model(name), known_facts(name)
    if json:
        print_json(_document(shape, facts, context))
    else:
        _print_model(out(), shape, facts, context)


def _rows() -> list[dict[str, Any]]:
    from shapewright.architecture.catalog import load_model, model_names

    rows = [_row(load_model(name)) for name in model_names()]
    return sorted(rows, key=lambda row: (row["name"].split("-")[0], row["params"]))


def _row(shape: Shape) -> dict[str, Any]:
    from shapewright.architecture.graph import num_active_params, num_params
    from shapewright.architecture.shape import ExpertsFFN

    block = _main_block(shape)
    experts = block.channel if isinstance(block.channel, ExpertsFFN) else None
    return {
        "name": shape.name, "params": num_params(shape), "active_params": num_active_params(shape),
        "num_layers": shape.num_layers, "hidden_size": shape.hidden_size, "heads": block.mixer.heads,
        "kv_heads": block.mixer.kv_heads, "head_dim": block.mixer.head_dim, "ffn_size": block.channel.ffn_size,
        "experts": experts.experts if experts else None, "topk": experts.topk if experts else None,
        "vocab_size": shape.vocab_size,
    }  # fmt: skip


def _main_block(shape: Shape) -> Block:
    """The block that most layers with experts are of, or most layers where none has any."""
    from shapewright.architecture.shape import ExpertsFFN

    return max(shape.blocks, key=lambda block: (isinstance(block.channel, ExpertsFFN), block.count))


def _print_table(console: Console, rows: list[dict[str, Any]]) -> None:
    from rich.table import Table

    table = Table(box=None, pad_edge=False, padding=(0, 1, 0, 0))
    for title in ("model", "params", "active", "layers", "width", "heads/kv", "ffn", "experts", "vocab"):
        table.add_column(title, justify="left" if title == "model" else "right", no_wrap=True)
    for row in rows:
        experts = f"{row['topk']}/{row['experts']}" if row["experts"] else ""
        active = format_count(row["active_params"]) if row["experts"] else ""
        table.add_row(
            row["name"], format_count(row["params"]), active, str(row["num_layers"]), str(row["hidden_size"]),
            f"{row['heads']}/{row['kv_heads']}", str(row["ffn_size"]), experts, str(row["vocab_size"]),
        )  # fmt: skip
    console.print(table)
    console.print(f"\n{len(rows)} models. One in detail: shapewright models {rows[0]['name']}")


def _document(shape: Shape, facts: ModelFacts | None, context: int) -> dict[str, Any]:
    from shapewright.architecture.summary import (
        cache_elements,
        flops_per_token,
        parameter_breakdown,
        state_elements,
    )

    seq_len = shape.patches.num_tokens if shape.patches else context
    return {
        **_row(shape), "shape": asdict(shape), "parameters": parameter_breakdown(shape), "context": seq_len,
        "forward_flops_per_token": float(flops_per_token(shape, seq_len)),
        "kv_cache_bytes": None if shape.patches else float(cache_elements(shape, seq_len) * _CACHE_BYTES),
        "state_bytes": float(state_elements(shape) * _STATE_BYTES), "alignment": _alignment(shape),
        "facts": asdict(facts) if facts else None,
    }  # fmt: skip


def _alignment(shape: Shape) -> dict[str, int]:
    from shapewright.architecture.summary import power_of_two

    block = _main_block(shape)
    sizes = {"hidden_size": shape.hidden_size, "head_dim": block.mixer.head_dim, "ffn_size": block.channel.ffn_size,
             "vocab_size": shape.vocab_size, "heads": block.mixer.heads}  # fmt: skip
    return {name: power_of_two(int(size)) for name, size in sizes.items() if size}


def _print_model(console: Console, shape: Shape, facts: ModelFacts | None, context: int) -> None:
    from rich.markup import escape

    document = _document(shape, facts, context)
    console.print(
        f"[bold]{facts.title}[/bold] by {facts.publisher}\n"
        if facts
        else f"[bold]{escape(shape.name)}[/bold]\n"
    )
    _print_fields(console, _shape_fields(shape, document))
    console.print("\nparameters by operator")
    for name, params in sorted(document["parameters"].items(), key=lambda item: -item[1]):
        console.print(f"  {name:26} {format_count(params):>8}  {params / document['params']:6.1%}")
    if facts is not None:
        console.print("\npublished")
        _print_fields(console, _fact_fields(facts))


def _print_fields(console: Console, fields: list[tuple[str, str]]) -> None:
    """Labels and texts in two columns, so that long texts stay beside their label."""
    from rich.table import Table

    grid = Table.grid(padding=(0, 2), pad_edge=False)
    grid.add_column(min_width=11, no_wrap=True)
    grid.add_column(overflow="fold")
    for label, text in fields:
        grid.add_row(label, text)
    console.print(grid)


def _shape_fields(shape: Shape, document: dict[str, Any]) -> list[tuple[str, str]]:
    active = "" if document["active_params"] == document["params"] else (
        f", of which {format_count(document['active_params'])} per token"
    )  # fmt: skip
    tied = " (tied to the head)" if shape.tied_embeddings else ""
    fields = [
        ("parameters", f"{document['params']:,}{active}"),
        ("width", f"{shape.hidden_size:,}, {shape.num_layers} layers, vocabulary {shape.vocab_size:,}{tied}"),
        *(("layers", f"{block.count} x {_describe(block)}") for block in shape.blocks),
    ]
    if shape.patches is not None:
        p = shape.patches
        fields.append(("patches", f"{p.num_patches} of {p.patch_size} x {p.patch_size} pixel"))
    flops = format_quantity(document["forward_flops_per_token"], "FLOP")
    fields.append(("forward", f"{flops} per token of a sequence of {document['context']:,} tokens"))
    if document["kv_cache_bytes"] is not None:
        total = document["kv_cache_bytes"]
        fields.append(("cache", f"{format_quantity(total / document['context'], 'B')} per token in 16 bits, "
                                f"{format_quantity(total, 'B')} for {document['context']:,} tokens"))  # fmt: skip
    if document["state_bytes"]:
        fields.append(
            ("state", f"{format_quantity(document['state_bytes'], 'B')} per sequence in fp32, at any length")
        )
    aligned = ", ".join(f"{name} {power}" for name, power in document["alignment"].items())
    fields.append(("alignment", f"largest powers of two that divide: {aligned}"))
    return fields


def _describe(block: Block) -> str:
    """One layer in words."""
    from shapewright.architecture.words import channel_words, mixer_words

    channel = channel_words(block.channel)
    return f"({mixer_words(block.mixer)}{'; ' if channel else ''}{channel})"


def _fact_fields(facts: ModelFacts) -> list[tuple[str, str]]:
    figures = [("parameters", facts.params), ("per token", facts.active_params), ("tokens", facts.tokens),
               ("training", facts.train_flop), ("devices", facts.num_devices)]  # fmt: skip
    fields = [(label, f"{figure} ({figure.kind}: {figure.source})") for label, figure in figures if figure]
    if facts.device_time is not None:
        hours = facts.device_time.value / 3600
        fields.append(
            ("time", f"{hours:,.0f} device hours ({facts.device_time.kind}: {facts.device_time.source})")
        )
    texts = [("hardware", facts.hardware), ("released", facts.released), ("shape", facts.source),
             ("weights", facts.licence), ("note", facts.note)]  # fmt: skip
    return fields + [(label, text) for label, text in texts if text]
