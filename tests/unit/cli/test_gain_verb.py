"""``shapewright gain`` on made runs: what it says, what it refuses, what it draws."""

from __future__ import annotations

import json
import re
import sys
from pathlib import Path

import numpy as np
import pytest

from shapewright.cli import main as cli


@pytest.fixture
def runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A ladder's folder with three arms: the base, a constant 2x, and one that grows."""
    rng = np.random.default_rng(1)
    lines = ["arm,role,flops,seconds,loss"]
    for name, level, power in (
        ("base", 0.3, 0.12),
        ("double", 0.3 - 0.12 * np.log(2), 0.12),
        ("steep", 0.15, 0.16),
    ):
        for flops in np.repeat(np.geomspace(1e10, 1e13, 6), 2):
            loss = (1.0 + np.exp(level - power * np.log(flops / 3e11))) * np.exp(
                0.001 * rng.standard_normal()
            )
            lines.append(
                f"{name},rung,{flops:.6g},{flops / 1e10 * (3 if name == 'steep' else 1):.6g},{loss:.6f}"
            )
    lines.append("base,tune,1e10,1,9.0")
    folder = tmp_path / "ladder"
    folder.mkdir()
    (folder / "runs.csv").write_text("\n".join(lines) + "\n")
    (folder / "rates.json").write_text(json.dumps({n: {"at_end": []} for n in ("base", "double", "steep")}))
    monkeypatch.chdir(tmp_path)
    return folder


def run(monkeypatch: pytest.MonkeyPatch, *arguments: str) -> int:
    monkeypatch.setattr(sys, "argv", ["shapewright", "gain", *arguments])
    try:
        cli.main()
    except SystemExit as end:
        return int(end.code or 0)
    return 0


def test_what_it_says(runs, monkeypatch, capsys):
    assert run(monkeypatch, "double", "steep", "base") == 0
    text = capsys.readouterr().out
    assert "double: constant gain" in text
    assert "steep: growing, a step-change candidate" in text
    assert "2 comparisons share" in text
    assert "extrapolated" in text
    assert "gain in joules is unknown: they were not measured here" in " ".join(text.split())
    assert "power, double: four ladders of five" in " ".join(text.split())
    assert max(len(line) for line in text.splitlines()) <= 80


def test_seconds_are_another_verdict(runs, monkeypatch, capsys):
    assert run(monkeypatch, "steep", "base", "--json") == 0
    told = json.loads(capsys.readouterr().out)
    assert told["tuning"] == "transferred"
    flop, seconds = (told["gains"]["steep"][unit] for unit in ("flops", "seconds"))
    assert flop["slope"] == pytest.approx(seconds["slope"], abs=0.02)
    # At equal loss the steep arm's runs take three times the seconds per FLOP.
    assert flop["gain"][3] / seconds["gain"][3] > 1.5


@pytest.mark.parametrize("change", ["no rates", "at an end"])
def test_a_ladder_without_tuned_rates_gets_no_verdict(runs, monkeypatch, capsys, change):
    if change == "no rates":
        (runs / "rates.json").unlink()
    else:
        (runs / "rates.json").write_text(json.dumps({"base": {"at_end": [3.0]}}))
    assert run(monkeypatch, "steep", "base") == 0
    text = capsys.readouterr().out
    assert "steep: inconclusive" in text
    assert "not tuned" in text


@pytest.mark.parametrize(
    ("arguments", "code", "told"),
    [
        (("steep",), 2, "1 arm was named"),
        (("steeep", "base"), 2, "did you mean steep"),
        (("steep", "base", "--runs", "nowhere"), 2, "ladder run"),
        (("steep", "base", "--loss", "final"), 2, "no column 'final'"),
        (("steep", "base", "--tuning", "tunned"), 2, "did you mean tuned"),
        (("steep", "steep"), 2, "named twice"),
    ],
)
def test_bad_input(runs, monkeypatch, capsys, arguments, code, told):
    assert run(monkeypatch, *arguments) == code
    assert told in capsys.readouterr().err


def test_a_ladder_of_nothing_but_sweeps_says_so(runs, monkeypatch, capsys):
    (runs / "runs.csv").write_text("arm,role,flops,seconds,loss\nbase,tune,1e10,1,9.0\n")
    assert run(monkeypatch, "double", "base") == 2
    told = " ".join(capsys.readouterr().err.split())
    assert "holds no run of an arm" in told
    assert "shapewright ladder resume" in told


def test_the_page_hatches_what_was_not_run(runs, monkeypatch):
    assert run(monkeypatch, "double", "steep", "base", "--json", "--report", "gain.html") == 0
    page = Path("gain.html").read_text()
    specs = json.loads(re.search(r'id="chart-specs">(.*?)</script>', page, re.DOTALL)[1])
    assert set(specs) == {"gain_flops", "gain_seconds", "gain_runs"}
    strokes = specs["gain_flops"]["layer"][3]["data"]["values"]
    assert {s["arm"] for s in strokes} == {"double", "steep"}
    assert min(s["cost"] for s in strokes) >= 0.99e13
    assert "Hatched: extrapolated" in specs["gain_flops"]["description"]
    assert run(monkeypatch, "double", "steep", "base", "--report", "gain.html") == 2, "nothing is overwritten"


def test_branches_count_as_one_run_and_lost_runs_are_told(runs, monkeypatch, capsys):
    """Rows of one name at several ratios are branches; an arm that lost a run to divergence was not tuned."""
    rows = (runs / "runs.csv").read_text().splitlines()[1:-1]
    lines = ["arm,role,flops,seconds,loss,name,ratio"]
    for number, row in enumerate(rows):
        arm, role, flops, seconds, loss = row.split(",")
        lines += [
            f"{row},{arm}{number},20",
            f"{arm},{role},{float(flops) / 2},{seconds},{float(loss) * 1.05},{arm}{number},10",
        ]
    (runs / "runs.csv").write_text("\n".join(lines) + "\n")
    assert run(monkeypatch, "steep", "base", "--json") == 0
    told = json.loads(capsys.readouterr().out)["gains"]["steep"]["flops"]
    assert (told["runs"], told["points"]) == (24, 48)
    assert [each["length"] for each in told["by_length"]] == [10, 20]
    assert told["verdict"] == "growing"
    (runs / "runs.csv").write_text("\n".join([*lines, "steep,rung,1e12,1,inf,steep99,20"]) + "\n")
    assert run(monkeypatch, "steep", "base") == 0
    text = " ".join(capsys.readouterr().out.split())
    assert "steep: inconclusive" in text
    assert "diverged and left out: 1 of steep" in text


def test_joules_say_where_they_come_from(runs, monkeypatch, capsys):
    head, *rows = (runs / "runs.csv").read_text().splitlines()
    told = [f"{row},{float(row.split(',')[3]) * 12.5:.6g},measured (RAPL)" for row in rows]
    (runs / "runs.csv").write_text("\n".join([f"{head},joules,energy", *told]) + "\n")
    assert run(monkeypatch, "double", "base") == 0
    text = " ".join(capsys.readouterr().out.split())
    assert "joules are measured (RAPL)" in text
    assert "double: times the joules that base needs for the same loss" in text


def test_on_other_hardware(runs, monkeypatch, capsys):
    text = (runs / "runs.csv").read_text().replace("base,", "transformer,").replace("double,", "lstm,")
    (runs / "runs.csv").write_text(text)
    assert run(monkeypatch, "lstm", "transformer", "--on", "h100_sxm") == 0
    shown = capsys.readouterr().out
    assert "lstm on h100_sxm: times the cost of transformer" in shown
    assert "on h100_sxm against transformer (inside the runs)" in " ".join(shown.split())
    assert max(len(line) for line in shown.splitlines()) <= 80
    assert run(monkeypatch, "lstm", "transformer", "--on", "h100_sxm", "--json") == 0
    told = json.loads(capsys.readouterr().out)["on_hardware"]["lstm"]
    assert told[0]["gain_seconds"]["low"] < told[0]["gain_seconds"]["value"]
    assert run(monkeypatch, "steep", "transformer", "--on", "h100_sxm") == 4
    assert "steep" in capsys.readouterr().err
