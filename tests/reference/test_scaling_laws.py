"""Fits against published figures and against data that were not fitted on; every figure has its source beside it."""

from __future__ import annotations

import csv
import os
from pathlib import Path

import numpy as np
import pytest

from shapewright.scaling.allocation import best_allocation
from shapewright.scaling.assess import bootstrap, influence, leave_groups_out, warnings_about
from shapewright.scaling.conventions import CONVENTIONS, KAPLAN, STANDARD, convert_size
from shapewright.scaling.fit import fit
from shapewright.scaling.forms import FORMS
from shapewright.scaling.hyperparameters import steplaw_batch_tokens, steplaw_learning_rate
from shapewright.scaling.isoflop import fit_isoflop, leave_budgets_out
from shapewright.scaling.law import load_law, predict_from_inputs, predict_loss
from shapewright.scaling.lawfile import read_law, write_law
from shapewright.scaling.protocol_gemstones import GEMSTONES_VOCAB, SHAPE_COLUMNS, gemstones_inputs
from shapewright.scaling.protocol_steplaw import best_of_cells
from shapewright.scaling.repetition import (
    CHECKED_EPOCHS,
    MUENNIGHOFF,
    REPETITION_SD,
    effective_tokens,
    excess_factor,
    largest_checked,
    muennighoff_loss,
)
from shapewright.scaling.runs import Runs, read_runs
from shapewright.scaling.shipped import SHIPPED, fit_shipped
from shapewright.scaling.transfer import completep
from shapewright.validation.mixtures import left_out_mixtures

ROOT = Path(__file__).parents[2]
DATA = Path(os.environ.get("SHAPEWRIGHT_DATA", ROOT.parent / "shared" / "data")) / "scaling"
needs_data = [
    pytest.mark.data,
    pytest.mark.skipif(not DATA.is_dir(), reason=f"no reference data in {DATA} (set SHAPEWRIGHT_DATA)"),
]
pytestmark = needs_data


def chinchilla() -> Runs:
    return read_runs(DATA / "chinchilla_240.csv")


def test_chinchilla_golden_values():
    """Besiroglu et al. 2024 (arXiv 2404.10102) on their 240 points; the optimum of the same objective to 4 digits."""
    runs = chinchilla()
    found = fit(FORMS["chinchilla"], {"size": runs.params, "tokens": runs.tokens}, runs.loss)
    p = found.parameters
    assert found.objective <= 1.0184e-3
    assert p["E"] == pytest.approx(1.8172, abs=5e-5)
    assert p["alpha"] == pytest.approx(0.3473, abs=5e-4)
    assert p["beta"] == pytest.approx(0.3672, abs=5e-4)
    assert p["A"] == pytest.approx(477.83, rel=0.01)
    assert p["B"] == pytest.approx(2143.42, rel=0.01)
    # Their published values (E 1.8172, A 482.01, B 2085.43, alpha .3478, beta .3658) score 1.0228e-3 here.
    published = FORMS["chinchilla"].to_theta(
        {"E": 1.8172, "A": 482.01, "B": 2085.43, "alpha": 0.3478, "beta": 0.3658}
    )
    predicted, _ = FORMS["chinchilla"].evaluate(
        published, {"size": runs.params, "tokens": runs.tokens}, False
    )
    size = np.abs(np.log(predicted / runs.loss))
    score = np.where(size <= 1e-3, 0.5 * size**2, 1e-3 * (size - 0.5e-3)).sum()
    assert score == pytest.approx(1.0228e-3, rel=1e-3)


def test_chinchilla_bootstrap_spread():
    """200 resamples give sd E .026, A 110, B 1,411, alpha .014, beta .021 (a grid of 4,500 starts, same data)."""
    runs = chinchilla()
    inputs = {"size": runs.params, "tokens": runs.tokens}
    found = fit(FORMS["chinchilla"], inputs, runs.loss)
    boot = bootstrap(found, inputs, runs.loss, [str(i) for i in range(240)], draws=200)
    shown = np.array([list(found.form.from_theta(theta).values()) for theta in boot.thetas])
    assert shown.std(axis=0) == pytest.approx([0.026, 110, 1411, 0.014, 0.021], rel=0.2)
    a = np.quantile(shown[:, 4] / (shown[:, 3] + shown[:, 4]), [0.05, 0.95])
    assert a == pytest.approx([0.488, 0.555], abs=0.012)


def test_five_points_move_beta():
    """All 245 points give beta .453, E 1.891, a .565; without five of them .367, 1.817, .514: influence must show."""
    runs = chinchilla()
    with (DATA / "isoflops_open_athena.csv").open(newline="") as handle:
        rows = [r for r in csv.DictReader(handle) if r["source"] == "epochai_chinchilla"]
    high = [r for r in rows if round(float(r["loss"]), 3) in (5.006, 4.665, 3.794, 3.766, 3.447)]
    if len(high) < 3:
        pytest.skip("the dropped points are not all in the isoFLOP file")
    params = np.append(runs.params, [float(r["params"]) for r in high])
    tokens = np.append(runs.tokens, [float(r["tokens"]) for r in high])
    loss = np.append(runs.loss, [float(r["loss"]) for r in high])
    found = fit(FORMS["chinchilla"], {"size": params, "tokens": tokens}, loss)
    assert found.parameters["beta"] > 0.40
    listed = influence(found, {"size": params, "tokens": tokens}, loss)
    together = listed[-1][2]
    assert max(abs(change) for change in together.values()) > 0.2


def test_unidentified_floor_of_step_law():
    """17 dense cells at their best rate and batch: E .906, alpha .133, beta .295, fitted but not identified."""
    cells = {cell: loss for cell, loss in best_of_cells(DATA).items() if cell[0] == cell[1]}
    active, tokens = np.array([(cell[0], cell[3]) for cell in cells]).T
    loss = np.array(list(cells.values()))
    assert len(loss) == 17
    inputs = {"size": active, "tokens": tokens}
    found = fit(FORMS["chinchilla"], inputs, loss)
    assert found.parameters["E"] == pytest.approx(0.906, abs=0.03)
    boot = bootstrap(found, inputs, loss, [str(i) for i in range(17)], draws=60)
    assert any("not identified" in message for message in warnings_about(found, boot, inputs, loss))


@pytest.mark.parametrize("name", sorted(set(SHIPPED) - {"stdlib_bytes"}))  # its runs are our own, and ship
def test_shipped_law_is_what_its_command_writes(name, expect_same_spread):
    again = read_law(write_law(fit_shipped(name, DATA)), where=name)
    stored = load_law(name)
    assert again.parameters == pytest.approx(stored.parameters, rel=1e-3)
    expect_same_spread(again, stored)
    assert again.residual_sd == pytest.approx(stored.residual_sd, rel=0.01)
    assert again.drift_per_decade == pytest.approx(stored.drift_per_decade, rel=0.05)
    for field in (
        "family",
        "dataset",
        "source",
        "licence",
        "rows",
        "runs",
        "param_convention",
        "notes",
        "command",
    ):
        assert getattr(again, field) == getattr(stored, field), field


def gemstones(subsets: tuple[str, ...]) -> Runs:
    return read_runs(DATA / "gemstones_train.csv", need=SHAPE_COLUMNS, where={"subset": subsets})


def test_gemstones_parameter_count():
    """15 l w^2 + (2 l + 1) w + 2 x 50,304 w: the embeddings are counted. At width 384 three heads share one key head."""
    runs = gemstones(("hot",))
    assert runs.width is not None
    assert runs.depth is not None
    w, depth = runs.width, runs.depth
    per_layer = np.where(w == 384, 44 / 3, 15.0)
    count = per_layer * depth * w**2 + (2 * depth + 1) * w + 2 * GEMSTONES_VOCAB * w
    assert count == pytest.approx(runs.params, abs=0.5)


def test_gemstones_left_out_shapes_and_coverage():
    """Each shape predicted by the other 15: at most 1 % median, the interval holds 86 to 94 %, every schedule."""
    law = load_law("gemstones")
    runs = gemstones(("hot_100b+", "cool_end", "lr_ablation_hot"))
    inputs = gemstones_inputs(runs)
    held = leave_groups_out(FORMS["shape"], inputs, runs.loss, runs.shape, start=law.theta)
    error = np.abs(np.expm1(held.residuals))
    assert held.median_error() < 0.004, held.median_error()
    assert np.quantile(error, 0.9) < 0.01
    for subset in ("hot_100b+", "cool_end", "lr_ablation_hot"):
        rows = np.array(runs.subset) == subset
        assert np.median(error[rows]) < 0.01, subset
    told = predict_from_inputs(law, **inputs)
    covered = np.abs(held.residuals) <= np.log(told.high / told.loss)
    assert 0.86 <= covered.mean() <= 0.94
    for subset in ("hot_100b+", "cool_end", "lr_ablation_hot"):
        assert 0.86 <= covered[np.array(runs.subset) == subset].mean() <= 0.94, subset
    assert max(abs(bias) for bias in held.group_bias().values()) < 0.01


def test_gemstones_ranks_shapes_it_has_not_seen():
    """At equal node-hours the shape chosen by left-out predictions gives up at most .5 % of loss, over 30x of budget;
    a law of size and tokens alone gives up more."""
    runs = gemstones(("hot_100b+",))
    hours = _node_hours()
    regret = {}
    for name, inputs in (
        ("shape", gemstones_inputs(runs)),
        ("chinchilla", {"size": runs.params, "tokens": runs.tokens}),
    ):
        form = FORMS[name]
        fixed = {"gamma": 0.0, "lam": 0.0} if name == "shape" else None
        start = fit(form, inputs, runs.loss, fixed=fixed).theta
        held = leave_groups_out(form, inputs, runs.loss, runs.shape, start=start, fixed=fixed)
        told = runs.loss * np.exp(held.residuals)
        regret[name] = _mean_regret(runs, told, hours)
    assert regret["shape"] <= 0.005, regret
    assert regret["shape"] <= regret["chinchilla"], regret


def _node_hours() -> dict[str, float]:
    """Node-hours per token of each shape."""
    with (DATA / "gemstones_train.csv").open(newline="") as handle:
        return {
            f"{row['width']}x{row['depth']}": float(row["seconds_per_step"])
            * float(row["num_nodes"])
            / 3600
            / (2048 * 2048)
            for row in csv.DictReader(handle)
        }


def _mean_regret(runs: Runs, told: np.ndarray, hours: dict[str, float]) -> float:
    shapes = np.array(runs.shape)
    given_up = []
    for budget in np.geomspace(100, 3000, 10):
        measured, predicted = [], []
        for shape in np.unique(shapes):
            mine = np.flatnonzero(shapes == shape)
            mine = mine[np.argsort(runs.tokens[mine])]
            spent = np.log(runs.tokens[mine] * hours[shape])
            if spent[0] <= np.log(budget) <= spent[-1]:
                measured.append(np.interp(np.log(budget), spent, np.log(runs.loss[mine])))
                predicted.append(np.interp(np.log(budget), spent, np.log(told[mine])))
        if len(measured) >= 3:
            given_up.append(np.expm1(measured[int(np.argmin(predicted))] - min(measured)))
    assert len(given_up) >= 5
    return float(np.mean(given_up))


def test_small_law_reaches_down_to_models_it_never_saw():
    """Gundlach et al. (hansgundlach/Experimental_Progress@fe9f6c9): modern Transformers of .9 to 30 million parameters,
    1.8e14 to 2.1e17 FLOP, another corpus: within 3 %; the large-model law misses the smallest by more than 40 %."""
    with (DATA / "gundlach_runs.csv").open(newline="") as handle:
        rows = [r for r in csv.DictReader(handle) if r["group"] == "x1_modern_all_lr_trend"]
    tokens = np.array([float(r["tokens"]) for r in rows])
    size = np.array([float(r["theoretical_flops"]) for r in rows]) / (6 * tokens)
    loss = np.array([float(r["final_val_loss"]) for r in rows])
    small = predict_from_inputs(load_law("porian"), size=size, tokens=tokens)
    error = np.abs(small.loss / loss - 1)
    assert np.median(error) < 0.01, error
    assert error.max() < 0.03, error
    assert ((small.low <= loss) & (loss <= small.high)).all()
    large = predict_from_inputs(load_law("chinchilla"), size=size, tokens=tokens)
    assert (large.loss / loss - 1).max() > 0.4


PORIAN = {
    # Porian et al. 2024 (arXiv 2406.19146, fig. 1), exponent of the best size; set-up -> (RefinedWeb, OpenWebText2)
    ("base", "long", "kaplan", "kaplan"): (0.835, 0.864),
    ("base", "long", "kaplan", "standard"): (0.706, 0.699),
    ("base", "short", "kaplan", "standard"): (0.602, 0.603),
    ("base", "short", "chinchilla", "standard"): (0.571, 0.574),
    ("tuned", "short", "const", "standard"): (0.497, 0.518),
    ("tuned", "short", "const", "attention"): (0.505, None),
}


def porian(dataset: str, setup: tuple[str, str, str, str]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    hparams, warmup, decay, count = setup
    columns = ("dataset", "hparams", "warmup", "decay", "param_count")
    where = {
        column: (value,)
        for column, value in zip(columns, (dataset, hparams, warmup, decay, count), strict=True)
    }
    runs = read_runs(DATA / "formll_isoflop_points.csv", drop_bad=True, where=where)
    assert runs.flops is not None
    return runs.flops, runs.params, runs.loss


@pytest.mark.parametrize("setup", sorted(PORIAN))
def test_isoflop_exponents_of_porian(setup):
    """Every step from Kaplan's exponent to Chinchilla's, within .012."""
    for dataset, published in zip(("rw", "owt2"), PORIAN[setup], strict=True):
        if published is not None:
            found = fit_isoflop(*porian(dataset, setup), draws=50)
            assert found.exponent == pytest.approx(published, abs=0.012), (dataset, found)
            assert found.low - 0.01 <= published <= found.high + 0.01


def test_sizes_convert_between_the_conventions_of_porian():
    """The same 16 models counted three ways (kaplan, standard, attention) in the authors' files, exactly."""
    counts = {
        c: np.unique(porian("rw", ("base", "long", "kaplan", c))[1])
        for c in ("kaplan", "standard", "attention")
    }
    sizes = {name: values[:14] for name, values in counts.items()}
    width = (sizes["standard"] - sizes["kaplan"]) / 50432
    depth = (sizes["attention"] - sizes["standard"]) / (2048 * width)
    assert (depth == np.round(depth)).all()
    assert width[0] == 96
    shape = {"width": width, "depth": depth, "vocab_size": 50432, "seq_len": 2048}
    for a in CONVENTIONS.values():
        for b in CONVENTIONS.values():
            if a.name in sizes and b.name in sizes:
                assert (convert_size(sizes[a.name], of=a, to=b, **shape) == sizes[b.name]).all(), (
                    a.name,
                    b.name,
                )


def test_counting_the_head_lowers_the_exponent():
    """Porian et al.: .835 to .706 when the head is counted. By our laws alone the same step has the same sign and is
    at least as large: their Kaplan set-up also leaves small models badly warmed up."""
    budgets = np.geomspace(1.25e16, 2.56e19, 6)
    for name in ("porian", "chinchilla", "gemstones"):
        slopes = {}
        for convention in (KAPLAN, STANDARD):
            sizes = [
                best_allocation(load_law(name), c, convention=convention, aspect=40.0).size for c in budgets
            ]
            slopes[convention.name] = np.polyfit(np.log(budgets), np.log(sizes), 1)[0]
        assert slopes["kaplan"] - slopes["standard"] > 0.1, (name, slopes)


def test_left_out_isoflop_budgets():
    """Best size within 25 % median and loss within 1 % of budgets that the fit did not see: eight experiments."""
    with (DATA / "isoflops_open_athena.csv").open(newline="") as handle:
        experiments = sorted({r["experiment"] for r in csv.DictReader(handle)})
    assert len(experiments) == 8
    size_errors, loss_errors = [], []
    for experiment in experiments:
        runs = read_runs(
            DATA / "isoflops_open_athena.csv", where={"experiment": (experiment,), "outlier": ("False",)}
        )
        assert runs.flops is not None
        checks = leave_budgets_out(runs.flops, runs.params, runs.tokens, runs.loss)
        mine = [abs(c.size_predicted / c.size - 1) for c in checks]
        assert np.median(mine) < 0.25, (experiment, mine)
        size_errors += mine
        loss_errors += list(np.abs(np.expm1(np.concatenate([c.residuals for c in checks]))))
    assert np.median(size_errors) < 0.2
    assert np.median(loss_errors) < 0.005


def test_step_law_recipe_on_its_own_grid():
    """Li et al. 2025 (arXiv 2503.04715): within .094 % of the best loss; here the grid point nearest to the recipe."""
    with (DATA / "steplaw_dense_lr_bs_loss.csv").open(newline="") as handle:
        rows = [r for r in csv.DictReader(handle) if r["smooth loss"] and float(r["smooth loss"]) < 5]
    cells: dict[tuple[float, float], list[tuple[float, float, float]]] = {}
    for r in rows:
        cells.setdefault((float(r["N"]), float(r["D"])), []).append(
            (np.log(float(r["lr"])), np.log(2048 * float(r["bs"])), float(r["smooth loss"]))
        )
    excess = []
    for (params, tokens), grid in cells.items():
        table = np.array(grid)
        wanted = [np.log(steplaw_learning_rate(params, tokens)), np.log(steplaw_batch_tokens(tokens))]
        nearest = np.argmin(((table[:, :2] - wanted) ** 2).sum(axis=1))
        excess.append(table[nearest, 2] / table[:, 2].min() - 1)
    assert len(excess) == 17
    assert np.median(excess) < 0.00094, excess
    assert max(excess) < 0.004, excess


def test_repetition_reproduces_the_published_example():
    """huggingface/datablations@1370131, README: 2.2256440889984477 for 6.34 B at 242 B tokens of 25 B unique, and
    2.2269634075087867 for 8.67 B at 178 B."""
    assert float(muennighoff_loss(6.34e9, 242e9, 25e9)) == pytest.approx(2.2256440889984477, rel=1e-9)
    assert float(muennighoff_loss(8.67e9, 178e9, 25e9)) == pytest.approx(2.2269634075087867, rel=1e-9)


def test_repetition_explains_the_open_runs():
    """datablations, losses below 4.5: past 20 epochs the law without repetition is 15 % off its own one-epoch level,
    the law with it less than 8 %."""
    with (DATA / "datablations.csv").open(newline="") as handle:
        rows = [{k: float(v) for k, v in r.items() if k != "name"} for r in csv.DictReader(handle)]
    rows = [r for r in rows if r["val_loss"] < 4.5]
    n, d, u, loss, epochs = (
        np.array([r[k] for r in rows]) for k in ("params", "tokens", "unique_tokens", "val_loss", "epochs")
    )
    told = np.log(muennighoff_loss(n, d, u) / loss)
    plain = np.log(
        (
            MUENNIGHOFF["E"]
            + MUENNIGHOFF["A"] / n ** MUENNIGHOFF["alpha"]
            + MUENNIGHOFF["B"] / d ** MUENNIGHOFF["beta"]
        )
        / loss
    )
    level, many = np.median(told[epochs <= 1]), epochs > 20
    assert abs(np.median(told[many]) - level) < 0.10
    assert abs(np.median(plain[many]) - level) > abs(np.median(told[many]) - level)


def test_the_cost_of_repetition_lies_in_its_interval():
    """Pairs of datablations of equal size and tokens, one of them on fresh data, up to 60 epochs and models up to 20 times
    as large as the unique tokens can use: measured over predicted cost .6 in the median, 91 % inside the interval."""
    with (DATA / "datablations.csv").open(newline="") as handle:
        rows = [{k: float(v) for k, v in r.items() if k != "name"} for r in csv.DictReader(handle)]
    m = MUENNIGHOFF
    base_loss = lambda n, d: m["E"] + m["A"] / n ** m["alpha"] + m["B"] / d ** m["beta"]  # noqa: E731
    fresh = [r for r in rows if r["epochs"] <= 1.01]
    measured, predicted = [], []
    for row in rows:
        n, d, u = row["params"], row["tokens"], row["unique_tokens"]
        twins = [
            r for r in fresh if abs(np.log(r["params"] / n)) < 0.02 and abs(np.log(r["tokens"] / d)) < 0.1
        ]
        if not twins or not 1.01 < row["epochs"] <= CHECKED_EPOCHS or n > largest_checked(u):
            continue
        twin = min(twins, key=lambda r: (abs(np.log(r["tokens"] / d)), r["val_loss"]))
        repeated = base_loss(n * excess_factor(n, d, u), effective_tokens(d, u))
        measured.append(np.log(row["val_loss"] / twin["val_loss"]))
        predicted.append(np.log(repeated / base_loss(n, twin["tokens"])))
    told, seen = np.array(predicted), np.array(measured)
    assert len(told) >= 40
    inside = np.mean(np.abs(seen - told) < 1.645 * REPETITION_SD * told)
    assert 0.86 <= inside <= 0.97, inside
    assert 0.4 < np.median(seen / told) < 1.0, "the published law is cautious, not blind"


def test_mixtures_by_leaving_each_one_out():
    """Each of the four mixtures of Step Law predicted by the dense runs and the other three: .56 % median, worst 2.2 %;
    counting the active parameters alone 3.8 %."""
    found = left_out_mixtures(DATA)
    errors = np.abs(np.expm1(found.residuals))
    assert len(errors) == 16
    assert np.median(errors) < 0.008, errors
    assert max(errors) < 0.03, errors
    assert np.median(np.abs(found.baseline_residuals)) > 4 * np.median(errors)
    assert 0.8 <= found.inside <= 1.0, found.inside


def test_default_law_stays_near_the_first_published_fit_at_chinchilla():
    """70 B parameters, 1.4 T tokens: 1.69 + 406.4/N^.34 + 410.7/D^.28 = 1.94 (Hoffmann et al. 2022, arXiv 2203.15556,
    eq. 10); the refit, which Besiroglu et al. show to be the better fit, stays within 2 %."""
    model = {"active_params": 70e9, "embedding_params": 0.0, "tokens": 1.4e12, "width": 8192, "depth": 80}
    told = predict_loss(load_law("chinchilla_shape"), **model)
    own = 1.69 + 406.4 / 70e9**0.34 + 410.7 / 1.4e12**0.28
    assert float(told.loss) == pytest.approx(own, rel=0.02)


def test_completep_equals_the_authors_code():
    """EleutherAI/nanoGPT-mup, branch completep, model.py: rates, decay, epsilon and residual factors."""
    width, depth = 4.0, 8.0
    t = completep(width=1024, depth=16, proxy_width=256, proxy_depth=2)
    assert t.hidden_learning_rate == 1 / width * depth ** (1.0 - 1.0)
    assert t.hidden_weight_decay == width
    assert t.hidden_init_std == 1 / width**0.5
    assert t.residual_multiplier == depth**-1.0
    assert t.epsilon == (1 / width) * depth**-1.0
    assert t.logit_multiplier == 1 / width
    assert completep(
        width=1024, depth=16, proxy_width=256, proxy_depth=2, depth_exponent=0.5
    ).hidden_learning_rate == (1 / width * depth**-0.5)
