"""The budget of a request and how many tokens it buys."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from shapewright.errors import UnknownFigureError, UsageError
from shapewright.hardware.cluster import Cluster

Array = NDArray[Any]
BudgetKind = Literal["time", "dollars", "energy", "flops", "tokens"]
UNITS: dict[str, str] = {"time": "s", "dollars": "USD", "energy": "J", "flops": "FLOP", "tokens": "1"}


@dataclass(frozen=True, kw_only=True, slots=True)
class Budget:
    """An amount of one thing."""

    kind: BudgetKind
    value: float
    """[s], [USD], [J], [FLOP] or tokens."""

    def __post_init__(self) -> None:
        check_amount(f"budget {self.kind}", f"{self.value:g}", self.value)


def check_amount(name: str, said: str, value: float) -> None:
    """Refuse an amount, named and written as it was given, of which nothing can be trained.

    Raises:
        UsageError: it is not positive and finite.
    """
    if not (value > 0 and np.isfinite(value)):
        raise UsageError(
            f"{name} (={said}) must be positive and finite",
            "nothing can be trained with it",
            "for example: --days 30",
        )


def device_seconds(budget: Budget, cluster: Cluster) -> float | None:
    """Wall time that a time or dollar budget buys on the whole cluster [s]; None for other kinds.

    Raises:
        UnknownFigureError: a dollar budget where nobody states the price of a device-hour.
    """
    if budget.kind == "time":
        return budget.value
    if budget.kind == "dollars":
        price = cluster.price_per_device_hour
        if price is None:
            raise UnknownFigureError(
                "price of an hour",
                cluster.accelerator.name,
                "a dollar budget needs it",
                "price_per_device_hour=2.5",
            )
        return budget.value / (price.value * cluster.num_devices) * 3600.0
    return None


def tokens_bought(
    budget: Budget,
    cluster: Cluster,
    *,
    step_time: Array,
    batch_tokens: Array,
    flops_per_token: Array,
    power: Array,
) -> Array:
    """Tokens that the budget buys for each candidate.

    Args:
        step_time: [s]; batch_tokens: tokens per step; flops_per_token: training FLOP of one token;
        power: mean power of the cluster with its site [W]; not finite where it is unknown.

    Raises:
        UnknownFigureError: a budget of dollars or energy where nobody states the price or the power.
    """
    seconds = device_seconds(budget, cluster)
    if seconds is not None:
        return seconds / step_time * batch_tokens
    if budget.kind == "energy":
        if np.any(~np.isfinite(power)):
            raise UnknownFigureError(
                "power", cluster.accelerator.name, "an energy budget needs it", "tdp=700W"
            )
        return budget.value / (step_time * power) * batch_tokens
    if budget.kind == "flops":
        return budget.value / flops_per_token
    return np.broadcast_to(budget.value, np.shape(step_time)).astype(float)
