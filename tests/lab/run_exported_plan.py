"""Trains an exported model under the plans of designs, and writes losses and the sizes of the collectives.

Run as a script with the exported config.json, a file for the answer, and design files; it forks two processes, and each
design's plan is laid over them with PyTorch's own DDP, FSDP2 or tensor parallelism.
"""

from __future__ import annotations

import json
import os
import socket
import sys
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
import torch._dynamo
import torch.distributed as dist
from torch.distributed.device_mesh import DeviceMesh, init_device_mesh
from torch.distributed.fsdp import fully_shard
from torch.distributed.tensor import Replicate, Shard
from torch.distributed.tensor.parallel import (
    ColwiseParallel,
    PrepareModuleInput,
    RowwiseParallel,
    SequenceParallel,
    parallelize_module,
)
from torch.nn.parallel import DistributedDataParallel
from torch.utils._python_dispatch import TorchDispatchMode
from transformers import AutoConfig, AutoModelForCausalLM

from shapewright.designs.document import Design
from shapewright.designs.files import load_design
from shapewright.plan.parallel import SHARDING

STEPS = 3
"""The last one is counted: DDP settles its buckets in the second."""
RATE = 0.5
"""Of plain gradient descent: large enough for the later losses to show a wrong gradient."""

_WHOLE: dict[str, tuple[str, Callable[[Any, Any], torch.Tensor]]] = {
    "c10d::allreduce_": ("all_reduce", lambda args, out: args[0][0]),
    "c10d::_allgather_base_": ("all_gather", lambda args, out: args[0]),
    "c10d::_reduce_scatter_base_": ("reduce_scatter", lambda args, out: args[1]),
    "_c10d_functional::all_reduce": ("all_reduce", lambda args, out: args[0]),
    "_c10d_functional::all_gather_into_tensor": ("all_gather", lambda args, out: out),
    "_c10d_functional::reduce_scatter_tensor": ("reduce_scatter", lambda args, out: args[0]),
}
"""Collectives by operator, with the tensor that a gather results in or that a reduction starts from."""
_NO_COLLECTIVES = ("wait_tensor", "_wrap_tensor_autograd")


class Counted(TorchDispatchMode):
    """Notes the size of every collective that runs inside [B]; unknown ones appear under their own name."""

    def __init__(self) -> None:
        super().__init__()
        self.sizes: dict[str, list[int]] = {}

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        out = func(*args, **(kwargs or {}))
        name = func._schema.name
        if name in _WHOLE:
            kind, whole = _WHOLE[name]
            tensor = whole(args, out)
            self.sizes.setdefault(kind, []).append(tensor.numel() * tensor.element_size())
        elif "c10d" in name and not name.endswith(_NO_COLLECTIVES):
            self.sizes.setdefault(name, []).append(0)
        return out


def build(config_file: str | Path) -> torch.nn.Module:
    """The exported model, with the same weights on every call."""
    config = AutoConfig.for_model(**json.loads(Path(config_file).read_text()))
    torch.manual_seed(0)
    return AutoModelForCausalLM.from_config(config, dtype=torch.float32, attn_implementation="sdpa")


def tokens_of(design: Design) -> torch.Tensor:
    """The global batch."""
    size = (design.run.global_batch_sequences, design.run.sequence_length)
    return torch.randint(int(design.shape.vocab_size), size, generator=torch.Generator().manual_seed(1))


def train(model: torch.nn.Module, tokens: torch.Tensor) -> tuple[list[torch.Tensor], dict[str, list[int]]]:
    """Losses of all steps and the sizes of the collectives of the last."""
    optimizer = torch.optim.SGD(model.parameters(), lr=RATE)
    losses: list[torch.Tensor] = []
    sizes: dict[str, list[int]] = {}
    for _ in range(STEPS):
        counted = Counted()
        with counted:
            loss = model(input_ids=tokens, labels=tokens).loss
            loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        losses.append(loss.detach())
        sizes = counted.sizes
    return losses, sizes


def spread(model: Any, design: Design, mesh: DeviceMesh) -> Any:
    """The model as the plan says."""
    if design.plan.tp > 1:
        return _tensor_parallel(model, mesh)
    if SHARDING[int(design.plan.sharding)] == "parameters":
        for layer in model.model.layers:
            fully_shard(layer, mesh=mesh)
        return fully_shard(model, mesh=mesh)
    return DistributedDataParallel(model, forward_sync_buffers=False)


def _tensor_parallel(model: Any, mesh: DeviceMesh) -> Any:
    """Column and row splits with sequence parallelism; the first layer cuts the sequence, the head's input joins it."""
    gathered = PrepareModuleInput(
        input_kwarg_layouts={"hidden_states": Shard(1)},
        desired_input_kwarg_layouts={"hidden_states": Replicate()},
    )
    for layer in model.model.layers:
        plan = {
            "input_layernorm": SequenceParallel(use_local_output=True),
            "self_attn": gathered,
            **{f"self_attn.{name}_proj": ColwiseParallel() for name in "qkv"},
            "self_attn.o_proj": RowwiseParallel(output_layouts=Shard(1)),
            "post_attention_layernorm": SequenceParallel(use_local_output=True),
            "mlp": PrepareModuleInput(input_layouts=(Shard(1),), desired_input_layouts=(Replicate(),)),
            "mlp.gate_proj": ColwiseParallel(),
            "mlp.up_proj": ColwiseParallel(),
            "mlp.down_proj": RowwiseParallel(output_layouts=Shard(1)),
        }
        parallelize_module(layer, mesh, plan)
    cut = PrepareModuleInput(
        input_layouts=(Replicate(),), desired_input_layouts=(Shard(1),), use_local_output=True
    )
    parallelize_module(model.model.layers[0], mesh, cut)
    ends = {
        "model.norm": SequenceParallel(use_local_output=True),
        "lm_head": ColwiseParallel(input_layouts=Shard(1), output_layouts=Replicate()),
    }
    return parallelize_module(model, mesh, ends)


def main(config_file: str, answer: str, *design_files: str) -> None:
    """Train under each plan; the first process writes the answer."""
    torch.set_num_threads(1)
    dist.init_process_group("gloo")
    rank, world = dist.get_rank(), dist.get_world_size()
    mesh = init_device_mesh("cpu", (world,))
    found = []
    for file in design_files:
        design = load_design(file)
        copies = int(design.plan.dp)
        mine = tokens_of(design).chunk(copies)[rank % copies]
        losses, sizes = train(spread(build(config_file), design, mesh), mine)
        mean = torch.stack(losses)
        dist.all_reduce(mean)
        found.append({"losses": (mean / world).tolist(), "sizes": sizes})
    if rank == 0:
        Path(answer).write_text(json.dumps(found))
    dist.barrier()
    dist.destroy_process_group()


def launch(*arguments: str, processes: int = 2) -> None:
    """Fork the processes, as torchrun would start them, once all that they need is loaded; exit where one fails."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    os.environ.update(WORLD_SIZE=str(processes), MASTER_ADDR="127.0.0.1", MASTER_PORT=str(port))
    children = []
    for rank in range(processes):
        child = os.fork()
        if child == 0:
            code = 1
            try:
                os.environ.update(RANK=str(rank), LOCAL_RANK=str(rank))
                main(*arguments)
                code = 0
            except Exception:
                traceback.print_exc()
            finally:
                # PyTorch 2.13 sometimes aborts while the interpreter shuts down after gloo groups.
                sys.stderr.flush()
                os._exit(code)
        children.append(child)
    ended = [os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) for child in children]
    if any(ended):
        sys.exit(f"processes ended with {ended}")


if __name__ == "__main__":
    launch(*sys.argv[1:])
