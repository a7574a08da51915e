"""A trained net as a checkpoint that transformers loads: ``config.json`` and ``model.safetensors``.

Decisions: the family is the one that :func:`~shapewright.architecture.huggingface.write_config` chooses, which reads back
as the same shape; weights are renamed and split for the families of Llama's names (Llama, Mistral, Qwen2, Qwen3, OLMo 2).
What the shape leaves open is written as it was trained: epsilon, rotary base, SiLU. Weights stay in fp32.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from torch import Tensor

from shapewright.architecture.huggingface import write_config
from shapewright.architecture.shape import Shape
from shapewright.errors import MeasurementError, MissingPackageError, NotCoveredError
from shapewright.lab.attention_layers import AttentionLayer
from shapewright.lab.channel_layers import FFNLayer
from shapewright.lab.nets import Layer, Net
from shapewright.lab.norms import EPSILON, ROTARY_BASE
from shapewright.lab.state import load_checkpoint, write_atomic

FAMILIES = ("llama", "mistral", "qwen2", "qwen3", "olmo2")


def config_of(shape: Shape) -> dict[str, Any]:
    """The ``config.json`` of a shape as it is trained here.

    Raises:
        NotCoveredError: no family of transformers has these layers, or its weights are named otherwise.
    """
    document = write_config(shape)
    if document["model_type"] not in FAMILIES:
        raise NotCoveredError(
            f"a checkpoint of {document['model_type']} cannot be written",
            f"weights are renamed for {', '.join(FAMILIES)}", "leave --checkpoint out; the run keeps its own",
        )  # fmt: skip
    rope = {"rope_theta": ROTARY_BASE, "rope_type": "default"}
    return {
        **document,
        "rms_norm_eps": EPSILON,
        "rope_parameters": rope,
        "hidden_act": "silu",
        "dtype": "float32",
    }


def write_checkpoint(shape: Shape, run: Path, folder: Path) -> None:
    """Write the weights of the run in ``run`` for transformers.

    Raises:
        NotCoveredError: as :func:`config_of`.
        MissingPackageError: safetensors is not installed.
        MeasurementError: the run has no whole checkpoint, or the folder cannot be written to.
    """
    config = config_of(shape)
    try:
        from safetensors.torch import save
    except ImportError as error:
        raise MissingPackageError("--checkpoint", "safetensors", extra="lab") from error
    net = Net(shape)
    net.load_state_dict(load_checkpoint(run / "checkpoint.pt")["net"])
    weights = {name: tensor.detach().contiguous().clone() for name, tensor in renamed(net).items()}
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise MeasurementError(
            f"{folder} cannot be written to", error.strerror or str(error), "choose another with --checkpoint"
        ) from error
    write_atomic(folder / "model.safetensors", save(weights, metadata={"format": "pt"}))
    write_atomic(folder / "config.json", (json.dumps(config, indent=2) + "\n").encode())


def renamed(net: Net) -> dict[str, Tensor]:
    """The net's weights by the names of Llama's family."""
    assert net.embedding is not None
    found: dict[str, Tensor] = {"model.embed_tokens.weight": net.embedding.weight}
    if net.head is not None:
        found["lm_head.weight"] = net.head.weight
    if net.final_norm is not None and net.final_norm.weight is not None:
        found["model.norm.weight"] = net.final_norm.weight
    for i, layer in enumerate(net.layers):
        assert isinstance(layer, Layer)
        at = f"model.layers.{i}."
        found |= {
            at + name: tensor for name, tensor in (*_attention(layer), *_norms(layer)) if tensor is not None
        }
        found |= {at + name: tensor for name, tensor in _channel(layer)}
    return found


def _attention(layer: Layer) -> list[tuple[str, Tensor | None]]:
    a = layer.mixer
    assert isinstance(a, AttentionLayer)
    names = ("q_proj", "k_proj", "v_proj")
    found: list[tuple[str, Tensor | None]] = [
        (f"self_attn.{n}.weight", w) for n, w in zip(names, a.qkv.weight.split(a.sizes), strict=True)
    ]
    if a.qkv.bias is not None:
        found += [(f"self_attn.{n}.bias", w) for n, w in zip(names, a.qkv.bias.split(a.sizes), strict=True)]
    found += [("self_attn.o_proj.weight", a.out.weight), ("self_attn.o_proj.bias", a.out.bias)]
    for name, norm in (("q_norm", a.q_norm), ("k_norm", a.k_norm)):
        found.append((f"self_attn.{name}.weight", None if norm is None else norm.weight))
    return found


def _norms(layer: Layer) -> list[tuple[str, Tensor | None]]:
    after = layer.place == "output"
    names = ("post_attention_layernorm", "post_feedforward_layernorm") if after else (
        "input_layernorm", "post_attention_layernorm")  # fmt: skip
    return [(f"{name}.weight", norm.weight) for name, norm in zip(names, layer.norms, strict=True)]  # pyright: ignore[reportReturnType]


def _channel(layer: Layer) -> list[tuple[str, Tensor]]:
    assert isinstance(layer.ffn, FFNLayer)
    gate, up = layer.ffn.up.weight.chunk(2)
    return [
        ("mlp.gate_proj.weight", gate),
        ("mlp.up_proj.weight", up),
        ("mlp.down_proj.weight", layer.ffn.down.weight),
    ]
