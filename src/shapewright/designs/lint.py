"""Where a shape does not fall on the tiles and waves of a device, what that costs, and what would be better.

Rules and sources: Anthony et al. 2024 (arXiv 2401.14489) and NVIDIA's matrix-multiplication guide
(DU-09799): rows of a multiple of 128 bytes, heads that divide over tensor parallelism, vocabularies and
feed-forward widths on whole tiles, layers that divide over stages. Every finding is priced: the step is
predicted again with the nearest better value, and the cost is the time lost per useful FLOP,
``1 - (t' / FLOP') / (t / FLOP)``, so that a smaller model does not look faster for being smaller.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace

from shapewright.architecture.graph import build_graph, num_active_params, num_params
from shapewright.architecture.shape import DenseFFN, ExpertsFFN, SelfAttention, Shape
from shapewright.designs.breakdown import price_plan
from shapewright.designs.document import Design
from shapewright.hardware.catalog import parse_cluster
from shapewright.plan.pairs import Workload
from shapewright.plan.parallel import Plan
from shapewright.plan.rules import attention_heads
from shapewright.scaling.law import Law, default_law, load_law
from shapewright.search.joint import Options, workload_for
from shapewright.search.learning import learned_loss, traits_of

TP_DOMAIN = 8
"""Devices of the usual scale-up domain, within which tensor parallelism stays."""
LONG = 4096
"""Sequence length at which padded heads are weighed."""
SERIOUS, WARNING, NOTE = 0.05, 0.015, 0.004
"""Shares of the step above which a finding is serious, a warning, or a note; less is not reported."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Finding:
    """One number of the shape that costs time."""

    parameter: str
    """For example ``ffn_size``."""
    value: int
    rule: str
    """What it should satisfy, and why."""
    better: int
    """The nearest value that loses less."""
    cost: float
    """Share of the step lost to it, per useful FLOP [1]."""
    severity: str
    """``serious``, ``warning`` or ``note``."""
    params_change: float
    """Change of the number of parameters under the better value."""
    loss_change: float | None
    """Change of the predicted loss under the better value at equal tokens; None without a law."""


@dataclass(frozen=True, slots=True)
class _Check:
    """One number, the values it could take, and the model and workload with such a value."""

    parameter: str
    value: int
    rule: str
    options: tuple[int, ...]
    apply: Callable[[int], Shape]
    at: Callable[[int], Workload] | None = None


def lint(
    shape: Shape,
    workload: Workload,
    *,
    plan: Plan,
    global_batch: int,
    loss_change: Callable[[Shape], float] | None = None,
) -> tuple[Finding, ...]:
    """Every number of ``shape`` that costs time on this device under this plan, the most serious first.

    Args:
        loss_change: predicts the change of loss when the shape is replaced by another; None to leave it out.
    """
    base = price_plan(shape, plan, workload, global_batch=global_batch)
    rate = base.step_time / base.model_flops
    params = float(num_params(shape))
    findings = []
    for check in _checks(shape, workload, plan):
        best: tuple[float, float, int, Shape] | None = None
        for option in check.options:
            other = check.apply(option)
            there = check.at(option) if check.at else workload
            priced = price_plan(other, plan, there, global_batch=global_batch)
            cost = 1.0 - priced.step_time / priced.model_flops / rate
            # A better value has to earn its distance: among near equals the nearest wins.
            score = cost - 0.1 * abs(option - check.value) / check.value
            if best is None or score > best[0]:
                best = (score, cost, option, other)
        if best is None or best[1] < NOTE:
            continue
        _, cost, option, other = best
        findings.append(
            Finding(
                parameter=check.parameter,
                value=check.value,
                rule=check.rule,
                better=option,
                cost=cost,
                severity="serious" if cost >= SERIOUS else "warning" if cost >= WARNING else "note",
                params_change=float(num_params(other)) - params,
                loss_change=loss_change(other) if loss_change else None,
            )
        )
    findings += _undivided_heads(shape)
    rank = {"serious": 0, "warning": 1, "note": 2}
    return tuple(sorted(findings, key=lambda f: (rank[f.severity], -f.cost)))


def lint_design(design: Design) -> tuple[Finding, ...]:
    """The findings about the shape of a design on its own hardware, under its own plan and batch.

    A framework and modes that were asked for are not in the document; the usual ones are taken, which moves every
    price of one shape alike.

    Raises:
        UnknownNameError: its hardware is not known here, or is known no more.
    """
    run = design.run
    cluster = parse_cluster(design.request.hardware, design.request.settings)
    workload = workload_for(cluster, Options(seq_len=run.sequence_length, precision=run.precision))
    active = float(num_active_params(design.shape))
    tokens = run.tokens.value if run.tokens else 20.0 * active
    law = load_law(run.law) if run.law else default_law(flops=6.0 * active * tokens)
    return lint(
        design.shape,
        workload,
        plan=design.plan,
        global_batch=run.global_batch_sequences,
        loss_change=loss_change_of(design.shape, law, tokens, workload.precision.matmul_format),
    )


def _around(value: int, *units: int, within: float = 0.06) -> tuple[int, ...]:
    """Multiples of each unit next to a value, below and above, where it is not one already."""
    found: dict[int, None] = {}
    for unit in units:
        if value % unit:
            for option in (value // unit * unit, (value // unit + 1) * unit):
                if option > 0 and abs(option - value) <= max(within * value, unit):
                    found[option] = None
    return tuple(found)


def _row_bytes_rule(workload: Workload) -> tuple[int, str]:
    width = workload.precision.activation_bytes
    elements = int(128 / width)
    return (
        elements,
        f"a multiple of {elements} ({workload.precision.name} rows of 128 bytes feed the matrix units whole)",
    )


def _checks(shape: Shape, workload: Workload, plan: Plan) -> Iterator[_Check]:
    unit, rule = _row_bytes_rule(workload)
    tp = int(plan.tp)
    yield _Check(
        "vocab_size",
        int(shape.vocab_size),
        f"over tp {tp}, {rule}" if tp > 1 else rule,
        # A table is padded, never cut: its rows are tokens that exist.
        tuple(v for v in _around(int(shape.vocab_size), unit * tp, within=0.02) if v > shape.vocab_size),
        lambda v: replace(shape, vocab_size=v),
    )
    width = int(shape.hidden_size)
    yield _Check("hidden_size", width, rule, _around(width, unit), lambda v: replace(shape, hidden_size=v))
    if len({(type(b.channel), str(b.channel)) for b in shape.blocks}) == 1 or len(shape.blocks) == 1:
        yield from _ffn_checks(shape, workload, tp, unit, rule)
    yield from _head_checks(shape, workload, tp)
    yield _Check(
        "seq_len",
        workload.seq_len,
        "micro_batch * seq_len tokens fill whole tiles when the sequence is a multiple of 128",
        _around(workload.seq_len, 128),
        lambda _: shape,
        lambda v: replace(workload, seq_len=v),
    )
    layers, stages = int(shape.num_layers), int(plan.pp) * int(plan.vpp)
    if len(shape.blocks) == 1 and layers % stages:
        yield _Check(
            "num_layers",
            layers,
            f"a multiple of pp * vpp = {stages}, so that no stage waits for one with a layer more",
            _around(layers, stages, within=0.25),
            lambda v: _with_layers(shape, v),
        )


def _with_layers(shape: Shape, layers: int) -> Shape:
    return replace(shape, blocks=(replace(shape.blocks[0], count=layers),))


def _ffn_checks(shape: Shape, workload: Workload, tp: int, unit: int, rule: str) -> Iterator[_Check]:
    channel = shape.blocks[0].channel
    size = int(channel.ffn_size)

    def with_ffn(value: int) -> Shape:
        blocks = tuple(replace(b, channel=replace(b.channel, ffn_size=value)) for b in shape.blocks)
        return replace(shape, blocks=blocks)

    name = "ffn_size" if isinstance(channel, DenseFFN) else "expert ffn_size"
    yield _Check(name, size, f"over tp {tp}, {rule}" if tp > 1 else rule, _around(size, unit * tp), with_ffn)
    if isinstance(channel, ExpertsFFN):
        experts = int(channel.experts)
        options = tuple(o for o in _around(experts, 8, within=0.2))
        yield _Check(
            "experts",
            experts,
            "a multiple of 8, so that expert parallelism divides them",
            options,
            lambda v: replace(
                shape, blocks=tuple(replace(b, channel=replace(b.channel, experts=v)) for b in shape.blocks)
            ),
        )


def _head_checks(shape: Shape, workload: Workload, tp: int) -> Iterator[_Check]:
    mixer = shape.blocks[0].mixer
    if not isinstance(mixer, SelfAttention) or any(b.mixer != mixer for b in shape.blocks):
        return
    heads, head_dim = int(mixer.heads), int(mixer.head_dim)
    features = heads * head_dim

    def with_heads(count: int) -> Shape:
        # Key-value heads keep their share of the heads where it stays whole.
        kv = int(mixer.kv_heads)
        kv = count if kv == heads else max(k for k in range(1, kv + 1) if count % k == 0)
        blocks = tuple(
            replace(b, mixer=replace(b.mixer, heads=count, kv_heads=kv, head_dim=features // count))
            for b in shape.blocks
        )
        return replace(shape, blocks=blocks)

    rule = "heads of 64 or 128 fill the attention kernel's tiles (head_dim a multiple of 64), equal widths in all"
    options = tuple(features // size for size in (64, 128) if features % size == 0 and size != head_dim)
    yield _Check("heads", heads, f"{rule}; here head_dim is {head_dim}", options, with_heads)


def _undivided_heads(shape: Shape) -> tuple[Finding, ...]:
    """Heads that tensor parallelism cannot share out, priced as the padding that would make them divide.

    The cost is a share of the model's FLOP: what the padded heads compute for nothing.
    """
    counts = {int(heads) for heads, _ in attention_heads(shape)}
    findings = []
    for heads in sorted(counts):
        if heads % TP_DOMAIN == 0 or heads < TP_DOMAIN:
            continue
        padded = -(-heads // TP_DOMAIN) * TP_DOMAIN
        other = _padded_heads(shape, heads, padded)
        flops, more = (float(build_graph(s, batch=1, seq_len=LONG).flops()) for s in (shape, other))
        usable = [t for t in (2, 4, 8) if heads % t == 0]
        findings.append(
            Finding(
                parameter="heads",
                value=heads,
                rule=f"a multiple of {TP_DOMAIN}, so that tensor parallelism up to a scale-up domain divides them; "
                + (
                    f"{heads} allows tp {', '.join(map(str, usable))} only"
                    if usable
                    else f"{heads} allows no tp at all"
                ),
                better=padded,
                cost=1.0 - flops / more,
                severity="note" if usable else "serious",
                params_change=float(num_params(other)) - float(num_params(shape)),
                loss_change=None,
            )
        )
    return tuple(findings)


def _padded_heads(shape: Shape, heads: int, padded: int) -> Shape:
    blocks = []
    for block in shape.blocks:
        mixer = block.mixer
        if int(mixer.heads) == heads:
            same = isinstance(mixer, SelfAttention) and int(mixer.kv_heads) == heads
            mixer = replace(mixer, heads=padded, kv_heads=padded) if same else replace(mixer, heads=padded)
        blocks.append(replace(block, mixer=mixer))
    return replace(shape, blocks=tuple(blocks))


def loss_change_of(shape: Shape, law: Law, tokens: float, number_format: str) -> Callable[[Shape], float]:
    """A function that predicts how the loss changes when ``shape`` is replaced by another at equal tokens."""

    def loss(candidate: Shape) -> float:
        found = learned_loss(law, traits_of(candidate), tokens=tokens, number_format=number_format)
        return float(found.loss)

    base = loss(shape)
    return lambda candidate: loss(candidate) - base
