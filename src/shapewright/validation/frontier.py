"""Predicted steps of the Gemstones on Frontier: the cost model alone, and with two factors for MI250X.

Decisions: nobody published kernels of MI250X, so all of them are transferred from an NVIDIA relative. Alone, priced as
the PyTorch trainers of our catalogue, the steps are predicted at 33 to 57 % of the measured ones. What the hardware and
its software add is taken up by two factors, one on matrix products and one on everything else (attention, norms,
activations, the loss, networks)::

    step = products * t_products + others * t_others          t: kernels and wires alone

They are fitted to relative errors with the predicted shape left out, and every result is shown without them, too. A
package stands for its two dies, as in the catalogue (pricing dies changes no ratio by more than 2 %). The runs'
micro-batch, recompute and sharding are not published: the largest micro-batch that fits (Anthony et al. 2024, arXiv
2401.14489, rule 2), nothing recomputed and no sharded state are taken.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from functools import cache

import numpy as np
from scipy.optimize import nnls

from shapewright.designs.breakdown import PricedPlan, price_plan
from shapewright.errors import InfeasibleError, UsageError
from shapewright.hardware.catalog import parse_cluster
from shapewright.plan.framework import KERNELS_ALONE
from shapewright.plan.pairs import Workload
from shapewright.plan.parallel import RECOMPUTE, Plan
from shapewright.scaling.protocol_gemstones import GEMSTONES_SEQ_LEN
from shapewright.search.arm import memory_limit
from shapewright.search.joint import Options, workload_for
from shapewright.validation.gemstones import FITTED_SHAPES, Setup, gemstone

DEVICES_PER_NODE = 4
"""MI250X packages of a Frontier node, two dies each (OLCF Frontier user guide)."""
FRAMEWORK = "fsdp"
"""PyTorch trainers: litgpt with AxoNN (model card of tomg-group-umd/Gemstone-256x23)."""
PRODUCTS, OTHERS = 1.56, 6.69
"""Measured time over that of transferred kernels alone on MI250X, for matrix products and for everything else [1];
fitted to the 16 fitted shapes of gemstones_train.csv (test_designs.py fits them again)."""
MIN_SHAPES = 5
"""Fewer other fitted shapes than this in a file say less about a left-out one than the constants above."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Step:
    """The step of one shape."""

    setup: Setup
    alone: float
    """Predicted by the cost model without the two factors [s]."""
    products: float
    """Matrix products alone, as transferred kernels [s]."""
    others: float
    """Everything else alone [s]."""
    factors: tuple[float, float] = (PRODUCTS, OTHERS)
    """Of products and others, from other shapes [1]."""

    @property
    def predicted(self) -> float:
        """[s]"""
        return self.factors[0] * self.products + self.factors[1] * self.others

    @property
    def error(self) -> float:
        """predicted / measured - 1."""
        return self.predicted / self.setup.step_time - 1.0


def predict_steps(setups: Iterable[Setup]) -> dict[str, Step]:
    """Predict the step of every shape; one that the factors were fitted on by the *other* fitted shapes present.

    Raises:
        DocumentError: the stated parameters are not those of a Gemstone.
        UsageError: the batch cannot be split over the stated nodes.
        InfeasibleError: no plan fits.
    """
    steps = {setup.shape: price_step(setup) for setup in setups}
    return {name: replace(step, factors=_factors(name, steps)) for name, step in steps.items()}


def _factors(name: str, steps: Mapping[str, Step]) -> tuple[float, float]:
    others = [step for other, step in steps.items() if other in FITTED_SHAPES and other != name]
    if name not in FITTED_SHAPES or len(others) < MIN_SHAPES:
        return (PRODUCTS, OTHERS)
    return fit_factors(others)


def fit_factors(steps: Iterable[Step]) -> tuple[float, float]:
    """The two factors, neither negative, with the least squares of relative errors."""
    table = np.array([[s.products / s.setup.step_time, s.others / s.setup.step_time] for s in steps])
    (products, others), _ = nnls(table, np.ones(len(table)))
    return float(products), float(others)


def price_step(setup: Setup) -> Step:
    """Price the step of one shape, alone and in its two parts."""
    workload, kernels = _workload(setup.nodes, FRAMEWORK), _workload(setup.nodes, KERNELS_ALONE.name)
    plan = _plan(setup, workload)
    shape, batch = gemstone(setup), setup.batch
    parts = price_plan(shape, plan, kernels, global_batch=batch)
    products = _products(parts)
    return Step(
        setup=setup, alone=price_plan(shape, plan, workload, global_batch=batch).step_time, products=products,
        others=parts.step_time - products,
    )  # fmt: skip


@cache
def _workload(nodes: int, framework: str) -> Workload:
    cluster = parse_cluster(f"{nodes * DEVICES_PER_NODE}xmi250x")
    return workload_for(cluster, Options(seq_len=GEMSTONES_SEQ_LEN, framework=framework))


def _products(priced: PricedPlan) -> float:
    """Seconds of a step in matrix products."""
    costs = priced.local.costs
    layers = int(priced.shape.num_layers)
    total = 0.0
    for place, count in ((costs.layer, layers), (costs.embedding, 1), (costs.head, 1)):
        seconds = [np.ravel(i.forward + i.backward)[0] for i in place.items if i.family == "matmul"]
        total += count * float(sum(seconds))
    return total * float(np.ravel(priced.steps.num_micro_batches)[0])


def _plan(setup: Setup, workload: Workload) -> Plan:
    """The first plan that fits: least recompute, then the largest micro-batch."""
    devices = workload.cluster.num_devices
    if setup.batch % devices:
        raise UsageError(
            f"{setup.shape}: {setup.batch} sequences per step (tokens / step / {GEMSTONES_SEQ_LEN}) are not a "
            f"multiple of {devices} devices",
            "every device trains on whole sequences", "check tokens, step and num_nodes",
        )  # fmt: skip
    shape, share = gemstone(setup), setup.batch // devices
    sizes = [size for size in range(share, 0, -1) if share % size == 0]
    for recompute in range(len(RECOMPUTE)):
        for micro_batch in sizes:
            plan = Plan(dp_replicate=devices, micro_batch=micro_batch, recompute=recompute)
            priced = price_plan(shape, plan, workload, global_batch=setup.batch)
            if priced.memory <= memory_limit(workload):
                return plan
    raise InfeasibleError(
        f"{setup.shape} fits no MI250X", "not even one sequence with full recompute does", "check width and depth"
    )  # fmt: skip
