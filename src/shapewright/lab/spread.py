"""A net cut over a team's processes, and the way to whole weights and back.

Decisions: layers are shared with PyTorch's column and row split and cut with FSDP2, one unit per layer. A product that
makes several things at once (queries, keys and values; gate and up) has its rows put in the order of the processes
first, so that each gets its share of each. Checkpoints hold whole weights in the order of one process, gathered by the
first: so they carry the same digest check, any number of processes goes on with any other's, and a checkpoint is
exported as ever. That costs the first process the memory of the whole state (12 bytes per parameter), which the models
that train here do not come near; larger ones want ``torch.distributed.checkpoint`` and its folder of pieces.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from shapewright.errors import NotCoveredError, UsageError
from shapewright.lab.attention_layers import AttentionLayer
from shapewright.lab.channel_layers import FFNLayer
from shapewright.lab.nets import Layer, Net
from shapewright.lab.team import Team

Orders = Mapping[str, Tensor]
"""Rows of whole weights in the order of the processes, by name of the parameter."""


def spread(net: Net, team: Team) -> Orders:
    """Cut ``net`` over ``team`` in place; all processes hold the same whole one before.

    Raises:
        UsageError: heads or columns do not divide over the processes that share a layer.
        NotCoveredError: a layer cannot be shared.
    """
    from torch.distributed.fsdp import fully_shard

    orders: dict[str, Tensor] = {}
    if team.layout.tp > 1:
        for i, layer in enumerate(net.layers):
            assert isinstance(layer, Layer)
            for name, order in _share(layer, team).items():
                orders[f"layers.{i}.{name}"] = order
    # A copy for each process is the mesh of two axes whose second has length 1.
    axes = ("replicate", "shard") if team.layout.replicate > 1 else ("shard",)
    mesh = team.mesh[axes if len(axes) > 1 else axes[0]]
    for part in (*net.layers, net):
        fully_shard(part, mesh=mesh, reshard_after_forward=team.layout.regather)
    for part in net.modules():
        if isinstance(part, nn.LSTM):
            part.register_forward_pre_hook(_refresh)
    return orders


def _refresh(cell: nn.Module, inputs: Any) -> None:
    """torch's LSTM keeps its weights in a list of its own, which FSDP does not know of."""
    assert isinstance(cell, nn.LSTM)
    cell._flat_weights = [getattr(cell, name) for name in cell._flat_weights_names]


def _share(layer: Layer, team: Team) -> dict[str, Tensor]:
    """Share one layer; the order of the rows of its joint products."""
    from torch.distributed.tensor.parallel import ColwiseParallel, RowwiseParallel, parallelize_module

    count, mixer, ffn = team.layout.tp, layer.mixer, layer.ffn
    if not isinstance(mixer, AttentionLayer) or mixer.sinks is not None or mixer.q_norm is not None:
        raise NotCoveredError(
            f"a layer of {type(mixer).__name__} cannot be shared by --tp {count}",
            "attention without sinks and without norms of its queries and keys can",
            "leave --tp out: its weights are cut over the processes instead",
        )  # fmt: skip
    if ffn is not None and not isinstance(ffn, FFNLayer):
        raise NotCoveredError(
            f"{type(ffn).__name__} cannot be shared by --tp {count}", "dense feed-forward layers can",
            "leave --tp out: its weights are cut over the processes instead",
        )  # fmt: skip
    numbers = {"heads": mixer.heads, "key and value heads": mixer.kv_heads}
    if ffn is not None:
        numbers["feed-forward columns"] = ffn.size
    for name, number in numbers.items():
        if number % count:
            raise UsageError(
                f"{number} {name} do not divide over --tp (={count})", "each process has as many as the others",
                f"choose a divisor of {number}, or leave --tp out",
            )  # fmt: skip
    plan: dict[str, Any] = {"mixer.qkv": ColwiseParallel(), "mixer.out": RowwiseParallel()}
    orders = _reorder(layer, "mixer.qkv", mixer.sizes, count)
    mixer.share(count)
    if mixer.gate is not None:
        plan["mixer.gate"] = ColwiseParallel()
    if ffn is not None:
        plan |= {"ffn.up": ColwiseParallel(), "ffn.down": RowwiseParallel()}
        if ffn.gated:
            orders |= _reorder(layer, "ffn.up", (ffn.size, ffn.size), count)
        ffn.share(count)
    parallelize_module(layer, team.mesh["tp"], plan)
    return orders


def _reorder(layer: Layer, name: str, sizes: Iterable[int], count: int) -> dict[str, Tensor]:
    """Put the rows of a joint product in the order of the processes."""
    pieces: list[list[Tensor]] = [[] for _ in range(count)]
    start = 0
    for size in sizes:
        for process, rows in enumerate(torch.arange(start, start + size).chunk(count)):
            pieces[process].append(rows)
        start += size
    order = torch.cat([rows for share in pieces for rows in share])
    found = {}
    for kind, parameter in layer.get_submodule(name).named_parameters():
        with torch.no_grad():
            parameter.copy_(parameter[order.to(parameter.device)])
        found[f"{name}.{kind}"] = order
    return found


def whole(tensor: Tensor, order: Tensor | None) -> Tensor:
    """A cut tensor as one process would hold it; every process must ask."""
    if type(tensor) in (Tensor, nn.Parameter):
        return tensor
    from torch.distributed.tensor import DTensor

    if not isinstance(tensor, DTensor):
        return tensor
    full = tensor.full_tensor().cpu()
    return full if order is None else full[torch.argsort(order)]


def cut(full: Tensor, like: Tensor, order: Tensor | None) -> Tensor:
    """This process's part of a whole tensor, as ``like`` is cut."""
    from torch.distributed.tensor import DTensor, distribute_tensor

    if not isinstance(like, DTensor) or full.dim() == 0:
        return full
    rows = full if order is None else full[order]
    return distribute_tensor(rows.to(like.device), like.device_mesh, like.placements, src_data_rank=None)


def clip(parameters: Iterable[Tensor], limit: float) -> None:
    """Scale all gradients so that their joint norm is at most ``limit``, over every process."""
    from torch.distributed.tensor import DTensor
    from torch.nn.utils import clip_grads_with_norm_, get_total_norm

    by_mesh: dict[Any, list[Tensor]] = {}
    for p in parameters:
        if p.grad is not None:
            by_mesh.setdefault(p.device_mesh if isinstance(p, DTensor) else None, []).append(p)
    norms = [get_total_norm([p.grad for p in group if p.grad is not None]) for group in by_mesh.values()]
    total = torch.stack([n.full_tensor() if isinstance(n, DTensor) else n for n in norms]).norm()
    for group in by_mesh.values():
        clip_grads_with_norm_(group, limit, total)
