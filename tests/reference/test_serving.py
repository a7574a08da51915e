"""Published serving points that no fit saw, with and without the recipes of their runs."""

from __future__ import annotations

import csv
from pathlib import Path

import pytest

from shapewright.validation.serving import ServingSlice, predict_file, slices
from shapewright.validation.serving_rows import SHAPES, SUFFIX, held_out, installed_sample

pytestmark = pytest.mark.silicon


@pytest.fixture(scope="module")
def sample(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The held-out rows alone."""
    path = tmp_path_factory.mktemp("serving") / "held_out.csv"
    with installed_sample().open(newline="") as handle, path.open("w", newline="") as out:
        reader = csv.DictReader(handle)
        assert reader.fieldnames is not None
        writer = csv.DictWriter(out, reader.fieldnames)
        writer.writeheader()
        for row in reader:
            name = SUFFIX.sub("", row["model_path"].rsplit("/", 1)[-1])
            if held_out(SHAPES.get(name, name.lower()), row["system"]):
                writer.writerow(row)
    return path


def _all(sample: Path, *, recipes: bool) -> dict[str, ServingSlice]:
    points, skipped, count = predict_file(sample, recipes=recipes)
    assert (len(points), skipped) == (count, []), "every row has a prediction"
    assert count == 1398
    return {item.name: item for item in slices(points, 0)}


@pytest.mark.parametrize(
    ("recipes", "tpot_p90", "ttft_median"),
    # Without recipes neither goal (40 and 28 %) is met: the bounds hold what is (docs/accuracy.md), with some slack.
    [(True, 0.40, 0.28), (False, 0.45, 0.33)],
)
def test_times_lie_near_the_measured_ones(
    sample: Path, recipes: bool, tpot_p90: float, ttft_median: float
) -> None:
    found = _all(sample, recipes=recipes)
    tpot, ttft = found["tpot/held-out/all"], found["ttft/held-out/all"]
    assert tpot.median_ape < 0.12
    assert tpot.p90_ape < tpot_p90
    assert ttft.median_ape < ttft_median
    for item in (tpot, ttft):
        assert 0.86 < item.coverage_90 < 0.94
