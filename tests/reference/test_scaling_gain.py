"""Gains against reference answers computed from the open runs of Gundlach et al. and of the xLSTM scaling study."""

from __future__ import annotations

import csv
import os
from pathlib import Path

import numpy as np
import pytest

from shapewright.errors import UsageError
from shapewright.scaling.fit import fit
from shapewright.scaling.forms import FORMS
from shapewright.scaling.gain import compare, gain_from_minima
from shapewright.scaling.gain_fit import Arm
from shapewright.scaling.mixers import PRIORS

DATA = Path(os.environ.get("SHAPEWRIGHT_DATA", Path(__file__).parents[3] / "shared" / "data")) / "scaling"
pytestmark = [
    pytest.mark.data,
    pytest.mark.skipif(not DATA.is_dir(), reason=f"no reference data in {DATA} (set SHAPEWRIGHT_DATA)"),
]

# hansgundlach/Experimental_Progress@fe9f6c9: joint fit with a shared E in [0, 3.3], C > 5e14.
# (new, base): E, b_new, b_base, (gain at 1e15, 1e16, 1e17), slope, its 90 % interval, verdict when tuned.
ANSWERS = {
    ("x1_all_lr_historical_trend", "x1_lstm_layer1_lr_trend"):
        (2.89, 0.156, 0.084, (1.33, 9.8, 72.0), 0.87, (0.79, 0.98), "growing"),
    ("x1_historical", "x1_lstm_layer1"): (3.30, 0.171, 0.119, (1.62, 4.4, 12.1), 0.44, (0.32, 0.50), "growing"),
    ("x1_all_lr_historical_trend", "x2_lstm_layer2_lr_trend"):
        (2.78, 0.147, 0.072, (5.4, 60.0, 664.0), 1.05, (0.83, 1.26), "growing"),
    ("x1_all_lr_historical_trend", "x1_modern_all_lr_trend"):
        (2.70, 0.1418, 0.1433, (0.59, 0.57, 0.56), -0.010, (-0.035, 0.010), "constant loss"),
    ("x1_historical", "x2_modern"): (3.07, 0.148, 0.175, (0.70, 0.49, 0.34), -0.156, (-0.197, -0.120), "shrinking"),
    ("x1_historical", "x1_rms_historical"): (3.30, 0.1707, 0.1708, (1.02, 1.02, 1.01), -0.001, (-0.028, 0.015), "null"),
}  # fmt: skip


def arm(group: str) -> Arm:
    with (DATA / "gundlach_runs.csv").open(newline="") as handle:
        rows = [
            r for r in csv.DictReader(handle) if r["group"] == group and float(r["theoretical_flops"]) > 5e14
        ]
    flops = np.array([float(r["theoretical_flops"]) for r in rows])
    return Arm(name=group, cost=flops, loss=np.array([float(r["final_val_loss"]) for r in rows]))


@pytest.mark.parametrize("pair", sorted(ANSWERS))
def test_reference_answers(pair):
    floor, b_new, b_base, gains, slope, interval, verdict = ANSWERS[pair]
    told = compare(
        arm(pair[0]), arm(pair[1]), at_cost=np.array([1e15, 1e16, 1e17]), tuning="tuned", floor_max=3.3
    )
    assert told.floor == pytest.approx(floor, abs=0.006)
    assert told.exponent_new == pytest.approx(b_new, abs=6e-4)
    assert told.exponent_base == pytest.approx(b_base, abs=6e-4)
    assert told.gain == pytest.approx(gains, rel=0.02)
    assert told.slope == pytest.approx(slope, abs=0.006)
    assert (told.slope_low, told.slope_high) == pytest.approx(interval, abs=0.07)
    assert told.verdict == verdict
    assert told.floor_on_bound == (floor == 3.30)


def test_the_same_pair_untuned_gets_no_verdict():
    """p = 5e-8 for a changed exponent in untuned runs; with tuned ones it is .37. Untuned is capped."""
    told = compare(arm("x1_historical"), arm("x2_modern"), draws=20)
    assert told.f_test_p < 1e-6
    assert told.verdict == "inconclusive"


def test_xlstm_over_llama_at_16k():
    """NX-AI/xlstm_scaling_laws@604bb30, isoFLOP minima at 16k context: about 2.55, 2.56, 2.17."""
    with (DATA / "xlstm_isoflop_minima.csv").open(newline="") as handle:
        rows = [r for r in csv.DictReader(handle) if r["context"] == "16384"]
    arms = {
        kind: np.array(
            [
                [float(r["flops_median"]), float(r["loss_optimal_parabola"])]
                for r in rows
                if r["architecture"] == kind
            ]
        )
        for kind in ("mlstm", "llama")
    }
    new = arms["mlstm"][np.argsort(arms["mlstm"][:, 0])]
    gain = gain_from_minima(new[:, 0], new[:, 1], arms["llama"][:, 0], arms["llama"][:, 1])
    assert gain == pytest.approx([2.55, 2.56, 2.17], rel=0.005)
    # Falling, not growing; and three points per arm are no ladder.
    assert gain[2] < gain[0]
    told = [Arm(name=kind, cost=arms[kind][:, 0], loss=arms[kind][:, 1]) for kind in ("mlstm", "llama")]
    with pytest.raises(UsageError, match="6 runs"):
        compare(*told, tuning="tuned")


def test_prior_of_mlstm_is_what_the_open_runs_say():
    """NX-AI/xlstm_scaling_laws@604bb30: mLSTM runs (all at 16k context) against laws of the Llama runs at each context;
    diverged runs (loss above 6) left out. The prior stands between the contexts that designs have."""
    with (DATA / "xlstm_isoflop.csv").open(newline="") as handle:
        rows = [r for r in csv.DictReader(handle) if float(r["val_loss"]) < 6]

    def table(kind, context):
        names = ("params", "tokens", "val_loss")
        picked = [r for r in rows if r["architecture"] == kind and r["context"] == str(context)]
        return np.array([[float(r[name]) for name in names] for r in picked]).T

    size, tokens, loss = table("mlstm", 16384)
    shifts = {}
    for context in (2048, 8192, 16384):
        base = table("llama", context)
        found = fit(FORMS["chinchilla"], {"size": base[0], "tokens": base[1]}, base[2])
        told, _ = FORMS["chinchilla"].evaluate(found.theta, {"size": size, "tokens": tokens}, False)
        shifts[context] = np.log(loss / told)
    prior = PRIORS["mlstm"]
    assert np.median(shifts[8192]) < prior.shift < np.median(shifts[2048])
    assert np.median(shifts[16384]) == pytest.approx(-0.021, abs=0.001)
    assert np.quantile(shifts[16384], 0.05) == pytest.approx(prior.low, abs=0.002)
    assert np.quantile(shifts[2048], 0.95) == pytest.approx(prior.high, abs=0.003)
