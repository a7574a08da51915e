"""The table of recipes, from made histories of the two repositories that publish them."""

from __future__ import annotations

import csv
import os
import subprocess
from pathlib import Path

import pytest
from typer.testing import CliRunner

from shapewright.cli.main import app
from shapewright.errors import UsageError
from shapewright.lab.recipes import SETTINGS, recipe_table

pytest.importorskip("yaml")

SETTING = """
dsr1-fp8-h200-dynamo-trt:
  image: nvcr.io/nvidia/x:{version}
  model-prefix: dsr1
  precision: fp8
  framework: dynamo-trt
  seq-len-configs:
  - isl: 1024
    osl: 1024
    search-space:
    - spec-decoding: mtp
      conc-list: {loads}
      prefill: {{num-worker: 1, tp: 8, ep: 8, dp-attn: true, additional-settings: ["CONFIG_FILE=recipes/a.yaml"]}}
      decode: {{num-worker: 3, tp: 8, ep: 8, dp-attn: false}}
    - conc-list: [7]
      prefill: {{num-worker: 2, tp: 4, ep: 1, dp-attn: false, additional-settings: ["PREFILL_MAX_BATCH_SIZE=4",
        "PREFILL_MAX_NUM_TOKENS=2048", "DECODE_MAX_BATCH_SIZE=16"]}}
      decode: {{num-worker: 1, tp: 8, ep: 8, dp-attn: true}}
gptoss-fp4-mi355x-other:
  image: x:1
  precision: fp4
  framework: other
  seq-len-configs: []
"""
RECIPE = """
backend:
  type: trtllm
  trtllm_config:
    prefill: {max_batch_size: 16, max_num_tokens: 8192}
    decode: {max_batch_size: 32, speculative_config: {num_nextn_predict_layers: 3}}
"""


def _commit(folder: Path, day: str, files: dict[str, str]) -> Path:
    when = {"GIT_AUTHOR_DATE": f"{day}T12:00:00", "GIT_COMMITTER_DATE": f"{day}T12:00:00"}
    folder.mkdir(exist_ok=True)
    for name, text in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    names = ("-c", "user.name=a", "-c", "user.email=a@b.c")
    for words in (("init", "-q"), ("add", "-A"), (*names, "commit", "-q", "--no-gpg-sign", "-m", day)):
        subprocess.run(["git", "-C", str(folder), *words], check=True, env={**os.environ, **when})
    return folder


@pytest.fixture
def clones(tmp_path: Path) -> tuple[Path, Path]:
    one, other = tmp_path / "one", tmp_path / "other"
    _commit(one, "2026-01-10", {SETTINGS: SETTING.format(version="0.8.1.post1", loads="[4, 8]")})
    _commit(one, "2026-03-10", {SETTINGS: SETTING.format(version="v0.8.2-cu130", loads="[8, 16]")})
    _commit(one, "2026-06-10", {SETTINGS: SETTING.format(version="9.9", loads="[99]")})
    _commit(other, "2026-01-20", {"recipes/a.yaml": RECIPE})
    return one, other


def test_days_are_joined_and_what_a_recipe_names_is_read(clones: tuple[Path, Path]):
    rows = list(csv.DictReader(recipe_table(*clones).splitlines()))
    plain = next(row for row in rows if row["drafts"] == "0")
    drafting = [row for row in rows if row["drafts"] == "3"]
    assert len(rows) == 3
    assert plain["versions"] == "0.8.1.post1|0.8.2"
    assert (plain["prefill_workers"], plain["prefill_tp"], plain["prefill_adp"]) == ("2", "4", "1")
    assert (plain["decode_tp"], plain["decode_adp"], plain["decode_ep"]) == ("1", "8", "8")
    assert (plain["slots"], plain["prompts"], plain["concurrency"]) == ("128", "2", "7")
    # On H200 the lists count the requests of one decoder.
    assert sorted(row["concurrency"] for row in drafting) == ["12 24", "24 48"]
    assert {(row["slots"], row["prompts"], row["system"]) for row in drafting} == {("96", "8", "h200_sxm")}


def test_what_is_no_clone_is_refused(tmp_path: Path, clones: tuple[Path, Path]):
    run = CliRunner().invoke
    words = ["fit", "recipes", "--srt-slurm", str(clones[1]), "--out", str(tmp_path / "out.csv")]
    missing = run(app, [*words, "--inferencex", str(tmp_path / "none")])
    assert isinstance(missing.exception, UsageError)
    empty = tmp_path / "empty"
    empty.mkdir()
    assert run(app, [*words, "--inferencex", str(empty)]).exit_code != 0
    assert not (tmp_path / "out.csv").exists()
    good = run(app, [*words, "--inferencex", str(clones[0])])
    assert good.exit_code == 0, good.output
    assert run(app, [*words, "--inferencex", str(clones[0])]).exit_code != 0, (
        "nothing is written over unasked"
    )
