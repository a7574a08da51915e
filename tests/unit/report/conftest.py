"""A Design with every field filled, for the tests of the report.

Its numbers are plausible and consistent with one another (parts add up, shares are parts over totals), but nothing
predicted them: they are a test fixture and no figure of theirs is a result.
"""

from __future__ import annotations

from dataclasses import replace

import pytest

from shapewright.architecture.shape import Block, DenseFFN, SelfAttention, Shape
from shapewright.designs.document import (
    SCHEMA_VERSION,
    Assumption,
    Candidate,
    Design,
    LossPoint,
    Part,
    Prediction,
    Reason,
    Rejected,
    Request,
    RooflinePoint,
    Run,
    Trust,
)
from shapewright.evidence import Figure, Kind
from shapewright.plan.parallel import Plan
from shapewright.plan.timeline import Pace, Wait
from shapewright.scaling.recipe import Recipe

FLOPS_PEAK, BANDWIDTH = 989e12, 3.35e12
STEP, TOKENS = 3.2, 1.7e12
BATCH, LENGTH = 1024, 4096


def figure(value: float, unit: str = "1", kind: Kind = "derived", spread: float = 0.0) -> Figure:
    """A figure with an interval of ``spread`` to either side."""
    ends = (value * (1 - spread), value * (1 + spread)) if spread else (None, None)
    return Figure(value=value, unit=unit, kind=kind, source="test fixture", low=ends[0], high=ends[1])


def parts(rows: list[tuple[str, str, float]]) -> tuple[Part, ...]:
    """Parts with their shares."""
    total = sum(value for _, _, value in rows)
    return tuple(Part(name=n, cause=c, value=v, share=v / total) for n, c, v in rows)


def sample_design() -> Design:
    """The fixture."""
    step = [
        ("attention.norm", "memory", 0.024),
        ("attention.qkv", "compute", 0.31),
        ("attention.core", "compute", 0.35),
        ("attention.out", "compute", 0.22),
        ("ffn.norm", "memory", 0.024),
        ("ffn.up", "compute", 1.05),
        ("ffn.activation", "memory", 0.11),
        ("ffn.down", "compute", 0.52),
        ("lm_head", "compute", 0.11),
        ("loss", "memory", 0.02),
        ("all-gather (tp)", "communication", 0.12),
        ("reduce-scatter (tp)", "communication", 0.10),
        ("gradients and weights (dp)", "communication", 0.05),
        ("pipeline bubble", "bubble", 0.09),
        ("recomputed forward pass", "recompute", 0.08),
        ("host and kernel launches", "launch", 0.022),
    ]
    scale = STEP / sum(value for _, _, value in step)
    memory = [
        ("weights", "weights", 8.0e9),
        ("gradients", "gradients", 16.0e9),
        ("optimizer state", "optimizer", 12.0e9),
        ("activations", "activations", 21.0e9),
        ("logits", "logits", 1.6e9),
        ("communication buffers", "buffers", 0.9e9),
        ("framework", "framework", 1.5e9),
    ]
    used = sum(value for _, _, value in memory)
    rates = {  # name: (FLOP per byte, share of the roof, seconds in a step)
        "attention.norm": (1.25, 0.88, 0.024),
        "attention.qkv": (1536.0, 0.78, 0.31),
        "attention.core": (620.0, 0.55, 0.35),
        "attention.out": (1365.0, 0.77, 0.22),
        "ffn.up": (2048.0, 0.82, 1.05),
        "ffn.activation": (0.8, 0.9, 0.11),
        "ffn.down": (1920.0, 0.83, 0.52),
        "lm_head": (1890.0, 0.8, 0.11),
    }
    roofs = {name: min(FLOPS_PEAK, intensity * BANDWIDTH) for name, (intensity, _, _) in rates.items()}
    others = (  # width, depth, parameters, step time, loss, tie, Pareto
        (4096, 32, 7.9e9, 3.20, 2.0910, True, True),
        (4096, 36, 8.7e9, 3.48, 2.0922, True, False),
        (3840, 36, 7.8e9, 3.12, 2.0931, True, True),
        (4608, 30, 9.1e9, 3.66, 2.0940, True, False),
        (3584, 36, 6.9e9, 2.81, 2.1020, False, True),
        (5120, 36, 12.9e9, 5.05, 2.1090, False, False),
        (3072, 32, 4.6e9, 1.93, 2.1270, False, True),
    )
    loss = figure(2.091, "nat/token", "fitted", 0.02)
    return Design(
        schema_version=SCHEMA_VERSION,
        shapewright_version="0.0.test",
        request=Request(
            hardware="64xh100_sxm",
            budget_kind="time",
            budget=figure(30 * 86400.0, "s", "assumed"),
            settings=("memory_bandwidth=3.35TB/s",),
            constraints=("seq_len = 4096", "recompute = selective"),
        ),
        assumptions=(
            Assumption(
                name="precision", text="bf16, 16 B of state per parameter", kind="assumed", source="a default"
            ),
            Assumption(
                name="price", text="$2.50 per device-hour", kind="vendor", source="a price list, 2026-05"
            ),
            Assumption(
                name="loss law", text="a law, nat/token, on a corpus", kind="fitted", source="a paper"
            ),
        ),
        shape=Shape(
            name="4096x32",
            vocab_size=50304,
            hidden_size=4096,
            blocks=(
                Block(
                    mixer=SelfAttention(heads=32, kv_heads=8, head_dim=128),
                    channel=DenseFFN(ffn_size=14336),
                    count=32,
                ),
            ),
        ),
        plan=Plan(tp=2, pp=2, vpp=2, dp_shard=16, micro_batch=2, recompute=1, sharding=1),
        run=Run(
            tokens=figure(TOKENS, kind="fitted", spread=0.08),
            global_batch_sequences=BATCH,
            sequence_length=LENGTH,
            precision="bf16",
            optimizer="AdamW",
            law="a_law",
        ),
        recipe=Recipe(
            law="steplaw",
            batch_tokens=figure(BATCH * LENGTH),
            steps=figure(round(TOKENS / (BATCH * LENGTH))),
            learning_rate=figure(3.1e-4, kind="fitted"),
            final_learning_rate=figure(1e-5, kind="assumed"),
            schedule="cosine",
            decay_fraction=figure(1.0, kind="assumed"),
            warmup_steps=figure(2000, kind="assumed"),
            weight_decay=figure(0.1, kind="assumed"),
            beta1=figure(0.9, kind="assumed"),
            beta2=figure(0.95, kind="assumed"),
            epsilon=figure(1e-8, kind="assumed"),
            gradient_clip=figure(1.0, kind="assumed"),
            init_std=figure(0.0099, kind="assumed"),
            output_init_std=figure(0.0012, kind="assumed"),
            remarks=("the law of the recipe is extrapolated: tokens 17x above its runs",),
        ),
        predicted=Prediction(
            params=figure(7.9e9),
            active_params=figure(7.9e9),
            step_time_s=figure(STEP, "s", "fitted", 0.09),
            tokens_per_s=figure(BATCH * LENGTH / STEP, "1", "fitted", 0.09),
            mfu=figure(0.47, "1", "fitted", 0.09),
            train_time_s=figure(30 * 86400.0, "s"),
            train_flops=figure(8.1e22, "FLOP"),
            memory_bytes=figure(used, "B", "derived", 0.1),
            memory_limit_bytes=figure(76e9, "B", "vendor"),
            power_w=figure(97.9e3, "W"),
            energy_j=figure(97.9e3 * 30 * 86400, "J"),
            dollars=figure(115_200.0, "USD", "vendor"),
            loss=loss,
        ),
        step_parts=parts([(name, cause, value * scale) for name, cause, value in step]),
        memory_parts=parts(memory),
        pace=Pace(
            stages=2,
            chunks=2,
            micro_batches=32,
            schedule=0,
            forward_s=0.03,
            backward_s=0.06,
            weight_s=0.02,
            pair_s=0.09,
            send_s=0.001,
            outward_s=0.1,
            exposed_outward_s=0.05,
            optimizer_s=0.01,
            waits=(Wait(stream="tensor-parallel communication", forward_s=0.004, backward_s=0.008),),
        ),
        memory_bandwidth=Figure(value=BANDWIDTH, unit="B/s", kind="vendor", source="data sheet"),
        roofline=tuple(
            RooflinePoint(
                name=name,
                intensity=intensity,
                achieved_flops=reached * roofs[name],
                peak_flops=FLOPS_PEAK,
                roof_flops=roofs[name],
                seconds=seconds,
            )
            for name, (intensity, reached, seconds) in rates.items()
        ),
        reasons=(
            Reason(topic="step", text="compute 80 % of the step; the largest part is ffn.up"),
            Reason(
                topic="width",
                text="width 4,096 -> 4,224 costs one more wave: step +5.6 %, loss -0.003",
                step_time_change=0.056,
                loss_change=-0.003,
            ),
            Reason(topic="tp", text="tp 2 -> 1 needs 91 GB: step -4 %", step_time_change=-0.04),
        ),
        candidates=tuple(
            Candidate(
                summary=f"{width}x{depth}",
                width=width,
                depth=depth,
                heads=width // 128,
                kv_heads=8,
                ffn_size=int(width * 3.5),
                params=params,
                plan="tp 2 · pp 2 · micro-batch 2",
                tokens=TOKENS * STEP / seconds,
                step_time_s=seconds,
                mfu=0.47,
                loss=value,
                tie=tie,
                pareto=front,
            )
            for width, depth, params, seconds, value, tie, front in others
        ),
        rejected=(
            Rejected(reason="memory of the fullest device", count=412_000),
            Rejected(reason="pp * vpp does not divide the layers", count=1_280_400),
        ),
        num_candidates=2_400_000,
        loss_curve=tuple(
            LossPoint(
                flops=8.1e22 * 4.0**k,
                loss=1.7 + 0.391 * 0.86**k,
                low=(1.7 + 0.391 * 0.86**k) * (1 - 0.02 - 0.01 * max(k, 0)),
                high=(1.7 + 0.391 * 0.86**k) * (1 + 0.02 + 0.01 * max(k, 0)),
                extrapolated=k > -2,
            )
            for k in range(-4, 5)
        ),
        trust=(
            Trust(
                name="matmul/bf16",
                kind="fitted",
                text="80 % of the layers' time; median error 3.9 %",
                source="a table",
            ),
            Trust(
                name="law a_law",
                kind="fitted",
                text="245 runs; left-out median error 0.3 %",
                source="a paper",
            ),
        ),
        warnings=("the loss law was fitted on 1.4e18 to 1.3e22 FLOP; this run is a factor of 6 outside",),
    )


@pytest.fixture
def design() -> Design:
    """The design of a whole search."""
    return sample_design()


@pytest.fixture
def estimate() -> Design:
    """The same for one given model and one step: no recipe, no loss, no candidates."""
    whole = sample_design()
    nothing = dict(train_time_s=None, train_flops=None, power_w=None, energy_j=None, dollars=None, loss=None)
    return replace(
        whole,
        request=Request(hardware="8xh100_sxm", budget_kind="plan", budget=None, model="llama-3-8b"),
        run=replace(whole.run, tokens=None, law=None),
        recipe=None,
        predicted=replace(whole.predicted, **nothing),
        candidates=(),
        rejected=(),
        num_candidates=1,
        loss_curve=(),
        warnings=(),
    )
