"""Triton kernels in Triton's interpreter on a processor, against torch's autograd; skipped where Triton is not installed.

In a process of its own, since the interpreter is chosen when Triton is loaded.
"""

from __future__ import annotations

import os
import subprocess
import sys
from importlib.util import find_spec

import pytest

pytestmark = [
    pytest.mark.torch,
    pytest.mark.skipif(
        find_spec("triton") is None, reason="triton is not installed (it comes with torch for CUDA)"
    ),
]

PROGRAM = """
import torch
from torch.nn import functional
from shapewright.lab.triton_kernels import gated

torch.manual_seed(0)
for width in (40, 257):
    for tile in (16, 64, 512):
        wide = torch.randn(3, 5, 2 * width, requires_grad=True)
        same = wide.detach().clone().requires_grad_(True)
        gradient = torch.randn(3, 5, width)
        ours = gated(wide, tile)
        gate, up = same.chunk(2, -1)
        theirs = functional.silu(gate) * up
        assert torch.allclose(ours, theirs, atol=1e-5), (width, tile)
        ours.backward(gradient)
        theirs.backward(gradient)
        assert torch.allclose(wide.grad, same.grad, atol=1e-5), (width, tile)

# 16 bits, and rows that lie apart: arithmetic is in fp32, and the result within one unit of its last place.
wide = torch.randn(2, 2 * 40, 7).transpose(1, 2).to(torch.bfloat16).requires_grad_(True)
exact = wide.detach().double().requires_grad_(True)
gradient = torch.randn(2, 7, 40).to(torch.bfloat16)
ours = gated(wide, 32)
gate, up = exact.chunk(2, -1)
theirs = functional.silu(gate) * up
ours.backward(gradient)
theirs.backward(gradient.double())
assert ours.dtype == torch.bfloat16
for found, true in ((ours, theirs), (wide.grad, exact.grad)):
    assert ((found.double() - true).abs() <= true.abs() * 2**-7 + 1e-6).all()
print("equal")
"""


def test_the_gated_activation_equals_torchs_in_every_tile():
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM], env={**os.environ, "TRITON_INTERPRET": "1"}, capture_output=True, text=True,
        check=False,
    )  # fmt: skip
    assert done.stdout.strip() == "equal", done.stderr[-2000:]
