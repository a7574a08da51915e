"""One budget spent on several architectures: what each learns, takes and serves, and what its kernel must reach to pay.

Each architecture is priced under its own best plan with the framework's overheads, as ``estimate`` does; the budget then
buys its tokens. The loss is the law's at those tokens with the prior of its mixers, or unknown. Against the first
architecture, at the loss of the law's best model for the budget::

    gain in FLOP        compute of the first to that loss over compute of the other, each at its best size
    hardware-adjusted   gain in FLOP * utilisation of the other / utilisation of the first  (= ratio of times)
    pays                while the utilisation stays above that of the first over the gain in FLOP

Decisions: what the mixer's kernel must reach follows from the step by operators on one device: everything else keeps its
time. Serving is one decode step by kernels alone on one node, at one context, and the bytes of a sequence.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np

from shapewright.architecture.graph import build_graph, num_active_params, num_params
from shapewright.architecture.shape import ExpertsFFN, Shape
from shapewright.designs.document import Design
from shapewright.designs.estimate import make_estimate, usual_batch
from shapewright.errors import NotCoveredError, ShapewrightError, UnknownNameError
from shapewright.hardware.catalog import parse_cluster
from shapewright.plan.framework import KERNELS_ALONE
from shapewright.plan.layer import price_model
from shapewright.plan.pairs import Workload
from shapewright.plan.serving_formats import serving_formats
from shapewright.plan.serving_memory import sequence_bytes
from shapewright.plan.serving_step import Layout, price_pass
from shapewright.plan.shard import Split
from shapewright.scaling.allocation import best_allocation
from shapewright.scaling.experts import EXPERTS_SOURCE
from shapewright.scaling.law import Law, LossPrediction, default_law, far_remarks, load_law
from shapewright.scaling.mixers import PRIORS
from shapewright.search.budget import Budget, tokens_bought
from shapewright.search.joint import Options, workload_for
from shapewright.search.learning import learned_loss, mixer_shares, traits_of

SERVED = 64
"""Sequences that decode together."""
MIXER_PREFIXES = ("attention.core", "attention.indexer", "attention.select", "attention.compress", "delta.scan",
                  "kda.scan", "gla.scan", "rwkv.scan", "mamba.scan", "mlstm.scan", "slstm.recurrence", "lstm.recurrence",
                  "hyena.mix", "convolution.mix")  # fmt: skip
"""Operators that are a mixer's own kernel."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Side:
    """One architecture with the whole budget."""

    name: str
    params: float
    active_params: float
    tokens: float
    train_flops: float
    days: float
    joules: float | None
    dollars: float | None
    mfu: float
    plan: str
    loss: float | None
    """None where no ladder says what its mixers learn [nat/token]."""
    loss_low: float | None
    loss_high: float | None
    evidence: str
    """Of the loss."""
    decode_tokens_per_s: float | None
    """Of one node, :data:`SERVED` sequences; None where a kernel is not calibrated."""
    sequence_bytes: float
    """Cache and states of one sequence at the context, on all devices of the node [B]."""
    mixer_share: float
    """Of the mixer's own kernel in a training step by kernels [1]."""
    mixer_flops_per_s: float
    """Its rate, forward [FLOP/s]."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Verdict:
    """One architecture against the first."""

    name: str
    over: str
    gain_flop: float
    """Compute-equivalent gain at the loss of the best model for the budget [1]."""
    gain_low: float
    gain_high: float
    utilisation: float
    """Its utilisation over that of the first [1]."""
    gain_hardware: float
    """The product of both: how much sooner it reaches the same loss [1]."""
    least_mfu: float
    """Utilisation below which it no longer pays [1]."""
    least_kernel: float | None
    """Rate that its mixer's kernel must keep for it to pay; None where no rate would do [FLOP/s]."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Comparison:
    """The answer of ``shapewright compare``."""

    hardware: str
    budget: str
    seq_len: int
    context: int
    law: str
    sides: tuple[Side, ...]
    verdicts: tuple[Verdict, ...]
    left_out: dict[str, str]
    remarks: tuple[str, ...] = ()
    """What a reader of the losses must know."""


def compare(
    shapes: Sequence[Shape], hardware: str, budget: Budget, options: Options, *, text: str, context: int,
    settings: tuple[str, ...] = (),
) -> Comparison:  # fmt: skip
    """Spend ``budget`` on each of ``shapes``.

    Raises:
        ShapewrightError: the first architecture cannot be priced.
    """
    cluster = parse_cluster(hardware, settings)
    workload = workload_for(cluster, options)
    sides: list[Side] = []
    laws: dict[str, Law] = {}
    left_out: dict[str, str] = {}
    for shape in shapes:
        try:
            design = make_estimate(shape, hardware, options, settings=settings)
            if options.global_batch is None:
                # The batch of the tokens that the budget buys, as estimate takes it when they are named.
                tokens = _tokens(shape, design, budget, workload)
                batch = usual_batch(shape, cluster, options, tokens)
                design = make_estimate(
                    shape, hardware, replace(options, global_batch=batch), settings=settings
                )
            side, laws[shape.name] = _side(shape, design, budget, workload, options, context, law=laws)
        except ShapewrightError as error:
            if not sides:
                raise
            left_out[shape.name] = str(error).replace("\n", "; ")
            continue
        sides.append(side)
    by_name = {shape.name: shape for shape in shapes}
    law = laws[sides[0].name]
    verdicts = [
        verdict
        for side in sides[1:]
        if (verdict := _verdict(by_name, sides[0], side, law, workload.precision.matmul_format)) is not None
    ]
    return Comparison(hardware=hardware, budget=text, seq_len=workload.seq_len, context=context, law=law.name,
                      sides=tuple(sides), verdicts=tuple(verdicts), left_out=left_out,
                      remarks=far_remarks(law, max(side.train_flops for side in sides)))  # fmt: skip


def _flops_per_token(shape: Shape, workload: Workload) -> float:
    """FLOP of training on one token [FLOP]."""
    return 3.0 * float(build_graph(shape, batch=1, seq_len=workload.seq_len).flops()) / workload.seq_len


def _tokens(shape: Shape, design: Design, budget: Budget, workload: Workload) -> float:
    """Tokens that the budget buys at the estimated step."""
    seen = design.predicted
    power = np.nan if seen.power_w is None else seen.power_w.value
    return float(
        tokens_bought(
            budget, workload.cluster, step_time=np.array(1.0), batch_tokens=np.array(seen.tokens_per_s.value),
            flops_per_token=np.array(_flops_per_token(shape, workload)), power=np.array(power),
        )
    )  # fmt: skip


def _side(
    shape: Shape, design: Design, budget: Budget, workload: Workload, options: Options, context: int, *,
    law: dict[str, Law],
) -> tuple[Side, Law]:  # fmt: skip
    seen, cluster = design.predicted, workload.cluster
    per_token = _flops_per_token(shape, workload)
    tokens = _tokens(shape, design, budget, workload)
    seconds = tokens / seen.tokens_per_s.value
    chosen = next(iter(law.values()), None)
    if chosen is None:
        chosen = load_law(options.law) if options.law else default_law(flops=per_token * tokens)
    loss, evidence = _loss(shape, chosen, tokens, workload.precision.matmul_format)
    price = cluster.price_per_device_hour
    share, kernel = _mixer(shape, workload)
    return Side(
        name=shape.name, params=float(num_params(shape)), active_params=float(num_active_params(shape)), tokens=tokens,
        train_flops=per_token * tokens, days=seconds / 86_400.0,
        joules=None if seen.power_w is None else seen.power_w.value * seconds,
        dollars=None if price is None else price.value * cluster.num_devices * seconds / 3600.0, mfu=seen.mfu.value,
        plan=design.plan.describe(), loss=None if loss is None else float(np.ravel(loss.loss)[0]),
        loss_low=None if loss is None else float(np.ravel(loss.low)[0]),
        loss_high=None if loss is None else float(np.ravel(loss.high)[0]), evidence=evidence,
        decode_tokens_per_s=_decode(shape, workload, context), sequence_bytes=_held(shape, workload, context),
        mixer_share=share, mixer_flops_per_s=kernel,
    ), chosen  # fmt: skip


def _loss(shape: Shape, law: Law, tokens: float, number_format: str) -> tuple[LossPrediction | None, str]:
    try:
        traits = traits_of(shape)
        found = learned_loss(law, traits, tokens=tokens, number_format=number_format)
    except (NotCoveredError, UnknownNameError) as error:
        return None, str(error).partition("\n")[0]
    names = [name for name in traits.shares if name != "attention"] or ["attention"]
    known = [f"{PRIORS[name].kind}: {PRIORS[name].evidence}" for name in names]
    if any(isinstance(block.channel, ExpertsFFN) for block in shape.blocks):
        known.append(f"fitted: {EXPERTS_SOURCE}")
    return found, "; ".join(known)


def _mixer(shape: Shape, workload: Workload) -> tuple[float, float]:
    """Share of the mixer's own kernels in a step by kernels on one device, and their rate forward [FLOP/s]."""
    one = np.array([[1]])
    costs = price_model(shape, Split(tp=one), micro_batch=one, seq_len=workload.seq_len, precision=workload.precision,
                        framework=KERNELS_ALONE, model=workload.model, cluster=workload.cluster)  # fmt: skip
    own = [i for i in costs.layer.items if i.name.startswith(MIXER_PREFIXES)]
    total = sum(float((i.forward + i.backward)[0, 0]) for i in costs.layer.items)
    mine, forward, flops = (
        sum(float(x[0, 0]) for x in values)
        for values in (
            [i.forward + i.backward for i in own],
            [i.forward for i in own],
            [i.flops for i in own],
        )
    )
    return mine / total, flops / forward if forward else 0.0


def _decode(shape: Shape, workload: Workload, context: int) -> float | None:
    inner = workload.cluster.tiers[0].size if workload.cluster.tiers else 1
    try:
        formats = serving_formats("bf16", shape, workload.cluster.accelerator)
        cost = price_pass(shape, Layout(tp=_tp(shape, inner)), batch=SERVED, new=1, past=context, decode=True,
                          formats=formats, model=workload.model, cluster=workload.cluster)  # fmt: skip
    except ShapewrightError:
        return None
    return SERVED / float(np.ravel(cost.seconds)[0])


def _held(shape: Shape, workload: Workload, context: int) -> float:
    formats = serving_formats("bf16", shape, workload.cluster.accelerator)
    return float(np.ravel(sequence_bytes(shape, Layout(tp=1), formats, context))[0])


def _tp(shape: Shape, most: int) -> int:
    """The widest tensor parallelism inside a node that splits every mixer."""
    heads = [(int(b.mixer.heads), int(b.mixer.kv_heads)) for b in shape.blocks]
    return max(t for t in (1, 2, 4, 8, 16) if t <= most and all(h % t == 0 and (kv % t == 0 or t % kv == 0)
                                                                 for h, kv in heads))  # fmt: skip


def _verdict(
    shapes: dict[str, Shape], base: Side, side: Side, law: Law, number_format: str
) -> Verdict | None:
    """Gain at the loss of the law's best model for the budget; None where a loss is unknown."""
    found = {name: _loss(shapes[name], law, base.tokens, number_format)[0] for name in (base.name, side.name)}
    if found[base.name] is None or found[side.name] is None:
        return None
    losses = [float(np.ravel(f.loss)[0]) for f in found.values() if f is not None]
    shift = float(np.log(losses[1] / losses[0]))
    dearer = (side.train_flops / side.tokens) / (base.train_flops / base.tokens)
    shares = mixer_shares(shapes[side.name])
    centre, low, high = (
        sum(share * getattr(PRIORS[name], end) for name, share in shares.items())
        for end in ("shift", "low", "high")
    )
    reach = _frontier(law, base.train_flops, float(shapes[base.name].vocab_size))
    gains = [1.0 / (dearer * reach(shift + moved)) for moved in (0.0, high - centre, low - centre)]
    utilisation, gain = side.mfu / base.mfu, gains[0]
    # The mixer's kernel may slow down, or must speed up, until both reach the loss at the same time.
    slack = side.mixer_share + (gain * utilisation - 1.0)
    least = side.mixer_flops_per_s * side.mixer_share / slack if slack > 0 else None
    return Verdict(name=side.name, over=base.name, gain_flop=gain, gain_low=min(gains), gain_high=max(gains),
                   utilisation=utilisation, gain_hardware=gain * utilisation, least_mfu=base.mfu / gain,
                   least_kernel=least)  # fmt: skip


def _frontier(law: Law, flops: float, vocab_size: float) -> Callable[[float], float]:
    """Compute that a mixer needs for the loss of the law's best model of ``flops``, over ``flops``, by its shift.

    A mixer that shifts ln loss by s reaches that loss where the frontier of the law is lower by s.
    """
    ratio = np.logspace(-4.0, 4.0, 65)
    best = [np.log(best_allocation(law, flops * r, vocab_size=int(vocab_size)).loss) for r in ratio]
    # Best losses fall with compute; a grid of sizes leaves steps, which the running minimum removes.
    level = np.minimum.accumulate(np.array(best))
    now = float(np.interp(0.0, np.log(ratio), level))

    def compute(shift: float) -> float:
        return float(np.exp(np.interp(-(now - shift), -level, np.log(ratio))))

    return compute
