"""Known co-design facts come out of ``lint``; the source stands beside each number.

Anthony et al. 2024, arXiv 2401.14489; the SwiGLU figures are the ml-engineering book's (performance chapter),
measured on H100 at hidden size 4,096: d_ff 10,922 runs at 272.7 TFLOP/s, 10,944 at 398.4.
"""

from __future__ import annotations

from dataclasses import replace

import pytest

from shapewright.api import LintReport, lint
from shapewright.architecture.shape import Block, DenseFFN, SelfAttention, Shape
from shapewright.designs.lint import Finding


def _finding(report: LintReport, parameter: str) -> Finding:
    found = [finding for finding in report.findings if finding.parameter == parameter]
    assert found, (
        f"{report.model}: nothing said about {parameter}; said: {[f.parameter for f in report.findings]}"
    )
    return found[0]


def _swiglu(ffn_size: int, layers: int = 32) -> Shape:
    mixer = SelfAttention(heads=32, kv_heads=32, head_dim=128)
    return Shape(
        name=f"ffn {ffn_size}",
        vocab_size=32000,
        hidden_size=4096,
        blocks=(Block(mixer=mixer, channel=DenseFFN(ffn_size=ffn_size), count=layers),),
    )


def test_a_swiglu_width_of_8h_over_3_is_costly() -> None:
    found = _finding(lint(_swiglu(10922), "h100_sxm"), "ffn_size")
    assert found.severity == "serious"
    # 272.7 against 398.4 TFLOP/s is 32 % of the feed-forward products, which are about 60 % of this step.
    assert 0.05 <= found.cost <= 0.30, f"cost {found.cost:.1%}, measured on the products alone: 32 %"
    assert found.better % 64 == 0
    assert abs(found.better - 10922) <= 64


def test_the_aligned_neighbour_is_clean() -> None:
    assert not [
        f
        for f in lint(_swiglu(10944), "h100_sxm").findings
        if f.parameter == "ffn_size" and f.severity == "serious"
    ]
    slow, fast = (lint(_swiglu(size), "h100_sxm").step_time_s for size in (10922, 10944))
    assert slow / fast > 1.05, f"10,922 is {slow / fast:.2f}x slower; the products alone measured 1.46x"


def test_gpt2s_vocabulary_should_be_padded() -> None:
    """nanoGPT pads 50,257 to 50,304, the nearest multiple of 64 (arXiv 2401.14489, rule 1)."""
    found = _finding(lint("gpt-3-2.7b", "h100_sxm"), "vocab_size")
    assert (found.value, found.better) == (50257, 50304)
    assert found.cost > 0.004


def test_gpt3_27b_heads_of_80_cost_time() -> None:
    """32 heads of 80 against 20 of 128 or 40 of 64 (arXiv 2401.14489, fig. 1)."""
    found = _finding(lint("gpt-3-2.7b", "h100_sxm"), "heads")
    assert found.value == 32
    assert found.better in (20, 40)
    assert found.cost > 0.004


def test_falcons_71_heads_divide_over_nothing() -> None:
    found = _finding(lint("falcon-7b", "h100_sxm"), "heads")
    assert (found.value, found.better, found.severity) == (71, 72, "serious")


def test_gpt3_13bs_width_is_off_the_tiles() -> None:
    """5,140 = 4 x 1,285 where 40 heads of 128 make 5,120 (Brown et al. 2020, table 2.1)."""
    found = _finding(lint("gpt-3-13b", "h100_sxm"), "hidden_size")
    assert (found.value, found.better, found.severity) == (5140, 5120, "serious")


@pytest.mark.parametrize("device", ["a100_sxm", "h100_sxm", "b200_sxm"])
def test_llama_3_8b_raises_nothing_serious(device: str) -> None:
    assert not [f for f in lint("llama-3-8b", device).findings if f.severity == "serious"]


def test_a_layer_too_many_for_equal_stages_is_named() -> None:
    """33 layers on 8 stages: seven of 4 wait for one of 5, which lasts as long as 40 layers: at most 7 / 40 lost."""
    shape = replace(_swiglu(11008, layers=33), vocab_size=256)
    found = _finding(lint(shape, "h100_sxm", pp=8), "num_layers")
    assert found.better == 32
    assert 0.1 <= found.cost <= 0.175


def test_stages_that_the_head_makes_equal_are_not() -> None:
    """On 5 stages Llama 3 8B's head takes as long as two layers: no multiple of 5 divides the work better."""
    assert not [f for f in lint("llama-3-8b", "h100_sxm", pp=5).findings if f.parameter == "num_layers"]
