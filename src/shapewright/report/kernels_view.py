"""The answer of ``shapewright kernels``: the kernel book of a model in words, tables and two charts."""

from __future__ import annotations

from shapewright.outlook.kernel_book import GENERATIONS
from shapewright.outlook.kernels import KernelBook, Measured, Slope, Work
from shapewright.report.layers import curves, points
from shapewright.report.scale_view import LOOKS
from shapewright.report.vega import Spec, chart, classes, linear_axis, tooltip
from shapewright.report.view import Chart, Grid, View
from shapewright.units import format_count, format_duration, format_quantity

SHOWN = 3
"""Kernels of an operator in its table."""


def kernels_view(found: KernelBook, slopes: tuple[Slope, ...]) -> View:
    """Sections in the order of every verb, and the charts."""
    # Operators of one kind run the same kernels; the largest of each speaks for it.
    kinds = {w.kind: w for w in reversed(found.work) if w.kernels}
    answer: list[str | Grid] = [
        _operators(found),
        *(_kernels(w) for w in found.work if kinds.get(w.kind) is w),
    ]
    answer.append(_rewrite(found))
    answer.append(_generations(slopes))
    if found.unmeasured:
        answer.append(f"no measured kernel on {found.hardware}: {', '.join(found.unmeasured)}")
    split = f", tensor parallelism {found.tp}" if found.tp > 1 else ""
    return View(
        title=f"The kernels of {found.model} on {found.hardware}",
        sections=(
            ("Request", (
                f"{found.model}, training in {found.precision}: {found.micro_batch} sequences of {found.seq_len:,} on one "
                f"{found.hardware}{split}",
            )),
            ("Assumed", (
                f"a run of {format_count(found.tokens)} tokens: {found.device_s / 3600:,.0f} device hours by kernels alone",
                "share: of the binding roof (FLOP at the dense peak, or bytes at the memory's bandwidth), predicted for "
                "exactly this size; usual: median of the measured rows whose roof takes as long",
                "before: the same kernel one generation earlier; ported: what it loses without being rewritten",
                "a backward kernel gains what its forward kernel gains; *: no gradient, it serves only",
            )),
            ("Answer", tuple(answer)),
            ("Why", found.advice or ("tiles, waves, heads and chains of this model fill the device",)),
            ("Trust", (
                "names, rates and shares are statistics of measured forward kernels of three serving frameworks "
                "(aiconfigurator-core, Apache-2.0); seconds are the cost model's (validate kernels)",
                "what porting keeps is told for kernels of one name; a new name is a rewrite already done",
            )),
            ("Next", (
                "shapewright kernels llama-3-8b --on h100_sxm",
                "shapewright scale transformer gated_deltanet --on b200_sxm",
                "shapewright validate kernels --gpu b200_sxm",
            )),
        ),
        charts=(_shares(found), _slopes(slopes)),
    )  # fmt: skip


def _operators(found: KernelBook) -> Grid:
    return Grid(
        caption="Operators, forward and backward of one micro-batch over all layers",
        headers=("operator", "time", "of step", "share", "TFLOP/s", "kernel"),
        numbers=("time", "of step", "share", "TFLOP/s"),
        rows=tuple(
            (
                w.name,
                format_duration(w.seconds),
                f"{w.share_of_step:.1%}",
                "-" if w.share_here is None else f"{w.share_here:.0%}",
                _rate(w.kernels[0].flops_per_s / w.kernels[0].share * w.share_here)
                if w.share_here and w.kernels
                else "-",
                next((_short(m.name) for m in w.kernels if not m.forward_only), "none measured"),
            )
            for w in found.work
        ),
    )


def _kernels(work: Work) -> Grid:
    return Grid(
        caption=f"{work.name}: {work.kind}, roof {format_duration(work.roof_s)}",
        headers=("kernel", "usual", "TFLOP/s", "best", "before", "ported"),
        numbers=("usual", "TFLOP/s", "best", "before", "ported"),
        rows=tuple(
            (
                _short(m.name) + (" *" if m.forward_only else ""),
                f"{m.share:.0%}",
                _rate(m.flops_per_s),
                _rate(m.best_flops_per_s),
                "-" if m.share_before is None else f"{m.share_before:.0%}",
                _porting(m),
            )
            for m in work.kernels[:SHOWN]
        ),
    )


def _porting(m: Measured) -> str:
    """What the same kernel keeps of its share from one generation to the next."""
    if not m.share_before:
        return "new" if m.before else "-"
    return f"{m.share / m.share_before - 1:+.0%}"


def _rewrite(found: KernelBook) -> str | Grid:
    rows = [w for name in found.rewrite for w in found.work if w.name == name]
    if not rows:
        return "every operator already runs at the best share that any measured kernel of its kind reaches"
    return Grid(
        caption="To rewrite first: what the best share of its kind would save over the run",
        headers=("operator", "now", "best", "device h", "dollars", "best kernel of the kind"),
        numbers=("now", "best", "device h", "dollars"),
        rows=tuple(
            (
                w.name,
                f"{w.now:.0%}",
                f"{w.best_share or 0.0:.0%}",
                format_count(w.saved_device_s / 3600),
                "-" if w.saved_dollars is None else format_quantity(w.saved_dollars, "USD"),
                f"{_cut(kernel)} on {where}",
            )
            for w in rows
            for kernel, _, where in [w.best_where.rpartition(" on ")]
        ),
    )


def _generations(slopes: tuple[Slope, ...]) -> Grid:
    names = [a for a in GENERATIONS if any(a in s.shares for s in slopes)]
    return Grid(
        caption="Best share of the dense bf16 peak over the generations, measured",
        headers=("kernel", *names),
        numbers=tuple(names),
        rows=tuple(
            (s.kernel, *(f"{s.shares[a]:.1%}" if a in s.shares else "-" for a in names)) for s in slopes
        ),
    )


def _short(name: str) -> str:
    """A kernel's name without what its backend repeats."""
    kernel, _, backend = name.partition(" (")
    backend = backend.rstrip(")").split(" ")[0]
    kernel = kernel.removeprefix(f"{backend}_")
    return f"{backend}: {_cut(kernel)}"


def _cut(kernel: str) -> str:
    kernel = kernel.removeprefix("torch.nn.functional.")
    return kernel if len(kernel) <= 22 else f"{kernel[:19]}..."


def _rate(value: float) -> str:
    return f"{value / 1e12:,.0f}" if value >= 1e13 else f"{value / 1e12:.2g}"


def _shares(found: KernelBook) -> Chart:
    rows: list[Spec] = [
        {"operator": w.name, "share": m.share, "kernel": _short(m.name), "name": m.name.rpartition("(")[2].split(" ")[0]}
        for w in found.work
        for m in w.kernels
    ]  # fmt: skip
    looks = {name: LOOKS[i % len(LOOKS)] for i, name in enumerate(dict.fromkeys(r["name"] for r in rows))}
    spec = chart(
        "Share of the binding roof of each measured kernel, by operator",
        [
            points(
                rows,
                tooltip(operator="operator", kernel="kernel", share="share"),
                size=70,
                look={
                    "x": linear_axis("share", "share of the binding roof", 0.0, 1.0),
                    "y": {"field": "operator", "type": "nominal", "sort": None, "title": None},
                    **classes("name", looks, rows),
                },
            )
        ],
    )
    grid = Grid(headers=("operator", "kernel", "share"), numbers=("share",),
                rows=tuple((r["operator"], r["kernel"], f"{r['share']:.3f}") for r in rows))  # fmt: skip
    return Chart(name="kernel_shares", title="Share of the roof by operator and kernel", spec=spec, grid=grid,
                 caption="measured: aiconfigurator-core, median of rows of this size")  # fmt: skip


def _slopes(slopes: tuple[Slope, ...]) -> Chart:
    rows: list[Spec] = [
        {"accelerator": a, "share": share, "name": s.kernel} for s in slopes for a, share in s.shares.items()
    ]  # fmt: skip
    looks = {s.kernel: LOOKS[i % len(LOOKS)] for i, s in enumerate(slopes)}
    order = [a for a in GENERATIONS if any(r["accelerator"] == a for r in rows)]
    look = {
        "x": {"field": "accelerator", "type": "ordinal", "sort": order, "title": None},
        "y": linear_axis("share", "best share of the bf16 peak", 0.0, 0.8),
        **classes("name", looks, rows),
    }
    hover = tooltip(name="kernel", accelerator="accelerator", share="share")
    spec = chart(
        "Best share of the peak over generations, one line per kernel",
        [curves(rows, look), points(rows, hover, size=60, look=look)],
    )
    grid = Grid(headers=("kernel", "accelerator", "share"), numbers=("share",),
                rows=tuple((r["name"], r["accelerator"], f"{r['share']:.3f}") for r in rows))  # fmt: skip
    return Chart(name="kernel_slopes", title="What a generation does to a kernel", spec=spec, grid=grid,
                 caption="measured: aiconfigurator-core, best row of each kernel")  # fmt: skip
