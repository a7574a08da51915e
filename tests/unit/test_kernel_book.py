"""The kernel book: what it says of a model, its arithmetic, and what is refused."""

from __future__ import annotations

import json

import pytest
from typer.testing import CliRunner

from shapewright.cli.main import app
from shapewright.errors import NotCoveredError, UsageError
from shapewright.outlook.kernel_book import BUCKETS, Entry, entries, load_book
from shapewright.outlook.kernels import KernelBook, kernel_book
from shapewright.outlook.requests import kernel_request


def _book(model: str, hardware: str, **keys: int) -> KernelBook:
    asked = kernel_request(model, hardware, params=7e9, **keys)  # type: ignore[arg-type]
    return kernel_book(
        asked.shape, asked.workload, tokens=asked.tokens, tp=asked.tp, micro_batch=asked.micro_batch
    )


def test_every_line_of_the_book_is_a_kernel_once_and_its_figures_are_shares() -> None:
    book = load_book()
    assert len({e.key for e in book}) == len(book) > 1000
    for e in book:
        assert e.rows >= 30
        assert len(e.shares) == len(BUCKETS)
        assert all(s is None or s > 0 for s in e.shares), e.key
        # Rows of an fp8 cache stand against the 16-bit peak, which kernels that multiply in fp8 pass.
        # A sparse module's FLOP are those of attention to all keys, an upper bound.
        if not e.family.startswith("dsa_"):
            assert 0 <= e.peak_share < (1.5 if e.number_format == "fp8" else 1.0), e.key


def test_a_share_is_that_of_the_nearest_measured_bucket() -> None:
    entry = Entry(accelerator="a", family="f", variant="", number_format="bf16", backend="b", version="1", kernel="k",
                  rows=30, best_flops=1.0, peak_share=0.5, shares=(0.1, None, 0.3, None, None))  # fmt: skip
    assert [entry.share(s) for s in (5e-6, 5e-5, 1.0)] == [0.1, 0.3, 0.3]


def test_parts_add_up_and_savings_are_the_gap_to_the_best_kernel_of_the_kind() -> None:
    found = _book("gated_deltanet", "b200_sxm", micro_batch=2)
    assert sum(w.share_of_step for w in found.work) < 1.0
    scan = next(w for w in found.work if w.name == "delta.scan")
    assert scan.kernels[0].name.startswith("chunk_gated_delta_rule_flashinfer")
    assert scan.kernels[0].share == max(m.share for m in scan.kernels)
    assert scan.best_share is not None
    # FlashInfer's kernel has no gradient: what trains today is Triton's, and the gap to it is what a gradient is worth.
    assert scan.kernels[0].forward_only
    assert scan.now == next(m.share for m in scan.kernels if not m.forward_only) < 0.6 * scan.kernels[0].share
    assert scan.saved == pytest.approx(1 - scan.now / scan.best_share)
    # One device runs all tokens, two sequences of 8,192 at a time.
    assert scan.saved_device_s == pytest.approx(scan.saved * scan.seconds * 1e12 / 16_384)
    assert found.rewrite[0] == max(found.work, key=lambda w: w.saved_device_s).name
    # What porting without rewriting loses, from one generation to the next.
    triton = next(m for m in scan.kernels if m.name.startswith("chunk_gated_delta_rule (trtllm"))
    assert triton.share_before is not None
    assert triton.share < 0.7 * triton.share_before


def test_advice_names_the_roof_that_waits() -> None:
    chains = " ".join(_book("gated_deltanet", "h100_sxm").advice)
    assert "32 chains of 128 chunks fill 24% of 132 multiprocessors" in chains
    steps = " ".join(_book("lstm", "h100_sxm").advice)
    assert "8,192 dependent steps" in steps
    assert "lstm.recurrence" in _book("lstm", "h100_sxm").unmeasured


def test_what_the_book_does_not_hold_is_refused_with_what_it_holds() -> None:
    with pytest.raises(NotCoveredError, match="mi300x has no measured kernels"):
        _book("transformer", "mi300x")
    with pytest.raises(UsageError, match="nearest that works: 32"):
        _book("llama-3-8b", "h100_sxm", tp=64)
    assert entries("gdn", "scan", "bf16", accelerator="a100_sxm") == ()


def test_the_command_answers_in_words_and_json() -> None:
    runner = CliRunner()
    shown = runner.invoke(app, ["kernels", "llama-3-8b", "--on", "b200_sxm"])
    assert shown.exit_code == 0, shown.output
    assert max(map(len, shown.stdout.splitlines())) <= 80
    document = json.loads(runner.invoke(app, ["kernels", "llama-3-8b", "--on", "b200_sxm", "--json"]).stdout)
    assert document["work"][0]["kernels"]
    assert document["generations"][0]["shares"]["h100_sxm"] == pytest.approx(0.106, abs=0.001)
