"""Tables of runs: good ones are read, bad ones are named."""

from __future__ import annotations

import numpy as np
import pytest

from shapewright.errors import UnknownNameError, UsageError
from shapewright.scaling.runs import read_columns, read_runs
from shapewright.scaling.userfile import study_file

HEADER = "run_name,params,width,depth,tokens,final_loss,subset"


def write(tmp_path, lines, header=HEADER):
    path = tmp_path / "runs.csv"
    path.write_text("\n".join([header, *lines]) + "\n", encoding="utf-8")
    return path


def test_aliases_and_subsets(tmp_path):
    path = write(tmp_path, ["a,1e8,512,12,1e9,3.5,hot", "b,2e8,512,24,1e9,3.3,cool"])
    runs = read_runs(path, where={"subset": ["cool"]})
    assert runs.loss.tolist() == [3.3]
    assert runs.shape == ("512x24",)
    assert runs.run == ("b",)
    assert runs.decayed.tolist() == [1.0]


def test_missing_column_lists_what_is_there(tmp_path):
    path = write(tmp_path, ["1e8,3.5"], header="params,loss")
    with pytest.raises(UsageError, match=r"no column 'tokens'[\s\S]*the file has: params, loss"):
        read_runs(path)


@pytest.mark.parametrize("bad", ["nan", "", "-1", "abc", "inf", "0"])
def test_a_row_that_is_no_number_is_refused_by_line(tmp_path, bad):
    path = write(tmp_path, ["a,1e8,512,12,1e9,3.5,x", f"b,2e8,512,24,1e9,{bad},x"])
    with pytest.raises(UsageError, match=r"1 of 2 rows[\s\S]*line 3, loss"):
        read_runs(path)
    runs = read_runs(path, drop_bad=True)
    assert len(runs.loss) == 1
    assert "left out" in runs.warnings[0]


def test_line_numbers_survive_a_filter(tmp_path):
    path = write(tmp_path, ["a,1e8,512,12,1e9,3.5,x", "b,2e8,512,24,1e9,nan,y"])
    with pytest.raises(UsageError, match="line 3"):
        read_runs(path, where={"subset": ["y"]})


def test_repeated_rows_count_once(tmp_path):
    path = write(tmp_path, ["a,1e8,512,12,1e9,3.5,hot", "a,1e8,512,12,1e9,3.5,also"])
    runs = read_runs(path)
    assert len(runs.loss) == 1
    assert "1 rows repeat" in runs.warnings[0]


def test_files_that_are_not_tables(tmp_path):
    with pytest.raises(UsageError, match="is not a file"):
        read_runs(tmp_path / "nope.csv")
    binary = tmp_path / "b.csv"
    binary.write_bytes(bytes(range(256)))
    with pytest.raises(UsageError, match="is not a CSV"):
        read_runs(binary)
    empty = write(tmp_path, [])
    with pytest.raises(UsageError, match="no rows"):
        read_runs(empty)
    with pytest.raises(UnknownNameError, match="did you mean hot"):
        read_runs(write(tmp_path, ["a,1e8,512,12,1e9,3.5,hot"]), where={"subset": ["hott"]})
    with pytest.raises(UnknownNameError, match="column"):
        read_columns(write(tmp_path, ["a,1e8,512,12,1e9,3.5,hot"]), ["nope"])


def table(tmp_path, rows=40, flops_factor=None):
    rng = np.random.default_rng(0)
    params, tokens = 10 ** rng.uniform(7.5, 9.5, rows), 10 ** rng.uniform(9, 11, rows)
    loss = (1.7 + 400 / params**0.34 + 1200 / tokens**0.35) * np.exp(0.003 * rng.standard_normal(rows))
    lines = []
    for i in range(rows):
        factor = 1.0 if flops_factor is None else flops_factor[i % len(flops_factor)]
        lines.append(f"r{i},{params[i]},{tokens[i]},{loss[i]},{6 * factor * params[i] * tokens[i]}")
    return write(tmp_path, lines, header="run,params,tokens,loss,flops")


def test_a_users_file_becomes_a_law(tmp_path):
    study = study_file(table(tmp_path), name="mine", draws=20)
    assert study.law.name == "mine"
    assert study.law.parameters["alpha"] == pytest.approx(0.34, abs=0.08)
    assert study.law.runs == 40
    assert not study.warnings


def test_mixed_conventions_are_said(tmp_path):
    study = study_file(table(tmp_path, flops_factor=[1.0, 1.5]), draws=10)
    assert any("conventions are mixed" in warning for warning in study.warnings)


def test_columns_that_name_several_conventions_are_said(tmp_path):
    """Rows of Porian et al. counted in two ways look like one table (param_count of formll's file)."""
    plain = table(tmp_path).read_text().splitlines()
    rows = [f"{line},{('kaplan', 'standard')[i % 2]}" for i, line in enumerate(plain[1:])]
    path = write(tmp_path, rows, header=f"{plain[0]},param_count")
    study = study_file(path, draws=10)
    assert any("--where param_count=kaplan" in warning for warning in study.warnings)
    one = study_file(path, where={"param_count": ("kaplan",)}, draws=10)
    assert not any("param_count" in warning for warning in one.warnings)


def test_runs_that_repeat_a_cell_are_said(tmp_path):
    plain = table(tmp_path).read_text().splitlines()
    _, params, tokens, loss, flops = plain[1].split(",")
    path = write(
        tmp_path, [*plain[1:], f"again,{params},{tokens},{float(loss) * 1.002},{flops}"], header=plain[0]
    )
    assert any(
        "1 rows have the size and tokens of another row" in w for w in study_file(path, draws=10).warnings
    )


@pytest.mark.parametrize("form", ["routed", "conditional", "chinchilla_shape"])
def test_forms_that_no_file_of_runs_can_fix_are_refused(tmp_path, form):
    with pytest.raises(UsageError, match=f"form {form} cannot be fitted"):
        study_file(table(tmp_path), form=form)


def test_sizes_and_tokens_that_grow_together_are_said(tmp_path):
    params = np.geomspace(1e7, 1e10, 30)
    loss = 1.7 + 400 / params**0.34 + 1200 / (20 * params) ** 0.35
    lines = [f"r{i},{n},{20 * n},{v}" for i, (n, v) in enumerate(zip(params, loss, strict=True))]
    study = study_file(write(tmp_path, lines, header="run,params,tokens,loss"), draws=10)
    assert any("cannot be told apart" in warning for warning in study.warnings)


def test_shape_form_needs_its_columns_and_vocabulary(tmp_path):
    with pytest.raises(UsageError, match="no column 'width'"):
        study_file(table(tmp_path), form="shape")
    path = write(tmp_path, ["a,1e8,512,12,1e9,3.5,hot"] * 2)
    with pytest.raises(UsageError, match="vocabulary"):
        study_file(path, form="shape")
    with pytest.raises(UsageError, match="fewer parameters than its embeddings"):
        study_file(path, form="shape", vocab_size=500_000)
    with pytest.raises(UsageError, match="composed"):
        study_file(path, form="chinchilla_shape")
