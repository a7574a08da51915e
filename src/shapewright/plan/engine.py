"""What a serving engine adds to the kernels it calls: named constants per engine and version.

Kernels alone predict a decode step 10 to 20 % off and a time to first token several times too short, so a handful of
constants per engine stands between them and what a client sees. They are fitted on published serving points
(``shapewright fit engines``) and shipped as TOML with their errors. Factors multiply the time of whole kernel families
and are the same for all engines, since they correct the kernels' prices as captured in one graph; the rest is the
engine's own. What is computed, not fitted: batches, memory, splits, queues, interleaving of prefill and decoding.
"""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field, fields, replace
from functools import cache
from importlib.resources import files

from shapewright.errors import UnknownNameError
from shapewright.evidence import Kind


@dataclass(frozen=True, kw_only=True, slots=True)
class Engine:
    """One serving engine."""

    name: str
    label: str
    """What it stands for, with versions."""
    backend: str | None = None
    """Whose measured kernels it runs; None takes the fastest of all."""
    products: float = 1.0
    """Time of matrix products over that of the measured kernels alone: graphs launch them closer together [1]."""
    attention: float = 1.0
    """The same for attention [1]."""
    experts: float = 1.0
    """The same for routed experts [1]."""
    experts_4bit: float = 1.0
    """A further factor on experts with 4-bit weights [1]."""
    state: float = 1.0
    """The same for scans and recurrent states [1]."""
    memory: float = 1.0
    """The same for norms, activations and residuals, many of them fused [1]."""
    reduce: float = 1.0
    """The same for all-reduces, some of them fused with what follows [1]."""
    exchange: float = 1.0
    """The same for the collectives around experts [1]."""
    kernel_s: float = 0.0
    """Time between two kernels of a graph, negative where the next starts before the last ends [s]."""
    step_s: float = 0.0
    """Time of a step that no kernel fills: scheduling, sampling, input and output [s]."""
    sequence_s: float = 0.0
    """The same per running sequence [s]."""
    interleave: float = 1.0
    """Time that a prompt takes from running requests over the prefill pass alone [1]."""
    request_s: float = 0.0
    """Time of a request outside the device until its first token: HTTP, tokeniser, scheduler, detokeniser [s]."""
    own: float = 1.0
    """Time of a request's own prefill over the prefill pass alone [1]."""
    wait_steps: float = 1.0
    """Steps that a new request waits for [1]."""
    hold: float = 0.5
    """Share of the steps for which its scheduler may hold new prompts back that a request waits [1]."""
    burst: float = 0.05
    """Share of the other running requests' prefills that a request waits for in a benchmark that starts all of them at
    once and replaces each as it ends: half the share of first requests among all [1]."""
    queue: float = 0.5
    """Queueing for prefill over that of a server with Poisson arrivals and the prompts' own spread [1]."""
    apart_kernel_s: float = 0.0
    """As ``kernel_s`` where other workers prefill, and the same of the next two [s]."""
    apart_step_s: float = 0.0
    """As ``step_s`` there [s]."""
    apart_sequence_s: float = 0.0
    """As ``sequence_s`` there [s]."""
    apart_request_s: float = 0.1
    """As ``request_s`` where separate workers prefill: two schedulers, a router and the cache's way between [s]."""
    apart_own: float = 1.0
    """As ``own`` there [1]."""
    apart_wait_steps: float = 1.0
    """As ``wait_steps`` there [1]."""
    apart_burst: float = 0.05
    """As ``burst`` there [1]."""
    memory_share: float = 0.9
    """Share of the device memory that weights, cache and working memory may take together [1]."""
    chunk: int = 8192
    """Tokens of one step at most: longer prompts are cut (max_num_batched_tokens, chunked_prefill_size,
    max_num_tokens)."""
    max_sequences: int = 1024
    """Running requests of one replica at most."""
    draft: float = 0.05
    """Cost of one drafted token over a step without drafts [1]."""
    acceptance: float = 0.65
    """Chance that a drafted token is accepted, given that those before it were [1]."""
    drafting: float = 0.35
    """Share of drafting among published runs of which nothing says whether they drafted [1]."""
    speculates: Mapping[str, int] = field(default_factory=dict)
    """Published runs (version@date) that were fitted to have drafted so many tokens although they do not say so."""
    tpot_low: float = 0.7
    """Lower end of the 90 % interval of a time per output token, over the prediction [1]."""
    tpot_high: float = 1.4
    ttft_low: float = 0.4
    """The same of a time to first token."""
    ttft_high: float = 2.5
    apart_tpot_low: float = 0.5
    """The same of disaggregated deployments."""
    apart_tpot_high: float = 2.0
    apart_ttft_low: float = 0.2
    apart_ttft_high: float = 5.0
    kind: Kind = "assumed"
    source: str = "kernels alone"
    num_rows: int = 0
    """Published points fitted on."""
    tpot_median_error: float = 0.0
    """On them."""
    ttft_median_error: float = 0.0

    def decoding(self) -> Engine:
        """The engine on a worker that only decodes."""
        return replace(
            self, kernel_s=self.apart_kernel_s, step_s=self.apart_step_s, sequence_s=self.apart_sequence_s
        )

    def intervals(self, *, apart: bool = False) -> tuple[tuple[float, float], tuple[float, float]]:
        """The 90 % intervals of times per output token and to first token, as multipliers of the prediction."""
        if apart:
            return (self.apart_tpot_low, self.apart_tpot_high), (self.apart_ttft_low, self.apart_ttft_high)
        return (self.tpot_low, self.tpot_high), (self.ttft_low, self.ttft_high)


KERNELS_ALONE = Engine(
    name="kernels", label="measured kernels, nothing else", burst=0.0, queue=1.0, tpot_low=0.8, tpot_high=2.0,
    ttft_low=0.9, ttft_high=8.0,
)  # fmt: skip
"""The bound that no engine beats: what the fits start from."""
DEFAULT = "vllm"


@cache
def engines() -> dict[str, Engine]:
    """All shipped engines by name."""
    found = {KERNELS_ALONE.name: KERNELS_ALONE}
    folder = files("shapewright") / "data" / "engines"
    for path in sorted(folder.iterdir(), key=lambda p: p.name) if folder.is_dir() else ():
        if path.name.endswith(".toml"):
            engine = Engine(**tomllib.loads(path.read_text()))
            found[engine.name] = engine
    return found


def find_engine(name: str) -> Engine:
    """An engine by name.

    Raises:
        UnknownNameError: there is none.
    """
    known = engines()
    if name not in known:
        raise UnknownNameError("--engine", name, known, f"try: --engine {DEFAULT}")
    return known[name]


def to_toml(engine: Engine) -> str:
    """The TOML that ``engines`` reads back."""
    rows, table = [], ""
    for f in fields(engine):
        value = getattr(engine, f.name)
        if isinstance(value, Mapping):
            table = f"\n[{f.name}]\n" + "".join(f'"{key}" = {item}\n' for key, item in sorted(value.items()))
        elif isinstance(value, float):
            rows.append(
                f"{f.name} = {value:.5g}"
                if "e" in f"{value:.5g}" or "." in f"{value:.5g}"
                else f"{f.name} = {value:.1f}"
            )
        elif isinstance(value, str):
            rows.append(f'{f.name} = "{value}"')
        elif value is not None:
            rows.append(f"{f.name} = {value}")
    return "\n".join(rows) + "\n" + table
