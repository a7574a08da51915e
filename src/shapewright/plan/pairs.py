"""From tables of shapes and plans to training steps: each distinct layer and local split is priced once."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from shapewright.architecture.operator import Size
from shapewright.architecture.shape import Shape
from shapewright.cost.price import CostModel
from shapewright.hardware.cluster import Cluster
from shapewright.plan.costs import ModelCost
from shapewright.plan.framework import Framework
from shapewright.plan.goodput import DEVICE_MTBF_S
from shapewright.plan.layer import price_model
from shapewright.plan.parallel import Plan
from shapewright.plan.precision import Precision
from shapewright.plan.shard import Split
from shapewright.plan.stage_memory import step_memory
from shapewright.plan.training import StepTable, training_steps
from shapewright.plan.wires import Wires, plan_wires

Array = NDArray[Any]
ADAMW = "AdamW"
"""The optimizer that recipes are laws of."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Workload:
    """Everything about a step besides the shape and the plan."""

    cluster: Cluster
    model: CostModel
    precision: Precision
    framework: Framework
    seq_len: int
    trainable: float = 1.0
    """Share of the parameters that train; below 1 the model's own weights are frozen and adapters train (LoRA)."""
    adapter_rank: int = 0
    """Rank of those adapters; 0 where every weight trains."""
    optimizer: str = ADAMW
    """As the answer writes it (:data:`shapewright.plan.modes.OPTIMIZERS`)."""
    imbalance: float = 1.0
    """Tokens of the fullest expert-parallel rank over the mean [1]."""
    optimizer_traffic: float = 30.0
    """Bytes moved per parameter by one optimizer step."""
    device_mtbf_s: float = DEVICE_MTBF_S
    """Mean time between failures of a device that stop the run [s]."""


@dataclass(frozen=True, kw_only=True, slots=True)
class LocalCosts:
    """Layer costs on the grid of layer shapes and distinct local splits, and each plan's place in it."""

    costs: ModelCost
    split_of_plan: Array
    wires: Wires


def price_local(layers: Shape, plans: Plan, workload: Workload) -> LocalCosts:
    """Price a table of layers (sizes are (W, 1) arrays or numbers) under the distinct local splits of ``plans``."""
    size = len(plans)
    keys = np.stack(
        [
            np.broadcast_to(np.asarray(x), size)
            for x in (
                plans.tp,
                plans.cp,
                plans.ep,
                plans.etp,
                plans.micro_batch,
                plans.sequence_parallel,
                plans.async_tp,
                plans.context,
            )
        ]
    )
    distinct, inverse = np.unique(keys, axis=1, return_inverse=True)
    tp, cp, ep, etp, micro_batch, tokens_too, behind, context = (row[None, :] for row in distinct)
    costs = price_model(
        layers,
        Split(
            tp=tp,
            cp=cp,
            ep=ep,
            etp=etp,
            sequence_parallel=tokens_too,
            async_tp=behind,
            context=context,
            imbalance=workload.imbalance,
        ),
        micro_batch=micro_batch,
        seq_len=workload.seq_len,
        precision=workload.precision,
        framework=workload.framework,
        model=workload.model,
        cluster=workload.cluster,
        frozen=workload.trainable < 1.0,
    )
    wires = plan_wires(workload.model, workload.cluster, plans, workload.framework.rails)
    return LocalCosts(costs=costs, split_of_plan=inverse.ravel(), wires=wires)


@dataclass(frozen=True, kw_only=True, slots=True)
class Pairs:
    """(shape, plan) pairs, as indices that broadcast into a table of layers and one of plans."""

    local: LocalCosts
    plans: Plan
    workload: Workload
    layer: Array
    plan: Array
    depth: Size
    global_batch: Size

    def steps(self) -> StepTable:
        """The training step of every pair."""
        workload = self.workload
        return training_steps(
            **self._common(),
            wires=self.local.wires.take(self.plan),
            framework=workload.framework,
            model=workload.model,
            optimizer_traffic=workload.optimizer_traffic,
        )

    def memory(self) -> Array:
        """Peak of the fullest device of every pair [B], for less than half of what their steps cost."""
        return step_memory(**self._common())

    def _common(self) -> dict[str, Any]:
        return {
            "costs": self.local.costs,
            "w": self.layer,
            "p": self.local.split_of_plan[self.plan],
            "depth": self.depth,
            "plan": self.plans.take(self.plan),
            "global_batch": self.global_batch,
            "precision": self.workload.precision,
            "cluster": self.workload.cluster,
            "trainable": self.workload.trainable,
        }


def average_layer(shape: Shape) -> Shape:
    """The shape with its blocks weighted into one layer, as the tables want it."""
    total = shape.num_layers
    return replace(shape, blocks=tuple(replace(block, count=block.count / total) for block in shape.blocks))
