"""What published recipes say about rows that leave their deployment open."""

from __future__ import annotations

from pathlib import Path

import pytest

from shapewright.plan.serving_step import Layout
from shapewright.validation.serving import predict_file
from shapewright.validation.serving_recipes import Key, find_recipes, hold_steps
from shapewright.validation.serving_rows import read_serving

HEADER = (
    "id,silicon_data_source,backend,backend_version,model_path,system,precision,mode,isl,osl,prefill_tp_size,decode_tp_size,"
    "decode_num_workers,prefill_num_workers,silicon_ttft_ms,silicon_tpot_ms"
)
ROW = (
    "{id},source_file=2026-04-06.csv; silicon_concurrency={load},trtllm,{version},x/DeepSeek-R1,{system},{fmt},disagg,"
    "1024,1024,{pre},8,,,1000,9"
)


def _rows(folder: Path, *values: dict[str, object]) -> Path:
    path = folder / "points.csv"
    common = {"version": "0.8.1.post1", "system": "b300_sxm", "fmt": "fp8", "pre": 4}
    lines = [ROW.format(**(common | {"id": f"r{i}"} | value)) for i, value in enumerate(values)]
    path.write_text("\n".join((HEADER, *lines)) + "\n")
    return path


def test_a_concurrency_names_the_recipe():
    key = Key(model="deepseek-v3", system="b300_sxm", engine="trtllm", precision="fp8", isl=1024, osl=1024)
    (drafting,) = find_recipes(key, 10, version="0.8.1.post1")
    (plain,) = find_recipes(key, 12, version="0.8.1.post1")
    assert (drafting.drafted, plain.drafted) == (3, 0)
    assert (plain.decode.workers, plain.decode.layout.tp, plain.prefill.layout.adp) == (8, 8, 4)
    assert find_recipes(key, 11, version="0.8.1.post1") == []


def test_rows_without_workers_take_those_of_their_recipe(tmp_path: Path):
    rows, bad = read_serving(_rows(tmp_path, {"load": 12}, {"load": 11}, {"load": 12, "pre": 8}))
    assert bad == []
    known, unknown, other = rows
    assert known.defaults[-1] == "recipe"
    assert (known.decode.workers, known.setups[0].drafted) == (8, 0)
    assert "decode_num_workers" in unknown.defaults
    assert "decode_num_workers" in other.defaults, "a prefiller of eight is not that recipe's"


def test_recipes_can_be_left_out(tmp_path: Path):
    (row,), _ = read_serving(_rows(tmp_path, {"load": 12}), recipes=False)
    assert "decode_num_workers" in row.defaults
    assert len(row.setups) > 1
    assert sum(setup.weight for setup in row.setups) == pytest.approx(1.0)


def test_requests_beyond_the_decoders_slots_wait_for_a_whole_answer(tmp_path: Path):
    # 6 clients, 4 slots: half of a stay, less for the first of them.
    points, _, _ = predict_file(
        _rows(tmp_path, *({"load": load, "fmt": "fp4", "pre": 2} for load in (6, 60)))
    )
    crowded, calm = points
    stay = crowded.predicted[0] * 0.9 * 1024
    assert crowded.predicted[1] - calm.predicted[1] == pytest.approx(0.5 * stay, rel=0.25)


def test_what_two_recipes_leave_open_is_predicted_between(tmp_path: Path):
    rows, _ = read_serving(_rows(tmp_path, {"load": 45, "system": "b200_sxm", "fmt": "fp4"}))
    assert {setup.drafted for setup in rows[0].setups} == {0, 3}
    points, _, _ = predict_file(_rows(tmp_path, {"load": 45, "system": "b200_sxm", "fmt": "fp4"}))
    assert 3e-3 < points[0].predicted[0] < 9e-3


@pytest.mark.parametrize(
    ("engine", "model", "system", "load", "adp", "steps"),
    [("sglang", "deepseek-v3", "b200_sxm", 8, 1, 10), ("sglang", "deepseek-v3", "b200_sxm", 64, 1, 30),
     ("sglang", "deepseek-v3", "h200_sxm", 64, 1, 0), ("trtllm", "deepseek-v3", "b200_sxm", 64, 8, 60),
     ("trtllm", "llama-3.1-70b", "b200_sxm", 64, 1, 20), ("vllm", "llama-3.1-70b", "b200_sxm", 64, 1, 0)],
)  # fmt: skip
def test_schedulers_hold_prompts_back_as_launched(
    engine: str, model: str, system: str, load: int, adp: int, steps: int
):
    key = Key(model=model, system=system, engine=engine, precision="fp8", isl=1024, osl=1024)
    layout = Layout(tp=8 if engine == "sglang" else 4, adp=adp)
    assert hold_steps(key, load, layout=layout, date="2025-12-01") == steps
