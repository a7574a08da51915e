"""What a ranking says beside its choice: runners-up, what was rejected, and what the neighbours would have cost."""

from __future__ import annotations

import numpy as np

from shapewright.cost.device import peak_of
from shapewright.designs.document import Candidate, LossPoint, Reason, Rejected
from shapewright.search.learning import learned_loss
from shapewright.search.ranking import Arm, Ranking
from shapewright.units import format_count

SHOWN = 12
"""Runners-up in the document."""
CURVE = tuple(2.0**i for i in range(-8, 9, 2))
"""Budgets of the loss curve, as factors of the one given."""


def rejected(ranking: Ranking) -> tuple[Rejected, ...]:
    """Pairs by the first rule they break, most first."""
    rows = sorted(ranking.rejected.items(), key=lambda row: -row[1])
    return tuple(Rejected(reason=rule, count=count) for rule, count in rows)


def left_out(ranking: Ranking) -> tuple[str, ...]:
    """One line for every reason why families were not searched, with what would bring them back."""
    reasons: dict[str, list[str]] = {}
    for name, reason in ranking.left_out.items():
        reasons.setdefault(reason, []).append(name)
    return tuple(
        f"LEFT OUT of the search: {'; '.join(names)}: {reason}. The rest was searched whole. To bring "
        f"{'them' if len(names) > 1 else 'it'} back, measure the kernel there (shapewright measure) or calibrate from its "
        "tables (shapewright fit calibrations)"
        for reason, names in reasons.items()
    )


def _candidate(ranking: Ranking, index: int) -> Candidate:
    arm, row = ranking.place(index)
    shape, sweep = ranking.shape(index), arm.sweep
    mixer, channel = shape.blocks[0].mixer, shape.blocks[0].channel
    cluster = arm.workload.cluster
    peak = cluster.num_devices * peak_of(cluster.accelerator, arm.workload.precision.matmul_format)
    params, active = float(ranking.params[index]), float(ranking.active_params[index])
    return Candidate(
        summary=summary(ranking, index),
        family=arm.family,
        width=int(shape.hidden_size),
        depth=int(shape.num_layers),
        heads=int(mixer.heads),
        kv_heads=int(mixer.kv_heads),
        ffn_size=int(channel.ffn_size),
        params=params,
        active_params=active if active != params else None,
        plan=ranking.plan(index).describe(),
        tokens=float(ranking.tokens[index]),
        step_time_s=float(ranking.step_time[index]),
        mfu=float(sweep.model_flops[row] / sweep.step_time[row] / peak),
        loss=float(ranking.loss[index]),
        tie=bool(ranking.ties[index]),
        pareto=bool(ranking.pareto[index]),
    )


def summary(ranking: Ranking, index: int) -> str:
    """Width x depth, and the family and number format where several were searched."""
    arm, row = ranking.place(index)
    words = [arm.candidates.shape(row).name]
    if arm.family != "dense":
        words.append(arm.family)
    if len({a.workload.precision.name for a in ranking.arms}) > 1:
        words.append(arm.workload.precision.name)
    return " ".join(words)


def candidates(ranking: Ranking) -> tuple[Candidate, ...]:
    """The choice, the best of each other (family, width, depth) and the Pareto front, lowest loss first."""
    seen: dict[tuple[str, int, int], int] = {}
    width = ranking.joined(lambda arm: arm.candidates.column(arm.candidates.layers.hidden_size))
    depth = ranking.joined(lambda arm: arm.candidates.depth)
    for index in ranking.order:
        key = (ranking.arm_of(int(index)).family, int(width[index]), int(depth[index]))
        seen.setdefault(key, int(index))
    best = list(seen.values())
    front = [index for index in best[SHOWN:] if ranking.pareto[index]]
    step = max(len(front) // SHOWN, 1)
    return tuple(_candidate(ranking, index) for index in (*best[:SHOWN], *front[::step][:SHOWN]))


def reasons(ranking: Ranking) -> tuple[Reason, ...]:
    """What the nearest alternatives in width, depth and feed-forward size would have cost."""
    rows = []
    tied = np.flatnonzero(ranking.ties)
    if tied.size > 1:
        small = int(tied[np.argmin(ranking.active_params[tied])])
        rows.append(
            Reason(
                topic="ties",
                loss_change=float(ranking.loss[small] - ranking.loss[ranking.best]),
                text=f"{tied.size:,} shapes are within {ranking.tie_width:.3f} of the lowest loss: the law cannot "
                f"tell them apart. The smallest is {summary(ranking, small)}, "
                f"{format_count(float(ranking.params[small]))} parameters, loss "
                f"{ranking.loss[small] - ranking.loss[ranking.best]:+.4f}",
            )
        )
    arm, best = ranking.place(ranking.best)
    c = arm.candidates
    mixer, channel = c.layers.blocks[0].mixer, c.layers.blocks[0].channel
    columns = {
        "width": c.column(c.layers.hidden_size),
        "depth": c.depth,
        "ffn_size": c.column(channel.ffn_size),
        "head_dim": c.column(mixer.head_dim),
    }
    for name, column in columns.items():
        for direction in (-1, 1):
            found = _neighbour(arm, best, columns, name, direction, column)
            if found is not None:
                rows.append(_alternative(arm, best, found, name, int(column[best]), int(column[found])))
    return tuple(rows)


def _neighbour(
    arm: Arm, best: int, columns: dict, name: str, direction: int, column: np.ndarray
) -> int | None:
    """The next value of one number, the others kept where they can be (a new width takes its own ffn_size)."""
    moves = (column - column[best]) * direction > 0
    keep = {
        "width": ("depth",),
        "depth": ("width", "ffn_size", "head_dim"),
        "ffn_size": ("width", "depth", "head_dim"),
        "head_dim": ("width", "depth", "ffn_size"),
    }[name]
    mask = moves & np.isfinite(arm.loss)
    for other in keep:
        mask &= columns[other] == columns[other][best]
    rows = np.flatnonzero(mask)
    if not rows.size:
        return None
    nearest = rows[np.abs(column[rows] - column[best]) == np.abs(column[rows] - column[best]).min()]
    return int(nearest[np.argmin(arm.loss[nearest])])


def _alternative(arm: Arm, best: int, other: int, name: str, old: int, new: int) -> Reason:
    time = float(arm.sweep.step_time[other] / arm.sweep.step_time[best] - 1)
    loss = float(arm.loss[other] - arm.loss[best])
    params = float(arm.candidates.params[other] / arm.candidates.params[best] - 1)
    return Reason(
        topic=name,
        text=f"{name} {old:,} -> {new:,}: parameters {params:+.1%}, step {time:+.1%}, loss {loss:+.4f}",
        step_time_change=time,
        loss_change=loss,
    )


def loss_curve(ranking: Ranking) -> tuple[LossPoint, ...]:
    """The lowest loss of any candidate of the choice's family at other budgets, at the plans and batch of this one."""
    arm, law = ranking.arm_of(ranking.best), ranking.law
    rows = np.flatnonzero(np.isfinite(arm.loss))
    traits = arm.candidates.take(rows).traits
    flops = arm.sweep.model_flops[rows] / (ranking.global_batch * arm.workload.seq_len)
    points = []
    for factor in CURVE:
        tokens = arm.tokens[rows] * factor
        found = learned_loss(
            law,
            traits,
            tokens=np.maximum(tokens, 1.0),
            number_format=arm.workload.precision.matmul_format,
            unique_tokens=ranking.unique_tokens,
        )
        best = int(np.argmin(found.loss))
        points.append(
            LossPoint(
                flops=float(flops[best] * tokens[best]),
                loss=float(found.loss[best]),
                low=float(found.low[best]),
                high=float(found.high[best]),
                extrapolated=bool(found.extrapolation[best] > 1),
            )
        )
    return tuple(points)
