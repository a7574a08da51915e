"""Runs one job of a ladder with checkpoints after every step, for a test that kills it: FOLDER TEXT."""

from __future__ import annotations

import sys

from shapewright.lab import ladder_run
from shapewright.lab.rungs import Job

ladder_run.SAVE_EVERY_S = ladder_run.TELL_EVERY_S = 0.0
JOB = Job(name="rung_8x1", role="rung", layout=(8, 1, 8), learning_rate=0.01, ratios=(4.0, 8.0))

if __name__ == "__main__":
    ladder_run.run_job(JOB, sys.argv[2], sys.argv[1])
