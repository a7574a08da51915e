"""Stands in for ``shapewright ladder run --minutes M --out FOLDER``: the same files, a finished run every half second."""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path

from shapewright.lab.ladder import COLUMNS, save_plan
from shapewright.lab.rungs import Plan, rung_jobs, size_of, tuning_jobs

minutes, folder = float(sys.argv[4]), Path(sys.argv[6])
(folder / "runs").mkdir()
save_plan(Plan(top=2, top_ratio=20, data=None, digest="0", expected_seconds=10.0, minutes=minutes), folder)
for job in [*tuning_jobs(), *rung_jobs(2, 20, None)]:
    for ratio in job.ratios:
        time.sleep(0.5)
        tokens = ratio * size_of(job.layout)
        row = {
            "name": job.name, "role": job.role, "params": size_of(job.layout), "embedding_params": 256 * job.layout[0],
            "tokens": tokens, "loss": 1.2 + 40.0 / tokens**0.3, "width": job.layout[0], "depth": job.layout[1],
            "lr": 0.01, "batch_tokens": 1024, "steps": 100, "seed": 0, "seconds": 0.5, "arm": job.arm,
            "flops": 6.0 * size_of(job.layout) * tokens, "ratio": ratio, "judged_s": 0.1, "wall_s": 0.5,
            "joules": None, "energy": "",
        }  # fmt: skip
        assert set(COLUMNS) <= set(row)
        (folder / "runs" / f"{job.name}_{ratio:g}.json").write_text(json.dumps(row))
