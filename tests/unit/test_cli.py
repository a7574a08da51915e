"""The command line as a person meets it: answers, wrong inputs, exit codes, nothing overwritten."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

RUN = [sys.executable, "-c", "from shapewright.cli.main import main; main()"]


def shapewright(*arguments: str, cwd: Path) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "NO_COLOR": "1"}
    return subprocess.run(
        [*RUN, *arguments], cwd=cwd, capture_output=True, text=True, check=False, env=environment
    )


def test_design_answers_in_the_fixed_order_and_writes_its_files(tmp_path: Path) -> None:
    done = shapewright(
        "design", "8xh100_sxm", "--days", "2", "--out", "d.json", "--report", "r.html", cwd=tmp_path
    )
    assert done.returncode == 0, done.stderr
    titles = ["Request", "Assumed", "Design", "Plan", "Predicted", "Why", "Trust", "Next"]
    places = [done.stdout.index(title) for title in titles]
    assert places == sorted(places)
    assert max(map(len, done.stdout.splitlines())) <= 80
    assert json.loads((tmp_path / "d.json").read_text())["schema_version"] == 1
    assert json.loads((tmp_path / "d.schema.json").read_text())["$schema"].startswith(
        "https://json-schema.org"
    )
    assert "<html" in (tmp_path / "r.html").read_text()[:200].lower()

    again = shapewright("design", "8xh100_sxm", "--days", "2", "--out", "d.json", cwd=tmp_path)
    assert again.returncode == 2
    assert "exists already" in again.stderr

    explained = shapewright("explain", "d.json", cwd=tmp_path)
    assert explained.returncode == 0, explained.stderr


def test_json_is_data_on_stdout_and_nothing_else(tmp_path: Path) -> None:
    done = shapewright(
        "estimate", "llama-3-8b", "--on", "64xh100_sxm", "--tp", "4", "--pp", "2", "--json", cwd=tmp_path
    )
    assert done.returncode == 0, done.stderr
    document = json.loads(done.stdout)
    assert (document["plan"]["tp"], document["plan"]["pp"], document["plan"]["dp_shard"]) == (4, 2, 8)


def test_an_estimate_without_a_plan_finds_one(tmp_path: Path) -> None:
    config = {
        "model_type": "llama",
        "hidden_size": 2048,
        "intermediate_size": 5632,
        "num_hidden_layers": 22,
        "num_attention_heads": 32,
        "num_key_value_heads": 4,
        "vocab_size": 32000,
        "tie_word_embeddings": False,
    }
    (tmp_path / "config.json").write_text(json.dumps(config))
    done = shapewright(
        "estimate", "config.json", "--on", "8xh100_sxm", "--tokens", "1T", "--json", cwd=tmp_path
    )
    assert done.returncode == 0, done.stderr
    document = json.loads(done.stdout)
    assert document["num_candidates"] > 100
    assert document["predicted"]["loss"]["value"] > 1


@pytest.mark.parametrize(
    ("arguments", "code", "named"),
    [
        (("design", "64xh100_sxn", "--days", "30"), 2, "h100_sxm"),
        (("design", "64xh100_sxm"), 2, "budget"),
        (("design", "64xh100_sxm", "--days", "-3"), 2, "positive"),
        (("design", "64xh100_sxm", "--days", "1e-9"), 3, "one step"),
        (("design", "1xh100_sxm", "--flops", "1e27"), 3, "memory"),
        (("design", "64xh100_sxm", "--dollars", "many"), 2, "--dollars"),
        (("design", "8xh100_sxm", "--days", "1", "--cp", "3"), 3, "cp = 3"),
        (("design", "8xh100_sxm", "--flops", "1e60"), 2, "smaller budget"),
        (("design", "8xh100_sxm", "--days", "1", "--batch", "99999999999999999999"), 2, "--batch"),
        (("estimate", "llama-3-8b", "--on", "8xh100_sxm", "--tokens", "0"), 2, "tokens"),
        (("lint", "llama-3-8b", "--on", "h100_sxm", "--tp", "7"), 2, "--tp 8"),
        (("design", "64xh100_sxm", "--days", "1", "--tp", "0"), 2, "--tp"),
        (("design", "64xh100_sxm", "--days", "1", "--precision", "int3"), 2, "int3"),
        (("design", "8xgtx_580", "--days", "1", "--precision", "fp8"), 4, "fp8"),
        (("design", "64xh100_sxm", "--days", "1", "--set", "memory_bandwith=4TB/s"), 2, "memory_bandwidth"),
        (("design", "64xh100_sxm", "--days", "1", "--set", "memory_bandwidth=-4TB/s"), 2, "memory_bandwidth"),
        (("design", "64xh100_sxm", "--days", "1", "--law", "chinchila"), 2, "chinchilla"),
        (("design", "64xh100_sxm", "--days", "1", "--width", "1000", "--heads", "7"), 2, "heads"),
        (("estimate", "llama-3-8b", "--on", "64xh100_sxm", "--tp", "6"), 2, "devices"),
        (("estimate", "llama-3-8b", "--on", "60xh100_sxm", "--tp", "6"), 2, "plan.tp"),
        (("estimate", "llama-3-8b", "--on", "64xh100_sxm", "--pp", "64"), 2, "plan.pp"),
        (("estimate", "lama-3-8b", "--on", "64xh100_sxm"), 2, "llama-3-8b"),
        (("estimate", "nothing.json", "--on", "64xh100_sxm"), 2, "nothing.json"),
        (("estimate", "deepseek-v3", "--on", "8xh100_sxm"), 3, "none of"),
        (("lint", "llama-3-8b", "--on", "h100_sxn"), 2, "h100_sxm"),
        (("explain", "missing.json"), 2, "missing.json"),
        (("design", "broken.toml", "--days", "1"), 2, "broken.toml"),
        (("design", "this", "--minutes", "10"), 2, "measure"),
        (("estimate", "unknown.json", "--on", "h100_sxm"), 4, "mystery"),
        (("estimate", "binary.json", "--on", "h100_sxm"), 2, "binary.json"),
        (("estimate", "large.json", "--on", "h100_sxm"), 2, "large.json"),
    ],
)
def test_a_wrong_input_gets_one_clear_error(
    tmp_path: Path, arguments: tuple[str, ...], code: int, named: str
) -> None:
    (tmp_path / "broken.toml").write_text("name = [")
    (tmp_path / "unknown.json").write_text(json.dumps({"model_type": "mystery", "hidden_size": 64}))
    (tmp_path / "binary.json").write_bytes(b"\x00\xff\xfe\x80")
    (tmp_path / "large.json").write_bytes(b" " * 10_000_000)
    before = sorted(tmp_path.iterdir())
    done = shapewright(*arguments, cwd=tmp_path)
    assert done.returncode == code, f"exit code {done.returncode}, expected {code}: {done.stderr}"
    assert "Traceback" not in done.stderr
    assert named in done.stderr
    assert done.stdout == ""
    assert sorted(tmp_path.iterdir()) == before


@pytest.mark.parametrize("arguments", ["hardware", "models --json", "export trace d.json"])
def test_a_pipe_that_is_closed_early_is_no_error(tmp_path: Path, arguments: str) -> None:
    if "d.json" in arguments:
        made = shapewright("estimate", "llama-3-8b", "--on", "64xh100_sxm", "--out", "d.json", cwd=tmp_path)
        assert made.returncode == 0, made.stderr
    running = subprocess.Popen(
        [*RUN, *arguments.split()], cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    assert running.stdout is not None
    assert running.stderr is not None
    running.stdout.close()
    said = running.stderr.read()
    running.stderr.close()
    assert (running.wait(), said) == (0, "")
