"""Designs that will be served: what --serve reads, and what it buys at equal predicted loss."""

from __future__ import annotations

from dataclasses import replace

import pytest

from shapewright.api import design
from shapewright.architecture.catalog import resolve_model
from shapewright.architecture.graph import num_params
from shapewright.architecture.shape import SelfAttention
from shapewright.cost.price import cost_model
from shapewright.designs.build import make_design
from shapewright.designs.serving import Serve, choose_served, parse_serve, shape_rate
from shapewright.errors import ShapewrightError
from shapewright.hardware.catalog import parse_cluster
from shapewright.plan.deployment import ServingGoal
from shapewright.plan.engine import find_engine
from shapewright.plan.serving_formats import serving_formats
from shapewright.plan.serving_search import plan_serving
from shapewright.search.budget import Budget
from shapewright.search.joint import Options, rank


def test_serve_is_read_or_refused():
    serve = parse_serve("isl=4000 osl=1000 tokens=1e13 tpot=20ms")
    assert (serve.isl, serve.osl, serve.tokens, serve.tpot) == (4000, 1000, 1e13, 0.02)
    for bad in ("isl", "speed=3", "isl=-1", "tpot=20"):
        with pytest.raises(ShapewrightError):
            parse_serve(bad)


@pytest.mark.parametrize(("name", "width", "depth"), [("llama-3.2-1b", 2560, 12), ("llama-3.2-3b", 4096, 14)])
def test_a_shape_as_good_serves_forty_per_cent_more(name: str, width: int, depth: int):
    cluster, shape = parse_cluster("8xh100_sxm"), resolve_model(name)
    mixer = shape.blocks[0].mixer
    assert isinstance(mixer, SelfAttention)
    budget = Budget(kind="flops", value=6 * float(num_params(shape)) * 9e12)
    options = Options(vocab_size=int(shape.vocab_size), tied_embeddings=True)
    own = dict(width=int(shape.hidden_size), depth=int(shape.num_layers), heads=int(mixer.heads),
               kv_heads=int(mixer.kv_heads), head_dim=int(mixer.head_dim),
               ffn_size=int(shape.blocks[0].channel.ffn_size))  # fmt: skip
    built = rank(cluster, budget, replace(options, shape=own))
    found = rank(
        cluster, budget, replace(options, shape=dict(width=width, depth=depth, head_dim=128, kv_heads=2))
    )
    serve, engine = Serve(tpot=0.02, precision="bf16"), find_engine("vllm")
    baseline = shape_rate(shape, cluster, engine, serve)
    assert baseline is not None
    as_good = [int(i) for i in found.order if found.loss[i] <= built.loss[built.best]]
    rates = [rate[0] for i in as_good if (rate := shape_rate(found.shape(i), cluster, engine, serve))]
    print(f"{name}: {max(rates) / baseline[0] - 1:+.0%}")
    assert max(rates) >= 1.4 * baseline[0]


def test_the_report_says_what_training_alone_would_have_cost():
    options = Options(shape={"width": 2048, "head_dim": 128, "kv_heads": 4})
    budget = Budget(kind="flops", value=1e21)
    plain = make_design("8xh100_sxm", budget, options)
    served = design(
        "8xh100_sxm", flops=1e21, options=options, serve="isl=4000 osl=1000 tokens=1e13 tpot=20ms"
    )
    reason = next(r for r in served.reasons if r.topic == "serving")
    assert "pure-training optimum" in reason.text
    assert "instead of" in reason.text
    assert served.predicted.loss.value < plain.predicted.loss.value * 1.02
    assert any(a.name == "serving" for a in served.assumptions)


def test_the_chosen_shape_is_the_one_that_was_planned():
    # A family whose heads the pins do not fix.
    cluster, budget = parse_cluster("8xh100_sxm"), Budget(kind="flops", value=1e21)
    options = Options(family="mla", shape={"width": 2048, "head_dim": 128, "kv_heads": 4})
    serve = parse_serve("isl=4000 osl=1000 tokens=1e13 tpot=20ms")
    chosen = choose_served(rank(cluster, budget, options), cluster, budget, options, serve)
    shape = chosen.ranking.shape(chosen.ranking.best)
    plan = plan_serving(
        shape, cluster=cluster, model=cost_model(cluster.accelerator), engine=find_engine("vllm"),
        formats=serving_formats("fp8", shape, cluster.accelerator), goal=ServingGoal(isl=4000.0, osl=1000.0, tpot=0.02),
    )  # fmt: skip
    assert f"served at {plan.picks[0][1].per_device:,.0f} tokens/s" in chosen.reasons[0].text
