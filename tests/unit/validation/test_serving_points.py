"""Reading measured serving points, and scoring them."""

from __future__ import annotations

from pathlib import Path

import pytest

from shapewright.errors import DocumentError
from shapewright.validation.serving import document, predict_file, slices
from shapewright.validation.serving_rows import installed_sample, part_of, read_serving

HEADER = (
    "id,silicon_data_source,backend,backend_version,model_path,system,precision,mode,isl,osl,batch_size,tp_size,"
    "attention_dp_size,moe_tp_size,moe_ep_size,silicon_ttft_ms,silicon_tpot_ms"
)
GOOD = "a,silicon_concurrency=16,vllm,0.19.0,meta/Llama-3.1-8B-Instruct,h100_sxm,bf16,agg,1024,1024,16,1,1,1,1,80,9"


def _file(folder: Path, *lines: str) -> Path:
    path = folder / "points.csv"
    path.write_text("\n".join((HEADER, *lines)) + "\n")
    return path


def test_one_point_is_predicted_near_what_was_measured(tmp_path: Path):
    points, skipped, count = predict_file(_file(tmp_path, GOOD))
    assert (len(points), skipped, count) == (1, [], 1)
    assert 4e-3 < points[0].predicted[0] < 2e-2
    assert points[0].low[0] < points[0].predicted[0] < points[0].high[0]
    names = [item.name for item in slices(points, 0)]
    assert names[:2] == ["tpot/all", "ttft/all"]
    assert all(name.startswith(("tpot/", "ttft/")) for name in names)


def test_bad_rows_are_named_and_counted(tmp_path: Path):
    rows = (
        GOOD,
        GOOD.replace(",80,9", ",80,-9").replace("a,", "negative,", 1),
        GOOD.replace("vllm", "nobody").replace("a,", "engine,", 1),
        GOOD.replace("Llama-3.1-8B-Instruct", "No-Such-Model").replace("a,", "model,", 1),
        GOOD.replace(",agg,", ",both,").replace("a,", "mode,", 1),
    )
    points, skipped, count = predict_file(_file(tmp_path, *rows))
    assert (len(points), count) == (1, 5)
    assert {row for row, _ in skipped} == {"negative", "engine", "model", "mode"}
    found = document(slices(points, count - len(points)), skipped)
    assert found["slices"][0]["count"] == 5
    assert found["slices"][0]["covered"] == 1


def test_a_file_without_the_columns_is_refused(tmp_path: Path):
    path = tmp_path / "x.csv"
    path.write_text("a,b\n1,2\n")
    with pytest.raises(DocumentError, match="silicon_ttft_ms"):
        read_serving(path)


@pytest.mark.silicon
def test_twins_of_the_sample_state_the_same_devices():
    rows, skipped = read_serving(installed_sample())
    assert (len(rows), skipped) == (5221, [])
    by_id = {row.id: row for row in rows}
    # The same measurement, written as tp 1, groups 8 and as tp 1, groups 64 with both expert columns 8.
    assert all(1 <= row.decode.layout.num_devices <= 72 for row in by_id.values())
    assert sum(row.held_out for row in rows) == 1398
    assert part_of("deepseek-v3", "gb200") == 1
