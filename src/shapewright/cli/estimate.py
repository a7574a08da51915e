"""``shapewright estimate``: what training a given model costs on given hardware."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from shapewright.cli import options as o
from shapewright.cli.common import out, print_json_text, refuse_existing, talk, write_text


def command(
    model: Annotated[str, typer.Argument(help="A config.json, its folder, or the name of a known model.")],
    on: Annotated[str, typer.Option("--on", help="Hardware, e.g. 64xh100_sxm.")],
    tokens: Annotated[
        str | None, typer.Option(help="Training tokens, e.g. 15T: adds time, energy, dollars and loss.")
    ] = None,
    seq_len: o.SeqLen = None,
    batch: o.Batch = None,
    precision: o.PrecisionName = None,
    framework: o.FrameworkName = None,
    law: o.LawName = None,
    unique_tokens: o.UniqueTokens = None,
    level: o.LevelName = "physics",
    tp: o.Tp = None,
    pp: o.Pp = None,
    vpp: o.Vpp = None,
    cp: o.Cp = None,
    ep: o.Ep = None,
    etp: o.Etp = None,
    dp_shard: o.DpShard = None,
    dp_replicate: o.DpReplicate = None,
    micro_batch: o.MicroBatch = None,
    recompute: o.Recompute = None,
    sharding: o.Sharding = None,
    schedule: o.Schedule = None,
    sequence_parallel: o.SequenceParallel = None,
    async_tp: o.AsyncTp = None,
    context: o.ContextOrder = None,
    recompute_layers: o.RecomputeLayers = None,
    offload: o.Offload = None,
    sync_every: o.SyncEvery = None,
    optimizer: o.OptimizerName = "adamw",
    imbalance: o.Imbalance = 1.0,
    cuda_graphs: o.CudaGraphs = False,
    lora: o.Lora = 0,
    mtbf: o.Mtbf = None,
    settings: o.Settings = None,
    output: Annotated[
        Path | None, typer.Option("--out", help="Write the estimate as a design document.")
    ] = None,
    force: o.Force = False,
    json: o.Json = False,
) -> None:
    """Estimate the training step of a model under a plan, or under the best plan when none is given.

    Example: shapewright estimate llama-3-8b --on 64xh100_sxm --tp 4 --pp 2
    """
    from shapewright.architecture.catalog import resolve_model
    from shapewright.designs.build import make_estimate
    from shapewright.search.joint import Options
    from shapewright.units import parse_quantity

    o.positive({"seq_len": seq_len, "batch": batch})
    plan = o.plan_pins(
        tp=tp,
        pp=pp,
        vpp=vpp,
        cp=cp,
        ep=ep,
        etp=etp,
        dp_shard=dp_shard,
        dp_replicate=dp_replicate,
        micro_batch=micro_batch,
        recompute=recompute,
        sharding=sharding,
    ) | o.plan_modes(
        schedule=schedule,
        sequence_parallel=sequence_parallel,
        async_tp=async_tp,
        context=context,
        recompute_layers=recompute_layers,
        offload=offload,
        sync_every=sync_every,
    )
    refuse_existing(output, overwrite=force)
    amount = parse_quantity(tokens, "1", "--tokens") if tokens else None
    options = Options(
        seq_len=seq_len,
        precision=precision,
        framework=framework,
        law=law,
        unique_tokens=o.tokens_of(unique_tokens, "--unique-tokens"),
        global_batch=batch,
        plan=plan,
        level=o.level_named(level),
        modes=o.run_modes(
            optimizer=optimizer, imbalance=imbalance, cuda_graphs=cuda_graphs, lora=lora, mtbf=mtbf
        ),
    )
    found = make_estimate(resolve_model(model), on, options, tokens=amount, settings=tuple(settings or ()))
    if json:
        print_json_text(found.to_json())
    else:
        from shapewright.report.console import print_design

        print_design(found, out())
    if output is not None:
        write_text(output, found.to_json(), overwrite=force)
        talk().print(f"wrote {output}")
