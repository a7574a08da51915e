"""``shapewright serve-plan``: how to serve a model on given hardware, and what it then gives and costs."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from shapewright.cli import options as o
from shapewright.cli.common import out, print_json, refuse_existing, talk, write_text
from shapewright.errors import UsageError

if TYPE_CHECKING:
    from shapewright.hardware.cluster import Cluster
    from shapewright.plan.deployment import Deployment, ServingGoal, ServingPlan
    from shapewright.plan.engine import Engine
    from shapewright.plan.serving_formats import ServingFormats


def command(
    model: Annotated[str, typer.Argument(help="A config.json, its folder, or the name of a known model.")],
    on: Annotated[str, typer.Option("--on", help="Hardware, e.g. 8xh200_sxm.")],
    isl: Annotated[int, typer.Option(help="Tokens of a prompt.", min=1)] = 4000,
    osl: Annotated[int, typer.Option(help="Tokens of an answer.", min=2)] = 1000,
    ttft: Annotated[str | None, typer.Option(help="Longest time to first token, e.g. 2s.")] = None,
    tpot: Annotated[str | None, typer.Option(help="Longest time per output token, e.g. 20ms.")] = None,
    rate: Annotated[
        float | None, typer.Option(help="Requests per second that arrive (Poisson); else closed loop.")
    ] = None,
    trace: Annotated[
        Path | None, typer.Option(help="CSV of arrivals: arrival_s, isl, osl; sets lengths and rate.")
    ] = None,
    cached: Annotated[
        float, typer.Option(help="Share of a prompt found in the prefix cache.", min=0, max=0.999)
    ] = 0.0,
    draft: Annotated[int, typer.Option(help="Tokens drafted per step (MTP, speculation).", min=0, max=8)] = 0,
    precision: Annotated[
        str | None, typer.Option(help="bf16, fp8, fp8_block, fp4, int8 or int4 (weight-only).")
    ] = None,
    cache: Annotated[str | None, typer.Option(help="Format of the cache: bf16 or fp8.")] = None,
    engine: Annotated[str, typer.Option(help="vllm, sglang, trtllm, or kernels for no overhead.")] = "vllm",
    simulate: Annotated[
        bool,
        typer.Option("--simulate", help="Run the discrete-event twin on the first pick (extra: serving)."),
    ] = False,
    checkpoint: Annotated[str | None, typer.Option(help="Checkpoint that the exports name.")] = None,
    export_to: Annotated[
        Path | None, typer.Option("--export", help="Folder for engine scripts and a Kubernetes manifest.")
    ] = None,
    settings: o.Settings = None,
    force: o.Force = False,
    json: o.Json = False,
) -> None:
    """Plan the serving of a model: latency against throughput, memory, dollars and joules, what binds.

    Example: shapewright serve-plan llama-3.1-70b --on 8xh200_sxm --isl 4000 --osl 1000 --ttft 2s --tpot 20ms
    """
    from shapewright.architecture.catalog import resolve_model
    from shapewright.cost.price import cost_model
    from shapewright.hardware.catalog import parse_cluster
    from shapewright.plan.deployment import ServingGoal
    from shapewright.plan.engine import find_engine
    from shapewright.plan.serving_formats import serving_formats
    from shapewright.plan.serving_search import plan_serving
    from shapewright.plan.serving_trace import read_trace
    from shapewright.units import parse_quantity

    chosen = find_engine(engine)
    shape, cluster = resolve_model(model), parse_cluster(on, settings or ())
    arrivals = None
    if trace is not None:
        if rate is not None:
            raise UsageError("--trace and --rate both state arrivals", "one of them decides", "leave one out")
        arrivals = read_trace(trace)
        isl, osl, rate = round(arrivals.mean_isl), round(arrivals.mean_osl), arrivals.rate
    if rate is not None and not 0 < rate < float("inf"):
        raise UsageError(
            f"--rate (={rate:g}) must be positive and finite",
            "it counts requests per second",
            "try: --rate 2",
        )
    if not 0 <= cached < 1:
        raise UsageError(
            f"--cached (={cached:g}) must be from 0 to below 1", "it is a share", "try: --cached 0.5"
        )
    goal = ServingGoal(
        isl=float(isl), osl=float(osl), ttft=_limit(ttft, "--ttft", parse_quantity), rate=rate, cached=cached,
        tpot=_limit(tpot, "--tpot", parse_quantity), spread=arrivals.spread if arrivals else 0.0,
        gaps=arrivals.gaps if arrivals else 1.0,
    )  # fmt: skip
    name = precision or ("fp8" if "fp8" in cluster.accelerator.peak_flops else "bf16")
    formats = serving_formats(name, shape, cluster.accelerator, cache=cache)
    planned = [export_to / file for file in _names()] if export_to else []
    refuse_existing(*planned, overwrite=force)
    plan = plan_serving(shape, cluster=cluster, model=cost_model(cluster.accelerator), engine=chosen,
                        formats=formats, goal=goal, drafted=draft)  # fmt: skip
    first = plan.picks[0][1]
    twin = None
    if simulate:
        from shapewright.validation.serving_twin import simulate_pick

        twin = simulate_pick(shape, cluster, chosen, formats, goal, first, drafted=draft, trace=arrivals)
    document = _document(plan, cluster, chosen, formats, shape.name, draft, twin)
    if json:
        print_json(document)
    else:
        _show(document, plan, chosen)
    if export_to is not None:
        _export(export_to, plan, checkpoint or shape.name, formats, chosen, draft, force, cluster)


def _limit(text: str | None, name: str, parse: Any) -> float | None:
    if text is None:
        return None
    value = float(parse(text, "s", name))
    if value <= 0:
        raise UsageError(f"{name} (={text}) must be positive", "it is a time", f"for example: {name} 20ms")
    return value


def _names() -> list[str]:
    scripts = [
        f"{engine}{role}.sh"
        for engine in ("vllm", "sglang", "trtllm")
        for role in ("", "-prefill", "-decode")
    ]
    return [*scripts, "serving.yaml"]


def _cost(deployment: Deployment, cluster: Cluster) -> dict[str, Any]:
    """Dollars and joules per million output tokens, with what they rest on; null where nothing is published."""
    from shapewright.plan.power import cluster_power

    devices = int(deployment.layout.num_devices) * deployment.replicas
    per_second = deployment.per_device * devices
    price, power = cluster.price_per_device_hour, cluster_power(cluster)
    return {
        "dollars_per_million_tokens": price.value * devices / 3600 / per_second * 1e6 if price else None,
        "dollars_source": price.source if price else None,
        "joules_per_million_tokens": power.value / cluster.num_devices * devices / per_second * 1e6
        if power
        else None,
        "joules_source": f"upper bound: {power.source}" if power else None,
    }


def _entry(deployment: Deployment, cluster: Cluster, engine: Engine) -> dict[str, Any]:
    layout = deployment.layout
    tpot, ttft = engine.intervals(apart=deployment.prefill_replicas > 0)
    return {
        "tp": int(layout.tp), "pp": int(layout.pp), "ep": int(layout.ep), "attention_dp": int(layout.adp),
        "replicas": deployment.replicas, "prefill_replicas": deployment.prefill_replicas,
        "devices_used": int(layout.num_devices) * deployment.replicas, "concurrency": deployment.concurrency,
        "ttft_s": deployment.ttft, "ttft_s_interval": [deployment.ttft * x for x in ttft],
        "tpot_s": deployment.tpot, "tpot_s_interval": [deployment.tpot * x for x in tpot],
        "tokens_per_s_user": deployment.per_user, "tokens_per_s_device": deployment.per_device,
        "requests_per_s": deployment.rate, "weights_bytes": deployment.weights, "cache_bytes": deployment.cache,
        "capacity": deployment.capacity, "binds": deployment.binds, "parts_s": dict(deployment.parts),
        "meets_goals": deployment.meets, **_cost(deployment, cluster),
    }  # fmt: skip


def _document(
    plan: ServingPlan,
    cluster: Cluster,
    engine: Engine,
    formats: ServingFormats,
    model: str,
    draft: int,
    twin: Any,
) -> dict[str, Any]:
    goal: ServingGoal = plan.goal
    return {
        "model": model, "hardware": cluster.name, "devices": cluster.num_devices, "engine": engine.name,
        "engine_label": engine.label, "engine_kind": engine.kind, "engine_source": engine.source,
        "formats": {"name": formats.name, "products": formats.products, "experts": formats.experts, "cache": formats.cache},
        "goal": {"isl": goal.isl, "osl": goal.osl, "ttft_s": goal.ttft, "tpot_s": goal.tpot, "rate": goal.rate,
                 "gaps": goal.gaps, "cached": goal.cached, "drafted": draft},
        "counts": dict(plan.counts), "floor_tpot_s": plan.floor_tpot, "light_tpot_s": plan.light_tpot,
        "floor_ttft_s": plan.floor_ttft, "largest_rate": plan.largest_rate,
        "picks": [{"name": name, **_entry(d, cluster, engine)} for name, d in plan.picks],
        "front": [_entry(d, cluster, engine) for d in plan.front], "simulated": twin,
    }  # fmt: skip


def _show(document: dict[str, Any], plan: ServingPlan, engine: Engine) -> None:
    from rich.table import Table

    console, goal, formats = out(), document["goal"], document["formats"]
    kind = "Poisson" if goal["gaps"] == 1.0 else f"as recorded, squared spread of gaps {goal['gaps']:.2g}"
    arrivals = f"{goal['rate']:.3g} requests/s ({kind})" if goal["rate"] else "closed loop, any concurrency"
    wanted = ", ".join(
        f"{name} {goal[key] * 1e3:.4g} ms" for name, key in (("first token", "ttft_s"), ("per token", "tpot_s"))
        if goal[key] is not None
    )  # fmt: skip
    console.print(f"serve {document['model']} on {document['hardware']}", markup=False)
    console.print(
        f"  request      {goal['isl']:,.0f} tokens in, {goal['osl']:,.0f} out; {arrivals}; {wanted or 'no goals'}"
    )
    console.print(
        f"  assumptions  {engine.label} ({engine.kind}); weights {formats['products']}, experts {formats['experts']}, "
        f"cache {formats['cache']}; {goal['cached']:.0%} of prompts cached; {goal['drafted']} tokens drafted"
    )
    table = Table(box=None, pad_edge=False)
    for column in ("pick", "split", "load", "TTFT ms", "TPOT ms", "tok/s user", "tok/s dev"):
        table.add_column(column, justify="left" if column in ("pick", "split") else "right", overflow="fold")
    for pick in document["picks"]:
        table.add_row(pick["name"], _split(pick), f"{pick['concurrency']:.0f}", f"{pick['ttft_s'] * 1e3:.0f}",
                      f"{pick['tpot_s'] * 1e3:.3g}", f"{pick['tokens_per_s_user']:.0f}",
                      f"{pick['tokens_per_s_device']:.0f}")  # fmt: skip
    console.print(table)
    first = document["picks"][0]
    console.print(f"  memory       {first['weights_bytes'] / 1e9:.1f} GB weights, {first['cache_bytes'] / 1e9:.1f} GB cache "
                  f"per device; room for {first['capacity']:.0f} requests a replica")  # fmt: skip
    dollars, joules = first["dollars_per_million_tokens"], first["joules_per_million_tokens"]
    money = f"${dollars:.3g}" if dollars is not None else "unknown price"
    energy = f"at most {joules / 1e6:.3g} MJ" if joules is not None else "unknown energy"
    console.print(f"  cost         {money}, {energy} per million output tokens")
    console.print(f"  devices      {first['devices_used']} of {document['devices']} used by the first pick")
    console.print(f"  why          {first['binds']} takes most of a token's time: "
                  + ", ".join(f"{k} {v * 1e3:.2g} ms" for k, v in list(first["parts_s"].items())[:4]))  # fmt: skip
    if plan.largest_rate:
        console.print(f"  stable       up to {plan.largest_rate:.3g} requests/s on the best split")
    counts = "; ".join(f"{name}: {count:,}" for name, count in document["counts"].items() if count)
    console.print(f"  looked at    {counts}; {len(document['front'])} on the front")
    (a, b), (c, d) = first["tpot_s_interval"], first["ttft_s_interval"]
    console.print(f"  trust        90 %: {a * 1e3:.3g} to {b * 1e3:.3g} ms per token, {c * 1e3:.3g} to {d * 1e3:.3g} ms to "
                  f"the first; floor {document['floor_tpot_s'] * 1e3:.3g} ms per token")  # fmt: skip
    if document["simulated"]:
        twin = document["simulated"]
        console.print(f"  simulated    {twin['ttft_s'] * 1e3:.4g} ms to the first token, {twin['tpot_s'] * 1e3:.3g} ms per "
                      f"token over {twin['requests']:,} requests")  # fmt: skip
    console.print("  next         --json for the whole front, --export FOLDER for scripts and a manifest,")
    console.print("               shapewright validate serving for how far to trust this")


def _split(pick: dict[str, Any]) -> str:
    parts = [f"tp{pick['tp']}"] + [
        f"{name}{pick[key]}" for name, key in (("pp", "pp"), ("ep", "ep"), ("dp-attn", "attention_dp")) if pick[key] > 1
    ]  # fmt: skip
    copies = f" x{pick['replicas']}" if pick["replicas"] > 1 else ""
    apart = f" ({pick['prefill_replicas']} prefill)" if pick["prefill_replicas"] else ""
    return " ".join(parts) + copies + apart


def _export(
    folder: Path,
    plan: ServingPlan,
    checkpoint: str,
    formats: ServingFormats,
    engine: Engine,
    draft: int,
    force: bool,
    cluster: Cluster,
) -> None:
    from shapewright.export.serving import ENGINES, ServedModel, export_serving, kubernetes

    deployment, capacity = plan.picks[0][1], cluster.accelerator.memory_capacity
    assert capacity is not None
    rack = bool(cluster.tiers) and cluster.tiers[0].size > 8
    served = ServedModel(checkpoint=checkpoint, formats=formats, deployment=deployment, goal=plan.goal,
                         memory_share=engine.memory_share, memory=capacity.value, chunk=engine.chunk, drafted=draft,
                         node=4 if rack else 8)  # fmt: skip
    roles = ("prefill", "decode") if deployment.prefill_replicas else ("both",)
    files = [export_serving(served, name, role) for name in ENGINES for role in roles]
    files.append(kubernetes(served, engine.name if engine.name in ENGINES else "vllm"))
    for file in files:
        write_text(folder / file.file_name, file.text, overwrite=force)
        talk().print(f"wrote {folder / file.file_name}")
    for remark in dict.fromkeys(remark for file in files for remark in file.remarks):
        talk().print(f"  {remark}")
