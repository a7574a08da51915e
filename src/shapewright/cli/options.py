"""Options that several verbs share, so that they are spelled and explained once."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from shapewright.errors import UsageError

if TYPE_CHECKING:
    from shapewright.cost.price import Level

_SHAPE = "Shape"
_PLAN = "Plan"
RUN = "Run"

Settings = Annotated[
    list[str] | None,
    typer.Option(
        "--set",
        metavar="NAME=VALUE",
        help="Replace a hardware figure, e.g. memory_bandwidth=4TB/s; repeatable.",
    ),
]
Json = Annotated[bool, typer.Option("--json", help="One JSON document on stdout, talk on stderr.")]
Force = Annotated[bool, typer.Option("--force", help="Overwrite files that exist.")]
Shipped = Annotated[bool, typer.Option("--shipped", help="Write over what ships with the package.")]

SeqLen = Annotated[
    int | None,
    typer.Option(
        "--seq-len",
        help="Tokens per sequence (default: by budget, 4,096 for a given model).",
        rich_help_panel=RUN,
    ),
]
Batch = Annotated[
    int | None,
    typer.Option("--batch", help="Sequences per step (default: from the batch law).", rich_help_panel=RUN),
]
PrecisionName = Annotated[
    str | None,
    typer.Option(
        "--precision",
        help="bf16, fp16, fp8, fp8-block, fp8-weights, nvfp4, nvfp4-tail, fp32, or auto to search them "
        "(default: the device's).",
        rich_help_panel=RUN,
    ),
]
LawName = Annotated[
    str | None,
    typer.Option(
        "--law", help="Loss law, or a law's file (default: the shape-aware one).", rich_help_panel=RUN
    ),
]

FrameworkName = Annotated[
    str | None,
    typer.Option(
        "--framework",
        help="Whose overheads a step carries (default: megatron-core; kernels for none).",
        rich_help_panel=RUN,
    ),
]

LevelName = Annotated[
    str,
    typer.Option(
        "--level",
        help="How kernels are priced: physics, or residual (corrected by the installed measured tables).",
        rich_help_panel=RUN,
    ),
]

UniqueTokens = Annotated[
    str | None,
    typer.Option(
        "--unique-tokens",
        help="Tokens of the corpus, e.g. 300B: what a run reads beyond them is repeated and worth less "
        "(default: every token is fresh).",
        rich_help_panel=RUN,
    ),
]


def tokens_of(text: str | None, option: str) -> float | None:
    """A number of tokens that was given in words.

    Raises:
        UsageError: it is none.
    """
    from shapewright.units import parse_quantity

    return parse_quantity(text, "1", option) if text is not None else None


Tp = Annotated[int | None, typer.Option("--tp", help="Tensor parallelism.", rich_help_panel=_PLAN)]
Pp = Annotated[int | None, typer.Option("--pp", help="Pipeline stages.", rich_help_panel=_PLAN)]
Vpp = Annotated[int | None, typer.Option("--vpp", help="Virtual chunks per stage.", rich_help_panel=_PLAN)]
Cp = Annotated[int | None, typer.Option("--cp", help="Context parallelism.", rich_help_panel=_PLAN)]
Ep = Annotated[int | None, typer.Option("--ep", help="Expert parallelism.", rich_help_panel=_PLAN)]
Etp = Annotated[
    int | None, typer.Option("--etp", help="Tensor parallelism inside experts.", rich_help_panel=_PLAN)
]
DpShard = Annotated[
    int | None, typer.Option("--dp-shard", help="Data parallelism with sharded state.", rich_help_panel=_PLAN)
]
DpReplicate = Annotated[
    int | None, typer.Option("--dp-replicate", help="Data parallelism with copies.", rich_help_panel=_PLAN)
]
MicroBatch = Annotated[
    int | None, typer.Option("--micro-batch", help="Sequences per forward pass.", rich_help_panel=_PLAN)
]
Recompute = Annotated[
    str | None,
    typer.Option("--recompute", help="none, selective, full or alternate.", rich_help_panel=_PLAN),
]
Sharding = Annotated[
    str | None,
    typer.Option(
        "--sharding",
        help="What dp_shard splits: none, optimizer, gradients or parameters.",
        rich_help_panel=_PLAN,
    ),
]


def level_named(text: str) -> Level:
    """The level of that name.

    Raises:
        UsageError: there is none.
    """
    from shapewright.cost.price import LEVELS

    for level in LEVELS:
        if level == text:
            return level
    raise UsageError(
        f"--level (={text!r}) is not known", f"levels: {', '.join(LEVELS)}", "try: --level physics"
    )


Schedule = Annotated[
    str | None,
    typer.Option("--schedule", help="1F1B, GPipe, zero-bubble or DualPipe.", rich_help_panel=_PLAN),
]
SequenceParallel = Annotated[
    bool | None,
    typer.Option(
        "--sequence-parallel/--no-sequence-parallel",
        help="Whether tp also cuts norms and residuals by tokens (default: yes).",
        rich_help_panel=_PLAN,
    ),
]
AsyncTp = Annotated[
    bool | None,
    typer.Option("--async-tp", help="Collectives of tp run behind their products.", rich_help_panel=_PLAN),
]
ContextOrder = Annotated[
    str | None,
    typer.Option(
        "--context", help="How cp splits attention: zigzag, ring, all-gather.", rich_help_panel=_PLAN
    ),
]
RecomputeLayers = Annotated[
    int | None,
    typer.Option("--recompute-layers", help="Layers of each stage that recompute.", rich_help_panel=_PLAN),
]
Offload = Annotated[
    str | None,
    typer.Option("--offload", help="To the host: none, optimizer or activations.", rich_help_panel=_PLAN),
]
SyncEvery = Annotated[
    int | None,
    typer.Option(
        "--sync-every", help="Steps between exchanges of dp_replicate copies (DiLoCo).", rich_help_panel=_PLAN
    ),
]
OptimizerName = Annotated[
    str,
    typer.Option(
        "--optimizer",
        help="adamw, adamw-bf16, adamw-8bit, lion, sgd-momentum or adafactor.",
        rich_help_panel=RUN,
    ),
]
Imbalance = Annotated[
    float,
    typer.Option("--imbalance", help="Tokens of the fullest expert rank over the mean.", rich_help_panel=RUN),
]
CudaGraphs = Annotated[
    bool, typer.Option("--cuda-graphs", help="Passes are replayed: no launches.", rich_help_panel=RUN)
]
Lora = Annotated[
    int, typer.Option("--lora", help="Rank of adapters beside frozen weights.", rich_help_panel=RUN)
]
Mtbf = Annotated[
    str | None,
    typer.Option("--mtbf", help="Mean time between failures of a device, e.g. 50000h.", rich_help_panel=RUN),
]


MOST = 10**9
"""No count that can be given is larger."""


def positive(counts: dict[str, int | None]) -> dict[str, int]:
    """The counts that were given.

    Raises:
        UsageError: one is below 1 or above :data:`MOST`.
    """
    for name, value in counts.items():
        if value is not None and not 1 <= value <= MOST:
            option = name.replace("_", "-")
            raise UsageError(
                f"--{option} (={value}) must be at least 1{f' and at most {MOST:,}' if value > MOST else ''}",
                "it is a count",
                f"for example: --{option} 8",
            )
    return {name: value for name, value in counts.items() if value is not None}
